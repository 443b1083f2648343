//! The table of whole decisions.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus,
};
use serde_json::Value;

use super::common::{Differences, check, parse, time};
use super::reconcile_form::{
    CaseCondition, CaseFault, CaseOther, CaseStatus, ReconcileCase, ReconcileExpected,
};
use crate::hpa::{
    self, Decision, Failure, Hpa, Inputs, MetricReading, OtherAutoscaler, PodValue, Reading,
    Recommendation, Scale, Settings, State,
};

pub fn reconcile(case: &Value, now: Timestamp) -> Differences {
    let case: ReconcileCase = parse(case)?;
    let fault = |api: &str, verb: &str| {
        let once = |fault: &&CaseFault| fault.only_attempt.is_none();
        case.faults
            .iter()
            .filter(once)
            .find(|fault| fault.api == api && fault.verb == verb)
            .map(|fault| fault.error.clone())
    };
    let gate = |name: &str| case.feature_gates.get(name).copied().unwrap_or_default();
    let controller = &case.controller;
    let settings = Settings {
        tolerance: controller.tolerance,
        downscale_stabilization_seconds: controller.downscale_stabilization_seconds,
        cpu_initialization_seconds: controller.cpu_initialization_period_seconds,
        initial_readiness_delay_seconds: controller.initial_readiness_delay_seconds,
        scale_up_limit_factor: controller.legacy_scale_up_limit_factor,
        scale_up_limit_minimum: controller.legacy_scale_up_limit_minimum,
        scale_to_zero: gate("HPAScaleToZero"),
        configurable_tolerance: gate("HPAConfigurableTolerance"),
        ..Settings::default()
    };
    let (faulty_resource, faulty_custom, faulty_external) = (
        fault("resourceMetrics", "list"),
        fault("customMetrics", "get"),
        fault("externalMetrics", "list"),
    );
    let faulty_read = fault("scale", "get");
    let write_error = fault("scale", "update");
    let readings = readings(&case, now, faulty_custom, faulty_external)?;
    let mut spec = case.hpa.spec;
    spec.behavior = case.hpa.behavior_defaulted.or(spec.behavior);
    let recommendations = case
        .prior_recommendations
        .map(|list| {
            list.iter()
                .map(|past| {
                    Ok(Recommendation {
                        replicas: past.replicas,
                        at: time(past.timestamp)?,
                    })
                })
                .collect::<Result<Vec<_>, String>>()
        })
        .transpose()?;
    let inputs = Inputs {
        now,
        settings,
        hpa: Hpa {
            namespace: case.hpa.namespace,
            name: case.hpa.name,
            generation: None,
            spec,
            status: status(case.hpa.status),
        },
        scale: match faulty_read {
            Some(error) => Err(Failure::new(error)),
            None => Ok(Scale {
                spec_replicas: case.scale.spec_replicas,
                status_replicas: case.scale.status_replicas,
                selector: case.scale.selector,
            }),
        },
        pods: case
            .pods
            .into_iter()
            .map(|pod| pod.pod("cpu"))
            .collect::<Result<_, _>>()?,
        pod_usage: match faulty_resource {
            Some(error) => Reading::Failed(error),
            None => Reading::Values(
                case.resource_metrics
                    .into_iter()
                    .map(|usage| usage.usage("cpu"))
                    .collect::<Result<_, _>>()?,
            ),
        },
        metrics: readings,
        others: case.others.into_iter().map(other).collect(),
        state: State {
            recommendations,
            ..State::default()
        },
    };
    let decision = match write_error {
        Some(error) => hpa::decide_after_failed_write(&inputs, &error),
        None => hpa::decide(&inputs),
    };
    Ok(compare(case.expected, &decision))
}

fn other(other: CaseOther) -> OtherAutoscaler {
    let labels: Vec<String> = other
        .match_labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    OtherAutoscaler {
        name: other.name,
        selector: labels.join(","),
    }
}

