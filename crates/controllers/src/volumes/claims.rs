//! The shell around a claim's next step.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::binding::{BIND_COMPLETED, BOUND_BY_CONTROLLER, ClaimStep, claim_step};
use super::{Storage, claims_of};
use crate::error::{Error, is_not_found};
use crate::events::Severity;
use crate::objects;
use crate::shared::in_namespace;

const FINALIZER: &str = "kubernetes.io/pvc-protection";

impl Storage {
    pub(super) async fn reconcile_claim(
        &self,
        claim: Arc<PersistentVolumeClaim>,
    ) -> Result<Option<Duration>, Error> {
        if objects::is_terminating(&*claim) {
            self.let_go(&claim).await?;
            return Ok(None);
        }
        match claim_step(&claim, &self.volumes.all(), &self.classes.all()) {
            ClaimStep::Nothing => {}
            ClaimStep::Bind(name) => {
                if let Some(volume) = self.volumes.get(None, &name) {
                    self.bind(&claim, &volume).await?;
                }
            }
            ClaimStep::Provision(provisioner) => self.provision(&claim, &provisioner).await?,
            ClaimStep::Class(name) => {
                self.change(&claim, json!({"spec": {"storageClassName": name}}))
                    .await?;
            }
            ClaimStep::Lost { reason, message } => {
                self.status(&claim, json!({"phase": "Lost"})).await?;
                self.recorder
                    .record(&*claim, Severity::Warning, reason, message.to_owned());
            }
            ClaimStep::Wait {
                warning,
                reason,
                message,
            } => {
                let severity = match warning {
                    true => Severity::Warning,
                    false => Severity::Normal,
                };
                self.recorder.record(&*claim, severity, reason, message);
            }
        }
        Ok(None)
    }

    /// Four writes; a crash between any two leaves what the next look completes.
    async fn bind(
        &self,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
    ) -> Result<(), Error> {
        let volumes: Api<PersistentVolume> = Api::all(self.shared.client.clone());
        let name = volume.name_any();
        let failed = |action| Error::api(action, name.clone());
        let of = volume
            .spec
            .as_ref()
            .and_then(|spec| spec.claim_ref.as_ref());
        if of.and_then(|of| of.uid.as_deref()) != claim.metadata.uid.as_deref() {
            // with the version that was looked at: of two claims that want the volume one gets it
            let mut change = json!({
                "metadata": {"resourceVersion": volume.resource_version()},
                "spec": {"claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim.namespace(),
                    "name": claim.name_any(), "uid": claim.uid(), "resourceVersion": claim.resource_version()}},
            });
            if of.is_none() {
                change["metadata"]["annotations"] = json!({BOUND_BY_CONTROLLER: "yes"});
            }
            volumes
                .patch(&name, &PatchParams::default(), &Patch::Merge(&change))
                .await
                .map_err(failed("bind PersistentVolume"))?;
        }
        let phase = volume
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        if phase != Some("Bound") {
            let change = json!({"status": {"phase": "Bound", "lastPhaseTransitionTime": super::now(), "message": null, "reason": null}});
            volumes
                .patch_status(&name, &PatchParams::default(), &Patch::Merge(&change))
                .await
                .map_err(failed("update the status of PersistentVolume"))?;
        }
        let named = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.volume_name.as_deref())
            .is_some_and(|named| !named.is_empty());
        let mut annotations = json!({BIND_COMPLETED: "yes"});
        if !named {
            annotations[BOUND_BY_CONTROLLER] = "yes".into();
        }
        let change =
            json!({"metadata": {"annotations": annotations}, "spec": {"volumeName": name}});
        self.change(claim, change).await?;
        let of_volume = volume.spec.clone().unwrap_or_default();
        let status = json!({"phase": "Bound", "accessModes": of_volume.access_modes, "capacity": of_volume.capacity});
        self.status(claim, status).await
    }

    async fn provision(
        &self,
        claim: &PersistentVolumeClaim,
        provisioner: &str,
    ) -> Result<(), Error> {
        let keys = [
            "volume.kubernetes.io/storage-provisioner",
            "volume.beta.kubernetes.io/storage-provisioner",
        ];
        let told = keys
            .iter()
            .all(|key| objects::annotation(claim, key) == Some(provisioner));
        if !told {
            let change =
                json!({"metadata": {"annotations": {keys[0]: provisioner, keys[1]: provisioner}}});
            self.change(claim, change).await?;
        }
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
        );
        self.recorder
            .record(claim, Severity::Normal, "ExternalProvisioning", message);
        Ok(())
    }

    /// A claim that is being deleted goes when no pod that has a node uses it, be it one that has ended: its successor may
    /// need what is in there.
    async fn let_go(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        if !claim
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == FINALIZER)
        {
            return Ok(());
        }
        let namespace = objects::namespace(claim);
        let known = self.shared.pods.by_index(&in_namespace(namespace));
        if known.iter().any(|pod| uses(pod, claim)) {
            return Ok(());
        }
        // what is known here may be behind, and with the claim its data may go
        let pods: Api<Pod> = Api::namespaced(self.shared.client.clone(), namespace);
        let listed = pods.list(&ListParams::default()).await;
        let listed = listed.map_err(Error::api("list Pods", namespace.to_owned()))?;
        if listed.items.iter().any(|pod| uses(pod, claim)) {
            return Err(Error::Stale {
                object: objects::key(claim),
            });
        }
        let kept: Vec<&String> = claim
            .finalizers()
            .iter()
            .filter(|finalizer| *finalizer != FINALIZER)
            .collect();
        let change =
            json!({"metadata": {"resourceVersion": claim.resource_version(), "finalizers": kept}});
        self.change(claim, change).await
    }

    async fn change(&self, claim: &PersistentVolumeClaim, change: Value) -> Result<(), Error> {
        let written = self
            .claims_api(claim)
            .patch(
                &claim.name_any(),
                &PatchParams::default(),
                &Patch::Merge(&change),
            )
            .await;
        settle(written, "update PersistentVolumeClaim", claim)
    }

    async fn status(&self, claim: &PersistentVolumeClaim, status: Value) -> Result<(), Error> {
        let change = json!({"status": status});
        let written = self
            .claims_api(claim)
            .patch_status(
                &claim.name_any(),
                &PatchParams::default(),
                &Patch::Merge(&change),
            )
            .await;
        settle(written, "update the status of PersistentVolumeClaim", claim)
    }

    fn claims_api(&self, claim: &PersistentVolumeClaim) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.shared.client.clone(), objects::namespace(claim))
    }
}

/// Whether a pod has the claim, or is about to: one without a node can wait for another of its name.
fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    node.is_some_and(|node| !node.is_empty())
        && claims_of(pod).any(|name| name == objects::name(claim))
}

fn settle(
    written: Result<PersistentVolumeClaim, kube::Error>,
    action: &'static str,
    claim: &PersistentVolumeClaim,
) -> Result<(), Error> {
    match written {
        Err(error) if is_not_found(&error) => Ok(()),
        outcome => outcome
            .map(drop)
            .map_err(Error::api(action, objects::key(claim))),
    }
}
