//! Objects of the API as inputs of a decision.

use autoscale::hpa::{Container, Pod, ReadyCondition, Scale};
use k8s_openapi::api::autoscaling::v1::Scale as ApiScale;
use k8s_openapi::api::core::v1::Pod as ApiPod;
use serde_json::{Value, json};

fn pod(object: Value) -> Pod {
    let object: ApiPod = serde_json::from_value(object).expect("a pod");
    Pod::from(&object)
}

fn container(name: &str, requests: &[(&str, i64)]) -> Container {
    Container {
        name: name.to_owned(),
        requests_milli: requests
            .iter()
            .map(|(name, milli)| ((*name).to_owned(), *milli))
            .collect(),
    }
}

#[test]
fn everything_that_counts_of_a_pod_is_taken() {
    let found = pod(json!({
        "metadata": {"name": "web-1", "labels": {"app": "web"}, "deletionTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "resources": {"requests": {"cpu": "1500m"}},
            "initContainers": [
                {"name": "once", "resources": {"requests": {"cpu": "9"}}},
                {"name": "beside", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}}],
            "containers": [{"name": "main", "resources": {"requests": {"cpu": "250m", "memory": "1Mi", "odd": "x"}}}, {"name": "bare"}]},
        "status": {"phase": "Running", "startTime": "2026-01-01T00:00:01Z", "conditions": [
            {"type": "Initialized", "status": "True", "lastTransitionTime": "2026-01-01T00:00:02Z"},
            {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:03Z"}]},
    }));
    let time = |text: &str| text.parse().expect("a time");
    let expected = Pod {
        name: "web-1".to_owned(),
        labels: [("app".to_owned(), "web".to_owned())].into(),
        phase: "Running".to_owned(),
        deleted: true,
        start_time: Some(time("2026-01-01T00:00:01Z")),
        ready: Some(ReadyCondition {
            status: "False".to_owned(),
            last_transition: time("2026-01-01T00:00:03Z"),
        }),
        containers: vec![
            container("main", &[("cpu", 250), ("memory", 1_048_576_000)]),
            container("bare", &[]),
        ],
        sidecars: vec![container("beside", &[("cpu", 50)])],
        pod_requests_milli: Some([("cpu".to_owned(), 1500)].into()),
    };
    assert_eq!(found, expected);
}

#[test]
fn what_a_pod_does_not_say_is_nothing() {
    assert_eq!(pod(json!({"metadata": {}})), Pod::default());
    let asks_for_nothing =
        json!({"metadata": {}, "spec": {"containers": [], "resources": {"requests": {}}}});
    assert_eq!(pod(asks_for_nothing).pod_requests_milli, None);
    let unready = pod(
        json!({"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
    );
    let expected = ReadyCondition {
        status: "True".to_owned(),
        last_transition: jiff::Timestamp::MIN,
    };
    assert_eq!(unready.ready, Some(expected));
}

#[test]
fn a_scale_has_a_size_that_is_wanted_and_one_that_is_there() {
    let scale = |object: Value| {
        let object: ApiScale = serde_json::from_value(object).expect("a scale");
        Scale::from(&object)
    };
    let whole = scale(
        json!({"metadata": {}, "spec": {"replicas": 3}, "status": {"replicas": 2, "selector": "a=b"}}),
    );
    let expected = Scale {
        spec_replicas: 3,
        status_replicas: 2,
        selector: "a=b".to_owned(),
    };
    assert_eq!(whole, expected);
    let empty = scale(json!({"metadata": {}}));
    assert_eq!((empty.spec_replicas, empty.status_replicas), (0, 0));
    assert_eq!(empty.selector, "");
}
