//! Columns of roles and their bindings.

use serde_json::Value;

use super::{AGE, Column, NAME, age, name, string, wide};
use crate::object::{items, text};

pub const ROLE: &[Column] = &[
    NAME,
    Column {
        format: "date",
        ..string("Created At")
    },
];

/// A role does not show its age but the moment it was made.
pub fn role(object: &Value) -> Vec<Value> {
    vec![
        name(object),
        text(object, &["metadata", "creationTimestamp"]).into(),
    ]
}

pub const BINDING: &[Column] = &[
    NAME,
    string("Role"),
    AGE,
    wide("Users"),
    wide("Groups"),
    wide("ServiceAccounts"),
];

pub fn binding(object: &Value) -> Vec<Value> {
    let subjects = |kind: &str, show: fn(&Value) -> String| -> Value {
        let of_kind = items(object, &["subjects"])
            .iter()
            .filter(|subject| subject["kind"] == kind);
        of_kind.map(show).collect::<Vec<_>>().join(", ").into()
    };
    let plain = |subject: &Value| text(subject, &["name"]).to_owned();
    let of = &object["roleRef"];
    vec![
        name(object),
        format!("{}/{}", text(of, &["kind"]), text(of, &["name"])).into(),
        age(object),
        subjects("User", plain),
        subjects("Group", plain),
        subjects("ServiceAccount", |subject| {
            format!(
                "{}/{}",
                text(subject, &["namespace"]),
                text(subject, &["name"])
            )
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells() {
        let object = json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-02T03:04:05Z"},
            "roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": [
                {"kind": "User", "name": "jane"}, {"kind": "Group", "name": "people"}, {"kind": "User", "name": "jim"},
                {"kind": "ServiceAccount", "namespace": "n", "name": "robot"}]});
        assert_eq!(json!(role(&object)), json!(["a", "2026-01-02T03:04:05Z"]));
        let cells = binding(&object);
        assert_eq!(
            (&cells[0], &cells[1]),
            (&json!("a"), &json!("ClusterRole/view"))
        );
        assert_eq!(json!(cells[3..]), json!(["jane, jim", "people", "n/robot"]));
    }
}
