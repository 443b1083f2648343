//! Validation of HorizontalPodAutoscalers (in v2 form).

use serde_json::Value;

use super::{Problems, names};
use crate::object::{at, items, text};

/// Upstream's limits on windows and periods, in seconds.
const WINDOW_SECONDS_MAX: i64 = 3600;
const PERIOD_SECONDS_MAX: i64 = 1800;

pub fn hpa(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    let metrics = items(spec, &["metrics"]);
    let max = spec["maxReplicas"].as_i64().unwrap_or(0);
    if let Some(min) = spec["minReplicas"].as_i64() {
        // Zero needs a metric that exists without pods.
        let least = i64::from(
            !metrics
                .iter()
                .any(|m| matches!(text(m, &["type"]), "Object" | "External")),
        );
        if min < least {
            problems.invalid(
                "spec.minReplicas",
                &min.into(),
                &format!("must be greater than or equal to {least}"),
            );
        }
        if max < min {
            problems.invalid(
                "spec.maxReplicas",
                &max.into(),
                "must be greater than or equal to `minReplicas`",
            );
        }
    }
    if max < 1 {
        problems.invalid("spec.maxReplicas", &max.into(), "must be greater than 0");
    }
    for key in ["kind", "name"] {
        let value = text(spec, &["scaleTargetRef", key]);
        let field = format!("spec.scaleTargetRef.{key}");
        if value.is_empty() {
            problems.required(&field, "");
        }
        for why in names::path_segment(value) {
            problems.invalid(&field, &value.into(), &why);
        }
    }
    for (n, one) in metrics.iter().enumerate() {
        metric(one, &format!("spec.metrics[{n}]"), problems);
    }
    for (key, rules) in ["scaleUp", "scaleDown"]
        .iter()
        .filter_map(|k| Some((k, at(spec, &["behavior", k])?)))
    {
        scaling_rules(rules, &format!("spec.behavior.{key}"), problems);
    }
}

fn metric(metric: &Value, field: &str, problems: &mut Problems) {
    let (key, utilization) = match text(metric, &["type"]) {
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "External" => ("external", false),
        "" => {
            return problems.required(
                &format!("{field}.type"),
                "must specify a metric source type",
            );
        }
        _ => {
            let types = &[
                "ContainerResource",
                "External",
                "Object",
                "Pods",
                "Resource",
            ];
            return problems.not_supported(&format!("{field}.type"), &metric["type"], types);
        }
    };
    let Some(source) = at(metric, &[key]) else {
        return problems.required(
            &format!("{field}.{key}"),
            "must populate information for the given metric source",
        );
    };
    let field = format!("{field}.{key}");
    if utilization {
        if text(source, &["name"]).is_empty() {
            problems.required(&format!("{field}.name"), "must specify a resource name");
        }
    } else if text(source, &["metric", "name"]).is_empty() {
        problems.required(
            &format!("{field}.metric.name"),
            "must specify a metric name",
        );
    }
    if key == "containerResource" && text(source, &["container"]).is_empty() {
        problems.required(&format!("{field}.container"), "must specify a container");
    }
    let target = &source["target"];
    match text(target, &["type"]) {
        "" => problems.required(
            &format!("{field}.target.type"),
            "must specify a metric target type",
        ),
        "Utilization" | "Value" | "AverageValue" => {}
        _ => problems.invalid(
            &format!("{field}.target.type"),
            &target["type"],
            "must be either Utilization, Value, or AverageValue",
        ),
    }
    let average = target["averageUtilization"].as_i64();
    if let Some(average) = average
        && average < 1
    {
        problems.invalid(
            &format!("{field}.target.averageUtilization"),
            &average.into(),
            "must be greater than 0",
        );
    }
    let set = |key: &str| at(target, &[key]).is_some();
    let complete = match key {
        "resource" | "containerResource" => set("averageUtilization") != set("averageValue"),
        "pods" => set("averageValue"),
        _ => set("value") != set("averageValue"),
    };
    if !complete {
        match key {
            "resource" | "containerResource" => {
                problems.required(
                    &format!("{field}.target.averageUtilization"),
                    "must set either a target raw value or a target utilization",
                );
            }
            "pods" => problems.required(
                &format!("{field}.target.averageValue"),
                "must specify a positive target averageValue",
            ),
            _ => problems.required(
                &format!("{field}.target.averageValue"),
                "must set either a target value for metric or a per-pod target",
            ),
        }
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
    for (n, policy) in policies.iter().enumerate() {
        let field = format!("{field}.policies[{n}]");
        super::one_of(policy, "type", &["Percent", "Pods"], &field, problems);
        super::at_least(policy, "value", 1, &field, problems);
        let period = policy["periodSeconds"].as_i64().unwrap_or(0);
        if period < 1 {
            problems.invalid(
                &format!("{field}.periodSeconds"),
                &period.into(),
                "must be greater than zero",
            );
        }
        if period > PERIOD_SECONDS_MAX {
            problems.invalid(
                &format!("{field}.periodSeconds"),
                &period.into(),
                &format!("must be less than or equal to {PERIOD_SECONDS_MAX}"),
            );
        }
    }
}
