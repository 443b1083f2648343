//! Which ReplicaSets are a Deployment's: adopts matching ones that nobody manages, releases those that no longer match.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::Context;
use crate::error::{Error, is_not_found, status_code};
use crate::objects::{self, Matcher};
use crate::shared::{orphans_in, owned_by};

impl Context {
    /// The ReplicaSets that this Deployment manages after adoption and release.
    pub(super) async fn claim(
        &self,
        deployment: &Deployment,
    ) -> Result<Vec<Arc<ReplicaSet>>, Error> {
        let matcher = Matcher::new(&deployment.spec.selector);
        let matches = |set: &ReplicaSet| matcher.matches(set.metadata.labels.as_ref());
        let namespace = objects::namespace(deployment);
        let terminating = objects::is_terminating(deployment);
        let mut claimed = Vec::new();
        for set in self
            .shared
            .replica_sets
            .by_index(&owned_by(objects::uid(deployment)))
        {
            if objects::namespace(&*set) != namespace {
                continue;
            }
            if matches(&set) {
                claimed.push(set);
            } else if !terminating && !objects::is_terminating(&*set) {
                let mut owners = set.metadata.owner_references.clone().unwrap_or_default();
                owners.retain(|owner| owner.uid != objects::uid(deployment));
                self.patch_owners(deployment, &set, owners, "release ReplicaSet")
                    .await?;
            }
        }
        if terminating {
            return Ok(claimed);
        }
        for set in self.shared.replica_sets.by_index(&orphans_in(namespace)) {
            if objects::is_terminating(&*set) || !matches(&set) {
                continue;
            }
            let live = self
                .api(deployment)
                .get(objects::name(deployment))
                .await
                .map_err(Error::api("read Deployment", objects::key(deployment)))?;
            if objects::uid(&live) != objects::uid(deployment) || objects::is_terminating(&live) {
                return Err(Error::Stale {
                    object: objects::key(deployment),
                });
            }
            let mut owners = set.metadata.owner_references.clone().unwrap_or_default();
            owners.push(objects::controller_reference(deployment));
            let adopted = self
                .patch_owners(deployment, &set, owners, "adopt ReplicaSet")
                .await?;
            claimed.extend(adopted.map(Arc::new));
        }
        Ok(claimed)
    }

    async fn patch_owners(
        &self,
        deployment: &Deployment,
        set: &ReplicaSet,
        owners: Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference>,
        action: &'static str,
    ) -> Result<Option<ReplicaSet>, Error> {
        let change = json!({"metadata": {
            "uid": set.metadata.uid,
            "resourceVersion": set.metadata.resource_version,
            "ownerReferences": owners,
        }});
        match self
            .sets_api(deployment)
            .patch(
                objects::name(set),
                &PatchParams::default(),
                &Patch::Merge(&change),
            )
            .await
        {
            Ok(set) => Ok(Some(set)),
            Err(error) if is_not_found(&error) || status_code(&error) == Some(422) => Ok(None),
            Err(error) => Err(Error::api(action, objects::key(set))(error)),
        }
    }
}
