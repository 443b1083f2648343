//! Edges and texts that Kubernetes' tables do not pin down.

mod support;

use autoscale::hpa::{
    Bounds, MetricReading, OtherAutoscaler, Pod, PodValue, Reading, Recommendation, Rule,
    ScaleEvent, Settings, State, change_in_period, decide, decide_after_failed_write, limit,
    limit_with_behavior, remember, stabilize, stabilize_with_behavior,
};
use autoscale::{EventType, Failure, Inputs};
use jiff::SignedDuration;
use k8s_openapi::api::autoscaling::v2::HPAScalingRules;
use serde_json::{Value, json};

use support::{inputs, now, spec};

fn ago(seconds: i64) -> jiff::Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

fn condition(decision: &autoscale::Decision, kind: &str) -> (String, String, String) {
    let conditions = decision.status.conditions.clone().unwrap_or_default();
    let found = conditions
        .into_iter()
        .find(|condition| condition.type_ == kind);
    let found = found.unwrap_or_default();
    (
        found.status,
        found.reason.unwrap_or_default(),
        found.message.unwrap_or_default(),
    )
}

fn texts(status: &str, reason: &str, message: &str) -> (String, String, String) {
    (status.to_owned(), reason.to_owned(), message.to_owned())
}

/// Inputs with one metric in place of CPU.
fn with_metric(metric: Value, reading: MetricReading, minimum: i32, replicas: usize) -> Inputs {
    let mut inputs = inputs(spec(minimum, 100, Value::Null), &vec![Some(10); replicas]);
    inputs.hpa.spec.metrics = serde_json::from_value(json!([metric])).expect("a metric");
    inputs.metrics = vec![reading];
    inputs
}

fn external(target: Value) -> Value {
    json!({"type": "External", "external": {
        "metric": {"name": "queue", "selector": {"matchLabels": {"q": "jobs"}}}, "target": target}})
}

#[test]
fn a_recommendation_exactly_as_old_as_the_window_still_holds() {
    for (age, held) in [(299, 9), (300, 9), (301, 3)] {
        let mut log = vec![Recommendation {
            replicas: 9,
            at: ago(age),
        }];
        assert_eq!(stabilize(&mut log, 3, 300, now()), held, "{age} s old");
    }
}

#[test]
fn an_old_recommendation_gives_its_place_away() {
    let mut log: Vec<Recommendation> = [400, 350, 100]
        .iter()
        .map(|age| Recommendation {
            replicas: 1,
            at: ago(*age),
        })
        .collect();
    stabilize(&mut log, 7, 300, now());
    let replicas: Vec<i32> = log.iter().map(|past| past.replicas).collect();
    assert_eq!(replicas, [1, 7, 1], "the last of the old ones, as upstream");
}

/// Upstream's comparisons to the letter: the window without `behavior` holds what is exactly as old as it, those with
/// `behavior` do not, and neither gives the place of such an entry away.
#[test]
fn at_the_edge_of_a_window() {
    let nine = |age| Recommendation {
        replicas: 9,
        at: ago(age),
    };
    let mut log = vec![nine(300)];
    assert_eq!((stabilize(&mut log, 3, 300, now()), log.len()), (9, 2));
    let mut log = vec![nine(301)];
    assert_eq!((stabilize(&mut log, 3, 300, now()), log.len()), (3, 1));
    // Downwards with a window of 300 s, and 10 s upwards.
    for (age, held, length) in [(299, 9, 2), (300, 3, 2), (301, 3, 1)] {
        let mut log = vec![nine(age)];
        let size = stabilize_with_behavior(&mut log, 9, 3, 10, 300, now());
        assert_eq!((size, log.len()), (held, length), "{age} s old");
    }
    // Upwards the longer window.
    for (age, held, length) in [(299, 9, 2), (300, 12, 2), (301, 12, 1)] {
        let mut log = vec![nine(age)];
        let size = stabilize_with_behavior(&mut log, 9, 12, 300, 10, now());
        assert_eq!((size, log.len()), (held, length), "{age} s old");
    }
}

