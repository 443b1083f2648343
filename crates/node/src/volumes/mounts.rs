//! Which volumes a container sees, and where.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use k8s_openapi::api::core::v1::Container;

use super::Place;
use super::place::inside;
use crate::environment::expand;

/// The container's mounts, from the places that `prepare` made. `environment` is for subPathExpr.
pub fn mounts(
    container: &Container,
    volumes: &BTreeMap<String, Place>,
    environment: &[(String, String)],
) -> Result<Vec<engine::Mount>, String> {
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let place = volumes.get(&mount.name).ok_or_else(|| {
            format!(
                "container {} mounts volume {}, which the pod does not have",
                container.name, mount.name
            )
        })?;
        let base = &place.path;
        let lookup = |name: &str| {
            environment
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, value)| value.clone())
        };
        let expanded = mount
            .sub_path_expr
            .as_deref()
            .map(|text| expand(text, lookup));
        let sub_path = expanded
            .or_else(|| mount.sub_path.clone())
            .filter(|sub| !sub.is_empty());
        let source = match sub_path.as_deref() {
            None => base.clone(),
            Some(sub) => {
                let inside = inside(sub).ok_or_else(|| {
                    format!("subPath {sub:?} must be relative and must not contain '..'")
                })?;
                let outcome = make_beneath(base, inside)
                    .map_err(|e| format!("subPath {sub:?} of volume {}: {e}", mount.name))?;
                outcome
                    .ok_or_else(|| format!("subPath {sub:?} leads out of volume {}", mount.name))?
            }
        };
        mounts.push(engine::Mount {
            source,
            target: mount.mount_path.clone(),
            kind: engine::MountKind::Bind,
            read_only: place.read_only || mount.read_only.unwrap_or(false),
            options: Vec::new(),
        });
    }
    Ok(mounts)
}

/// The real path of a directory or file in a volume; directories that are missing are made with the volume's own mode, as the
/// kubelet makes them. `None` when a link that was planted in the volume leads out of it.
fn make_beneath(base: &Path, inside: &Path) -> io::Result<Option<PathBuf>> {
    let root = base.canonicalize()?;
    let mode = root.metadata()?.permissions();
    let mut at = root.clone();
    for part in inside.components() {
        at.push(part);
        if at.symlink_metadata().is_err() {
            fs::create_dir(&at)?;
            fs::set_permissions(&at, mode.clone())?;
        }
        at = at.canonicalize()?;
        if !at.starts_with(&root) {
            return Ok(None);
        }
    }
    Ok(Some(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_paths_stay_inside() {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-volume-")
            .tempdir()
            .expect("directory");
        std::os::unix::fs::symlink("/etc", directory.path().join("out")).expect("link");
        let volumes = [(
            "v".to_owned(),
            Place {
                path: directory.path().to_owned(),
                read_only: false,
            },
        )]
        .into();
        let environment = [
            ("POD".to_owned(), "web-0".to_owned()),
            ("UP".to_owned(), "..".to_owned()),
        ];
        let with = |field: &str, sub: &str| {
            let container: Container = serde_json::from_value(serde_json::json!({ "name": "c", "volumeMounts": [{ "name": "v", "mountPath": "/x", field: sub }] }))
                .expect("fixture");
            mounts(&container, &volumes, &environment)
        };
        assert!(
            with("subPath", "new/dir").expect("made")[0]
                .source
                .ends_with("new/dir")
        );
        assert!(
            with("subPathExpr", "$(POD)/x").expect("made")[0]
                .source
                .ends_with("web-0/x")
        );
        assert!(
            with("subPath", "out")
                .expect_err("link out")
                .contains("leads out")
        );
        for climbing in ["../x", "/etc", "a/../../b"] {
            assert!(with("subPath", climbing).is_err(), "{climbing}");
        }
        assert!(with("subPathExpr", "$(UP)/x").is_err());
    }

    #[test]
    fn what_comes_from_the_api_is_read_only() {
        let volumes = [(
            "v".to_owned(),
            Place {
                path: "/nowhere".into(),
                read_only: true,
            },
        )]
        .into();
        let container: Container =
            serde_json::from_value(serde_json::json!({ "name": "c", "volumeMounts": [{ "name": "v", "mountPath": "/x" }] })).expect("fixture");
        assert!(mounts(&container, &volumes, &[]).expect("mounts")[0].read_only);
        assert!(
            mounts(&container, &BTreeMap::new(), &[])
                .expect_err("no such volume")
                .contains("does not have")
        );
    }
}
