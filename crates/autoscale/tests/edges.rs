//! Comparisons exactly at their edge: what is remembered, which bound is told, when a pod counts as starting, which of equal
//! metrics wins.

mod support;

use autoscale::hpa::{
    Bounds, MetricReading, Pod, ReadyCondition, Recommendation, Rules, Sample, Samples, ScaleEvent,
    Settings, State, decide, group_pods, limit_with_behavior, remember, stabilize,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::HPAScalingRules;
use serde_json::{Value, json};

use support::{inputs, now, spec};

/// As many moves, and recommendations, are kept at most.
const KEPT_MAX: usize = 4096;

fn ago(milliseconds: i64) -> Timestamp {
    now() - SignedDuration::from_millis(milliseconds)
}

fn rules(period_seconds: i32) -> HPAScalingRules {
    let policy = json!({"type": "Pods", "value": 1, "periodSeconds": period_seconds});
    serde_json::from_value(json!({"policies": [policy]})).expect("rules")
}

fn event(age_milliseconds: i64) -> ScaleEvent {
    ScaleEvent {
        change: 1,
        at: ago(age_milliseconds),
        outdated: false,
    }
}

#[test]
fn a_move_to_the_same_size_is_one_downwards_or_none() {
    let (up, down) = (rules(60), rules(60));
    let ruled: Option<(&Rules, &Rules)> = Some((&up, &down));
    let mut state = State::default();
    remember(&mut state, ruled, 5, 5, &Settings::default(), now());
    assert_eq!((state.scale_ups.len(), state.scale_downs.len()), (0, 1));
    let mut state = State::default();
    remember(&mut state, None, 5, 5, &Settings::default(), now());
    assert_eq!(state, State::default());
}

#[test]
fn a_move_exactly_as_old_as_the_longest_period_keeps_its_place() {
    let (up, down) = (rules(60), rules(60));
    for (age, kept) in [(59_999, 2), (60_000, 2), (60_001, 1)] {
        let mut state = State {
            scale_ups: vec![event(age)],
            ..State::default()
        };
        let settings = Settings::default();
        remember(&mut state, Some((&up, &down)), 5, 6, &settings, now());
        assert_eq!(state.scale_ups.len(), kept, "{age} ms old");
    }
}

#[test]
fn no_more_moves_are_kept_than_there_is_room_for() {
    let (up, down) = (rules(1800), rules(1800));
    let mut state = State::default();
    for step in 0..=KEPT_MAX as i64 {
        let at = now() + SignedDuration::from_millis(step);
        let settings = Settings::default();
        remember(&mut state, Some((&up, &down)), 5, 6, &settings, at);
        let kept = KEPT_MAX.min(step as usize + 1);
        assert_eq!(state.scale_ups.len(), kept, "step {step}");
    }
    let first = now() + SignedDuration::from_millis(1);
    assert_eq!(state.scale_ups[0].at, first, "the oldest went");
}

#[test]
fn recommendations_are_thinned_out_only_when_there_is_no_room() {
    let past = |age| Recommendation {
        replicas: 1,
        at: ago(age),
    };
    let mut log: Vec<Recommendation> = (1..KEPT_MAX as i64).rev().map(past).collect();
    stabilize(&mut log, 2, 300, now());
    assert_eq!(log.len(), KEPT_MAX, "just room enough");
    stabilize(&mut log, 2, 300, now());
    assert_eq!(log.len(), 2, "the newest of each size");
}

/// What stays as it is is neither growth nor shrinking: a size that is out of bounds already is not brought back here.
#[test]
fn a_size_that_stays_is_not_limited() {
    for (minimum, maximum) in [(1, 3), (7, 9)] {
        let bounds = Bounds {
            minimum,
            maximum,
            current: 5,
            ups: &[],
            downs: &[],
            now: now(),
        };
        let found = limit_with_behavior(5, &bounds, &rules(60), &rules(60));
        let expected = (5, "DesiredWithinRange");
        assert_eq!(
            (found.replicas, found.reason),
            expected,
            "{minimum}..{maximum}"
        );
    }
}

/// A pod that started so long ago, turned ready or not ready so long ago, with a sample of this age and window: is it still
/// starting?
#[test]
fn a_pod_counts_as_starting_to_the_millisecond() {
    let starting = |start: i64, ready: (&str, i64), sample: i64, window_seconds: f64| {
        let pod = Pod {
            name: "p".to_owned(),
            phase: "Running".to_owned(),
            start_time: Some(ago(start)),
            ready: Some(ReadyCondition {
                status: ready.0.to_owned(),
                last_transition: ago(ready.1),
            }),
            ..Pod::default()
        };
        let sample = Sample {
            timestamp: ago(sample),
            window_seconds,
            value_milli: 1,
        };
        let samples: Samples = [("p".to_owned(), sample)].into();
        let groups = group_pods(&[&pod], &samples, "cpu", &Settings::default(), now());
        groups.ready == 0
    };
    // While it initialises (300 s) a sample counts that began when it was ready.
    assert!(starting(299_999, ("True", 10_500), 6_000, 5.0));
    assert!(!starting(299_999, ("True", 10_500), 5_500, 5.0));
    assert!(starting(299_999, ("True", 10_500), 5_501, 5.0));
    assert!(!starting(299_999, ("True", 10_500), 5_000, 5.5));
    assert!(
        starting(299_999, ("True", 10_500), 5_001, 5.5),
        "half a second"
    );
    assert!(starting(299_999, ("False", 200_000), 0, 5.0));
    // It has initialised from the moment on: what was ready once counts, what never was does not.
    assert!(!starting(300_000, ("False", 200_000), 0, 5.0));
    assert!(!starting(300_000, ("True", 1), 0, 5.0));
    assert!(starting(400_000, ("False", 370_001), 0, 5.0));
    assert!(
        !starting(400_000, ("False", 370_000), 0, 5.0),
        "30 s after its start"
    );
    assert!(!starting(400_000, ("True", 370_001), 0, 5.0));
}

/// Two metrics of three pods: which proposal holds, and whose name is told.
#[test]
fn of_equal_proposals_the_first_is_told() {
    let told = |first: i64, second: i64| {
        let mut inputs = inputs(spec(1, 100, Value::Null), &[Some(10); 3]);
        let metric = |name: &str| json!({"type": "External", "external": {"metric": {"name": name}, "target": {"type": "AverageValue", "averageValue": "1"}}});
        let metrics = json!([metric("first"), metric("second")]);
        inputs.hpa.spec.metrics = serde_json::from_value(metrics).expect("metrics");
        inputs.metrics = [first, second]
            .map(|value| MetricReading::External {
                values_milli: vec![value * 1000],
            })
            .into();
        let decision = decide(&inputs);
        let conditions = decision.status.conditions.unwrap_or_default();
        let active = conditions.iter().find(|c| c.type_ == "ScalingActive");
        let message = active.and_then(|c| c.message.clone()).unwrap_or_default();
        let first_is_told = message.contains("first");
        assert_ne!(first_is_told, message.contains("second"), "{message}");
        (decision.desired, first_is_told)
    };
    assert_eq!(told(5, 5), (Some(5), true));
    assert_eq!(told(5, 6), (Some(6), false));
    assert_eq!(told(6, 5), (Some(6), true));
    assert_eq!(told(4, 3), (Some(4), true));
}

#[test]
fn a_target_is_scaled_to_zero_only_by_going_there() {
    let condition = |from: usize, value: i64, minimum: i32| {
        let mut inputs = inputs(spec(minimum, 100, Value::Null), &vec![Some(10); from]);
        let metric = json!({"type": "External", "external": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "1"}}});
        inputs.hpa.spec.metrics = serde_json::from_value(json!([metric])).expect("a metric");
        inputs.metrics = vec![MetricReading::External {
            values_milli: vec![value * 1000],
        }];
        let decision = decide(&inputs);
        assert!(decision.rescale.is_some(), "{from} {value}");
        let conditions = decision.status.conditions.unwrap_or_default();
        let zero = conditions.into_iter().find(|c| c.type_ == "ScaledToZero");
        zero.map(|c| (c.status, c.reason.unwrap_or_default()))
    };
    let told = |status: &str, reason: &str| Some((status.to_owned(), reason.to_owned()));
    assert_eq!(condition(3, 0, 0), told("True", "ScaledToZero"));
    assert_eq!(condition(3, 2, 0), told("False", "NotScaledToZero"));
    assert_eq!(condition(3, 5, 0), told("False", "NotScaledToZero"));
}
