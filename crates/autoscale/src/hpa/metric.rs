//! One metric of the specification: which calculation, which names, which condition, which status.
//!
//! Source followed: `computeReplicasForMetric` and `computeStatusFor*` of
//! `pkg/controller/podautoscaler/horizontal.go`.

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus,
    ResourceMetricStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::decision::{Arithmetic, ErrorLabel, MetricFailure, Proposal};
use super::inputs::{Inputs, Reading};
use super::outside::{external, object, pods};
use super::pods::resource_samples;
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

pub(super) fn failed(name: String, reason: &str, message: String, prefix: &str) -> Evaluated {
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

pub(super) fn unpopulated(field: &str) -> String {
    format!("{field} is not set in the metric; set it in the autoscaler's spec.metrics")
}

pub(super) fn milli(quantity: &ApiQuantity) -> Result<i64, String> {
    Quantity::parse(&quantity.0)
        .map(Quantity::milli_value)
        .map_err(|error| error.to_string())
}
