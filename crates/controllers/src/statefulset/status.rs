//! A StatefulSet's status as computed from its pods.
//!
//! Pure. Follows `updateStatus` and `completeRollingUpdate` of `pkg/controller/statefulset`.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;

use super::identity::revision;
use crate::objects::{self, Availability};

/// The revisions between which the set's pods are, by name.
#[derive(Clone, Copy, Debug)]
pub struct Revisions<'a> {
    /// That of pods that are not to be updated yet.
    pub current: &'a str,
    /// That of the present template.
    pub update: &'a str,
}

/// Computes the status. `leaving` are pods of the current revision that were just deleted to be updated.
pub fn calculate(
    set: &StatefulSet,
    pods: &[Arc<Pod>],
    revisions: Revisions,
    collisions: i32,
    leaving: i32,
    now: Timestamp,
) -> StatefulSetStatus {
    let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
    let (mut ready, mut available, mut current, mut updated) = (0, 0, 0, 0);
    for pod in pods {
        if is_running_and_ready(pod) {
            ready += 1;
            let is_available = objects::availability(pod, min_ready, now) == Availability::Yes;
            available += i32::from(is_available);
        }
        if !objects::is_terminating(&**pod) {
            current += i32::from(revision(pod) == revisions.current);
            updated += i32::from(revision(pod) == revisions.update);
        }
    }
    let replicas = i32::try_from(pods.len()).unwrap_or(i32::MAX);
    let mut status = StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas,
        ready_replicas: some(ready),
        available_replicas: Some(available),
        current_replicas: some(current - leaving),
        updated_replicas: some(updated),
        current_revision: Some(revisions.current.to_owned()),
        update_revision: Some(revisions.update.to_owned()),
        collision_count: Some(collisions),
        conditions: None,
    };
    let wanted = set.spec.replicas.unwrap_or(1);
    if is_rolling(set) && updated == wanted && ready == wanted && replicas == wanted {
        status.current_replicas = status.updated_replicas;
        status.current_revision = status.update_revision.clone();
    }
    status
}

fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

/// Running, and the Ready condition is True.
pub fn is_running_and_ready(pod: &Pod) -> bool {
    objects::phase(pod) == "Running" && objects::is_ready(pod)
}

/// Pods are replaced when the template changes, not when somebody deletes them.
pub fn is_rolling(set: &StatefulSet) -> bool {
    let strategy = set.spec.update_strategy.as_ref();
    strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn set(strategy: &str) -> StatefulSet {
        serde_json::from_value(json!({"metadata": {"name": "db", "generation": 3}, "spec": {
            "replicas": 2, "minReadySeconds": 10, "selector": {}, "template": {}, "updateStrategy": {"type": strategy}}}))
        .unwrap()
    }

    fn pod(revision: &str, phase: &str, ready_since: Option<&str>, deleted: bool) -> Arc<Pod> {
        let ready = ready_since
            .map(|since| json!([{"type": "Ready", "status": "True", "lastTransitionTime": since}]));
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"labels": {"controller-revision-hash": revision}, "deletionTimestamp": deleted.then_some("2026-01-01T00:00:00Z")},
                "status": {"phase": phase, "conditions": ready},
            }))
            .unwrap(),
        )
    }

    fn said(strategy: &str, pods: &[Arc<Pod>], leaving: i32) -> Value {
        let revisions = Revisions {
            current: "a",
            update: "b",
        };
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        json!(calculate(&set(strategy), pods, revisions, 0, leaving, now))
    }

    const LONG_AGO: Option<&str> = Some("2026-01-01T00:00:00Z");
    const JUST_NOW: Option<&str> = Some("2026-01-01T00:00:58Z");

    #[test]
    fn counts_what_upstream_counts() {
        let pods = [
            pod("a", "Running", LONG_AGO, false),
            pod("a", "Running", JUST_NOW, false),
            pod("b", "Pending", None, false),
            pod("a", "Running", LONG_AGO, true),
        ];
        assert_eq!(
            said("RollingUpdate", &pods, 1),
            json!({
                "observedGeneration": 3, "replicas": 4, "readyReplicas": 3, "availableReplicas": 2, "currentReplicas": 1,
                "updatedReplicas": 1, "currentRevision": "a", "updateRevision": "b", "collisionCount": 0,
            })
        );
        assert_eq!(
            said("RollingUpdate", &[], 0),
            json!({"observedGeneration": 3, "replicas": 0, "availableReplicas": 0, "currentRevision": "a", "updateRevision": "b", "collisionCount": 0})
        );
    }

    #[test]
    fn an_update_is_complete_when_all_pods_are_updated_and_ready() {
        let ready = || pod("b", "Running", LONG_AGO, false);
        let cases = [
            ("RollingUpdate", vec![ready(), ready()], "b"),
            ("OnDelete", vec![ready(), ready()], "a"),
            (
                "RollingUpdate",
                vec![ready(), pod("b", "Running", None, false)],
                "a",
            ),
            (
                "RollingUpdate",
                vec![ready(), pod("a", "Running", LONG_AGO, false)],
                "a",
            ),
            ("RollingUpdate", vec![ready(), ready(), ready()], "a"),
        ];
        for (strategy, pods, expected) in cases {
            let status = said(strategy, &pods, 0);
            assert_eq!(
                status["currentRevision"],
                expected,
                "{strategy} {}",
                json!(pods)
            );
            if expected == "b" {
                assert_eq!(status["currentReplicas"], 2);
            }
        }
    }
}
