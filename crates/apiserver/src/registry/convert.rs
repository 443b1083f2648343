//! Conversion between served versions and the stored one: autoscaling v1 (stored as v2, with annotations for
//! what v1 cannot hold) and events.k8s.io (stored as core events).

use serde_json::{Map, Value, json};

use crate::object::{at, text};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// Moves a member; absent stays absent.
fn rename(from: &mut Value, old: &str, to: &mut Map<String, Value>, new: &str) {
    if let Some(value) = from.as_object_mut().and_then(|m| m.remove(old))
        && !value.is_null()
    {
        to.insert(new.into(), value);
    }
}

fn annotation(object: &mut Value, key: &str) -> Option<Value> {
    let annotations = object["metadata"].get_mut("annotations")?.as_object_mut()?;
    let text = annotations.remove(key)?;
    if annotations.is_empty() {
        object["metadata"].as_object_mut()?.remove("annotations");
    }
    serde_json::from_str(text.as_str()?).ok()
}

fn annotate(object: &mut Value, key: &str, value: &Value) {
    if !object["metadata"]["annotations"].is_object() {
        object["metadata"]["annotations"] = json!({});
    }
    object["metadata"]["annotations"][key] = value.to_string().into();
}

fn is_cpu_utilization(metric: &Value) -> bool {
    metric["type"] == "Resource"
        && metric["resource"]["name"] == "cpu"
        && !metric["resource"]["target"]["averageUtilization"].is_null()
}

/// autoscaling/v1 → v2.
pub fn hpa_to_v2(object: &mut Value) {
    let mut metrics: Vec<Value> = annotation(object, METRICS)
        .and_then(|v| {
            v.as_array()
                .map(|list| list.iter().map(metric_to_v2).collect())
        })
        .unwrap_or_default();
    if let Some(target) = object["spec"]
        .as_object_mut()
        .and_then(|s| s.remove("targetCPUUtilizationPercentage"))
        && target.is_i64()
    {
        metrics.push(json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": target}}}));
    }
    if !metrics.is_empty() {
        object["spec"]["metrics"] = metrics.into();
    }
    if let Some(behavior) = annotation(object, BEHAVIOR) {
        object["spec"]["behavior"] = behavior;
    }
    let mut current: Vec<Value> = annotation(object, CURRENT_METRICS)
        .and_then(|v| {
            v.as_array()
                .map(|list| list.iter().map(status_to_v2).collect())
        })
        .unwrap_or_default();
    if let Some(now) = object
        .get_mut("status")
        .and_then(Value::as_object_mut)
        .and_then(|s| s.remove("currentCPUUtilizationPercentage"))
        && now.is_i64()
        // what the annotation says of it is more
        && current.is_empty()
    {
        current.push(json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": now}}}));
    }
    if !current.is_empty() {
        object["status"]["currentMetrics"] = current.into();
    }
    if let Some(conditions) = annotation(object, CONDITIONS) {
        object["status"]["conditions"] = conditions;
    }
}

/// autoscaling/v2 → v1.
pub fn hpa_to_v1(object: &mut Value) {
    // what stands there is of another time, or somebody's who wants it taken for a part of the spec
    for key in [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR] {
        annotation(object, key);
    }
    if let Some(Value::Array(metrics)) = object["spec"]
        .as_object_mut()
        .and_then(|s| s.remove("metrics"))
    {
        let mut others = Vec::new();
        let mut cpu = None;
        for metric in metrics {
            if cpu.is_none() && is_cpu_utilization(&metric) {
                cpu = Some(metric["resource"]["target"]["averageUtilization"].clone());
            } else {
                others.push(metric_to_v1(&metric));
            }
        }
        if let Some(cpu) = cpu {
            object["spec"]["targetCPUUtilizationPercentage"] = cpu;
        }
        if !others.is_empty() {
            annotate(object, METRICS, &others.into());
        }
    }
    if let Some(behavior) = object["spec"]
        .as_object_mut()
        .and_then(|s| s.remove("behavior"))
    {
        annotate(object, BEHAVIOR, &behavior);
    }
    let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) else {
        return;
    };
    let current = status.remove("currentMetrics");
    let conditions = status.remove("conditions");
    if let Some(Value::Array(current)) = current {
        let mut others = Vec::new();
        for metric in current {
            let now = &metric["resource"]["current"]["averageUtilization"];
            if metric["resource"]["name"] == "cpu" && !now.is_null() {
                object["status"]["currentCPUUtilizationPercentage"] = now.clone();
            }
            // The averaged value has no place in v1 either.
            others.push(status_to_v1(&metric));
        }
        if !others.is_empty() {
            annotate(object, CURRENT_METRICS, &others.into());
        }
    }
    if let Some(conditions) = conditions.filter(|c| c.as_array().is_some_and(|c| !c.is_empty())) {
        annotate(object, CONDITIONS, &conditions);
    }
}

/// The member of a metric that its type names.
fn source_key(kind: &str) -> &'static str {
    match kind {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        _ => "external",
    }
}

