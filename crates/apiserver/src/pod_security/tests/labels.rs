//! What the labels of a namespace mean.

use serde_json::{Map, Value, json};

use super::Policy;

/// The policy of labels that are written without their prefix, and what is wrong with them.
fn policy(labels: &Value) -> (String, Vec<String>) {
    let all: Map<_, _> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (format!("pod-security.kubernetes.io/{key}"), value.clone()))
        .collect();
    let (policy, problems) = Policy::of(&Value::Object(all));
    let told = problems.0.into_iter();
    (
        format!("{} {}", policy.enforce, policy.warn),
        told.map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect(),
    )
}

#[test]
fn labels_that_make_sense() {
    for (labels, expected) in [
        (json!({}), "privileged:latest privileged:latest"),
        (
            json!({"audit": "restricted", "audit-version": "v1.30"}),
            "privileged:latest privileged:latest",
        ),
        (
            json!({"enforce": "privileged"}),
            "privileged:latest privileged:latest",
        ),
        // who enforces and says nothing of warnings wants them, too
        (
            json!({"enforce": "baseline"}),
            "baseline:latest baseline:latest",
        ),
        (
            json!({"enforce": "restricted", "enforce-version": "v1.30"}),
            "restricted:v1.30 restricted:v1.30",
        ),
        (
            json!({"enforce": "restricted", "enforce-version": "v1.30", "warn-version": "latest"}),
            "restricted:v1.30 restricted:latest",
        ),
        (
            json!({"enforce": "restricted", "warn": "privileged"}),
            "restricted:latest privileged:latest",
        ),
        (
            json!({"enforce-version": "v1.0"}),
            "privileged:v1.0 privileged:latest",
        ),
        (
            json!({"warn": "restricted", "warn-version": "v1.200"}),
            "privileged:latest restricted:v1.200",
        ),
    ] {
        assert_eq!(
            policy(&labels),
            (expected.to_owned(), Vec::new()),
            "{labels}"
        );
    }
    assert_eq!(Policy::of(&Value::Null).0, Policy::of(&json!({"a": "b"})).0);
}

#[test]
fn labels_that_make_none() {
    let level = |mode: &str, given: &str| {
        format!(
            "metadata.labels[pod-security.kubernetes.io/{mode}]: Invalid value: {given:?}: must be one of privileged, baseline, restricted"
        )
    };
    let version = |mode: &str, given: &str| {
        format!(
            "metadata.labels[pod-security.kubernetes.io/{mode}-version]: Invalid value: {given:?}: must be \"latest\" or \"v1.x\""
        )
    };
    // strict where it is about refusing, mild where it is about telling
    assert_eq!(
        policy(&json!({"enforce": "Baseline"})),
        (
            "restricted:latest privileged:latest".into(),
            vec![level("enforce", "Baseline")]
        )
    );
    assert_eq!(
        policy(&json!({"enforce": "baseline", "warn": "all"})),
        (
            "baseline:latest privileged:latest".into(),
            vec![level("warn", "all")]
        )
    );
    assert_eq!(
        policy(&json!({"audit": "", "audit-version": "1.30", "enforce": "x", "enforce-version": "y", "warn": "z", "warn-version": ""})).1,
        [
            level("enforce", "x"),
            version("enforce", "y"),
            level("audit", ""),
            version("audit", "1.30"),
            level("warn", "z"),
            version("warn", ""),
        ]
    );
    for wrong in [
        "v1",
        "v1.",
        "v1.01",
        "v2.0",
        "v1.1.1",
        "v1.-1",
        "v1.+1",
        "v1.x",
        "V1.1",
        "Latest",
        "v1.9223372036854775808",
    ] {
        let found = policy(&json!({"enforce": "baseline", "enforce-version": wrong}));
        let expected = "baseline:latest baseline:latest".to_owned();
        assert_eq!(found, (expected, vec![version("enforce", wrong)]));
    }
}

#[test]
fn when_pods_are_looked_at_anew() {
    let standard = |level: &str, version: &str| {
        let labels = json!({"pod-security.kubernetes.io/enforce": level, "pod-security.kubernetes.io/enforce-version": version});
        Policy::of(&labels).0.enforce
    };
    for (before, after, expected) in [
        (("privileged", "latest"), ("baseline", "latest"), true),
        (("baseline", "latest"), ("restricted", "latest"), true),
        (("baseline", "v1.30"), ("baseline", "v1.31"), true),
        (("restricted", "v1.30"), ("baseline", "v1.31"), true),
        (("restricted", "latest"), ("baseline", "latest"), false),
        (("baseline", "latest"), ("baseline", "latest"), false),
        (("restricted", "v1.30"), ("privileged", "latest"), false),
    ] {
        let (old, new) = (standard(before.0, before.1), standard(after.0, after.1));
        assert_eq!(new.may_ask_more_than(old), expected, "{before:?} {after:?}");
    }
}
