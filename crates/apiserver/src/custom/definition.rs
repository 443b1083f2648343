//! CustomResourceDefinition as a kind: defaults, strategies, validation (upstream `pkg/apis/apiextensions`,
//! `pkg/registry/customresourcedefinition`).

mod checks;
mod version;

use serde_json::{Value, json};

use crate::object::{at, items, text};
pub use checks::{validate, validate_update};

pub const GROUP: &str = "apiextensions.k8s.io";
pub const PLURAL: &str = "customresourcedefinitions";
pub const PREFIX: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/";
/// Keeps a definition until its objects are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// What groups of the project's own need (KEP-1111).
const APPROVED: &str = "api-approved.kubernetes.io";
const MORE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

pub fn defaults(object: &mut Value) {
    let spec = &mut object["spec"];
    if !spec.is_object() {
        return;
    }
    let kind = text(spec, &["names", "kind"]).to_owned();
    if spec["names"].is_object() && !kind.is_empty() {
        if text(spec, &["names", "singular"]).is_empty() {
            spec["names"]["singular"] = kind.to_lowercase().into();
        }
        if text(spec, &["names", "listKind"]).is_empty() {
            spec["names"]["listKind"] = format!("{kind}List").into();
        }
    }
    if !spec["conversion"].is_object() {
        spec["conversion"] = json!({"strategy": "None"});
    }
    if at(spec, &["conversion", "webhook", "clientConfig", "service"]).is_some_and(Value::is_object)
    {
        let service = &mut spec["conversion"]["webhook"]["clientConfig"]["service"];
        if service["port"].is_null() {
            service["port"] = 443.into();
        }
    }
    // it means nothing any more, and upstream leaves false out
    if let Some(spec) = spec.as_object_mut()
        && spec.get("preserveUnknownFields") == Some(&Value::Bool(false))
    {
        spec.remove("preserveUnknownFields");
    }
}

/// A new definition has accepted nothing yet; its storage version counts as stored.
pub fn prepare_create(object: &mut Value) {
    object["status"] = json!({"conditions": [], "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": []});
    add_stored(object);
}

pub fn prepare_update(new: &mut Value, _old: &Value) {
    add_stored(new);
}

fn add_stored(object: &mut Value) {
    let versions = items(object, &["spec", "versions"]);
    let Some(stored) = versions.iter().find(|version| version["storage"] == true) else {
        return;
    };
    let name = stored["name"].clone();
    let mut all = items(object, &["status", "storedVersions"]).to_vec();
    if !all.contains(&name) {
        all.push(name);
        object["status"]["storedVersions"] = all.into();
    }
}

/// A condition of a status.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    items(object, &["status", "conditions"])
        .iter()
        .find(|condition| condition["type"] == kind)
}

/// Sets a condition; the time changes when the status does.
pub fn set_condition(
    object: &mut Value,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: &str,
) {
    let mut conditions = items(object, &["status", "conditions"]).to_vec();
    let mut new = json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now});
    match conditions
        .iter_mut()
        .find(|condition| condition["type"] == kind)
    {
        Some(old) => {
            if old["status"] == status {
                new["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            *old = new;
        }
        None => conditions.push(new),
    }
    object["status"]["conditions"] = conditions.into();
}

/// Whether a group is the project's own, and what the annotation says: status, reason and message of the condition
/// `KubernetesAPIApprovalPolicyConformant`.
pub fn approved(object: &Value) -> Option<(&'static str, &'static str, String)> {
    let group = text(object, &["spec", "group"]);
    let own = |domain: &str| {
        group == domain
            || group
                .strip_suffix(domain)
                .is_some_and(|rest| rest.ends_with('.'))
    };
    if !own("k8s.io") && !own("kubernetes.io") {
        return None;
    }
    let said = text(object, &["metadata", "annotations", APPROVED]);
    Some(if said.is_empty() {
        (
            "False",
            "MissingAnnotation",
            format!("protected groups must have approval annotation {APPROVED:?}, {MORE}"),
        )
    } else if said.starts_with("unapproved") {
        (
            "False",
            "UnapprovedAnnotation",
            format!("not approved: {said:?}"),
        )
    } else if said
        .parse::<http::Uri>()
        .is_ok_and(|uri| uri.scheme().is_some() && uri.host().is_some())
    {
        ("True", "ApprovedAnnotation", format!("approved in {said}"))
    } else {
        (
            "False",
            "InvalidAnnotation",
            format!(
                "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \"unapproved\", {MORE}"
            ),
        )
    })
}

/// `NAME`, `CREATED AT`.
pub fn cells(object: &Value) -> Vec<Value> {
    vec![
        text(object, &["metadata", "name"]).into(),
        text(object, &["metadata", "creationTimestamp"]).into(),
    ]
}

/// What a deletion begins with: objects go first.
pub fn begin_deletion(object: &mut Value) {
    let mut finalizers = items(object, &["metadata", "finalizers"]).to_vec();
    if !finalizers.iter().any(|finalizer| finalizer == CLEANUP) {
        finalizers.push(CLEANUP.into());
        object["metadata"]["finalizers"] = finalizers.into();
    }
    set_condition(
        object,
        "Terminating",
        "True",
        "InstanceDeletionPending",
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        &crate::time::now(),
    );
}

#[cfg(test)]
#[path = "definition_tests.rs"]
mod tests;
