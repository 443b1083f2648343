//! Which of the nodes that can run a pod should.
//!
//! Pure. Sums upstream's LeastAllocated and BalancedAllocation with equal weight, less what untolerated preferences
//! of the node cost; the first name wins a tie.

use k8s_openapi::api::core::v1::Pod;

use crate::cluster::{Footprint, NodeRoom};
use crate::filter::untolerated_preferences;

/// What a container without requests counts as, so that such pods spread too.
const DEFAULT_CPU_MILLI: i64 = 100;
const DEFAULT_MEMORY_BYTES: i64 = 200 * 1024 * 1024;
/// A preference outweighs any difference in load.
const PREFERENCE: f64 = 300.0;

/// The best of the rooms.
pub fn best<'a>(
    pod: &Pod,
    footprint: &Footprint,
    rooms: impl IntoIterator<Item = (&'a String, &'a NodeRoom)>,
) -> Option<&'a str> {
    let mut best: Option<(f64, &str)> = None;
    for (name, room) in rooms {
        let score = score(pod, footprint, room);
        if best.is_none_or(|(known, _)| score > known) {
            best = Some((score, name));
        }
    }
    best.map(|(_, name)| name)
}

/// 0 to 200, less the preferences.
pub fn score(pod: &Pod, footprint: &Footprint, room: &NodeRoom) -> f64 {
    let cpu = used(footprint, room, "cpu", DEFAULT_CPU_MILLI);
    let memory = used(footprint, room, "memory", DEFAULT_MEMORY_BYTES);
    let least_allocated = 100.0 * (1.0 - f64::midpoint(cpu, memory));
    let balanced = 100.0 * (1.0 - (cpu - memory).abs() / 2.0);
    least_allocated + balanced - PREFERENCE * untolerated_preferences(pod, &room.node) as f64
}

/// The used share of a resource, 0 to 1, were the pod there.
fn used(footprint: &Footprint, room: &NodeRoom, name: &str, default: i64) -> f64 {
    let allocatable = room.allocatable.get(name).copied().unwrap_or(0);
    if allocatable <= 0 {
        return 1.0;
    }
    let wanted = footprint.requests.get(name).copied().unwrap_or(default);
    let taken = room.taken.get(name).copied().unwrap_or(0);
    (taken.saturating_add(wanted) as f64 / allocatable as f64).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Cluster;
    use serde_json::json;

    fn pod(cpu: &str, memory: &str) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": [
            {"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}},
        ]}}))
        .unwrap()
    }

    fn cluster(taints: serde_json::Value) -> Cluster {
        let mut cluster = Cluster::default();
        for (name, taints) in [("a", taints), ("b", json!([]))] {
            let node = json!({
                "metadata": {"name": name},
                "spec": {"taints": taints},
                "status": {"allocatable": {"cpu": "4", "memory": "4Gi", "pods": "10"}},
            });
            cluster.set_node(serde_json::from_value(node).unwrap());
        }
        cluster
    }

    fn choice(cluster: &Cluster) -> &str {
        let pod = pod("500m", "512Mi");
        best(&pod, &Footprint::of(&pod), cluster.rooms()).unwrap()
    }

    #[test]
    fn the_emptier_node_wins_and_ties_go_by_name() {
        let mut cluster = cluster(json!([]));
        assert_eq!(choice(&cluster), "a");
        cluster.place("1", "a", Footprint::of(&pod("1", "1Gi")));
        assert_eq!(choice(&cluster), "b");
    }

    #[test]
    fn balance_counts() {
        let mut cluster = cluster(json!([]));
        cluster.place("1", "a", Footprint::of(&pod("2", "0")));
        cluster.place("2", "b", Footprint::of(&pod("1", "1Gi")));
        assert_eq!(choice(&cluster), "b");
    }

    #[test]
    fn a_preference_outweighs_load() {
        let mut cluster = cluster(json!([{"key": "x", "effect": "PreferNoSchedule"}]));
        cluster.place("1", "b", Footprint::of(&pod("3", "3Gi")));
        assert_eq!(choice(&cluster), "b");
    }
}
