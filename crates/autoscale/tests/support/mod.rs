//! Inputs of a target whose pods all request 100m of CPU.
#![allow(dead_code)]

use std::collections::BTreeMap;

use autoscale::hpa::{
    Container, ContainerUsage, Hpa, Inputs, Pod, PodUsage, Reading, ReadyCondition, Scale,
    Settings, State,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus,
};
use serde_json::json;

const REQUEST_MILLI: i64 = 100;

pub fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).expect("a time")
}

pub fn spec(
    minimum: i32,
    maximum: i32,
    behavior: serde_json::Value,
) -> HorizontalPodAutoscalerSpec {
    serde_json::from_value(json!({
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "minReplicas": minimum,
        "maxReplicas": maximum,
        "metrics": [{"type": "Resource", "resource":
            {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}],
        "behavior": behavior,
    }))
    .expect("a specification")
}

/// A target with one pod per entry; `None` is a pod without a sample.
pub fn inputs(spec: HorizontalPodAutoscalerSpec, usage_milli: &[Option<i64>]) -> Inputs {
    let long_ago = now() - SignedDuration::from_hours(1);
    let labels: BTreeMap<String, String> = [("app".to_owned(), "web".to_owned())].into();
    let name = |index: usize| format!("web-{index}");
    let pods = (0..usage_milli.len()).map(|index| Pod {
        name: name(index),
        labels: labels.clone(),
        phase: "Running".to_owned(),
        start_time: Some(long_ago),
        ready: Some(ReadyCondition {
            status: "True".to_owned(),
            last_transition: long_ago,
        }),
        containers: vec![Container {
            name: "web".to_owned(),
            requests_milli: [("cpu".to_owned(), REQUEST_MILLI)].into(),
        }],
        ..Pod::default()
    });
    let usage = usage_milli.iter().enumerate().filter_map(|(index, usage)| {
        Some(PodUsage {
            pod: name(index),
            timestamp: now(),
            window_seconds: 5.0,
            containers: vec![ContainerUsage {
                name: "web".to_owned(),
                usage_milli: [("cpu".to_owned(), (*usage)?)].into(),
            }],
        })
    });
    let replicas = i32::try_from(usage_milli.len()).expect("few pods");
    Inputs {
        now: now(),
        settings: Settings::default(),
        hpa: Hpa {
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            generation: Some(1),
            spec,
            status: HorizontalPodAutoscalerStatus::default(),
        },
        scale: Ok(Scale {
            spec_replicas: replicas,
            status_replicas: replicas,
            selector: "app=web".to_owned(),
        }),
        pods: pods.collect(),
        pod_usage: Reading::Values(usage.collect()),
        metrics: Vec::new(),
        others: Vec::new(),
        state: State {
            recommendations: Some(Vec::new()),
            ..State::default()
        },
    }
}
