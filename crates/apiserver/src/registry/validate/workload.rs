//! Validation of Deployments, ReplicaSets and selectors.

use serde_json::Value;

use super::{Problems, at_least, labels, names, one_of, pod};
use crate::object::{at, items, text};

pub fn deployment(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    at_least(spec, "replicas", 0, "spec", problems);
    at_least(spec, "minReadySeconds", 0, "spec", problems);
    at_least(spec, "revisionHistoryLimit", 0, "spec", problems);
    template(spec, "deployment", problems);
    let strategy = &spec["strategy"];
    one_of(
        strategy,
        "type",
        &["Recreate", "RollingUpdate"],
        "spec.strategy",
        problems,
    );
    let rolling = at(strategy, &["rollingUpdate"]);
    if strategy["type"] == "Recreate" && rolling.is_some() {
        problems.forbidden(
            "spec.strategy.rollingUpdate",
            "may not be specified when strategy `type` is 'Recreate'",
        );
    }
    if strategy["type"] == "RollingUpdate" {
        let field = "spec.strategy.rollingUpdate";
        let unavailable = amount(rolling, "maxUnavailable", field, problems);
        let surge = amount(rolling, "maxSurge", field, problems);
        if unavailable == Some(0) && surge == Some(0) {
            problems.invalid(
                &format!("{field}.maxUnavailable"),
                rolling.map_or(&Value::Null, |r| &r["maxUnavailable"]),
                "may not be 0 when `maxSurge` is 0",
            );
        }
        if unavailable.is_some_and(|n| n > 100)
            && rolling.is_some_and(|r| r["maxUnavailable"].is_string())
        {
            problems.invalid(
                &format!("{field}.maxUnavailable"),
                &rolling.map_or(Value::Null, |r| r["maxUnavailable"].clone()),
                "must not be greater than 100%",
            );
        }
    }
    let deadline = spec["progressDeadlineSeconds"].as_i64();
    if let Some(deadline) = deadline {
        at_least(spec, "progressDeadlineSeconds", 0, "spec", problems);
        if deadline <= spec["minReadySeconds"].as_i64().unwrap_or(0) {
            problems.invalid(
                "spec.progressDeadlineSeconds",
                &deadline.into(),
                "must be greater than minReadySeconds",
            );
        }
    }
}

/// A number or percentage that is not negative.
pub(super) fn amount(
    rolling: Option<&Value>,
    key: &str,
    field: &str,
    problems: &mut Problems,
) -> Option<i64> {
    let value = rolling?.get(key)?;
    let field = format!("{field}.{key}");
    if let Some(number) = value.as_i64() {
        if number < 0 {
            problems.invalid(&field, value, "must be greater than or equal to 0");
        }
        return Some(number);
    }
    let percent = value
        .as_str()?
        .strip_suffix('%')
        .filter(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    match percent.and_then(|p| p.parse().ok()) {
        Some(number) => Some(number),
        None => {
            problems.invalid(&field, value, "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')");
            None
        }
    }
}

pub fn replica_set(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    at_least(spec, "replicas", 0, "spec", problems);
    at_least(spec, "minReadySeconds", 0, "spec", problems);
    template(spec, "replica set", problems);
}

/// A workload's selector stays what it was.
pub fn selector_update(new: &Value, old: &Value, problems: &mut Problems) {
    if new["spec"]["selector"] != old["spec"]["selector"] {
        problems.invalid(
            "spec.selector",
            &new["spec"]["selector"],
            "field is immutable",
        );
    }
}

fn template(spec: &Value, what: &str, problems: &mut Problems) {
    let selector = &spec["selector"];
    let empty = selector["matchLabels"]
        .as_object()
        .is_none_or(serde_json::Map::is_empty)
        && items(selector, &["matchExpressions"]).is_empty();
    if !selector.is_object() {
        problems.required("spec.selector", "");
    } else if empty {
        problems.invalid(
            "spec.selector",
            selector,
            &format!("empty selector is invalid for {what}"),
        );
    }
    label_selector(selector, "spec.selector", problems);
    let template = &spec["template"];
    let template_labels = &template["metadata"]["labels"];
    if selector.is_object() && !empty && !selects(selector, template_labels) {
        let shown = if template_labels.is_null() {
            Value::Object(serde_json::Map::new())
        } else {
            template_labels.clone()
        };
        problems.invalid(
            "spec.template.metadata.labels",
            &shown,
            "`selector` does not match template `labels`",
        );
    }
    labels(
        template["metadata"].get("labels"),
        "spec.template.labels",
        problems,
    );
    let pod_spec = &template["spec"];
    pod::spec(pod_spec, "spec.template.spec", problems);
    if let Some(policy) = pod_spec["restartPolicy"].as_str()
        && policy != "Always"
    {
        problems.not_supported(
            "spec.template.spec.restartPolicy",
            &pod_spec["restartPolicy"],
            &["Always"],
        );
    }
    if at(pod_spec, &["activeDeadlineSeconds"]).is_some() {
        problems.forbidden(
            "spec.template.spec.activeDeadlineSeconds",
            "activeDeadlineSeconds in ReplicaSet is not Supported",
        );
    }
}

/// Checks keys, operators and values of a label selector.
pub(super) fn label_selector(selector: &Value, field: &str, problems: &mut Problems) {
    labels(
        selector.get("matchLabels"),
        &format!("{field}.matchLabels"),
        problems,
    );
    for (n, expression) in items(selector, &["matchExpressions"]).iter().enumerate() {
        let field = format!("{field}.matchExpressions[{n}]");
        let values = items(expression, &["values"]);
        match text(expression, &["operator"]) {
            "In" | "NotIn" if values.is_empty() => {
                problems.required(
                    &format!("{field}.values"),
                    "must be specified when `operator` is 'In' or 'NotIn'",
                );
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                problems.forbidden(
                    &format!("{field}.values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => problems.invalid(
                &format!("{field}.operator"),
                &expression["operator"],
                "not a valid selector operator",
            ),
        }
        for why in names::label_key(text(expression, &["key"])) {
            problems.invalid(&format!("{field}.key"), &expression["key"], &why);
        }
    }
}

/// Whether a `LabelSelector` selects these labels.
pub(super) fn selects(selector: &Value, labels: &Value) -> bool {
    let by_label = selector["matchLabels"].as_object().is_none_or(|wanted| {
        wanted
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    });
    by_label
        && items(selector, &["matchExpressions"])
            .iter()
            .all(|expression| {
                let actual = labels.get(text(expression, &["key"]));
                let listed = actual.is_some_and(|a| items(expression, &["values"]).contains(a));
                match text(expression, &["operator"]) {
                    "In" => listed,
                    "NotIn" => !listed,
                    "Exists" => actual.is_some(),
                    "DoesNotExist" => actual.is_none(),
                    _ => true,
                }
            })
}
