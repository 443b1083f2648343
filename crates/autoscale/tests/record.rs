//! Kept decisions: what they hold, what makes one differ, and that they come out the same again.

mod support;

use autoscale::hpa::{Reading, Recommendation, State, decide, decide_after_failed_write};
use autoscale::record::{Followed, Phase, PodTimes, Record, gist, milliseconds_since, seconds};
use autoscale::replay::evaluate;
use autoscale::{Decision, Inputs};
use jiff::SignedDuration;
use serde_json::{Value, json};

use support::{inputs, now, spec};

fn object(inputs: &Inputs, decision: &Decision) -> Value {
    let record = Record::new(inputs, decision, usize::MAX);
    // Through text, as the API has it.
    let text = json!({"kind": "ScalingDecision", "metadata": {"name": "web-1", "namespace": "default"}, "spec": record});
    serde_json::from_str(&text.to_string()).expect("JSON")
}

fn grown() -> (Inputs, Decision) {
    let mut inputs = inputs(spec(1, 10, Value::Null), &[Some(300), Some(300)]);
    inputs.state.recommendations = Some(vec![
        Recommendation {
            replicas: 2,
            at: now() - SignedDuration::from_secs(9),
        },
        Recommendation {
            replicas: 3,
            at: now() - SignedDuration::from_secs(5),
        },
        Recommendation {
            replicas: 2,
            at: now() - SignedDuration::from_secs(1),
        },
    ]);
    let decision = decide(&inputs);
    (inputs, decision)
}

#[test]
fn a_record_tells_everything_and_comes_out_the_same() {
    let (inputs, decision) = grown();
    let record = Record::new(&inputs, &decision, usize::MAX);
    assert_eq!((record.from, record.to), (Some(2), Some(4)));
    assert_eq!(
        (record.autoscaler.as_str(), record.target.as_str()),
        ("web", "Deployment/web")
    );
    assert_eq!(
        record.reason,
        "cpu resource utilization (percentage of request) above target"
    );
    assert_eq!(record.metrics.len(), 1);
    assert_eq!(
        record.rules[1],
        "growth from 2 is limited to 4 for now: 4 instead of 8"
    );
    assert_eq!(record.message, decision.summary());
    assert!(record.is_rescale() && record.error.is_none());
    let kept = record.decision.as_ref().expect("the decision");
    assert!(
        kept.get("state").is_none(),
        "what is remembered is not kept twice"
    );
    let result = evaluate(&object(&inputs, &decision), now());
    assert_eq!(
        (result.passed, result.name.as_str(), result.table.as_str()),
        (true, "default/web-1", "recorded")
    );
    assert_eq!(result.decided.expect("decided").to, Some(4));
}

#[test]
fn a_failed_write_comes_out_the_same_too() {
    let (inputs, _) = grown();
    let failed = decide_after_failed_write(&inputs, "the disk is full");
    let result = evaluate(&object(&inputs, &failed), now());
    assert!(result.passed, "{:?}", result.differences);
}

#[test]
fn every_part_that_is_changed_is_told() {
    let (inputs, decision) = grown();
    let changes: [(&str, Value, &str); 7] = [
        (
            "/spec/to",
            json!(5),
            "spec.to: expected Some(5), got Some(4)",
        ),
        (
            "/spec/from",
            json!(1),
            "spec.from: expected Some(1), got Some(2)",
        ),
        (
            "/spec/decision/desired",
            json!(5),
            "spec.decision.desired: expected 5, got 4",
        ),
        (
            "/spec/decision/steps/1/after",
            json!(3),
            "spec.decision.steps[1].after: expected 3, got 4",
        ),
        (
            "/spec/decision/metrics/0/result/proposal/arithmetic/usageMilli",
            json!(1),
            "spec.decision.metrics[0].result.proposal.arithmetic.usageMilli: expected 1, got 600",
        ),
        (
            "/spec/decision/events/0/message",
            json!("x"),
            "spec.decision.events[0].message: expected \"x\"",
        ),
        (
            "/spec/decision/status/conditions/0/reason",
            json!("x"),
            "spec.decision.status.conditions[0].reason: expected \"x\"",
        ),
    ];
    for (path, value, expected) in changes {
        let mut object = object(&inputs, &decision);
        *object.pointer_mut(path).expect(path) = value;
        let result = evaluate(&object, now());
        assert!(
            !result.passed && result.differences[0].starts_with(expected),
            "{path}: {:?}",
            result.differences
        );
    }
    let mut unknown = object(&inputs, &decision);
    unknown["spec"]["inputs"]["moon"] = json!("full");
    let result = evaluate(&unknown, now());
    assert_eq!(
        result.differences,
        ["cannot be evaluated: unknown field spec.inputs.moon"]
    );
}

