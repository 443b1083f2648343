//! When a Job has come to its end, and what is counted until then.

use serde_json::{Value, json};

use super::super::fixture::{exited, job, now, pod_with, pods};
use super::*;

fn end(spec: Value, status: Value, pods: &[Arc<Pod>]) -> Option<(String, String, String)> {
    let job = job(spec, status);
    let spec = job.spec.clone().unwrap();
    let end = look(&job, &spec, pods, Failures::default(), now()).end?;
    Some((end.type_, end.reason.unwrap(), end.message.unwrap()))
}

#[test]
fn ends() {
    let restarted = |times: i32| {
        pod_with(
            "a=Running",
            json!({"status": {"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": times}]}}),
        )
    };
    let on_failure = |limit: i32| json!({"backoffLimit": limit, "template": {"spec": {"restartPolicy": "OnFailure"}}});
    let indexed = |change: Value| {
        let mut spec = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed"});
        super::super::fixture::merge(&mut spec, &change);
        spec
    };
    let policy = json!({"podFailurePolicy": {"rules": [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}, "backoffLimit": 0});
    let disrupted =
        json!({"status": {"conditions": [{"type": "DisruptionTarget", "status": "True"}]}});
    let limit =
        Some("FailureTarget BackoffLimitExceeded: Job has reached the specified backoff limit");
    let deadline =
        Some("FailureTarget DeadlineExceeded: Job was active longer than specified deadline");
    let table: Vec<(&str, Value, Value, Vec<Arc<Pod>>, Option<&str>)> = vec![
        ("it runs", json!({}), json!({}), pods(&["a=Running"]), None),
        (
            "retries are left",
            json!({"backoffLimit": 1}),
            json!({}),
            pods(&["a=Failed"]),
            None,
        ),
        (
            "no retry is left",
            json!({"backoffLimit": 0}),
            json!({}),
            pods(&["a=Failed"]),
            limit,
        ),
        (
            "failures were counted before",
            json!({"backoffLimit": 2}),
            json!({"failed": 2}),
            pods(&["a=Failed"]),
            limit,
        ),
        (
            "noted ones are not counted twice",
            json!({"backoffLimit": 2}),
            json!({"failed": 1, "uncountedTerminatedPods": {"failed": ["a"]}}),
            pods(&["a=Failed"]),
            None,
        ),
        (
            "nor are counted ones",
            json!({"backoffLimit": 1}),
            json!({"failed": 1}),
            pods(&["a=Failed counted"]),
            None,
        ),
        (
            "a deleted pod has failed",
            json!({"backoffLimit": 0}),
            json!({}),
            pods(&["a=Running deleted"]),
            limit,
        ),
        (
            "unless only ended ones are replaced",
            json!({"backoffLimit": 0, "podReplacementPolicy": "Failed"}),
            json!({}),
            pods(&["a=Running deleted"]),
            None,
        ),
        (
            "restarts count where they are",
            on_failure(2),
            json!({}),
            vec![restarted(2)],
            limit,
        ),
        (
            "few restarts do not",
            on_failure(2),
            json!({}),
            vec![restarted(1)],
            None,
        ),
        (
            "without retries one is enough",
            on_failure(0),
            json!({}),
            vec![restarted(1)],
            limit,
        ),
        (
            "restarts are none with Never",
            json!({"backoffLimit": 1}),
            json!({}),
            vec![restarted(5)],
            None,
        ),
        (
            "the deadline",
            json!({"activeDeadlineSeconds": 600}),
            json!({}),
            pods(&["a=Running"]),
            deadline,
        ),
        (
            "before the deadline",
            json!({"activeDeadlineSeconds": 601}),
            json!({}),
            pods(&["a=Running"]),
            None,
        ),
        (
            "a suspended Job has none",
            json!({"activeDeadlineSeconds": 600, "suspend": true}),
            json!({}),
            pods(&["a=Running"]),
            None,
        ),
        (
            "the policy of failures",
            policy.clone(),
            json!({}),
            vec![pod_with("a=Failed", exited(42, 300))],
            Some(
                "FailureTarget PodFailurePolicy: Container c for pod n/a failed with exit code 42 matching FailJob rule at index 0",
            ),
        ),
        (
            "what it ignores",
            policy.clone(),
            json!({}),
            vec![pod_with("a=Failed", disrupted)],
            None,
        ),
        (
            "what it does not name",
            policy,
            json!({}),
            vec![pod_with("a=Failed", exited(1, 300))],
            limit,
        ),
        (
            "what was decided stays",
            json!({}),
            json!({"conditions": [{"type": "FailureTarget", "status": "True", "reason": "R", "message": "m"}]}),
            vec![],
            Some("Failed R: m"),
        ),
        (
            "also for success",
            json!({"backoffLimit": 0}),
            json!({"conditions": [{"type": "SuccessCriteriaMet", "status": "True", "reason": "R", "message": "m"}]}),
            pods(&["a=Failed"]),
            Some("SuccessCriteriaMet R: m"),
        ),
        (
            "an index failed, others run",
            indexed(json!({"backoffLimitPerIndex": 0, "backoffLimit": 100})),
            json!({}),
            pods(&["a@0=Failed", "b@1=Running", "c@2=Succeeded"]),
            None,
        ),
        (
            "all indexes are done, one failed",
            indexed(json!({"backoffLimitPerIndex": 0, "backoffLimit": 100})),
            json!({"completedIndexes": "1"}),
            pods(&["a@0=Failed", "c@2=Succeeded"]),
            Some("FailureTarget FailedIndexes: Job has failed indexes"),
        ),
        (
            "an index is tried again",
            indexed(json!({"backoffLimitPerIndex": 1, "backoffLimit": 100})),
            json!({"completedIndexes": "1,2"}),
            pods(&["a@0=Failed"]),
            None,
        ),
        (
            "too many failed indexes",
            indexed(json!({"backoffLimitPerIndex": 0, "backoffLimit": 100, "maxFailedIndexes": 1})),
            json!({"failedIndexes": "1"}),
            pods(&["a@0=Failed", "b@2=Running"]),
            Some(
                "FailureTarget MaxFailedIndexesExceeded: Job has exceeded the specified maximal number of failed indexes",
            ),
        ),
        (
            "the policy of success",
            indexed(json!({"successPolicy": {"rules": [{"succeededIndexes": "0"}]}})),
            json!({}),
            pods(&["a@0=Succeeded", "b@1=Running"]),
            Some("SuccessCriteriaMet SuccessPolicy: Matched rules at index 0"),
        ),
        (
            "an index that the Job has not",
            indexed(json!({"backoffLimit": 0})),
            json!({}),
            pods(&["a@7=Failed", "b=Failed"]),
            None,
        ),
    ];
    for (what, spec, status, pods, expected) in table {
        let found = end(spec, status, &pods);
        let found = found.map(|(type_, reason, message)| format!("{type_} {reason}: {message}"));
        assert_eq!(found.as_deref(), expected, "{what}");
    }
}

