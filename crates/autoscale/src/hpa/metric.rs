//! One metric of the specification: which calculation, which names, which condition, which status.
//!
//! Source followed: `computeReplicasForMetric` and `computeStatusFor*` of
//! `pkg/controller/podautoscaler/horizontal.go`.

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricStatus, MetricIdentifier, MetricSpec,
    MetricStatus, MetricTarget, MetricValueStatus, ObjectMetricStatus, PodsMetricStatus,
    ResourceMetricStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::decision::{Arithmetic, ErrorLabel, MetricFailure, Proposal};
use super::inputs::{Inputs, MetricReading, Reading};
use super::pods::{Sample, Samples, resource_samples};
use super::replicas::{self, Context};
use crate::quantity::{Quantity, status_text};

/// What became of one metric.
pub struct Evaluated {
    /// Upstream's name of the metric.
    pub name: String,
    /// Its proposal, or the error.
    pub result: Result<Proposal, Failed>,
    /// Its status; empty when it failed.
    pub status: MetricStatus,
}

/// A failed metric.
pub struct Failed {
    /// What the condition and the event say.
    pub shown: MetricFailure,
    /// The error as reconcile reports it, with upstream's prefixes.
    pub error: String,
    /// Whose fault it is.
    pub label: ErrorLabel,
}

/// Evaluates the metric at `index`.
pub fn evaluate(
    inputs: &Inputs,
    context: &Context<'_>,
    status_replicas: i32,
    index: usize,
    spec: &MetricSpec,
) -> Evaluated {
    match spec.type_.as_str() {
        "Resource" => resource(inputs, context, spec),
        "ContainerResource" => container_resource(inputs, context, spec),
        "Pods" => pods(inputs, context, index, spec),
        "Object" => object(inputs, context, status_replicas, index, spec),
        "External" => external(inputs, context, status_replicas, index, spec),
        other => {
            let message = format!("unknown metric source type {other:?}");
            let mut failed = failed(String::new(), "InvalidMetricSourceType", message, "");
            if let Err(failed) = &mut failed.result {
                failed.label = ErrorLabel::Spec;
            }
            failed
        }
    }
}

fn resource(inputs: &Inputs, context: &Context<'_>, spec: &MetricSpec) -> Evaluated {
    const REASON: &str = "FailedGetResourceMetric";
    let Some(source) = &spec.resource else {
        return failed(String::new(), REASON, unpopulated("resource"), "");
    };
    let (name, result) = by_resource(inputs, context, &source.target, &source.name, None);
    let prefix = format!("failed to get {} resource metric value: ", source.name);
    match result {
        Ok(proposal) => Evaluated {
            name,
            status: MetricStatus {
                type_: spec.type_.clone(),
                resource: Some(ResourceMetricStatus {
                    name: source.name.clone(),
                    current: resource_status(&source.name, &proposal.arithmetic),
                }),
                ..Default::default()
            },
            result: Ok(proposal),
        },
        Err(message) => failed(name, REASON, message, &prefix),
    }
}

fn container_resource(inputs: &Inputs, context: &Context<'_>, spec: &MetricSpec) -> Evaluated {
    const REASON: &str = "FailedGetContainerResourceMetric";
    let Some(source) = &spec.container_resource else {
        return failed(String::new(), REASON, unpopulated("containerResource"), "");
    };
    let container = Some(source.container.as_str());
    let (name, result) = by_resource(inputs, context, &source.target, &source.name, container);
    let prefix = format!(
        "failed to get {} container metric value: ",
        source.container
    );
    match result {
        Ok(proposal) => Evaluated {
            name,
            status: MetricStatus {
                type_: spec.type_.clone(),
                container_resource: Some(ContainerResourceMetricStatus {
                    name: source.name.clone(),
                    container: source.container.clone(),
                    current: resource_status(&source.name, &proposal.arithmetic),
                }),
                ..Default::default()
            },
            result: Ok(proposal),
        },
        Err(message) => failed(name, REASON, message, &prefix),
    }
}

/// A resource's name in messages and its proposal (`computeStatusForResourceMetricGeneric`).
fn by_resource(
    inputs: &Inputs,
    context: &Context<'_>,
    target: &MetricTarget,
    resource: &str,
    container: Option<&str>,
) -> (String, Result<Proposal, String>) {
    let samples = || match &inputs.pod_usage {
        Reading::Values(usage) if usage.is_empty() => Err(unread(
            resource,
            "no metrics returned from resource metrics API",
        )),
        Reading::Values(usage) => Ok(resource_samples(usage, resource, container)),
        Reading::Failed(error) => Err(unread(
            resource,
            &format!("unable to fetch metrics from resource metrics API: {error}"),
        )),
        Reading::NotRead => Err(unread(
            resource,
            "no metrics returned from resource metrics API",
        )),
    };
    if let Some(average) = &target.average_value {
        let result = milli(average)
            .and_then(|target| replicas::by_average(context, samples()?, resource, target))
            .map_err(|error| format!("failed to get {resource} usage: {error}"));
        return (format!("{resource} resource"), result);
    }
    let kind = if container.is_some() {
        "container resource"
    } else {
        "resource"
    };
    let name = format!("{resource} {kind} utilization (percentage of request)");
    let Some(percent) = target.average_utilization else {
        let message = "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set";
        return (name, Err(message.to_owned()));
    };
    let result = samples()
        .and_then(|samples| {
            replicas::by_utilization(context, samples, resource, container, percent)
        })
        .map_err(|error| format!("failed to get {resource} utilization: {error}"));
    (name, result)
}

fn unread(resource: &str, error: &str) -> String {
    format!("unable to get metrics for resource {resource}: {error}")
}

fn resource_status(resource: &str, arithmetic: &Arithmetic) -> MetricValueStatus {
    MetricValueStatus {
        average_utilization: arithmetic.utilization_percent,
        average_value: arithmetic
            .average_milli
            .map(|milli| ApiQuantity(status_text(resource, milli))),
        value: None,
    }
}

fn pods(inputs: &Inputs, context: &Context<'_>, index: usize, spec: &MetricSpec) -> Evaluated {
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

fn object(
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

fn external(
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

fn failed(name: String, reason: &str, message: String, prefix: &str) -> Evaluated {
    Evaluated {
        name,
        status: MetricStatus::default(),
        result: Err(Failed {
            error: format!("{prefix}{message}"),
            shown: MetricFailure {
                reason: reason.to_owned(),
                message,
            },
            label: ErrorLabel::Internal,
        }),
    }
}

fn unpopulated(field: &str) -> String {
    format!("{field} is not set in the metric; set it in the autoscaler's spec.metrics")
}

fn decimal(milli: i64) -> ApiQuantity {
    ApiQuantity(Quantity::from_milli(milli).decimal())
}

fn milli(quantity: &ApiQuantity) -> Result<i64, String> {
    Quantity::parse(&quantity.0)
        .map(Quantity::milli_value)
        .map_err(|error| error.to_string())
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
