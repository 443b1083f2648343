//! Each pod is counted once, wherever things break off.

use serde_json::{Value, json};

use super::super::backoff::Failures;
use super::super::fixture::{job, merge, now, pods};
use super::super::look::look;
use super::super::manage::step;
use super::*;

/// Everything that was to be done was done.
fn all_done(look: &Look) -> Done {
    let step = step(look);
    Done {
        deleted: step
            .delete
            .iter()
            .map(|pod| objects::uid(&**pod).to_owned())
            .collect(),
        created: step.create.len(),
    }
}

fn accounted(spec: &Value, status: &Value, pods: &[Arc<Pod>]) -> Account {
    let job = job(spec.clone(), status.clone());
    let spec = job.spec.clone().unwrap();
    let look = look(&job, &spec, pods, Failures::default(), now());
    let done = all_done(&look);
    account(&look, &done)
}

/// The whole reconcile, with every finalizer taken.
fn settled(spec: &Value, status: &Value, pods: &[Arc<Pod>]) -> (Value, Vec<Told>) {
    let Account {
        mut status,
        end,
        capped,
        mut events,
        ..
    } = accounted(spec, status, pods);
    settle(&mut status, &HashSet::new());
    if let (Some(end), false) = (end, capped) {
        let completions = spec["completions"]
            .as_i64()
            .map_or(Some(1), |n| Some(n as i32));
        events.extend(conclude(&mut status, &end, completions, now()).unwrap_or_default());
    }
    (json!(status), events)
}

fn conditions(status: &Value) -> Vec<String> {
    let list = status["conditions"].as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|one| {
            let text = |key: &str| one[key].as_str().unwrap_or_default();
            format!("{}={} {}", text("type"), text("status"), text("reason"))
        })
        .collect()
}

fn told(events: &[Told]) -> Vec<&str> {
    events
        .iter()
        .map(|(_, reason, _)| reason.as_str())
        .collect()
}

#[test]
fn from_the_first_pod_to_the_end() {
    let spec = json!({"completions": 2, "parallelism": 2});
    let (status, _) = settled(&spec, &json!({"startTime": null}), &[]);
    assert_eq!(
        status,
        json!({"active": 2, "ready": 0, "terminating": 0, "startTime": "2026-01-01T00:10:00Z", "uncountedTerminatedPods": {}})
    );
    let (status, _) = settled(&spec, &status, &pods(&["a=Running ready", "b=Succeeded"]));
    assert_eq!(
        (&status["active"], &status["ready"], &status["succeeded"]),
        (&json!(1), &json!(1), &json!(1))
    );
    let (status, events) = settled(
        &spec,
        &status,
        &pods(&["a=Succeeded", "b=Succeeded counted"]),
    );
    assert_eq!(status["succeeded"], 2);
    assert!(status.get("active").is_none());
    assert_eq!(
        conditions(&status),
        [
            "SuccessCriteriaMet=True CompletionsReached",
            "Complete=True CompletionsReached"
        ]
    );
    assert_eq!(status["completionTime"], "2026-01-01T00:10:00Z");
    assert_eq!(status["uncountedTerminatedPods"], json!({}));
    assert_eq!(told(&events), ["Completed"]);
}

#[test]
fn failure_is_told_first_and_final_when_the_pods_have_ended() {
    let spec = json!({"backoffLimit": 0, "completions": 2, "parallelism": 2});
    let (status, events) = settled(&spec, &json!({}), &pods(&["a=Failed", "b=Running"]));
    assert_eq!(
        conditions(&status),
        ["FailureTarget=True BackoffLimitExceeded"]
    );
    assert_eq!(status["failed"], 2, "what runs at the end has failed, too");
    assert_eq!(status["terminating"], 1);
    assert!(events.is_empty());
    let (status, events) = settled(&spec, &status, &pods(&["a=Failed counted"]));
    assert_eq!(
        conditions(&status),
        [
            "FailureTarget=True BackoffLimitExceeded",
            "Failed=True BackoffLimitExceeded"
        ]
    );
    assert_eq!(status["failed"], 2);
    assert!(status.get("completionTime").is_none());
    assert_eq!(told(&events), ["BackoffLimitExceeded"]);
}

#[test]
fn an_end_waits_for_pods_that_could_not_be_deleted() {
    let job = job(json!({"activeDeadlineSeconds": 1}), json!({}));
    let spec = job.spec.clone().unwrap();
    let pods = pods(&["a=Running"]);
    let look = look(&job, &spec, &pods, Failures::default(), now());
    let account = account(&look, &Done::default());
    assert_eq!(account.end, None);
    assert_eq!(account.status.active, Some(1));
    assert!(account.release.is_empty());
}

