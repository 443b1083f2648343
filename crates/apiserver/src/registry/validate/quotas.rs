//! Validation of ResourceQuotas (upstream `pkg/apis/core/validation`).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Problems, names};
use crate::object::{items, text};

/// What a quota may limit without a domain, other than huge pages.
pub(super) const OF_QUOTAS: [&str; 19] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];
const NUMBERS: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
const OF_PODS: [&str; 7] = [
    "pods",
    "cpu",
    "memory",
    "limits.cpu",
    "limits.memory",
    "requests.cpu",
    "requests.memory",
];
const OF_CLAIMS: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];
const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

pub(super) fn is_huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-") || name.starts_with("requests.hugepages-")
}

pub(super) fn qualified(name: &str, field: &str, problems: &mut Problems) -> bool {
    let whys = names::label_key(name);
    for why in &whys {
        problems.invalid(field, &name.into(), why);
    }
    whys.is_empty()
}

pub fn resource_quota(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    amounts(&spec["hard"], "spec.hard", problems);
    let limited: Vec<&str> = spec["hard"]
        .as_object()
        .into_iter()
        .flat_map(|hard| hard.keys().map(String::as_str))
        .collect();
    scopes(items(spec, &["scopes"]), &limited, problems);
    let field = "spec.scopeSelector.matchExpressions";
    let expressions = items(spec, &["scopeSelector", "matchExpressions"]);
    for expression in expressions {
        selected(
            expression,
            &limited,
            &spec["scopeSelector"],
            field,
            problems,
        );
    }
    let named: Vec<&str> = expressions
        .iter()
        .map(|expression| text(expression, &["scopeName"]))
        .collect();
    conflicts(&named, field, &spec["scopes"], problems);
}

fn amounts(map: &Value, field: &str, problems: &mut Problems) {
    for (name, value) in map.as_object().into_iter().flatten() {
        let field = format!("{field}[{name}]");
        if qualified(name, &field, problems)
            && !name.contains('/')
            && !OF_QUOTAS.contains(&name.as_str())
            && !is_huge_pages(name)
        {
            let why = "must be a standard resource for quota";
            problems.invalid(&field, &name.as_str().into(), why);
        }
        let Some(amount) = quota::parse(value) else {
            problems.invalid(&field, value, "must be a quantity");
            continue;
        };
        if amount.sign() < 0 {
            let shown = amount.to_string().into();
            problems.invalid(&field, &shown, "must be greater than or equal to 0");
        }
        let whole = NUMBERS.contains(&name.as_str())
            || name.contains('/')
                && !name.contains("kubernetes.io/")
                && !name.starts_with("requests.");
        if whole && amount.milli_value() % 1000 != 0 {
            problems.invalid(&field, &amount.to_string().into(), "must be an integer");
        }
    }
}

/// Whether a scope can be about a resource; upstream asks only about those without a domain.
fn applies(scope: &str, resource: &str) -> bool {
    if !OF_QUOTAS.contains(&resource) && !is_huge_pages(resource) {
        return true;
    }
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => OF_CLAIMS.contains(&resource),
        scope if SCOPES.contains(&scope) => OF_PODS.contains(&resource),
        _ => true,
    }
}

fn scopes(given: &[Value], limited: &[&str], problems: &mut Problems) {
    let field = "spec.scopes";
    let names: Vec<&str> = given.iter().filter_map(Value::as_str).collect();
    for scope in &names {
        if !SCOPES.contains(scope) {
            problems.invalid(field, &json!(given), "unsupported scope");
        }
        for _ in limited.iter().filter(|resource| !applies(scope, resource)) {
            let why = "unsupported scope applied to resource";
            problems.invalid(field, &json!(given), why);
        }
    }
    conflicts(&names, field, &json!(given), problems);
}

fn conflicts(names: &[&str], field: &str, shown: &Value, problems: &mut Problems) {
    for [one, other] in [
        ["BestEffort", "NotBestEffort"],
        ["Terminating", "NotTerminating"],
    ] {
        if names.contains(&one) && names.contains(&other) {
            problems.invalid(field, shown, "conflicting scopes");
        }
    }
}

fn selected(
    expression: &Value,
    limited: &[&str],
    selector: &Value,
    field: &str,
    problems: &mut Problems,
) {
    let scope = text(expression, &["scopeName"]);
    if !SCOPES.contains(&scope) {
        let why = "unsupported scope";
        problems.invalid(&format!("{field}.scopeName"), &scope.into(), why);
    }
    for _ in limited.iter().filter(|resource| !applies(scope, resource)) {
        problems.invalid(field, selector, "unsupported scope applied to resource");
    }
    let operator = &expression["operator"];
    let of_operator = format!("{field}.operator");
    let classes = ["PriorityClass", "VolumeAttributesClass"];
    if SCOPES.contains(&scope) && !classes.contains(&scope) && operator != "Exists" {
        let why = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
        problems.invalid(&of_operator, operator, why);
    }
    let values = items(expression, &["values"]);
    match operator.as_str().unwrap_or_default() {
        "In" | "NotIn" if values.is_empty() => {
            let why =
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            problems.required(&format!("{field}.values"), why);
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why =
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            problems.invalid(&format!("{field}.values"), &json!(values), why);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => problems.invalid(&of_operator, operator, "not a valid selector operator"),
    }
}

pub fn resource_quota_update(new: &Value, old: &Value, problems: &mut Problems) {
    let scopes = |quota: &Value| -> BTreeSet<String> {
        let scopes = items(quota, &["spec", "scopes"]).iter();
        scopes
            .filter_map(|scope| scope.as_str().map(str::to_owned))
            .collect()
    };
    if scopes(new) != scopes(old) {
        let given = json!(items(new, &["spec", "scopes"]));
        problems.invalid("spec.scopes", &given, "field is immutable");
    }
}

pub fn resource_quota_status(new: &mut Value, _: &Value, _: &str, problems: &mut Problems) {
    for part in ["hard", "used"] {
        amounts(&new["status"][part], &format!("status.{part}"), problems);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::validate::said;

    #[test]
    fn quotas() {
        let quota = |spec: Value| json!({"spec": spec});
        let good = quota(
            json!({"hard": {"pods": "2", "requests.cpu": "1", "count/jobs.batch": "3", "requests.example.com/gpu": "1",
            "gold.storageclass.storage.k8s.io/requests.storage": "1Gi"}, "scopes": ["NotTerminating"]}),
        );
        assert_eq!(said(|p| resource_quota(&good, p)), [""; 0]);
        for (bad, expected) in [
            (
                json!({"hard": {"things": "1"}}),
                "spec.hard[things]: Invalid value: \"things\": must be a standard resource for quota",
            ),
            (
                json!({"hard": {"pods": "-1"}}),
                "spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
            (
                json!({"hard": {"pods": "1500m"}}),
                "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
            ),
            (
                json!({"hard": {"secrets": "1"}, "scopes": ["BestEffort"]}),
                "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource",
            ),
            (
                json!({"scopes": ["BestEffort", "NotBestEffort"]}),
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
            ),
            (
                json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}}),
                "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ),
        ] {
            assert_eq!(said(|p| resource_quota(&quota(bad.clone()), p)), [expected]);
        }
        let other = quota(json!({"scopes": ["Terminating"]}));
        assert_eq!(said(|p| resource_quota_update(&other, &good, p)).len(), 1);
    }
}
