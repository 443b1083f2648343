//! Properties that hold for every load, size and policy.

mod support;

use autoscale::hpa::{Inputs, MetricReading, Recommendation, Rule, ScaleEvent, State, decide};
use autoscale::record::concluded;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::json;

use support::{inputs, now, spec};

fn behaviors() -> impl Strategy<Value = serde_json::Value> {
    let rules = (
        prop_oneof![Just("Max"), Just("Min"), Just("Disabled")],
        proptest::collection::vec((prop_oneof![Just("Pods"), Just("Percent")], 1i32..200, 1i32..1800), 1..4),
        0i32..3600,
    )
        .prop_map(|(select, policies, window)| {
            let policies: Vec<_> = policies
                .into_iter()
                .map(|(kind, value, period)| json!({"type": kind, "value": value, "periodSeconds": period}))
                .collect();
            json!({"selectPolicy": select, "policies": policies, "stabilizationWindowSeconds": window})
        });
    prop_oneof![
        Just(serde_json::Value::Null),
        Just(json!({})),
        (rules.clone(), rules).prop_map(|(up, down)| json!({"scaleUp": up, "scaleDown": down})),
    ]
}

fn loads() -> impl Strategy<Value = Vec<Option<i64>>> {
    proptest::collection::vec(
        proptest::option::weighted(0.8, prop_oneof![0i64..400, any::<i64>()]),
        1..30,
    )
}

fn past() -> impl Strategy<Value = Vec<ScaleEvent>> {
    proptest::collection::vec((1i32..50, 0i64..2000), 0..6).prop_map(|events| {
        events
            .into_iter()
            .map(|(change, age)| ScaleEvent {
                change,
                at: now() - SignedDuration::from_secs(age),
                outdated: false,
            })
            .collect()
    })
}

/// What changed within a period before `now`, counted independently of the implementation.
fn within(events: &[ScaleEvent], period: i64, now: Timestamp) -> i64 {
    let young =
        |event: &&ScaleEvent| now.duration_since(event.at) < SignedDuration::from_secs(period);
    let young = events.iter().filter(young);
    young.map(|event| i64::from(event.change)).sum()
}

/// The most that each policy allows, counted independently of the implementation.
fn highest_allowed(
    current: i32,
    ups: &[ScaleEvent],
    downs: &[ScaleEvent],
    rules: &serde_json::Value,
    now: Timestamp,
) -> i64 {
    if rules["selectPolicy"] == "Disabled" {
        return i64::from(current);
    }
    let each = rules["policies"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|policy| {
            let (value, period) = (
                policy["value"].as_i64().unwrap_or(0),
                policy["periodSeconds"].as_i64().unwrap_or(0),
            );
            let start = i64::from(current) - within(ups, period, now) + within(downs, period, now);
            if policy["type"] == "Pods" {
                start + value
            } else {
                (start as f64 * (1.0 + value as f64 / 100.0)).ceil() as i64
            }
        });
    let limit = if rules["selectPolicy"] == "Min" {
        each.min()
    } else {
        each.max()
    };
    limit.unwrap_or(i64::MAX).max(i64::from(current))
}

/// The least that the policies allow, counted likewise.
fn lowest_allowed(
    current: i32,
    ups: &[ScaleEvent],
    downs: &[ScaleEvent],
    rules: &serde_json::Value,
    now: Timestamp,
) -> i64 {
    if rules["selectPolicy"] == "Disabled" {
        return i64::from(current);
    }
    let policies = rules["policies"].as_array().into_iter().flatten();
    let each = policies.map(|policy| {
        let number = |key: &str| policy[key].as_i64().unwrap_or(0);
        let (value, period) = (number("value"), number("periodSeconds"));
        let start = i64::from(current) - within(ups, period, now) + within(downs, period, now);
        if policy["type"] == "Pods" {
            start - value
        } else {
            (start as f64 * (1.0 - value as f64 / 100.0)) as i64
        }
    });
    let limit = if rules["selectPolicy"] == "Min" {
        each.max()
    } else {
        each.min()
    };
    limit.unwrap_or(i64::MIN).min(i64::from(current))
}

