//! Tables of whole decisions, and of validation.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerSpec,
    HorizontalPodAutoscalerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;
use serde_json::Value;

use super::common::{CasePod, CaseUsage, Differences, check, check_error, parse, time};
use crate::hpa::{
    self, Decision, Failure, Hpa, Inputs, MetricReading, OtherAutoscaler, PodValue, Reading,
    Recommendation, Scale, Settings, State,
};
use crate::quantity::{Quantity, status_text};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReconcileCase {
    feature_gates: BTreeMap<String, bool>,
    controller: CaseController,
    hpa: CaseHpa,
    scale: CaseScale,
    pods: Vec<CasePod>,
    resource_metrics: Vec<CaseUsage>,
    #[serde(default)]
    custom_pod_metrics: Option<CaseValues>,
    #[serde(default)]
    object_metric: Option<CaseObject>,
    #[serde(default)]
    external_metric: Option<CaseExternal>,
    prior_recommendations: Option<Vec<CaseRecommendation>>,
    #[serde(rename = "otherHPASelectors", default)]
    others: Vec<CaseOther>,
    #[serde(default)]
    faults: Vec<CaseFault>,
    expected: ReconcileExpected,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseController {
    tolerance: f64,
    downscale_stabilization_seconds: i32,
    cpu_initialization_period_seconds: i64,
    initial_readiness_delay_seconds: i64,
    legacy_scale_up_limit_factor: f64,
    legacy_scale_up_limit_minimum: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseHpa {
    namespace: String,
    name: String,
    spec: HorizontalPodAutoscalerSpec,
    behavior_defaulted: Option<HorizontalPodAutoscalerBehavior>,
    status: CaseStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseStatus {
    current_replicas: i32,
    desired_replicas: i32,
    last_scale_time: Option<i64>,
    conditions: Vec<CaseCondition>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct CaseCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseScale {
    spec_replicas: i32,
    status_replicas: i32,
    selector: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseValues {
    values_milli: Vec<CaseUsage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseObject {
    value_milli: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseExternal {
    values_milli: Vec<i64>,
}

#[derive(Deserialize)]
struct CaseRecommendation {
    replicas: i32,
    timestamp: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseOther {
    name: String,
    match_labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseFault {
    api: String,
    verb: String,
    error: String,
    #[serde(default)]
    only_attempt: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReconcileExpected {
    #[serde(default)]
    desired_replicas: Option<i32>,
    #[serde(default)]
    scale_updated: Option<bool>,
    #[serde(default)]
    status_updated: Option<bool>,
    #[serde(default)]
    conditions: Option<Vec<CaseCondition>>,
    #[serde(default)]
    reconciliation_action: Option<String>,
    #[serde(default)]
    reconciliation_error: Option<String>,
    #[serde(default)]
    metric_actions: Option<BTreeMap<String, String>>,
    #[serde(default)]
    metric_errors: Option<BTreeMap<String, String>>,
    #[serde(rename = "currentCPUUtilizationPercent", default)]
    current_cpu: Option<i32>,
    #[serde(default)]
    events: Option<Vec<Value>>,
}

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
        scale_up_limit_period_seconds: None,
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
            status: status(case.hpa.status)?,
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
    let decision = hpa::decide(&inputs);
    let decision = match write_error {
        Some(error) if decision.rescale.is_some() => {
            hpa::decide_after_failed_write(&inputs, &error)
        }
        _ => decision,
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

fn status(status: CaseStatus) -> Result<HorizontalPodAutoscalerStatus, String> {
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
    Ok(HorizontalPodAutoscalerStatus {
        conditions: Some(conditions.collect()),
        current_replicas: Some(status.current_replicas),
        desired_replicas: status.desired_replicas,
        last_scale_time: status
            .last_scale_time
            .map(|at| time(at).map(Time))
            .transpose()?,
        ..Default::default()
    })
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QuantityCase {
    resource_name: String,
    raw_proposal_milli: i64,
    expected: QuantityExpected,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QuantityExpected {
    milli_value: i64,
    format: String,
}

pub fn build_quantity(case: &Value) -> Differences {
    let case: QuantityCase = parse(case)?;
    let text = status_text(&case.resource_name, case.raw_proposal_milli);
    let read = Quantity::parse(&text).map_err(|error| error.to_string())?;
    let format = if text.ends_with('i') {
        "BinarySI"
    } else {
        "DecimalSI"
    };
    let mut differences = Vec::new();
    check(
        &mut differences,
        "milliValue",
        Some(case.expected.milli_value),
        &read.milli_value(),
    );
    check(
        &mut differences,
        "format",
        Some(case.expected.format),
        &format.to_owned(),
    );
    Ok(differences)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ValidateCase<T> {
    object: T,
    min_replicas_lower_bound: i32,
    expected: ValidateExpected,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ValidateExpected {
    valid: bool,
    #[serde(default)]
    first_error_contains: Option<String>,
}

#[derive(Deserialize)]
struct SpecObject {
    spec: HorizontalPodAutoscalerSpec,
}

#[derive(Deserialize)]
struct ScaleObject {
    spec: ScaleSpec,
}

#[derive(Deserialize)]
struct ScaleSpec {
    replicas: i32,
}

pub fn validate(case: &Value) -> Differences {
    let case: ValidateCase<SpecObject> = parse(case)?;
    let errors = hpa::validate_autoscaler(&case.object.spec, case.min_replicas_lower_bound);
    Ok(compare_errors(&case.expected, &errors))
}

pub fn validate_scale(case: &Value) -> Differences {
    let case: ValidateCase<ScaleObject> = parse(case)?;
    Ok(compare_errors(
        &case.expected,
        &hpa::validate_scale(case.object.spec.replicas),
    ))
}

fn compare_errors(expected: &ValidateExpected, errors: &[hpa::FieldError]) -> Vec<String> {
    let mut differences = Vec::new();
    check(
        &mut differences,
        "valid",
        Some(expected.valid),
        &errors.is_empty(),
    );
    let first = errors.first().map(ToString::to_string);
    check_error(
        &mut differences,
        expected.first_error_contains.as_deref(),
        first.as_deref(),
    );
    differences
}

#[derive(Deserialize)]
struct DecisionCase {
    inputs: Inputs,
    #[serde(default)]
    expected: Option<DecisionExpected>,
}

#[derive(Deserialize)]
struct DecisionExpected {
    #[serde(default)]
    desired: Option<i32>,
}

pub fn decision(case: &Value) -> Differences {
    let case: DecisionCase = parse(case)?;
    let decision = hpa::decide(&case.inputs);
    let mut differences = Vec::new();
    let expected = case.expected.and_then(|expected| expected.desired);
    check(
        &mut differences,
        "desired",
        expected.map(Some),
        &decision.desired,
    );
    Ok(differences)
}
