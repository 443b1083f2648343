//! Tables of what is wrong with Jobs and CronJobs, in upstream's words.

use serde_json::{Value, json};

use super::*;
use crate::registry::{defaults, strategy};

fn made(spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": "a", "uid": "u"}, "spec": {"template": {"metadata": {}, "spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    merge(&mut object["spec"], spec);
    defaults::job(&mut object);
    strategy::job_create(&mut object);
    strategy::job_named(&mut object);
    object
}

fn made_cron(spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": "a", "uid": "u"}, "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}}});
    merge(&mut object["spec"], spec);
    defaults::cron_job(&mut object);
    object
}

fn merge(object: &mut Value, change: Value) {
    match change {
        Value::Object(change) if object.is_object() => {
            for (key, value) in change {
                merge(&mut object[key.as_str()], value);
            }
        }
        change => *object = change,
    }
}

fn told(problems: Problems) -> Vec<String> {
    let causes = problems.0.iter();
    causes
        .map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect()
}

#[track_caller]
fn check(object: &Value, validate: fn(&Value, &mut Problems), expected: &[&str]) {
    let mut problems = Problems::default();
    validate(object, &mut problems);
    let told = told(problems);
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert_eq!(told, expected);
    }
}

#[test]
fn jobs() {
    const NEVER: &str =
        "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"";
    let cases: Vec<(Value, &[&str])> = vec![
        (json!({}), &[]),
        (
            json!({"completionMode": "Indexed", "completions": 3, "backoffLimitPerIndex": 1, "maxFailedIndexes": 2}),
            &[],
        ),
        (
            json!({"template": {"spec": {"restartPolicy": "OnFailure"}}}),
            &[],
        ),
        (
            json!({"template": {"spec": {"restartPolicy": "Always"}}}),
            &[NEVER],
        ),
        (
            json!({"template": {"spec": {"restartPolicy": "Sometimes"}}}),
            &[
                "spec.template.spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"OnFailure\", \"Never\"",
            ],
        ),
        (
            json!({"parallelism": -1, "completions": -2, "backoffLimit": -3, "ttlSecondsAfterFinished": -4, "activeDeadlineSeconds": -5}),
            &[
                "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
                "spec.completions: Invalid value: -2: must be greater than or equal to 0",
                "spec.activeDeadlineSeconds: Invalid value: -5: must be greater than or equal to 0",
                "spec.backoffLimit: Invalid value: -3: must be greater than or equal to 0",
                "spec.ttlSecondsAfterFinished: Invalid value: -4: must be greater than or equal to 0",
            ],
        ),
        (
            json!({"completionMode": "Other"}),
            &[
                "spec.completionMode: Unsupported value: \"Other\": supported values: \"NonIndexed\", \"Indexed\"",
            ],
        ),
        (
            json!({"completionMode": "Indexed", "parallelism": 100_001}),
            &[
                "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed",
                "spec.completions: Required value: when completion mode is Indexed",
            ],
        ),
        (
            json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 1}),
            &[
                "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
                "spec.maxFailedIndexes: Invalid value: 1: requires indexed completion mode",
            ],
        ),
        (
            json!({"completionMode": "Indexed", "completions": 1, "maxFailedIndexes": 2}),
            &[
                "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
                "spec.maxFailedIndexes: Invalid value: 2: must be less than or equal to completions",
            ],
        ),
        (
            json!({"completionMode": "Indexed", "completions": 200_000, "parallelism": 20_000, "backoffLimitPerIndex": 1}),
            &[
                "spec.parallelism: Invalid value: 20000: must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index",
                "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000",
            ],
        ),
        (
            json!({"podReplacementPolicy": "Never"}),
            &[
                "spec.podReplacementPolicy: Unsupported value: \"Never\": supported values: \"Failed\", \"TerminatingOrFailed\"",
            ],
        ),
        (
            json!({"managedBy": "me"}),
            &[
                "spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ],
        ),
        (json!({"managedBy": "acme.io/foo"}), &[]),
        (
            json!({"successPolicy": {"rules": []}}),
            &[
                "spec.successPolicy: Invalid value: {\"rules\":[]}: requires indexed completion mode",
            ],
        ),
        (
            json!({"selector": {"matchLabels": {"x": "y"}}}),
            &[
                "spec.selector: Invalid value: {\"matchLabels\":{\"batch.kubernetes.io/controller-uid\":\"u\",\"x\":\"y\"}}: `selector` not auto-generated",
                "spec.template.metadata.labels: Invalid value: {\"batch.kubernetes.io/controller-uid\":\"u\",\"batch.kubernetes.io/job-name\":\"a\",\"controller-uid\":\"u\",\"job-name\":\"a\"}: `selector` does not match template `labels`",
            ],
        ),
        (
            json!({"manualSelector": true}),
            &["spec.selector: Required value"],
        ),
    ];
    for (spec, expected) in cases {
        check(&made(spec), job, expected);
    }
    let mut long = made(json!({"completionMode": "Indexed", "completions": 11}));
    let name = "a".repeat(61);
    long["metadata"]["name"] = name.as_str().into();
    for key in NAME_LABELS {
        long["spec"]["template"]["metadata"]["labels"][key] = name.as_str().into();
    }
    let why = format!(
        "metadata.name: Invalid value: \"{name}\": will not able to create pod with invalid DNS label: {name}-10"
    );
    check(&long, job, &[&why]);
}

