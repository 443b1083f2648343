//! Keeps a node's taints in step with its conditions, so that the scheduler gives it no pods that would have to go again.
//!
//! Follows `doNoScheduleTaintingPass` of `pkg/controller/nodelifecycle`.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::error::is_not_found;
use crate::informer::Informer;
use crate::objects;

const NO_SCHEDULE: &str = "NoSchedule";
const RETRY: Duration = Duration::from_secs(1);
/// Condition, the status in which it keeps pods away, and by which taint.
const BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", "node.kubernetes.io/not-ready"),
    ("Ready", "Unknown", "node.kubernetes.io/unreachable"),
    (
        "MemoryPressure",
        "True",
        "node.kubernetes.io/memory-pressure",
    ),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    (
        "NetworkUnavailable",
        "True",
        "node.kubernetes.io/network-unavailable",
    ),
];
const CORDONED: &str = "node.kubernetes.io/unschedulable";

/// Runs until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let nodes: Informer<Node> = Informer::start(
        Api::all(client.clone()),
        watcher::Config::default().any_semantic(),
        |_| Vec::new(),
        |_| {},
        shutdown.clone(),
    );
    let mut changes = Box::pin(nodes.stream());
    loop {
        let node = tokio::select! {
            () = shutdown.cancelled() => return,
            Some(node) = changes.next() => node,
            else => return,
        };
        // what could not be written is written with the node's next version at the latest
        while let Err(error) = apply(&client, &nodes, &node).await {
            tracing::warn!(node = objects::name(&*node), %error, "taints not written, trying again");
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }
}

async fn apply(
    client: &Client,
    nodes: &Informer<Node>,
    node: &Arc<Node>,
) -> Result<(), kube::Error> {
    let name = objects::name(&**node);
    // gone, or newer than what is told of here
    let Some(current) = nodes.get(None, name) else {
        return Ok(());
    };
    let Some(taints) = wanted(&current) else {
        return Ok(());
    };
    let api: Api<Node> = Api::all(client.clone());
    // of this version only: somebody else may be setting taints
    let patch = json!({
        "metadata": { "resourceVersion": current.metadata.resource_version },
        "spec": { "taints": taints },
    });
    let written = api
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    match written {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        // the newer version is on its way here
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}

/// All taints that the node should have, if they are not those that it has. Those of others stay.
fn wanted(node: &Node) -> Option<Vec<Taint>> {
    let spec = node.spec.clone().unwrap_or_default();
    let had = spec.taints.unwrap_or_default();
    let ours = |taint: &Taint| {
        let known = BY_CONDITION.iter().any(|(_, _, key)| *key == taint.key);
        taint.effect == NO_SCHEDULE && (known || taint.key == CORDONED)
    };
    let conditions = node.status.iter().flat_map(|status| &status.conditions);
    let keys: Vec<&str> = conditions
        .flatten()
        .filter_map(|condition| {
            let row = BY_CONDITION
                .iter()
                .find(|(kind, status, _)| *kind == condition.type_ && *status == condition.status);
            row.map(|(_, _, key)| *key)
        })
        .chain((spec.unschedulable == Some(true)).then_some(CORDONED))
        .collect();
    let mut taints: Vec<Taint> = had
        .iter()
        .filter(|taint| !ours(taint) || keys.contains(&taint.key.as_str()))
        .cloned()
        .collect();
    for key in keys {
        if !taints
            .iter()
            .any(|taint| taint.key == key && taint.effect == NO_SCHEDULE)
        {
            taints.push(Taint {
                key: key.to_owned(),
                effect: NO_SCHEDULE.to_owned(),
                ..Taint::default()
            });
        }
    }
    (taints != had).then_some(taints)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(conditions: &[(&str, &str)], taints: &[(&str, &str)], cordoned: bool) -> Node {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(kind, status)| json!({ "type": kind, "status": status }))
            .collect();
        let taints: Vec<_> = taints
            .iter()
            .map(|(key, effect)| json!({ "key": key, "effect": effect }))
            .collect();
        serde_json::from_value(json!({
            "metadata": { "name": "one" },
            "spec": { "taints": taints, "unschedulable": cordoned },
            "status": { "conditions": conditions },
        }))
        .expect("a node")
    }

    fn told(node: &Node) -> Option<String> {
        let taints = wanted(node)?;
        let texts: Vec<String> = taints
            .iter()
            .map(|taint| format!("{}:{}", taint.key, taint.effect))
            .collect();
        Some(texts.join(" "))
    }

    #[test]
    fn taints_follow_conditions_and_leave_those_of_others() {
        let fine = [("Ready", "True"), ("DiskPressure", "False")];
        let short = [("Ready", "True"), ("DiskPressure", "True")];
        let disk = ("node.kubernetes.io/disk-pressure", "NoSchedule");
        let own = ("example.com/own", "NoSchedule");
        let execute = ("node.kubernetes.io/disk-pressure", "NoExecute");
        for (node, want) in [
            (node(&fine, &[], false), None),
            (
                node(&short, &[own], false),
                Some("example.com/own:NoSchedule node.kubernetes.io/disk-pressure:NoSchedule"),
            ),
            (node(&short, &[disk, own], false), None),
            (
                node(&fine, &[disk, own], false),
                Some("example.com/own:NoSchedule"),
            ),
            (node(&fine, &[execute], false), None),
            (node(&fine, &[disk], false), Some("")),
            (
                node(
                    &[("Ready", "Unknown"), ("MemoryPressure", "Unknown")],
                    &[],
                    false,
                ),
                Some("node.kubernetes.io/unreachable:NoSchedule"),
            ),
            (
                node(
                    &[
                        ("Ready", "False"),
                        ("PIDPressure", "True"),
                        ("MemoryPressure", "True"),
                    ],
                    &[],
                    true,
                ),
                Some(
                    "node.kubernetes.io/not-ready:NoSchedule node.kubernetes.io/pid-pressure:NoSchedule node.kubernetes.io/memory-pressure:NoSchedule node.kubernetes.io/unschedulable:NoSchedule",
                ),
            ),
            (node(&fine, &[(CORDONED, NO_SCHEDULE)], false), Some("")),
        ] {
            assert_eq!(told(&node).as_deref(), want, "{:?}", node.spec);
        }
    }
}
