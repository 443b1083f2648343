//! Validation of HorizontalPodAutoscalers (in v2 form) and of scale subresources, with upstream's errors in upstream's
//! order.
//!
//! Source followed: `pkg/apis/autoscaling/validation/validation.go`. An update may keep a target reference that was
//! stored before its group was asked for, as upstream's `AllowInvalidAPIVersion` has it.

use serde_json::Value;

use super::{Problems, names};
use crate::object::{at, items, text};
use crate::quantity::Quantity;

/// Upstream's limits on windows and periods, in seconds.
const WINDOW_SECONDS_MAX: i64 = 3600;
const PERIOD_SECONDS_MAX: i64 = 1800;
/// `minReplicas` may be 0 (HPAScaleToZero) if a metric exists without pods.
const MIN_REPLICAS_LEAST: i64 = 0;
const SOURCES: [&str; 5] = [
    "ContainerResource",
    "External",
    "Object",
    "Pods",
    "Resource",
];

/// Validates a specification as it stands after defaulting.
pub fn hpa(object: &Value, problems: &mut Problems) {
    hpa_from(object, MIN_REPLICAS_LEAST, problems);
}

/// The same, with 1 for `least` as servers without HPAScaleToZero have it.
pub fn hpa_from(object: &Value, least: i64, problems: &mut Problems) {
    let spec = &object["spec"];
    let metrics = items(spec, &["metrics"]);
    let (minimum, maximum) = (
        spec["minReplicas"].as_i64(),
        spec["maxReplicas"].as_i64().unwrap_or(0),
    );
    if let Some(minimum) = minimum.filter(|minimum| *minimum < least) {
        problems.invalid(
            "spec.minReplicas",
            &minimum.into(),
            &format!("must be greater than or equal to {least}"),
        );
    }
    if maximum < 1 {
        problems.invalid(
            "spec.maxReplicas",
            &maximum.into(),
            "must be greater than 0",
        );
    }
    if minimum.is_some_and(|minimum| maximum < minimum) {
        problems.invalid(
            "spec.maxReplicas",
            &maximum.into(),
            "must be greater than or equal to `minReplicas`",
        );
    }
    // The one scalable kind of the core group may leave the group out.
    let needs_group = text(spec, &["scaleTargetRef", "kind"]) != "ReplicationController";
    reference(
        &spec["scaleTargetRef"],
        "spec.scaleTargetRef",
        needs_group,
        problems,
    );
    for (n, one) in metrics.iter().enumerate() {
        metric(one, &format!("spec.metrics[{n}]"), problems);
    }
    let outside = |metric: &Value| matches!(text(metric, &["type"]), "Object" | "External");
    if minimum == Some(0) && !metrics.iter().any(outside) {
        problems.forbidden(
            "spec.metrics",
            "must specify at least one Object or External metric to support scaling to zero replicas",
        );
    }
    for (key, rules) in ["scaleUp", "scaleDown"]
        .iter()
        .filter_map(|k| Some((k, at(spec, &["behavior", k])?)))
    {
        scaling_rules(rules, &format!("spec.behavior.{key}"), problems);
    }
}

/// An update may keep a reference that would not be taken today.
pub fn hpa_update(new: &Value, old: &Value, problems: &mut Problems) {
    const FIELD: &str = "spec.scaleTargetRef.apiVersion";
    if new["spec"]["scaleTargetRef"] == old["spec"]["scaleTargetRef"] {
        problems.0.retain(|cause| cause.field != FIELD);
    }
}

/// Validates a scale subresource's wanted size.
pub fn scale(object: &Value, problems: &mut Problems) {
    let replicas = object["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 {
        problems.invalid(
            "spec.replicas",
            &replicas.into(),
            "must be greater than or equal to 0",
        );
    }
}

