//! Validation of pods and pod templates.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    Problems, at_least, confinement, container, container_security, labels, names, one_of,
    placement, pod_dns, pod_host, pod_security, probe, resources, restart, tolerations, volume,
    volume_sources,
};
use crate::object::{at, items, text};

/// A pod, new or old.
pub fn pod(object: &Value, problems: &mut Problems) {
    spec(&object["spec"], "spec", problems);
}

/// A pod's or a template's spec.
pub(super) fn spec(spec: &Value, field: &str, problems: &mut Problems) {
    let mut volumes = HashSet::new();
    for (n, one) in items(spec, &["volumes"]).iter().enumerate() {
        let name = text(one, &["name"]);
        let field = format!("{field}.volumes[{n}]");
        if name.is_empty() {
            problems.required(&format!("{field}.name"), "");
        }
        for why in names::dns1123_label(name)
            .into_iter()
            .filter(|_| !name.is_empty())
        {
            problems.invalid(&format!("{field}.name"), &name.into(), &why);
        }
        if !volumes.insert(name) {
            problems.duplicate(&format!("{field}.name"), &name.into());
        }
        let sources = one.as_object().map_or(0, |v| {
            v.iter()
                .filter(|(k, v)| *k != "name" && !v.is_null())
                .count()
        });
        if sources > 1 {
            problems.forbidden(&field, "may not specify more than 1 volume type");
        }
        volume::volume(one, &field, problems);
        volume_sources::volume(one, &field, problems);
    }
    let containers = items(spec, &["containers"]);
    if containers.is_empty() {
        problems.required(&format!("{field}.containers"), "");
    }
    let mut seen = HashSet::new();
    let mut ports = HashSet::new();
    for list in ["containers", "initContainers"] {
        for (n, one) in items(spec, &[list]).iter().enumerate() {
            let field = format!("{field}.{list}[{n}]");
            container::container(one, &field, &volumes, problems);
            placed(one, list, spec, &field, problems);
            let name = text(one, &["name"]);
            if !name.is_empty() && !seen.insert(name) {
                problems.duplicate(&format!("{field}.name"), &name.into());
            }
            if list == "containers" {
                host_ports(one, &field, &mut ports, problems);
            }
        }
    }
    one_of(
        spec,
        "restartPolicy",
        &["Always", "OnFailure", "Never"],
        field,
        problems,
    );
    one_of(
        spec,
        "dnsPolicy",
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        field,
        problems,
    );
    confinement::pod(spec, field, problems);
    placement::wishes(spec, field, problems);
    at_least(spec, "terminationGracePeriodSeconds", 0, field, problems);
    at_least(spec, "activeDeadlineSeconds", 1, field, problems);
    labels(
        spec.get("nodeSelector"),
        &format!("{field}.nodeSelector"),
        problems,
    );
    for key in ["hostname", "subdomain"] {
        if let Some(name) = at(spec, &[key])
            .and_then(Value::as_str)
            .filter(|n| !n.is_empty())
        {
            for why in names::dns1123_label(name) {
                problems.invalid(&format!("{field}.{key}"), &name.into(), &why);
            }
        }
    }
    for key in ["serviceAccountName", "nodeName", "priorityClassName"] {
        if let Some(name) = at(spec, &[key])
            .and_then(Value::as_str)
            .filter(|n| !n.is_empty())
        {
            for why in names::dns1123_subdomain(name) {
                problems.invalid(&format!("{field}.{key}"), &name.into(), &why);
            }
        }
    }
    pod_dns::config(spec, field, problems);
    pod_host::pod(spec, field, problems);
    pod_security::pod(spec, field, problems);
    resources::pod(spec, field, problems);
    tolerations::pod(spec, field, problems);
}

/// What is checked of a container by its place in the pod.
fn placed(one: &Value, list: &str, spec: &Value, field: &str, problems: &mut Problems) {
    let host_users = spec["hostUsers"] != false;
    container_security::container(one, host_users, field, problems);
    restart::container(one, field, problems);
    if list == "initContainers" && one["restartPolicy"] != "Always" {
        probe::of_init_container(one, field, problems);
    } else {
        // What is wrong with the period itself is told of the pod.
        let grace = spec["terminationGracePeriodSeconds"]
            .as_i64()
            .filter(|seconds| *seconds >= 0);
        probe::of_container(one, grace, field, problems);
    }
}