fn status(status: CaseStatus) -> HorizontalPodAutoscalerStatus {
    let conditions =
        status
            .conditions
            .into_iter()
            .map(|condition| HorizontalPodAutoscalerCondition {
                type_: condition.kind,
                status: condition.status,
                reason: Some(condition.reason),
                ..Default::default()
            });
    HorizontalPodAutoscalerStatus {
        conditions: Some(conditions.collect()),
        current_replicas: Some(status.current_replicas),
        desired_replicas: status.desired_replicas,
        ..Default::default()
    }
}

/// What each metric of the specification reads: the case offers every source, the specification chooses.
fn readings(
    case: &ReconcileCase,
    now: Timestamp,
    custom_fault: Option<String>,
    external_fault: Option<String>,
) -> Result<Vec<MetricReading>, String> {
    let pods: Vec<PodValue> = case
        .custom_pod_metrics
        .iter()
        .flat_map(|metric| &metric.values_milli)
        .map(|value| PodValue {
            pod: value.pod.clone(),
            timestamp: now,
            window_seconds: 60.0,
            value_milli: value.value_milli.unwrap_or_default(),
        })
        .collect();
    let reading = |kind: &str| match kind {
        "Pods" => match &custom_fault {
            Some(error) => MetricReading::Failed(error.clone()),
            None => MetricReading::Pods(pods.clone()),
        },
        "Object" => match (&custom_fault, &case.object_metric) {
            (Some(error), _) => MetricReading::Failed(error.clone()),
            (None, Some(object)) => MetricReading::Object {
                value_milli: object.value_milli,
            },
            (None, None) => MetricReading::NotRead,
        },
        "External" => match (&external_fault, &case.external_metric) {
            (Some(error), _) => MetricReading::Failed(error.clone()),
            (None, Some(external)) => MetricReading::External {
                values_milli: external.values_milli.clone(),
            },
            (None, None) => MetricReading::NotRead,
        },
        _ => MetricReading::NotRead,
    };
    Ok(case
        .hpa
        .spec
        .metrics
        .iter()
        .flatten()
        .map(|metric| reading(&metric.type_))
        .collect())
}

fn compare(expected: ReconcileExpected, decision: &Decision) -> Vec<String> {
    let mut differences = Vec::new();
    let found = &mut differences;
    check(
        found,
        "desiredReplicas",
        expected.desired_replicas,
        &decision.status.desired_replicas,
    );
    check(
        found,
        "scaleUpdated",
        expected.scale_updated,
        &decision.rescale.is_some(),
    );
    check(
        found,
        "statusUpdated",
        expected.status_updated,
        &decision.status_changed,
    );
    let conditions = decision
        .status
        .conditions
        .iter()
        .flatten()
        .map(|condition| CaseCondition {
            kind: condition.type_.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone().unwrap_or_default(),
        })
        .collect();
    check(found, "conditions", expected.conditions, &conditions);
    check(
        found,
        "reconciliationAction",
        expected.reconciliation_action,
        &label(&decision.outcome.action),
    );
    check(
        found,
        "reconciliationError",
        expected.reconciliation_error,
        &label(&decision.outcome.error),
    );
    let actions = decision
        .metrics
        .iter()
        .map(|metric| (metric.source.clone(), label(&metric.outcome.action)))
        .collect();
    check(found, "metricActions", expected.metric_actions, &actions);
    let errors = decision
        .metrics
        .iter()
        .map(|metric| (metric.source.clone(), label(&metric.outcome.error)))
        .collect();
    check(found, "metricErrors", expected.metric_errors, &errors);
    let cpu = decision
        .status
        .current_metrics
        .iter()
        .flatten()
        .find_map(|metric| {
            let resource = metric
                .resource
                .as_ref()
                .filter(|resource| resource.name == "cpu")?;
            resource.current.average_utilization
        });
    check(
        found,
        "currentCPUUtilizationPercent",
        expected.current_cpu.map(Some),
        &cpu,
    );
    if let Some(events) = expected.events {
        check(
            found,
            "number of events",
            Some(events.len()),
            &decision.events.len(),
        );
    }
    differences
}

fn label(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}