/// Bounds and limits that meet: which of them is told, and that what is just allowed is not limited.
#[test]
fn at_the_edge_of_a_limit() {
    let rules = |value: i32| -> HPAScalingRules {
        let policy = json!({"type": "Pods", "value": value, "periodSeconds": 60});
        serde_json::from_value(json!({"selectPolicy": "Max", "policies": [policy]})).expect("rules")
    };
    let bounds = |minimum: i32, maximum: i32| Bounds {
        minimum,
        maximum,
        current: 5,
        ups: &[],
        downs: &[],
        now: now(),
    };
    let within = "DesiredWithinRange";
    // Without behavior 5 may grow to 10; with it 5 may grow to 8 and shrink to 3.
    let table = [
        (10, (1, 20), 10, within, 8, "ScaleUpLimit"),
        (11, (1, 20), 10, "ScaleUpLimit", 8, "ScaleUpLimit"),
        (11, (1, 10), 10, "TooManyReplicas", 8, "ScaleUpLimit"),
        (8, (1, 20), 8, within, 8, within),
        (9, (1, 8), 8, "TooManyReplicas", 8, "TooManyReplicas"),
        (8, (1, 8), 8, within, 8, within),
        (9, (1, 7), 7, "TooManyReplicas", 7, "TooManyReplicas"),
        (5, (1, 5), 5, within, 5, within),
        (5, (5, 9), 5, within, 5, within),
        (3, (1, 9), 3, within, 3, within),
        (2, (1, 9), 2, within, 3, "ScaleDownLimit"),
        (3, (3, 9), 3, within, 3, within),
        (2, (3, 9), 3, "TooFewReplicas", 3, "TooFewReplicas"),
        (2, (4, 9), 4, "TooFewReplicas", 4, "TooFewReplicas"),
        (4, (4, 9), 4, within, 4, within),
    ];
    for (desired, (minimum, maximum), plain, plain_reason, ruled, ruled_reason) in table {
        let bounds = bounds(minimum, maximum);
        let found = limit(desired, &bounds, &Settings::default());
        let text = format!("{desired} in {minimum}..{maximum}");
        assert_eq!(
            (found.replicas, found.reason),
            (plain, plain_reason),
            "{text}"
        );
        assert_eq!(found.rule.is_none(), plain_reason == within, "{text}");
        let found = limit_with_behavior(desired, &bounds, &rules(3), &rules(2));
        assert_eq!(
            (found.replicas, found.reason),
            (ruled, ruled_reason),
            "{text}"
        );
        assert_eq!(found.rule.is_none(), ruled_reason == within, "{text}");
    }
}

/// Ten decisions a second fill the log long before an hour's window is over: what the window holds, holds.
#[test]
fn a_long_window_holds_however_often_is_decided() {
    let mut log = Vec::new();
    for step in 0..36_010_i64 {
        let at = now() + SignedDuration::from_millis(100 * step);
        let desired = if step == 0 { 9 } else { 3 };
        let held = stabilize(&mut log, desired, 3600, at);
        assert_eq!(held, if step <= 36_000 { 9 } else { 3 }, "step {step}");
        assert!(log.len() <= 4096, "{}", log.len());
    }
}

#[test]
fn a_move_exactly_as_old_as_the_period_counts_no_more() {
    for (age, counted) in [(14, 5), (15, 0), (16, 0)] {
        let events = [ScaleEvent {
            change: 5,
            at: ago(age),
            outdated: false,
        }];
        assert_eq!(change_in_period(15, &events, now()), counted, "{age} s old");
    }
}

#[test]
fn growth_beyond_the_default_limit_by_others_is_not_undone() {
    let ups = [ScaleEvent {
        change: 2,
        at: ago(5),
        outdated: false,
    }];
    let settings = Settings::default();
    let bounds = Bounds {
        minimum: 1,
        maximum: 100,
        current: 12,
        ups: &ups,
        downs: &[],
        now: now(),
    };
    assert_eq!(
        limit(90, &bounds, &settings).replicas,
        20,
        "twice the 10 at the start of the period"
    );
    // Eleven of the twelve came within the period: twice one is less than what there is.
    let ups = [ScaleEvent {
        change: 11,
        at: ago(5),
        outdated: false,
    }];
    let bounds = Bounds {
        ups: &ups,
        ..bounds
    };
    let limited = limit(90, &bounds, &settings);
    assert_eq!((limited.replicas, limited.reason), (12, "ScaleUpLimit"));
    let per_sync = Settings {
        scale_up_limit_period_seconds: None,
        ..settings
    };
    assert_eq!(
        limit(90, &bounds, &per_sync).replicas,
        24,
        "upstream counts from the current size"
    );
}

