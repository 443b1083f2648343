//! Validation of a container's security context (upstream `ValidateSecurityContext`). Profiles are in `confinement`.

use serde_json::Value;

use super::{Problems, one_of, pod_security};
use crate::object::{at, items};

/// The `securityContext` of a container; whether the pod has the host's users decides what it may see of /proc.
pub(super) fn container(container: &Value, host_users: bool, field: &str, problems: &mut Problems) {
    let Some(context) = at(container, &["securityContext"]) else {
        return;
    };
    let field = format!("{field}.securityContext");
    for key in ["runAsUser", "runAsGroup"] {
        pod_security::id(&context[key], &format!("{field}.{key}"), problems);
    }
    one_of(
        context,
        "procMount",
        &["Default", "Unmasked"],
        &field,
        problems,
    );
    if host_users && context["procMount"] == "Unmasked" {
        let why = "`hostUsers` must be false to use `Unmasked`";
        problems.invalid(&format!("{field}.procMount"), &context["procMount"], why);
    }
    if context["allowPrivilegeEscalation"] != false {
        return;
    }
    if context["privileged"] == true {
        let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        problems.invalid(&field, context, why);
    }
    for added in items(context, &["capabilities", "add"]) {
        if added == "CAP_SYS_ADMIN" {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            problems.invalid(&field, context, why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(context: Value, host_users: bool) -> Vec<String> {
        let one = json!({"securityContext": context});
        crate::registry::validate::said(|problems| container(&one, host_users, "c", problems))
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for context in [
            json!({"privileged": true}),
            json!({"allowPrivilegeEscalation": false, "runAsUser": 1000, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}),
            json!({"procMount": "Default"}),
        ] {
            assert_eq!(
                said(context.clone(), true),
                Vec::<String>::new(),
                "{context}"
            );
        }
        assert!(said(json!({"procMount": "Unmasked"}), false).is_empty());
        let range = "must be between 0 and 2147483647, inclusive";
        for (context, expected) in [
            (
                json!({"runAsUser": -1}),
                format!("c.securityContext.runAsUser: Invalid value: -1: {range}"),
            ),
            (
                json!({"runAsGroup": 4294967295u32}),
                format!("c.securityContext.runAsGroup: Invalid value: 4294967295: {range}"),
            ),
            (
                json!({"procMount": "Hidden"}),
                "c.securityContext.procMount: Unsupported value: \"Hidden\": supported values: \"Default\", \"Unmasked\"".to_owned(),
            ),
            (
                json!({"procMount": "Unmasked"}),
                "c.securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`".to_owned(),
            ),
            (
                json!({"allowPrivilegeEscalation": false, "privileged": true}),
                "c.securityContext: Invalid value: {\"allowPrivilegeEscalation\":false,\"privileged\":true}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true".to_owned(),
            ),
            (
                json!({"allowPrivilegeEscalation": false, "capabilities": {"add": ["CAP_SYS_ADMIN"]}}),
                "c.securityContext: Invalid value: {\"allowPrivilegeEscalation\":false,\"capabilities\":{\"add\":[\"CAP_SYS_ADMIN\"]}}: cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN".to_owned(),
            ),
        ] {
            assert_eq!(said(context, true), [expected]);
        }
    }
}