fn reference(reference: &Value, path: &str, needs_group: bool, problems: &mut Problems) {
    for key in ["kind", "name"] {
        let value = text(reference, &[key]);
        let field = format!("{path}.{key}");
        if value.is_empty() {
            problems.required(&field, "");
        }
        for why in names::path_segment(value) {
            problems.invalid(&field, &value.into(), &why);
        }
    }
    let version = text(reference, &["apiVersion"]);
    let field = format!("{path}.apiVersion");
    if version.split('/').count() > 2 {
        let why = format!("unexpected GroupVersion string: {version}");
        problems.invalid(&field, &version.into(), &why);
    } else if needs_group
        && version
            .split_once('/')
            .is_none_or(|(group, _)| group.is_empty())
    {
        problems.invalid(&field, &version.into(), "apiVersion must specify API group");
    }
}

fn metric(metric: &Value, field: &str, problems: &mut Problems) {
    let kind = text(metric, &["type"]);
    let type_field = format!("{field}.type");
    if kind.is_empty() {
        problems.required(&type_field, "must specify a metric source type");
    }
    let known = SOURCES.contains(&kind);
    if !known {
        // Upstream says it where it looks for the type and where it looks for the type's source.
        problems.not_supported(&type_field, &kind.into(), &SOURCES);
    }
    let present = sources(metric, field, problems);
    let expected = match kind {
        "Object" => "object",
        "Pods" => "pods",
        "Resource" => "resource",
        "External" => "external",
        "ContainerResource" => "containerResource",
        _ => {
            problems.not_supported(&type_field, &kind.into(), &SOURCES);
            ""
        }
    };
    if known && !present.contains(&expected) {
        problems.required(
            &format!("{field}.{expected}"),
            "must populate information for the given metric source",
        );
    }
    if present.len() != 1 {
        for source in present.into_iter().filter(|source| *source != expected) {
            problems.forbidden(
                &format!("{field}.{source}"),
                "must populate the given metric source only",
            );
        }
    }
}

/// The sources that are given; only the first is looked into.
fn sources(metric: &Value, field: &str, problems: &mut Problems) -> Vec<&'static str> {
    let given = |key: &&str| at(metric, &[key]).is_some();
    let order = [
        "object",
        "external",
        "pods",
        "resource",
        "containerResource",
    ];
    let present: Vec<&'static str> = order.into_iter().filter(given).collect();
    if let Some(first) = present.first() {
        source(first, &metric[first], &format!("{field}.{first}"), problems);
    }
    present
}

fn source(key: &str, source: &Value, field: &str, problems: &mut Problems) {
    let given = |name: &str| at(source, &["target", name]).is_some();
    match key {
        "resource" | "containerResource" => {
            if text(source, &["name"]).is_empty() {
                problems.required(&format!("{field}.name"), "must specify a resource name");
            }
            if key == "containerResource" {
                container(text(source, &["container"]), field, problems);
            }
        }
        _ => {
            if key == "object" {
                let described = format!("{field}.describedObject");
                reference(&source["describedObject"], &described, false, problems);
            }
            identifier(text(source, &["metric", "name"]), field, problems);
        }
    }
    target(&source["target"], &format!("{field}.target"), problems);
    let (value, average, utilization) = (
        given("value"),
        given("averageValue"),
        given("averageUtilization"),
    );
    let average_field = format!("{field}.target.averageValue");
    match key {
        "object" if !value && !average => problems.required(
            &average_field,
            "must set either a target value or averageValue",
        ),
        "external" if !value && !average => problems.required(
            &average_field,
            "must set either a target value for metric or a per-pod target",
        ),
        "external" if value && average => problems.forbidden(
            &format!("{field}.target.value"),
            "may not set both a target value for metric and a per-pod target",
        ),
        "pods" if !average => {
            problems.required(
                &average_field,
                "must specify a positive target averageValue",
            );
        }
        "resource" | "containerResource" if !utilization && !average => problems.required(
            &format!("{field}.target.averageUtilization"),
            "must set either a target raw value or a target utilization",
        ),
        "resource" | "containerResource" if utilization && average => problems.forbidden(
            &average_field,
            "may not set both a target raw value and a target utilization",
        ),
        _ => {}
    }
}

