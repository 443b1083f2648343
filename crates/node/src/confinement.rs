//! Confinement that a pod asks for and this node cannot give: the pod is not run with less than it asked for.

use k8s_openapi::api::core::v1::{AppArmorProfile, Pod, SeccompProfile};

/// What stands in the way, in words for the pod's events.
pub fn unmet(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if spec.host_users == Some(false) {
        return Some("hostUsers: false: this node does not support user namespaces yet".into());
    }
    let shared = spec.security_context.as_ref();
    let of_pod = shared.and_then(|context| {
        seccomp(context.seccomp_profile.as_ref()).or(app_armor(context.app_armor_profile.as_ref()))
    });
    let containers = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    let mut of_containers = containers.filter_map(|container| {
        let context = container.security_context.as_ref()?;
        let reason = seccomp(context.seccomp_profile.as_ref())
            .or(app_armor(context.app_armor_profile.as_ref()))?;
        Some(format!("container {}: {reason}", container.name))
    });
    of_pod.or_else(|| of_containers.next())
}

fn seccomp(profile: Option<&SeccompProfile>) -> Option<String> {
    (profile?.type_ == "Localhost").then(|| {
        "seccompProfile of type Localhost: this node has RuntimeDefault and Unconfined only".into()
    })
}

fn app_armor(profile: Option<&AppArmorProfile>) -> Option<String> {
    (profile?.type_ != "Unconfined")
        .then(|| "Cannot enforce AppArmor: this node does not support it yet".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_is_run_with_less_than_it_asked_for() {
        let container =
            |context| json!({ "containers": [{ "name": "main", "securityContext": context }] });
        for (spec, reason) in [
            (json!({ "containers": [{ "name": "main" }] }), None),
            (json!({ "containers": [], "hostUsers": true }), None),
            (
                json!({ "containers": [], "hostUsers": false }),
                Some("user namespaces"),
            ),
            (
                container(json!({ "seccompProfile": { "type": "RuntimeDefault" } })),
                None,
            ),
            (
                container(json!({ "seccompProfile": { "type": "Unconfined" } })),
                None,
            ),
            (
                container(
                    json!({ "seccompProfile": { "type": "Localhost", "localhostProfile": "x.json" } }),
                ),
                Some("container main: seccompProfile"),
            ),
            (
                container(json!({ "appArmorProfile": { "type": "Unconfined" } })),
                None,
            ),
            (
                container(json!({ "appArmorProfile": { "type": "RuntimeDefault" } })),
                Some("AppArmor"),
            ),
            (
                json!({ "containers": [], "securityContext": { "appArmorProfile": { "type": "Localhost", "localhostProfile": "x" } } }),
                Some("AppArmor"),
            ),
        ] {
            let pod: Pod =
                serde_json::from_value(json!({ "metadata": {}, "spec": spec })).expect("a pod");
            let found = unmet(&pod);
            match reason {
                None => assert_eq!(found, None, "{spec}"),
                Some(reason) => assert!(
                    found.as_ref().is_some_and(|found| found.contains(reason)),
                    "{spec}: {found:?}"
                ),
            }
        }
    }
}
