//! Every setting of a case counts: with the default in its place, another decision would come out.
//!
//! Kubernetes' own cases set them, but with values that decide nothing.

use autoscale::replay::{compare_validation, evaluate};
use jiff::Timestamp;
use serde_json::{Value, json};

const NOW: i64 = 1_700_000_000;
const LONG_AGO: i64 = NOW - 3600;

/// The case passes.
fn passes(case: &Value, what: &str) {
    let result = evaluate(case, Timestamp::from_second(NOW).expect("a time"));
    assert!(result.passed, "{what}: {:?}", result.differences);
}

/// What is said of a case that does not.
fn differences(case: &Value) -> Vec<String> {
    evaluate(case, Timestamp::from_second(NOW).expect("a time")).differences
}

fn pod(number: usize, ready: bool, started: i64, turned: i64) -> Value {
    json!({
        "name": format!("web-{number}"), "labels": {"app": "web"}, "phase": "Running",
        "ready": if ready { "True" } else { "False" }, "readyLastTransitionTime": turned, "startTime": started,
        "containers": [{"name": "web", "requestMilli": 1000}],
    })
}

/// Four pods, each of which uses so much of its 1000m; half of them is wanted.
fn decision(usage: i64) -> Value {
    let usage: Vec<Value> = (0..4)
        .map(|number| {
            json!({"pod": format!("web-{number}"), "timestamp": NOW, "windowSeconds": 1,
            "containers": [{"name": "web", "usageMilli": usage}]})
        })
        .collect();
    json!({
        "table": "reconcile", "name": "x",
        "featureGates": {"HPAScaleToZero": false, "HPAConfigurableTolerance": true},
        "controller": {"tolerance": 0.1, "downscaleStabilizationSeconds": 300, "cpuInitializationPeriodSeconds": 300,
            "initialReadinessDelaySeconds": 30, "legacyScaleUpLimitFactor": 2.0, "legacyScaleUpLimitMinimum": 4.0},
        "hpa": {"namespace": "default", "name": "web", "spec": {"minReplicas": 1, "maxReplicas": 100,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]},
            "status": {"currentReplicas": 4, "desiredReplicas": 4, "conditions": []}},
        "scale": {"specReplicas": 4, "statusReplicas": 4, "selector": "app=web"},
        "pods": (0..4).map(|number| pod(number, true, LONG_AGO, LONG_AGO)).collect::<Vec<Value>>(),
        "resourceMetrics": usage,
        "expected": {},
    })
}

#[test]
fn those_of_the_controller() {
    // One pod turned unready half a minute after its start, 100 s ago.
    let unready = |case: &mut Value| case["pods"][3] = pod(3, false, NOW - 100, NOW - 70);
    // the setting, the usage, what else there is, what it is set to; the size by the default and as it is set
    type Row<'a> = (&'a str, i64, &'a dyn Fn(&mut Value), Value, i32, i32);
    let table: [Row; 6] = [
        ("tolerance", 700, &|_| {}, json!(0.5), 6, 4),
        (
            "downscaleStabilizationSeconds",
            500,
            &|case| case["priorRecommendations"] = json!([{"replicas": 8, "timestamp": NOW - 100}]),
            json!(60),
            8,
            4,
        ),
        (
            "cpuInitializationPeriodSeconds",
            1000,
            &|case| {
                unready(case);
                case["controller"]["initialReadinessDelaySeconds"] = json!(10);
            },
            json!(60),
            6,
            8,
        ),
        (
            "initialReadinessDelaySeconds",
            1000,
            &|case| {
                unready(case);
                case["controller"]["cpuInitializationPeriodSeconds"] = json!(60);
            },
            json!(31),
            8,
            6,
        ),
        ("legacyScaleUpLimitFactor", 2500, &|_| {}, json!(3.0), 8, 12),
        (
            "legacyScaleUpLimitMinimum",
            2500,
            &|_| {},
            json!(15.0),
            8,
            15,
        ),
    ];
    for (what, usage, prepare, set, by_default, as_set) in table {
        let mut case = decision(usage);
        prepare(&mut case);
        case["expected"] = json!({"desiredReplicas": by_default});
        passes(&case, what);
        case["controller"][what] = set;
        case["expected"] = json!({"desiredReplicas": as_set});
        passes(&case, what);
    }
}

#[test]
fn conditions_of_before() {
    let mut case = decision(500);
    case["scale"]["specReplicas"] = 0.into();
    let before = json!({"type": "ScalingLimited", "status": "True", "reason": "TooManyReplicas"});
    case["hpa"]["status"]["conditions"] = json!([before]);
    case["expected"] = json!({"desiredReplicas": 0, "scaleUpdated": false, "conditions": [
        before,
        {"type": "AbleToScale", "status": "True", "reason": "SucceededGetScale"},
        {"type": "ScalingActive", "status": "False", "reason": "ScalingDisabled"},
    ]});
    passes(&case, "a condition that nothing sets stays as it was");
}

#[test]
fn those_of_the_limit_without_behavior() {
    for (factor, minimum, from, replicas) in [(3.0, 4.0, 10, 30), (2.0, 15.0, 2, 15)] {
        let case = json!({
            "table": "convert_no_behavior", "legacyScaleUpLimitFactor": factor, "legacyScaleUpLimitMinimum": minimum,
            "currentReplicas": from, "desiredReplicas": 100, "minReplicas": 1, "maxReplicas": 200,
            "expected": {"replicas": replicas, "reason": "ScaleUpLimit"},
        });
        passes(&case, "convert_no_behavior");
    }
}

