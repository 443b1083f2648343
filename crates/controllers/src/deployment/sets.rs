//! Finds a Deployment's new and old ReplicaSets, makes the new one, and keeps revisions in step.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::arithmetic::{Goal, new_set_size};
use super::conditions::{self, PROGRESSING};
use super::revision;
use super::status::Sets;
use super::{Context, scaling};
use crate::error::{Error, is_namespace_terminating, message, reason};
use crate::events::Severity;
use crate::objects;

/// Tells the set of the present template from the others, which come oldest first.
pub fn divide(deployment: &Deployment, mut owned: Vec<Arc<ReplicaSet>>) -> Sets {
    owned.sort_by(|a, b| {
        (objects::created(&**a), objects::name(&**a))
            .cmp(&(objects::created(&**b), objects::name(&**b)))
    });
    let new = revision::newest(deployment, &owned).cloned();
    let is_new = |set: &Arc<ReplicaSet>| new.as_ref().is_some_and(|new| Arc::ptr_eq(new, set));
    Sets {
        old: owned.iter().filter(|set| !is_new(set)).cloned().collect(),
        new,
    }
}

impl Context {
    /// The sets with revision annotations up to date, the new one created if `create`; and the Deployment as it is
    /// after that.
    pub(super) async fn sync_revision(
        &self,
        deployment: Arc<Deployment>,
        owned: Vec<Arc<ReplicaSet>>,
        create: bool,
        now: Timestamp,
    ) -> Result<(Arc<Deployment>, Sets), Error> {
        let mut sets = divide(&deployment, owned);
        let newest_old = sets
            .old
            .iter()
            .map(|set| revision::of(&**set))
            .max()
            .unwrap_or(0);
        let next = newest_old + 1;
        let deployment = match &sets.new {
            Some(set) => {
                let (deployment, set) = self.keep(deployment, set.clone(), next, now).await?;
                sets.new = Some(set);
                deployment
            }
            None if create => {
                let (deployment, set) = self.create_set(deployment, &sets, next, now).await?;
                sets.new = set;
                deployment
            }
            None => deployment,
        };
        Ok((deployment, sets))
    }

    async fn keep(
        &self,
        deployment: Arc<Deployment>,
        set: Arc<ReplicaSet>,
        next: i64,
        now: Timestamp,
    ) -> Result<(Arc<Deployment>, Arc<ReplicaSet>), Error> {
        let annotations = revision::annotations_for(&deployment, &set, next);
        let min_ready = deployment.spec.min_ready_seconds.unwrap_or(0);
        let mut set = set;
        if set.metadata.annotations.as_ref() != Some(&annotations)
            || set.spec.min_ready_seconds.unwrap_or(0) != min_ready
        {
            let change = json!({
                "metadata": {"resourceVersion": set.metadata.resource_version, "annotations": annotations},
                "spec": {"minReadySeconds": min_ready},
            });
            let written = self
                .sets_api(&deployment)
                .patch(
                    objects::name(&*set),
                    &PatchParams::default(),
                    &Patch::Merge(&change),
                )
                .await
                .map_err(Error::api("update ReplicaSet", objects::key(&*set)))?;
            set = Arc::new(written);
        }
        let mut status = deployment.status.clone().unwrap_or_default();
        if conditions::deadline(&deployment).is_some()
            && conditions::get(&status, PROGRESSING).is_none()
        {
            let text = format!("Found new replica set \"{}\"", objects::name(&*set));
            let condition =
                conditions::new(PROGRESSING, "True", conditions::FOUND_NEW_SET, text, now);
            conditions::set(&mut status, condition);
        }
        let deployment = self
            .write_revision(deployment, revision::of(&*set), status)
            .await?;
        Ok((deployment, set))
    }