#[test]
fn a_job_begins_when_it_may() {
    for (spec, status, expected) in [
        (
            json!({}),
            json!({"startTime": null}),
            Some("2026-01-01T00:10:00Z"),
        ),
        (json!({"suspend": true}), json!({"startTime": null}), None),
        (json!({}), json!({}), Some("2026-01-01T00:00:00Z")),
    ] {
        let job = job(spec, status);
        let spec = job.spec.clone().unwrap();
        let look = look(&job, &spec, &[], Failures::default(), now());
        let start = look.status.start_time.map(|time| time.0.to_string());
        assert_eq!(start.as_deref(), expected);
    }
}

#[test]
fn the_last_pod_of_a_failed_index_is_kept_until_it_is_replaced() {
    let spec = json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed", "backoffLimitPerIndex": 3});
    let job = job(spec, json!({}));
    let spec = job.spec.clone().unwrap();
    let failed = |text: &str, failures: &str, second: u32| {
        let mut change = exited(1, second);
        change["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"] =
            failures.into();
        pod_with(text, change)
    };
    let pods = [
        failed("a@0=Failed", "0", 100),
        failed("b@0=Failed", "1", 50),
        failed("c@1=Failed", "0", 100),
        failed("d@1=Failed", "0", 200),
        failed("e@2=Failed", "0", 100),
        pods(&["f@2=Running"])[0].clone(),
        failed("g@3=Failed", "3", 100),
    ];
    let look = look(&job, &spec, &pods, Failures::default(), now());
    let seen = look.indexed.unwrap();
    let kept: Vec<_> = seen
        .kept
        .iter()
        .map(|(index, pod)| (*index, objects::name(&**pod)))
        .collect();
    assert_eq!(kept, [(0, "b"), (1, "d")]);
    assert_eq!(seen.failed.unwrap().to_string(), "3");
}
