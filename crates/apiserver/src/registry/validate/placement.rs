//! Validation of what decides about nodes: PriorityClasses, PodDisruptionBudgets, and a pod's affinity, spread constraints
//! and scheduling gates.

use std::collections::HashSet;

use serde_json::Value;

use super::workload::{amount, label_selector};
use super::{Problems, names, one_of};
use crate::object::{at, items, text};

/// What users may give at most.
const HIGHEST: i64 = 1_000_000_000;
/// The classes that every cluster has.
pub const SYSTEM_CLASSES: [(&str, i64); 2] = [
    ("system-node-critical", 2_000_001_000),
    ("system-cluster-critical", 2_000_000_000),
];
const POLICIES: [&str; 2] = ["Never", "PreemptLowerPriority"];

pub fn priority_class(object: &Value, problems: &mut Problems) {
    let name = text(object, &["metadata", "name"]);
    let value = object["value"].as_i64().unwrap_or(0);
    if name.starts_with("system-") {
        let known = SYSTEM_CLASSES.iter().find(|(known, _)| *known == name);
        let why = match known {
            None => Some(format!("{name} is not a known system priority class")),
            Some((_, wanted)) if *wanted != value => {
                Some(format!("value of {name} PriorityClass must be {wanted}"))
            }
            Some(_) if object["globalDefault"] == true => Some(format!(
                "globalDefault of {name} PriorityClass must be false"
            )),
            Some(_) => None,
        };
        if let Some(why) = why {
            let why = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
            );
            problems.forbidden("metadata.name", &why);
        }
    } else if value > HIGHEST {
        let why = format!("maximum allowed value of a user defined priority is {HIGHEST}");
        problems.forbidden("value", &why);
    }
    if let Some(policy) = object["preemptionPolicy"].as_str()
        && !POLICIES.contains(&policy)
    {
        problems.not_supported("preemptionPolicy", &object["preemptionPolicy"], &POLICIES);
    }
}

pub fn priority_class_update(new: &Value, old: &Value, problems: &mut Problems) {
    if new["value"].as_i64().unwrap_or(0) != old["value"].as_i64().unwrap_or(0) {
        problems.forbidden("value", "may not be changed in an update.");
    }
    if new["preemptionPolicy"] != old["preemptionPolicy"] {
        problems.invalid(
            "preemptionPolicy",
            &new["preemptionPolicy"],
            "field is immutable",
        );
    }
}

pub fn disruption_budget(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    let bounds = ["minAvailable", "maxUnavailable"];
    if bounds
        .iter()
        .all(|key| at(spec, &[key]).is_some_and(|value| !value.is_null()))
    {
        let why = "minAvailable and maxUnavailable cannot be both set";
        problems.invalid("spec", spec, why);
    }
    for key in bounds {
        let given = amount(Some(spec), key, "spec", problems);
        if spec[key].is_string() && given.is_some_and(|percent| percent > 100) {
            problems.invalid(
                &format!("spec.{key}"),
                &spec[key],
                "must not be greater than 100%",
            );
        }
    }
    label_selector(&spec["selector"], "spec.selector", problems);
    one_of(
        spec,
        "unhealthyPodEvictionPolicy",
        &["AlwaysAllow", "IfHealthyBudget"],
        "spec",
        problems,
    );
}