    async fn create_set(
        &self,
        deployment: Arc<Deployment>,
        sets: &Sets,
        next: i64,
        now: Timestamp,
    ) -> Result<(Arc<Deployment>, Option<Arc<ReplicaSet>>), Error> {
        let total = sets.old.iter().map(|set| scaling::size(set)).sum();
        let replicas = new_set_size(&Goal::of(&deployment), 0, total);
        let wanted = revision::new_set(&deployment, next, replicas);
        let name = objects::name(&wanted).to_owned();
        let set = match self
            .sets_api(&deployment)
            .create(&PostParams::default(), &wanted)
            .await
        {
            Ok(set) => {
                if replicas > 0 {
                    self.recorder.record(
                        &*deployment,
                        Severity::Normal,
                        "ScalingReplicaSet",
                        format!("Scaled up replica set {name} from 0 to {replicas}"),
                    );
                }
                set
            }
            Err(error) if reason(&error) == "AlreadyExists" => {
                self.taken(&deployment, &wanted).await?
            }
            Err(error) if is_namespace_terminating(&error) => return Ok((deployment, None)),
            Err(error) => {
                let text = format!(
                    "Failed to create new replica set \"{name}\": {}",
                    message(&error)
                );
                if conditions::deadline(&deployment).is_some() {
                    let mut status = deployment.status.clone().unwrap_or_default();
                    let condition = conditions::new(
                        PROGRESSING,
                        "False",
                        conditions::SET_CREATE_ERROR,
                        text.clone(),
                        now,
                    );
                    conditions::set(&mut status, condition);
                    self.write_status(&deployment, status).await?;
                }
                self.recorder.record(
                    &*deployment,
                    Severity::Warning,
                    conditions::SET_CREATE_ERROR,
                    text,
                );
                return Err(Error::api(
                    "create ReplicaSet",
                    format!("{}/{name}", objects::namespace(&*deployment)),
                )(error));
            }
        };
        let mut status = deployment.status.clone().unwrap_or_default();
        if conditions::deadline(&deployment).is_some() {
            let text = format!("Created new replica set \"{name}\"");
            let condition =
                conditions::new(PROGRESSING, "True", conditions::NEW_SET_CREATED, text, now);
            conditions::set(&mut status, condition);
        }
        let deployment = self
            .write_revision(deployment, revision::of(&set), status)
            .await?;
        Ok((deployment, Some(Arc::new(set))))
    }

    /// The name is taken: by ourselves a moment ago, which is as good, or by another template with the same hash,
    /// which a count in the status avoids next time.
    async fn taken(
        &self,
        deployment: &Arc<Deployment>,
        wanted: &ReplicaSet,
    ) -> Result<ReplicaSet, Error> {
        let there = self
            .sets_api(deployment)
            .get(objects::name(wanted))
            .await
            .map_err(Error::api("read ReplicaSet", objects::key(wanted)))?;
        let ours = objects::controller_of(&there)
            .is_some_and(|owner| owner.uid == objects::uid(&**deployment));
        let same =
            there.spec.template.as_ref().is_some_and(|template| {
                revision::same_template(template, &deployment.spec.template)
            });
        if ours && same {
            return Ok(there);
        }
        let mut status: DeploymentStatus = deployment.status.clone().unwrap_or_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        self.write_status(deployment, status).await?;
        Err(Error::Stale {
            object: objects::key(&**deployment),
        })
    }

    async fn write_revision(
        &self,
        deployment: Arc<Deployment>,
        number: i64,
        status: DeploymentStatus,
    ) -> Result<Arc<Deployment>, Error> {
        let mut deployment = deployment;
        if number > 0 && revision::of(&*deployment) != number {
            let change = json!({"metadata": {
                "resourceVersion": deployment.metadata.resource_version,
                "annotations": {revision::REVISION: number.to_string()},
            }});
            let written = self
                .api(&deployment)
                .patch(
                    objects::name(&*deployment),
                    &PatchParams::default(),
                    &Patch::Merge(&change),
                )
                .await
                .map_err(Error::api(
                    "set the revision of Deployment",
                    objects::key(&*deployment),
                ))?;
            self.own_writes.wrote(&written);
            deployment = Arc::new(written);
        }
        self.write_status(&deployment, status).await
    }
}
