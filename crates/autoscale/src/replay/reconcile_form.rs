//! The form of a case of the `reconcile` table.

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec,
};
use serde::Deserialize;
use serde_json::Value;

use super::common::{CasePod, CaseUsage};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReconcileCase {
    pub feature_gates: BTreeMap<String, bool>,
    pub controller: CaseController,
    pub hpa: CaseHpa,
    pub scale: CaseScale,
    pub pods: Vec<CasePod>,
    pub resource_metrics: Vec<CaseUsage>,
    #[serde(default)]
    pub custom_pod_metrics: Option<CaseValues>,
    #[serde(default)]
    pub object_metric: Option<CaseObject>,
    #[serde(default)]
    pub external_metric: Option<CaseExternal>,
    pub prior_recommendations: Option<Vec<CaseRecommendation>>,
    #[serde(rename = "otherHPASelectors", default)]
    pub others: Vec<CaseOther>,
    #[serde(default)]
    pub faults: Vec<CaseFault>,
    pub expected: ReconcileExpected,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseController {
    pub tolerance: f64,
    pub downscale_stabilization_seconds: i32,
    pub cpu_initialization_period_seconds: i64,
    pub initial_readiness_delay_seconds: i64,
    pub legacy_scale_up_limit_factor: f64,
    pub legacy_scale_up_limit_minimum: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseHpa {
    pub namespace: String,
    pub name: String,
    pub spec: HorizontalPodAutoscalerSpec,
    pub behavior_defaulted: Option<HorizontalPodAutoscalerBehavior>,
    pub status: CaseStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseStatus {
    pub current_replicas: i32,
    pub desired_replicas: i32,
    pub conditions: Vec<CaseCondition>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct CaseCondition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseScale {
    pub spec_replicas: i32,
    pub status_replicas: i32,
    pub selector: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseValues {
    pub values_milli: Vec<CaseUsage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseObject {
    pub value_milli: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseExternal {
    pub values_milli: Vec<i64>,
}

#[derive(Deserialize)]
pub struct CaseRecommendation {
    pub replicas: i32,
    pub timestamp: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseOther {
    pub name: String,
    pub match_labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseFault {
    pub api: String,
    pub verb: String,
    pub error: String,
    #[serde(default)]
    pub only_attempt: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReconcileExpected {
    #[serde(default)]
    pub desired_replicas: Option<i32>,
    #[serde(default)]
    pub scale_updated: Option<bool>,
    #[serde(default)]
    pub status_updated: Option<bool>,
    #[serde(default)]
    pub conditions: Option<Vec<CaseCondition>>,
    #[serde(default)]
    pub reconciliation_action: Option<String>,
    #[serde(default)]
    pub reconciliation_error: Option<String>,
    #[serde(default)]
    pub metric_actions: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub metric_errors: Option<BTreeMap<String, String>>,
    #[serde(rename = "currentCPUUtilizationPercent", default)]
    pub current_cpu: Option<i32>,
    #[serde(default)]
    pub events: Option<Vec<Value>>,
}
