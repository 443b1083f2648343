//! How soon measured values that changed are worth a write.
//!
//! Upstream writes a status whenever it differs, every 15 s. Here decisions are made every second, and a write each
//! second for every autoscaler would be too many; but `kubectl get hpa` is a person's window on the load, and values
//! that are 15 s old there look like an autoscaler that does not react. So what a person would notice is written at
//! most every 2 s, and what merely trembles every 15 s.

use std::time::Duration;

use autoscale::quantity::Quantity;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscalerStatus, MetricStatus, MetricValueStatus,
};

/// Time between two writes of values that a person would notice.
const NOTICED: Duration = Duration::from_secs(2);
/// Time between two writes of other values: upstream's sync period.
const UNNOTICED: Duration = Duration::from_secs(15);
/// Utilisation may be this many percent points off before it is written within 2 s.
const POINTS: u32 = 3;
/// The same for values that are no utilisation, as part of the one shown.
const PART: f64 = 0.05;

/// The least time between the writes of these two, which differ in measured values only.
pub fn pace(
    before: &HorizontalPodAutoscalerStatus,
    after: &HorizontalPodAutoscalerStatus,
) -> Duration {
    let metrics = |status: &HorizontalPodAutoscalerStatus| -> Vec<MetricValueStatus> {
        let metrics = status.current_metrics.iter().flatten();
        metrics.filter_map(current).collect()
    };
    let (before, after) = (metrics(before), metrics(after));
    let noticed = before.len() != after.len()
        || before
            .iter()
            .zip(&after)
            .any(|(before, after)| is_noticed(before, after));
    if noticed { NOTICED } else { UNNOTICED }
}

fn current(metric: &MetricStatus) -> Option<MetricValueStatus> {
    let values = [
        metric.resource.as_ref().map(|metric| &metric.current),
        metric
            .container_resource
            .as_ref()
            .map(|metric| &metric.current),
        metric.pods.as_ref().map(|metric| &metric.current),
        metric.object.as_ref().map(|metric| &metric.current),
        metric.external.as_ref().map(|metric| &metric.current),
    ];
    values.into_iter().flatten().next().cloned()
}

fn is_noticed(before: &MetricValueStatus, after: &MetricValueStatus) -> bool {
    match (before.average_utilization, after.average_utilization) {
        (Some(before), Some(after)) => before.abs_diff(after) > POINTS,
        (None, None) => {
            let amount = |value: &MetricValueStatus| {
                let shown = value.average_value.as_ref().or(value.value.as_ref());
                shown.and_then(|shown| Quantity::parse(&shown.0).ok())
            };
            match (amount(before), amount(after)) {
                (Some(before), Some(after)) => {
                    let (before, after) = (before.as_f64(), after.as_f64());
                    (after - before).abs() > PART * before.abs()
                }
                (before, after) => before.is_some() != after.is_some(),
            }
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn status(current: Value) -> HorizontalPodAutoscalerStatus {
        let metrics = match current {
            Value::Null => json!([]),
            current => {
                json!([{"type": "Resource", "resource": {"name": "cpu", "current": current}}])
            }
        };
        serde_json::from_value(
            json!({"desiredReplicas": 3, "currentMetrics": metrics, "conditions": []}),
        )
        .unwrap()
    }

    #[test]
    fn what_a_person_notices_is_written_sooner() {
        let utilisation =
            |percent: i32| json!({"averageUtilization": percent, "averageValue": "1"});
        let value = |amount: &str| json!({"averageValue": amount});
        let table = [
            (utilisation(80), utilisation(80), UNNOTICED),
            (utilisation(80), utilisation(83), UNNOTICED),
            (utilisation(80), utilisation(84), NOTICED),
            (utilisation(80), utilisation(76), NOTICED),
            (utilisation(i32::MIN), utilisation(i32::MAX), NOTICED),
            (value("100m"), value("105m"), UNNOTICED),
            (value("100m"), value("106m"), NOTICED),
            (value("0"), value("0"), UNNOTICED),
            (value("0"), value("1m"), NOTICED),
            (value("nonsense"), value("nonsense"), UNNOTICED),
            (value("nonsense"), value("1"), NOTICED),
            (utilisation(80), value("1"), NOTICED),
            (Value::Null, Value::Null, UNNOTICED),
            (Value::Null, utilisation(0), NOTICED),
        ];
        for (before, after, expected) in table {
            let text = format!("{before} then {after}");
            assert_eq!(pace(&status(before), &status(after)), expected, "{text}");
        }
    }
}
