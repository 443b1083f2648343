//! Volumes of a pod as directories on this machine: emptyDir, hostPath, claims, and those that are filled from the API:
//! configMap, secret, downwardAPI and projected, whose files follow their objects while the pod runs.

mod atomic;
mod beneath;
mod bounds;
mod claim;
mod contents;
mod host_path;
mod mounts;
mod ownership;
mod payload;
mod place;
mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use kube::{Api, ResourceExt};
use thiserror::Error;

pub use bounds::{Bounded, bounded};
pub use contents::Kind as ObjectKind;
pub use mounts::mounts;
pub use place::{Held, release, release_all, usage, usage_bytes};
pub use token::Tokens;

use crate::downward::Facts;
use bounds::memory_bytes;
use payload::Reader;

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
        "MountVolume.SetUp failed for volume \"{volume}\" : {what} is not supported; emptyDir, hostPath, persistentVolumeClaim (of local and hostPath volumes), configMap, secret, downwardAPI and projections of the last three and of serviceAccountToken are"
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
        wanted: &'static str,
    },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {why}")]
    Claim { volume: String, why: String },
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
    /// Containers may only read it.
    pub read_only: bool,
}

/// What a pod's volumes are made from.
pub struct Sources<'a> {
    pub client: &'a kube::Client,
    pub pod: &'a Pod,
    pub facts: &'a Facts,
    /// The pod's own directory; volumes lie beneath `directory/volumes`.
    pub directory: &'a Path,
}