fn container(name: &str, field: &str, problems: &mut Problems) {
    let field = format!("{field}.container");
    if name.is_empty() {
        problems.required(&field, "must specify a container");
        return;
    }
    for why in names::dns1123_label(name) {
        problems.invalid(&field, &name.into(), &why);
    }
}

fn identifier(name: &str, field: &str, problems: &mut Problems) {
    let field = format!("{field}.metric.name");
    if name.is_empty() {
        problems.required(&field, "must specify a metric name");
    }
    for why in names::path_segment(name) {
        problems.invalid(&field, &name.into(), &why);
    }
}

fn target(target: &Value, field: &str, problems: &mut Problems) {
    let kind = text(target, &["type"]);
    let type_field = format!("{field}.type");
    if kind.is_empty() {
        problems.required(&type_field, "must specify a metric target type");
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind) {
        problems.invalid(
            &type_field,
            &kind.into(),
            "must be either Utilization, Value, or AverageValue",
        );
    }
    for key in ["value", "averageValue"] {
        let wrong = |value: &&Value| !has_sign(value, |sign| sign > 0);
        if let Some(value) = at(target, &[key]).filter(wrong) {
            problems.invalid(&format!("{field}.{key}"), value, "must be positive");
        }
    }
    if let Some(percent) = target["averageUtilization"].as_i64().filter(|p| *p < 1) {
        problems.invalid(
            &format!("{field}.averageUtilization"),
            &percent.into(),
            "must be greater than 0",
        );
    }
}

fn scaling_rules(rules: &Value, field: &str, problems: &mut Problems) {
    if let Some(window) = rules["stabilizationWindowSeconds"].as_i64() {
        let field = format!("{field}.stabilizationWindowSeconds");
        if window < 0 {
            problems.invalid(
                &field,
                &window.into(),
                "must be greater than or equal to zero",
            );
        }
        if window > WINDOW_SECONDS_MAX {
            problems.invalid(
                &field,
                &window.into(),
                &format!("must be less than or equal to {WINDOW_SECONDS_MAX}"),
            );
        }
    }
    super::one_of(
        rules,
        "selectPolicy",
        &["Disabled", "Max", "Min"],
        field,
        problems,
    );
    let policies = items(rules, &["policies"]);
    if policies.is_empty() {
        problems.required(
            &format!("{field}.policies"),
            "must specify at least one Policy",
        );
    }
    for (n, one) in policies.iter().enumerate() {
        policy(one, &format!("{field}.policies[{n}]"), problems);
    }
    let negative = |value: &&Value| has_sign(value, |sign| sign < 0);
    if let Some(tolerance) = at(rules, &["tolerance"]).filter(negative) {
        problems.invalid(
            &format!("{field}.tolerance"),
            tolerance,
            "must be greater than or equal to 0",
        );
    }
}

fn policy(policy: &Value, field: &str, problems: &mut Problems) {
    let kind = text(policy, &["type"]);
    if !["Percent", "Pods"].contains(&kind) {
        problems.not_supported(&format!("{field}.type"), &kind.into(), &["Percent", "Pods"]);
    }
    for key in ["value", "periodSeconds"] {
        let number = policy[key].as_i64().unwrap_or(0);
        if number <= 0 {
            problems.invalid(
                &format!("{field}.{key}"),
                &number.into(),
                "must be greater than zero",
            );
        }
        if key == "periodSeconds" && number > PERIOD_SECONDS_MAX {
            problems.invalid(
                &format!("{field}.{key}"),
                &number.into(),
                &format!("must be less than or equal to {PERIOD_SECONDS_MAX}"),
            );
        }
    }
}

