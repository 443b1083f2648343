//! Questions about a Job's pods.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use crate::objects;

/// Keeps a pod until the controller has counted it.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// Which index of an Indexed Job a pod works on: an annotation, and a label.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often the index had failed when the pod was made, counted and not.
pub const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// The pod has not been counted yet.
pub fn is_tracked(pod: &Pod) -> bool {
    pod.metadata
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == FINALIZER)
}

/// The pod's index, whether the Job has it or not.
pub fn index(pod: &Pod) -> Option<i32> {
    objects::annotation(pod, INDEX)?
        .parse()
        .ok()
        .filter(|index| *index >= 0)
}

/// The pod's index, if the Job has it.
pub fn valid_index(pod: &Pod, completions: i32) -> Option<i32> {
    index(pod).filter(|index| *index < completions)
}

/// Pods of this Job are replaced only when they have ended, not as soon as they are being deleted.
pub fn replaced_when_ended(job: &Job) -> bool {
    job.spec.as_ref().is_some_and(|spec| {
        spec.pod_replacement_policy.as_deref() == Some("Failed")
            || spec.pod_failure_policy.is_some()
    })
}

/// The pod counts as failed: it has, or it is being deleted and will be replaced.
pub fn is_failed(pod: &Pod, job: &Job) -> bool {
    match objects::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => objects::is_terminating(pod) && !replaced_when_ended(job),
    }
}

/// The pod has succeeded.
pub fn has_succeeded(pod: &Pod) -> bool {
    objects::phase(pod) == "Succeeded"
}

/// The pod is being deleted and has not ended yet.
pub fn is_ending(pod: &Pod) -> bool {
    objects::is_terminating(pod) && !objects::is_finished(pod)
}

fn number(pod: &Pod, annotation: &str) -> i32 {
    objects::annotation(pod, annotation)
        .and_then(|text| text.parse().ok())
        .filter(|number| *number >= 0)
        .unwrap_or(0)
}

/// Failures of the pod's index before it that count.
pub fn failures(pod: &Pod) -> i32 {
    number(pod, FAILURES)
}

/// Failures of the pod's index before it that do not count.
pub fn ignored_failures(pod: &Pod) -> i32 {
    number(pod, IGNORED_FAILURES)
}

/// When the pod ended: by its containers, its readiness, its deletion, or, knowing no better, its creation.
pub fn ended_at(pod: &Pod) -> Timestamp {
    by_containers(pod)
        .or_else(|| {
            let ready = objects::pod_condition(pod, "Ready")?;
            let since = ready.last_transition_time.as_ref()?;
            (ready.status == "False").then_some(since.0)
        })
        .or_else(|| {
            let deleted = pod.metadata.deletion_timestamp.as_ref()?;
            let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
            deleted.0.checked_sub(SignedDuration::from_secs(grace)).ok()
        })
        .unwrap_or_else(|| objects::created(pod))
}

fn by_containers(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let ends = statuses.iter().map(|status| {
        let ended = status.state.as_ref()?.terminated.as_ref()?;
        ended.finished_at.as_ref().map(|time| time.0)
    });
    ends.collect::<Option<Vec<Timestamp>>>()?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_end_is_known_by_the_best_witness() {
        let end = |changes: serde_json::Value| {
            let mut pod = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}});
            for (key, value) in changes.as_object().unwrap() {
                for (inner, value) in value.as_object().unwrap() {
                    pod[key][inner] = value.clone();
                }
            }
            ended_at(&serde_json::from_value(pod).unwrap()).to_string()
        };
        let status = |finished: Option<&str>| {
            json!({"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": finished.map(|at| json!({"terminated": {"exitCode": 1, "finishedAt": at}}))})
        };
        let ready = json!([{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:09Z"}]);
        assert_eq!(end(json!({})), "2026-01-01T00:00:00Z");
        assert_eq!(
            end(
                json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 10}})
            ),
            "2026-01-01T00:00:20Z"
        );
        assert_eq!(
            end(json!({"status": {"conditions": ready}})),
            "2026-01-01T00:00:09Z"
        );
        assert_eq!(
            end(
                json!({"status": {"conditions": ready, "containerStatuses": [
                status(Some("2026-01-01T00:00:05Z")), status(Some("2026-01-01T00:00:07Z"))]}})
            ),
            "2026-01-01T00:00:07Z"
        );
        assert_eq!(
            end(
                json!({"status": {"conditions": ready, "containerStatuses": [
                status(Some("2026-01-01T00:00:05Z")), status(None)]}})
            ),
            "2026-01-01T00:00:09Z",
            "one still runs"
        );
    }

    #[test]
    fn a_deleted_pod_counts_as_failed_where_it_is_replaced_at_once() {
        let job = |policy: &str| -> Job {
            serde_json::from_value(
                json!({"spec": {"podReplacementPolicy": policy, "template": {}}}),
            )
            .unwrap()
        };
        let pod = |phase: &str, deleted: bool| -> Pod {
            serde_json::from_value(
                json!({"metadata": {"deletionTimestamp": deleted.then_some("2026-01-01T00:00:00Z")},
                "status": {"phase": phase}}),
            )
            .unwrap()
        };
        for (phase, deleted, policy, expected) in [
            ("Running", false, "TerminatingOrFailed", false),
            ("Running", true, "TerminatingOrFailed", true),
            ("Running", true, "Failed", false),
            ("Succeeded", true, "TerminatingOrFailed", false),
            ("Failed", false, "Failed", true),
        ] {
            assert_eq!(
                is_failed(&pod(phase, deleted), &job(policy)),
                expected,
                "{phase} {deleted} {policy}"
            );
        }
    }
}
