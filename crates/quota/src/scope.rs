//! Scopes: which pods and claims a quota is about at all.

use serde_json::Value;

use crate::pod::is_best_effort;
use crate::{at, items, text};

/// What a quota's scopes and scope selector ask of an object, all of which must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    name: String,
    operator: String,
    values: Vec<String>,
}

/// The scopes of a quota.
pub fn of_quota(quota: &Value) -> Vec<Wanted> {
    let scopes = items(quota, &["spec", "scopes"]).iter().map(|name| Wanted {
        name: name.as_str().unwrap_or_default().to_owned(),
        operator: "Exists".to_owned(),
        values: Vec::new(),
    });
    let selected = items(quota, &["spec", "scopeSelector", "matchExpressions"]);
    let selected = selected.iter().map(|expression| Wanted {
        name: text(expression, &["scopeName"]).to_owned(),
        operator: text(expression, &["operator"]).to_owned(),
        values: items(expression, &["values"])
            .iter()
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect(),
    });
    scopes.chain(selected).collect()
}

/// Whether an object (`plural` of the core group) is within all of `wanted`. Other kinds than pods and claims are in none.
pub fn contain(wanted: &[Wanted], plural: &str, object: &Value) -> bool {
    wanted.iter().all(|wanted| match plural {
        "pods" => pod(wanted, object),
        "persistentvolumeclaims" => claim(wanted, object),
        _ => false,
    })
}

fn pod(wanted: &Wanted, pod: &Value) -> bool {
    let spec = &pod["spec"];
    let terminating = at(spec, &["activeDeadlineSeconds"])
        .and_then(Value::as_i64)
        .is_some_and(|seconds| seconds >= 0);
    match wanted.name.as_str() {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => is_best_effort(spec),
        "NotBestEffort" => !is_best_effort(spec),
        "PriorityClass" => named(wanted, text(spec, &["priorityClassName"])),
        "CrossNamespacePodAffinity" => crosses(spec),
        _ => false,
    }
}

fn claim(wanted: &Wanted, claim: &Value) -> bool {
    let named_by = [
        text(claim, &["spec", "volumeAttributesClassName"]),
        text(claim, &["status", "currentVolumeAttributesClassName"]),
        text(
            claim,
            &[
                "status",
                "modifyVolumeStatus",
                "targetVolumeAttributesClassName",
            ],
        ),
    ];
    wanted.name == "VolumeAttributesClass"
        && match wanted.operator.as_str() {
            "Exists" | "In" => named_by.iter().any(|class| named(wanted, class)),
            _ => named_by.iter().all(|class| named(wanted, class)),
        }
}

/// Whether the name of a class (empty: none) is among those that are wanted.
fn named(wanted: &Wanted, class: &str) -> bool {
    let listed = wanted.values.iter().any(|value| value == class);
    match wanted.operator.as_str() {
        "Exists" => !class.is_empty(),
        "DoesNotExist" => class.is_empty(),
        "In" => !class.is_empty() && listed,
        // a label selector's NotIn holds where there is no label
        "NotIn" => class.is_empty() || !listed,
        _ => false,
    }
}

/// Whether a pod's affinity looks into other namespaces than its own.
fn crosses(spec: &Value) -> bool {
    let term = |term: &Value| {
        !items(term, &["namespaces"]).is_empty() || at(term, &["namespaceSelector"]).is_some()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let affinity = &spec["affinity"][kind];
        items(
            affinity,
            &["requiredDuringSchedulingIgnoredDuringExecution"],
        )
        .iter()
        .any(term)
            || items(
                affinity,
                &["preferredDuringSchedulingIgnoredDuringExecution"],
            )
            .iter()
            .any(|weighted| term(&weighted["podAffinityTerm"]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_are_in_scopes() {
        let plain = json!({"spec": {"containers": [{"name": "c"}]}});
        let asking = json!({"spec": {"activeDeadlineSeconds": 5, "priorityClassName": "high",
            "containers": [{"resources": {"requests": {"cpu": "1"}}}]}});
        let across = json!({"spec": {"containers": [], "affinity": {"podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": {"namespaces": ["other"]}}]}}}});
        let within = |spec: Value, pod: &Value| {
            let wanted = of_quota(&json!({"spec": spec}));
            contain(&wanted, "pods", pod)
        };
        for (scopes, of_plain, of_asking) in [
            (json!([]), true, true),
            (json!(["Terminating"]), false, true),
            (json!(["NotTerminating", "BestEffort"]), true, false),
            (json!(["NotBestEffort"]), false, true),
            (json!(["PriorityClass"]), false, true),
            (json!(["Unheard"]), false, false),
        ] {
            let spec = json!({"scopes": scopes});
            assert_eq!(within(spec.clone(), &plain), of_plain, "{spec}");
            assert_eq!(within(spec.clone(), &asking), of_asking, "{spec}");
        }
        assert!(within(
            json!({"scopes": ["CrossNamespacePodAffinity"]}),
            &across
        ));
        for (operator, values, of_plain, of_asking) in [
            ("In", json!(["high"]), false, true),
            ("In", json!(["low"]), false, false),
            ("NotIn", json!(["high"]), true, false),
            ("DoesNotExist", json!([]), true, false),
        ] {
            let spec = json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": values}]}});
            assert_eq!(within(spec.clone(), &plain), of_plain, "{spec}");
            assert_eq!(within(spec.clone(), &asking), of_asking, "{spec}");
        }
        let wanted = of_quota(&json!({"spec": {"scopes": ["BestEffort"]}}));
        assert!(!contain(&wanted, "services", &plain));
    }
}
