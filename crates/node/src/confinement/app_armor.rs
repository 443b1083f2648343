//! Which AppArmor profile a container of a pod has, and which pods this node cannot run for want of AppArmor.
//!
//! Follows the kubelet's `pkg/security/apparmor` and containerd's `generateApparmorSpecOpts`, but for one thing: a pod that asks
//! for the runtime's default by name runs where there is no AppArmor, as one that asks for nothing does. The kubelet refuses it.

use k8s_openapi::api::core::v1::{AppArmorProfile, Container, Pod};

/// Annotations of before `securityContext.appArmorProfile`; the container's name follows.
const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
const UNCONFINED: &str = "unconfined";

/// Why a pod is not run here: reason and message of its status.
pub fn refusal(pod: &Pod, enabled: bool) -> Option<(&'static str, String)> {
    let spec = pod.spec.as_ref()?;
    let mut containers = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    let needed = containers.any(|container| local(pod, container).is_some());
    (needed && !enabled).then(|| {
        (
            "AppArmor",
            "Cannot enforce AppArmor: AppArmor is not enabled on the host".to_owned(),
        )
    })
}

/// The profile in the engine's words: nothing is the engine's default.
///
/// # Errors
/// One that is not loaded, in containerd's words.
pub fn profile(
    pod: &Pod,
    container: &Container,
    loaded: impl Fn(&str) -> std::io::Result<bool>,
) -> Result<String, String> {
    let Some(name) = local(pod, container) else {
        let unconfined = matches!(asked(pod, container), Some(Asked::Unconfined));
        return Ok(if unconfined { UNCONFINED } else { "" }.to_owned());
    };
    let failed = "failed to get container spec opts: failed to generate apparmor spec opts";
    match loaded(&name) {
        Ok(true) => Ok(name),
        Ok(false) => Err(format!("{failed}: apparmor profile not found {name}")),
        Err(error) => Err(format!("{failed}: {error}")),
    }
}

enum Asked {
    Default,
    Unconfined,
    Local(String),
}

fn local(pod: &Pod, container: &Container) -> Option<String> {
    match asked(pod, container)? {
        Asked::Local(name) => Some(name),
        _ => None,
    }
}

/// The container's own field, then the annotation, then the pod's field.
fn asked(pod: &Pod, container: &Container) -> Option<Asked> {
    let own = container.security_context.as_ref();
    let own = own.and_then(|context| of_field(context.app_armor_profile.as_ref()));
    let annotated = || {
        let key = format!("{ANNOTATION}{}", container.name);
        of_annotation(pod.metadata.annotations.as_ref()?.get(&key)?)
    };
    let shared = || {
        let context = pod.spec.as_ref()?.security_context.as_ref()?;
        of_field(context.app_armor_profile.as_ref())
    };
    own.or_else(annotated).or_else(shared)
}

fn of_field(profile: Option<&AppArmorProfile>) -> Option<Asked> {
    let profile = profile?;
    Some(match profile.type_.as_str() {
        "Unconfined" => Asked::Unconfined,
        "Localhost" => Asked::Local(profile.localhost_profile.clone().unwrap_or_default()),
        _ => Asked::Default,
    })
}

fn of_annotation(text: &str) -> Option<Asked> {
    match text {
        "runtime/default" => Some(Asked::Default),
        UNCONFINED => Some(Asked::Unconfined),
        _ => {
            let name = text.strip_prefix("localhost/")?;
            Some(Asked::Local(name.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(annotation: &str, shared: &Value, own: &Value) -> Pod {
        let annotations = match annotation {
            "" => json!({}),
            text => json!({ "container.apparmor.security.beta.kubernetes.io/main": text,
                "container.apparmor.security.beta.kubernetes.io/other": "localhost/others" }),
        };
        let pod = json!({ "metadata": { "annotations": annotations }, "spec": {
            "securityContext": { "appArmorProfile": shared },
            "containers": [{ "name": "main", "securityContext": { "appArmorProfile": own } }] } });
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn the_containers_field_then_the_annotation_then_the_pods_field() {
        let none = Value::Null;
        let default = json!({ "type": "RuntimeDefault" });
        let free = json!({ "type": "Unconfined" });
        let mine = json!({ "type": "Localhost", "localhostProfile": "mine" });
        let not_found = "failed to get container spec opts: failed to generate apparmor spec opts: apparmor profile not found";
        for (annotation, shared, own, expected, runs_without) in [
            ("", &none, &none, Ok(""), true),
            ("", &default, &none, Ok(""), true),
            ("", &free, &none, Ok("unconfined"), true),
            ("", &free, &default, Ok(""), true),
            ("", &mine, &none, Ok("mine"), false),
            ("", &mine, &free, Ok("unconfined"), true),
            ("runtime/default", &mine, &none, Ok(""), true),
            ("unconfined", &none, &none, Ok("unconfined"), true),
            ("localhost/mine", &free, &none, Ok("mine"), false),
            ("localhost/mine", &none, &free, Ok("unconfined"), true),
            ("nonsense", &free, &none, Ok("unconfined"), true),
            ("localhost/away", &none, &none, Err("away"), false),
        ] {
            let pod = pod(annotation, shared, own);
            let container = &pod.spec.as_ref().expect("spec").containers[0];
            let found = profile(&pod, container, |name| Ok(name == "mine"));
            let expected = match expected {
                Ok(name) => Ok(name.to_owned()),
                Err(name) => Err(format!("{not_found} {name}")),
            };
            assert_eq!(found, expected, "{annotation} {shared} {own}");
            assert_eq!(refusal(&pod, true), None);
            let refused = refusal(&pod, false);
            assert_eq!(
                refused.is_none(),
                runs_without,
                "{annotation} {shared} {own}"
            );
            if let Some((reason, message)) = refused {
                assert_eq!(reason, "AppArmor");
                assert!(message.ends_with("is not enabled on the host"), "{message}");
            }
        }
    }
}
