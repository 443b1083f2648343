//! Which pods go first when there are too many.
//!
//! Order of `pkg/controller/controller_utils.go` `ActivePodsWithRanks`: without a node; Pending, Unknown, Running; not
//! ready; lower `controller.kubernetes.io/pod-deletion-cost`; more pods of the same owner on its node; ready for a
//! shorter time; more restarts; younger. Ages are compared by their order of magnitude, then by uid, so that pods of
//! about the same age do not always go youngest first.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::objects;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The `count` pods of `pods` to delete. `related` are the active pods of all sets with the same owner.
pub fn choose(
    pods: &[Arc<Pod>],
    related: &[Arc<Pod>],
    count: usize,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    let mut chosen = pods.to_vec();
    if count >= chosen.len() {
        return chosen;
    }
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in related {
        *on_node.entry(node(pod)).or_insert(0) += 1;
    }
    let rank = |pod: &Pod| on_node.get(node(pod)).copied().unwrap_or(0);
    chosen.sort_by(|a, b| first_to_go(a, b, rank(a), rank(b), now));
    chosen.truncate(count);
    chosen
}

fn first_to_go(a: &Pod, b: &Pod, rank_a: usize, rank_b: usize, now: Timestamp) -> Ordering {
    node(b)
        .is_empty()
        .cmp(&node(a).is_empty())
        .then_with(|| phase_order(a).cmp(&phase_order(b)))
        .then_with(|| objects::is_ready(a).cmp(&objects::is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| rank_b.cmp(&rank_a))
        .then_with(|| younger_first(objects::ready_since(a), objects::ready_since(b), now))
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| younger_first(Some(objects::created(a)), Some(objects::created(b)), now))
        .then_with(|| objects::uid(a).cmp(objects::uid(b)))
}

fn node(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default()
}

fn phase_order(pod: &Pod) -> u8 {
    match objects::phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    objects::annotation(pod, DELETION_COST)
        .and_then(|cost| cost.parse().ok())
        .unwrap_or(0)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    statuses
        .into_iter()
        .flatten()
        .map(|status| status.restart_count)
        .max()
        .unwrap_or(0)
}

fn younger_first(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp) -> Ordering {
    let (Some(a), Some(b)) = (a, b) else {
        return Ordering::Equal;
    };
    magnitude(a, now).cmp(&magnitude(b, now))
}

/// The binary logarithm of the age in nanoseconds.
fn magnitude(since: Timestamp, now: Timestamp) -> u32 {
    u128::try_from(now.duration_since(since).as_nanos())
        .ok()
        .and_then(u128::checked_ilog2)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-01-02T00:00:00Z".parse().unwrap()
    }

    fn pod(name: &str, change: impl FnOnce(&mut serde_json::Value)) -> Arc<Pod> {
        let mut value = json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": {}},
            "spec": {"nodeName": format!("node-of-{name}"), "containers": []},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                "containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0}],
            },
        });
        change(&mut value);
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn each_rule_decides_between_pods_equal_in_the_rules_before() {
        type Change = fn(&mut serde_json::Value);
        let rules: [(&str, Change); 9] = [
            ("unassigned", |p| p["spec"]["nodeName"] = json!("")),
            ("pending", |p| p["status"]["phase"] = json!("Pending")),
            ("unknown phase", |p| p["status"]["phase"] = json!("Unknown")),
            ("not ready", |p| {
                p["status"]["conditions"][0]["status"] = json!("False")
            }),
            ("cheap", |p| {
                p["metadata"]["annotations"][DELETION_COST] = json!("-5")
            }),
            ("doubled", |p| p["spec"]["nodeName"] = json!("crowded")),
            ("ready for a shorter time", |p| {
                p["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-01-01T23:00:00Z");
            }),
            ("restarted", |p| {
                p["status"]["containerStatuses"][0]["restartCount"] = json!(3)
            }),
            ("younger", |p| {
                p["metadata"]["creationTimestamp"] = json!("2026-01-01T23:00:00Z")
            }),
        ];
        let crowd = [
            pod("x", |p| p["spec"]["nodeName"] = json!("crowded")),
            pod("y", |p| p["spec"]["nodeName"] = json!("crowded")),
        ];
        for (rule, change) in rules {
            let special = pod("z-special", change);
            let plain = pod("a-plain", |_| {});
            let related = [
                crowd[0].clone(),
                crowd[1].clone(),
                special.clone(),
                plain.clone(),
            ];
            let chosen = choose(&[plain, special], &related, 1, now());
            assert_eq!(objects::name(&*chosen[0]), "z-special", "{rule}");
        }
        // And the rules' order: every earlier rule beats every later one.
        for (early, (rule, change)) in rules.iter().enumerate() {
            for (other, later) in rules.iter().skip(early + 1) {
                let first = pod("z-first", change);
                let second = pod("a-second", later);
                let related = [
                    crowd[0].clone(),
                    crowd[1].clone(),
                    first.clone(),
                    second.clone(),
                ];
                let chosen = choose(&[second, first], &related, 1, now());
                assert_eq!(
                    objects::name(&*chosen[0]),
                    "z-first",
                    "{rule} before {other}"
                );
            }
        }
    }

    #[test]
    fn all_go_when_all_are_too_many() {
        let pods = [pod("a", |_| {}), pod("b", |_| {})];
        assert_eq!(choose(&pods, &[], 5, now()).len(), 2);
        assert_eq!(choose(&pods, &[], 0, now()).len(), 0);
    }
}