/// A pod's or a template's wishes.
pub(super) fn wishes(spec: &Value, field: &str, problems: &mut Problems) {
    let affinity = &spec["affinity"];
    node_affinity(
        &affinity["nodeAffinity"],
        &format!("{field}.affinity.nodeAffinity"),
        problems,
    );
    for kind in ["podAffinity", "podAntiAffinity"] {
        pod_affinity(
            &affinity[kind],
            &format!("{field}.affinity.{kind}"),
            problems,
        );
    }
    spread(
        spec,
        &format!("{field}.topologySpreadConstraints"),
        problems,
    );
    let mut gates = HashSet::new();
    for (n, gate) in items(spec, &["schedulingGates"]).iter().enumerate() {
        let name = text(gate, &["name"]);
        let field = format!("{field}.schedulingGates[{n}]");
        for why in names::label_key(name) {
            problems.invalid(&field, &gate["name"], &why);
        }
        if !gates.insert(name) {
            problems.duplicate(&field, &gate["name"]);
        }
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn weight(wish: &Value, field: &str, problems: &mut Problems) {
    let weight = wish["weight"].as_i64().unwrap_or(0);
    if !(1..=100).contains(&weight) {
        problems.invalid(
            &format!("{field}.weight"),
            &weight.into(),
            "must be in the range 1-100",
        );
    }
}

fn node_affinity(affinity: &Value, field: &str, problems: &mut Problems) {
    let required = &affinity[REQUIRED];
    if required.is_object() {
        let field = format!("{field}.{REQUIRED}.nodeSelectorTerms");
        let terms = items(required, &["nodeSelectorTerms"]);
        if terms.is_empty() {
            problems.required(&field, "must have at least one node selector term");
        }
        for (n, term) in terms.iter().enumerate() {
            node_term(term, &format!("{field}[{n}]"), problems);
        }
    }
    for (n, wish) in items(affinity, &[PREFERRED]).iter().enumerate() {
        let field = format!("{field}.{PREFERRED}[{n}]");
        weight(wish, &field, problems);
        node_term(
            &wish["preference"],
            &format!("{field}.preference"),
            problems,
        );
    }
}

fn node_term(term: &Value, field: &str, problems: &mut Problems) {
    for (n, one) in items(term, &["matchExpressions"]).iter().enumerate() {
        let field = format!("{field}.matchExpressions[{n}]");
        let values = items(one, &["values"]);
        match text(one, &["operator"]) {
            "In" | "NotIn" if values.is_empty() => problems.required(
                &format!("{field}.values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => problems.forbidden(
                &format!("{field}.values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "Gt" | "Lt" if values.len() != 1 => problems.required(
                &format!("{field}.values"),
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            _ => problems.invalid(
                &format!("{field}.operator"),
                &one["operator"],
                "not a valid selector operator",
            ),
        }
        for why in names::label_key(text(one, &["key"])) {
            problems.invalid(&format!("{field}.key"), &one["key"], &why);
        }
    }
    for (n, one) in items(term, &["matchFields"]).iter().enumerate() {
        let field = format!("{field}.matchFields[{n}]");
        match text(one, &["operator"]) {
            "In" | "NotIn" if items(one, &["values"]).len() != 1 => problems.required(
                &format!("{field}.values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            ),
            "In" | "NotIn" => {}
            _ => problems.invalid(
                &format!("{field}.operator"),
                &one["operator"],
                "not a valid selector operator",
            ),
        }
        if one["key"] != "metadata.name" {
            problems.invalid(
                &format!("{field}.key"),
                &one["key"],
                "not a valid field selector key",
            );
        }
    }
}

fn pod_affinity(affinity: &Value, field: &str, problems: &mut Problems) {
    for (n, term) in items(affinity, &[REQUIRED]).iter().enumerate() {
        pod_term(term, &format!("{field}.{REQUIRED}[{n}]"), problems);
    }
    for (n, wish) in items(affinity, &[PREFERRED]).iter().enumerate() {
        let field = format!("{field}.{PREFERRED}[{n}]");
        weight(wish, &field, problems);
        pod_term(
            &wish["podAffinityTerm"],
            &format!("{field}.podAffinityTerm"),
            problems,
        );
    }
}

fn pod_term(term: &Value, field: &str, problems: &mut Problems) {
    for key in ["labelSelector", "namespaceSelector"] {
        label_selector(&term[key], &format!("{field}.{key}"), problems);
    }
    for (n, namespace) in items(term, &["namespaces"]).iter().enumerate() {
        for why in names::dns1123_label(namespace.as_str().unwrap_or_default()) {
            problems.invalid(&format!("{field}.namespaces[{n}]"), namespace, &why);
        }
    }
    let key = text(term, &["topologyKey"]);
    if key.is_empty() {
        problems.required(&format!("{field}.topologyKey"), "can not be empty");
    }
    for why in names::label_key(key)
        .into_iter()
        .filter(|_| !key.is_empty())
    {
        problems.invalid(&format!("{field}.topologyKey"), &key.into(), &why);
    }
    for keys in ["matchLabelKeys", "mismatchLabelKeys"] {
        if !items(term, &[keys]).is_empty() && !term["labelSelector"].is_object() {
            problems.forbidden(
                &format!("{field}.{keys}"),
                "must not be specified when labelSelector is not set",
            );
        }
    }
    let mismatch = items(term, &["mismatchLabelKeys"]);
    for (n, key) in items(term, &["matchLabelKeys"]).iter().enumerate() {
        if mismatch.contains(key) {
            problems.invalid(
                &format!("{field}.matchLabelKeys[{n}]"),
                key,
                "exists in both matchLabelKeys and mismatchLabelKeys",
            );
        }
    }
}

fn spread(spec: &Value, field: &str, problems: &mut Problems) {
    let mut seen = HashSet::new();
    for (n, one) in items(spec, &["topologySpreadConstraints"])
        .iter()
        .enumerate()
    {
        let field = format!("{field}[{n}]");
        let skew = one["maxSkew"].as_i64().unwrap_or(0);
        if skew <= 0 {
            problems.invalid(
                &format!("{field}.maxSkew"),
                &skew.into(),
                "must be greater than 0",
            );
        }
        let (key, action) = (
            text(one, &["topologyKey"]),
            text(one, &["whenUnsatisfiable"]),
        );
        if key.is_empty() {
            problems.required(&format!("{field}.topologyKey"), "can not be empty");
        }
        one_of(
            one,
            "whenUnsatisfiable",
            &["DoNotSchedule", "ScheduleAnyway"],
            &field,
            problems,
        );
        if action.is_empty() {
            problems.not_supported(
                &format!("{field}.whenUnsatisfiable"),
                &"".into(),
                &["DoNotSchedule", "ScheduleAnyway"],
            );
        }
        if !seen.insert((key, action)) {
            let pair = format!("{{{key}, {action}}}");
            problems.duplicate(
                &format!("{field}.{{topologyKey, whenUnsatisfiable}}"),
                &pair.into(),
            );
        }
        if let Some(least) = one["minDomains"].as_i64() {
            if least <= 0 {
                problems.invalid(
                    &format!("{field}.minDomains"),
                    &least.into(),
                    "must be greater than 0",
                );
            } else if action != "DoNotSchedule" {
                problems.invalid(
                    &format!("{field}.minDomains"),
                    &least.into(),
                    &format!(
                        "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                    ),
                );
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            one_of(one, policy, &["Honor", "Ignore"], &field, problems);
        }
        label_selector(
            &one["labelSelector"],
            &format!("{field}.labelSelector"),
            problems,
        );
        if !items(one, &["matchLabelKeys"]).is_empty() && !one["labelSelector"].is_object() {
            problems.forbidden(
                &format!("{field}.matchLabelKeys"),
                "must not be specified when labelSelector is not set",
            );
        }
        for key in items(one, &["matchLabelKeys"]) {
            for why in names::label_key(key.as_str().unwrap_or_default()) {
                problems.invalid(&format!("{field}.matchLabelKeys"), key, &why);
            }
        }
    }
}
