//! The shell around a volume's phase.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::Storage;
use super::binding::{BOUND_BY_CONTROLLER, Spare, has, spare, volume_phase};
use crate::error::{Error, is_not_found};
use crate::events::Severity;
use crate::objects;

const FINALIZER: &str = "kubernetes.io/pv-protection";

impl Storage {
    pub(super) async fn reconcile_volume(
        &self,
        volume: Arc<PersistentVolume>,
    ) -> Result<Option<Duration>, Error> {
        let of = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone());
        let known = volume.status.clone().unwrap_or_default();
        let mut bound = known.phase.as_deref() == Some("Bound");
        if of.is_none() && bound && self.claims.all().iter().any(|claim| has(claim, &volume)) {
            // its claim takes it again; until then it is nobody else's
            return Ok(None);
        }
        let claim = match &of {
            Some(of) => self.claim_of(of, &known.phase, &volume).await?,
            None => None,
        };
        if let Some(spare) = claim.as_deref().and_then(|claim| spare(&volume, claim)) {
            self.spare(&volume, spare).await?;
            return Ok(None);
        }
        if let Some(found) = volume_phase(&volume, claim.as_deref()) {
            bound = found.phase == "Bound";
            let same = known.phase.as_deref() == Some(found.phase)
                && known.message == found.message
                && known.reason.as_deref() == found.reason;
            if !same {
                let mut status =
                    json!({"phase": found.phase, "reason": found.reason, "message": found.message});
                if known.phase.as_deref() != Some(found.phase) {
                    status["lastPhaseTransitionTime"] = json!(super::now());
                }
                let change = json!({"metadata": {"resourceVersion": volume.resource_version()}, "status": status});
                self.write(&volume, change, true).await?;
                if let (Some(reason), Some(message)) = (found.reason, found.message) {
                    self.recorder
                        .record(&*volume, Severity::Warning, reason, message);
                }
                // the change brings it here again
                return Ok(None);
            }
        }
        let held = volume
            .finalizers()
            .iter()
            .any(|finalizer| finalizer == FINALIZER);
        if objects::is_terminating(&*volume) && held && !bound {
            let kept: Vec<&String> = volume
                .finalizers()
                .iter()
                .filter(|finalizer| *finalizer != FINALIZER)
                .collect();
            let change = json!({"metadata": {"resourceVersion": volume.resource_version(), "finalizers": kept}});
            self.write(&volume, change, false).await?;
        }
        Ok(None)
    }

    /// The claim that a volume is kept for. What the volume is given up for is asked of the server itself: what is known
    /// here may be behind, and with the volume its data may go.
    async fn claim_of(
        &self,
        of: &ObjectReference,
        phase: &Option<String>,
        volume: &PersistentVolume,
    ) -> Result<Option<Arc<PersistentVolumeClaim>>, Error> {
        let Some(name) = of.name.as_deref() else {
            return Ok(None);
        };
        let known = self.claims.get(of.namespace.as_deref(), name);
        let given_up = |phase: &str| matches!(phase, "Released" | "Failed");
        let becomes = volume_phase(volume, known.as_deref());
        let gives_up = becomes.is_some_and(|becomes| given_up(becomes.phase))
            || known
                .as_deref()
                .is_some_and(|claim| spare(volume, claim).is_some());
        if !gives_up || phase.as_deref().is_some_and(given_up) {
            return Ok(known);
        }
        let namespace = of.namespace.as_deref().unwrap_or_default();
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(self.shared.client.clone(), namespace);
        let found = claims.get_opt(name).await;
        let found = found.map_err(Error::api("get PersistentVolumeClaim", name.to_owned()))?;
        Ok(found.map(Arc::new))
    }

    /// A volume whose claim has another one.
    async fn spare(&self, volume: &PersistentVolume, spare: Spare) -> Result<(), Error> {
        let version = json!({"resourceVersion": volume.resource_version()});
        if spare == Spare::Released {
            let known = volume.status.as_ref();
            if known.and_then(|status| status.phase.as_deref()) == Some("Released") {
                return Ok(());
            }
            let status = json!({"phase": "Released", "lastPhaseTransitionTime": super::now()});
            let change = json!({"metadata": version, "status": status});
            return self.write(volume, change, true).await;
        }
        let mut change = json!({"metadata": version, "spec": {"claimRef": null}});
        match spare {
            Spare::Unbound => {
                change["metadata"]["annotations"] = json!({BOUND_BY_CONTROLLER: null});
            }
            _ => change["spec"]["claimRef"] = json!({"uid": null, "resourceVersion": null}),
        }
        // the change brings it here again, and to its phase
        self.write(volume, change, false).await
    }

    async fn write(
        &self,
        volume: &PersistentVolume,
        change: Value,
        status: bool,
    ) -> Result<(), Error> {
        let api: Api<PersistentVolume> = Api::all(self.shared.client.clone());
        let (name, params, patch) = (
            volume.name_any(),
            PatchParams::default(),
            Patch::Merge(&change),
        );
        let written = match status {
            true => api.patch_status(&name, &params, &patch).await,
            false => api.patch(&name, &params, &patch).await,
        };
        match written {
            Err(error) if is_not_found(&error) => Ok(()),
            outcome => outcome
                .map(drop)
                .map_err(Error::api("update PersistentVolume", name)),
        }
    }
}
