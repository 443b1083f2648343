//! Validation of a pod's security context: users and groups, kernel parameters, policies (upstream
//! `validatePodSpecSecurityContext`). Profiles are in `confinement`.

use std::collections::HashSet;

use serde_json::Value;

use super::{Problems, one_of};
use crate::object::{at, items, text};

const SYSCTL_BYTES_MAX: usize = 253;
const SYSCTL: &str = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

/// The `securityContext` of a pod's or template's spec.
pub(super) fn pod(spec: &Value, field: &str, problems: &mut Problems) {
    let Some(context) = at(spec, &["securityContext"]) else {
        return;
    };
    let field = format!("{field}.securityContext");
    for key in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(&context[key], &format!("{field}.{key}"), problems);
    }
    for (n, group) in items(context, &["supplementalGroups"]).iter().enumerate() {
        id(group, &format!("{field}.supplementalGroups[{n}]"), problems);
    }
    for (key, supported) in [
        ("fsGroupChangePolicy", ["Always", "OnRootMismatch"]),
        ("supplementalGroupsPolicy", ["Merge", "Strict"]),
        ("seLinuxChangePolicy", ["MountOption", "Recursive"]),
    ] {
        one_of(context, key, &supported, &field, problems);
    }
    sysctls(spec, context, &format!("{field}.sysctls"), problems);
}

/// A number of a user or group, when it is there.
pub(super) fn id(value: &Value, field: &str, problems: &mut Problems) {
    if let Some(number) = value.as_i64()
        && !(0..=i64::from(i32::MAX)).contains(&number)
    {
        let why = "must be between 0 and 2147483647, inclusive";
        problems.invalid(field, value, why);
    }
}

fn sysctls(spec: &Value, context: &Value, field: &str, problems: &mut Problems) {
    let mut seen = HashSet::new();
    for (n, sysctl) in items(context, &["sysctls"]).iter().enumerate() {
        let field = format!("{field}[{n}].name");
        let name = text(sysctl, &["name"]);
        if name.is_empty() {
            problems.required(&field, "");
        } else if !is_sysctl(name) {
            problems.invalid(&field, &name.into(), SYSCTL);
        } else if !seen.insert(name) {
            problems.duplicate(&field, &name.into());
        }
        // What is the host's would be set for the host.
        let shared = match namespace(name) {
            Some("net") => "hostNetwork",
            Some(_) => "hostIPC",
            None => continue,
        };
        if spec[shared] == true {
            let why = format!("may not be specified when '{shared}' is true");
            problems.invalid(&field, &name.into(), &why);
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= SYSCTL_BYTES_MAX
        && name.split(['.', '/']).all(|part| {
            part.starts_with(alphanumeric)
                && part.ends_with(alphanumeric)
                && part
                    .chars()
                    .all(|c| alphanumeric(c) || matches!(c, '-' | '_'))
        })
}

/// The kind of namespace that a kernel parameter is of.
fn namespace(name: &str) -> Option<&'static str> {
    let name = name.replace('/', ".");
    if name.starts_with("net.") {
        return Some("net");
    }
    let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."];
    (name == "kernel.sem" || ipc.iter().any(|start| name.starts_with(start))).then_some("ipc")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(spec: Value) -> Vec<String> {
        crate::registry::validate::said(|problems| pod(&spec, "spec", problems))
    }

    #[test]
    fn ordinary_contexts_are_taken() {
        for spec in [
            json!({}),
            json!({"securityContext": {"runAsUser": 0, "runAsGroup": 2147483647, "fsGroup": 65534, "supplementalGroups": [0, 1]}}),
            json!({"securityContext": {"fsGroupChangePolicy": "OnRootMismatch", "supplementalGroupsPolicy": "Strict", "seLinuxChangePolicy": "Recursive"}}),
            json!({"securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}, {"name": "kernel/shm_rmid_forced", "value": "1"}, {"name": "net.ipv4.conf.eth0/1.forwarding", "value": "1"}]}}),
            json!({"hostNetwork": true, "securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}),
        ] {
            assert_eq!(said(spec.clone()), Vec::<String>::new(), "{spec}");
        }
    }

    #[test]
    fn impossible_contexts_are_refused() {
        let range = "must be between 0 and 2147483647, inclusive";
        for (context, expected) in [
            (
                json!({"runAsUser": -1}),
                format!("runAsUser: Invalid value: -1: {range}"),
            ),
            (
                json!({"runAsGroup": 2147483648u32}),
                format!("runAsGroup: Invalid value: 2147483648: {range}"),
            ),
            (
                json!({"fsGroup": -5}),
                format!("fsGroup: Invalid value: -5: {range}"),
            ),
            (
                json!({"supplementalGroups": [1, -2]}),
                format!("supplementalGroups[1]: Invalid value: -2: {range}"),
            ),
            (
                json!({"fsGroupChangePolicy": "Never"}),
                "fsGroupChangePolicy: Unsupported value: \"Never\": supported values: \"Always\", \"OnRootMismatch\"".to_owned(),
            ),
            (
                json!({"supplementalGroupsPolicy": "None"}),
                "supplementalGroupsPolicy: Unsupported value: \"None\": supported values: \"Merge\", \"Strict\"".to_owned(),
            ),
            (
                json!({"sysctls": [{"value": "1"}]}),
                "sysctls[0].name: Required value".to_owned(),
            ),
            (
                json!({"sysctls": [{"name": "../../etc/passwd", "value": "1"}]}),
                format!("sysctls[0].name: Invalid value: \"../../etc/passwd\": {SYSCTL}"),
            ),
            (
                json!({"sysctls": [{"name": "net.a", "value": "1"}, {"name": "net.a", "value": "2"}]}),
                "sysctls[1].name: Duplicate value: \"net.a\"".to_owned(),
            ),
        ] {
            let said = said(json!({"securityContext": context}));
            assert_eq!(said, [format!("spec.securityContext.{expected}")]);
        }
        let name = "spec.securityContext.sysctls[0].name: Invalid value";
        let net = json!({"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]});
        assert_eq!(
            said(json!({"hostNetwork": true, "securityContext": net})),
            [format!(
                "{name}: \"net.core.somaxconn\": may not be specified when 'hostNetwork' is true"
            )]
        );
        let ipc = json!({"sysctls": [{"name": "kernel/shmmax", "value": "1"}]});
        assert_eq!(
            said(json!({"hostIPC": true, "securityContext": ipc})),
            [format!(
                "{name}: \"kernel/shmmax\": may not be specified when 'hostIPC' is true"
            )]
        );
    }
}