impl Sources<'_> {
    /// Makes every volume; tells where each one lies. What a running pod has already stays when it cannot be had anew: the
    /// second value says of each such volume why.
    ///
    /// # Errors
    /// The first volume that the pod cannot begin without.
    pub async fn prepare(
        &self,
        tokens: &mut Tokens,
    ) -> Result<(BTreeMap<String, Place>, Vec<VolumeError>), VolumeError> {
        let (mut places, mut stale) = (BTreeMap::new(), Vec::new());
        for volume in volumes(self.pod) {
            let (place, failure) = self.one(volume, tokens).await?;
            places.insert(volume.name.clone(), place);
            stale.extend(failure);
        }
        Ok((places, stale))
    }

    /// Brings the volumes that are filled from the API up to date; what cannot be had stays as it is, and is told.
    pub async fn refresh(&self, tokens: &mut Tokens) -> Vec<VolumeError> {
        let mut failures = Vec::new();
        for volume in volumes(self.pod).filter(|volume| contents::fills(volume)) {
            if let Err(error) = self.fill(volume, &self.path(volume), tokens).await {
                failures.push(error);
            }
        }
        failures
    }

    fn path(&self, volume: &Volume) -> PathBuf {
        self.directory.join("volumes").join(&volume.name)
    }

    async fn one(
        &self,
        volume: &Volume,
        tokens: &mut Tokens,
    ) -> Result<(Place, Option<VolumeError>), VolumeError> {
        let name = &volume.name;
        let path = self.path(volume);
        let failed = |path: &Path| {
            let (volume, path) = (name.clone(), path.to_owned());
            move |source| VolumeError::Io {
                volume,
                path,
                source,
            }
        };
        if let Some(empty) = &volume.empty_dir {
            let memory = (empty.medium.as_deref() == Some("Memory"))
                .then(|| memory_bytes(self.pod, empty.size_limit.as_ref()));
            let new = place::empty_dir(&path, memory, !self.given(name).exists())
                .map_err(failed(&path))?;
            self.own_once(name, &path, new).map_err(failed(&path))?;
            let read_only = false;
            return Ok((Place { path, read_only }, None));
        }
        if let Some(host) = &volume.host_path {
            let path = host_path::find(name, &host.path, host.type_.as_deref().unwrap_or(""))?;
            let read_only = false;
            return Ok((Place { path, read_only }, None));
        }
        if let Some(source) = &volume.persistent_volume_claim {
            let found = self.claim(name, &source.claim_name).await?;
            let read_only = source.read_only == Some(true);
            if found.owned && !read_only {
                self.own_once(name, &found.path, false)
                    .map_err(failed(&found.path))?;
            }
            let path = found.path;
            return Ok((Place { path, read_only }, None));
        }
        let failure = match self.fill(volume, &path, tokens).await {
            Err(error) if atomic::is_filled(&path) => Some(error),
            outcome => outcome.map(|()| None)?,
        };
        let read_only = true;
        Ok((Place { path, read_only }, failure))
    }

    async fn fill(
        &self,
        volume: &Volume,
        path: &Path,
        tokens: &mut Tokens,
    ) -> Result<(), VolumeError> {
        let reader = Reader {
            client: self.client,
            pod: self.pod,
            facts: self.facts,
        };
        let files = reader.files(volume, tokens).await?;
        if let Some(file) = files.iter().find(|file| !contents::stays(&file.path)) {
            return Err(VolumeError::Escapes {
                volume: volume.name.clone(),
                path: file.path.clone(),
            });
        }
        // secrets never come to a disk
        let written = if contents::is_secret(volume) {
            place::in_memory(path, None)
        } else {
            Ok(false)
        }
        .and_then(|_| atomic::write(path, &files, |made| self.own(made, true)));
        written.map(drop).map_err(|source| VolumeError::Io {
            volume: volume.name.clone(),
            path: path.to_owned(),
            source,
        })
    }

    async fn claim(&self, volume: &str, name: &str) -> Result<claim::Found, VolumeError> {
        let failed = |source| VolumeError::Api {
            volume: volume.to_owned(),
            source: Box::new(source),
        };
        let missing = |kind, name: &str| VolumeError::NoObject {
            volume: volume.to_owned(),
            kind,
            name: name.to_owned(),
        };
        let namespace = self.pod.namespace().unwrap_or_default();
        let claim = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &namespace)
            .get_opt(name)
            .await
            .map_err(failed)?
            .ok_or_else(|| missing("persistentvolumeclaim", name))?;
        let bound = claim::bound(volume, &claim)?;
        let of = Api::<PersistentVolume>::all(self.client.clone())
            .get_opt(&bound)
            .await
            .map_err(failed)?
            .ok_or_else(|| missing("persistentvolume", &bound))?;
        claim::place(volume, &claim, &of)
    }

    /// Says that a volume was prepared for the pod once.
    fn given(&self, volume: &str) -> PathBuf {
        self.directory.join("given").join(volume)
    }

    /// Gives a volume to the pod's fsGroup when the pod begins, not again while its containers run; `again`: there is
    /// nothing in it that was given before.
    fn own_once(&self, volume: &str, path: &Path, again: bool) -> io::Result<()> {
        let given = self.given(volume);
        if given.exists() && !again {
            return Ok(());
        }
        self.own(path, false)?;
        std::fs::create_dir_all(self.directory.join("given"))?;
        std::fs::write(given, "")
    }

    /// Gives a directory to the pod's fsGroup, if it has one.
    fn own(&self, path: &Path, read_only: bool) -> io::Result<()> {
        let context = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.security_context.as_ref());
        let group = context
            .and_then(|context| context.fs_group)
            .and_then(|group| u32::try_from(group).ok());
        let on_mismatch =
            context.is_some_and(|c| c.fs_group_change_policy.as_deref() == Some("OnRootMismatch"));
        match group {
            // a large volume takes its time; other pods do not wait for it
            Some(group) => {
                tokio::task::block_in_place(|| ownership::give(path, group, read_only, on_mismatch))
            }
            None => Ok(()),
        }
    }
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten())
}

/// The objects of the pod's namespace that its volumes are filled from.
pub fn objects(pod: &Pod) -> BTreeSet<(ObjectKind, &str)> {
    volumes(pod).flat_map(contents::objects).collect()
}

/// Whether labels or annotations of the pod are files in it.
pub fn shows_metadata(pod: &Pod) -> bool {
    volumes(pod).any(contents::shows_metadata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({ "spec": spec })).expect("a pod")
    }

    #[test]
    fn what_a_pods_volumes_depend_on() {
        let pod = pod(json!({ "containers": [], "volumes": [
            { "name": "a", "configMap": { "name": "m" } },
            { "name": "b", "secret": { "secretName": "s" } },
            { "name": "c", "projected": { "sources": [{ "configMap": { "name": "n" } }, { "secret": { "name": "s" } },
                { "downwardAPI": { "items": [{ "path": "l", "fieldRef": { "fieldPath": "metadata.labels" } }] } }] } },
            { "name": "d", "emptyDir": {} } ] }));
        let found: Vec<_> = objects(&pod).into_iter().collect();
        assert_eq!(
            found,
            [
                (ObjectKind::ConfigMap, "m"),
                (ObjectKind::ConfigMap, "n"),
                (ObjectKind::Secret, "s")
            ]
        );
        assert!(shows_metadata(&pod));
    }
}
