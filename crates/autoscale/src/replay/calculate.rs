//! Tables of the replica calculator.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::common::{CasePod, CaseUsage, Differences, check, check_error, parse, time};
use crate::hpa::{
    Context, Pod, Proposal, Sample, Samples, Settings, Tolerance, by_average, by_utilization,
    by_value, by_value_per_pod, resource_samples, sum,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReplicaCase {
    current_replicas: i32,
    tolerance: CaseTolerance,
    cpu_initialization_period_seconds: i64,
    initial_readiness_delay_seconds: i64,
    metric_kind: String,
    #[serde(default)]
    resource_name: Option<String>,
    #[serde(default)]
    container: Option<String>,
    target: CaseTarget,
    #[serde(default)]
    metrics: Vec<CaseUsage>,
    #[serde(default)]
    object_metric: Option<CaseValue>,
    #[serde(default)]
    external_metric: Option<CaseValue>,
    #[serde(default)]
    pods: Vec<CasePod>,
    expected: ReplicaExpected,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseTolerance {
    scale_down: f64,
    scale_up: f64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CaseTarget {
    average_utilization_percent: Option<i32>,
    average_value_milli: Option<i64>,
    value_milli: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CaseValue {
    value_milli: Option<i64>,
    values_milli: Vec<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct ReplicaExpected {
    replicas: Option<i32>,
    utilization_percent: Option<i32>,
    raw_average_milli: Option<i64>,
    usage_milli: Option<i64>,
    error_contains: Option<String>,
}

pub fn replica_calc(case: &Value, now: Timestamp) -> Differences {
    let case: ReplicaCase = parse(case)?;
    let resource = case.resource_name.unwrap_or_default();
    let pods = case
        .pods
        .into_iter()
        .map(|pod| pod.pod(&resource))
        .collect::<Result<Vec<Pod>, String>>()?;
    let pods: Vec<&Pod> = pods.iter().collect();
    let settings = Settings {
        cpu_initialization_seconds: case.cpu_initialization_period_seconds,
        initial_readiness_delay_seconds: case.initial_readiness_delay_seconds,
        ..Settings::default()
    };
    let context = Context {
        pods: &pods,
        settings: &settings,
        now,
        tolerance: Tolerance {
            scale_down: case.tolerance.scale_down,
            scale_up: case.tolerance.scale_up,
        },
        current: case.current_replicas,
    };
    let target =
        |value: Option<i64>| value.ok_or_else(|| "the target has no such value".to_owned());
    let single = || {
        let object = case
            .object_metric
            .as_ref()
            .and_then(|metric| metric.value_milli);
        object.unwrap_or_else(|| {
            sum(case
                .external_metric
                .as_ref()
                .map_or(&[], |metric| &metric.values_milli))
        })
    };
    let result: Result<Proposal, String> = match case.metric_kind.as_str() {
        "resource_utilization" | "container_resource_utilization" => {
            let percent = case
                .target
                .average_utilization_percent
                .ok_or("the target has no utilisation")?;
            let container = case.container.as_deref();
            let usage = case
                .metrics
                .into_iter()
                .map(|usage| usage.usage(&resource))
                .collect::<Result<Vec<_>, _>>()?;
            by_utilization(
                &context,
                resource_samples(&usage, &resource, container),
                &resource,
                container,
                percent,
            )
        }
        "pods" => by_average(
            &context,
            samples(case.metrics)?,
            "",
            target(case.target.average_value_milli)?,
        ),
        "object_value" | "external_value" => {
            by_value(&context, single(), target(case.target.value_milli)?)
        }
        "object_average" | "external_average" => Ok(by_value_per_pod(
            &context,
            case.current_replicas,
            single(),
            target(case.target.average_value_milli)?,
        )),
        other => return Err(format!("unknown metricKind {other:?}")),
    };
    let mut differences = Vec::new();
    let expected = case.expected;
    check_error(
        &mut differences,
        expected.error_contains.as_deref(),
        result.as_ref().err().map(String::as_str),
    );
    if let Ok(proposal) = result {
        let arithmetic = &proposal.arithmetic;
        check(
            &mut differences,
            "replicas",
            expected.replicas,
            &proposal.replicas,
        );
        check(
            &mut differences,
            "utilizationPercent",
            expected.utilization_percent.map(Some),
            &arithmetic.utilization_percent,
        );
        check(
            &mut differences,
            "rawAverageMilli",
            expected.raw_average_milli.map(Some),
            &arithmetic.average_milli,
        );
        let usage = arithmetic.average_milli.unwrap_or(arithmetic.usage_milli);
        check(&mut differences, "usageMilli", expected.usage_milli, &usage);
    }
    Ok(differences)
}

fn samples(metrics: Vec<CaseUsage>) -> Result<Samples, String> {
    metrics
        .into_iter()
        .filter_map(|usage| usage.value_milli.map(|value| (usage, value)))
        .map(|(usage, value_milli)| {
            let sample = Sample {
                timestamp: time(usage.timestamp)?,
                window_seconds: usage.window_seconds,
                value_milli,
            };
            Ok((usage.pod, sample))
        })
        .collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupCase {
    resource_name: String,
    cpu_initialization_period_seconds: i64,
    initial_readiness_delay_seconds: i64,
    pods: Vec<CasePod>,
    metrics: Vec<CaseUsage>,
    expected: GroupExpected,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupExpected {
    ready_pod_count: usize,
    unready_pods: BTreeSet<String>,
    missing_pods: BTreeSet<String>,
    ignored_pods: BTreeSet<String>,
}

pub fn group_pods(case: &Value, now: Timestamp) -> Differences {
    let case: GroupCase = parse(case)?;
    let settings = Settings {
        cpu_initialization_seconds: case.cpu_initialization_period_seconds,
        initial_readiness_delay_seconds: case.initial_readiness_delay_seconds,
        ..Settings::default()
    };
    let pods = case
        .pods
        .into_iter()
        .map(|pod| pod.pod(&case.resource_name))
        .collect::<Result<Vec<Pod>, String>>()?;
    let pods: Vec<&Pod> = pods.iter().collect();
    let groups = crate::hpa::group_pods(
        &pods,
        &samples(case.metrics)?,
        &case.resource_name,
        &settings,
        now,
    );
    let set = |names: Vec<String>| names.into_iter().collect::<BTreeSet<String>>();
    let mut differences = Vec::new();
    check(
        &mut differences,
        "readyPodCount",
        Some(case.expected.ready_pod_count),
        &groups.ready,
    );
    check(
        &mut differences,
        "unreadyPods",
        Some(case.expected.unready_pods),
        &set(groups.unready),
    );
    check(
        &mut differences,
        "missingPods",
        Some(case.expected.missing_pods),
        &set(groups.missing),
    );
    check(
        &mut differences,
        "ignoredPods",
        Some(case.expected.ignored_pods),
        &set(groups.ignored),
    );
    Ok(differences)
}