#[test]
fn those_of_grouping() {
    let usage = json!([{"pod": "web-0", "timestamp": NOW, "windowSeconds": 1, "value": 1}]);
    for (initialization, delay, unready) in [
        (60, 10, vec![]),
        (60, 31, vec!["web-0"]),
        (101, 10, vec!["web-0"]),
    ] {
        let case = json!({
            "table": "group_pods", "resourceName": "cpu", "cpuInitializationPeriodSeconds": initialization,
            "initialReadinessDelaySeconds": delay, "pods": [pod(0, false, NOW - 100, NOW - 70)], "metrics": usage,
            "expected": {"readyPodCount": 1 - unready.len(), "unreadyPods": unready, "missingPods": [], "ignoredPods": []},
        });
        passes(&case, &format!("{initialization} s, {delay} s"));
    }
}

#[test]
fn those_of_the_calculation() {
    for (initialization, delay, replicas) in [(60, 10, 4), (60, 31, 2), (101, 10, 2)] {
        let usage = |pod: &str| {
            json!({"pod": pod, "timestamp": NOW, "windowSeconds": 1,
            "containers": [{"name": "web", "usageMilli": 1000}]})
        };
        let case = json!({
            "table": "replica_calc", "currentReplicas": 2, "tolerance": {"scaleDown": 0.1, "scaleUp": 0.1},
            "cpuInitializationPeriodSeconds": initialization, "initialReadinessDelaySeconds": delay,
            "metricKind": "resource_utilization", "resourceName": "cpu", "target": {"averageUtilizationPercent": 50},
            "pods": [pod(0, true, LONG_AGO, LONG_AGO), pod(1, false, NOW - 100, NOW - 70)],
            "metrics": [usage("web-0"), usage("web-1")],
            "expected": {"replicas": replicas},
        });
        passes(&case, &format!("{initialization} s, {delay} s"));
    }
}

#[test]
fn requests_of_a_whole_pod() {
    for (gate, container, expected) in [
        (true, None, 500),
        (false, None, 150),
        (true, Some("a"), 100),
    ] {
        let case = json!({
            "table": "calculate_requests", "resourceName": "cpu", "container": container,
            "featureGates": {"PodLevelResources": gate},
            "pods": [{"name": "web", "podRequestsMilli": {"cpu": 500}, "initContainers": [],
                "containers": [{"name": "a", "requestsMilli": {"cpu": 100}}, {"name": "b", "requestsMilli": {"cpu": 50}}]}],
            "expected": {"requestsMilli": {"web": expected}},
        });
        passes(&case, &format!("{gate}, {container:?}"));
    }
}

/// Inputs as somebody writes them, with what is expected of them.
fn written(scale: Value, expected: Value) -> Value {
    json!({"name": "x", "expected": expected, "inputs": {
        "now": "2026-01-01T00:00:00Z", "scale": scale,
        "hpa": {"namespace": "default", "name": "web", "spec": {"maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}},
    }})
}

#[test]
fn what_is_expected_of_written_inputs() {
    let large = json!({"values": {"specReplicas": 5, "statusReplicas": 5, "selector": "app=web"}});
    let gone = json!({"failed": "no such target"});
    passes(
        &written(large.clone(), json!({"error": ""})),
        "no error was expected",
    );
    passes(
        &written(gone.clone(), json!({"error": "no such target"})),
        "the error was expected",
    );
    assert_eq!(
        differences(&written(gone, json!({"error": ""}))),
        [
            "error: expected None, got Some(\"failed to query scale subresource for Deployment/default/web: no such target\")"
        ]
    );
    let conditions =
        json!({"AbleToScale": "True/SucceededRescale", "ScaledToZero": "NotScaledToZero"});
    passes(
        &written(large.clone(), json!({"conditions": conditions})),
        "conditions",
    );
    assert_eq!(
        differences(&written(
            large.clone(),
            json!({"conditions": {"AbleToScale": "NotScaledToZero"}})
        )),
        ["conditions.AbleToScale: expected \"NotScaledToZero\", got \"SucceededRescale\""]
    );
    let mut beside = written(large, json!({}));
    beside["scale"] = json!({});
    assert_eq!(
        differences(&beside),
        ["cannot be evaluated: unknown field scale"]
    );
}

#[test]
fn validation_by_others_is_for_cases_of_validation() {
    let case = |table: &str| {
        json!({"table": table, "object": {"a": 1}, "minReplicasLowerBound": 1,
        "expected": {"valid": false, "firstErrorContains": "no good"}})
    };
    let refuse = |_: &str, object: &Value, least: i32| vec![format!("{object} {least} is no good")];
    for table in ["validate_hpa", "validate_scale"] {
        assert_eq!(
            compare_validation(&case(table), refuse),
            Ok(vec![]),
            "{table}"
        );
        let accepted = compare_validation(&case(table), |_, _, _| vec![]);
        assert_eq!(
            accepted.map(|differences| differences.len()),
            Ok(2),
            "{table}"
        );
    }
    assert_eq!(
        compare_validation(&case("reconcile"), refuse),
        Err("\"reconcile\" is no table of validation".to_owned())
    );
}