/// Whether a value is a quantity of such a sign.
fn has_sign(value: &Value, is: fn(i32) -> bool) -> bool {
    let written = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    written
        .parse::<Quantity>()
        .is_ok_and(|quantity| is(quantity.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Kubernetes' own table, from the shared data folder beside the repository.
    #[test]
    fn upstreams_table() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../../shared/data/hpa/hpa_validation.json");
        let Ok(text) = std::fs::read_to_string(&path) else {
            eprintln!(
                "SKIPPED: {} is missing; Kubernetes' table was NOT checked",
                path.display()
            );
            return;
        };
        let file: Value = serde_json::from_str(&text).expect("JSON");
        let cases = file["cases"].as_array().expect("cases");
        for case in cases {
            let mut problems = Problems::default();
            if case["table"] == "validate_scale" {
                scale(&case["object"], &mut problems);
            } else {
                let least = case["minReplicasLowerBound"].as_i64().expect("a bound");
                hpa_from(&case["object"], least, &mut problems);
            }
            let found: Vec<String> = problems
                .0
                .iter()
                .map(|cause| format!("{}: {}", cause.field, cause.message))
                .collect();
            let expected = &case["expected"];
            let name = &case["name"];
            assert_eq!(
                expected["valid"] == true,
                found.is_empty(),
                "{name}: {found:?}"
            );
            if let Some(part) = expected["firstErrorContains"].as_str() {
                assert!(found[0].contains(part), "{name}: {part:?} in {found:?}");
            }
        }
        assert!(cases.len() >= 55, "only {} rows", cases.len());
    }

    fn autoscaler(change: impl FnOnce(&mut Value)) -> Value {
        let mut object = json!({"spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 1, "maxReplicas": 3,
            "metrics": [{"type": "Resource", "resource":
                {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}],
        }});
        change(&mut object["spec"]);
        object
    }

    fn found(object: &Value) -> Vec<String> {
        let mut problems = Problems::default();
        hpa(object, &mut problems);
        let each = problems.0.iter();
        each.map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect()
    }

    #[test]
    fn what_the_table_leaves_out() {
        let none: [&str; 0] = [];
        assert_eq!(found(&autoscaler(|_| {})), none);
        let zero = "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas";
        assert_eq!(
            found(&autoscaler(|spec| spec["minReplicas"] = json!(0))),
            [zero]
        );
        let below = "spec.minReplicas: Invalid value: -1: must be greater than or equal to 0";
        assert_eq!(
            found(&autoscaler(|spec| spec["minReplicas"] = json!(-1))),
            [below]
        );
        let two = autoscaler(|spec| {
            spec["metrics"][0]["pods"] = json!({"metric": {"name": "qps"}, "target": {"type": "AverageValue", "averageValue": "1"}});
        });
        let only = "spec.metrics[0].pods: Forbidden: must populate the given metric source only";
        assert_eq!(found(&two), [only]);
        for quantity in [
            json!("0"),
            json!("-1"),
            json!(0),
            json!(-5),
            json!("nonsense"),
        ] {
            let object = autoscaler(|spec| {
                spec["metrics"][0]["resource"]["target"] =
                    json!({"type": "AverageValue", "averageValue": quantity});
            });
            let field = "spec.metrics[0].resource.target.averageValue: Invalid value: ";
            let found = found(&object);
            assert!(found[0].starts_with(field), "{quantity}: {found:?}");
        }
        for version in ["v1", "", "/v1"] {
            let object = autoscaler(|spec| spec["scaleTargetRef"]["apiVersion"] = json!(version));
            assert_eq!(found(&object).len(), 1, "{version:?}");
        }
        let many = autoscaler(|spec| spec["scaleTargetRef"]["apiVersion"] = json!("a/b/c"));
        assert!(found(&many)[0].contains("unexpected GroupVersion string: a/b/c"));
    }

    #[test]
    fn an_update_may_keep_a_reference_without_its_group() {
        let old = autoscaler(|spec| spec["scaleTargetRef"]["apiVersion"] = json!("v1"));
        let check = |new: &Value| {
            let mut problems = Problems::default();
            hpa(new, &mut problems);
            hpa_update(new, &old, &mut problems);
            problems.0.len()
        };
        assert_eq!(check(&old), 0);
        let mut other = old.clone();
        other["spec"]["scaleTargetRef"]["name"] = json!("other");
        assert_eq!(check(&other), 1);
    }
}