#[test]
fn inputs_that_are_too_large_are_left_out() {
    let (inputs, decision) = grown();
    let whole = Record::new(&inputs, &decision, usize::MAX)
        .inputs
        .expect("kept");
    let bytes = whole.to_string().len();
    assert!(Record::new(&inputs, &decision, bytes).inputs.is_some());
    let record = Record::new(&inputs, &decision, bytes - 1);
    assert!(record.inputs.is_none() && record.metrics.len() == 1);
    let result = evaluate(&json!({"kind": "ScalingDecision", "spec": record}), now());
    assert_eq!(
        result.differences,
        ["cannot be evaluated: its inputs were not kept (they were too large)"]
    );
}

#[test]
fn the_reason_is_what_a_person_looks_for() {
    let table: [(&[Option<i64>], i32, i32, &str); 5] = [
        (&[Some(80)], 1, 10, "DesiredWithinRange"),
        (&[Some(1), Some(1)], 2, 10, "TooFewReplicas"),
        (&[Some(800), Some(800)], 1, 2, "TooManyReplicas"),
        (&[Some(1), Some(1), Some(1)], 1, 10, "ScaleDownStabilized"),
        (&[None], 1, 10, "FailedGetResourceMetric"),
    ];
    for (usage, minimum, maximum, reason) in table {
        let mut inputs = inputs(spec(minimum, maximum, Value::Null), usage);
        if reason == "ScaleDownStabilized" {
            let recent = Recommendation {
                replicas: 3,
                at: now(),
            };
            inputs.state.recommendations = Some(vec![recent]);
        }
        let record = Record::new(&inputs, &decide(&inputs), usize::MAX);
        assert_eq!(record.reason, reason, "{usage:?}");
        assert!(!record.is_rescale());
    }
    let mut unread = inputs(spec(1, 10, Value::Null), &[Some(80)]);
    unread.scale = Err(autoscale::Failure::new("gone"));
    let record = Record::new(&unread, &decide(&unread), usize::MAX);
    assert_eq!(
        (record.from, record.to, record.reason.as_str()),
        (None, None, "FailedGetScale")
    );
    assert_eq!(
        record.error.as_deref(),
        Some("failed to query scale subresource for Deployment/default/web: gone")
    );
}

#[test]
fn measured_values_alone_are_no_news() {
    let of = |usage: &[Option<i64>], maximum: i32| {
        gist(&decide(&inputs(spec(1, maximum, Value::Null), usage)))
    };
    assert_eq!(of(&[Some(80)], 10), of(&[Some(82)], 10));
    assert_ne!(of(&[Some(80)], 10), of(&[None], 10), "a metric that fails");
    assert_ne!(of(&[Some(80)], 10), of(&[Some(800)], 1), "a limit");
    let failing = |text: &str| {
        let mut inputs = inputs(spec(1, 10, Value::Null), &[Some(80)]);
        inputs.pod_usage = Reading::Failed(text.to_owned());
        gist(&decide(&inputs))
    };
    assert_eq!(
        failing("timed out after 5 ms"),
        failing("timed out after 7 ms"),
        "numbers do not count"
    );
    assert_ne!(failing("timed out"), failing("refused"));
    assert!(failing(&"x".repeat(100_000)).len() < 10_000);
    // A change that fits is followed by the same conditions.
    let (inputs, decision) = grown();
    let mut after = inputs;
    after.scale = Ok(autoscale::Scale {
        spec_replicas: 4,
        status_replicas: 4,
        selector: "app=web".to_owned(),
    });
    after.hpa.status = decision.status.clone();
    assert!(
        gist(&decision).contains("AbleToScale=True:ReadyForNewScale"),
        "{}",
        gist(&decision)
    );
}