/// A reconcile that breaks off after any of its writes, and is done again, counts the same.
#[test]
fn nothing_is_counted_twice_or_lost() {
    let plain = json!({"completions": 5, "parallelism": 5});
    let indexed = json!({"completions": 5, "parallelism": 5, "completionMode": "Indexed"});
    for (spec, texts) in [
        (
            plain,
            [
                "a=Succeeded",
                "b=Failed",
                "c=Running deleted",
                "d=Running",
                "e=Succeeded",
            ],
        ),
        (
            indexed,
            [
                "a@0=Succeeded",
                "b@1=Failed",
                "c@2=Running deleted",
                "d@3=Running",
                "e@4=Succeeded",
            ],
        ),
    ] {
        let all = pods(&texts);
        let expected = (json!(2), json!(2));
        // so many finalizers were taken before it broke off
        for taken in 0..=all.len() {
            let first = accounted(&spec, &json!({}), &all);
            let gone: Vec<String> = first
                .release
                .iter()
                .take(taken)
                .map(|pod| objects::uid(&**pod).to_owned())
                .collect();
            let later: Vec<Arc<Pod>> = all
                .iter()
                .map(|pod| {
                    let mut pod = Pod::clone(pod);
                    if gone.contains(pod.metadata.uid.as_ref().unwrap()) {
                        pod.metadata.finalizers = None;
                    }
                    Arc::new(pod)
                })
                .collect();
            let (status, _) = settled(&spec, &json!(first.status), &later);
            let found = (status["succeeded"].clone(), status["failed"].clone());
            assert_eq!(found, expected, "{spec} after {taken}");
            // and once more, with a cache that shows all of it
            let runs = |text: &&str| text.contains("Running") && !text.contains("deleted");
            let left: Vec<&str> = texts.iter().copied().filter(runs).collect();
            let (again, _) = settled(&spec, &status, &pods(&left));
            let found = (again["succeeded"].clone(), again["failed"].clone());
            assert_eq!(found, expected, "{spec} again after {taken}");
        }
    }
}

#[test]
fn ignored_failures_and_foreign_indexes_are_let_go_uncounted() {
    let ignoring = json!({"podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "Gone", "status": "True"}]}]}});
    let pod = super::super::fixture::pod_with(
        "a=Failed",
        json!({"status": {"conditions": [{"type": "Gone", "status": "True"}]}}),
    );
    let account = accounted(&ignoring, &json!({}), &[pod]);
    assert_eq!(account.release.len(), 1);
    assert_eq!(json!(account.status)["uncountedTerminatedPods"], json!({}));
    let indexed = json!({"completions": 2, "completionMode": "Indexed", "backoffLimit": 9});
    let account = accounted(&indexed, &json!({}), &pods(&["a@7=Failed", "b=Succeeded"]));
    assert_eq!(account.release.len(), 2);
    assert_eq!(json!(account.status)["uncountedTerminatedPods"], json!({}));
}

#[test]
fn indexes_are_listed_and_a_kept_pod_stays() {
    let spec = json!({"completions": 6, "parallelism": 6, "completionMode": "Indexed", "backoffLimitPerIndex": 1, "backoffLimit": 100});
    let failed = |text: &str, failures: &str| {
        super::super::fixture::pod_with(
            text,
            json!({"metadata": {"annotations": {"batch.kubernetes.io/job-index-failure-count": failures}}}),
        )
    };
    let mut all = pods(&[
        "a@0=Succeeded",
        "b@2=Succeeded",
        "c@3=Succeeded",
        "d@4=Succeeded",
    ]);
    all.extend([failed("e@1=Failed", "0"), failed("f@5=Failed", "1")]);
    let account = accounted(&spec, &json!({}), &all);
    let released: Vec<&str> = account
        .release
        .iter()
        .map(|pod| objects::name(&**pod))
        .collect();
    assert_eq!(released, ["a", "b", "c", "d", "f"], "e is to be replaced");
    assert_eq!(account.status.completed_indexes.as_deref(), Some("0,2-4"));
    assert_eq!(account.status.failed_indexes.as_deref(), Some("5"));
    assert_eq!(account.status.succeeded, Some(4));
}

#[test]
fn so_many_at_a_time() {
    let texts: Vec<String> = (0..600).map(|n| format!("p{n}=Succeeded")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let spec = json!({"completions": 600, "parallelism": 600});
    let account = accounted(&spec, &json!({}), &pods(&texts));
    assert!(account.capped);
    assert_eq!(account.release.len(), 500);
}

#[test]
fn a_job_is_suspended_and_resumed() {
    let suspended = json!({"suspend": true});
    let (status, events) = settled(&suspended, &json!({}), &pods(&["a=Running"]));
    assert_eq!(conditions(&status), ["Suspended=True JobSuspended"]);
    assert_eq!(told(&events), ["Suspended"]);
    assert!(status.get("failed").is_none(), "its pods do not count");
    let ran = json!({"startTime": "2026-01-01T00:00:00Z"});
    let (paused, _) = settled(&suspended, &ran, &pods(&["a=Running"]));
    assert!(
        paused.get("startTime").is_none(),
        "the pause is no time of its own: {paused}"
    );
    let (same, events) = settled(&suspended, &status, &[]);
    assert_eq!(conditions(&same), ["Suspended=True JobSuspended"]);
    assert!(events.is_empty());
    let mut before = same;
    merge(&mut before, &json!({"startTime": "2026-01-01T00:00:00Z"}));
    let (status, events) = settled(&json!({"suspend": false}), &before, &[]);
    assert_eq!(conditions(&status), ["Suspended=False JobResumed"]);
    assert_eq!(told(&events), ["Resumed"]);
    assert_eq!(status["startTime"], "2026-01-01T00:10:00Z");
    // ten minutes have passed since the start that an older version left there
    let short = json!({"suspend": false, "activeDeadlineSeconds": 60});
    let (status, _) = settled(&short, &before, &[]);
    assert_eq!(conditions(&status), ["Suspended=False JobResumed"]);
    let (status, _) = settled(&short, &json!({"startTime": "2026-01-01T00:00:00Z"}), &[]);
    assert_ne!(conditions(&status), [""; 0], "without a pause it is over");
}

#[test]
fn too_many_successes_are_told() {
    let (status, events) = settled(
        &json!({"completions": 1}),
        &json!({}),
        &pods(&["a=Succeeded", "b=Succeeded"]),
    );
    assert_eq!(status["succeeded"], 2);
    assert_eq!(told(&events), ["TooManySucceededPods", "Completed"]);
}
