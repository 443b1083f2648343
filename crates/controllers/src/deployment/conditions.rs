//! A Deployment's conditions: how they are set, and what the Progressing one says.
//!
//! Follows `pkg/controller/deployment/progress.go` and `util/deployment_util.go`.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Condition types.
pub const AVAILABLE: &str = "Available";
pub const PROGRESSING: &str = "Progressing";
pub const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Reasons of the Progressing condition.
pub const NEW_SET_CREATED: &str = "NewReplicaSetCreated";
pub const FOUND_NEW_SET: &str = "FoundNewReplicaSet";
pub const SET_UPDATED: &str = "ReplicaSetUpdated";
pub const SET_CREATE_ERROR: &str = "ReplicaSetCreateError";
pub const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
pub const DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
pub const PAUSED: &str = "DeploymentPaused";
pub const RESUMED: &str = "DeploymentResumed";

/// A condition of now.
pub fn new(
    type_: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(type_.to_owned()),
        status: Some(status.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// The condition of this type.
pub fn get<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_.as_deref() == Some(type_))
}

/// The reason of the condition of this type, or nothing.
pub fn reason<'a>(status: &'a DeploymentStatus, type_: &str) -> &'a str {
    get(status, type_)
        .and_then(|condition| condition.reason.as_deref())
        .unwrap_or_default()
}

/// Sets a condition unless one with the same status and reason is there; the transition time changes with the status.
pub fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    let type_ = condition.type_.clone().unwrap_or_default();
    if let Some(known) = get(status, &type_) {
        if known.status == condition.status && known.reason == condition.reason {
            return;
        }
        if known.status == condition.status {
            condition.last_transition_time = known.last_transition_time.clone();
        }
    }
    remove(status, &type_);
    status.conditions.get_or_insert_default().push(condition);
}

/// Removes the condition of this type.
pub fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_.as_deref() != Some(type_));
    }
    if status.conditions.as_ref().is_some_and(Vec::is_empty) {
        status.conditions = None;
    }
}

/// Whether the Deployment has a progress deadline.
pub fn deadline(deployment: &Deployment) -> Option<SignedDuration> {
    let seconds = deployment.spec.progress_deadline_seconds.unwrap_or(600);
    (seconds != i32::MAX).then(|| SignedDuration::from_secs(seconds.into()))
}

/// Every replica is of the newest template and available, and nothing old is left.
pub fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = deployment.spec.replicas.unwrap_or(1);
    status.updated_replicas.unwrap_or(0) == wanted
        && status.replicas.unwrap_or(0) == wanted
        && status.available_replicas.unwrap_or(0) == wanted
        && status.observed_generation.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(0)
}

/// Something advanced between two statuses.
pub fn is_progressing(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let old = |status: &DeploymentStatus| {
        status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0)
    };
    after.updated_replicas.unwrap_or(0) > before.updated_replicas.unwrap_or(0)
        || old(after) < old(before)
        || after.ready_replicas.unwrap_or(0) > before.ready_replicas.unwrap_or(0)
        || after.available_replicas.unwrap_or(0) > before.available_replicas.unwrap_or(0)
}

/// When the deadline passes without progress; nothing if none can.
pub fn times_out_at(deployment: &Deployment, status: &DeploymentStatus) -> Option<Timestamp> {
    let deadline = deadline(deployment)?;
    let condition = get(status, PROGRESSING)?;
    if condition.reason.as_deref() == Some(NEW_SET_AVAILABLE) {
        return None;
    }
    let since = condition.last_update_time.as_ref()?.0;
    since.checked_add(deadline).ok()
}

/// Writes the Progressing condition into `status`, the status that is about to be written.
pub fn progress(
    deployment: &Deployment,
    new_set: Option<&str>,
    status: &mut DeploymentStatus,
    now: Timestamp,
) {
    if deadline(deployment).is_none() {
        remove(status, PROGRESSING);
        return;
    }
    let before = deployment.status.clone().unwrap_or_default();
    let done = status.replicas.unwrap_or(0) == status.updated_replicas.unwrap_or(0)
        && reason(&before, PROGRESSING) == NEW_SET_AVAILABLE;
    if done {
        return;
    }
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let subject = match new_set {
        Some(set) => format!("ReplicaSet \"{set}\""),
        None => format!("Deployment \"{name}\""),
    };
    if is_complete(deployment, status) {
        let message = format!("{subject} has successfully progressed.");
        set(
            status,
            new(PROGRESSING, "True", NEW_SET_AVAILABLE, message, now),
        );
    } else if is_progressing(&before, status) {
        let message = format!("{subject} is progressing.");
        let mut condition = new(PROGRESSING, "True", SET_UPDATED, message, now);
        // Unlike `set`, the update time must move with every sign of progress: the deadline counts from it.
        if let Some(known) = get(status, PROGRESSING)
            && known.status.as_deref() == Some("True")
        {
            condition.last_transition_time = known.last_transition_time.clone();
        }
        remove(status, PROGRESSING);
        set(status, condition);
    } else if reason(&before, PROGRESSING) != DEADLINE_EXCEEDED
        && times_out_at(deployment, &before).is_some_and(|at| at < now)
    {
        let message = format!("{subject} has timed out progressing.");
        set(
            status,
            new(PROGRESSING, "False", DEADLINE_EXCEEDED, message, now),
        );
    }
}
