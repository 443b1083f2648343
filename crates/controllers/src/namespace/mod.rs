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
/// Contents that end by themselves (pods within their grace) are looked at again after this.
const AGAIN: Duration = Duration::from_millis(250);

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
    let remaining = contents::delete_all(&shared.client, name).await?;
    if !remaining.is_empty() {
        let status = status::with_remaining(&namespace, &remaining, jiff::Timestamp::now());
        if namespace.status.as_ref() != Some(&status) {
            write_status(&api, namespace, status).await?;
        }
        return Ok(Some(AGAIN));
    }
    finalize(&api, namespace).await?;
    Ok(None)
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
