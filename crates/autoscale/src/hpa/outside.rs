//! Metrics that come from outside the resource metrics API: of pods, of an object, external.
//!
//! Source followed: `computeStatusFor{Pods,Object,External}Metric` of
//! `pkg/controller/podautoscaler/horizontal.go`.

use k8s_openapi::api::autoscaling::v2::{
    ExternalMetricStatus, MetricIdentifier, MetricSpec, MetricStatus, MetricValueStatus,
    ObjectMetricStatus, PodsMetricStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::decision::{Arithmetic, Proposal};
use super::inputs::{Inputs, MetricReading};
use super::metric::{Evaluated, failed, milli, unpopulated};
use super::pods::{Sample, Samples};
use super::replicas::{self, Context};
use crate::quantity::Quantity;

/// Evaluates a metric of this source.
pub fn pods(inputs: &Inputs, context: &Context<'_>, index: usize, spec: &MetricSpec) -> Evaluated {
    const REASON: &str = "FailedGetPodsMetric";
    let Some(source) = &spec.pods else {
        return failed(String::new(), REASON, unpopulated("pods"), "");
    };
    let metric = &source.metric;
    let name = format!("pods metric {}", metric.name);
    let samples = match inputs.metrics.get(index) {
        Some(MetricReading::Pods(values)) if !values.is_empty() => Ok(values
            .iter()
            .map(|value| {
                let sample = Sample {
                    timestamp: value.timestamp,
                    window_seconds: value.window_seconds,
                    value_milli: value.value_milli,
                };
                (value.pod.clone(), sample)
            })
            .collect::<Samples>()),
        Some(MetricReading::Failed(error)) => Err(format!(
            "unable to fetch metrics from custom metrics API: {error}"
        )),
        _ => Err("no metrics returned from custom metrics API".to_owned()),
    }
    .map_err(|error| format!("unable to get metric {}: {error}", metric.name));
    let target = source
        .target
        .average_value
        .as_ref()
        .ok_or_else(|| unpopulated("target.averageValue"));
    let result = target
        .and_then(milli)
        .and_then(|target| replicas::by_average(context, samples?, "", target));
    match result {
        Ok(proposal) => Evaluated {
            name,
            status: MetricStatus {
                type_: spec.type_.clone(),
                pods: Some(PodsMetricStatus {
                    metric: metric.clone(),
                    current: MetricValueStatus {
                        average_value: proposal.arithmetic.average_milli.map(decimal),
                        ..Default::default()
                    },
                }),
                ..Default::default()
            },
            result: Ok(proposal),
        },
        Err(message) => failed(name, REASON, message, "failed to get pods metric value: "),
    }
}

/// Evaluates a metric of this source.
pub fn object(
    inputs: &Inputs,
    context: &Context<'_>,
    status_replicas: i32,
    index: usize,
    spec: &MetricSpec,
) -> Evaluated {
    const REASON: &str = "FailedGetObjectMetric";
    let Some(source) = &spec.object else {
        return failed(String::new(), REASON, unpopulated("object"), "");
    };
    let metric = &source.metric;
    let described = &source.described_object;
    let value = match inputs.metrics.get(index) {
        Some(MetricReading::Object { value_milli }) => Ok(*value_milli),
        Some(MetricReading::Failed(error)) => Err(error.as_str()),
        _ => Err("no metrics returned from custom metrics API"),
    }
    .map_err(|error| {
        format!(
            "unable to get metric {} on {} {}/{}: unable to fetch metrics from custom metrics API: {error}",
            metric.name, described.kind, inputs.hpa.namespace, described.name
        )
    });
    let (name, result, current) = match (
        source.target.type_.as_str(),
        &source.target.value,
        &source.target.average_value,
    ) {
        ("Value", Some(target), _) => {
            let result = value.and_then(|value| replicas::by_value(context, value, milli(target)?));
            let current = shown(&result, |arithmetic| Some(arithmetic.usage_milli), false);
            (
                format!("{} metric {}", described.kind, metric.name),
                result,
                current,
            )
        }
        ("AverageValue", _, Some(target)) => {
            let result = value
                .and_then(|value| {
                    Ok(replicas::by_value_per_pod(
                        context,
                        status_replicas,
                        value,
                        milli(target)?,
                    ))
                })
                .map_err(|error| format!("failed to get {} object metric: {error}", metric.name));
            let current = shown(&result, |arithmetic| arithmetic.average_milli, true);
            (external_name(metric), result, current)
        }
        _ => {
            let message = "invalid object metric source: neither a value target nor an average value target was set";
            (
                String::new(),
                Err(message.to_owned()),
                MetricValueStatus::default(),
            )
        }
    };
    match result {
        Ok(proposal) => Evaluated {
            name,
            status: MetricStatus {
                type_: spec.type_.clone(),
                object: Some(ObjectMetricStatus {
                    described_object: described.clone(),
                    metric: metric.clone(),
                    current,
                }),
                ..Default::default()
            },
            result: Ok(proposal),
        },
        Err(message) => {
            // The condition of a failed per-pod read carries the bare error, the reconcile error one prefix more.
            let bare =
                message.strip_prefix(&format!("failed to get {} object metric: ", metric.name));
            let shown = bare.unwrap_or(&message).to_owned();
            let mut failed = failed(name, REASON, shown, "");
            if let Err(failed) = &mut failed.result {
                failed.error = format!("failed to get object metric value: {message}");
            }
            failed
        }
    }
}

/// Evaluates a metric of this source.
pub fn external(
    inputs: &Inputs,
    context: &Context<'_>,
    status_replicas: i32,
    index: usize,
    spec: &MetricSpec,
) -> Evaluated {
    const REASON: &str = "FailedGetExternalMetric";
    let Some(source) = &spec.external else {
        return failed(String::new(), REASON, unpopulated("external"), "");
    };
    let metric = &source.metric;
    let name = external_name(metric);
    let value = match inputs.metrics.get(index) {
        Some(MetricReading::External { values_milli }) if !values_milli.is_empty() => {
            Ok(replicas::sum(values_milli))
        }
        Some(MetricReading::Failed(error)) => Err(format!(
            "unable to fetch metrics from external metrics API: {error}"
        )),
        _ => Err("no metrics returned from external metrics API".to_owned()),
    }
    .map_err(|error| {
        format!(
            "unable to get external metric {}/{}/{}: {error}",
            inputs.hpa.namespace,
            metric.name,
            go_text(metric.selector.as_ref())
        )
    });
    let (result, current, second_prefix) = match (
        &source.target.average_value,
        &source.target.value,
    ) {
        (Some(target), _) => {
            let result = value.and_then(|value| {
                Ok(replicas::by_value_per_pod(
                    context,
                    status_replicas,
                    value,
                    milli(target)?,
                ))
            });
            let current = shown(&result, |arithmetic| arithmetic.average_milli, true);
            (
                result,
                current,
                format!("failed to get {} external metric: ", metric.name),
            )
        }
        (None, Some(target)) => {
            let result = value.and_then(|value| replicas::by_value(context, value, milli(target)?));
            let current = shown(&result, |arithmetic| Some(arithmetic.usage_milli), false);
            (
                result,
                current,
                format!("failed to get external metric {}: ", metric.name),
            )
        }
        (None, None) => {
            let message = "invalid external metric source: neither a value target nor an average value target was set";
            (
                Err(message.to_owned()),
                MetricValueStatus::default(),
                String::new(),
            )
        }
    };
    match result {
        Ok(proposal) => Evaluated {
            name,
            status: MetricStatus {
                type_: spec.type_.clone(),
                external: Some(ExternalMetricStatus {
                    metric: metric.clone(),
                    current,
                }),
                ..Default::default()
            },
            result: Ok(proposal),
        },
        Err(message) => {
            let prefix = format!(
                "failed to get {} external metric value: {second_prefix}",
                metric.name
            );
            failed(name, REASON, message, &prefix)
        }
    }
}

fn shown(
    result: &Result<Proposal, String>,
    of: impl Fn(&Arithmetic) -> Option<i64>,
    average: bool,
) -> MetricValueStatus {
    let quantity = result
        .as_ref()
        .ok()
        .and_then(|proposal| of(&proposal.arithmetic))
        .map(decimal);
    if average {
        MetricValueStatus {
            average_value: quantity,
            ..Default::default()
        }
    } else {
        MetricValueStatus {
            value: quantity,
            ..Default::default()
        }
    }
}

fn decimal(milli: i64) -> ApiQuantity {
    ApiQuantity(Quantity::from_milli(milli).decimal())
}

fn external_name(metric: &MetricIdentifier) -> String {
    format!(
        "external metric {}({})",
        metric.name,
        go_text(metric.selector.as_ref())
    )
}

/// A selector as Go prints it with `%+v`, which is how it appears in upstream's messages.
fn go_text(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else {
        return "nil".to_owned();
    };
    let labels: String = selector
        .match_labels
        .iter()
        .flatten()
        .map(|(key, value)| format!("{key}: {value},"))
        .collect();
    let expressions: String = selector
        .match_expressions
        .iter()
        .flatten()
        .map(|expression| {
            let values = expression.values.as_deref().unwrap_or_default().join(" ");
            format!(
                "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},",
                expression.key, expression.operator
            )
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}