/// One value, for metrics that come without pods.
fn outside(kind: &str, target: serde_json::Value) -> serde_json::Value {
    match kind {
        "Object" => {
            json!({"type": "Object", "object": {"metric": {"name": "hits"}, "target": target,
            "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "web"}}})
        }
        _ => {
            json!({"type": "External", "external": {"metric": {"name": "queue"}, "target": target}})
        }
    }
}

fn outside_reading(kind: &str, value_milli: i64) -> MetricReading {
    match kind {
        "Object" => MetricReading::Object { value_milli },
        _ => MetricReading::External {
            values_milli: vec![value_milli],
        },
    }
}

fn targets() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        (1i64..1000).prop_map(|value| json!({"type": "Value", "value": value.to_string()})),
        (1i64..1000)
            .prop_map(|value| json!({"type": "AverageValue", "averageValue": value.to_string()})),
    ]
}

proptest! {
    #[test]
    fn a_set_size_is_within_the_bounds(
        usage in loads(), minimum in 1i32..10, more in 0i32..30, behavior in behaviors(), ups in past(), downs in past(),
    ) {
        let maximum = minimum + more;
        let mut inputs = inputs(spec(minimum, maximum, behavior), &usage);
        inputs.state.scale_ups = ups.clone();
        inputs.state.scale_downs = downs;
        inputs.state.default_scale_ups = ups;
        let decision = decide(&inputs);
        if let Some(rescale) = &decision.rescale {
            let current = rescale.from;
            // A size outside the bounds may be on its way back, no faster than allowed, but never further out.
            prop_assert!(rescale.to >= minimum.min(current), "{} below {minimum}", rescale.to);
            prop_assert!(rescale.to <= maximum.max(current), "{} above {maximum}", rescale.to);
            if (minimum..=maximum).contains(&current) {
                prop_assert!((minimum..=maximum).contains(&rescale.to));
            }
        }
        prop_assert_eq!(decision.desired.is_none(), decision.error.is_some() && decision.rescale.is_none());
    }

    #[test]
    fn growth_never_exceeds_the_policies(usage in loads(), behavior in behaviors(), ups in past(), downs in past()) {
        prop_assume!(behavior.get("scaleUp").is_some());
        let mut inputs = inputs(spec(1, 1000, behavior.clone()), &usage);
        inputs.state.scale_ups = ups.clone();
        inputs.state.scale_downs = downs.clone();
        if let Some(rescale) = decide(&inputs).rescale.filter(|rescale| rescale.to > rescale.from) {
            let allowed = highest_allowed(rescale.from, &ups, &downs, &behavior["scaleUp"], now());
            prop_assert!(i64::from(rescale.to) <= allowed, "{} exceeds {allowed}", rescale.to);
        }
    }

    #[test]
    fn shrinking_never_exceeds_the_policies(usage in proptest::collection::vec(0i64..60, 2..40), behavior in behaviors(), ups in past(), downs in past()) {
        prop_assume!(behavior.get("scaleDown").is_some());
        let usage: Vec<Option<i64>> = usage.into_iter().map(Some).collect();
        let mut inputs = inputs(spec(1, 1000, behavior.clone()), &usage);
        inputs.state.scale_ups = ups.clone();
        inputs.state.scale_downs = downs.clone();
        if let Some(rescale) = decide(&inputs).rescale.filter(|rescale| rescale.to < rescale.from) {
            let allowed = lowest_allowed(rescale.from, &ups, &downs, &behavior["scaleDown"], now());
            prop_assert!(i64::from(rescale.to) >= allowed, "{} exceeds {allowed}", rescale.to);
        }
    }

    /// A whole run with load that jumps, its history counted beside it: in no window is more changed than allowed.
    #[test]
    fn over_time_no_window_holds_more_than_its_policies(
        behavior in behaviors(), loads in proptest::collection::vec(0i64..5000, 20..60), step_seconds in 1i64..40,
    ) {
        prop_assume!(behavior.get("scaleUp").is_some());
        let (mut state, mut replicas) = (State::default(), 5i32);
        let (mut ups, mut downs): (Vec<ScaleEvent>, Vec<ScaleEvent>) = (Vec::new(), Vec::new());
        for (index, load) in (0i64..).zip(loads) {
            let at = now() + SignedDuration::from_secs(index * step_seconds);
            let count = usize::try_from(replicas).unwrap_or(1);
            let mut inputs = inputs(spec(1, 60, behavior.clone()), &vec![Some(load / i64::from(replicas)); count]);
            inputs.now = at;
            inputs.state = state;
            let decision = decide(&inputs);
            state = decision.state;
            let Some(rescale) = decision.rescale else { continue };
            prop_assert!((1..=60).contains(&rescale.to));
            let change = rescale.to - rescale.from;
            let event = ScaleEvent { change: change.abs(), at, outdated: false };
            if change > 0 {
                let allowed = highest_allowed(rescale.from, &ups, &downs, &behavior["scaleUp"], at);
                prop_assert!(i64::from(rescale.to) <= allowed, "{} exceeds {allowed} after {index} steps", rescale.to);
                ups.push(event);
            } else {
                let allowed = lowest_allowed(rescale.from, &ups, &downs, &behavior["scaleDown"], at);
                prop_assert!(i64::from(rescale.to) >= allowed, "{} exceeds {allowed} after {index} steps", rescale.to);
                downs.push(event);
            }
            replicas = rescale.to;
        }
    }

    #[test]
    fn values_from_outside_keep_the_bounds_and_never_turn_round(
        kind in prop_oneof![Just("Object"), Just("External")], target in targets(),
        less in 0i64..1_000_000_000, more in prop_oneof![0i64..1_000_000, any::<u32>().prop_map(i64::from), Just(i64::MAX)],
        minimum in 0i32..5, size in 1usize..20,
    ) {
        let maximum = 30;
        let size_for = |value_milli: i64| {
            let mut inputs = inputs(spec(minimum, maximum, serde_json::Value::Null), &vec![Some(10); size]);
            inputs.hpa.spec.metrics = serde_json::from_value(json!([outside(kind, target.clone())])).expect("a metric");
            inputs.metrics = vec![outside_reading(kind, value_milli)];
            decide(&inputs).desired.expect("a size")
        };
        let (low, high) = (size_for(less), size_for(less.saturating_add(more)));
        let current = i32::try_from(size).unwrap_or(1);
        for size in [low, high] {
            prop_assert!(size >= minimum.min(current) && size <= maximum);
        }
        prop_assert!(high >= low, "{high} for more, {low} for less");
    }

    /// Several metrics: the highest proposal counts, so one more metric never gives fewer.
    #[test]
    fn one_more_metric_never_gives_fewer_replicas(
        usage in proptest::collection::vec(0i64..400, 1..20), kind in prop_oneof![Just("Object"), Just("External")],
        target in targets(), value in 0i64..100_000_000,
    ) {
        let usage: Vec<Option<i64>> = usage.into_iter().map(Some).collect();
        let alone = inputs(spec(1, 100, serde_json::Value::Null), &usage);
        let mut both = alone.clone();
        let metric = serde_json::from_value(outside(kind, target)).expect("a metric");
        both.hpa.spec.metrics.get_or_insert_default().push(metric);
        both.metrics = vec![MetricReading::NotRead, outside_reading(kind, value)];
        prop_assert!(decide(&both).desired >= decide(&alone).desired);
    }

    /// What is kept of the state decides the same.
    #[test]
    fn a_reduced_state_gives_the_same_decision(
        usage in loads(), behavior in behaviors(), ups in past(), downs in past(),
        recommendations in proptest::option::of(proptest::collection::vec((0i32..12, 0i64..4000), 0..60)),
    ) {
        let mut whole = inputs(spec(1, 12, behavior), &usage);
        whole.state = State {
            recommendations: recommendations.map(|all| all.into_iter().map(|(replicas, age)| Recommendation {
                replicas,
                at: now() - SignedDuration::from_secs(age),
            }).collect()),
            scale_ups: ups.clone(),
            scale_downs: downs,
            default_scale_ups: ups,
        };
        let mut reduced = whole.clone();
        reduced.state = whole.state.reduced();
        prop_assert!(reduced.state.recommendations.as_ref().map_or(0, Vec::len) <= 12);
        prop_assert_eq!(concluded(&decide(&reduced)), concluded(&decide(&whole)));
    }

    #[test]
    fn more_load_never_gives_fewer_replicas(
        usage in proptest::collection::vec(0i64..400, 1..20), extra in proptest::collection::vec(0i64..400, 20),
        behavior in behaviors(),
    ) {
        let more: Vec<Option<i64>> = usage.iter().zip(extra).map(|(usage, extra)| Some(usage + extra)).collect();
        let usage: Vec<Option<i64>> = usage.into_iter().map(Some).collect();
        let size = |usage: &[Option<i64>]| decide(&inputs(spec(1, 100, behavior.clone()), usage)).desired;
        prop_assert!(size(&more) >= size(&usage));
    }

    #[test]
    fn the_default_limit_holds_per_wall_clock_period_however_often_is_decided(step_ms in 100i64..15_000) {
        // Pods whose load always asks for more, decided upon every `step_ms` for a minute.
        let mut state = State::default();
        let mut replicas = 1usize;
        let mut at = now();
        let mut sizes: Vec<(Timestamp, usize)> = vec![(at, replicas)];
        while at < now() + SignedDuration::from_secs(60) {
            let mut inputs = inputs(spec(1, 500, serde_json::Value::Null), &vec![Some(1000); replicas]);
            inputs.now = at;
            inputs.state = state;
            let decision = decide(&inputs);
            state = decision.state;
            replicas = decision.desired.and_then(|size| usize::try_from(size).ok()).unwrap_or(replicas);
            sizes.push((at, replicas));
            at += SignedDuration::from_millis(step_ms);
        }
        for (early, before) in &sizes {
            for (late, after) in sizes.iter().filter(|(late, _)| late > early) {
                if late.duration_since(*early) < SignedDuration::from_secs(15) {
                    prop_assert!(*after <= (2 * before).max(4), "{before} grew to {after} within 15 s");
                }
            }
        }
        prop_assert!(replicas > 4, "it grows at all");
    }

    #[test]
    fn inputs_and_decisions_survive_serialisation(usage in loads(), behavior in behaviors()) {
        let inputs = inputs(spec(1, 10, behavior), &usage);
        let text = serde_json::to_string(&inputs).expect("inputs are data");
        let read: Inputs = serde_json::from_str(&text).expect("inputs are read back");
        let write = |decision| serde_json::to_value(&decision).expect("decisions are data");
        prop_assert_eq!(write(decide(&read)), write(decide(&inputs)));
        for sentence in decide(&inputs).sentences() {
            prop_assert!(!sentence.is_empty());
        }
    }
}

#[test]
fn a_rule_that_changes_the_number_is_told() {
    let inputs = inputs(
        spec(1, 10, serde_json::Value::Null),
        &[Some(300), Some(300)],
    );
    let decision = decide(&inputs);
    assert_eq!(decision.desired, Some(4));
    let rules: Vec<&Rule> = decision.steps.iter().map(|step| &step.rule).collect();
    assert_eq!(rules.len(), 2, "{rules:?}");
    assert_eq!(rules[1], &Rule::ScaleUpLimit { limit: 4, from: 2 });
    assert_eq!(
        decision.summary(),
        "cpu resource utilization (percentage of request): 300 % of requests (600m of 200m) against 80 % = ratio 3.75, \
         ⌈3.75 × 2⌉ = 8; growth from 2 is limited to 4 for now: 4 instead of 8"
    );
    let event = &decision.events[0];
    assert_eq!(event.reason, "SuccessfulRescale");
    assert_eq!(
        event.message,
        "New size: 4; reason: cpu resource utilization (percentage of request) above target"
    );
}
