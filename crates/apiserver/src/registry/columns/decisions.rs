//! Columns of ScalingDecisions.

use serde_json::Value;

use super::{AGE, Column, NAME, age, name, or, string, wide};
use crate::object::text;

pub const SCALING_DECISION: &[Column] = &[
    NAME,
    string("Autoscaler"),
    string("From"),
    string("To"),
    string("New Pods"),
    string("Ready After"),
    string("Reason"),
    AGE,
    wide("Message"),
];

pub fn scaling_decision(object: &Value) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let count = |value: &Value| match value.as_i64() {
        Some(count) => count.to_string().into(),
        None => "<unknown>".into(),
    };
    let wanted = status["wantedPods"].as_i64().unwrap_or(0);
    let pods = match wanted {
        0 => "<none>".into(),
        _ => format!("{}/{wanted}", status["readyPods"].as_i64().unwrap_or(0)).into(),
    };
    let ready = match status["readyMs"].as_i64() {
        Some(milliseconds) => format!("{:.1}s", milliseconds as f64 / 1000.0).into(),
        None => "<none>".into(),
    };
    vec![
        name(object),
        text(spec, &["autoscaler"]).into(),
        count(&spec["from"]),
        count(&spec["to"]),
        pods,
        ready,
        or(text(spec, &["reason"]), "<none>"),
        age(object),
        text(spec, &["message"]).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells() {
        let object = json!({
            "metadata": {"name": "web-1"},
            "spec": {"autoscaler": "web", "from": 2, "to": 4, "reason": "cpu above target", "message": "cpu: 150 %"},
            "status": {"wantedPods": 2, "readyPods": 2, "readyMs": 1234},
        });
        let cells = scaling_decision(&object);
        assert_eq!(
            json!(cells[..7]),
            json!(["web-1", "web", "2", "4", "2/2", "1.2s", "cpu above target"])
        );
        let unread = json!({"spec": {"autoscaler": "web"}});
        assert_eq!(
            json!(scaling_decision(&unread)[1..7]),
            json!([
                "web",
                "<unknown>",
                "<unknown>",
                "<none>",
                "<none>",
                "<none>"
            ])
        );
    }
}
