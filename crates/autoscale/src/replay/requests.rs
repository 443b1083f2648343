//! Tables of pods' requests and of usage ratios.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::common::{Differences, check, check_error, parse};
use crate::hpa::{Container, Pod, Sample, Samples, Settings, average, utilization};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestsCase {
    container: Option<String>,
    resource_name: String,
    feature_gates: BTreeMap<String, bool>,
    pods: Vec<RequestsPod>,
    expected: RequestsExpected,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestsPod {
    name: String,
    pod_requests_milli: Option<BTreeMap<String, i64>>,
    containers: Vec<RequestsContainer>,
    init_containers: Vec<RequestsContainer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestsContainer {
    name: String,
    #[serde(default)]
    requests_milli: BTreeMap<String, i64>,
    #[serde(default)]
    restart_policy: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestsExpected {
    #[serde(default)]
    requests_milli: Option<BTreeMap<String, i64>>,
    #[serde(default)]
    error: Option<String>,
}

pub fn requests(case: &Value) -> Differences {
    let case: RequestsCase = parse(case)?;
    let settings = Settings {
        pod_level_resources: case
            .feature_gates
            .get("PodLevelResources")
            .copied()
            .unwrap_or_default(),
        ..Settings::default()
    };
    let container = |container: RequestsContainer| Container {
        name: container.name,
        requests_milli: container.requests_milli,
    };
    let pods: Vec<Pod> = case
        .pods
        .into_iter()
        .map(|pod| Pod {
            name: pod.name,
            containers: pod.containers.into_iter().map(container).collect(),
            sidecars: pod
                .init_containers
                .into_iter()
                .filter(|container| container.restart_policy.as_deref() == Some("Always"))
                .map(container)
                .collect(),
            pod_requests_milli: pod.pod_requests_milli,
            ..Pod::default()
        })
        .collect();
    let pods: Vec<&Pod> = pods.iter().collect();
    let result = crate::hpa::requests(
        &pods,
        case.container.as_deref(),
        &case.resource_name,
        &settings,
    );
    let mut differences = Vec::new();
    check(
        &mut differences,
        "error",
        Some(case.expected.error),
        &result.as_ref().err().cloned(),
    );
    if let Ok(requests) = result {
        check(
            &mut differences,
            "requestsMilli",
            case.expected.requests_milli,
            &requests,
        );
    }
    Ok(differences)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RatioCase {
    function: String,
    metrics: BTreeMap<String, i64>,
    #[serde(default)]
    requests: BTreeMap<String, i64>,
    #[serde(default)]
    target_utilization_percent: i32,
    #[serde(default)]
    target_usage: i64,
    expected: RatioExpected,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RatioExpected {
    #[serde(default)]
    ratio: Option<f64>,
    #[serde(default)]
    utilization_percent: Option<i32>,
    #[serde(default)]
    raw_average: Option<i64>,
    #[serde(default)]
    usage: Option<i64>,
    #[serde(default)]
    error_contains: Option<String>,
}

pub fn ratio(case: &Value) -> Differences {
    let case: RatioCase = parse(case)?;
    let samples: Samples = case
        .metrics
        .into_iter()
        .map(|(pod, value_milli)| {
            (
                pod,
                Sample {
                    timestamp: Timestamp::UNIX_EPOCH,
                    window_seconds: 0.0,
                    value_milli,
                },
            )
        })
        .collect();
    let mut differences = Vec::new();
    let expected = case.expected;
    if case.function == "GetMetricUsageRatio" {
        let (ratio, average, _) = average(&samples, case.target_usage);
        check(&mut differences, "ratio", expected.ratio, &ratio);
        check(&mut differences, "usage", expected.usage, &average);
        return Ok(differences);
    }
    let result = utilization(&samples, &case.requests, case.target_utilization_percent);
    check_error(
        &mut differences,
        expected.error_contains.as_deref(),
        result.as_ref().err().map(String::as_str),
    );
    if let Ok(utilization) = result {
        check(
            &mut differences,
            "ratio",
            expected.ratio,
            &utilization.ratio,
        );
        check(
            &mut differences,
            "utilizationPercent",
            expected.utilization_percent,
            &utilization.percent,
        );
        check(
            &mut differences,
            "rawAverage",
            expected.raw_average,
            &utilization.average_milli,
        );
    }
    Ok(differences)
}
