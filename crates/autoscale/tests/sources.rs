//! Each source of a metric: its status when it could be read, its words when not.

mod support;

use autoscale::hpa::{EventType, Inputs, MetricReading, PodUsage, PodValue, Reading, decide};
use k8s_openapi::api::autoscaling::v2::MetricStatus;
use serde_json::{Value, json};

use support::{inputs, now, spec};

/// Three pods at 50 % of what they request, with one metric.
fn with(metric: Value, reading: Option<MetricReading>) -> Inputs {
    let mut inputs = inputs(spec(1, 100, Value::Null), &[Some(50); 3]);
    inputs.hpa.spec.metrics = serde_json::from_value(json!([metric])).expect("a metric");
    inputs.metrics = reading.into_iter().collect();
    inputs
}

fn of_pods(values: &[i64]) -> MetricReading {
    let values = values.iter().enumerate();
    MetricReading::Pods(
        values
            .map(|(at, value)| PodValue {
                pod: format!("web-{at}"),
                timestamp: now(),
                window_seconds: 5.0,
                value_milli: *value,
            })
            .collect(),
    )
}

fn resource(kind: &str, field: &str, extra: Value, target: Value) -> Value {
    let mut source = json!({"name": "memory", "target": target});
    if let (Some(source), Some(extra)) = (source.as_object_mut(), extra.as_object()) {
        source.extend(extra.clone());
    }
    let mut metric = json!({"type": kind});
    metric[field] = source;
    metric
}