#[test]
fn only_growth_without_behavior_is_remembered_for_the_default_limit() {
    let mut state = State::default();
    remember(&mut state, None, 5, 3, &Settings::default(), now());
    assert_eq!(state, State::default());
    remember(&mut state, None, 3, 5, &Settings::default(), now());
    assert_eq!(
        state
            .default_scale_ups
            .iter()
            .map(|event| event.change)
            .collect::<Vec<_>>(),
        [2]
    );
    assert!(state.scale_ups.is_empty());
}

#[test]
fn a_pod_without_a_sample_counts_as_the_target_where_that_is_above_its_request() {
    // Nine pods at half of a target of 200 %, one unknown: as 200 % it holds more than as 100 %.
    let mut usage = vec![Some(100); 9];
    usage.push(None);
    let mut inputs = inputs(spec(1, 100, Value::Null), &usage);
    let metric = inputs
        .hpa
        .spec
        .metrics
        .as_mut()
        .and_then(|metrics| metrics[0].resource.as_mut())
        .expect("a resource");
    metric.target.average_utilization = Some(200);
    // (9 × 100 + 200) / 1000 = 110 %, ratio 0.55, ⌈0.55 × 10⌉ = 6; counted as 100 % it would be ⌈0.5 × 10⌉ = 5.
    assert_eq!(decide(&inputs).desired, Some(6));
}

#[test]
fn a_failing_metric_does_not_stop_what_does_not_shrink() {
    let mut inputs = inputs(spec(1, 100, Value::Null), &[Some(80), Some(80)]);
    let unknown = serde_json::from_value(json!({"type": "Tarot"})).expect("a metric");
    inputs
        .hpa
        .spec
        .metrics
        .get_or_insert_default()
        .push(unknown);
    let decision = decide(&inputs);
    assert_eq!(decision.desired, Some(2), "the size that is there");
    assert_eq!(condition(&decision, "ScalingActive").1, "ValidMetricFound");
    let error = "invalid metrics (1 invalid out of 2), first error is: unknown metric source type \"Tarot\"";
    assert_eq!(decision.error.as_deref(), Some(error));
    for usage in inputs
        .pods
        .iter()
        .map(|pod| pod.name.clone())
        .collect::<Vec<_>>()
    {
        let Reading::Values(values) = &mut inputs.pod_usage else {
            continue;
        };
        let pod = values
            .iter_mut()
            .find(|pod| pod.pod == usage)
            .expect("its usage");
        pod.containers[0].usage_milli.insert("cpu".to_owned(), 10);
    }
    let decision = decide(&inputs);
    assert_eq!(
        (decision.desired, &decision.rescale),
        (None, &None),
        "nothing shrinks on half of the metrics"
    );
    assert_eq!(
        condition(&decision, "ScalingActive").1,
        "InvalidMetricSourceType"
    );
}

#[test]
fn scaled_to_zero_is_told_apart_from_stopped() {
    let empty = MetricReading::External {
        values_milli: vec![0],
    };
    let target = json!({"type": "AverageValue", "averageValue": "10"});
    let down = decide(&with_metric(external(target.clone()), empty.clone(), 0, 3));
    assert_eq!(down.desired, Some(0));
    let message = "the HPA controller scaled the workload to zero";
    assert_eq!(
        condition(&down, "ScaledToZero"),
        texts("True", "ScaledToZero", message)
    );

    let mut stopped = with_metric(
        external(target),
        MetricReading::External {
            values_milli: vec![50_000],
        },
        0,
        0,
    );
    let decision = decide(&stopped);
    assert_eq!(decision.rescale, None);
    assert_eq!(decision.steps[0].rule, Rule::Disabled);
    let message = "scaling is disabled since the replica count of the target is zero";
    assert_eq!(
        condition(&decision, "ScalingActive"),
        texts("False", "ScalingDisabled", message)
    );

    stopped.hpa.status = down.status;
    let woken = decide(&stopped);
    assert_eq!(woken.desired, Some(4), "⌈50 / 10⌉ = 5, limited to 4");
    assert_eq!(condition(&woken, "ScaledToZero").1, "NotScaledToZero");
}

#[test]
fn growing_from_zero_by_hand_is_no_scaling_to_zero() {
    // Without a minimum of zero, a size of zero is a person's doing, whatever the metric.
    let reading = MetricReading::External {
        values_milli: vec![0],
    };
    let target = json!({"type": "Value", "value": "10"});
    let mut inputs = with_metric(external(target), reading, 1, 3);
    inputs.settings.scale_to_zero = false;
    let decision = decide(&inputs);
    assert_eq!(decision.desired, Some(1));
    assert_eq!(condition(&decision, "ScaledToZero"), texts("", "", ""));
}

