//! The namespace controllers: empties a namespace that is being deleted, and furnishes one that is not.

mod contents;
mod furnish;
mod status;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};
use kube::Api;
use kube::api::PostParams;
use kube::runtime::Controller;
use tokio_util::sync::CancellationToken;

use crate::drive::drive;
use crate::error::{Error, is_not_found};
use crate::objects;
use crate::shared::Shared;

pub use furnish::run as furnish;

const FINALIZER: &str = "kubernetes";
/// Contents that end by themselves (pods within their grace) are looked at again after this at first, and after ever longer then:
/// something waits for somebody who may never come.
const AGAIN: Duration = Duration::from_millis(250);
const AGAIN_MAX: Duration = Duration::from_secs(8);
/// Pods end within this, mostly; until then only they are looked at, which is cheap.
const GRACE: Duration = Duration::from_secs(60);

/// Runs the lifecycle controller until `shutdown`.
pub async fn run(shared: Shared, shutdown: CancellationToken) {
    let controller =
        Controller::for_shared_stream(shared.namespaces.stream(), shared.namespaces.store());
    drive("namespace", controller, shutdown, move |namespace| {
        let shared = shared.clone();
        async move { reconcile(shared, namespace).await }
    })
    .await;
}

async fn reconcile(shared: Shared, namespace: Arc<Namespace>) -> Result<Option<Duration>, Error> {
    if !objects::is_terminating(&*namespace) || !has_finalizer(&namespace) {
        return Ok(None);
    }
    let name = objects::name(&*namespace);
    let api: Api<Namespace> = Api::all(shared.client.clone());
    let mut namespace = Namespace::clone(&namespace);
    if phase(&namespace) != Some("Terminating") {
        let mut status = namespace.status.clone().unwrap_or_default();
        status.phase = Some("Terminating".to_owned());
        let Some(written) = write_status(&api, namespace, status).await? else {
            return Ok(None);
        };
        namespace = written;
    }
    let now = jiff::Timestamp::now();
    let deleted = namespace.metadata.deletion_timestamp.as_ref();
    let since = deleted.map_or(Duration::ZERO, |deleted| {
        Duration::try_from(now.duration_since(deleted.0)).unwrap_or_default()
    });
    let remaining = contents::delete_all(&shared.client, name).await;
    if !remaining.is_empty() {
        let pause = again(since, remaining.only_pods());
        for failure in &remaining.failures {
            tracing::debug!(
                namespace = name,
                failure,
                "not all of a namespace could be deleted"
            );
        }
        let status = status::with_remaining(&namespace, &remaining, now);
        if namespace.status.as_ref() != Some(&status) {
            write_status(&api, namespace, status).await?;
        }
        return Ok(Some(pause));
    }
    finalize(&api, namespace).await?;
    Ok(None)
}

/// When to look again at a namespace that has been deleted for so long.
fn again(since: Duration, only_pods: bool) -> Duration {
    if only_pods && since < GRACE {
        return AGAIN;
    }
    (since / 8).clamp(AGAIN, AGAIN_MAX)
}

async fn write_status(
    api: &Api<Namespace>,
    mut namespace: Namespace,
    status: NamespaceStatus,
) -> Result<Option<Namespace>, Error> {
    namespace.status = Some(status);
    let name = objects::name(&namespace);
    match api
        .replace_status(name, &PostParams::default(), &namespace)
        .await
    {
        Ok(written) => Ok(Some(written)),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(Error::api("update the status of Namespace", name)(error)),
    }
}

async fn finalize(api: &Api<Namespace>, mut namespace: Namespace) -> Result<(), Error> {
    if let Some(finalizers) = namespace
        .spec
        .as_mut()
        .and_then(|spec| spec.finalizers.as_mut())
    {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
    let name = objects::name(&namespace);
    match api
        .replace_subresource("finalize", name, &PostParams::default(), &namespace)
        .await
    {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(Error::api("finalize Namespace", name)(error)),
    }
}

fn has_finalizer(namespace: &Namespace) -> bool {
    let finalizers = namespace
        .spec
        .as_ref()
        .and_then(|spec| spec.finalizers.as_ref());
    finalizers
        .into_iter()
        .flatten()
        .any(|finalizer| finalizer == FINALIZER)
}

fn phase(namespace: &Namespace) -> Option<&str> {
    namespace.status.as_ref()?.phase.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_long_is_looked_at_seldom() {
        for (seconds, only_pods, millis) in [
            (0, false, 250),
            (1, false, 250),
            (10, false, 1250),
            (3600, false, 8000),
            (31, true, 250),
            (60, true, 7500),
            (3600, true, 8000),
        ] {
            let pause = again(Duration::from_secs(seconds), only_pods);
            assert_eq!(pause.as_millis(), millis, "{seconds} s, {only_pods}");
        }
    }
}