#[test]
fn policies_of_failure_and_success() {
    let rule = |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}});
    let field = "spec.podFailurePolicy.rules[0]";
    let codes = |operator: &str, values: Value| {
        rule(json!({"action": "FailJob", "onExitCodes": {"operator": operator, "values": values}}))
    };
    let cases: Vec<(Value, Vec<String>)> = vec![
        (codes("In", json!([1, 2])), vec![]),
        (codes("NotIn", json!([0, 2])), vec![]),
        (
            codes("In", json!([2, 0, 2])),
            vec![
                format!("{field}.onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator"),
                format!("{field}.onExitCodes.values[2]: Duplicate value: 2"),
                format!("{field}.onExitCodes.values: Invalid value: [2,0,2]: must be ordered"),
            ],
        ),
        (
            codes("Like", json!([])),
            vec![
                format!("{field}.onExitCodes.operator: Unsupported value: \"Like\": supported values: \"In\", \"NotIn\""),
                format!("{field}.onExitCodes.values: Invalid value: []: at least one value is required"),
            ],
        ),
        (
            rule(json!({"action": "", "onExitCodes": {"operator": "In", "values": [1], "containerName": "x"}})),
            vec![
                format!("{field}.action: Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]"),
                format!("{field}.onExitCodes.containerName: Invalid value: \"x\": must be one of the container or initContainer names in the pod template"),
            ],
        ),
        (
            rule(json!({"action": "FailIndex", "onPodConditions": [{"type": "DisruptionTarget"}]})),
            vec![format!("{field}.action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set")],
        ),
        (
            rule(json!({"action": "Ignore"})),
            vec![format!("{field}: Invalid value: specifying one of OnExitCodes and OnPodConditions is required")],
        ),
        (
            rule(json!({"action": "Ignore", "onExitCodes": {"operator": "In", "values": [1]}, "onPodConditions": [{"type": "X", "status": "Maybe"}]})),
            vec![
                format!("{field}.onPodConditions[0].status: Unsupported value: \"Maybe\": supported values: \"False\", \"True\", \"Unknown\""),
                format!("{field}: Invalid value: specifying both OnExitCodes and OnPodConditions is not supported"),
            ],
        ),
        (
            json!({"template": {"spec": {"restartPolicy": "OnFailure"}}, "podFailurePolicy": {"rules": []}}),
            vec!["spec.template.spec.restartPolicy: Invalid value: \"OnFailure\": only \"Never\" is supported when podFailurePolicy is specified".into()],
        ),
        (
            json!({"podReplacementPolicy": "TerminatingOrFailed", "podFailurePolicy": {"rules": []}}),
            vec!["spec.podReplacementPolicy: Unsupported value: \"TerminatingOrFailed\": supported values: \"Failed\"".into()],
        ),
        (
            json!({"podFailurePolicy": {"rules": vec![json!({"action": "Ignore", "onPodConditions": [{"type": "X"}]}); 21]}}),
            vec!["spec.podFailurePolicy.rules: Too many: 21: must have at most 20 items".into()],
        ),
    ];
    for (spec, expected) in cases {
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check(&made(spec), job, &expected);
    }

    let success = |rules: Value| json!({"completionMode": "Indexed", "completions": 5, "successPolicy": {"rules": rules}});
    let field = "spec.successPolicy.rules";
    let cases: Vec<(Value, Vec<String>)> = vec![
        (
            json!([{"succeededIndexes": "0-2", "succeededCount": 2}, {"succeededCount": 5}]),
            vec![],
        ),
        (
            json!([]),
            vec![format!(
                "{field}: Required value: at least one rules must be specified when the successPolicy is specified"
            )],
        ),
        (
            json!([{}]),
            vec![format!(
                "{field}[0]: Required value: at least one of succeededCount or succeededIndexes must be specified"
            )],
        ),
        (
            json!([{"succeededIndexes": "3-7"}]),
            vec![format!(
                "{field}[0].succeededIndexes: Invalid value: \"3-7\": error parsing succeededIndexes: too large index: \"7\""
            )],
        ),
        (
            json!([{"succeededIndexes": "1,3", "succeededCount": 6}]),
            vec![
                format!(
                    "{field}[0].succeededCount: Invalid value: 6: must be less than or equal to 5 (the number of specified completions)"
                ),
                format!(
                    "{field}[0].succeededCount: Invalid value: 6: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)"
                ),
            ],
        ),
    ];
    for (rules, expected) in cases {
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check(&made(success(rules)), job, &expected);
    }
}