#[test]
fn names_and_errors_are_upstreams_to_the_letter() {
    let selector = "&LabelSelector{MatchLabels:map[string]string{q: jobs,},MatchExpressions:[]LabelSelectorRequirement{},}";
    let target = json!({"type": "Value", "value": "10"});
    let found = decide(&with_metric(
        external(target.clone()),
        MetricReading::External {
            values_milli: vec![90_000],
        },
        1,
        3,
    ));
    assert_eq!(
        found.rescale.map(|rescale| rescale.reason),
        Some(format!("external metric queue({selector}) above target"))
    );

    let failed = decide(&with_metric(
        external(target),
        MetricReading::Failed("no route".to_owned()),
        1,
        3,
    ));
    let error = format!(
        "unable to get external metric default/queue/{selector}: unable to fetch metrics from external metrics API: no route"
    );
    let message = format!("the HPA was unable to compute the replica count: {error}");
    assert_eq!(
        condition(&failed, "ScalingActive"),
        texts("False", "FailedGetExternalMetric", &message)
    );
    let events: Vec<(&str, &str)> = failed
        .events
        .iter()
        .map(|event| (event.reason.as_str(), event.message.as_str()))
        .collect();
    let whole = format!(
        "invalid metrics (1 invalid out of 1), first error is: failed to get queue external metric value: failed to \
         get external metric queue: {error}"
    );
    assert_eq!(
        events,
        [
            ("FailedGetExternalMetric", error.as_str()),
            ("FailedComputeMetricsReplicas", whole.as_str())
        ]
    );
    assert!(
        failed
            .events
            .iter()
            .all(|event| event.kind == EventType::Warning)
    );

    let object = json!({"type": "Object", "object": {
        "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "web"},
        "metric": {"name": "hits"}, "target": {"type": "Value", "value": "100"}}});
    let found = decide(&with_metric(
        object.clone(),
        MetricReading::Object {
            value_milli: 400_000,
        },
        1,
        3,
    ));
    assert_eq!(
        found.rescale.map(|rescale| rescale.reason).as_deref(),
        Some("Service metric hits above target")
    );
    let failed = decide(&with_metric(
        object,
        MetricReading::Failed("gone".to_owned()),
        1,
        3,
    ));
    let error = "unable to get metric hits on Service default/web: unable to fetch metrics from custom metrics API: gone";
    assert_eq!(failed.events[0].message, error);

    let pods = json!({"type": "Pods", "pods":
        {"metric": {"name": "qps"}, "target": {"type": "AverageValue", "averageValue": "10"}}});
    let values = (0..3).map(|index| PodValue {
        pod: format!("web-{index}"),
        timestamp: now(),
        window_seconds: 60.0,
        value_milli: 20_000,
    });
    let found = decide(&with_metric(
        pods,
        MetricReading::Pods(values.collect()),
        1,
        3,
    ));
    assert_eq!(found.desired, Some(6));
    assert_eq!(
        found.rescale.map(|rescale| rescale.reason).as_deref(),
        Some("pods metric qps above target")
    );
}

#[test]
fn what_cannot_be_read_keeps_the_size_and_says_so() {
    let base = || inputs(spec(1, 10, Value::Null), &[Some(500), Some(500)]);
    let mut unread = base();
    unread.scale = Err(Failure::new("no such thing"));
    let decision = decide(&unread);
    assert_eq!((decision.current, decision.rescale), (None, None));
    assert_eq!(decision.events[0].reason, "FailedGetScale");

    let cases: [(&str, fn(&mut Inputs), &str); 6] = [
        (
            "no selector",
            |inputs| set_selector(inputs, ""),
            "InvalidSelector",
        ),
        (
            "a selector that is none",
            |inputs| set_selector(inputs, "a b"),
            "InvalidSelector",
        ),
        (
            "nothing selected",
            |inputs| set_selector(inputs, "app=other"),
            "FailedGetResourceMetric",
        ),
        (
            "no requests",
            |inputs| inputs.pods[0].containers[0].requests_milli.clear(),
            "FailedGetResourceMetric",
        ),
        (
            "no samples",
            |inputs| inputs.pod_usage = Reading::Values(Vec::new()),
            "FailedGetResourceMetric",
        ),
        (
            "another autoscaler",
            |inputs| inputs.others = vec![other("app=web")],
            "AmbiguousSelector",
        ),
    ];
    for (what, spoil, reason) in cases {
        let mut inputs = base();
        spoil(&mut inputs);
        let decision = decide(&inputs);
        assert_eq!(
            (decision.desired, &decision.rescale),
            (None, &None),
            "{what}"
        );
        assert_eq!(condition(&decision, "ScalingActive").1, reason, "{what}");
        assert!(
            decision.error.is_some() && !decision.summary().is_empty(),
            "{what}"
        );
    }
    let mut harmless = base();
    harmless.others = vec![other("app=db"), other(""), other("((")];
    assert_eq!(decide(&harmless).desired, Some(4));
}

