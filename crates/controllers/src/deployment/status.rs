//! A Deployment's status as computed from its ReplicaSets.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetStatus};

use super::arithmetic::Goal;
use super::conditions::{self, AVAILABLE, REPLICA_FAILURE};
use crate::replicaset;

/// Counts and the Available condition; the other conditions are kept.
pub fn calculate(deployment: &Deployment, sets: &Sets, now: Timestamp) -> DeploymentStatus {
    let all = || sets.all();
    let sum = |field: fn(&ReplicaSetStatus) -> Option<i32>| -> i32 {
        all()
            .filter_map(|set| set.status.as_ref().and_then(field))
            .sum()
    };
    let some = |count: i32| (count != 0).then_some(count);
    let before = deployment.status.as_ref();
    let available = sum(|status| status.available_replicas);
    let wanted: i32 = all().map(|set| set.spec.replicas.unwrap_or(1)).sum();
    let updated = sets
        .new
        .as_ref()
        .and_then(|set| set.status.as_ref())
        .map_or(0, |status| status.replicas);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(sum(|status| Some(status.replicas))),
        updated_replicas: some(updated),
        ready_replicas: some(sum(|status| status.ready_replicas)),
        available_replicas: some(available),
        unavailable_replicas: some((wanted - available).max(0)),
        terminating_replicas: Some(sum(|status| status.terminating_replicas)),
        collision_count: before.and_then(|status| status.collision_count),
        conditions: before.and_then(|status| status.conditions.clone()),
    };
    let condition = if available >= Goal::of(deployment).min_available() {
        let message = "Deployment has minimum availability.".to_owned();
        conditions::new(AVAILABLE, "True", "MinimumReplicasAvailable", message, now)
    } else {
        let message = "Deployment does not have minimum availability.".to_owned();
        conditions::new(
            AVAILABLE,
            "False",
            "MinimumReplicasUnavailable",
            message,
            now,
        )
    };
    conditions::set(&mut status, condition);
    status
}

/// Takes over the ReplicaFailure condition of the newest set, or of any, or removes it.
pub fn replica_failure(sets: &Sets, status: &mut DeploymentStatus, now: Timestamp) {
    let failure = sets.new.iter().chain(&sets.old).find_map(|set| {
        replicaset::condition(set, REPLICA_FAILURE).map(|condition| {
            conditions::new(
                REPLICA_FAILURE,
                condition.status.as_deref().unwrap_or("True"),
                condition.reason.as_deref().unwrap_or_default(),
                condition.message.clone().unwrap_or_default(),
                now,
            )
        })
    });
    match failure {
        Some(condition) => conditions::set(status, condition),
        None => conditions::remove(status, REPLICA_FAILURE),
    }
}

/// A Deployment's ReplicaSets: the one of the present template, if it exists, and the others.
#[derive(Clone, Debug, Default)]
pub struct Sets {
    /// Of the present template.
    pub new: Option<Arc<ReplicaSet>>,
    /// Of earlier templates, oldest first.
    pub old: Vec<Arc<ReplicaSet>>,
}

impl Sets {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new)
    }
}
