//! What a new pod's wishes about nodes become (upstream's pod strategy), and the status of a new budget.

use serde_json::{Value, json};

use crate::object::{at, items, text};

/// A new budget allows nothing until its controller has counted.
pub fn disruption_budget_create(object: &mut Value) {
    object["status"] = json!({
        "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0,
    });
}

/// Gates are told by the condition; `matchLabelKeys` become part of the selectors that they belong to.
pub(super) fn pod_create(pod: &mut Value) {
    let labels = pod["metadata"]["labels"].clone();
    let spec = &mut pod["spec"];
    let gated = !items(spec, &["schedulingGates"]).is_empty();
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = spec.get_mut("affinity").and_then(|all| all.get_mut(kind)) else {
            continue;
        };
        for term in each(affinity, "requiredDuringSchedulingIgnoredDuringExecution") {
            merge_keys(term, &labels);
        }
        for wish in each(affinity, "preferredDuringSchedulingIgnoredDuringExecution") {
            merge_keys(&mut wish["podAffinityTerm"], &labels);
        }
    }
    for constraint in each(spec, "topologySpreadConstraints") {
        merge_keys(constraint, &labels);
    }
    if gated {
        pod["status"]["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null,
            "lastTransitionTime": crate::time::now(),
        }]);
    }
}

fn each<'a>(object: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    let list = object.get_mut(key).and_then(Value::as_array_mut);
    list.into_iter().flatten()
}

/// Keys whose value the pod has become requirements, in their order.
fn merge_keys(term: &mut Value, labels: &Value) {
    if at(term, &["labelSelector"]).is_none_or(|selector| !selector.is_object()) {
        return;
    }
    let mut more = Vec::new();
    for (keys, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in items(term, &[keys]) {
            let key = key.as_str().unwrap_or_default();
            let value = text(labels, &[key]);
            if labels.get(key).is_some() {
                more.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    if more.is_empty() {
        return;
    }
    let selector = &mut term["labelSelector"];
    match selector["matchExpressions"].as_array_mut() {
        Some(known) => known.extend(more),
        None => selector["matchExpressions"] = more.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_requirements_of_the_selector() {
        let mut pod = json!({"metadata": {"labels": {"app": "web", "hash": "1"}}, "spec": {
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
                "topologyKey": "zone", "labelSelector": {}, "matchLabelKeys": ["app", "absent"], "mismatchLabelKeys": ["hash"],
            }]}},
            "topologySpreadConstraints": [
                {"matchLabelKeys": ["hash"], "labelSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}},
                {"matchLabelKeys": ["hash"]},
            ],
        }, "status": {}});
        pod_create(&mut pod);
        let term = &pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            [0];
        assert_eq!(
            term["labelSelector"]["matchExpressions"],
            json!([
                {"key": "app", "operator": "In", "values": ["web"]},
                {"key": "hash", "operator": "NotIn", "values": ["1"]},
            ])
        );
        let spread = &pod["spec"]["topologySpreadConstraints"];
        assert_eq!(
            spread[0]["labelSelector"]["matchExpressions"],
            json!([{"key": "a", "operator": "Exists"}, {"key": "hash", "operator": "In", "values": ["1"]}])
        );
        assert!(spread[1].get("labelSelector").is_none());
        assert!(pod["status"].get("conditions").is_none());
    }

    #[test]
    fn a_gated_pod_says_so() {
        let mut pod =
            json!({"spec": {"schedulingGates": [{"name": "example.com/quota"}]}, "status": {}});
        pod_create(&mut pod);
        let condition = &pod["status"]["conditions"][0];
        assert_eq!(
            (&condition["type"], &condition["reason"]),
            (&json!("PodScheduled"), &json!("SchedulingGated"))
        );
    }
}
