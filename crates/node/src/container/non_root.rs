//! runAsNonRoot: whether a container would run as root, told before anything of it is made.

use k8s_openapi::api::core::v1::{Container, Pod};

/// Why the container must not start: it may not run as root, and would (kubelet `security_context_others.go`).
pub fn breaks_non_root(pod: &Pod, container: &Container, image_user: &str) -> Option<String> {
    let shared = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.security_context.clone())
        .unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    if own.run_as_non_root.or(shared.run_as_non_root) != Some(true) {
        return None;
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let metadata = &pod.metadata;
    let of = format!(
        "(pod: \"{}_{}({})\", container: {})",
        text(&metadata.name),
        text(&metadata.namespace),
        text(&metadata.uid),
        container.name
    );
    match own.run_as_user.or(shared.run_as_user) {
        Some(0) => return Some(format!("container's runAsUser breaks non-root policy {of}")),
        Some(_) => return None,
        None => {}
    }
    let user = image_user.split(':').next().unwrap_or_default();
    match user.parse::<i64>() {
        Ok(0) => {}
        Ok(_) => return None,
        Err(_) if user.is_empty() => {}
        Err(_) => {
            return Some(format!(
                "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root {of}"
            ));
        }
    }
    Some(format!(
        "container has runAsNonRoot and image will run as root {of}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_be_root() {
        for (of_pod, own, image, want) in [
            (serde_json::json!({}), serde_json::json!({}), "", None),
            (
                serde_json::json!({ "runAsNonRoot": true }),
                serde_json::json!({}),
                "",
                Some("image will run as root"),
            ),
            (
                serde_json::json!({ "runAsNonRoot": true }),
                serde_json::json!({}),
                "0:5",
                Some("image will run as root"),
            ),
            (
                serde_json::json!({ "runAsNonRoot": true }),
                serde_json::json!({ "runAsNonRoot": false }),
                "",
                None,
            ),
            (
                serde_json::json!({ "runAsNonRoot": true }),
                serde_json::json!({ "runAsUser": 5 }),
                "",
                None,
            ),
            (
                serde_json::json!({ "runAsNonRoot": true, "runAsUser": 0 }),
                serde_json::json!({}),
                "7",
                Some("container's runAsUser breaks non-root policy"),
            ),
            (
                serde_json::json!({}),
                serde_json::json!({ "runAsNonRoot": true }),
                "web",
                Some("image has non-numeric user (web), cannot verify user is non-root"),
            ),
            (
                serde_json::json!({}),
                serde_json::json!({ "runAsNonRoot": true }),
                "7",
                None,
            ),
        ] {
            let pod: Pod = serde_json::from_value(serde_json::json!({ "metadata": { "name": "p", "namespace": "n", "uid": "u" },
                "spec": { "securityContext": of_pod, "containers": [{ "name": "c", "securityContext": own }] } })).expect("a pod");
            let container = &pod.spec.as_ref().expect("spec").containers[0];
            let said = breaks_non_root(&pod, container, image);
            assert_eq!(said.is_some(), want.is_some(), "{pod:?} {image} {said:?}");
            if let (Some(said), Some(want)) = (said, want) {
                assert!(
                    said.contains(want) && said.ends_with("(pod: \"p_n(u)\", container: c)"),
                    "{said}"
                );
            }
        }
    }
}
