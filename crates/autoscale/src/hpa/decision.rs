//! What a decision concluded and why, as data; `explain` turns it into sentences.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerStatus;
use serde::{Deserialize, Serialize};

use super::inputs::State;

/// The result of [`super::decide`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// When it was made.
    pub at: Timestamp,
    /// Replicas the target had (`spec.replicas` of its scale), if the scale could be read.
    pub current: Option<i32>,
    /// Replicas the target is to have; `None` when nothing could be decided and the size stays.
    pub desired: Option<i32>,
    /// The write of the scale subresource to make, if any.
    pub rescale: Option<Rescale>,
    /// Each metric's arithmetic, in the order of the specification.
    pub metrics: Vec<MetricOutcome>,
    /// Every rule that set, changed or confirmed the number, in order.
    pub steps: Vec<Step>,
    /// The new status, complete, conditions in upstream's order.
    pub status: HorizontalPodAutoscalerStatus,
    /// Whether the new status differs from the one read.
    pub status_changed: bool,
    /// Events to emit on the autoscaler, in order.
    pub events: Vec<Event>,
    /// What to pass to the next decision; not kept with a recorded one.
    #[serde(default)]
    pub state: State,
    /// The error that upstream's reconcile would return.
    pub error: Option<String>,
    /// Labels of upstream's reconciliation metrics.
    pub outcome: Outcome,
}

/// A write of the scale subresource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rescale {
    /// Replicas before.
    pub from: i32,
    /// Replicas after.
    pub to: i32,
    /// Upstream's reason, as the SuccessfulRescale event carries it.
    pub reason: String,
}

/// What one metric proposed, or why it could not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricOutcome {
    /// Type of the metric's source (`Resource`, ...).
    pub source: String,
    /// Upstream's name of the metric in messages (`cpu resource utilization (percentage of request)`).
    pub name: String,
    /// The proposal with its arithmetic, or the failure.
    #[serde(with = "super::form::proposal")]
    pub result: Result<Proposal, MetricFailure>,
    /// Labels of upstream's metric-computation metrics.
    pub outcome: Outcome,
}

/// A metric's proposal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proposal {
    /// Replicas proposed.
    pub replicas: i32,
    /// How it was calculated.
    pub arithmetic: Arithmetic,
}

/// Why a metric gave no proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricFailure {
    /// Reason of the condition (`FailedGetResourceMetric`).
    pub reason: String,
    /// Text of the condition and of the event.
    pub message: String,
}

/// The numbers behind one proposal. Values are thousandths of the metric's unit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Arithmetic {
    /// What the metric is compared with.
    pub target: Option<Target>,
    /// Pods by how they counted; `None` where pods do not matter.
    pub pods: Option<PodGroups>,
    /// Sum over the measured pods, the object's value, or the sum of all series.
    pub usage_milli: i64,
    /// Sum of the requests of the measured pods (utilisation targets).
    pub requests_milli: Option<i64>,
    /// Usage as a percentage of requests (utilisation targets).
    pub utilization_percent: Option<i32>,
    /// Average per pod.
    pub average_milli: Option<i64>,
    /// Usage divided by target.
    pub ratio: f64,
    /// The band in which nothing changes.
    pub tolerance: Tolerance,
    /// The second calculation, with assumed values for missing and unready pods.
    pub adjusted: Option<Adjusted>,
    /// The count that the ratio was multiplied with.
    pub multiplied_with: Option<i64>,
    /// How the number came about.
    pub conclusion: Conclusion,
}

/// A metric's target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// Percentage of the requests.
    UtilizationPercent(i32),
    /// Average per pod, in thousandths.
    AverageMilli(i64),
    /// One value for the object or metric, in thousandths.
    ValueMilli(i64),
}

/// Relative deviations of the usage ratio that change nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tolerance {
    /// Downwards, as a fraction.
    pub scale_down: f64,
    /// Upwards, as a fraction.
    pub scale_up: f64,
}

