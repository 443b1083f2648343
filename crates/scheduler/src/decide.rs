//! One scheduling decision: the node for a pod, or the sentence that says why there is none.
//!
//! Pure. The sentence is that of kube-scheduler's `FitError`, with what its post-filter plugins add: since dynamic
//! resource allocation is always on (1.34), first that one's words for a pod without claims, then preemption's.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use crate::cluster::{Cluster, Footprint, NodeRoom};
use crate::filter::{self, Rejection};
use crate::score;
use crate::storage::{Choice, Storage};

/// Where the pod goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub node: String,
    /// How claims that waited for the pod get their volumes there; the pod is bound when they have them.
    pub choices: Vec<Choice>,
}

/// Where the pod goes, or why nowhere.
pub fn decide(
    pod: &Pod,
    footprint: &Footprint,
    cluster: &Cluster,
    storage: &Storage,
) -> Result<Placement, String> {
    let rooms = cluster.rooms();
    if rooms.is_empty() {
        return Err("no nodes available to schedule pods".to_owned());
    }
    let needs = match storage.needs(pod) {
        Ok(needs) => needs,
        Err(why) => {
            let none = rooms
                .values()
                .map(|_| Rejection::fixed(""))
                .collect::<Vec<_>>();
            return Err(sentence(rooms.len(), &why, &none));
        }
    };
    let mut choices = BTreeMap::new();
    let mut fitting: Vec<(&String, &NodeRoom)> = Vec::new();
    let mut rejections = Vec::new();
    for (name, room) in rooms {
        match filter::check(pod, footprint, room) {
            Ok(()) => match storage.check(&needs, &room.node) {
                Ok(found) => {
                    choices.insert(name, found);
                    fitting.push((name, room));
                }
                Err(reason) => rejections.push(Rejection::fixed(reason)),
            },
            Err(rejection) => rejections.push(rejection),
        }
    }
    match score::best(pod, footprint, fitting) {
        Some(name) => Ok(Placement {
            choices: choices.remove(&name.to_owned()).unwrap_or_default(),
            node: name.to_owned(),
        }),
        None => Err(explain(rooms.len(), &rejections)),
    }
}

fn explain(nodes: usize, rejections: &[Rejection]) -> String {
    let filters = histogram(
        rejections
            .iter()
            .flat_map(|rejection| rejection.reasons.iter().map(String::as_str)),
    );
    sentence(nodes, &filters, rejections)
}

/// The whole sentence, with what preemption says of each node.
fn sentence(nodes: usize, filters: &str, rejections: &[Rejection]) -> String {
    let preemption = histogram(rejections.iter().map(|rejection| {
        if rejection.resolvable {
            "No preemption victims found for incoming pod"
        } else {
            "Preemption is not helpful for scheduling"
        }
    }));
    format!(
        "0/{nodes} nodes are available: {filters}. no new claims to deallocate, preemption: 0/{nodes} nodes are available: {preemption}."
    )
}

/// `2 Insufficient cpu, 1 node(s) were unschedulable`, sorted as text, as upstream sorts it.
fn histogram<'a>(reasons: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_insert(0) += 1;
    }
    let mut lines: Vec<String> = counts
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    lines.sort();
    lines.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn cluster(nodes: &[Value]) -> Cluster {
        let mut cluster = Cluster::default();
        for (n, change) in nodes.iter().enumerate() {
            let mut node = json!({
                "metadata": {"name": format!("node-{n}")},
                "spec": {},
                "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "20"}},
            });
            for (key, value) in change.as_object().unwrap() {
                node["spec"][key] = value.clone();
            }
            cluster.set_node(serde_json::from_value(node).unwrap());
        }
        cluster
    }

    fn pod(cpu: &str) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": [
            {"name": "c", "resources": {"requests": {"cpu": cpu}}},
        ]}}))
        .unwrap()
    }

    fn answer(cpu: &str, cluster: &Cluster) -> Result<String, String> {
        let pod = pod(cpu);
        let placed = decide(&pod, &Footprint::of(&pod), cluster, &Storage::default())?;
        Ok(placed.node)
    }

    #[test]
    fn says_why_in_upstreams_words() {
        let mut one = cluster(&[json!({})]);
        assert_eq!(answer("1", &one), Ok("node-0".to_owned()));
        one.place("x", "node-0", Footprint::of(&pod("1500m")));
        assert_eq!(
            answer("1", &one).unwrap_err(),
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
        );
        assert_eq!(
            answer("8", &one).unwrap_err(),
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
        );
        let cordoned = json!({"unschedulable": true});
        let mut several = cluster(&[json!({}), cordoned.clone(), cordoned]);
        several.place("x", "node-0", Footprint::of(&pod("2")));
        assert_eq!(
            answer("1", &several).unwrap_err(),
            "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable. no new claims to deallocate, preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."
        );
        assert_eq!(
            answer("1", &Cluster::default()).unwrap_err(),
            "no nodes available to schedule pods"
        );
    }

    #[test]
    fn says_why_a_claim_keeps_a_pod_waiting() {
        let waiting: Pod = serde_json::from_value(
            json!({"metadata": {"namespace": "n"}, "spec": {"containers": [],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}}),
        )
        .unwrap();
        let two = cluster(&[json!({}), json!({})]);
        assert_eq!(
            decide(
                &waiting,
                &Footprint::of(&waiting),
                &two,
                &Storage::default()
            )
            .unwrap_err(),
            "0/2 nodes are available: persistentvolumeclaim \"c\" not found. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
        );
    }

    proptest! {
        /// Whatever arrives, no node is promised more than it has, and a pod is refused only if no node has room.
        #[test]
        fn never_overcommits(sizes in proptest::collection::vec(1..1200_i64, 1..60), nodes in 1..4_usize) {
            let mut cluster = cluster(&vec![json!({}); nodes]);
            for (n, size) in sizes.iter().enumerate() {
                let pod = pod(&format!("{size}m"));
                let footprint = Footprint::of(&pod);
                match decide(&pod, &footprint, &cluster, &Storage::default()) {
                    Ok(placed) => cluster.place(&n.to_string(), &placed.node, footprint),
                    Err(_) => {
                        for room in cluster.rooms().values() {
                            let left = 2000 - room.taken.get("cpu").copied().unwrap_or(0);
                            prop_assert!(left < *size || room.pods == 20);
                        }
                    }
                }
            }
            for room in cluster.rooms().values() {
                prop_assert!(room.taken.get("cpu").copied().unwrap_or(0) <= 2000);
                prop_assert!(room.pods <= 20);
            }
        }
    }
}