/// `(v1 name, v2 name)` of a target's values in each kind of metric.
fn target_names(kind: &str) -> &'static [(&'static str, &'static str)] {
    match kind {
        "Resource" | "ContainerResource" => &[
            ("targetAverageUtilization", "averageUtilization"),
            ("targetAverageValue", "averageValue"),
        ],
        "Pods" => &[("targetAverageValue", "averageValue")],
        "Object" => &[("targetValue", "value"), ("averageValue", "averageValue")],
        _ => &[
            ("targetValue", "value"),
            ("targetAverageValue", "averageValue"),
        ],
    }
}

fn metric_to_v1(metric: &Value) -> Value {
    let kind = text(metric, &["type"]);
    let mut source = metric[source_key(kind)].clone();
    let mut out = Map::new();
    for key in ["name", "container"] {
        rename(&mut source, key, &mut out, key);
    }
    if let Some(identifier) = at(&source, &["metric"]) {
        out.insert("metricName".into(), identifier["name"].clone());
        if let Some(selector) = at(identifier, &["selector"]) {
            let key = if kind == "External" {
                "metricSelector"
            } else {
                "selector"
            };
            out.insert(key.into(), selector.clone());
        }
    }
    rename(&mut source, "describedObject", &mut out, "target");
    for (v1, v2) in target_names(kind) {
        if let Some(value) = at(&source, &["target", v2]) {
            out.insert((*v1).into(), value.clone());
        }
    }
    // Upstream's v1 type demands a target value even when only the average is given.
    if kind == "Object" && !out.contains_key("targetValue") {
        out.insert("targetValue".into(), "0".into());
    }
    json!({"type": kind, source_key(kind): out})
}

fn metric_to_v2(metric: &Value) -> Value {
    let kind = text(metric, &["type"]);
    let mut source = metric[source_key(kind)].clone();
    let mut out = Map::new();
    for key in ["name", "container"] {
        rename(&mut source, key, &mut out, key);
    }
    let mut identifier = Map::new();
    rename(&mut source, "metricName", &mut identifier, "name");
    let selector = if kind == "External" {
        "metricSelector"
    } else {
        "selector"
    };
    rename(&mut source, selector, &mut identifier, "selector");
    if !identifier.is_empty() {
        out.insert("metric".into(), identifier.into());
    }
    rename(&mut source, "target", &mut out, "describedObject");
    let mut target = Map::new();
    for (v1, v2) in target_names(kind) {
        let unset = kind == "Object" && *v1 == "targetValue" && source["targetValue"] == "0";
        if !unset {
            rename(&mut source, v1, &mut target, v2);
        }
    }
    let form = if target.contains_key("averageUtilization") {
        "Utilization"
    } else if target.contains_key("averageValue") {
        "AverageValue"
    } else {
        "Value"
    };
    target.insert("type".into(), form.into());
    out.insert("target".into(), target.into());
    json!({"type": kind, source_key(kind): out})
}

fn current_names(kind: &str) -> &'static [(&'static str, &'static str)] {
    match kind {
        "Resource" | "ContainerResource" => &[
            ("currentAverageUtilization", "averageUtilization"),
            ("currentAverageValue", "averageValue"),
        ],
        "Pods" => &[("currentAverageValue", "averageValue")],
        "Object" => &[("currentValue", "value"), ("averageValue", "averageValue")],
        _ => &[
            ("currentValue", "value"),
            ("currentAverageValue", "averageValue"),
        ],
    }
}

fn status_to_v1(metric: &Value) -> Value {
    let kind = text(metric, &["type"]);
    let source = &metric[source_key(kind)];
    let mut out = metric_to_v1(metric)[source_key(kind)].take();
    if let Some(out) = out.as_object_mut() {
        out.remove("targetValue");
        for (v1, v2) in current_names(kind) {
            if let Some(value) = at(source, &["current", v2]) {
                out.insert((*v1).into(), value.clone());
            }
        }
    }
    json!({"type": kind, source_key(kind): out})
}

