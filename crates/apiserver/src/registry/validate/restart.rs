//! Validation of when a single container is restarted: its own policy and its rules by exit code (KEP-5307).

use serde_json::Value;

use super::{Problems, one_of};
use crate::object::{at, items, text};

const POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];
const ACTIONS: [&str; 2] = ["Restart", "RestartAllContainers"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;

/// `restartPolicy` and `restartPolicyRules` of a container.
pub(super) fn container(container: &Value, field: &str, problems: &mut Problems) {
    one_of(container, "restartPolicy", &POLICIES, field, problems);
    let rules = items(container, &["restartPolicyRules"]);
    if !rules.is_empty() && at(container, &["restartPolicy"]).is_none() {
        problems.required(
            &format!("{field}.restartPolicy"),
            "must specify restartPolicy when restart rules are used",
        );
    }
    let field = format!("{field}.restartPolicyRules");
    if rules.len() > RULES_MAX {
        problems.too_long(&field, RULES_MAX);
    }
    for (n, rule) in rules.iter().enumerate() {
        self::rule(rule, &format!("{field}[{n}]"), problems);
    }
}

fn rule(rule: &Value, field: &str, problems: &mut Problems) {
    let action = text(rule, &["action"]);
    if !ACTIONS.contains(&action) {
        problems.not_supported(&format!("{field}.action"), &action.into(), &ACTIONS);
    }
    let field = format!("{field}.exitCodes");
    let Some(codes) = at(rule, &["exitCodes"]) else {
        return problems.required(&field, "must be specified");
    };
    let operator = text(codes, &["operator"]);
    if !OPERATORS.contains(&operator) {
        problems.not_supported(&format!("{field}.operator"), &operator.into(), &OPERATORS);
    }
    if items(codes, &["values"]).len() > EXIT_CODES_MAX {
        problems.too_long(&format!("{field}.values"), EXIT_CODES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn policies_and_rules() {
        let said =
            |one: &Value| crate::registry::validate::said(|problems| container(one, "c", problems));
        let rule = json!({"action": "Restart", "exitCodes": {"operator": "In", "values": [3]}});
        for one in [
            json!({}),
            json!({"restartPolicy": "Always"}),
            json!({"restartPolicy": "Never", "restartPolicyRules": [rule, {"action": "RestartAllContainers", "exitCodes": {"operator": "NotIn", "values": [0]}}]}),
        ] {
            assert_eq!(said(&one), Vec::<String>::new(), "{one}");
        }
        for (one, expected) in [
            (
                json!({"restartPolicy": "Sometimes"}),
                "c.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\"",
            ),
            (
                json!({"restartPolicyRules": [rule]}),
                "c.restartPolicy: Required value: must specify restartPolicy when restart rules are used",
            ),
            (
                json!({"restartPolicy": "Never", "restartPolicyRules": [{"action": "DoNotRestart", "exitCodes": {"operator": "In"}}]}),
                "c.restartPolicyRules[0].action: Unsupported value: \"DoNotRestart\": supported values: \"Restart\", \"RestartAllContainers\"",
            ),
            (
                json!({"restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "Equals"}}]}),
                "c.restartPolicyRules[0].exitCodes.operator: Unsupported value: \"Equals\": supported values: \"In\", \"NotIn\"",
            ),
            (
                json!({"restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart"}]}),
                "c.restartPolicyRules[0].exitCodes: Required value: must be specified",
            ),
        ] {
            assert_eq!(said(&one), [expected]);
        }
        let many = json!({"restartPolicy": "Never", "restartPolicyRules": vec![rule; 21]});
        assert_eq!(said(&many).len(), 1);
    }
}