fn set_selector(inputs: &mut Inputs, selector: &str) {
    if let Ok(scale) = &mut inputs.scale {
        scale.selector = selector.to_owned();
    }
}

fn other(selector: &str) -> OtherAutoscaler {
    OtherAutoscaler {
        name: "other".to_owned(),
        selector: selector.to_owned(),
    }
}

#[test]
fn a_failed_write_remembers_no_move_and_keeps_the_status() {
    let inputs = inputs(spec(1, 10, json!({})), &[Some(500), Some(500)]);
    let done = decide(&inputs);
    assert_eq!(done.state.scale_ups.len(), 1);
    let failed = decide_after_failed_write(&inputs, "the disk is full");
    assert!(failed.state.scale_ups.is_empty());
    assert_eq!(
        (
            failed.rescale,
            failed.status.desired_replicas,
            failed.status.last_scale_time
        ),
        (None, 0, None)
    );
    assert_eq!(
        failed.events[0].message,
        "New size: 6; reason: cpu resource utilization (percentage of request) above target; error: the disk is full"
    );
    assert_eq!(
        failed.error.as_deref(),
        Some("failed to rescale Deployment/default/web: the disk is full")
    );
}

#[test]
fn pods_that_just_started_damp_growth() {
    let young = |pod: &mut Pod| {
        pod.start_time = Some(ago(3));
        pod.ready = Some(autoscale::hpa::ReadyCondition {
            status: "True".to_owned(),
            last_transition: ago(2),
        });
    };
    let mut inputs = inputs(
        spec(1, 100, Value::Null),
        &[Some(200), Some(200), Some(200), Some(200)],
    );
    inputs.pods.iter_mut().take(2).for_each(young);
    // Two count (ratio 2.5); with the two young ones as idle it is 1.25: ⌈1.25 × 4⌉ = 5.
    assert_eq!(decide(&inputs).desired, Some(5));
}

#[test]
fn at_the_maximum_metrics_are_still_looked_at() {
    let decision = decide(&inputs(spec(1, 2, Value::Null), &[Some(200), Some(200)]));
    assert_eq!((decision.desired, &decision.rescale), (Some(2), &None));
    assert_eq!(condition(&decision, "ScalingLimited").1, "TooManyReplicas");
    let minimum = decide(&inputs(spec(2, 9, Value::Null), &[Some(1), Some(1)]));
    assert_eq!(condition(&minimum, "ScalingLimited").1, "TooFewReplicas");
}

#[test]
fn a_recommendation_that_one_window_still_holds_is_not_overwritten() {
    let old = |age| Recommendation {
        replicas: 4,
        at: ago(age),
    };
    let mut log = vec![old(100)];
    stabilize_with_behavior(&mut log, 3, 2, 0, 300, now());
    assert_eq!(log.len(), 2, "100 s is beyond the window upwards only");
    let mut log = vec![old(400)];
    stabilize_with_behavior(&mut log, 3, 2, 0, 300, now());
    assert_eq!(log.len(), 1);
}

#[test]
fn a_condition_keeps_its_transition_time_while_its_status_stays() {
    let mut inputs = inputs(spec(1, 10, Value::Null), &[Some(80), Some(80)]);
    let first = decide(&inputs);
    assert!(first.status_changed);
    inputs.hpa.status = first.status;
    inputs.now += SignedDuration::from_secs(60);
    inputs.state = first.state;
    let second = decide(&inputs);
    assert!(
        !second.status_changed,
        "the same load, the same status: nothing to write"
    );
}
