//! Validation of tolerations, of taints, and of the gates of readiness.

use std::collections::HashSet;

use serde_json::Value;

use super::{Problems, names, show};
use crate::object::{at, items, text};

const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "PreferNoSchedule"];
const OPERATORS: [&str; 4] = ["Equal", "Exists", "Gt", "Lt"];
const ANY: &str =
    "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";

/// `tolerations` and `readinessGates` of a pod's or template's spec.
pub(super) fn pod(spec: &Value, field: &str, problems: &mut Problems) {
    for (n, one) in items(spec, &["tolerations"]).iter().enumerate() {
        toleration(one, &format!("{field}.tolerations[{n}]"), problems);
    }
    for (n, gate) in items(spec, &["readinessGates"]).iter().enumerate() {
        let condition = text(gate, &["conditionType"]);
        for why in names::label_key(condition) {
            let field = format!("{field}.readinessGates[{n}].conditionType");
            problems.invalid(&field, &condition.into(), &why);
        }
    }
}

fn toleration(toleration: &Value, field: &str, problems: &mut Problems) {
    let key = text(toleration, &["key"]);
    let operator = text(toleration, &["operator"]);
    let value = text(toleration, &["value"]);
    let effect = text(toleration, &["effect"]);
    let at_operator = format!("{field}.operator");
    if key.is_empty() && operator != "Exists" {
        problems.invalid(&at_operator, &operator.into(), ANY);
    } else if !key.is_empty() {
        for why in names::label_key(key) {
            problems.invalid(&format!("{field}.key"), &key.into(), &why);
        }
    }
    let at_effect = format!("{field}.effect");
    if at(toleration, &["tolerationSeconds"]).is_some() && effect != "NoExecute" {
        let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        problems.invalid(&at_effect, &effect.into(), why);
    }
    match operator {
        "" | "Equal" => {
            let wrong = names::label_value(value);
            if !wrong.is_empty() {
                problems.invalid(&at_operator, &value.into(), &wrong.join(";"));
            }
        }
        "Exists" if value.is_empty() => {}
        "Exists" => {
            let why = "value must be empty when `operator` is 'Exists'";
            problems.invalid(&at_operator, &value.into(), why);
        }
        // What they compare is the scheduler's to read.
        "Gt" | "Lt" => {}
        _ => problems.not_supported(&at_operator, &operator.into(), &OPERATORS),
    }
    if !effect.is_empty() && !EFFECTS.contains(&effect) {
        problems.not_supported(&at_effect, &effect.into(), &EFFECTS);
    }
}

/// A node: its taints, each key and effect once. Upstream names them as if they were in the metadata.
pub fn node(object: &Value, problems: &mut Problems) {
    let mut seen = HashSet::new();
    for (n, taint) in items(object, &["spec", "taints"]).iter().enumerate() {
        let field = format!("metadata.taints[{n}]");
        let (key, effect) = (text(taint, &["key"]), text(taint, &["effect"]));
        for why in names::label_key(key) {
            problems.invalid(&format!("{field}.key"), &key.into(), &why);
        }
        let value = text(taint, &["value"]);
        let wrong = names::label_value(value);
        if !wrong.is_empty() {
            problems.invalid(&format!("{field}.value"), &value.into(), &wrong.join(";"));
        }
        if effect.is_empty() {
            problems.required(&format!("{field}.effect"), "");
        } else if !EFFECTS.contains(&effect) {
            problems.not_supported(&format!("{field}.effect"), &effect.into(), &EFFECTS);
        }
        if !seen.insert((key, effect)) {
            let message = format!(
                "Duplicate value: {}: taints must be unique by key and effect pair",
                show(taint)
            );
            problems.add("FieldValueDuplicate", &field, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::validate::said;
    use serde_json::json;

    #[test]
    fn tolerations_that_match_something() {
        for one in [
            json!({"operator": "Exists"}),
            json!({"key": "a", "operator": "Exists", "effect": "NoSchedule"}),
            json!({"key": "example.com/a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 0}),
            json!({"key": "sla", "operator": "Gt", "value": "900", "effect": "NoSchedule"}),
        ] {
            let spec = json!({"tolerations": [one]});
            assert!(
                said(|problems| pod(&spec, "spec", problems)).is_empty(),
                "{spec}"
            );
        }
        for (one, expected) in [
            (json!({}), format!("operator: Invalid value: \"\": {ANY}")),
            (
                json!({"key": "a", "operator": "Like"}),
                "operator: Unsupported value: \"Like\": supported values: \"Equal\", \"Exists\", \"Gt\", \"Lt\"".to_owned(),
            ),
            (
                json!({"key": "a", "operator": "Exists", "value": "b"}),
                "operator: Invalid value: \"b\": value must be empty when `operator` is 'Exists'".to_owned(),
            ),
            (
                json!({"key": "a", "tolerationSeconds": 5, "effect": "NoSchedule"}),
                "effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set".to_owned(),
            ),
            (
                json!({"key": "a", "effect": "Evict"}),
                "effect: Unsupported value: \"Evict\": supported values: \"NoExecute\", \"NoSchedule\", \"PreferNoSchedule\"".to_owned(),
            ),
        ] {
            let spec = json!({"tolerations": [one]});
            assert_eq!(
                said(|problems| pod(&spec, "spec", problems)),
                [format!("spec.tolerations[0].{expected}")]
            );
        }
        let gates = json!({"readinessGates": [{"conditionType": "example.com/ready"}, {"conditionType": "not ready"}]});
        let said = said(|problems| pod(&gates, "spec", problems));
        assert!(
            said.len() == 1
                && said[0].starts_with("spec.readinessGates[1].conditionType: Invalid value"),
            "{said:?}"
        );
    }

    #[test]
    fn taints_are_there_once_and_have_an_effect() {
        let taints =
            |taints: Value| said(|problems| node(&json!({"spec": {"taints": taints}}), problems));
        let one = json!({"key": "a", "value": "b", "effect": "NoSchedule"});
        assert!(taints(json!([one, {"key": "a", "effect": "NoExecute"}])).is_empty());
        for (all, expected) in [
            (
                json!([one, {"key": "a", "effect": "NoSchedule"}]),
                "metadata.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\"}: taints must be unique by key and effect pair",
            ),
            (
                json!([{"key": "a"}]),
                "metadata.taints[0].effect: Required value",
            ),
            (
                json!([{"key": "a", "effect": "Never"}]),
                "metadata.taints[0].effect: Unsupported value: \"Never\": supported values: \"NoExecute\", \"NoSchedule\", \"PreferNoSchedule\"",
            ),
        ] {
            assert_eq!(taints(all), [expected]);
        }
        assert_eq!(
            taints(json!([{"key": "", "effect": "NoSchedule"}])).len(),
            2
        );
    }
}
