//! Columns of HorizontalPodAutoscalers (upstream `formatHPAMetrics`).

use serde_json::Value;

use super::{AGE, Column, NAME, age, name, string};
use crate::object::{items, text};

pub const HPA: &[Column] = &[
    NAME,
    string("Reference"),
    string("Targets"),
    string("MinPods"),
    string("MaxPods"),
    string("Replicas"),
    AGE,
];

/// How many metrics the cell shows.
const SHOWN_MAX: usize = 2;

pub fn hpa(object: &Value) -> Vec<Value> {
    let spec = &object["spec"];
    let reference = format!(
        "{}/{}",
        text(spec, &["scaleTargetRef", "kind"]),
        text(spec, &["scaleTargetRef", "name"])
    );
    vec![
        name(object),
        reference.into(),
        targets(
            items(spec, &["metrics"]),
            items(object, &["status", "currentMetrics"]),
        )
        .into(),
        spec["minReplicas"]
            .as_i64()
            .map_or("<unset>".into(), |n| n.to_string().into()),
        spec["maxReplicas"].as_i64().unwrap_or(0).into(),
        object["status"]["currentReplicas"]
            .as_i64()
            .unwrap_or(0)
            .into(),
        age(object),
    ]
}

/// The same for `autoscaling/v1`.
pub fn hpa_v1(object: &Value) -> Vec<Value> {
    let mut v2 = object.clone();
    crate::registry::convert::hpa_to_v2(&mut v2);
    hpa(&v2)
}

fn targets(specs: &[Value], statuses: &[Value]) -> String {
    if specs.is_empty() {
        return "<none>".into();
    }
    // by what they are of; one that failed says nothing of that
    let is_of = |spec: &Value, status: &Value| {
        let source = |metric: &Value| {
            let kind = text(metric, &["type"]).to_owned();
            let key = kind[..kind.len().min(1)].to_lowercase() + kind.get(1..).unwrap_or_default();
            let source = &metric[key];
            let parts =
                ["name", "container", "metric", "describedObject"].map(|part| source[part].clone());
            (kind, parts)
        };
        source(spec) == source(status)
    };
    let all: Vec<String> = specs
        .iter()
        .map(|spec| target(spec, statuses.iter().find(|status| is_of(spec, status))))
        .collect();
    let more = all.len().saturating_sub(SHOWN_MAX);
    let shown = all[..all.len().min(SHOWN_MAX)].join(", ");
    if more > 0 {
        format!("{shown} + {more} more...")
    } else {
        shown
    }
}

fn target(spec: &Value, status: Option<&Value>) -> String {
    let (key, resource) = match text(spec, &["type"]) {
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "External" => ("external", false),
        _ => return "<unknown type>".into(),
    };
    let source = &spec[key];
    let wanted = &source["target"];
    let current = status.map(|s| &s[key]["current"]);
    let now = |field: &str| {
        current
            .and_then(|c| c[field].as_str())
            .filter(|v| !v.is_empty())
            .unwrap_or("<unknown>")
            .to_owned()
    };
    let metric = text(source, &["name"]);
    if let Some(average) = wanted["averageValue"].as_str() {
        let text = format!("{}/{average}", now("averageValue"));
        return match key {
            _ if resource => format!("{metric}: {text}"),
            "pods" => text,
            _ => format!("{text} (avg)"),
        };
    }
    if resource {
        let now = current
            .and_then(|c| c["averageUtilization"].as_i64())
            .map_or("<unknown>".to_owned(), |n| format!("{n}%"));
        let wanted = wanted["averageUtilization"]
            .as_i64()
            .map_or("<auto>".to_owned(), |n| format!("{n}%"));
        return format!("{metric}: {now}/{wanted}");
    }
    format!("{}/{}", now("value"), text(wanted, &["value"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn targets_as_upstream_writes_them() {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}});
        let now = json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 5, "averageValue": "5m"}}});
        let pods = json!({"type": "Pods", "pods": {"metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": "10"}}});
        let external = json!({"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "3"}}});
        let cases = [
            (vec![], vec![], "<none>"),
            (vec![cpu.clone()], vec![], "cpu: <unknown>/80%"),
            (vec![cpu.clone()], vec![now], "cpu: 5%/80%"),
            (
                vec![cpu.clone(), pods.clone()],
                vec![],
                "cpu: <unknown>/80%, <unknown>/10",
            ),
            (
                vec![cpu, pods, external],
                vec![],
                "cpu: <unknown>/80%, <unknown>/10 + 1 more...",
            ),
        ];
        for (specs, statuses, expected) in cases {
            assert_eq!(targets(&specs, &statuses), expected);
        }
    }
}
