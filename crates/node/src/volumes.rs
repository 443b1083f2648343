//! Volumes of a pod as directories on this machine: emptyDir, hostPath, configMap and secret.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{ConfigMap, Container, KeyToPath, Pod, Secret, Volume};
use kube::Api;
use thiserror::Error;

/// Why a volume is not there yet. Becomes a `FailedMount` event; the pod waits and tries again.
#[derive(Debug, Error)]
pub enum VolumeError {
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {kind} \"{name}\" not found")]
    NoObject { volume: String, kind: &'static str, name: String },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : references non-existent {kind} key: {key}")]
    NoKey { volume: String, kind: &'static str, key: String },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : this kind of volume is not supported yet; emptyDir, hostPath, configMap and secret are")]
    Unsupported { volume: String },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : hostPath type check failed: {path} is not a {wanted}")]
    HostPath { volume: String, path: String, wanted: String },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : \"{path}\" must stay inside the volume")]
    Escapes { volume: String, path: String },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {path}: {source}")]
    Io { volume: String, path: PathBuf, source: io::Error },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
    Api { volume: String, source: Box<kube::Error> },
}

/// Makes every volume of the pod beneath `directory`; tells where each one lies.
pub async fn prepare(client: &kube::Client, pod: &Pod, directory: &Path) -> Result<BTreeMap<String, PathBuf>, VolumeError> {
    let mut paths = BTreeMap::new();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let path = one(client, namespace, volume, &directory.join(&volume.name)).await?;
        paths.insert(volume.name.clone(), path);
    }
    Ok(paths)
}

/// The container's mounts, from the directories that [`prepare`] made.
pub fn mounts(container: &Container, volumes: &BTreeMap<String, PathBuf>) -> Result<Vec<engine::Mount>, String> {
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let base = volumes
            .get(&mount.name)
            .ok_or_else(|| format!("container {} mounts volume {}, which the pod does not have", container.name, mount.name))?;
        let source = match mount.sub_path.as_deref().filter(|sub| !sub.is_empty()) {
            None => base.clone(),
            Some(sub) => {
                let inside = inside(sub).ok_or_else(|| format!("subPath {sub:?} must be relative and must not contain '..'"))?;
                let source = base.join(inside);
                if !source.exists() {
                    std::fs::create_dir_all(&source).map_err(|e| format!("subPath {}: {e}", source.display()))?;
                }
                // a link planted in the volume must not lead out of it
                let real = source.canonicalize().map_err(|e| format!("subPath {}: {e}", source.display()))?;
                let root = base.canonicalize().map_err(|e| format!("volume {}: {e}", base.display()))?;
                if !real.starts_with(&root) {
                    return Err(format!("subPath {sub:?} leads out of volume {}", mount.name));
                }
                real
            }
        };
        mounts.push(engine::Mount {
            source,
            target: mount.mount_path.clone(),
            kind: engine::MountKind::Bind,
            read_only: mount.read_only.unwrap_or(false),
            options: Vec::new(),
        });
    }
    Ok(mounts)
}

async fn one(client: &kube::Client, namespace: &str, volume: &Volume, directory: &Path) -> Result<PathBuf, VolumeError> {
    let name = &volume.name;
    if volume.empty_dir.is_some() {
        make_directory(name, directory, 0o777)?;
        return Ok(directory.to_owned());
    }
    if let Some(host) = &volume.host_path {
        return host_path(name, &host.path, host.type_.as_deref().unwrap_or(""));
    }
    if let Some(source) = &volume.config_map {
        let optional = source.optional == Some(true);
        let object: Option<ConfigMap> = get(client, namespace, name, &source.name).await?;
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        match object {
            Some(object) => {
                files.extend(object.data.into_iter().flatten().map(|(key, text)| (key, text.into_bytes())));
                files.extend(object.binary_data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0)));
            }
            None if optional => {}
            None => return Err(no_object(name, "configmap", &source.name)),
        }
        write_files(name, "config", directory, &files, source.items.as_deref(), source.default_mode, optional)?;
        return Ok(directory.to_owned());
    }
    if let Some(source) = &volume.secret {
        let optional = source.optional == Some(true);
        let object_name = source.secret_name.as_deref().unwrap_or_default();
        let object: Option<Secret> = get(client, namespace, name, object_name).await?;
        let files: BTreeMap<String, Vec<u8>> = match object {
            Some(object) => object.data.into_iter().flatten().map(|(key, bytes)| (key, bytes.0)).collect(),
            None if optional => BTreeMap::new(),
            None => return Err(no_object(name, "secret", object_name)),
        };
        write_files(name, "secret", directory, &files, source.items.as_deref(), source.default_mode, optional)?;
        return Ok(directory.to_owned());
    }
    Err(VolumeError::Unsupported { volume: name.clone() })
}

async fn get<K>(client: &kube::Client, namespace: &str, volume: &str, name: &str) -> Result<Option<K>, VolumeError>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    K::DynamicType: Default,
{
    Api::<K>::namespaced(client.clone(), namespace)
        .get_opt(name)
        .await
        .map_err(|source| VolumeError::Api { volume: volume.to_owned(), source: Box::new(source) })
}

