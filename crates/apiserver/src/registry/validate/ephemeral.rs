//! Ephemeral containers: what `kubectl debug` adds to a pod that runs (upstream `ValidatePodEphemeralContainersUpdate`).

use std::collections::HashSet;

use serde_json::Value;

use super::{Problems, container, container_security};
use crate::object::{at, items, text};

const LIST: &str = "spec.ephemeralContainers";
/// What only containers have that are there from the beginning.
const NOT_THEIRS: [&str; 6] = [
    "ports",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "resources",
];
const WHY_NOT: &str = "cannot be set for an Ephemeral Container";

/// A new pod has none; and it has no node while gates keep it from being placed.
pub fn pod_create(pod: &Value, problems: &mut Problems) {
    let gated = !items(pod, &["spec", "schedulingGates"]).is_empty();
    if gated && !text(pod, &["spec", "nodeName"]).is_empty() {
        let why = "cannot be set until all schedulingGates have been cleared";
        problems.forbidden("spec.nodeName", why);
    }
    if !items(pod, &["spec", "ephemeralContainers"]).is_empty() {
        problems.forbidden(LIST, "cannot be set on create");
    }
}

/// What a write of `pods/ephemeralcontainers` makes of a pod: more of them, and those that were there as they were.
pub fn ephemeral_update(new: &Value, old: &Value, problems: &mut Problems) {
    let all = items(new, &["spec", "ephemeralContainers"]);
    each(new, all, problems);
    for before in items(old, &["spec", "ephemeralContainers"]) {
        let name = text(before, &["name"]);
        match all.iter().find(|one| text(one, &["name"]) == name) {
            None => {
                let why = format!("existing ephemeral containers {name:?} may not be removed\n");
                problems.forbidden(LIST, &why);
            }
            Some(after) if after != before => {
                let why = format!("existing ephemeral containers {name:?} may not be changed\n");
                problems.forbidden(LIST, &why);
            }
            Some(_) => {}
        }
    }
}

fn each(pod: &Value, all: &[Value], problems: &mut Problems) {
    let name = |one: &'_ Value| text(one, &["name"]).to_owned();
    let volumes: HashSet<&str> = items(pod, &["spec", "volumes"])
        .iter()
        .map(|volume| text(volume, &["name"]))
        .collect();
    let targets: HashSet<String> = items(pod, &["spec", "containers"])
        .iter()
        .map(name)
        .collect();
    let mut taken: HashSet<String> = items(pod, &["spec", "initContainers"])
        .iter()
        .map(name)
        .chain(targets.iter().cloned())
        .collect();
    for (n, one) in all.iter().enumerate() {
        let field = format!("{LIST}[{n}]");
        container::container(one, &field, &volumes, problems);
        let host_users = pod["spec"]["hostUsers"] != false;
        container_security::container(one, host_users, &field, problems);
        if !name(one).is_empty() && !taken.insert(name(one)) {
            problems.duplicate(&format!("{field}.name"), &name(one).into());
        }
        let target = text(one, &["targetContainerName"]);
        if !target.is_empty() && !targets.contains(target) {
            problems.not_found(&format!("{field}.targetContainerName"), &target.into());
        }
        for key in NOT_THEIRS {
            let said = at(one, &[key]).is_some_and(|value| !is_empty(value));
            if said {
                problems.forbidden(&format!("{field}.{key}"), WHY_NOT);
            }
        }
        for (m, mount) in items(one, &["volumeMounts"]).iter().enumerate() {
            for key in ["subPath", "subPathExpr"] {
                if !text(mount, &[key]).is_empty() {
                    problems.forbidden(&format!("{field}.volumeMounts[{m}].{key}"), WHY_NOT);
                }
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(old: Value, new: Value) -> Vec<String> {
        let pod = |ephemeral: Value| json!({"spec": {"containers": [{"name": "web", "image": "i"}], "ephemeralContainers": ephemeral}});
        crate::registry::validate::said(|problems| {
            ephemeral_update(&pod(new), &pod(old), problems);
        })
    }

    #[test]
    fn they_are_added_and_stay() {
        let look = json!({"name": "look", "image": "i"});
        let aimed = json!({"name": "aimed", "image": "i", "targetContainerName": "web"});
        assert!(said(json!([]), json!([look])).is_empty());
        assert!(said(json!([look]), json!([look, aimed])).is_empty());
        assert_eq!(
            said(json!([look]), json!([aimed])),
            [
                "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"look\" may not be removed\n"
            ]
        );
        assert_eq!(
            said(json!([look]), json!([{"name": "look", "image": "j"}])),
            [
                "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"look\" may not be changed\n"
            ]
        );
    }

    #[test]
    fn a_new_pod_is_gated_or_placed() {
        let said = |spec: Value| {
            crate::registry::validate::said(|problems| pod_create(&json!({"spec": spec}), problems))
        };
        assert!(said(json!({"nodeName": "n"})).is_empty());
        assert!(said(json!({"schedulingGates": [{"name": "g"}]})).is_empty());
        assert_eq!(
            said(json!({"nodeName": "n", "schedulingGates": [{"name": "g"}]})),
            ["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"]
        );
    }

    #[test]
    fn what_they_cannot_have_is_refused() {
        let bad = json!([
            {"name": "web", "image": "i", "targetContainerName": "nothing", "ports": [{"containerPort": 1}], "resources": {"limits": {"cpu": "1"}}},
            {"name": "", "image": ""},
        ]);
        assert_eq!(
            said(json!([]), bad),
            [
                "spec.ephemeralContainers[0].name: Duplicate value: \"web\"",
                "spec.ephemeralContainers[0].targetContainerName: Not found: \"nothing\"",
                "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
                "spec.ephemeralContainers[0].resources: Forbidden: cannot be set for an Ephemeral Container",
                "spec.ephemeralContainers[1].name: Required value",
                "spec.ephemeralContainers[1].image: Required value",
            ]
        );
        let user = json!([{"name": "look", "image": "i", "securityContext": {"runAsUser": -1}}]);
        assert_eq!(said(json!([]), user).len(), 1);
        let plain = json!([{"name": "look", "image": "i", "ports": [], "resources": {}}]);
        assert!(said(json!([]), plain).is_empty());
    }
}
