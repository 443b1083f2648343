//! Defaults of role bindings (upstream `pkg/apis/rbac/v1/defaults.go`).

use serde_json::Value;

use super::{child, each};
use crate::object::text;

const GROUP: &str = "rbac.authorization.k8s.io";

/// The group of the role, and of users and groups; accounts have none.
pub fn role_binding(object: &mut Value) {
    let role = child(object, "roleRef");
    if text(role, &["apiGroup"]).is_empty() {
        role["apiGroup"] = GROUP.into();
    }
    each(object, "subjects", |subject| {
        let named = matches!(text(subject, &["kind"]), "User" | "Group");
        if named && text(subject, &["apiGroup"]).is_empty() {
            subject["apiGroup"] = GROUP.into();
        }
    });
}
