//! Validation of pods and pod templates.

use std::collections::HashSet;

use serde_json::Value;

use super::{Problems, at_least, confinement, container, labels, names, one_of, placement, volume};
use crate::object::{at, items, text};

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
    for (n, toleration) in items(spec, &["tolerations"]).iter().enumerate() {
        let field = format!("{field}.tolerations[{n}]");
        let operator = text(toleration, &["operator"]);
        if text(toleration, &["key"]).is_empty() && operator != "Exists" {
            problems.invalid(&format!("{field}.operator"), &operator.into(), "operator must be Exists when `key` is empty, which means \"match all values and all keys\"");
        }
        one_of(
            toleration,
            "effect",
            &["NoSchedule", "PreferNoSchedule", "NoExecute"],
            &field,
            problems,
        );
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
