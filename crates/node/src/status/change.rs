//! What is written of a pod's status: a strategic merge patch that leaves to others what is theirs.
//!
//! Others have conditions on a pod, too (readiness gates, the reason of a disruption), and may write them while this node is still
//! busy with what it read before.

use serde_json::{Map, Value, json};

use super::OWN_CONDITIONS;

/// Fields that go from a status when there is nothing to say in them.
const OWN: [&str; 7] = [
    "message",
    "reason",
    "podIP",
    "podIPs",
    "initContainerStatuses",
    "containerStatuses",
    "ephemeralContainerStatuses",
];
/// Lists that a patch would merge, and that are ours as a whole.
const WHOLE: [&str; 2] = ["podIPs", "hostIPs"];
/// What a condition may say and may leave out.
const OPTIONAL: [&str; 2] = ["reason", "message"];

/// The patch that makes `before`, the status as it was last seen, what `now` says.
pub fn between(before: &Value, now: &Value) -> Value {
    let mut patch = now.clone();
    for field in OWN.into_iter().filter(|field| !before[*field].is_null()) {
        if now.get(field).is_none() {
            patch[field] = Value::Null;
        }
    }
    for field in WHOLE {
        if let Some(list) = patch.get_mut(field).and_then(Value::as_array_mut) {
            list.insert(0, json!({ "$patch": "replace" }));
        }
    }
    patch["conditions"] = conditions(before, now);
    patch
}

fn conditions(before: &Value, now: &Value) -> Value {
    let list = |status: &Value| -> Vec<Map<String, Value>> {
        let all = status["conditions"].as_array().into_iter().flatten();
        all.filter_map(|one| one.as_object().cloned()).collect()
    };
    let kind = |condition: &Map<String, Value>| condition.get("type").cloned().unwrap_or_default();
    let ours = |condition: &Map<String, Value>| {
        let kind = kind(condition);
        kind.as_str()
            .is_some_and(|kind| OWN_CONDITIONS.contains(&kind))
    };
    let (before, now) = (list(before), list(now));
    let mut patch = Vec::new();
    for condition in &now {
        let known = before.iter().find(|known| kind(known) == kind(condition));
        // one that is as it was may be somebody else's, and something else by now
        if !ours(condition) && known.is_some() {
            continue;
        }
        let mut condition = condition.clone();
        for field in OPTIONAL {
            if known.is_some_and(|known| known.contains_key(field)) {
                condition.entry(field).or_insert(Value::Null);
            }
        }
        patch.push(Value::Object(condition));
    }
    let gone = before
        .iter()
        .filter(|known| ours(known) && !now.iter().any(|one| kind(one) == kind(known)));
    patch.extend(gone.map(|known| json!({ "$patch": "delete", "type": kind(known) })));
    Value::Array(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_others_is_left_to_them() {
        let before = json!({
            "phase": "Pending", "reason": "old", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}],
            "conditions": [
                {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "no"},
                {"type": "PodResizePending", "status": "True", "reason": "Deferred"},
                {"type": "example.com/gate", "status": "False"},
            ],
        });
        let now = json!({
            "phase": "Running", "hostIPs": [{"ip": "192.0.2.1"}], "podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.2"}],
            "conditions": [
                {"type": "Ready", "status": "True"},
                {"type": "example.com/gate", "status": "False"},
                {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"},
            ],
        });
        let patch = between(&before, &now);
        assert_eq!(
            patch,
            json!({
                "phase": "Running", "reason": null,
                "hostIPs": [{"$patch": "replace"}, {"ip": "192.0.2.1"}],
                "podIP": "10.0.0.2", "podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.2"}],
                "conditions": [
                    {"type": "Ready", "status": "True", "reason": null, "message": null},
                    {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"},
                    {"$patch": "delete", "type": "PodResizePending"},
                ],
            })
        );
    }

    #[test]
    fn addresses_that_are_gone_go() {
        let patch = between(
            &json!({"podIPs": [{"ip": "10.0.0.1"}]}),
            &json!({"phase": "Failed"}),
        );
        assert_eq!(
            patch,
            json!({"phase": "Failed", "podIPs": null, "conditions": []})
        );
    }
}
