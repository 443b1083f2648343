//! One step of a rollout, by either strategy, and what follows it: status, deadline, clean-up of old sets.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::api::DeleteParams;

use super::arithmetic::{self, Goal, new_set_size};
use super::conditions::{self, PROGRESSING};
use super::status::{self, Sets};
use super::{Context, revision, scaling};
use crate::error::{Error, is_not_found};
use crate::objects;
use crate::shared::owned_by;

impl Context {
    pub(super) async fn roll(
        &self,
        deployment: Arc<Deployment>,
        owned: Vec<Arc<ReplicaSet>>,
        now: Timestamp,
    ) -> Result<Option<Duration>, Error> {
        let (deployment, mut sets) = self.sync_revision(deployment, owned, true, now).await?;
        if self.grow(&deployment, &mut sets).await? || self.shrink(&deployment, &mut sets).await? {
            return self.rollout_status(&deployment, &sets, now).await;
        }
        self.finish(&deployment, &sets).await?;
        self.rollout_status(&deployment, &sets, now).await
    }

    pub(super) async fn recreate(
        &self,
        deployment: Arc<Deployment>,
        owned: Vec<Arc<ReplicaSet>>,
        now: Timestamp,
    ) -> Result<Option<Duration>, Error> {
        let (mut deployment, mut sets) = self
            .sync_revision(deployment, owned.clone(), false, now)
            .await?;
        let active: Vec<String> = sets
            .old
            .iter()
            .filter(|set| scaling::size(set) > 0)
            .map(|set| objects::name(&**set).to_owned())
            .collect();
        for name in &active {
            self.resize_to(&deployment, &mut sets, name, 0).await?;
        }
        if !active.is_empty() || self.old_pods_run(&sets) {
            return self.rollout_status(&deployment, &sets, now).await;
        }
        if sets.new.is_none() {
            (deployment, sets) = self.sync_revision(deployment, owned, true, now).await?;
        }
        self.grow(&deployment, &mut sets).await?;
        self.finish(&deployment, &sets).await?;
        self.rollout_status(&deployment, &sets, now).await
    }

    async fn grow(&self, deployment: &Deployment, sets: &mut Sets) -> Result<bool, Error> {
        let Some(new) = sets.new.clone() else {
            return Ok(false);
        };
        let current = scaling::size(&new);
        let total = sets.all().map(|set| scaling::size(set)).sum();
        let size = new_set_size(&Goal::of(deployment), current, total);
        if size == current {
            return Ok(false);
        }
        self.resize_to(deployment, sets, objects::name(&*new), size)
            .await?;
        Ok(true)
    }

    async fn shrink(&self, deployment: &Deployment, sets: &mut Sets) -> Result<bool, Error> {
        let Some(new) = &sets.new else {
            return Ok(false);
        };
        let old = sets.old.iter().map(|set| scaling::view(set));
        // what an empty one says of its pods is of before it was emptied
        let old: Vec<arithmetic::Set> = old.filter(|set| set.replicas > 0).collect();
        let steps = arithmetic::shrink_old(&Goal::of(deployment), &scaling::view(new), &old);
        for step in &steps {
            self.resize_to(deployment, sets, &step.name, step.replicas)
                .await?;
        }
        Ok(!steps.is_empty())
    }

    /// Pods of old templates that still run or are still stopping: Recreate waits for them.
    fn old_pods_run(&self, sets: &Sets) -> bool {
        sets.old.iter().any(|set| {
            set.status
                .as_ref()
                .is_some_and(|status| status.replicas > 0)
                || self
                    .shared
                    .pods
                    .by_index(&owned_by(objects::uid(&**set)))
                    .iter()
                    .any(|pod| !objects::is_finished(pod))
        })
    }

    async fn finish(&self, deployment: &Deployment, sets: &Sets) -> Result<(), Error> {
        let status = deployment.status.clone().unwrap_or_default();
        if conditions::is_complete(deployment, &status) {
            self.clean_up(deployment, sets).await?;
        }
        Ok(())
    }

    /// Deletes the old sets beyond the history limit, by revision, that have no replicas any more.
    pub(super) async fn clean_up(&self, deployment: &Deployment, sets: &Sets) -> Result<(), Error> {
        let limit = deployment.spec.revision_history_limit.unwrap_or(10);
        let mut old: Vec<&Arc<ReplicaSet>> = sets
            .old
            .iter()
            .filter(|set| !objects::is_terminating(&***set))
            .collect();
        let surplus = old
            .len()
            .saturating_sub(usize::try_from(limit).unwrap_or(0));
        old.sort_by_key(|set| (revision::of(&***set), objects::created(&***set)));
        for set in old.into_iter().take(surplus) {
            let status = set.status.clone().unwrap_or_default();
            let settled =
                set.metadata.generation.unwrap_or(0) <= status.observed_generation.unwrap_or(0);
            if status.replicas != 0 || scaling::size(set) != 0 || !settled {
                continue;
            }
            match self
                .sets_api(deployment)
                .delete(objects::name(&**set), &DeleteParams::background())
                .await
            {
                Ok(_) => {}
                Err(error) if is_not_found(&error) => {}
                Err(error) => {
                    return Err(Error::api("delete ReplicaSet", objects::key(&**set))(error));
                }
            }
        }
        Ok(())
    }

    /// Writes the status with its progress; returns when the deadline has to be looked at.
    async fn rollout_status(
        &self,
        deployment: &Arc<Deployment>,
        sets: &Sets,
        now: Timestamp,
    ) -> Result<Option<Duration>, Error> {
        let mut status = status::calculate(deployment, sets, now);
        let new = sets.new.as_ref().map(|set| objects::name(&**set));
        conditions::progress(deployment, new, &mut status, now);
        status::replica_failure(sets, &mut status, now);
        let waits = !conditions::is_complete(deployment, &status)
            && conditions::reason(&status, PROGRESSING) != conditions::DEADLINE_EXCEEDED;
        let look_again = conditions::times_out_at(deployment, &status).filter(|_| waits);
        self.write_status(deployment, status).await?;
        Ok(look_again.map(|at| {
            // A second more, as upstream: the deadline must have passed, not be about to.
            Duration::try_from(at.duration_since(now)).unwrap_or_default() + Duration::from_secs(1)
        }))
    }
}