#[test]
fn what_does_not_change_in_a_job() {
    let image = json!({"template": {"spec": {"containers": [{"name": "c", "image": "other"}]}}});
    let node = json!({"template": {"spec": {"nodeSelector": {"a": "b"}, "affinity": {"nodeAffinity": {}}}, "metadata": {"annotations": {"x": "y"}}}});
    let suspended = json!({"suspend": true});
    let started = json!({"startTime": "2026-01-01T00:00:00Z"});
    let halted = json!({"startTime": "2026-01-01T00:00:00Z", "conditions": [{"type": "Suspended", "status": "True"}]});
    let indexed = json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2});
    let cases: Vec<(Value, Value, Value, &[&str])> = vec![
        (
            json!({}),
            json!({}),
            json!({"parallelism": 5, "suspend": true, "backoffLimit": 1, "ttlSecondsAfterFinished": 5}),
            &[],
        ),
        (
            json!({}),
            json!({}),
            json!({"completions": 2}),
            &["spec.completions"],
        ),
        (json!({}), json!({}), image, &["spec.template"]),
        (
            json!({}),
            json!({}),
            json!({"completionMode": "Indexed"}),
            &["spec.completionMode"],
        ),
        (
            json!({}),
            json!({}),
            json!({"managedBy": "a.io/b"}),
            &["spec.managedBy"],
        ),
        (
            json!({}),
            json!({}),
            json!({"podFailurePolicy": {"rules": []}, "podReplacementPolicy": "Failed"}),
            &["spec.podFailurePolicy"],
        ),
        (
            json!({}),
            json!({}),
            json!({"selector": {"matchLabels": {"x": "y"}}}),
            &["spec.selector"],
        ),
        (
            indexed.clone(),
            json!({}),
            json!({"completions": 3, "parallelism": 3}),
            &[],
        ),
        (
            indexed.clone(),
            json!({}),
            json!({"completions": 3}),
            &["spec.completions"],
        ),
        (
            indexed.clone(),
            json!({}),
            json!({"backoffLimitPerIndex": 3}),
            &["spec.backoffLimitPerIndex"],
        ),
        (
            indexed,
            json!({}),
            json!({"successPolicy": {"rules": [{"succeededCount": 1}]}}),
            &["spec.successPolicy"],
        ),
        (json!({}), json!({}), node.clone(), &["spec.template"]),
        (suspended.clone(), json!({}), node.clone(), &[]),
        (suspended.clone(), started, node.clone(), &["spec.template"]),
        (suspended.clone(), halted, node, &[]),
        (
            suspended,
            json!({}),
            json!({"template": {"spec": {"terminationGracePeriodSeconds": 1}}}),
            &["spec.template"],
        ),
    ];
    for (spec, status, change, expected) in cases {
        let mut old = made(spec);
        old["status"] = status;
        let mut new = old.clone();
        merge(&mut new["spec"], change.clone());
        let mut problems = Problems::default();
        job_update(&new, &old, &mut problems);
        let fields: Vec<&str> = problems
            .0
            .iter()
            .map(|cause| cause.field.as_str())
            .collect();
        assert_eq!(fields, expected, "{change}");
    }
}

