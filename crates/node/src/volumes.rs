//! Volumes of a pod as directories on this machine: emptyDir, hostPath, configMap, secret, downwardAPI and projected.

mod mounts;
mod payload;
mod place;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, Volume};
use thiserror::Error;

pub use mounts::mounts;
pub use place::{release, release_all};

use crate::downward::Facts;
use payload::Reader;

/// Says in which boot every volume of the pod was filled: a daemon that starts again does not fill them anew, but after a
/// power cut files that were not synced may be empty.
const COMPLETE: &str = "volumes.complete";

/// Why a volume is not there yet. Becomes a `FailedMount` event; the pod waits and tries again.
#[derive(Debug, Error)]
pub enum VolumeError {
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {kind} \"{name}\" not found")]
    NoObject {
        volume: String,
        kind: &'static str,
        name: String,
    },
    #[error(
        "MountVolume.SetUp failed for volume \"{volume}\" : references non-existent {kind} key: {key}"
    )]
    NoKey {
        volume: String,
        kind: &'static str,
        key: String,
    },
    #[error(
        "MountVolume.SetUp failed for volume \"{volume}\" : {what} is not supported yet; emptyDir, hostPath, configMap, secret, downwardAPI and projections of the last three are"
    )]
    Unsupported { volume: String, what: &'static str },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
    Field {
        volume: String,
        source: crate::environment::ConfigError,
    },
    #[error(
        "MountVolume.SetUp failed for volume \"{volume}\" : hostPath type check failed: {path} is not a {wanted}"
    )]
    HostPath {
        volume: String,
        path: String,
        wanted: String,
    },
    #[error(
        "MountVolume.SetUp failed for volume \"{volume}\" : \"{path}\" must stay inside the volume"
    )]
    Escapes { volume: String, path: String },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {path}: {source}")]
    Io {
        volume: String,
        path: PathBuf,
        source: io::Error,
    },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
    Api {
        volume: String,
        source: Box<kube::Error>,
    },
}

/// A volume on this machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    pub path: PathBuf,
    /// Filled from objects of the API: containers may only read it.
    pub read_only: bool,
}

/// Makes every volume of the pod beneath `directory/volumes`; tells where each one lies.
pub async fn prepare(
    client: &kube::Client,
    pod: &Pod,
    facts: &Facts,
    directory: &Path,
) -> Result<BTreeMap<String, Place>, VolumeError> {
    let complete = directory.join(COMPLETE);
    let reader = Reader { client, pod, facts };
    let fs_group = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.security_context.as_ref()?.fs_group)
        .and_then(|group| u32::try_from(group).ok());
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let fill = !std::fs::read_to_string(&complete).is_ok_and(|of| of == boot);
    let mut places = BTreeMap::new();
    for volume in pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten())
    {
        let path = directory.join("volumes").join(&volume.name);
        places.insert(
            volume.name.clone(),
            one(&reader, volume, path, fs_group, fill).await?,
        );
    }
    if fill && !places.is_empty() {
        std::fs::create_dir_all(directory)
            .and_then(|()| std::fs::write(&complete, &boot))
            .map_err(|source| VolumeError::Io {
                volume: String::new(),
                path: complete,
                source,
            })?;
    }
    Ok(places)
}

async fn one(
    reader: &Reader<'_>,
    volume: &Volume,
    path: PathBuf,
    fs_group: Option<u32>,
    fill: bool,
) -> Result<Place, VolumeError> {
    let name = &volume.name;
    if let Some(empty) = &volume.empty_dir {
        place::empty_dir(name, &path, empty, fs_group)?;
        return Ok(Place {
            path,
            read_only: false,
        });
    }
    if let Some(host) = &volume.host_path {
        let path = place::host_path(name, &host.path, host.type_.as_deref().unwrap_or(""))?;
        return Ok(Place {
            path,
            read_only: false,
        });
    }
    if fill {
        let files = reader.files(volume).await?;
        place::write_files(name, &path, &files, fs_group)?;
    }
    Ok(Place {
        path,
        read_only: true,
    })
}
