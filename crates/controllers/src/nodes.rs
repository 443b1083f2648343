//! The node lifecycle controller: a node whose Lease is stale is of unknown condition, and its pods are not ready.
//!
//! Follows `pkg/controller/nodelifecycle`, without eviction; its taints are those of `taints`.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::error::is_not_found;
use crate::events::{Recorder, Severity};
use crate::informer::Informer;
use crate::objects;

const EVERY: Duration = Duration::from_secs(5);
const LEASES: &str = "kube-node-lease";
/// Condition types that a node reports.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Runs until `shutdown`. A node is given up when its Lease has not been renewed for `grace`.
pub async fn run(
    client: Client,
    pods: Informer<Pod>,
    grace: Duration,
    shutdown: CancellationToken,
) {
    let recorder = Recorder::start(client.clone(), "node-controller");
    let mut seen = Renewals::default();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY.min(grace / 4)) => {}
        }
        if let Err(error) = look(&client, &pods, &recorder, &mut seen, grace).await {
            tracing::warn!(%error, "nodes not looked at, trying again");
        }
    }
}

async fn look(
    client: &Client,
    pods: &Informer<Pod>,
    recorder: &Recorder,
    seen: &mut Renewals,
    grace: Duration,
) -> Result<(), kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let leases: Api<Lease> = Api::namespaced(client.clone(), LEASES);
    let leases: HashMap<String, Lease> = leases
        .list(&ListParams::default())
        .await?
        .items
        .into_iter()
        .map(|lease| (objects::name(&lease).to_owned(), lease))
        .collect();
    let list = nodes.list(&ListParams::default()).await?;
    seen.retain(|name| list.items.iter().any(|node| objects::name(node) == name));
    for node in list.items {
        if !seen.knows(objects::name(&node)) {
            let name = objects::name(&node);
            recorder.record(
                &node,
                Severity::Normal,
                "RegisteredNode",
                format!("Node {name} event: Registered Node {name} in Controller"),
            );
        }
        let name = objects::name(&node).to_owned();
        let sign = sign_of_life(&node, leases.get(&name));
        let stale = seen.is_stale(&name, &sign, Instant::now(), grace);
        let Some(changed) = stale.then(|| given_up(&node, Timestamp::now())).flatten() else {
            // Whoever says that it is not ready; and what could be marked only in part.
            if is_ready(&node) {
                seen.unready.remove(&name);
            } else if !seen.unready.contains(&name) {
                mark_pods(client, pods, recorder, &name).await?;
                seen.unready.insert(name);
            }
            continue;
        };
        match nodes
            .replace_status(&name, &PostParams::default(), &changed)
            .await
        {
            Ok(_) => {}
            Err(error) if is_not_found(&error) => continue,
            Err(error) => return Err(error),
        }
        recorder.record(
            &node,
            Severity::Normal,
            "NodeNotReady",
            format!("Node {name} status is now: NodeNotReady"),
        );
        mark_pods(client, pods, recorder, &name).await?;
        seen.unready.insert(name);
    }
    Ok(())
}

/// When each node's sign of life last changed, by our own clock: the node's may differ.
#[derive(Debug, Default)]
struct Renewals {
    signs: HashMap<String, (String, Instant)>,
    /// Nodes that are not ready and whose pods have been marked.
    unready: HashSet<String>,
}

impl Renewals {
    fn knows(&self, node: &str) -> bool {
        self.signs.contains_key(node)
    }

    fn is_stale(&mut self, node: &str, sign: &str, now: Instant, grace: Duration) -> bool {
        match self.signs.get(node) {
            Some((known, at)) if known == sign => now.duration_since(*at) > grace,
            _ => {
                self.signs.insert(node.to_owned(), (sign.to_owned(), now));
                false
            }
        }
    }

    fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.signs.retain(|name, _| keep(name));
        self.unready.retain(|name| keep(name));
    }
}

fn sign_of_life(node: &Node, lease: Option<&Lease>) -> String {
    let renewed = lease
        .and_then(|lease| lease.spec.as_ref())
        .and_then(|spec| spec.renew_time.as_ref())
        .map(|time| time.0);
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let heartbeat = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready")
        .and_then(|condition| condition.last_heartbeat_time.as_ref())
        .map(|time| time.0);
    format!("{renewed:?}/{heartbeat:?}")
}

