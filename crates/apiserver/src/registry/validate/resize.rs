//! What may be changed of a pod that runs by `pods/resize` (upstream `ValidatePodResize`).

use serde_json::Value;

use super::Problems;
use crate::object::{at, items, text};
use crate::registry::strategy::qos_class;

/// CPU and memory of containers that run, as long as the class of service stays and nothing is left without what it had.
pub fn pod_resize(new: &Value, old: &Value, problems: &mut Problems) {
    let annotations = &old["metadata"]["annotations"];
    if annotations.get("kubernetes.io/config.mirror").is_some() {
        problems.forbidden("", "static pods cannot be resized");
        return;
    }
    let class = text(old, &["status", "qosClass"]);
    let class = match class {
        "" => qos_class(&old["spec"]),
        known => known,
    };
    if qos_class(&new["spec"]) != class {
        let why = "Pod QOS Class may not change as a result of resizing";
        problems.invalid("spec", &class.into(), why);
    }
    for list in ["containers", "initContainers"] {
        let pairs = items(new, &["spec", list]).iter();
        let pairs = pairs.zip(items(old, &["spec", list]));
        for (n, (after, before)) in pairs.enumerate() {
            let field = format!("spec.{list}[{n}].resources");
            let starts_only = list == "initContainers" && before["restartPolicy"] != "Always";
            if starts_only {
                if after["resources"] != before["resources"] {
                    let why = "resources for non-sidecar init containers are immutable";
                    problems.forbidden(&field, why);
                }
                continue;
            }
            container(after, before, &field, problems);
        }
    }
}

fn container(after: &Value, before: &Value, field: &str, problems: &mut Problems) {
    let of = |container: &Value, kind: &str| at(container, &["resources", kind]).cloned();
    for kind in ["limits", "requests"] {
        let (after, before) = (of(after, kind), of(before, kind));
        let has = |list: &Option<Value>, name: &str| {
            let amount = list.as_ref().and_then(|list| list.get(name));
            amount.is_some_and(|amount| !amount.is_null())
        };
        let gone = |name: &&str| has(&before, name) && !has(&after, name);
        if ["cpu", "memory"].iter().any(gone) {
            let why = format!("resource {kind} cannot be removed");
            problems.forbidden(&format!("{field}.{kind}"), &why);
        }
    }
    if others(after) != others(before) {
        problems.forbidden("spec", "only cpu and memory resources are mutable");
    }
}

/// The resources without those that may change.
fn others(container: &Value) -> Value {
    let mut resources = container["resources"].clone();
    for kind in ["limits", "requests"] {
        if let Some(list) = resources.get_mut(kind).and_then(Value::as_object_mut) {
            list.retain(|name, _| name != "cpu" && name != "memory");
        }
    }
    if let Some(resources) = resources.as_object_mut() {
        resources.retain(|_, list| list.as_object().is_none_or(|list| !list.is_empty()));
    }
    resources
}

#[cfg(test)]
mod tests {
    use super::super::said;
    use super::*;
    use serde_json::json;

    fn resized(before: Value, after: Value) -> Vec<String> {
        let pod = |resources: Value| json!({"spec": {"containers": [{"name": "a", "resources": resources}]}});
        said(|problems| pod_resize(&pod(after), &pod(before), problems))
    }

    #[test]
    fn what_may_change_and_what_not() {
        let before = json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1"}});
        let fine = json!({"requests": {"cpu": "200m", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}});
        assert_eq!(resized(before.clone(), fine), Vec::<String>::new());
        let guaranteed = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        let class = "spec: Invalid value: \"Guaranteed\": Pod QOS Class may not change as a result of resizing";
        let less = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}});
        assert_eq!(resized(guaranteed.clone(), less), [class]);
        let without = json!({"requests": {"cpu": "100m"}});
        assert_eq!(
            resized(before.clone(), without),
            [
                "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed",
                "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"
            ]
        );
        let mut disk = before.clone();
        disk["limits"]["ephemeral-storage"] = "1Gi".into();
        assert_eq!(
            resized(before, disk),
            ["spec: Forbidden: only cpu and memory resources are mutable"]
        );
        let nothing = json!({});
        let class = "spec: Invalid value: \"BestEffort\": Pod QOS Class may not change as a result of resizing";
        assert_eq!(resized(nothing, json!({"requests": {"cpu": "1"}})), [class]);
    }

    #[test]
    fn what_starts_only_and_what_a_file_describes_stays() {
        let pod = |restart: &str, cpu: &str| {
            json!({"spec": {"containers": [{"name": "a"}], "initContainers": [
            {"name": "i", "restartPolicy": restart, "resources": {"requests": {"cpu": cpu}}}]}})
        };
        let init = "spec.initContainers[0].resources: Forbidden: resources for non-sidecar init containers are immutable";
        for (restart, expected) in [("Always", vec![]), ("", vec![init])] {
            let (after, before) = (pod(restart, "2"), pod(restart, "1"));
            let found = said(|problems| pod_resize(&after, &before, problems));
            assert_eq!(found, expected, "{restart}");
        }
        let mut mirror = pod("", "1");
        mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "x".into();
        let found = said(|problems| pod_resize(&mirror, &mirror, problems));
        assert_eq!(found, [": Forbidden: static pods cannot be resized"]);
    }
}
