//! The profiles that confine containers: AppArmor, SELinux, seccomp.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Violation;
use super::pod::{Pod, containers, name, plural, quoted, secured, setters};
use crate::object::text;

const APP_ARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_ANNOTATION: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER_ANNOTATION: &str = "container.seccomp.security.alpha.kubernetes.io/";
const SECCOMP: &str = "seccompProfile";

/// The type of a profile, when there is one and its type confines nobody.
fn loose<'a>(of: &'a Value, profile: &str) -> Option<&'a str> {
    let kind = text(secured(of, profile)?, &["type"]);
    (!matches!(kind, "RuntimeDefault" | "Localhost")).then_some(kind)
}

/// All such types of the pod and its containers.
fn loose_kinds<'a>(pod: &Pod<'a>, profile: &str) -> BTreeSet<&'a str> {
    let all = std::iter::once(pod.spec).chain(pod.containers());
    all.filter_map(|of| loose(of, profile)).collect()
}

/// An AppArmor profile is the runtime's or one of the node, in the fields and in the annotations before them.
pub(super) fn app_armor(pod: &Pod) -> Option<Violation> {
    const PROFILE: &str = "appArmorProfile";
    let by = pod.named(|container| loose(container, PROFILE).is_some());
    let mut who: Vec<_> = setters(loose(pod.spec, PROFILE).is_some(), &by)
        .into_iter()
        .collect();
    let mut values: Vec<_> = loose_kinds(pod, PROFILE)
        .into_iter()
        .map(str::to_owned)
        .collect();
    let mut annotations: Vec<_> = pod
        .annotations()
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.starts_with(APP_ARMOR_ANNOTATION))
        .map(|(key, value)| (key, value.as_str().unwrap_or_default()))
        .filter(|(_, value)| {
            !matches!(*value, "" | "runtime/default") && !value.starts_with("localhost/")
        })
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    annotations.sort();
    if !annotations.is_empty() {
        who.push(plural(annotations.len(), "annotation", "annotations").to_owned());
        values.extend(annotations);
    }
    if who.is_empty() {
        return None;
    }
    let reason = match values.len() {
        1 => "forbidden AppArmor profile",
        _ => "forbidden AppArmor profiles",
    };
    let detail = format!(
        "{} must not set AppArmor profile type to {}",
        who.join(" and "),
        quoted(values)
    );
    Violation::new(reason, detail)
}

/// SELinux types are those of containers, and users and roles are not chosen.
pub(super) fn se_linux(pod: &Pod) -> Option<Violation> {
    const OPTIONS: &str = "seLinuxOptions";
    let wrong_type = |options: &&str| match *options {
        "" | "container_t" | "container_init_t" | "container_kvm_t" => false,
        "container_engine_t" => pod.minor < 31,
        _ => true,
    };
    let set = |of, field: &str| {
        let options = secured(of, OPTIONS);
        options.is_some_and(|options| !text(options, &[field]).is_empty())
    };
    let of_type = |of| {
        let options = secured(of, OPTIONS);
        options
            .map(|options| text(options, &["type"]))
            .filter(wrong_type)
    };
    let wrong = |of| of_type(of).is_some() || set(of, "user") || set(of, "role");
    let by = pod.named(wrong);
    let setters = setters(wrong(pod.spec), &by)?;
    let all = || std::iter::once(pod.spec).chain(pod.containers());
    let types: BTreeSet<_> = all().filter_map(of_type).collect();
    let mut what = Vec::new();
    if !types.is_empty() {
        let word = plural(types.len(), "type", "types");
        what.push(format!("{word} {}", quoted(types)));
    }
    for field in ["user", "role"] {
        if all().any(|of| set(of, field)) {
            what.push(format!("{field} may not be set"));
        }
    }
    let detail = format!(
        "{setters} set forbidden securityContext.seLinuxOptions: {}",
        what.join("; ")
    );
    Violation::new("seLinuxOptions", detail)
}

/// A seccomp profile that is named confines; before 1.19 it was named in annotations.
pub(super) fn seccomp(pod: &Pod) -> Option<Violation> {
    if pod.minor < 19 {
        return annotated_seccomp(pod);
    }
    let by = pod.named(|container| loose(container, SECCOMP).is_some());
    let setters = setters(loose(pod.spec, SECCOMP).is_some(), &by)?;
    let detail = format!(
        "{setters} must not set securityContext.seccompProfile.type to {}",
        quoted(loose_kinds(pod, SECCOMP))
    );
    Violation::new(SECCOMP, detail)
}

fn annotated_seccomp(pod: &Pod) -> Option<Violation> {
    let of_containers = pod.containers().map(name);
    let keys = std::iter::once(SECCOMP_ANNOTATION.to_owned())
        .chain(of_containers.map(|name| format!("{SECCOMP_CONTAINER_ANNOTATION}{name}")));
    let annotations = pod.annotations()?;
    let bad: BTreeSet<_> = keys
        .filter_map(|key| {
            let value = annotations.get(&key)?.as_str()?;
            let confines = matches!(value, "runtime/default" | "docker/default")
                || value.starts_with("localhost/");
            (!confines).then(|| format!("{key}={value:?}"))
        })
        .collect();
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "forbidden {} {}",
        plural(bad.len(), "annotation", "annotations"),
        bad.into_iter().collect::<Vec<_>>().join(", ")
    );
    Violation::new(SECCOMP, detail)
}

/// The pod or each of its containers names a seccomp profile, and it confines.
pub(super) fn required_seccomp(pod: &Pod) -> Option<Violation> {
    if pod.is_for_windows() {
        return None;
    }
    if let Some(wrong) = seccomp(pod) {
        return Some(wrong);
    }
    let silent = pod.named(|container| secured(container, SECCOMP).is_none());
    if secured(pod.spec, SECCOMP).is_some() || silent.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        containers(&silent)
    );
    Violation::new(SECCOMP, detail)
}
