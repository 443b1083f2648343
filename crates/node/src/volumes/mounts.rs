//! Which volumes a container sees, and where.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, VolumeMount};

use super::place::inside;
use super::{Place, beneath};
use crate::environment::expand;

/// The container's mounts, from the places that `prepare` made. `environment` is for subPathExpr; parts of volumes are
/// mounted beneath `directory`, the pod's own.
pub fn mounts(
    container: &Container,
    volumes: &BTreeMap<String, Place>,
    environment: &[(String, String)],
    directory: &Path,
) -> Result<Vec<engine::Mount>, String> {
    let mut mounts = Vec::new();
    for (number, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let place = volumes.get(&mount.name).ok_or_else(|| {
            format!(
                "container {} mounts volume {}, which the pod does not have",
                container.name, mount.name
            )
        })?;
        let source = match sub_path(mount, environment)? {
            None => place.path.clone(),
            Some(sub) => {
                let inside = inside(&sub).ok_or_else(|| {
                    format!("subPath {sub:?} must be relative and must not contain '..'")
                })?;
                let target = directory
                    .join("volume-subpaths")
                    .join(&mount.name)
                    .join(&container.name)
                    .join(number.to_string());
                beneath::bind(&place.path, inside, &target).map_err(|error| {
                    // upstream's words; what the kernel said may tell of files that the pod must not know
                    tracing::warn!(%error, sub, volume = mount.name, "a part of a volume could not be mounted");
                    format!(
                        "failed to prepare subPath for volumeMount {:?} of container {:?}",
                        mount.name, container.name
                    )
                })?;
                target
            }
        };
        mounts.push(engine::Mount {
            source,
            target: mount.mount_path.clone(),
            kind: engine::MountKind::Bind,
            read_only: place.read_only || mount.read_only.unwrap_or(false),
            options: options(mount),
        });
    }
    Ok(mounts)
}

/// The part of the volume that is asked for; `None`: all of it. An expression that lacks a value asks for neither.
fn sub_path(
    mount: &VolumeMount,
    environment: &[(String, String)],
) -> Result<Option<String>, String> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let Some(expression) = given(&mount.sub_path_expr) else {
        return Ok(given(&mount.sub_path));
    };
    let missing = RefCell::new(Vec::new());
    let lookup = |name: &str| {
        let found = environment.iter().find(|(n, _)| n == name);
        let value = found.map(|(_, value)| value.clone());
        if value.as_ref().is_none_or(String::is_empty) {
            missing.borrow_mut().push(name.to_owned());
        }
        value
    };
    let expanded = expand(&expression, lookup);
    match missing.into_inner().as_slice() {
        [] => Ok(Some(expanded)),
        missing => Err(format!("missing value for {}", missing.join(", "))),
    }
}

/// How mounts made on one side later reach the other, and whether what is mounted deeper is read-only too.
fn options(mount: &VolumeMount) -> Vec<String> {
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => Some("rslave"),
        Some("Bidirectional") => Some("rshared"),
        _ => None,
    };
    let recursive = matches!(
        mount.recursive_read_only.as_deref(),
        Some("Enabled" | "IfPossible")
    );
    let recursive = (recursive && mount.read_only == Some(true)).then_some("rro");
    propagation
        .into_iter()
        .chain(recursive)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(mount: serde_json::Value) -> Container {
        serde_json::from_value(serde_json::json!({ "name": "c", "volumeMounts": [mount] }))
            .expect("fixture")
    }

    fn volumes(path: &Path, read_only: bool) -> BTreeMap<String, Place> {
        [(
            "v".to_owned(),
            Place {
                path: path.to_owned(),
                read_only,
            },
        )]
        .into()
    }

    #[test]
    fn sub_paths_are_mounted_by_themselves_and_stay_inside() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let held = tempfile::Builder::new()
            .prefix("plimsoll-volume-")
            .tempdir()
            .expect("directory");
        let (base, pod) = (held.path().join("v"), held.path().join("pod"));
        std::fs::create_dir(&base).expect("made");
        std::os::unix::fs::symlink("/etc", base.join("out")).expect("link");
        let environment = [
            ("POD".to_owned(), "web-0".to_owned()),
            ("UP".to_owned(), "..".to_owned()),
            ("EMPTY".to_owned(), String::new()),
        ];
        let with = |field: &str, sub: &str| {
            let mount = serde_json::json!({ "name": "v", "mountPath": "/x", field: sub });
            mounts(
                &container(mount),
                &volumes(&base, false),
                &environment,
                &pod,
            )
        };
        let source = with("subPath", "new/dir").expect("made")[0].source.clone();
        std::fs::write(base.join("new/dir/file"), "x").expect("written");
        assert!(source.join("file").exists() && source.starts_with(&pod));
        with("subPathExpr", "$(POD)/x").expect("made");
        std::fs::write(base.join("web-0/x/other"), "x").expect("written");
        assert!(
            source.join("other").exists(),
            "the same place, mounted anew"
        );
        std::fs::write(base.join("plain"), "text").expect("written");
        with("subPath", "plain").expect("a file");
        assert_eq!(std::fs::read(&source).expect("a file"), b"text");
        let out = with("subPath", "out").expect_err("link out");
        let climbing = ["../x", "/etc", "a/../../b"].map(|path| with("subPath", path).is_err());
        let expression = with("subPathExpr", "$(UP)/x").is_err();
        let lacking = ["$(EMPTY)", "tenants/$(EMPTY)/$(NONE)"]
            .map(|text| with("subPathExpr", text).expect_err("a value is missing"));
        let escaped = with("subPathExpr", "$$(NONE)").map(drop);
        super::super::release(&pod).expect("released");
        assert_eq!(
            out,
            "failed to prepare subPath for volumeMount \"v\" of container \"c\""
        );
        assert_eq!(
            lacking,
            ["missing value for EMPTY", "missing value for EMPTY, NONE"]
        );
        escaped.expect("text with a dollar");
        assert!(climbing.into_iter().all(|refused| refused) && expression);
        assert!(base.join("plain").exists(), "only the mounts went");
    }

    #[test]
    fn rights_and_propagation() {
        let path = Path::new("/nowhere");
        let one = |mount: serde_json::Value, read_only| {
            mounts(&container(mount), &volumes(path, read_only), &[], path)
                .expect("mounts")
                .remove(0)
        };
        let plain = serde_json::json!({ "name": "v", "mountPath": "/x" });
        assert!(
            one(plain.clone(), true).read_only,
            "what comes from the API"
        );
        assert!(!one(plain, false).read_only);
        let all = serde_json::json!({ "name": "v", "mountPath": "/x", "readOnly": true, "mountPropagation": "HostToContainer", "recursiveReadOnly": "Enabled" });
        assert_eq!(one(all, false).options, ["rslave", "rro"]);
        let none = serde_json::json!({ "name": "other", "mountPath": "/x" });
        assert!(
            mounts(&container(none), &volumes(path, false), &[], path)
                .expect_err("no such volume")
                .contains("does not have")
        );
    }
}