fn status_to_v2(metric: &Value) -> Value {
    let kind = text(metric, &["type"]);
    let source = &metric[source_key(kind)];
    let mut out = metric_to_v2(metric)[source_key(kind)].take();
    if let Some(out) = out.as_object_mut() {
        out.remove("target");
        let mut current = Map::new();
        for (v1, v2) in current_names(kind) {
            if let Some(value) = at(source, &[v1]) {
                current.insert((*v2).into(), value.clone());
            }
        }
        out.insert("current".into(), current.into());
    }
    json!({"type": kind, source_key(kind): out})
}

/// `(events.k8s.io name, core name)` of an event's fields.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// events.k8s.io/v1 → core/v1.
pub fn event_to_core(object: &mut Value) {
    for (new, core) in EVENT_FIELDS {
        move_member(object, new, core);
    }
    if let Some(map) = object.as_object_mut() {
        map.entry("involvedObject").or_insert_with(|| json!({}));
    }
}

/// core/v1 → events.k8s.io/v1.
pub fn event_from_core(object: &mut Value) {
    for (new, core) in EVENT_FIELDS {
        move_member(object, core, new);
    }
}

fn move_member(object: &mut Value, from: &str, to: &str) {
    if let Some(map) = object.as_object_mut()
        && let Some(value) = map.remove(from)
    {
        map.insert(to.into(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn autoscalers_survive_the_way_through_v1() {
        let v2 = json!({
            "metadata": {"name": "a", "annotations": {"x": "y"}},
            "spec": {"maxReplicas": 3, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}}, "metrics": [
                {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
                {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c", "target": {"type": "Utilization", "averageUtilization": 5}}},
                {"type": "Pods", "pods": {"metric": {"name": "rps", "selector": {"matchLabels": {"a": "b"}}}, "target": {"type": "AverageValue", "averageValue": "10"}}},
                {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "q"}, "target": {"type": "Value", "value": "4"}}},
                {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "4"}}},
                {"type": "External", "external": {"metric": {"name": "q", "selector": {}}, "target": {"type": "AverageValue", "averageValue": "3"}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}},
            ]},
            "status": {"conditions": [{"type": "AbleToScale", "status": "True"}], "currentMetrics": [
                {"type": "Pods", "pods": {"metric": {"name": "rps"}, "current": {"averageValue": "9"}}}]},
        });
        let mut object = v2.clone();
        hpa_to_v1(&mut object);
        assert_eq!(object["spec"]["targetCPUUtilizationPercentage"], 60);
        assert!(
            object["spec"].get("metrics").is_none() && object["spec"].get("behavior").is_none()
        );
        assert!(
            object["metadata"]["annotations"][METRICS]
                .as_str()
                .is_some_and(|t| t.contains("targetAverageValue"))
        );
        hpa_to_v2(&mut object);
        assert_eq!(object["spec"]["metrics"].as_array().map(Vec::len), Some(7));
        assert_eq!(object, v2);
    }

    #[test]
    fn annotations_of_another_time_become_no_spec_and_usage_is_told_once() {
        let usage = json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7, "averageValue": "7m"}}});
        let v2 = json!({
            "metadata": {"name": "a"},
            "spec": {"maxReplicas": 3, "metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}}]},
            "status": {"currentMetrics": [usage]},
        });
        let mut object = v2.clone();
        object["metadata"]["annotations"] =
            json!({METRICS: "[{\"type\":\"Resource\",\"resource\":{\"name\":\"memory\"}}]"});
        hpa_to_v1(&mut object);
        assert_eq!(object["status"]["currentCPUUtilizationPercentage"], 7);
        hpa_to_v2(&mut object);
        assert_eq!(object, v2);
    }

    #[test]
    fn events_of_both_groups_are_one() {
        let new = json!({"regarding": {"name": "p"}, "note": "hi", "reportingController": "c", "type": "Normal"});
        let mut object = new.clone();
        event_to_core(&mut object);
        assert_eq!(
            object,
            json!({"involvedObject": {"name": "p"}, "message": "hi", "reportingComponent": "c", "type": "Normal"})
        );
        event_from_core(&mut object);
        assert_eq!(object, new);
    }
}