#[test]
fn cron_jobs() {
    let cases: Vec<(Value, &[&str])> = vec![
        (json!({}), &[]),
        (
            json!({"schedule": "@every 5m", "timeZone": "Europe/Berlin"}),
            &[],
        ),
        (json!({"schedule": ""}), &["spec.schedule: Required value"]),
        (
            json!({"schedule": "* * * *"}),
            &[
                "spec.schedule: Invalid value: \"* * * *\": expected exactly 5 fields, found 4: [* * * *]",
            ],
        ),
        (
            json!({"schedule": "TZ=UTC 0 * * * *"}),
            &[
                "spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            ],
        ),
        (
            json!({"timeZone": ""}),
            &["spec.timeZone: Invalid value: \"\": timeZone must be nil or non-empty string"],
        ),
        (
            json!({"timeZone": "Mars/Olympus"}),
            &["spec.timeZone: Invalid value: \"Mars/Olympus\": unknown time zone Mars/Olympus"],
        ),
        (
            json!({"timeZone": "../x"}),
            &["spec.timeZone: Invalid value: \"../x\": unknown time zone ../x"],
        ),
        (
            json!({"timeZone": "Local"}),
            &[
                "spec.timeZone: Invalid value: \"Local\": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
            ],
        ),
        (
            json!({"concurrencyPolicy": "Some"}),
            &[
                "spec.concurrencyPolicy: Unsupported value: \"Some\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
            ],
        ),
        (
            json!({"startingDeadlineSeconds": -1, "successfulJobsHistoryLimit": -2, "failedJobsHistoryLimit": -3}),
            &[
                "spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0",
                "spec.successfulJobsHistoryLimit: Invalid value: -2: must be greater than or equal to 0",
                "spec.failedJobsHistoryLimit: Invalid value: -3: must be greater than or equal to 0",
            ],
        ),
        (
            json!({"jobTemplate": {"spec": {"selector": {"matchLabels": {"a": "b"}}, "manualSelector": true, "parallelism": -1}}}),
            &[
                "spec.jobTemplate.spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
                "spec.jobTemplate.spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` will be auto-generated",
                "spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"nil\", \"false\"",
            ],
        ),
        (
            json!({"jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Always"}}}}}),
            &[
                "spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
            ],
        ),
    ];
    for (spec, expected) in cases {
        check(&made_cron(spec), cron_job, expected);
    }
    let mut long = made_cron(json!({}));
    long["metadata"]["name"] = "a".repeat(53).into();
    let why = format!(
        "metadata.name: Invalid value: \"{}\": must be no more than 52 characters",
        "a".repeat(53)
    );
    check(&long, cron_job, &[&why]);
}
