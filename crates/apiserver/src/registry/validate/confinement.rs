//! Validation of what confines a pod: profiles of seccomp and AppArmor, and whose namespaces it has. Upstream's words.

use serde_json::Value;

use super::Problems;
use crate::object::{at, items, text};

/// Longest name of an AppArmor profile.
const NAME_LENGTH_MAX: usize = 4095;

/// A pod's or template's spec.
pub(super) fn pod(spec: &Value, field: &str, problems: &mut Problems) {
    let on = |name: &str| spec[name] == true;
    if on("hostPID") && on("shareProcessNamespace") {
        problems.invalid(
            &format!("{field}.securityContext.shareProcessNamespace"),
            &true.into(),
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    if spec["hostUsers"] == false {
        for (name, shown) in [
            ("hostNetwork", "hostNetwork"),
            ("hostPID", "HostPID"),
            ("hostIPC", "HostIPC"),
        ] {
            if on(name) {
                problems.forbidden(&format!("{field}.{shown}"), "when `hostUsers` is false");
            }
        }
    }
    context(spec, field, problems);
    for list in ["containers", "initContainers"] {
        for (n, one) in items(spec, &[list]).iter().enumerate() {
            context(one, &format!("{field}.{list}[{n}]"), problems);
        }
    }
}

fn context(owner: &Value, field: &str, problems: &mut Problems) {
    let field = format!("{field}.securityContext");
    for (name, module) in [
        ("seccompProfile", "seccomp"),
        ("appArmorProfile", "AppArmor"),
    ] {
        if let Some(one) = at(owner, &["securityContext", name]).filter(|one| one.is_object()) {
            profile(one, module, name, &format!("{field}.{name}"), problems);
        }
    }
}

fn profile(profile: &Value, module: &str, name: &str, field: &str, problems: &mut Problems) {
    let file = profile["localhostProfile"].as_str();
    let place = format!("{field}.localhostProfile");
    match (text(profile, &["type"]), file) {
        ("", _) => problems.required(
            &format!("{field}.type"),
            &format!("type is required when {name} is set"),
        ),
        ("Localhost", None) => {
            problems.required(
                &place,
                &format!("must be set when {module} type is Localhost"),
            );
        }
        ("Localhost", Some(file)) if module == "seccomp" => {
            if file.starts_with('/') {
                problems.invalid(&place, &file.into(), "must be a relative path");
            }
            if file.split('/').any(|part| part == "..") {
                problems.invalid(&place, &file.into(), "must not contain '..'");
            }
        }
        ("Localhost", Some(file)) => {
            if file.trim() != file {
                problems.invalid(&place, &file.into(), "must not be padded with whitespace");
            } else if file.is_empty() {
                problems.required(&place, "must be set when AppArmor type is Localhost");
            } else if file.len() > NAME_LENGTH_MAX {
                problems.too_long(&place, NAME_LENGTH_MAX);
            }
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("RuntimeDefault" | "Unconfined", Some(file)) => problems.invalid(
            &place,
            &file.into(),
            &format!("can only be set when {module} type is Localhost"),
        ),
        (other, _) => problems.not_supported(
            &format!("{field}.type"),
            &other.into(),
            &["Localhost", "RuntimeDefault", "Unconfined"],
        ),
    }
}
