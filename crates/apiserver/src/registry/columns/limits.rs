//! Columns of ResourceQuotas and CertificateSigningRequests.

use serde_json::Value;

use super::{AGE, Column, NAME, age, name, or, string};
use crate::object::{at, items, text};

pub const RESOURCE_QUOTA: &[Column] = &[NAME, string("Request"), string("Limit"), AGE];

pub fn resource_quota(object: &Value) -> Vec<Value> {
    let (hard, used) = (&object["status"]["hard"], &object["status"]["used"]);
    let amount = |map: &Value, name: &str| match quota::parse(&map[name]) {
        Some(amount) => amount.to_string(),
        None => "0".into(),
    };
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let mut names: Vec<&String> = hard
        .as_object()
        .into_iter()
        .flat_map(|h| h.keys())
        .collect();
    names.sort();
    for name in names {
        let shown = format!("{name}: {}/{}", amount(used, name), amount(hard, name));
        match name.starts_with("limits.") {
            true => limits.push(shown),
            false => requests.push(shown),
        }
    }
    vec![
        name(object),
        requests.join(", ").into(),
        limits.join(", ").into(),
        age(object),
    ]
}

pub const SIGNING_REQUEST: &[Column] = &[
    NAME,
    AGE,
    string("SignerName"),
    string("Requestor"),
    string("RequestedDuration"),
    string("Condition"),
];

pub fn signing_request(object: &Value) -> Vec<Value> {
    let spec = &object["spec"];
    let duration = at(spec, &["expirationSeconds"]).and_then(Value::as_i64);
    let duration = duration.map(crate::time::human);
    vec![
        name(object),
        age(object),
        or(text(spec, &["signerName"]), "<none>"),
        text(spec, &["username"]).into(),
        duration.map_or("<none>".into(), Value::from),
        state(object).into(),
    ]
}

fn state(object: &Value) -> String {
    let has = |kind: &str| {
        items(object, &["status", "conditions"])
            .iter()
            .any(|condition| condition["type"] == kind)
    };
    let mut state = String::from(match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    });
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !text(object, &["status", "certificate"]).is_empty() {
        state.push_str(",Issued");
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quotas_show_what_is_used_of_what() {
        let object = json!({"metadata": {"name": "a"}, "status": {
            "hard": {"pods": "2", "limits.cpu": "4", "requests.cpu": "1"}, "used": {"pods": "1", "limits.cpu": "1500m"}}});
        assert_eq!(
            Value::from(resource_quota(&object)),
            json!([
                "a",
                "pods: 1/2, requests.cpu: 0/1",
                "limits.cpu: 1500m/4",
                "<unknown>"
            ])
        );
    }

    #[test]
    fn requests_show_how_far_they_are() {
        let object = |conditions: &[&str], certificate: &str| {
            let conditions: Vec<Value> = conditions.iter().map(|c| json!({"type": c})).collect();
            json!({"status": {"conditions": conditions, "certificate": certificate}})
        };
        assert_eq!(state(&object(&[], "")), "Pending");
        assert_eq!(state(&object(&["Approved"], "x")), "Approved,Issued");
        assert_eq!(state(&object(&["Approved", "Denied"], "")), "Denied");
        assert_eq!(
            state(&object(&["Approved", "Failed"], "")),
            "Approved,Failed"
        );
        let asked = json!({"metadata": {"name": "a"}, "spec": {"signerName": "s", "username": "u", "expirationSeconds": 86400}});
        assert_eq!(
            Value::from(signing_request(&asked)),
            json!(["a", "<unknown>", "s", "u", "24h", "Pending"])
        );
    }
}