fn host_ports(
    container: &Value,
    field: &str,
    taken: &mut HashSet<(i64, String, String)>,
    problems: &mut Problems,
) {
    for (n, port) in items(container, &["ports"]).iter().enumerate() {
        let number = port["hostPort"].as_i64().unwrap_or(0);
        if number == 0 {
            continue;
        }
        let key = (
            number,
            text(port, &["hostIP"]).to_owned(),
            text(port, &["protocol"]).to_owned(),
        );
        if !taken.insert(key) {
            problems.duplicate(&format!("{field}.ports[{n}].hostPort"), &number.into());
        }
    }
}

/// What of a pod's spec an update may change: images, the active deadline, added tolerations.
pub fn pod_update(new: &Value, old: &Value, problems: &mut Problems) {
    let (mut after, mut before) = (new["spec"].clone(), old["spec"].clone());
    for spec in [&mut after, &mut before] {
        for list in ["containers", "initContainers"] {
            if let Some(list) = spec.get_mut(list).and_then(Value::as_array_mut) {
                for container in list.iter_mut().filter_map(Value::as_object_mut) {
                    container.remove("image");
                }
            }
        }
        if let Some(spec) = spec.as_object_mut() {
            for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
                spec.remove(key);
            }
        }
    }
    deadline_update(new, old, problems);
    gates_update(new, old, problems);
    let kept = items(old, &["spec", "tolerations"])
        .iter()
        .all(|t| items(new, &["spec", "tolerations"]).contains(t));
    if after != before || !kept {
        problems.forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        );
    }
}

/// A deadline may come nearer, never go away.
fn deadline_update(new: &Value, old: &Value, problems: &mut Problems) {
    let of = |pod: &Value| pod["spec"]["activeDeadlineSeconds"].as_i64();
    let why = match (of(new), of(old)) {
        (Some(after), Some(before)) if after > before => {
            "must be less than or equal to previous value"
        }
        (None, Some(_)) => "must not update from a positive integer to nil value",
        _ => return,
    };
    let after = &new["spec"]["activeDeadlineSeconds"];
    problems.invalid("spec.activeDeadlineSeconds", after, why);
}

/// Gates are opened one by one, none is added.
fn gates_update(new: &Value, old: &Value, problems: &mut Problems) {
    let before = items(old, &["spec", "schedulingGates"]);
    for (n, gate) in items(new, &["spec", "schedulingGates"]).iter().enumerate() {
        if !before.contains(gate) {
            let name = text(gate, &["name"]);
            let field = format!("spec.schedulingGates[{n}].name");
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            problems.forbidden(&field, &why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::said;
    use super::*;
    use serde_json::json;

    #[test]
    fn what_an_update_may_change() {
        let pod = |change: Value| {
            let mut spec = json!({"containers": [{"name": "a", "image": "i:1"}], "activeDeadlineSeconds": 100,
                "schedulingGates": [{"name": "a.b/c"}], "tolerations": [{"key": "k", "operator": "Exists"}]});
            for (key, value) in change.as_object().expect("an object") {
                match value {
                    Value::Null => drop(spec.as_object_mut().expect("a spec").remove(key)),
                    value => spec[key] = value.clone(),
                }
            }
            json!({"spec": spec})
        };
        let update = |change| said(|problems| pod_update(&pod(change), &pod(json!({})), problems));
        for fine in [
            json!({"containers": [{"name": "a", "image": "i:2"}]}),
            json!({"activeDeadlineSeconds": 100}),
            json!({"activeDeadlineSeconds": 3}),
            json!({"schedulingGates": null}),
            json!({"tolerations": [{"key": "k", "operator": "Exists"}, {"key": "l", "operator": "Exists"}]}),
        ] {
            assert_eq!(update(fine.clone()), Vec::<String>::new(), "{fine}");
        }
        for (change, expected) in [
            (
                json!({"activeDeadlineSeconds": 101}),
                "spec.activeDeadlineSeconds: Invalid value: 101: must be less than or equal to previous value",
            ),
            (
                json!({"activeDeadlineSeconds": null}),
                "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value",
            ),
            (
                json!({"schedulingGates": [{"name": "a.b/c"}, {"name": "x"}]}),
                "spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate 'x'",
            ),
        ] {
            assert_eq!(update(change), [expected]);
        }
        for forbidden in [
            json!({"tolerations": null}),
            json!({"containers": [{"name": "b", "image": "i:1"}]}),
            json!({"nodeName": "n"}),
        ] {
            let found = update(forbidden.clone());
            assert!(
                found[0].starts_with("spec: Forbidden: pod updates"),
                "{forbidden} {found:?}"
            );
        }
    }
}
