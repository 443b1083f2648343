//! A ReplicaSet's status as computed from its pods.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::condition;
use crate::objects::{self, Availability};

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// A status, and when it may change by the passing of time alone.
#[derive(Debug)]
pub struct Observed {
    /// To be written if it differs.
    pub status: ReplicaSetStatus,
    /// A pod becomes available then (minReadySeconds).
    pub look_again: Option<Duration>,
}

/// Computes the status from the set's pods. `failure` is reason and message of what kept pods from being made.
pub fn calculate(
    set: &ReplicaSet,
    pods: &[Arc<Pod>],
    failure: Option<(&str, &str)>,
    now: Timestamp,
) -> Observed {
    let template = set
        .spec
        .template
        .as_ref()
        .and_then(|template| template.metadata.as_ref())
        .and_then(|meta| meta.labels.clone())
        .unwrap_or_default();
    let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
    let (mut replicas, mut labelled, mut ready, mut available, mut terminating) = (0, 0, 0, 0, 0);
    let mut wait: Option<SignedDuration> = None;
    for pod in pods {
        if objects::is_finished(pod) {
            continue;
        }
        if objects::is_terminating(&**pod) {
            terminating += 1;
            continue;
        }
        replicas += 1;
        let labels = pod.metadata.labels.as_ref();
        let has = |(key, value): (&String, &String)| {
            labels.and_then(|labels| labels.get(key)) == Some(value)
        };
        labelled += i32::from(template.iter().all(has));
        ready += i32::from(objects::is_ready(pod));
        match objects::availability(pod, min_ready, now) {
            Availability::Yes => available += 1,
            Availability::No => {}
            Availability::In(time) => wait = Some(wait.map_or(time, |wait| wait.min(time))),
        }
    }
    let some = |count: i32| (count != 0).then_some(count);
    Observed {
        status: ReplicaSetStatus {
            replicas,
            fully_labeled_replicas: some(labelled),
            ready_replicas: some(ready),
            available_replicas: some(available),
            terminating_replicas: Some(terminating),
            observed_generation: set.metadata.generation,
            conditions: conditions(set, failure, now),
        },
        look_again: wait.map(|wait| wait.unsigned_abs() + Duration::from_millis(1)),
    }
}

fn conditions(
    set: &ReplicaSet,
    failure: Option<(&str, &str)>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions: Vec<ReplicaSetCondition> = set
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let known = condition(set, REPLICA_FAILURE);
    match failure {
        Some((reason, _)) if known.is_some_and(|known| known.reason.as_deref() == Some(reason)) => {
        }
        Some((reason, message)) => {
            conditions.retain(|condition| condition.type_.as_deref() != Some(REPLICA_FAILURE));
            conditions.push(ReplicaSetCondition {
                type_: Some(REPLICA_FAILURE.to_owned()),
                status: Some("True".to_owned()),
                reason: Some(reason.to_owned()),
                message: Some(message.to_owned()),
                last_transition_time: Some(Time(now)),
            });
        }
        None => conditions.retain(|condition| condition.type_.as_deref() != Some(REPLICA_FAILURE)),
    }
    (!conditions.is_empty()).then_some(conditions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn set(status: Value) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "generation": 4},
            "spec": {
                "minReadySeconds": 10,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web", "tier": "front"}}},
            },
            "status": status,
        }))
        .unwrap()
    }

    fn pod(tier: &str, phase: &str, ready_since: Option<&str>, deleted: bool) -> Arc<Pod> {
        let ready = ready_since
            .map(|since| json!([{"type": "Ready", "status": "True", "lastTransitionTime": since}]));
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {
                    "labels": {"app": "web", "tier": tier},
                    "deletionTimestamp": deleted.then_some("2026-01-01T00:00:00Z"),
                },
                "status": {"phase": phase, "conditions": ready},
            }))
            .unwrap(),
        )
    }

    #[test]
    fn counts_what_upstream_counts() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let pods = [
            pod("front", "Running", Some("2026-01-01T00:00:00Z"), false),
            pod("front", "Running", Some("2026-01-01T00:00:57Z"), false),
            pod("back", "Running", None, false),
            pod("front", "Pending", None, false),
            pod("front", "Failed", None, false),
            pod("front", "Running", Some("2026-01-01T00:00:00Z"), true),
        ];
        let observed = calculate(&set(json!({"replicas": 0})), &pods, None, now);
        assert_eq!(
            serde_json::to_value(&observed.status).unwrap(),
            json!({
                "replicas": 4, "fullyLabeledReplicas": 3, "readyReplicas": 2, "availableReplicas": 1,
                "terminatingReplicas": 1, "observedGeneration": 4,
            })
        );
        assert_eq!(observed.look_again, Some(Duration::from_millis(7001)));
    }

    #[test]
    fn a_failure_becomes_a_condition_and_goes_with_it() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let failing = calculate(
            &set(json!({"replicas": 0})),
            &[],
            Some(("FailedCreate", "no")),
            now,
        )
        .status;
        let condition = &failing.conditions.clone().unwrap()[0];
        assert_eq!(condition.type_.as_deref(), Some("ReplicaFailure"));
        assert_eq!(condition.status.as_deref(), Some("True"));
        assert_eq!(condition.reason.as_deref(), Some("FailedCreate"));
        let mut later = set(json!({"replicas": 0}));
        later.status = Some(failing);
        assert_eq!(calculate(&later, &[], None, now).status.conditions, None);
    }
}
