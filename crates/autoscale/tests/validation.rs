//! The bounds of a specification: the last value that is valid and the first that is not.

mod support;

use autoscale::hpa::{validate_autoscaler, validate_scale};
use serde_json::{Value, json};

/// A specification that is valid.
fn valid() -> Value {
    serde_json::to_value(support::spec(1, 5, Value::Null)).expect("a specification")
}

/// What is wrong with it, error by error.
fn errors(spec: &Value, least: i32) -> Vec<String> {
    let spec = serde_json::from_value(spec.clone()).expect("the form of a specification");
    let errors = validate_autoscaler(&spec, least);
    errors.iter().map(ToString::to_string).collect()
}

fn outside(kind: &str) -> Value {
    let source = match kind {
        "Object" => json!({
            "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "web"},
            "metric": {"name": "hits"}, "target": {"type": "Value", "value": "5"},
        }),
        _ => json!({"metric": {"name": "hits"}, "target": {"type": "Value", "value": "5"}}),
    };
    json!({"type": kind, kind.to_lowercase(): source})
}

#[test]
fn sizes() {
    for (minimum, maximum, least, expected) in [
        (1, 1, 1, vec![]),
        (
            0,
            1,
            1,
            vec![
                "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
                "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
            ],
        ),
        (
            2,
            1,
            1,
            vec![
                "spec.maxReplicas: Invalid value: 1: must be greater than or equal to `minReplicas`",
            ],
        ),
        (
            1,
            0,
            1,
            vec![
                "spec.maxReplicas: Invalid value: 0: must be greater than 0",
                "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
            ],
        ),
        (
            -1,
            -1,
            0,
            vec![
                "spec.minReplicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.maxReplicas: Invalid value: -1: must be greater than 0",
            ],
        ),
    ] {
        let mut spec = valid();
        spec["minReplicas"] = minimum.into();
        spec["maxReplicas"] = maximum.into();
        assert_eq!(errors(&spec, least), expected, "{minimum} to {maximum}");
    }
}

#[test]
fn to_zero_only_with_a_metric_from_outside() {
    let alone = "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas";
    let resource = valid()["metrics"][0].clone();
    for (metrics, expected) in [
        (json!([resource]), vec![alone]),
        (json!([]), vec![alone]),
        (json!([outside("Object")]), vec![]),
        (json!([outside("External")]), vec![]),
        (json!([resource, outside("External")]), vec![]),
    ] {
        let mut spec = valid();
        spec["metrics"] = metrics.clone();
        spec["minReplicas"] = 0.into();
        assert_eq!(errors(&spec, 0), expected, "{metrics}");
        spec["minReplicas"] = 1.into();
        assert_eq!(errors(&spec, 0), Vec::<String>::new(), "{metrics}");
    }
}

#[test]
fn a_metric_has_the_source_of_its_type_and_no_other() {
    let (object, external) = (
        outside("Object")["object"].clone(),
        outside("External")["external"].clone(),
    );
    let resource = valid()["metrics"][0]["resource"].clone();
    let only = |source: &str| {
        format!("spec.metrics[0].{source}: Forbidden: must populate the given metric source only")
    };
    let none = |source: &str| {
        format!(
            "spec.metrics[0].{source}: Required value: must populate information for the given metric source"
        )
    };
    for (metric, expected) in [
        (json!({"type": "Resource", "resource": resource}), vec![]),
        (json!({"type": "Resource"}), vec![none("resource")]),
        // One source, of another type: what is missing is told, and not that the other is too much.
        (
            json!({"type": "Resource", "external": external}),
            vec![none("resource")],
        ),
        (
            json!({"type": "Resource", "resource": resource, "object": object, "external": external}),
            vec![only("object"), only("external")],
        ),
        (
            json!({"type": "External", "external": external, "object": object}),
            vec![only("object")],
        ),
    ] {
        let mut spec = valid();
        spec["metrics"] = json!([metric]);
        assert_eq!(errors(&spec, 1), expected, "{metric}");
    }
}

#[test]
fn utilization() {
    let wrong = "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0";
    for (percent, expected) in [(0, vec![wrong]), (1, vec![]), (1000, vec![])] {
        let mut spec = valid();
        spec["metrics"][0]["resource"]["target"]["averageUtilization"] = percent.into();
        assert_eq!(errors(&spec, 1), expected, "{percent}");
    }
}

#[test]
fn windows_and_periods() {
    let field = "spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value:";
    for (window, expected) in [
        (
            -1,
            vec![format!("{field} -1: must be greater than or equal to zero")],
        ),
        (0, vec![]),
        (3600, vec![]),
        (
            3601,
            vec![format!("{field} 3601: must be less than or equal to 3600")],
        ),
    ] {
        let mut spec = valid();
        spec["behavior"] = json!({"scaleDown": {"stabilizationWindowSeconds": window,
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 1}]}});
        assert_eq!(errors(&spec, 1), expected, "{window}");
    }
    let field = "spec.behavior.scaleUp.policies[0]";
    for (value, period, expected) in [
        (1, 1, vec![]),
        (1, 1800, vec![]),
        (
            1,
            1801,
            vec![format!(
                "{field}.periodSeconds: Invalid value: 1801: must be less than or equal to 1800"
            )],
        ),
        (
            1,
            0,
            vec![format!(
                "{field}.periodSeconds: Invalid value: 0: must be greater than zero"
            )],
        ),
        (
            0,
            1,
            vec![format!(
                "{field}.value: Invalid value: 0: must be greater than zero"
            )],
        ),
    ] {
        let mut spec = valid();
        spec["behavior"] = json!({"scaleUp": {"policies": [{"type": "Percent", "value": value, "periodSeconds": period}]}});
        assert_eq!(errors(&spec, 1), expected, "{value} in {period} s");
    }
}

#[test]
fn a_scale_is_no_less_than_nothing() {
    assert_eq!(validate_scale(0), []);
    let texts: Vec<String> = validate_scale(-1).iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]
    );
}
