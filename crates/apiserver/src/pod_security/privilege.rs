//! As whom and with what rights containers run.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Violation;
use super::pod::{Pod, containers, quoted, secured, setters};
use crate::object::items;

/// The capabilities that containers have by default.
const DEFAULT_CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// No container has all rights.
pub(super) fn privileged(pod: &Pod) -> Option<Violation> {
    let bad = pod.named(|container| container["securityContext"]["privileged"] == true);
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.privileged=true",
        containers(&bad)
    );
    Violation::new("privileged", detail)
}

/// No capabilities beyond those that containers have anyway.
pub(super) fn added_capabilities(pod: &Pod) -> Option<Violation> {
    let detail = added_beyond(pod, DEFAULT_CAPABILITIES)?;
    Violation::new("non-default capabilities", detail)
}

/// All capabilities are dropped, and at most that of binding low ports is added.
pub(super) fn capabilities(pod: &Pod) -> Option<Violation> {
    if pod.is_for_windows() {
        return None;
    }
    let keeps = pod.named(|container| {
        let dropped = items(container, &["securityContext", "capabilities", "drop"]);
        !dropped.iter().any(|capability| capability == "ALL")
    });
    let mut details = Vec::new();
    if !keeps.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            containers(&keeps)
        ));
    }
    details.extend(added_beyond(pod, &["NET_BIND_SERVICE"]));
    if details.is_empty() {
        return None;
    }
    Violation::new("unrestricted capabilities", details.join("; "))
}

/// Which containers add other capabilities than these.
fn added_beyond(pod: &Pod, allowed: &[&str]) -> Option<String> {
    let beyond = |container| {
        items(container, &["securityContext", "capabilities", "add"])
            .iter()
            .filter_map(Value::as_str)
            .filter(|capability| !allowed.contains(capability))
    };
    let bad = pod.named(|container| beyond(container).next().is_some());
    if bad.is_empty() {
        return None;
    }
    let capabilities: BTreeSet<_> = pod.containers().flat_map(beyond).collect();
    Some(format!(
        "{} must not include {} in securityContext.capabilities.add",
        containers(&bad),
        quoted(capabilities)
    ))
}

/// No program gets more rights than the one that started it.
pub(super) fn escalation(pod: &Pod) -> Option<Violation> {
    if pod.is_for_windows() {
        return None;
    }
    let bad =
        pod.named(|container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must set securityContext.allowPrivilegeEscalation=false",
        containers(&bad)
    );
    Violation::new("allowPrivilegeEscalation != false", detail)
}

/// Nobody runs as root, and the pod or each of its containers says so.
pub(super) fn non_root(pod: &Pod) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    if pod.has_own_users() {
        return None;
    }
    let said = |of| secured(of, "runAsNonRoot").and_then(Value::as_bool);
    let by_pod = said(pod.spec);
    let by = pod.named(|container| said(container) == Some(false));
    if let Some(setters) = setters(by_pod == Some(false), &by) {
        let detail = format!("{setters} must not set securityContext.runAsNonRoot=false");
        return Violation::new(REASON, detail);
    }
    let silent = pod.named(|container| said(container).is_none());
    if by_pod == Some(true) || silent.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.runAsNonRoot=true",
        containers(&silent)
    );
    Violation::new(REASON, detail)
}

/// Nobody runs as user 0.
pub(super) fn user(pod: &Pod) -> Option<Violation> {
    if pod.has_own_users() {
        return None;
    }
    let is_root = |of: &Value| of["securityContext"]["runAsUser"] == 0;
    let by = pod.named(is_root);
    let setters = setters(is_root(pod.spec), &by)?;
    Violation::new("runAsUser=0", format!("{setters} must not set runAsUser=0"))
}