/// Whether the node says that it is ready. One that has never said anything is not asked.
fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready")
        .is_none_or(|condition| condition.status == "True")
}

/// The node with its reported conditions unknown; nothing if it is so already.
fn given_up(node: &Node, now: Timestamp) -> Option<Node> {
    let mut changed = node.clone();
    let conditions = changed
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    let mut any = false;
    for type_ in REPORTED {
        let stopped = ("NodeStatusUnknown", "Kubelet stopped posting node status.");
        let never = (
            "NodeStatusNeverUpdated",
            "Kubelet never posted node status.",
        );
        match conditions
            .iter_mut()
            .find(|condition| condition.type_ == type_)
        {
            Some(known) if known.status == "Unknown" => {}
            Some(known) => {
                known.status = "Unknown".to_owned();
                known.reason = Some(stopped.0.to_owned());
                known.message = Some(stopped.1.to_owned());
                known.last_transition_time = Some(Time(now));
                any = true;
            }
            None => {
                conditions.push(NodeCondition {
                    type_: type_.to_owned(),
                    status: "Unknown".to_owned(),
                    reason: Some(never.0.to_owned()),
                    message: Some(never.1.to_owned()),
                    last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                    last_transition_time: Some(Time(now)),
                });
                any = true;
            }
        }
    }
    any.then_some(changed)
}

async fn mark_pods(
    client: &Client,
    pods: &Informer<Pod>,
    recorder: &Recorder,
    node: &str,
) -> Result<(), kube::Error> {
    for pod in pods.all() {
        let here = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node);
        if !here || !objects::is_ready(&pod) {
            continue;
        }
        let change = json!({"status": {"conditions": [{
            "type": "Ready", "status": "False",
            "lastTransitionTime": Time(Timestamp::now()),
        }]}});
        let api: Api<Pod> = Api::namespaced(client.clone(), objects::namespace(&*pod));
        let patch = Patch::Strategic(&change);
        match api
            .patch_status(objects::name(&*pod), &PatchParams::default(), &patch)
            .await
        {
            Ok(_) => {}
            Err(error) if is_not_found(&error) => continue,
            Err(error) => return Err(error),
        }
        recorder.record(
            &*pod,
            Severity::Warning,
            "NodeNotReady",
            "Node is not ready".to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ready: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "one"},
            "status": {"conditions": [{"type": "Ready", "status": ready, "reason": "KubeletReady"}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_sign_of_life_that_stands_still_is_stale_after_the_grace() {
        let mut renewals = Renewals::default();
        let start = Instant::now();
        let grace = Duration::from_secs(50);
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(!renewals.knows("one"));
        assert!(!renewals.is_stale("one", "a", start, grace));
        assert!(renewals.knows("one"));
        assert!(!renewals.is_stale("one", "a", after(50), grace));
        assert!(renewals.is_stale("one", "a", after(51), grace));
        assert!(!renewals.is_stale("one", "b", after(52), grace));
        renewals.retain(|_| false);
        assert!(!renewals.is_stale("one", "b", after(200), grace));
    }

    #[test]
    fn a_node_is_ready_until_it_says_otherwise() {
        for (node, ready) in [
            (node("True"), true),
            (node("False"), false),
            (node("Unknown"), false),
            (Node::default(), true),
        ] {
            assert_eq!(is_ready(&node), ready, "{node:?}");
        }
    }

    #[test]
    fn every_reported_condition_becomes_unknown_once() {
        let now = Timestamp::now();
        let lost = given_up(&node("True"), now).unwrap();
        let conditions = lost.status.clone().unwrap().conditions.unwrap();
        let told: Vec<(&str, &str, &str)> = conditions
            .iter()
            .map(|one| {
                (
                    one.type_.as_str(),
                    one.status.as_str(),
                    one.reason.as_deref().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("Ready", "Unknown", "NodeStatusUnknown"),
                ("MemoryPressure", "Unknown", "NodeStatusNeverUpdated"),
                ("DiskPressure", "Unknown", "NodeStatusNeverUpdated"),
                ("PIDPressure", "Unknown", "NodeStatusNeverUpdated"),
            ]
        );
        assert!(given_up(&lost, now).is_none());
    }
}
