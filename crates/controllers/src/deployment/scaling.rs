//! Resizes ReplicaSets, and follows changes of the Deployment's own size.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::Context;
use super::arithmetic::{self, Goal, Set};
use super::revision::{self, DESIRED_REPLICAS, MAX_REPLICAS};
use super::status::Sets;
use crate::error::Error;
use crate::events::Severity;
use crate::objects;

/// `spec.replicas`.
pub fn size(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

/// What the arithmetic needs of a set.
pub fn view(set: &ReplicaSet) -> Set {
    Set {
        name: objects::name(set).to_owned(),
        replicas: size(set),
        available: set
            .status
            .as_ref()
            .and_then(|status| status.available_replicas)
            .unwrap_or(0),
        created: objects::created(set),
        max_replicas: revision::number(set, MAX_REPLICAS),
    }
}

/// The Deployment's size changed since its active sets were last resized.
pub fn is_scaling(deployment: &Deployment, owned: &[Arc<ReplicaSet>]) -> bool {
    let replicas = Goal::of(deployment).replicas;
    owned
        .iter()
        .filter(|set| size(set) > 0)
        .filter_map(|set| revision::number(set, DESIRED_REPLICAS))
        .any(|desired| desired != replicas)
}

impl Context {
    /// Follows a change of size, or does what is done while paused.
    pub(super) async fn sync(
        &self,
        deployment: &Arc<Deployment>,
        owned: Vec<Arc<ReplicaSet>>,
        now: Timestamp,
    ) -> Result<Option<Duration>, Error> {
        let (deployment, mut sets) = self
            .sync_revision(deployment.clone(), owned, false, now)
            .await?;
        self.follow_size(&deployment, &mut sets).await?;
        if deployment.spec.paused == Some(true) {
            self.clean_up(&deployment, &sets).await?;
        }
        self.sync_status(&deployment, &sets, now).await
    }

    async fn follow_size(&self, deployment: &Deployment, sets: &mut Sets) -> Result<(), Error> {
        let goal = Goal::of(deployment);
        let active: Vec<Arc<ReplicaSet>> =
            sets.all().filter(|set| size(set) > 0).cloned().collect();
        let only = match active.as_slice() {
            [] => sets.new.clone().or_else(|| sets.old.last().cloned()),
            [one] => Some(one.clone()),
            _ => None,
        };
        if let Some(only) = only {
            return self
                .resize_to(deployment, sets, objects::name(&*only), goal.replicas)
                .await;
        }
        if is_saturated(&goal, sets) {
            for set in active {
                let is_new = sets
                    .new
                    .as_ref()
                    .is_some_and(|new| objects::uid(&**new) == objects::uid(&*set));
                if !is_new {
                    self.resize_to(deployment, sets, objects::name(&*set), 0)
                        .await?;
                }
            }
            return Ok(());
        }
        if goal.rolling {
            let views: Vec<Set> = active.iter().map(|set| view(set)).collect();
            let now_there = deployment
                .status
                .as_ref()
                .and_then(|status| status.replicas)
                .unwrap_or(0);
            for resize in arithmetic::spread(&goal, now_there, &views) {
                self.resize_to(deployment, sets, &resize.name, resize.replicas)
                    .await?;
            }
        }
        Ok(())
    }

    /// Gives the named set this size and the annotations that belong to it; `sets` then holds it as it is.
    pub(super) async fn resize_to(
        &self,
        deployment: &Deployment,
        sets: &mut Sets,
        name: &str,
        replicas: i32,
    ) -> Result<(), Error> {
        let Some(slot) = sets
            .old
            .iter_mut()
            .chain(&mut sets.new)
            .find(|set| objects::name(&***set) == name)
        else {
            return Ok(());
        };
        let before = size(slot);
        let annotations = revision::size_annotations(&Goal::of(deployment));
        let current = annotations
            .iter()
            .all(|(key, value)| objects::annotation(&**slot, key) == Some(value));
        if before == replicas && current {
            return Ok(());
        }
        let change = json!({
            "metadata": {"resourceVersion": slot.metadata.resource_version, "annotations": annotations},
            "spec": {"replicas": replicas},
        });
        let written = self
            .sets_api(deployment)
            .patch(name, &PatchParams::default(), &Patch::Merge(&change))
            .await
            .map_err(Error::api("scale ReplicaSet", objects::key(&**slot)))?;
        *slot = Arc::new(written);
        if before != replicas {
            let direction = if before < replicas { "up" } else { "down" };
            self.recorder.record(
                deployment,
                Severity::Normal,
                "ScalingReplicaSet",
                format!("Scaled {direction} replica set {name} from {before} to {replicas}"),
            );
        }
        Ok(())
    }
}

/// The new set has all the replicas that are wanted, all available.
fn is_saturated(goal: &Goal, sets: &Sets) -> bool {
    sets.new.as_ref().is_some_and(|new| {
        let view = view(new);
        revision::number(new, DESIRED_REPLICAS) == Some(goal.replicas)
            && view.replicas == goal.replicas
            && view.available == goal.replicas
    })
}
