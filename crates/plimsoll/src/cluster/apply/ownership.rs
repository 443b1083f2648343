//! Fields that were applied from the client's side become applied ones, so that what a manifest no longer says goes (upstream
//! `k8s.io/client-go/util/csaupgrade`).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use kube::api::DynamicObject;
use serde_json::Value;

/// What this program is called as an applier.
pub const MANAGER: &str = "plimsoll-apply";
/// Who applies, or did, by computing a patch.
const CLIENT_SIDE: [&str; 2] = ["kubectl-client-side-apply", MANAGER];

/// The object's entries with all that was applied from the client's side as this program's own; none when nothing was.
pub fn adopted(live: &DynamicObject, version: &str) -> Option<Vec<ManagedFieldsEntry>> {
    let entries = live.metadata.managed_fields.as_ref()?;
    let is_client_side = |entry: &ManagedFieldsEntry| {
        let manager = entry.manager.as_deref().unwrap_or_default();
        CLIENT_SIDE.contains(&manager)
            && entry.operation.as_deref() == Some("Update")
            && entry.subresource.as_deref().unwrap_or_default().is_empty()
            // of another version the fields may have other names
            && entry.api_version.as_deref() == Some(version)
    };
    let (found, mut kept): (Vec<_>, Vec<_>) = entries.iter().cloned().partition(is_client_side);
    if found.is_empty() {
        return None;
    }
    let own = kept.iter().position(|entry| {
        entry.manager.as_deref() == Some(MANAGER)
            && entry.operation.as_deref() == Some("Apply")
            && entry.subresource.as_deref().unwrap_or_default().is_empty()
    });
    let own = match own {
        // one of another version is replaced by the apply that follows
        Some(at) => &mut kept[at],
        None => {
            kept.push(ManagedFieldsEntry {
                manager: Some(MANAGER.into()),
                operation: Some("Apply".into()),
                fields_v1: None,
                ..found[0].clone()
            });
            kept.last_mut()?
        }
    };
    let fields = own.fields_v1.get_or_insert(FieldsV1(Value::Null));
    for entry in found {
        if let Some(more) = entry.fields_v1 {
            unite(&mut fields.0, more.0);
        }
    }
    Some(kept)
}

fn unite(fields: &mut Value, more: Value) {
    match (fields, more) {
        (Value::Object(fields), Value::Object(more)) => {
            for (name, below) in more {
                unite(fields.entry(name).or_insert(Value::Null), below);
            }
        }
        (fields @ Value::Null, more) => *fields = more,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(entries: Value) -> DynamicObject {
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "managedFields": entries}});
        serde_json::from_value(object).expect("an object")
    }

    #[test]
    fn what_was_applied_from_the_clients_side_is_adopted() {
        let entry = |manager: &str, operation: &str, version: &str, fields: Value| json!({"manager": manager, "operation": operation, "apiVersion": version, "fieldsType": "FieldsV1", "fieldsV1": fields});
        let before = object(json!([
            entry(
                "kubectl-client-side-apply",
                "Update",
                "v1",
                json!({"f:spec": {"f:a": {}, "f:b": {}}})
            ),
            entry("somebody", "Update", "v1", json!({"f:spec": {"f:z": {}}})),
            entry(
                "plimsoll-apply",
                "Apply",
                "v1",
                json!({"f:spec": {"f:a": {}, "f:c": {"f:d": {}}}})
            ),
        ]));
        let after = adopted(&before, "v1").expect("adopted");
        assert_eq!(
            serde_json::to_value(after).expect("JSON"),
            json!([
                entry("somebody", "Update", "v1", json!({"f:spec": {"f:z": {}}})),
                entry(
                    "plimsoll-apply",
                    "Apply",
                    "v1",
                    json!({"f:spec": {"f:a": {}, "f:b": {}, "f:c": {"f:d": {}}}})
                ),
            ])
        );
        let before = object(json!([entry(
            "plimsoll-apply",
            "Update",
            "v1",
            json!({"f:spec": {"f:a": {}}})
        ),]));
        let after = adopted(&before, "v1").expect("adopted");
        assert_eq!(
            serde_json::to_value(after).expect("JSON"),
            json!([entry(
                "plimsoll-apply",
                "Apply",
                "v1",
                json!({"f:spec": {"f:a": {}}})
            )])
        );
        // nothing to adopt
        let others = object(json!([
            entry("kubectl-client-side-apply", "Update", "v2", json!({})),
            entry("plimsoll-apply", "Apply", "v1", json!({})),
        ]));
        assert!(adopted(&others, "v1").is_none());
    }
}
