//! What is started, told and deleted.

use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-07-09T10:00:10Z".parse().unwrap()
}

const STARTED: &str = "2026-07-09T10:00:00Z";

fn cron(spec: Value, status: Value) -> CronJob {
    let mut cron = json!({
        "metadata": {"name": "c", "namespace": "n", "uid": "u", "creationTimestamp": "2026-07-09T09:30:00Z"},
        "spec": {"schedule": "0 * * * *", "jobTemplate": {}, "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 1},
        "status": status,
    });
    for (key, value) in spec.as_object().unwrap() {
        cron["spec"][key] = value.clone();
    }
    serde_json::from_value(cron).unwrap()
}

/// `a`, `a=Complete`, `a=Failed@5` (begun at that minute).
fn job(text: &str) -> Arc<Job> {
    let (text, minute) = text.split_once('@').unwrap_or((text, "0"));
    let (name, end) = text.split_once('=').unwrap_or((text, ""));
    let minute: u32 = minute.parse().unwrap();
    let at = format!("2026-07-09T09:{minute:02}:00Z");
    let mut job = json!({"metadata": {"name": name, "namespace": "n", "uid": name}, "spec": {"template": {}}, "status": {"startTime": at}});
    if !end.is_empty() {
        job["status"]["conditions"] = json!([{"type": end, "status": "True"}]);
    }
    if end == "Complete" {
        job["status"]["completionTime"] = at.into();
    }
    Arc::new(serde_json::from_value(job).unwrap())
}

fn active(names: &[&str]) -> Value {
    let list = names.iter().map(|name| json!({"name": name, "uid": name}));
    json!({"active": list.collect::<Vec<_>>()})
}

fn decide(spec: Value, status: Value, jobs: &[&str]) -> Decision {
    let mut cron = cron(spec, status);
    let jobs: Vec<Arc<Job>> = jobs.iter().map(|text| job(text)).collect();
    let mut decision = follow(&cron, &jobs);
    cron.status = Some(decision.status.clone());
    schedule(&cron, &mut decision, TimeZone::UTC, now());
    decision
}

fn told(decision: &Decision) -> Vec<String> {
    let events = decision.events.iter();
    events
        .map(|(_, reason, told)| format!("{reason}: {told}"))
        .collect()
}

#[test]
fn starts() {
    let other = json!({"lastScheduleTime": "2026-07-09T09:00:00Z"});
    let busy = active(&["c-1"]);
    let table: Vec<(&str, Value, Value, &[&str], Option<&str>, &[&str])> = vec![
        (
            "the first time",
            json!({}),
            json!({}),
            &[],
            Some(STARTED),
            &[],
        ),
        ("again", json!({}), other, &[], Some(STARTED), &[]),
        (
            "it was started",
            json!({}),
            json!({"lastScheduleTime": STARTED}),
            &[],
            None,
            &[],
        ),
        (
            "by its name",
            json!({}),
            active(&["c-29726520"]),
            &["c-29726520"],
            None,
            &[],
        ),
        (
            "it is not time",
            json!({"schedule": "30 10 * * *"}),
            json!({}),
            &[],
            None,
            &[],
        ),
        (
            "suspended",
            json!({"suspend": true}),
            json!({}),
            &[],
            None,
            &[],
        ),
        (
            "too late",
            json!({"startingDeadlineSeconds": 9}),
            json!({}),
            &[],
            None,
            &[],
        ),
        (
            "beside another",
            json!({"concurrencyPolicy": "Allow"}),
            busy.clone(),
            &["c-1"],
            Some(STARTED),
            &[],
        ),
        (
            "not beside another",
            json!({"concurrencyPolicy": "Forbid"}),
            busy.clone(),
            &["c-1"],
            None,
            &[
                "JobAlreadyActive: Not starting job because prior execution is running and concurrency policy is Forbid",
            ],
        ),
        (
            "instead of another",
            json!({"concurrencyPolicy": "Replace"}),
            busy,
            &["c-1"],
            Some(STARTED),
            &[],
        ),
        (
            "by other clocks",
            json!({"schedule": "0 12 * * *", "timeZone": "Europe/Berlin"}),
            json!({}),
            &[],
            Some(STARTED),
            &[],
        ),
        (
            "by clocks that are none",
            json!({"timeZone": "Mars/Olympus"}),
            json!({}),
            &[],
            None,
            &[
                "UnknownTimeZone: invalid timeZone: \"Mars/Olympus\": unknown time zone Mars/Olympus",
            ],
        ),
        (
            "no schedule",
            json!({"schedule": "x"}),
            json!({}),
            &[],
            None,
            &[
                "UnparseableSchedule: unparseable schedule: \"x\" : expected exactly 5 fields, found 1: [x]",
            ],
        ),
        (
            "a day that never comes",
            json!({"schedule": "0 0 30 2 *"}),
            json!({}),
            &[],
            None,
            &[
                "InvalidSchedule: invalid schedule: 0 0 30 2 * : time difference between two schedules is less than 1 second",
            ],
        ),
        (
            "many were missed",
            json!({"schedule": "* * * * *"}),
            json!({"lastScheduleTime": "2026-07-09T08:00:00Z"}),
            &[],
            Some(STARTED),
            &[
                "TooManyMissedTimes: too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew",
            ],
        ),
    ];
    for (what, spec, status, jobs, start, events) in table {
        let replaces = spec["concurrencyPolicy"] == "Replace";
        let decision = decide(spec, status, jobs);
        let found = decision.start.map(|at| at.to_string());
        assert_eq!(found.as_deref(), start, "{what}");
        assert_eq!(told(&decision), events, "{what}");
        assert_eq!(decision.replace.len(), usize::from(replaces), "{what}");
    }
}

#[test]
fn what_became_of_jobs_is_told_once() {
    let status = active(&["a", "b", "gone"]);
    let decision = decide(
        json!({"suspend": true}),
        status,
        &["a=Complete@5", "b", "stranger"],
    );
    assert_eq!(
        told(&decision),
        [
            "SawCompletedJob: Saw completed job: a, condition: Complete",
            "UnexpectedJob: Saw a job that the controller did not create or forgot: stranger",
        ]
    );
    let names = |list: &[ObjectReference]| -> Vec<String> {
        list.iter().filter_map(|one| one.name.clone()).collect()
    };
    assert_eq!(
        names(decision.status.active.as_deref().unwrap()),
        ["b", "gone"]
    );
    assert_eq!(names(&decision.unseen), ["gone"]);
    let last = decision.status.last_successful_time.unwrap().0;
    assert_eq!(last.to_string(), "2026-07-09T09:05:00Z");
}

#[test]
fn the_oldest_finished_jobs_go() {
    let jobs = [
        "a=Complete@1",
        "b=Complete@3",
        "c=Complete@2",
        "d=Failed@1",
        "e=Failed@2",
        "f",
    ];
    let names = |limits: Value| -> Vec<String> {
        let decision = decide(limits, active(&["f"]), &jobs);
        let old = decision.old.iter();
        old.map(|job| objects::name(&**job).to_owned()).collect()
    };
    assert_eq!(names(json!({})), ["a", "c", "d"]);
    let none = json!({"successfulJobsHistoryLimit": 0, "failedJobsHistoryLimit": 5});
    assert_eq!(names(none), ["a", "c", "b"]);
    let unlimited = json!({"successfulJobsHistoryLimit": null, "failedJobsHistoryLimit": null});
    assert!(names(unlimited).is_empty());
}
