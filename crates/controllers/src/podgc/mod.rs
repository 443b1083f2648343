//! Pods that have nobody who ends them. Those that are being deleted and were never on a node, at once; see [`sweep`] for the rest.
//!
//! Follows `gcUnscheduledTerminating` of `pkg/controller/podgc`: they have failed, and go at once. Without a finalizer the
//! API server removes them itself; this is for those that something keeps.

mod sweep;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::Controller;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::drive::drive;
use crate::error::{Error, is_not_found};
use crate::objects;
use crate::shared::Shared;

/// Runs until `shutdown`. A node is missing for `quarantine` before its pods go.
pub async fn run(shared: Shared, quarantine: Duration, shutdown: CancellationToken) {
    tokio::join!(
        unscheduled(shared.clone(), shutdown.clone()),
        sweep::run(shared, quarantine, shutdown),
    );
}

async fn unscheduled(shared: Shared, shutdown: CancellationToken) {
    let left = |pod: &Arc<Pod>| std::future::ready(is_left(pod));
    let pods = shared.pods.stream().filter(left);
    let controller = Controller::for_shared_stream(pods, shared.pods.store());
    drive("pod-garbage-collector", controller, shutdown, move |pod| {
        let shared = shared.clone();
        async move { look(&shared, pod).await }
    })
    .await;
}

/// Deleted, on no node, and not told to have ended.
fn is_left(pod: &Pod) -> bool {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    objects::is_terminating(pod)
        && node.unwrap_or_default().is_empty()
        && !objects::is_finished(pod)
}

async fn look(shared: &Shared, pod: Arc<Pod>) -> Result<Option<Duration>, Error> {
    if !is_left(&pod) {
        return Ok(None);
    }
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), objects::namespace(&*pod));
    let name = objects::name(&*pod);
    let failed = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"phase": "Failed"}});
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default().grace_period(0)
    };
    let written = api
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&failed))
        .await;
    let outcome = match written {
        Ok(_) => api.delete(name, &parameters).await.map(drop),
        Err(error) => Err(error),
    };
    match outcome {
        Err(error) if !is_not_found(&error) => Err(Error::api(
            "end the unscheduled Pod",
            objects::key(&*pod),
        )(error)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pods_without_a_node_are_ended_here() {
        for (deleted, node, phase, expected) in [
            (true, None, "Pending", true),
            (true, Some(""), "Pending", true),
            (true, Some("one"), "Pending", false),
            (true, None, "Failed", false),
            (false, None, "Pending", false),
        ] {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"deletionTimestamp": deleted.then_some("2026-01-01T00:00:00Z")},
                "spec": {"containers": [], "nodeName": node}, "status": {"phase": phase}}))
            .unwrap();
            assert_eq!(is_left(&pod), expected, "{deleted} {node:?} {phase}");
        }
    }
}
