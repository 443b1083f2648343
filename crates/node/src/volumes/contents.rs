//! What a volume's files depend on, and what they may be called: questions about the pod's spec alone.

use k8s_openapi::api::core::v1::{Pod, Volume, VolumeProjection};

use super::place::inside;

/// Kinds that files are made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    ConfigMap,
    Secret,
}

/// Whether the volume's files come from the API.
pub fn fills(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

fn sources(volume: &Volume) -> impl Iterator<Item = &VolumeProjection> {
    let projected = volume.projected.as_ref();
    projected
        .and_then(|projected| projected.sources.as_deref())
        .unwrap_or_default()
        .iter()
}

/// The objects that the volume is filled from.
pub fn objects(volume: &Volume) -> Vec<(Kind, &str)> {
    let mut found = Vec::new();
    if let Some(map) = &volume.config_map {
        found.push((Kind::ConfigMap, map.name.as_str()));
    }
    if let Some(secret) = &volume.secret {
        found.push((
            Kind::Secret,
            secret.secret_name.as_deref().unwrap_or_default(),
        ));
    }
    for source in sources(volume) {
        if let Some(map) = &source.config_map {
            found.push((Kind::ConfigMap, map.name.as_str()));
        }
        if let Some(secret) = &source.secret {
            found.push((Kind::Secret, secret.name.as_str()));
        }
    }
    found
}

/// Whether what is in it must not lie on a disk.
pub fn is_secret(volume: &Volume) -> bool {
    volume.secret.is_some()
        || sources(volume)
            .any(|source| source.secret.is_some() || source.service_account_token.is_some())
}

/// Whether it holds labels or annotations of the pod, which change.
pub fn shows_metadata(volume: &Volume) -> bool {
    let own = volume.downward_api.iter().flat_map(|source| &source.items);
    let projected = sources(volume).flat_map(|source| {
        let downward = source.downward_api.as_ref();
        downward.into_iter().flat_map(|source| &source.items)
    });
    own.chain(projected).flatten().any(|item| {
        item.field_ref.as_ref().is_some_and(|field| {
            field.field_path.starts_with("metadata.labels")
                || field.field_path.starts_with("metadata.annotations")
        })
    })
}

/// Whether a file's path stays in the volume, and apart from the names by which the volume is updated.
pub fn stays(path: &str) -> bool {
    !path.is_empty() && inside(path).is_some() && !path.starts_with("..")
}

/// The user as whom every container runs, if it is one.
pub fn user_of(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let shared = spec.security_context.as_ref().and_then(|c| c.run_as_user);
    let mut users = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .map(|container| {
            let own = container
                .security_context
                .as_ref()
                .and_then(|c| c.run_as_user);
            own.or(shared)
        });
    let first = users.next()??;
    users
        .all(|user| user == Some(first))
        .then(|| u32::try_from(first).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_files() {
        for (path, good) in [
            ("a", true),
            ("a/b..c", true),
            ("..data", false),
            ("..a/b", false),
            ("../a", false),
            ("/a", false),
            ("", false),
        ] {
            assert_eq!(stays(path), good, "{path}");
        }
    }

    #[test]
    fn whose_token_it_is() {
        for (spec, want) in [
            (serde_json::json!({ "containers": [{ "name": "a" }] }), None),
            (
                serde_json::json!({ "securityContext": { "runAsUser": 7 }, "containers": [{ "name": "a" }, { "name": "b" }] }),
                Some(7),
            ),
            (
                serde_json::json!({ "securityContext": { "runAsUser": 7 }, "containers": [{ "name": "a", "securityContext": { "runAsUser": 8 } }, { "name": "b" }] }),
                None,
            ),
        ] {
            let pod: Pod =
                serde_json::from_value(serde_json::json!({ "spec": spec })).expect("a pod");
            assert_eq!(user_of(&pod), want, "{pod:?}");
        }
    }
}