impl Tolerance {
    /// Whether `ratio` is close enough to 1. Never for a ratio that is not a number.
    pub fn contains(&self, ratio: f64) -> bool {
        (1.0 - self.scale_down) <= ratio && ratio <= (1.0 + self.scale_up)
    }
}

/// Pods by how they count, names sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodGroups {
    /// Number of pods that count as they are.
    pub ready: usize,
    /// Not ready, or (for CPU) too young for their sample to mean anything.
    pub unready: Vec<String>,
    /// Running without a sample.
    pub missing: Vec<String>,
    /// Being deleted, or failed.
    pub ignored: Vec<String>,
}

/// The second calculation over assumed values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Adjusted {
    /// What missing pods were assumed to use, as a percentage of their request or of the target.
    pub missing_percent: Option<i64>,
    /// Whether unready pods were counted as using nothing.
    pub unready_as_zero: bool,
    /// The new ratio.
    pub ratio: f64,
}

/// How a proposal came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Conclusion {
    /// The ratio times the pod count, rounded up.
    #[default]
    Multiplied,
    /// The value divided by the target per pod, rounded up.
    Divided,
    /// Within tolerance: the size stays.
    WithinTolerance,
    /// Assumed values would have turned the direction round: the size stays.
    WouldReverse,
}

/// One rule's effect on the number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Replicas before the rule.
    pub before: i32,
    /// Replicas after it.
    pub after: i32,
    /// The rule.
    pub rule: Rule,
}

/// Rules that set, change or confirm the number of replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Rule {
    /// The target has no replicas and was not scaled to zero by the autoscaler: it is paused.
    Disabled,
    /// The target has more than the maximum; metrics are not asked.
    AboveMaximum {
        /// `spec.maxReplicas`.
        maximum: i32,
    },
    /// The target has less than the minimum; metrics are not asked.
    BelowMinimum {
        /// `spec.minReplicas`.
        minimum: i32,
    },
    /// The highest proposal of all metrics.
    HighestProposal {
        /// The metric's name.
        metric: String,
        /// Metrics that gave none.
        invalid: usize,
    },
    /// No metric could be used, or some could not and the rest would scale down: the size stays.
    MetricsInvalid {
        /// Metrics that gave no proposal.
        invalid: usize,
        /// Metrics in all.
        total: usize,
    },
    /// A recent recommendation holds the number.
    Stabilized {
        /// Whether a scale-down (else a scale-up) was held back.
        down: bool,
        /// Length of the window.
        window_seconds: i32,
    },
    /// Growth faster than allowed.
    ScaleUpLimit {
        /// The most that was allowed now.
        limit: i32,
        /// Size at the start of the period (default limit) or the current size.
        from: i32,
    },
    /// Shrinking faster than allowed.
    ScaleDownLimit {
        /// The least that was allowed now.
        limit: i32,
    },
    /// `spec.maxReplicas`.
    Maximum {
        /// The bound.
        maximum: i32,
    },
    /// `spec.minReplicas`.
    Minimum {
        /// The bound.
        minimum: i32,
    },
    /// The write of the scale subresource failed.
    WriteFailed {
        /// Why.
        error: String,
    },
}

/// An event to emit on the autoscaler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Its type.
    pub kind: EventType,
    /// Its reason.
    pub reason: String,
    /// Its message.
    pub message: String,
}

/// Types of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventType {
    /// Something expected.
    Normal,
    /// Something to look at.
    Warning,
}

impl EventType {
    /// The text that the API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Labels under which upstream counts reconciliations and metric computations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// `action`.
    pub action: Action,
    /// `error`.
    pub error: ErrorLabel,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing.
    #[default]
    None,
    /// Grew.
    ScaleUp,
    /// Shrank.
    ScaleDown,
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorLabel {
    /// There was none.
    #[default]
    None,
    /// The specification's.
    Spec,
    /// Anything else.
    Internal,
}
