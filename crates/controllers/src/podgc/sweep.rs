//! A look at all pods now and then: at those on nodes that are no more, and at ended ones beyond a number.
//!
//! Follows `gcOrphaned` and `gcTerminated` of `pkg/controller/podgc`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, is_not_found};
use crate::objects;
use crate::shared::Shared;

/// Ended pods that are kept, all namespaces together.
const ENDED_MAX: usize = 12_500;

/// Looks twice within `quarantine`, for which a node must be missing before its pods go.
pub async fn run(shared: Shared, quarantine: Duration, shutdown: CancellationToken) {
    let mut missing = Missing::default();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(quarantine / 2) => {}
        }
        if let Err(error) = sweep(&shared, &mut missing, quarantine).await {
            tracing::warn!(%error, "pods without a node not looked at, trying again");
        }
    }
}

async fn sweep(shared: &Shared, missing: &mut Missing, quarantine: Duration) -> Result<(), Error> {
    let pods = shared.pods.all();
    let nodes: Api<Node> = Api::all(shared.client.clone());
    let listed = nodes
        .list_metadata(&ListParams::default())
        .await
        .map_err(Error::api("list", "Nodes"))?;
    let known: HashSet<&str> = listed.items.iter().map(objects::name).collect();
    let named: BTreeSet<&str> = pods.iter().filter_map(|pod| node_of(pod)).collect();
    for node in missing.longer_than(quarantine, &named, &known, Instant::now()) {
        let found = nodes.get_metadata_opt(&node).await;
        if found
            .map_err(Error::api("read Node", node.clone()))?
            .is_some()
        {
            continue;
        }
        for pod in pods.iter().filter(|pod| node_of(pod) == Some(&node)) {
            tracing::info!(
                pod = objects::key(&**pod),
                node,
                "a pod goes: its node no longer exists"
            );
            end(shared, pod).await?;
        }
    }
    for pod in surplus(&pods, ENDED_MAX) {
        end(shared, &pod).await?;
    }
    Ok(())
}

fn node_of(pod: &Pod) -> Option<&str> {
    let node = pod.spec.as_ref()?.node_name.as_deref()?;
    (!node.is_empty()).then_some(node)
}

/// Nodes that pods name and nobody knows, and since when.
#[derive(Debug, Default)]
struct Missing(HashMap<String, Instant>);

impl Missing {
    /// Those that have been missing for so long.
    fn longer_than(
        &mut self,
        quarantine: Duration,
        named: &BTreeSet<&str>,
        known: &HashSet<&str>,
        now: Instant,
    ) -> Vec<String> {
        let is_missing = |node: &str| named.contains(node) && !known.contains(node);
        self.0.retain(|node, _| is_missing(node));
        let mut long = Vec::new();
        for node in named.iter().copied().filter(|node| is_missing(node)) {
            let since = *self.0.entry(node.to_owned()).or_insert(now);
            if now.duration_since(since) >= quarantine {
                long.push(node.to_owned());
            }
        }
        long
    }
}

/// The ended pods beyond `most`: evicted ones first, then the oldest.
fn surplus(pods: &[Arc<Pod>], most: usize) -> Vec<Arc<Pod>> {
    let mut ended: Vec<Arc<Pod>> = pods
        .iter()
        .filter(|pod| objects::is_finished(pod) && !objects::is_terminating(&***pod))
        .cloned()
        .collect();
    let beyond = ended.len().saturating_sub(most);
    let order = |pod: &Arc<Pod>| {
        let reason = pod
            .status
            .as_ref()
            .and_then(|status| status.reason.as_deref());
        let made = pod.metadata.creation_timestamp.as_ref().map(|made| made.0);
        (reason != Some("Evicted"), made)
    };
    if beyond > 0 {
        ended.sort_by_key(order);
    }
    ended.truncate(beyond);
    ended
}

/// Says that the pod has failed, unless it has ended by itself, and deletes it at once.
async fn end(shared: &Shared, pod: &Pod) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), objects::namespace(pod));
    let name = objects::name(pod);
    let told = match objects::is_finished(pod) {
        true => Ok(()),
        false => {
            let failed = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"phase": "Failed", "conditions": [{
                "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                "message": "PodGC: node no longer exists", "lastTransitionTime": Time(jiff::Timestamp::now()),
            }]}});
            let patch = Patch::Strategic(&failed);
            let written = api
                .patch_status(name, &PatchParams::default(), &patch)
                .await;
            written.map(drop)
        }
    };
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default().grace_period(0)
    };
    let outcome = match told {
        Ok(()) => api.delete(name, &parameters).await.map(drop),
        Err(error) => Err(error),
    };
    match outcome {
        Err(error) if !is_not_found(&error) => {
            Err(Error::api("end the left Pod", objects::key(pod))(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_must_be_missing_for_a_while() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut missing = Missing::default();
        let mut look = |named: &[&str], known: &[&str], now| {
            let (named, known) = (
                named.iter().copied().collect(),
                known.iter().copied().collect(),
            );
            missing.longer_than(Duration::from_secs(40), &named, &known, now)
        };
        assert_eq!(look(&["a", "b"], &["a"], at(0)), [""; 0]);
        assert_eq!(look(&["a", "b"], &["a"], at(39)), [""; 0]);
        assert_eq!(look(&["a", "b"], &["a"], at(40)), ["b"]);
        // one that came back begins anew
        assert_eq!(look(&["a", "b"], &["a", "b"], at(50)), [""; 0]);
        assert_eq!(look(&["a", "b"], &[], at(60)), [""; 0]);
        assert_eq!(look(&["b"], &[], at(100)), ["b"]);
    }

    #[test]
    fn evicted_and_old_ones_go_first() {
        let pod = |name: &str, phase: &str, reason: Option<&str>, hour: u32| -> Arc<Pod> {
            let made = format!("2026-01-01T{hour:02}:00:00Z");
            let pod = json!({"metadata": {"name": name, "creationTimestamp": made}, "status": {"phase": phase, "reason": reason}});
            Arc::new(serde_json::from_value(pod).expect("a pod"))
        };
        let pods = [
            pod("new", "Succeeded", None, 3),
            pod("running", "Running", None, 0),
            pod("old", "Failed", None, 1),
            pod("evicted", "Failed", Some("Evicted"), 4),
        ];
        for (most, expected) in [
            (3, &[][..]),
            (2, &["evicted"]),
            (1, &["evicted", "old"]),
            (0, &["evicted", "old", "new"]),
        ] {
            let gone = surplus(&pods, most);
            let names: Vec<&str> = gone.iter().map(|pod| objects::name(&**pod)).collect();
            assert_eq!(names, expected, "{most}");
        }
    }
}
