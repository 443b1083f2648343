//! Which verdict a size gets: a target at zero that wakes or sleeps on, a minimum that a policy does not reach, and in whose words a
//! size is held.

mod support;

use autoscale::hpa::{Decision, MetricReading, Recommendation, Rule, Scale, Step, decide};
use jiff::SignedDuration;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use support::{inputs, now, spec};

/// An External metric that proposes so many pods.
fn queue() -> Value {
    json!({"type": "External", "external": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "1"}}})
}

/// A target that was scaled to zero, with this specification's bounds; a queue of this length is its metric, or else CPU.
fn asleep(minimum: i32, behavior: Value, queued: Option<i64>) -> Decision {
    let mut inputs = inputs(spec(minimum, 10, behavior), &[]);
    inputs.scale = Ok(Scale {
        spec_replicas: 0,
        status_replicas: 0,
        selector: "app=web".to_owned(),
    });
    inputs.settings.scale_to_zero = true;
    inputs.hpa.status.conditions = Some(vec![HorizontalPodAutoscalerCondition {
        type_: "ScaledToZero".to_owned(),
        status: "True".to_owned(),
        last_transition_time: Some(Time(now())),
        ..Default::default()
    }]);
    if let Some(queued) = queued {
        inputs.hpa.spec.metrics = serde_json::from_value(json!([queue()])).expect("a metric");
        inputs.metrics = vec![MetricReading::External {
            values_milli: vec![queued * 1000],
        }];
    }
    decide(&inputs)
}

fn reason(decision: &Decision, condition: &str) -> String {
    let conditions = decision.status.conditions.iter().flatten();
    let found = conditions
        .filter(|c| c.type_ == condition)
        .filter_map(|c| c.reason.clone());
    found.collect()
}

fn rescale(decision: &Decision) -> Option<(i32, &str)> {
    let rescale = decision.rescale.as_ref()?;
    Some((rescale.to, rescale.reason.as_str()))
}

/// What was done to the number that the metrics proposed.
fn after_proposal(decision: Decision) -> Vec<Step> {
    let mut steps = decision.steps;
    steps.retain(|step| !matches!(step.rule, Rule::HighestProposal { .. }));
    steps
}

/// One pod a minute at most.
fn slowly() -> Value {
    let policy = json!({"type": "Pods", "value": 1, "periodSeconds": 60});
    json!({"scaleUp": {"stabilizationWindowSeconds": 0, "policies": [policy]}})
}

#[test]
fn what_may_be_zero_and_hears_nothing_from_outside_sleeps_on() {
    let decision = asleep(0, Value::Null, None);
    assert_eq!(reason(&decision, "ScalingActive"), "ScalingDisabled");
    assert_eq!(rescale(&decision), None);
    // It may no longer be zero: its metrics are asked, though they know nothing of no pods.
    let decision = asleep(1, Value::Null, None);
    assert_eq!(
        reason(&decision, "ScalingActive"),
        "FailedGetResourceMetric"
    );
}

#[test]
fn a_target_wakes_to_its_minimum_whatever_the_policy_allows() {
    let decision = asleep(2, slowly(), Some(5));
    assert_eq!(
        rescale(&decision),
        Some((2, "external metric queue(nil) above target"))
    );
    let last = decision.steps.last().expect("a step");
    let minimum = Step {
        before: 1,
        after: 2,
        rule: Rule::Minimum { minimum: 2 },
    };
    assert_eq!(last, &minimum);
    let nothing = asleep(2, slowly(), Some(0));
    let words = "Current number of replicas below Spec.MinReplicas";
    assert_eq!(rescale(&nothing), Some((2, words)));
}

#[test]
fn the_minimum_changes_nothing_of_a_size_that_reaches_it() {
    let decision = asleep(2, Value::Null, Some(2));
    assert_eq!(
        rescale(&decision),
        Some((2, "external metric queue(nil) above target"))
    );
    assert_eq!(after_proposal(decision), []);
}

#[test]
fn what_holds_a_size_is_told_by_its_direction() {
    // Up windows hold the lowest of 60 s, down windows the highest of 300 s.
    let behavior = json!({"scaleUp": {"stabilizationWindowSeconds": 60}, "scaleDown": {"stabilizationWindowSeconds": 300}});
    let held = |usage: i64, remembered: i32| {
        let mut inputs = inputs(spec(1, 10, behavior.clone()), &[Some(usage); 4]);
        inputs.state.recommendations = Some(vec![Recommendation {
            replicas: remembered,
            at: now() - SignedDuration::from_secs(10),
        }]);
        let decision = decide(&inputs);
        assert_eq!(rescale(&decision), None);
        (reason(&decision, "AbleToScale"), after_proposal(decision))
    };
    let step = |before, down, window_seconds| {
        vec![Step {
            before,
            after: 4,
            rule: Rule::Stabilized {
                down,
                window_seconds,
            },
        }]
    };
    assert_eq!(
        held(160, 4),
        ("ScaleUpStabilized".to_owned(), step(8, false, 60))
    );
    assert_eq!(
        held(40, 4),
        ("ScaleDownStabilized".to_owned(), step(2, true, 300))
    );
    assert_eq!(held(80, 4), ("ReadyForNewScale".to_owned(), vec![]));
}
