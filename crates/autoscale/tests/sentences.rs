//! The numbers of a decision in sentences.

mod support;

use autoscale::hpa::{Inputs, MetricReading, PodValue, decide, validate_autoscaler};
use serde_json::{Value, json};

use support::{inputs, now, spec};

fn with(metric: Value, reading: MetricReading) -> Inputs {
    let mut inputs = inputs(spec(1, 100, Value::Null), &[Some(50); 3]);
    inputs.hpa.spec.metrics = serde_json::from_value(json!([metric])).expect("a metric");
    inputs.metrics = vec![reading];
    inputs
}

#[test]
fn each_metric_is_told_with_its_arithmetic() {
    let mut starting = inputs(spec(1, 100, Value::Null), &[Some(50), None, Some(50)]);
    starting.pods[2].phase = "Pending".to_owned();
    let mut ending = inputs(spec(1, 100, Value::Null), &[Some(60), Some(60), Some(60)]);
    ending.pods[2].deleted = true;
    let values = (0..3).map(|at| PodValue {
        pod: format!("web-{at}"),
        timestamp: now(),
        window_seconds: 5.0,
        value_milli: 1500,
    });
    let busy = json!({"type": "Pods", "pods": {"metric": {"name": "busy"}, "target": {"type": "AverageValue", "averageValue": "1"}}});
    let queue = json!({"type": "External", "external": {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "5"}}});
    let external = MetricReading::External {
        values_milli: vec![6000],
    };
    for (inputs, expected) in [
        (
            starting,
            "cpu resource utilization (percentage of request): 50 % of requests (50m of 100m) against 80 % = ratio 0.62 over 1 pods (1 not ready, 1 without a sample), counting pods without a sample as 100 % = ratio 0.94, within the tolerance of 0.90 to 1.10: stay at 3",
        ),
        (
            ending,
            "cpu resource utilization (percentage of request): 60 % of requests (120m of 200m) against 80 % = ratio 0.75 over 2 pods (1 ending), ⌈0.75 × 2⌉ = 2",
        ),
        (
            with(busy, MetricReading::Pods(values.collect())),
            "pods metric busy: average 1500m per pod against 1 = ratio 1.50, ⌈1.50 × 3⌉ = 5",
        ),
        (
            with(queue, external),
            "external metric queue(nil): 6 against 5 = ratio 1.20, ⌈1.20 × 3⌉ = 4",
        ),
    ] {
        let decision = decide(&inputs);
        let sentences = decision.sentences();
        assert_eq!(sentences[0], expected);
        assert_eq!(
            sentences.len(),
            decision.metrics.len() + decision.steps.len()
        );
    }
}

#[test]
fn what_went_wrong_comes_last() {
    let queue = json!({"type": "External", "external": {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "5"}}});
    let decision = decide(&with(queue, MetricReading::Failed("it is away".to_owned())));
    let sentences = decision.sentences();
    assert_eq!(sentences.last(), decision.error.as_ref());
    assert!(
        sentences[0].starts_with("external metric queue(nil) could not be used: "),
        "{sentences:?}"
    );
}

#[test]
fn a_containers_name_is_a_label_of_at_most_63_bytes() {
    let refused = |name: &str| {
        let mut spec = spec(1, 100, Value::Null);
        let metric = json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": name,
            "target": {"type": "Utilization", "averageUtilization": 80}}});
        spec.metrics = serde_json::from_value(json!([metric])).expect("a metric");
        let found = validate_autoscaler(&spec, 1);
        let texts = found.iter().map(ToString::to_string);
        texts
            .map(|text| match text {
                text if text.contains("must be no more than 63 bytes") => "long",
                text if text.contains("a lowercase RFC 1123 label must consist") => "label",
                _ => "other",
            })
            .collect::<Vec<_>>()
    };
    let (just, over) = ("a".repeat(63), "a".repeat(64));
    for fine in ["a", "0", "a-b", "web-1", just.as_str()] {
        assert!(refused(fine).is_empty(), "{fine} {:?}", refused(fine));
    }
    assert_eq!(refused(&over), ["long"]);
    for wrong in ["-a", "a-", "A", "a_b", "aBc", "a.b"] {
        assert_eq!(refused(wrong), ["label"], "{wrong}");
    }
}
