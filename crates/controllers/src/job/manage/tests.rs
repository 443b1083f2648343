//! How many pods are made and deleted, and which.

use serde_json::{Value, json};

use super::super::fixture::{exited, job, now, pod_with, pods};
use super::super::look::look;
use super::*;

fn decide(spec: Value, status: Value, pods: &[Arc<Pod>], failures: Failures) -> Step {
    let job = job(spec, status);
    let spec = job.spec.clone().unwrap();
    step(&look(&job, &spec, pods, failures, now()))
}

fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
    pods.iter().map(|pod| objects::name(&**pod)).collect()
}

#[test]
fn as_many_as_are_wanted() {
    let many = |completions: i32, parallelism: i32| json!({"completions": completions, "parallelism": parallelism});
    let queue = json!({"completions": null, "parallelism": 3});
    let when_ended = json!({"completions": 2, "parallelism": 2, "podReplacementPolicy": "Failed"});
    let table: Vec<(&str, Value, Value, Vec<Arc<Pod>>, usize, &[&str])> = vec![
        ("the first ones", many(5, 2), json!({}), vec![], 2, &[]),
        (
            "no more than are left",
            many(5, 3),
            json!({"succeeded": 4}),
            vec![],
            1,
            &[],
        ),
        (
            "those that run are enough",
            many(5, 2),
            json!({}),
            pods(&["a=Running", "b=Pending"]),
            0,
            &[],
        ),
        (
            "one has succeeded",
            many(5, 2),
            json!({}),
            pods(&["a=Running", "b=Succeeded"]),
            1,
            &[],
        ),
        (
            "all have",
            many(2, 2),
            json!({"succeeded": 1}),
            pods(&["b=Succeeded"]),
            0,
            &[],
        ),
        ("none at all", many(5, 0), json!({}), vec![], 0, &[]),
        ("a burst", many(1000, 900), json!({}), vec![], 500, &[]),
        (
            "a queue of work",
            queue.clone(),
            json!({}),
            pods(&["a=Running"]),
            2,
            &[],
        ),
        (
            "whose end is in sight",
            queue,
            json!({}),
            pods(&["a=Running", "b=Succeeded"]),
            0,
            &[],
        ),
        (
            "a deleted one is replaced",
            many(2, 2),
            json!({}),
            pods(&["a=Running", "b=Running deleted"]),
            1,
            &[],
        ),
        (
            "later, if it must have ended",
            when_ended.clone(),
            json!({}),
            pods(&["a=Running", "b=Running deleted"]),
            0,
            &[],
        ),
        (
            "when it has",
            when_ended,
            json!({}),
            pods(&["a=Running", "b=Succeeded deleted"]),
            0,
            &[],
        ),
        (
            "fewer in parallel: those that have come least far go",
            many(9, 1),
            json!({}),
            pods(&["a=Running ready", "b=Running", "c=Pending"]),
            0,
            &["c", "b"],
        ),
        (
            "suspended",
            json!({"suspend": true, "parallelism": 2}),
            json!({}),
            pods(&["a=Running", "b=Pending"]),
            0,
            &["b", "a"],
        ),
        (
            "at the end",
            json!({"activeDeadlineSeconds": 1}),
            json!({}),
            pods(&["a=Running", "b=Succeeded"]),
            0,
            &["a"],
        ),
    ];
    for (what, spec, status, pods, create, delete) in table {
        let step = decide(spec, status, &pods, Failures::default());
        // A failure makes the next one wait: those rows tell it by nothing.
        assert_eq!(step.create.len(), create, "{what}: {step:?}");
        assert_eq!(names(&step.delete), delete, "{what}");
    }
}

#[test]
fn a_replacement_waits_unless_it_has_waited() {
    let spec = json!({"completions": 2, "parallelism": 2});
    let failed = |second: u32| vec![pod_with("a=Failed", exited(1, second))];
    for (second, create, wait) in [(600, 0, Some(10)), (595, 0, Some(5)), (590, 2, None)] {
        let step = decide(
            spec.clone(),
            json!({}),
            &failed(second),
            Failures::default(),
        );
        let wait = wait.map(Duration::from_secs);
        assert_eq!((step.create.len(), step.wait), (create, wait), "{second}");
    }
    // the third failure in a row
    let before = Failures {
        count: 2,
        last: Some(now()),
    };
    let step = decide(spec, json!({}), &failed(580), before);
    assert_eq!(step.wait, Some(Duration::from_secs(20)));
}

#[test]
fn indexes_are_filled_from_the_first() {
    let spec = |change: Value| {
        let mut spec = json!({"completions": 5, "parallelism": 3, "completionMode": "Indexed", "backoffLimit": 100});
        super::super::fixture::merge(&mut spec, &change);
        spec
    };
    let per_index = json!({"backoffLimitPerIndex": 1});
    let late = |text: &str, second: u32| pod_with(text, exited(1, second));
    let table: Vec<(&str, Value, Value, Vec<Arc<Pod>>, &[i32], &[&str])> = vec![
        (
            "the first ones",
            json!({}),
            json!({}),
            vec![],
            &[0, 1, 2],
            &[],
        ),
        (
            "what is done or runs is left out",
            json!({}),
            json!({"completedIndexes": "0"}),
            pods(&["a@2=Running", "b@1=Succeeded"]),
            &[3, 4],
            &[],
        ),
        (
            "two of one index: the further one stays",
            json!({}),
            json!({}),
            pods(&["a@0=Pending", "b@0=Running", "c@1=Running"]),
            &[],
            &["a"],
        ),
        (
            "those without an index of the Job go",
            json!({}),
            json!({}),
            pods(&["a=Running", "b@9=Running", "c@0=Running"]),
            &[],
            &["a", "b"],
        ),
        (
            "a failed index is not filled again, another is at once",
            per_index.clone(),
            json!({"failedIndexes": "0"}),
            vec![],
            &[1, 2, 3],
            &[],
        ),
        (
            "one that failed lately waits, others do not",
            per_index.clone(),
            json!({}),
            vec![late("a@0=Failed", 599)],
            &[1, 2],
            &[],
        ),
        (
            "it is filled when it has waited",
            per_index,
            json!({}),
            vec![late("a@0=Failed", 500)],
            &[0, 1, 2],
            &[],
        ),
        (
            "one that ends is not filled before",
            json!({"podReplacementPolicy": "Failed"}),
            json!({}),
            pods(&["a@0=Running deleted"]),
            &[1, 2],
            &[],
        ),
    ];
    for (what, change, status, pods, create, delete) in table {
        let step = decide(spec(change), status, &pods, Failures::default());
        let expected: Vec<Option<i32>> = create.iter().copied().map(Some).collect();
        assert_eq!(step.create, expected, "{what}");
        assert_eq!(names(&step.delete), delete, "{what}");
    }
    let only = json!({"completions": 1, "backoffLimitPerIndex": 1});
    let step = decide(
        spec(only),
        json!({}),
        &[late("a@0=Failed", 597)],
        Failures::default(),
    );
    assert_eq!(step.wait, Some(Duration::from_secs(7)));
}

#[test]
fn a_job_that_is_being_deleted_makes_nothing() {
    let mut job = job(json!({}), json!({}));
    job.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    let spec = job.spec.clone().unwrap();
    let step = step(&look(&job, &spec, &[], Failures::default(), now()));
    assert!(step.create.is_empty() && step.delete.is_empty());
}