fn no_object(volume: &str, kind: &'static str, name: &str) -> VolumeError {
    VolumeError::NoObject { volume: volume.to_owned(), kind, name: name.to_owned() }
}

fn make_directory(volume: &str, path: &Path, mode: u32) -> Result<(), VolumeError> {
    let failed = |source| VolumeError::Io { volume: volume.to_owned(), path: path.to_owned(), source };
    if !path.is_dir() {
        std::fs::create_dir_all(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    }
    Ok(())
}

fn host_path(volume: &str, path: &str, kind: &str) -> Result<PathBuf, VolumeError> {
    let real = PathBuf::from(path);
    let failed = |source| VolumeError::Io { volume: volume.to_owned(), path: path.into(), source };
    let holds = match kind {
        "" => true,
        "DirectoryOrCreate" => {
            make_directory(volume, &real, 0o755)?;
            real.is_dir()
        }
        "FileOrCreate" => {
            std::fs::OpenOptions::new().append(true).create(true).open(&real).map_err(failed)?;
            real.is_file()
        }
        "Directory" => real.is_dir(),
        "File" => real.is_file(),
        _ => real.exists(),
    };
    if holds {
        Ok(real)
    } else {
        Err(VolumeError::HostPath { volume: volume.to_owned(), path: path.to_owned(), wanted: kind.to_owned() })
    }
}

fn write_files(
    volume: &str,
    kind: &'static str,
    directory: &Path,
    files: &BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    default_mode: Option<i32>,
    optional: bool,
) -> Result<(), VolumeError> {
    make_directory(volume, directory, 0o755)?;
    let default_mode = default_mode.unwrap_or(0o644);
    let wanted: Vec<(String, &[u8], i32)> = match items.filter(|items| !items.is_empty()) {
        None => files.iter().map(|(key, bytes)| (key.clone(), bytes.as_slice(), default_mode)).collect(),
        Some(items) => {
            let mut wanted = Vec::new();
            for item in items {
                match files.get(&item.key) {
                    Some(bytes) => wanted.push((item.path.clone(), bytes.as_slice(), item.mode.unwrap_or(default_mode))),
                    None if optional => {}
                    None => return Err(VolumeError::NoKey { volume: volume.to_owned(), kind, key: item.key.clone() }),
                }
            }
            wanted
        }
    };
    for (path, bytes, mode) in wanted {
        let relative =
            inside(&path).ok_or_else(|| VolumeError::Escapes { volume: volume.to_owned(), path: path.clone() })?;
        let full = directory.join(relative);
        let failed = |source| VolumeError::Io { volume: volume.to_owned(), path: full.clone(), source };
        if let Some(parent) = full.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        std::fs::write(&full, bytes).map_err(failed)?;
        let mode = std::fs::Permissions::from_mode(u32::try_from(mode).unwrap_or(0o644) & 0o777);
        std::fs::set_permissions(&full, mode).map_err(failed)?;
    }
    Ok(())
}

/// The path if it stays beneath where it starts.
fn inside(path: &str) -> Option<&Path> {
    let path = Path::new(path);
    path.components().all(|part| matches!(part, std::path::Component::Normal(_))).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_climb_are_refused() {
        for (path, stays) in [("a/b", true), ("../a", false), ("a/../../b", false), ("/etc/passwd", false), ("a/./b", true)] {
            assert_eq!(inside(path).is_some(), stays, "{path}");
        }
    }

    #[test]
    fn files_items_modes() {
        let directory = tempfile::Builder::new().prefix("plimsoll-volume-").tempdir().expect("directory");
        let files = [("k".to_owned(), b"v".to_vec())].into();
        let item = |key: &str, path: &str| KeyToPath { key: key.into(), path: path.into(), mode: Some(0o400) };
        let write = |items: &[KeyToPath]| write_files("vol", "config", directory.path(), &files, Some(items), None, false);
        write(&[item("k", "deep/file")]).expect("written");
        let file = directory.path().join("deep/file");
        assert_eq!(std::fs::read(&file).expect("read"), b"v");
        assert_eq!(std::fs::metadata(&file).expect("metadata").permissions().mode() & 0o777, 0o400);
        let error = write(&[item("none", "x")]).expect_err("no key");
        assert!(error.to_string().contains("references non-existent config key: none"), "{error}");
        assert!(matches!(write(&[item("k", "../x")]), Err(VolumeError::Escapes { .. })));
    }

    #[test]
    fn sub_paths_stay_inside() {
        let directory = tempfile::Builder::new().prefix("plimsoll-volume-").tempdir().expect("directory");
        std::os::unix::fs::symlink("/etc", directory.path().join("out")).expect("link");
        let volumes = [("v".to_owned(), directory.path().to_owned())].into();
        let with = |sub: &str| -> Container {
            serde_json::from_value(serde_json::json!({ "name": "c", "volumeMounts": [{ "name": "v", "mountPath": "/x", "subPath": sub }] }))
                .expect("fixture")
        };
        assert!(mounts(&with("new/dir"), &volumes).expect("made")[0].source.ends_with("new/dir"));
        assert!(mounts(&with("out"), &volumes).expect_err("link out").contains("leads out"));
        assert!(mounts(&with("../x"), &volumes).is_err());
    }
}