fn object(target: Value) -> Value {
    json!({"type": "Object", "object": {"metric": {"name": "hits"},
        "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "front"}, "target": target}})
}

fn external(target: Value) -> Value {
    json!({"type": "External", "external": {"metric": {"name": "queue"}, "target": target}})
}

fn pods(target: Value) -> Value {
    json!({"type": "Pods", "pods": {"metric": {"name": "busy"}, "target": target}})
}

#[test]
fn the_status_shows_the_metric_and_its_value() {
    let average = |value: &str| json!({"type": "AverageValue", "averageValue": value});
    let value = |value: &str| json!({"type": "Value", "value": value});
    let memory = |container: bool| {
        let mut inputs = inputs(spec(1, 100, Value::Null), &[Some(50); 3]);
        let metric = match container {
            false => resource("Resource", "resource", json!({}), average("1Mi")),
            true => resource(
                "ContainerResource",
                "containerResource",
                json!({"container": "web"}),
                average("1Mi"),
            ),
        };
        inputs.hpa.spec.metrics = serde_json::from_value(json!([metric])).expect("a metric");
        if let Reading::Values(usage) = &mut inputs.pod_usage {
            for pod in usage {
                let usage = &mut pod.containers[0].usage_milli;
                usage.insert("memory".to_owned(), 1_048_576_000);
            }
        }
        inputs
    };
    let metric = json!({"name": "hits"});
    let described = json!({"apiVersion": "v1", "kind": "Service", "name": "front"});
    let read_object = MetricReading::Object { value_milli: 6000 };
    let read_external = MetricReading::External {
        values_milli: vec![2000, 4000],
    };
    for (inputs, expected) in [
        (
            memory(false),
            json!({"type": "Resource", "resource": {"name": "memory", "current": {"averageValue": "1Mi"}}}),
        ),
        (
            memory(true),
            json!({"type": "ContainerResource", "containerResource":
                {"name": "memory", "container": "web", "current": {"averageValue": "1Mi"}}}),
        ),
        (
            with(pods(average("2")), Some(of_pods(&[1500, 1500, 1500]))),
            json!({"type": "Pods", "pods": {"metric": {"name": "busy"}, "current": {"averageValue": "1500m"}}}),
        ),
        (
            with(object(value("5")), Some(read_object.clone())),
            json!({"type": "Object", "object": {"metric": metric, "describedObject": described, "current": {"value": "6"}}}),
        ),
        (
            with(object(average("5")), Some(read_object)),
            json!({"type": "Object", "object": {"metric": metric, "describedObject": described, "current": {"averageValue": "2"}}}),
        ),
        (
            with(external(value("5")), Some(read_external.clone())),
            json!({"type": "External", "external": {"metric": {"name": "queue"}, "current": {"value": "6"}}}),
        ),
        (
            with(external(average("5")), Some(read_external)),
            json!({"type": "External", "external": {"metric": {"name": "queue"}, "current": {"averageValue": "2"}}}),
        ),
    ] {
        let decision = decide(&inputs);
        assert_eq!(decision.error, None, "{expected}");
        let expected: MetricStatus = serde_json::from_value(expected).expect("a status");
        assert_eq!(decision.status.current_metrics, Some(vec![expected]));
    }
}

#[test]
fn what_could_not_be_read_is_told() {
    let average = json!({"type": "AverageValue", "averageValue": "1"});
    let failed = || Some(MetricReading::Failed("it is away".to_owned()));
    let memory = resource("Resource", "resource", json!({}), average.clone());
    let unread = |reading: Reading<Vec<PodUsage>>| {
        let mut inputs = with(memory.clone(), None);
        inputs.pod_usage = reading;
        inputs
    };
    let unable = "failed to get memory usage: unable to get metrics for resource memory: ";
    let unset = |field: &str| {
        format!("{field} is not set in the metric; set it in the autoscaler's spec.metrics")
    };
    let queue = "unable to get external metric default/queue/nil: ";
    let none = "no metrics returned from external metrics API";
    for (inputs, reason, message) in [
        (
            unread(Reading::Values(Vec::new())),
            "FailedGetResourceMetric",
            format!("{unable}no metrics returned from resource metrics API"),
        ),
        (
            unread(Reading::NotRead),
            "FailedGetResourceMetric",
            format!("{unable}no metrics returned from resource metrics API"),
        ),
        (
            unread(Reading::Failed("it is away".to_owned())),
            "FailedGetResourceMetric",
            format!("{unable}unable to fetch metrics from resource metrics API: it is away"),
        ),
        (
            with(json!({"type": "Resource"}), None),
            "FailedGetResourceMetric",
            unset("resource"),
        ),
        (
            with(json!({"type": "ContainerResource"}), None),
            "FailedGetContainerResourceMetric",
            unset("containerResource"),
        ),
        (
            with(json!({"type": "Pods"}), None),
            "FailedGetPodsMetric",
            unset("pods"),
        ),
        (
            with(json!({"type": "Object"}), None),
            "FailedGetObjectMetric",
            unset("object"),
        ),
        (
            with(json!({"type": "External"}), None),
            "FailedGetExternalMetric",
            unset("external"),
        ),
        (
            with(pods(average.clone()), failed()),
            "FailedGetPodsMetric",
            "unable to get metric busy: unable to fetch metrics from custom metrics API: it is away"
                .to_owned(),
        ),
        (
            with(pods(average.clone()), Some(of_pods(&[]))),
            "FailedGetPodsMetric",
            "unable to get metric busy: no metrics returned from custom metrics API".to_owned(),
        ),
        (
            with(object(average.clone()), failed()),
            "FailedGetObjectMetric",
            "unable to get metric hits on Service default/front: unable to fetch metrics from custom metrics API: it is away"
                .to_owned(),
        ),
        (
            with(object(average.clone()), None),
            "FailedGetObjectMetric",
            "unable to get metric hits on Service default/front: unable to fetch metrics from custom metrics API: no metrics returned from custom metrics API"
                .to_owned(),
        ),
        (
            with(external(average.clone()), failed()),
            "FailedGetExternalMetric",
            format!("{queue}unable to fetch metrics from external metrics API: it is away"),
        ),
        (
            with(
                external(average.clone()),
                Some(MetricReading::External {
                    values_milli: Vec::new(),
                }),
            ),
            "FailedGetExternalMetric",
            format!("{queue}{none}"),
        ),
    ] {
        let decision = decide(&inputs);
        let conditions = decision.status.conditions.clone().unwrap_or_default();
        let active = conditions.iter().find(|c| c.type_ == "ScalingActive");
        let active = active.expect("a condition");
        assert_eq!(active.reason.as_deref(), Some(reason), "{message}");
        let told = active.message.clone().unwrap_or_default();
        let prefix = "the HPA was unable to compute the replica count: ";
        assert_eq!(told, format!("{prefix}{message}"));
        assert_eq!(decision.desired, None, "the size stays");
    }
}

#[test]
fn a_pod_without_measured_containers_has_no_sample() {
    let mut inputs = inputs(spec(1, 100, Value::Null), &[Some(50); 3]);
    if let Reading::Values(usage) = &mut inputs.pod_usage {
        usage[2].containers.clear();
    }
    let decision = decide(&inputs);
    let pods = decision.metrics[0].result.as_ref().expect("a proposal");
    let pods = pods.arithmetic.pods.as_ref().expect("groups");
    assert_eq!(
        (pods.ready, pods.missing.as_slice()),
        (2, ["web-2".to_owned()].as_slice())
    );
}

#[test]
fn a_pod_may_request_as_a_whole() {
    // what the pods request as a whole, what of it is CPU, and which ratio comes out
    let asked = |requests: Value, containers: Option<i64>| {
        let mut inputs = inputs(spec(1, 100, Value::Null), &[Some(50); 3]);
        for pod in &mut inputs.pods {
            let requests: std::collections::BTreeMap<String, i64> =
                serde_json::from_value(requests.clone()).expect("requests");
            pod.pod_requests_milli = Some(requests);
            pod.containers[0].requests_milli.clear();
            if let Some(milli) = containers {
                let of = &mut pod.containers[0].requests_milli;
                of.insert("cpu".to_owned(), milli);
            }
        }
        let decision = decide(&inputs);
        match &decision.metrics[0].result {
            Ok(proposal) => Ok(proposal.arithmetic.requests_milli),
            Err(failure) => Err(failure.message.clone()),
        }
    };
    assert_eq!(asked(json!({"cpu": 200}), Some(10)), Ok(Some(600)));
    assert_eq!(asked(json!({"memory": 1}), Some(10)), Ok(Some(30)));
    assert_eq!(asked(json!({}), Some(10)), Ok(Some(30)));
    let missing = asked(json!({"memory": 1}), None).expect_err("no request");
    let why = "missing pod-level request for cpu in Pod web-0";
    assert!(missing.ends_with(why), "{missing}");
}

#[test]
fn only_a_change_is_a_change_of_the_status() {
    let mut inputs = inputs(spec(1, 100, Value::Null), &[Some(50); 3]);
    inputs.hpa.status = decide(&inputs).status;
    assert!(!decide(&inputs).status_changed);
    let settled = inputs.hpa.status.clone();
    // another value of the metric is one
    let metrics = inputs.hpa.status.current_metrics.as_mut().expect("metrics");
    let current = &mut metrics[0].resource.as_mut().expect("a resource").current;
    current.average_utilization = Some(51);
    assert!(decide(&inputs).status_changed);
    // and so are none
    inputs.hpa.status = settled.clone();
    inputs.hpa.status.current_metrics = Some(Vec::new());
    assert!(decide(&inputs).status_changed);
    inputs.hpa.status = settled;
    inputs.hpa.status.conditions = None;
    assert!(decide(&inputs).status_changed);
}

#[test]
fn times_of_the_status_have_whole_seconds() {
    let mut inputs = inputs(spec(1, 100, Value::Null), &[Some(500); 3]);
    let whole = inputs.now;
    inputs.now = whole + jiff::SignedDuration::from_millis(700);
    let decision = decide(&inputs);
    assert_eq!(decision.at, inputs.now);
    assert_eq!(
        decision.status.last_scale_time.map(|time| time.0),
        Some(whole)
    );
    let conditions = decision.status.conditions.unwrap_or_default();
    assert!(!conditions.is_empty());
    for condition in conditions {
        let at = condition.last_transition_time.map(|time| time.0);
        assert_eq!(at, Some(whole), "{}", condition.type_);
    }
    assert_eq!(EventType::Normal.as_str(), "Normal");
    assert_eq!(EventType::Warning.as_str(), "Warning");
}
