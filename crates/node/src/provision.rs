//! The provisioner `plimsoll.dev/local`: a claim's volume is a directory of this node.
//!
//! It stands beside the control plane as upstream's external provisioners do: the binder names the provisioner on a claim,
//! the scheduler names the node; this role makes the directory, then the PersistentVolume. In that order, so that a volume
//! that exists has its directory whatever crashes in between; directories whose volume was never made are removed while they
//! are empty. The other way round, a volume keeps a finalizer until its directory is gone.

mod directory;
mod plan;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Event, EventSource, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::informer::{self, Objects};
use directory::{REMOVING, make, remove};
use plan::{FINALIZER, PROVISIONER, Step};

const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Why a step was not done; it is tried again.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Api(#[from] kube::Error),
    #[error("{0}")]
    Refused(String),
}

/// Provisions below `directory` until `shutdown`.
pub async fn run(client: Client, node: String, directory: PathBuf, shutdown: CancellationToken) {
    let mut claims = informer::events(
        Api::<PersistentVolumeClaim>::all(client.clone()),
        watcher::Config::default(),
    )
    .boxed();
    let mut volumes = informer::events(
        Api::<PersistentVolume>::all(client.clone()),
        watcher::Config::default(),
    )
    .boxed();
    let mut provisioner = Provisioner {
        client,
        node,
        directory,
        claims: Objects::default(),
        volumes: Objects::default(),
        swept: false,
        told: HashSet::new(),
    };
    let (mut again, mut pause) = (None, RETRY_MIN);
    loop {
        let due = again.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(event) = claims.next() => provisioner.claims.take(event),
            Some(event) = volumes.next() => provisioner.volumes.take(event),
            () = tokio::time::sleep_until(due) => {}
        }
        if !(provisioner.claims.complete() && provisioner.volumes.complete()) {
            continue;
        }
        if provisioner.pass().await {
            (again, pause) = (None, RETRY_MIN);
        } else {
            again = Some(Instant::now() + pause);
            pause = (pause * 2).min(RETRY_MAX);
        }
    }
}

struct Provisioner {
    client: Client,
    node: String,
    directory: PathBuf,
    claims: Objects<PersistentVolumeClaim>,
    volumes: Objects<PersistentVolume>,
    /// What an earlier process left was looked at.
    swept: bool,
    /// Failures that the user was told of: uid and message.
    told: HashSet<(String, String)>,
}

impl Provisioner {
    /// Does everything that is due; false if something has to be tried again.
    async fn pass(&mut self) -> bool {
        let steps = plan::plan(
            self.claims.iter(),
            self.volumes.iter(),
            &self.node,
            &self.directory,
        );
        let mut done = true;
        for step in steps {
            if let Err(failure) = self.step(&step).await {
                let about = step.uid();
                tracing::debug!(%failure, about, "a step of the local provisioner failed; it is tried again");
                done = false;
                self.tell(&step, &failure).await;
            }
        }
        if !self.swept && done {
            self.sweep();
            self.swept = true;
        }
        done
    }

