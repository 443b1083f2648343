//! The shell around a volume's phase.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::PersistentVolume;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::Storage;
use super::binding::volume_phase;
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
        let claim = of.and_then(|of| self.claims.get(of.namespace.as_deref(), &of.name?));
        let known = volume.status.clone().unwrap_or_default();
        let mut bound = known.phase.as_deref() == Some("Bound");
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