#[test]
fn a_reduced_state_keeps_the_newest_of_each() {
    let at = |age| now() - SignedDuration::from_secs(age);
    let one = |replicas, age| Recommendation {
        replicas,
        at: at(age),
    };
    let state = State {
        recommendations: Some(vec![
            one(3, 10),
            one(5, 9),
            one(3, 8),
            one(5, 20),
            one(3, 12),
        ]),
        ..State::default()
    };
    assert_eq!(
        state.reduced().recommendations,
        Some(vec![one(3, 8), one(5, 9)])
    );
    assert_eq!(
        State::default().reduced(),
        State::default(),
        "nothing stays nothing"
    );
}

#[test]
fn totals_are_those_of_the_slowest_pod_and_only_when_all_came_so_far() {
    let (inputs, decision) = grown();
    let mut followed = Followed::begin(&Record::new(&inputs, &decision, 0));
    assert_eq!((followed.wanted_pods, followed.phase), (2, Phase::Waiting));
    assert_eq!(
        followed.sentence().as_deref(),
        Some("0 of 2 new pods ready so far")
    );
    let pod = |name: &str, times: [Option<i64>; 4]| PodTimes {
        name: name.to_owned(),
        created_ms: times[0],
        scheduled_ms: times[1],
        started_ms: times[2],
        ready_ms: times[3],
    };
    followed.pods = vec![pod("a", [Some(1), Some(2), Some(300), Some(12_345)])];
    followed.summarize();
    assert_eq!(
        (
            followed.scheduled_ms,
            followed.ready_ms,
            followed.ready_pods
        ),
        (None, None, 1)
    );
    assert_eq!(followed.phase, Phase::Waiting, "the other one is missing");
    followed.message = "0/1 nodes are available: 1 Insufficient cpu.".to_owned();
    followed.pods.push(pod("b", [Some(1), Some(5), None, None]));
    followed.summarize();
    assert_eq!(
        (
            followed.scheduled_ms,
            followed.started_ms,
            followed.ready_ms
        ),
        (Some(5), None, None)
    );
    assert_eq!(
        followed.sentence().as_deref(),
        Some(
            "1 of 2 new pods ready so far (scheduled after 0.01 s): 0/1 nodes are available: 1 Insufficient cpu."
        )
    );
    followed.pods[1] = pod("b", [Some(1), Some(5), Some(70_000), Some(70_400)]);
    followed.summarize();
    assert_eq!(
        (
            followed.phase,
            followed.ready_pods,
            followed.message.as_str()
        ),
        (Phase::Complete, 2, "")
    );
    assert_eq!(
        followed.sentence().as_deref(),
        Some(
            "2 new pods, the slowest scheduled after 0.01 s, started after 70 s, ready after 70 s"
        )
    );
    let none = Followed::default();
    assert_eq!(none.sentence(), None);
    let mut shrunk = Record::new(&inputs, &decision, 0);
    (shrunk.from, shrunk.to) = (Some(4), Some(2));
    assert_eq!(
        Followed::begin(&shrunk).phase,
        Phase::Complete,
        "nobody is waited for"
    );
    (shrunk.from, shrunk.to) = (Some(4), Some(5));
    let mut one = Followed::begin(&shrunk);
    one.pods = vec![pod("a", [Some(1), Some(2), Some(300), Some(12_345)])];
    one.summarize();
    assert_eq!(
        one.sentence().as_deref(),
        Some("1 new pod, scheduled after 0.00 s, started after 0.30 s, ready after 12.3 s")
    );
    one.phase = Phase::Ended;
    assert!(
        one.sentence()
            .expect("told")
            .starts_with("1 of 1 new pod ready when no longer waited for")
    );
}

#[test]
fn times_are_readable_and_never_negative() {
    for (milliseconds, text) in [
        (0, "0.00 s"),
        (9_999, "10.00 s"),
        (10_000, "10.0 s"),
        (59_949, "59.9 s"),
        (60_000, "60 s"),
        (600_400, "600 s"),
    ] {
        assert_eq!(seconds(milliseconds), text);
    }
    assert_eq!(
        milliseconds_since(now(), now() + SignedDuration::from_millis(1234)),
        1234
    );
    assert_eq!(
        milliseconds_since(now(), now() - SignedDuration::from_secs(5)),
        0
    );
}
