//! Everything one decision of the HorizontalPodAutoscaler is made from, as plain data.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus,
};
use serde::{Deserialize, Serialize};

/// The inputs of one decision. Equal inputs give equal decisions.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inputs {
    /// The time of the decision.
    pub now: Timestamp,
    /// The controller's settings.
    #[serde(default)]
    pub settings: Settings,
    /// The autoscaler as read.
    pub hpa: Hpa,
    /// What reading the target's scale subresource gave.
    #[serde(with = "super::form::scale")]
    pub scale: Result<Scale, Failure>,
    /// Pods of the namespace; those that the scale's selector does not select are left out of account.
    #[serde(default)]
    pub pods: Vec<Pod>,
    /// Usage of the pods, read once for all `Resource` and `ContainerResource` metrics.
    #[serde(default)]
    pub pod_usage: Reading<Vec<PodUsage>>,
    /// What was read for each entry of `spec.metrics`, by position; resource metrics have [`MetricReading::NotRead`].
    #[serde(default)]
    pub metrics: Vec<MetricReading>,
    /// Other autoscalers of the namespace and what they select.
    #[serde(default)]
    pub others: Vec<OtherAutoscaler>,
    /// What earlier decisions left behind.
    #[serde(default)]
    pub state: State,
}

/// The parts of a HorizontalPodAutoscaler object that matter.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hpa {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `metadata.generation`, recorded in the status.
    #[serde(default)]
    pub generation: Option<i64>,
    /// The autoscaling/v2 specification; what the API server defaults is defaulted here too.
    pub spec: HorizontalPodAutoscalerSpec,
    /// The status before this decision.
    #[serde(default)]
    pub status: HorizontalPodAutoscalerStatus,
}

/// The scale subresource of the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scale {
    /// `spec.replicas`.
    pub spec_replicas: i32,
    /// `status.replicas`.
    pub status_replicas: i32,
    /// `status.selector`, in text form.
    pub selector: String,
}

/// Why something could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The error text, which ends up in conditions and events.
    pub message: String,
}

impl Failure {
    /// A failure with this text.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

/// The controller's settings; defaults are kube-controller-manager's of Kubernetes 1.37.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// Deviation of the usage ratio from 1 that changes nothing.
    pub tolerance: f64,
    /// Window in which the highest recommendation holds when scaling down.
    pub downscale_stabilization_seconds: i32,
    /// Time after a pod's start in which its CPU samples count only if taken while it was ready.
    pub cpu_initialization_seconds: i64,
    /// Time after a pod's start in which turning unready means that it was never ready.
    pub initial_readiness_delay_seconds: i64,
    /// Without `behavior`, growth is limited to this factor ...
    pub scale_up_limit_factor: f64,
    /// ... or to this number of replicas, whichever is more.
    pub scale_up_limit_minimum: f64,
    /// The wall-clock period over which the limit without `behavior` holds. Upstream applies it per sync, which
    /// is 15 s apart; `None` does exactly that, whatever the time between two decisions.
    pub scale_up_limit_period_seconds: Option<i32>,
    /// Feature gate HPAScaleToZero.
    pub scale_to_zero: bool,
    /// Feature gate HPAConfigurableTolerance.
    pub configurable_tolerance: bool,
    /// Feature gate PodLevelResources.
    pub pod_level_resources: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tolerance: 0.1,
            downscale_stabilization_seconds: 300,
            cpu_initialization_seconds: 300,
            initial_readiness_delay_seconds: 30,
            scale_up_limit_factor: 2.0,
            scale_up_limit_minimum: 4.0,
            scale_up_limit_period_seconds: Some(15),
            scale_to_zero: true,
            configurable_tolerance: true,
            pod_level_resources: true,
        }
    }
}

/// A pod, reduced to what grouping and requests need.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// Name, unique in the namespace.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `status.phase`.
    pub phase: String,
    /// Whether a deletion timestamp is set.
    pub deleted: bool,
    /// `status.startTime`.
    pub start_time: Option<Timestamp>,
    /// The Ready condition.
    pub ready: Option<ReadyCondition>,
    /// Ordinary containers.
    pub containers: Vec<Container>,
    /// Init containers that keep running (`restartPolicy: Always`).
    pub sidecars: Vec<Container>,
    /// Requests at pod level, in thousandths by resource name; `None` when the pod sets none.
    pub pod_requests_milli: Option<BTreeMap<String, i64>>,
}

/// A pod's Ready condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadyCondition {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// When the status last changed.
    pub last_transition: Timestamp,
}

/// A container's name and requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Name, unique in the pod.
    pub name: String,
    /// Requests in thousandths by resource name.
    #[serde(default)]
    pub requests_milli: BTreeMap<String, i64>,
}

/// One pod's entry of `metrics.k8s.io`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodUsage {
    /// The pod's name.
    pub pod: String,
    /// End of the window.
    pub timestamp: Timestamp,
    /// Length of the window.
    pub window_seconds: f64,
    /// Usage per container.
    pub containers: Vec<ContainerUsage>,
}

/// What one container uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerUsage {
    /// The container's name.
    pub name: String,
    /// Usage in thousandths by resource name; memory is thousandths of a byte.
    pub usage_milli: BTreeMap<String, i64>,
}

/// The result of a read that may not have been attempted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reading<T> {
    /// Nothing needed it.
    #[default]
    NotRead,
    /// It failed with this text.
    Failed(String),
    /// What was read.
    Values(T),
}

/// What was read for one metric of the specification.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum MetricReading {
    /// A resource metric, or one whose source was not asked.
    #[default]
    NotRead,
    /// The source failed with this text.
    Failed(String),
    /// One value per pod (`Pods` metrics).
    Pods(Vec<PodValue>),
    /// One value for the described object (`Object` metrics), in thousandths.
    Object {
        /// The value.
        value_milli: i64,
    },
    /// All series that the selector matched (`External` metrics), in thousandths.
    External {
        /// Their values; they are added up.
        values_milli: Vec<i64>,
    },
}

/// One pod's value of a `Pods` metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodValue {
    /// The pod's name.
    pub pod: String,
    /// When it was measured.
    pub timestamp: Timestamp,
    /// The window it was measured over; 60 where the source tells none.
    pub window_seconds: f64,
    /// The value in thousandths.
    pub value_milli: i64,
}

/// Another autoscaler of the namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OtherAutoscaler {
    /// Its name.
    pub name: String,
    /// What its target selects, in text form; text that does not parse selects nothing.
    pub selector: String,
}

/// What the controller remembers between decisions. It is lost at a restart, as upstream's: the first decision
/// then records the current size as the first recommendation, which the stabilisation window holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// Recommendations before stabilisation; `None` until the first decision.
    pub recommendations: Option<Vec<Recommendation>>,
    /// Past increases, kept while `behavior` is set.
    pub scale_ups: Vec<ScaleEvent>,
    /// Past decreases, kept while `behavior` is set.
    pub scale_downs: Vec<ScaleEvent>,
    /// Past increases without `behavior`, for the wall-clock period of the default limit.
    pub default_scale_ups: Vec<ScaleEvent>,
}

/// One recommendation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recommendation {
    /// Replicas recommended.
    pub replicas: i32,
    /// When.
    pub at: Timestamp,
}

/// One change of size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaleEvent {
    /// Size of the change, positive in either direction.
    pub change: i32,
    /// When.
    pub at: Timestamp,
    /// Older than any policy's period: the next event takes its place.
    #[serde(default)]
    pub outdated: bool,
}
