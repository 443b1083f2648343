//! Validation of LimitRanges (upstream `pkg/apis/core/validation`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Problems;
use super::quotas::{OF_QUOTAS, is_huge_pages, qualified};
use crate::object::{at, items, text};
use crate::quantity::Quantity;

const TYPES: [&str; 3] = ["Container", "PersistentVolumeClaim", "Pod"];
const OF_CONTAINERS: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

pub fn limit_range(object: &Value, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for (n, item) in items(object, &["spec", "limits"]).iter().enumerate() {
        let field = format!("spec.limits[{n}]");
        let kind = text(item, &["type"]);
        let of_type = format!("{field}.type");
        if qualified(kind, &of_type, problems) && !kind.contains('/') && !TYPES.contains(&kind) {
            let why = "must be a standard limit type or fully qualified";
            problems.invalid(&of_type, &kind.into(), why);
        }
        if !seen.insert(kind) {
            problems.duplicate(&of_type, &kind.into());
        }
        limits(item, kind, &field, problems);
    }
}

const PARTS: [&str; 5] = [
    "max",
    "min",
    "default",
    "defaultRequest",
    "maxLimitRequestRatio",
];

fn limits(item: &Value, kind: &str, field: &str, problems: &mut Problems) {
    let mut given: BTreeMap<String, BTreeMap<&str, Quantity>> = BTreeMap::new();
    for part in PARTS {
        let map = item[part].as_object();
        if kind == "Pod" && part.starts_with("default") {
            if map.is_some_and(|map| !map.is_empty()) {
                let why = "may not be specified when `type` is 'Pod'";
                problems.forbidden(&format!("{field}.{part}"), why);
            }
            continue;
        }
        for (name, value) in map.into_iter().flatten() {
            let of_name = format!("{field}.{part}[{name}]");
            resource_name(name, kind, &of_name, problems);
            match quota::parse(value) {
                Some(amount) => drop(given.entry(name.clone()).or_default().insert(part, amount)),
                None => problems.invalid(&of_name, value, "must be a quantity"),
            }
        }
    }
    let stored = |part: &str| at(item, &[part, "storage"]).is_some();
    if kind == "PersistentVolumeClaim" && !stored("min") && !stored("max") {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        problems.required(&format!("{field}.limits"), why);
    }
    for (name, amounts) in &given {
        compare(name, amounts, field, problems);
    }
}

fn resource_name(name: &str, kind: &str, field: &str, problems: &mut Problems) {
    if !qualified(name, field, problems) || name.contains('/') {
        return;
    }
    let standard = OF_QUOTAS.contains(&name) || name == "storage" || is_huge_pages(name);
    if !standard {
        let why = "must be a standard resource type or fully qualified";
        problems.invalid(field, &name.into(), why);
    }
    let of_container = OF_CONTAINERS.contains(&name) || name.starts_with("hugepages-");
    if matches!(kind, "Container" | "Pod") && !of_container {
        let why = "must be a standard resource for containers";
        problems.invalid(field, &name.into(), why);
    }
}

fn compare(name: &str, of: &BTreeMap<&str, Quantity>, field: &str, problems: &mut Problems) {
    let shown = |amount: &Quantity| json!(amount.to_string());
    // smaller part, what it is called, larger part, what it is called, where it is told, whose value is shown
    for (less, less_name, more, more_name, told, value) in [
        ("min", "min", "max", "max", "min", "min"),
        (
            "min",
            "min",
            "defaultRequest",
            "default request",
            "defaultRequest",
            "defaultRequest",
        ),
        (
            "defaultRequest",
            "default request",
            "max",
            "max",
            "defaultRequest",
            "defaultRequest",
        ),
        (
            "defaultRequest",
            "default request",
            "default",
            "default limit",
            "defaultRequest",
            "defaultRequest",
        ),
        ("min", "min", "default", "default", "default", "min"),
        ("default", "default", "max", "max", "default", "max"),
    ] {
        let (Some(small), Some(large)) = (of.get(less), of.get(more)) else {
            continue;
        };
        if small > large {
            let why =
                format!("{less_name} value {small} is greater than {more_name} value {large}");
            let value = shown(of.get(value).unwrap_or(small));
            problems.invalid(&format!("{field}.{told}[{name}]"), &value, &why);
        }
    }
    let Some(ratio) = of.get("maxLimitRequestRatio") else {
        return;
    };
    let of_ratio = format!("{field}.maxLimitRequestRatio[{name}]");
    if ratio.milli_value() < 1000 {
        let why = format!("ratio {ratio} is less than 1");
        problems.invalid(&of_ratio, &shown(ratio), &why);
    }
    if let (Some(min), Some(max)) = (of.get("min"), of.get("max"))
        && ratio.as_f64() > max.as_f64() / min.as_f64()
    {
        let most = max.as_f64() / min.as_f64();
        let why = format!("ratio {ratio} is greater than max/min = {most:.6}");
        problems.invalid(&of_ratio, &shown(ratio), &why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::validate::said;

    #[test]
    fn ranges() {
        let range = |item: Value| json!({"spec": {"limits": [item]}});
        let good = range(
            json!({"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "100m"}, "default": {"cpu": "1"},
            "defaultRequest": {"cpu": "500m"}, "maxLimitRequestRatio": {"cpu": "4"}}),
        );
        assert_eq!(said(|p| limit_range(&good, p)), [""; 0]);
        for (bad, expected) in [
            (
                json!({"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "2"}}),
                "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
            ),
            (
                json!({"type": "Container", "max": {"cpu": "1"}, "default": {"cpu": "2"}}),
                "spec.limits[0].default[cpu]: Invalid value: \"1\": default value 2 is greater than max value 1",
            ),
            (
                json!({"type": "Pod", "default": {"cpu": "2"}}),
                "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
            ),
            (
                json!({"type": "PersistentVolumeClaim"}),
                "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
            ),
            (
                json!({"type": "Thing"}),
                "spec.limits[0].type: Invalid value: \"Thing\": must be a standard limit type or fully qualified",
            ),
            (
                json!({"type": "Container", "max": {"storage": "1"}}),
                "spec.limits[0].max[storage]: Invalid value: \"storage\": must be a standard resource for containers",
            ),
            (
                json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "3"}, "max": {"cpu": "2"}, "min": {"cpu": "1"}}),
                "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000",
            ),
        ] {
            assert_eq!(said(|p| limit_range(&range(bad.clone()), p)), [expected]);
        }
        let twice = json!({"spec": {"limits": [{"type": "Pod"}, {"type": "Pod"}]}});
        assert_eq!(
            said(|p| limit_range(&twice, p)),
            ["spec.limits[1].type: Duplicate value: \"Pod\""]
        );
    }
}
