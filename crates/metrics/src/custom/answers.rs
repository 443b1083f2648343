//! The JSON of custom.metrics.k8s.io (v1beta1, v1beta2) and external.metrics.k8s.io (v1beta1).
//!
//! Source followed: `k8s.io/metrics/pkg/apis/{custom_metrics,external_metrics}`; values in milli-units, cut off, as
//! prometheus-adapter tells them.

use std::time::Duration;

use autoscale::quantity::Quantity;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::api::{CUSTOM, EXTERNAL};
use super::kinds::Described;
use super::points::Told;
use super::query::window_seconds;
use crate::refusal::time;
use crate::store::Labels;

/// Now, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The series' clock.
    pub monotonic: Duration,
    /// The time that people see.
    pub wall: Timestamp,
}

impl Now {
    fn of(self, at: Duration) -> String {
        let age = SignedDuration::try_from(self.monotonic.saturating_sub(at)).unwrap_or_default();
        time(self.wall.saturating_sub(age).unwrap_or(self.wall))
    }
}

/// What a custom metric is about.
pub struct About<'a> {
    pub version: &'a str,
    pub described: &'a Described,
    pub namespace: Option<&'a str>,
    pub metric: &'a str,
    /// The request's `metricLabelSelector` as an object; null for none.
    pub selector: &'a Value,
}

/// One object's value.
pub fn custom_value(about: &About<'_>, name: &str, told: Told, now: Now) -> Value {
    let mut object = json!({
        "kind": about.described.kind,
        "name": name,
        "apiVersion": about.described.api_version,
    });
    if let Some(namespace) = about.namespace {
        object["namespace"] = namespace.into();
    }
    let mut value = json!({
        "describedObject": object,
        "timestamp": now.of(told.at),
        "value": quantity(told.value),
    });
    let window = window_seconds(told.window);
    if about.version == "v1beta1" {
        value["metricName"] = about.metric.into();
        value["selector"] = about.selector.clone();
        if let Some(seconds) = window {
            value["window"] = seconds.into();
        }
    } else {
        value["metric"] = json!({"name": about.metric});
        if !about.selector.is_null() {
            value["metric"]["selector"] = about.selector.clone();
        }
        if let Some(seconds) = window {
            value["windowSeconds"] = seconds.into();
        }
    }
    value
}

/// The list of custom metrics.
pub fn custom_list(version: &str, items: Vec<Value>) -> Value {
    json!({"kind": "MetricValueList", "apiVersion": format!("{CUSTOM}/{version}"), "metadata": {}, "items": items})
}

/// One external value.
pub fn external_value(metric: &str, labels: &Labels, told: Told, now: Now) -> Value {
    let mut value = json!({
        "metricName": metric,
        "metricLabels": labels,
        "timestamp": now.of(told.at),
        "value": quantity(told.value),
    });
    if let Some(seconds) = window_seconds(told.window) {
        value["window"] = seconds.into();
    }
    value
}

/// The list of external metrics.
pub fn external_list(items: Vec<Value>) -> Value {
    json!({"kind": "ExternalMetricValueList", "apiVersion": format!("{EXTERNAL}/v1beta1"), "metadata": {}, "items": items})
}

/// A finite value; what is too large for a quantity is its largest.
fn quantity(value: f64) -> String {
    let milli = value * 1000.0;
    // cut off, but not for the error of a floating-point number: 0.57 is 570m
    let nearest = milli.round();
    let is_nearest = (milli - nearest).abs() <= nearest.abs().max(1.0) * 1e-9;
    let milli = if is_nearest { nearest } else { milli };
    // `as` saturates
    Quantity::from_milli(milli as i64).decimal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_milli_units_cut_off() {
        for (value, text) in [
            (0.0, "0"),
            (5.0, "5"),
            (0.57, "570m"),
            (0.0015, "1m"),
            (-2.5, "-2500m"),
            (103.5019, "103501m"),
            (1e300, "9223372036854775807m"),
            (-1e300, "-9223372036854775808m"),
        ] {
            assert_eq!(quantity(value), text);
        }
    }
}