    async fn step(&self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Provision(claim) => self.provision(claim).await,
            Step::Delete(volume) => self.delete(volume).await,
            Step::Finish { volume, directory } => self.finish(volume, directory.as_deref()).await,
            Step::Grow {
                claim,
                volume,
                size,
            } => self.grow(claim, volume, size).await,
        }
    }

    async fn provision(&self, claim: &PersistentVolumeClaim) -> Result<(), Failure> {
        let classes: Api<StorageClass> = Api::all(self.client.clone());
        let name = plan::class_of(claim).unwrap_or_default();
        let Some(class) = classes.get_opt(name).await? else {
            return Err(Failure::Refused(format!(
                "storageclass.storage.k8s.io {name:?} not found"
            )));
        };
        if !plan::is_ours(claim, &class, &self.node) {
            return Ok(());
        }
        let volume =
            plan::volume(claim, &class, &self.node, &self.directory).map_err(Failure::Refused)?;
        let path = self.directory.join(volume.name_any());
        make(&self.directory, &path).map_err(|source| Failure::Io {
            path: path.clone(),
            source,
        })?;
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        match api.create(&PostParams::default(), &volume).await {
            Ok(_) => {
                let message = format!("Successfully provisioned volume {}", volume.name_any());
                self.note(claim, "Normal", "ProvisioningSucceeded", &message)
                    .await;
                Ok(())
            }
            // made before a crash, and not seen yet
            Err(kube::Error::Api(error)) if error.code == 409 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Nobody needs the volume any more.
    async fn delete(&self, volume: &PersistentVolume) -> Result<(), Failure> {
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: volume.uid(),
                resource_version: volume.resource_version(),
            }),
            ..DeleteParams::default()
        };
        match api.delete(&volume.name_any(), &params).await {
            Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => Ok(()),
            outcome => outcome.map(drop).map_err(Failure::from),
        }
    }

    /// Removes the directory, then lets the volume go.
    async fn finish(
        &self,
        volume: &PersistentVolume,
        directory: Option<&Path>,
    ) -> Result<(), Failure> {
        if let Some(path) = directory {
            let (base, target) = (self.directory.clone(), path.to_owned());
            let removed = tokio::task::spawn_blocking(move || remove(&base, &target)).await;
            removed
                .map_err(|error| Failure::Refused(error.to_string()))?
                .map_err(|source| Failure::Io {
                    path: path.to_owned(),
                    source,
                })?;
        }
        let kept: Vec<&String> = volume
            .finalizers()
            .iter()
            .filter(|finalizer| *finalizer != FINALIZER)
            .collect();
        let change = json!({"metadata": {"uid": volume.uid(), "resourceVersion": volume.resource_version(), "finalizers": kept}});
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let written = api
            .patch(
                &volume.name_any(),
                &PatchParams::default(),
                &Patch::Merge(&change),
            )
            .await;
        match written {
            // gone, or changed meanwhile: the next event brings it here again
            Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => Ok(()),
            outcome => outcome.map(drop).map_err(Failure::from),
        }
    }

    /// A directory has the size that is written down for it.
    async fn grow(
        &self,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
        size: &str,
    ) -> Result<(), Failure> {
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let change = json!({"spec": {"capacity": {"storage": size}}});
        volumes
            .patch(
                &volume.name_any(),
                &PatchParams::default(),
                &Patch::Merge(&change),
            )
            .await?;
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), &claim.namespace().unwrap_or_default());
        let change = json!({"status": {"capacity": {"storage": size}, "conditions": null, "allocatedResources": null, "allocatedResourceStatuses": null}});
        claims
            .patch_status(
                &claim.name_any(),
                &PatchParams::default(),
                &Patch::Merge(&change),
            )
            .await?;
        self.note(
            claim,
            "Normal",
            "VolumeResizeSuccessful",
            "Resize volume succeeded",
        )
        .await;
        Ok(())
    }

    async fn tell(&mut self, step: &Step, failure: &Failure) {
        let message = failure.to_string();
        let uid = step.uid();
        if self.told.len() > 1024 {
            self.told.clear();
        }
        if !self.told.insert((uid, message.clone())) {
            return;
        }
        match step {
            Step::Provision(claim) => {
                let class = claim
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.storage_class_name.clone());
                let message = format!(
                    "failed to provision volume with StorageClass {:?}: {message}",
                    class.unwrap_or_default()
                );
                self.note(&**claim, "Warning", "ProvisioningFailed", &message)
                    .await;
            }
            Step::Delete(volume) | Step::Finish { volume, .. } => {
                self.note(&**volume, "Warning", "VolumeFailedDelete", &message)
                    .await;
            }
            Step::Grow { claim, .. } => {
                self.note(&**claim, "Warning", "VolumeResizeFailed", &message)
                    .await;
            }
        }
    }

    async fn note<K: Resource<DynamicType = ()>>(
        &self,
        about: &K,
        kind: &str,
        reason: &str,
        message: &str,
    ) {
        let namespace = about.namespace().unwrap_or_else(|| "default".to_owned());
        let now = Time(jiff::Timestamp::now());
        let event = Event {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}.", about.name_any())),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: about.object_ref(&()),
            type_: Some(kind.to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            source: Some(EventSource {
                component: Some(PROVISIONER.to_owned()),
                host: Some(self.node.clone()),
            }),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            count: Some(1),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            tracing::debug!(%error, reason, "an event could not be written");
        }
    }

    /// What a process that died left: directories half removed, and empty ones whose volume was never made.
    fn sweep(&self) {
        let known: HashSet<String> = self.volumes.iter().map(ResourceExt::name_any).collect();
        for entry in fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(REMOVING) {
                if let Err(error) = crate::volumes::release(&entry.path()) {
                    tracing::warn!(%error, name, "a removed volume could not be cleaned up");
                }
            } else if !known.contains(&name) {
                // one with something in it is somebody's data, whatever the API says
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}
