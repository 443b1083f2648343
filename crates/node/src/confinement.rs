//! How far a pod is confined: its profiles, and whose namespaces it has. What it asks for and cannot have is refused: no pod is
//! run with less than it asked for.

pub mod app_armor;
pub mod sysctls;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path};

use engine::{IpcNamespace, PidNamespace};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

const SECCOMP_BYTES_MAX: u64 = 1 << 20;

/// Which processes the containers of a pod see.
pub fn processes(spec: &PodSpec) -> PidNamespace {
    match (spec.host_pid, spec.share_process_namespace) {
        (Some(true), _) => PidNamespace::Host,
        (_, Some(true)) => PidNamespace::Sandbox,
        _ => PidNamespace::Own,
    }
}

/// Whose shared memory and semaphores they use.
pub fn shared_memory(spec: &PodSpec) -> IpcNamespace {
    match spec.host_ipc {
        Some(true) => IpcNamespace::Host,
        _ => IpcNamespace::Sandbox,
    }
}

/// The seccomp profile of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    #[default]
    RuntimeDefault,
    Unconfined,
    /// The text of a file of this node.
    Profile(String),
}

/// The container's own profile, else the pod's; of type `Localhost` its text, from beneath `directory`.
///
/// # Errors
/// A file that cannot be read, in upstream's words.
pub fn seccomp(pod: &Pod, container: &Container, directory: &Path) -> Result<Seccomp, String> {
    let own = container.security_context.as_ref();
    let shared = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.security_context.as_ref());
    let profile = own
        .and_then(|context| context.seccomp_profile.as_ref())
        .or(shared.and_then(|context| context.seccomp_profile.as_ref()));
    let Some(profile) = profile else {
        return Ok(Seccomp::RuntimeDefault);
    };
    match profile.type_.as_str() {
        "Unconfined" => Ok(Seccomp::Unconfined),
        "Localhost" => {
            let name = profile.localhost_profile.as_deref().unwrap_or_default();
            let descends = Path::new(name)
                .components()
                .all(|part| matches!(part, Component::Normal(_)));
            if name.is_empty() || !descends {
                return Err(format!(
                    "localhostProfile {name:?} is no path beneath {}",
                    directory.display()
                ));
            }
            let path = directory.join(name);
            read_bounded(&path).map(Seccomp::Profile).map_err(|error| {
                let (path, error) = (path.display(), words(&error));
                format!(
                    "cannot load seccomp profile {:?}: open {path}: {error}",
                    path.to_string()
                )
            })
        }
        _ => Ok(Seccomp::RuntimeDefault),
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    // Opening a pipe would wait for somebody to write.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = String::new();
    // A byte more than the engine takes: it tells what is wrong.
    File::open(path)?
        .take(SECCOMP_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    Ok(text)
}

fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or(&text)
        .to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_containers_profile_comes_before_the_pods_and_lies_beneath_the_directory() {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-seccomp-")
            .tempdir()
            .expect("temp dir");
        std::fs::create_dir(dir.path().join("sub")).expect("mkdir");
        std::fs::write(dir.path().join("sub/a.json"), "{}").expect("write");
        let of = |shared: serde_json::Value, own: serde_json::Value| {
            let pod: Pod = serde_json::from_value(json!({ "metadata": {}, "spec": {
                "securityContext": { "seccompProfile": shared },
                "containers": [{ "name": "main", "securityContext": { "seccompProfile": own } }] } }))
            .expect("a pod");
            let container = pod.spec.as_ref().expect("spec").containers[0].clone();
            seccomp(&pod, &container, dir.path())
        };
        let local = |path: &str| json!({ "type": "Localhost", "localhostProfile": path });
        let null = serde_json::Value::Null;
        assert_eq!(of(null.clone(), null.clone()), Ok(Seccomp::RuntimeDefault));
        assert_eq!(
            of(json!({ "type": "Unconfined" }), null.clone()),
            Ok(Seccomp::Unconfined)
        );
        let own = json!({ "type": "RuntimeDefault" });
        assert_eq!(
            of(json!({ "type": "Unconfined" }), own),
            Ok(Seccomp::RuntimeDefault)
        );
        assert_eq!(
            of(local("sub/a.json"), null.clone()),
            Ok(Seccomp::Profile("{}".into()))
        );
        for (path, expected) in [
            ("none.json", "none.json: no such file or directory"),
            ("sub", "not a regular file"),
            ("../sub/a.json", "no path beneath"),
            ("/etc/passwd", "no path beneath"),
            ("", "no path beneath"),
        ] {
            let error = of(null.clone(), local(path)).expect_err(path);
            assert!(error.contains(expected), "{path}: {error}");
        }
    }
}
