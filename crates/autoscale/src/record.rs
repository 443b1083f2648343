//! A kept decision: the object of an API group of our own in which it is stored, read and replayed.
//!
//! The form is data only; who writes and serves it is the controllers' and the API server's. What can be calculated
//! from the inputs is kept too (the decision, and its sentences), so that a later version that decides otherwise is
//! seen to do so, and `kubectl` users read it without our program.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::hpa::{Decision, Inputs, Rule, State, newest_of_each};

/// The API group.
pub const GROUP: &str = "autoscaling.plimsoll.dev";
/// The only version.
pub const VERSION: &str = "v1alpha1";
/// The kind.
pub const KIND: &str = "ScalingDecision";
/// The resource.
pub const PLURAL: &str = "scalingdecisions";
/// Label with the autoscaler's name, where the name is short enough for a label.
pub const LABEL: &str = "autoscaling.plimsoll.dev/autoscaler";

/// Pods whose times are kept per decision.
pub const PODS_MAX: usize = 100;
/// Longest text of one field, in characters.
const TEXT_MAX: usize = 2000;

/// `spec` of a ScalingDecision: what was decided, from what, and why. It never changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The autoscaler's name.
    pub autoscaler: String,
    /// `KIND/NAME` of what it scales.
    pub target: String,
    /// When it was decided.
    pub time: Timestamp,
    /// Replicas before, if the target could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<i32>,
    /// Replicas after; the same as before when the size stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<i32>,
    /// Why, in upstream's words or by upstream's reason.
    pub reason: String,
    /// The short form: one sentence with the numbers.
    pub message: String,
    /// Each metric's arithmetic, a sentence each.
    #[serde(default)]
    pub metrics: Vec<String>,
    /// Each rule that set, changed or confirmed the number, a sentence each.
    #[serde(default)]
    pub rules: Vec<String>,
    /// What went wrong, if anything did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What it was decided from; absent when it would have been too large to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Value>,
    /// What was concluded, without what is remembered for the next decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Value>,
}

/// `status` of a ScalingDecision: what became of the pods that it asked for. Times are milliseconds since the decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Followed {
    /// How far it is.
    pub phase: Phase,
    /// New pods that were asked for.
    pub wanted_pods: i32,
    /// Those that became ready.
    pub ready_pods: i32,
    /// Until the last of them was scheduled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled_ms: Option<i64>,
    /// Until the last of them had started all containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<i64>,
    /// Until the last of them was ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_ms: Option<i64>,
    /// Why it is not further, if somebody said so.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Each pod, in the order of their coming; at most [`PODS_MAX`].
    pub pods: Vec<PodTimes>,
}

/// How far the pods of a decision are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Not all of them are ready.
    #[default]
    Waiting,
    /// All of them became ready, or none was asked for.
    Complete,
    /// They were no longer waited for: too much time has passed, or they were removed.
    Ended,
}

/// One new pod's way, in milliseconds since the decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodTimes {
    /// Its name.
    pub name: String,
    /// Until it was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_ms: Option<i64>,
    /// Until it had a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled_ms: Option<i64>,
    /// Until all its containers ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<i64>,
    /// Until it was ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_ms: Option<i64>,
}

impl Record {
    /// The record of a decision. Inputs that take more than `inputs_bytes_max` as JSON are left out.
    pub fn new(inputs: &Inputs, decision: &Decision, inputs_bytes_max: usize) -> Self {
        let reference = &inputs.hpa.spec.scale_target_ref;
        let (from, to) = match &decision.rescale {
            Some(rescale) => (Some(rescale.from), Some(rescale.to)),
            None => (decision.current, decision.current),
        };
        let mut inputs = inputs.clone();
        inputs.state = inputs.state.reduced();
        let small = |value: &Value| value.to_string().len() <= inputs_bytes_max;
        Self {
            autoscaler: inputs.hpa.name.clone(),
            target: format!("{}/{}", reference.kind, reference.name),
            time: decision.at,
            from,
            to,
            reason: short(&reason(decision)),
            message: short(&decision.summary()),
            metrics: decision
                .metrics
                .iter()
                .map(|metric| short(&metric.sentence()))
                .collect(),
            rules: decision
                .steps
                .iter()
                .map(|step| short(&step.sentence()))
                .collect(),
            error: decision.error.as_deref().map(short),
            inputs: serde_json::to_value(&inputs).ok().filter(small),
            decision: concluded(decision).filter(small),
        }
    }

    /// Whether the size was changed.
    pub fn is_rescale(&self) -> bool {
        self.from != self.to
    }
}

/// A decision as it is kept: without what is remembered for the next one.
pub fn concluded(decision: &Decision) -> Option<Value> {
    let mut value = serde_json::to_value(decision).ok()?;
    value.as_object_mut()?.remove("state");
    Some(value)
}

/// What makes one decision differ from another for a person: the error (without its numbers), each condition's
/// status and reason, and the metrics that failed. Measured values do not count.
pub fn gist(decision: &Decision) -> String {
    let mut parts: Vec<String> = Vec::new();
    for condition in decision.status.conditions.iter().flatten() {
        let reason = condition.reason.as_deref().unwrap_or_default();
        // A size that was just changed is told by the change itself; a moment later it is as before.
        let reason = match reason {
            "SucceededRescale" => "ReadyForNewScale",
            other => other,
        };
        parts.push(format!("{}={}:{reason}", condition.type_, condition.status));
    }
    for metric in &decision.metrics {
        if let Err(failure) = &metric.result {
            parts.push(format!("{}!{}", metric.source, failure.reason));
        }
    }
    if let Some(error) = &decision.error {
        let digits_alike: String = error
            .chars()
            .map(|c| if c.is_ascii_digit() { '#' } else { c })
            .collect();
        parts.push(short(&digits_alike));
    }
    parts.join(" ")
}

/// Upstream's reason for a change; else the reason of what is wrong, holds or limits; else that all is well.
fn reason(decision: &Decision) -> String {
    if let Some(rescale) = &decision.rescale {
        return rescale.reason.clone();
    }
    let conditions = || decision.status.conditions.iter().flatten();
    let of = |kind: &str, status: &str| {
        conditions()
            .find(|condition| condition.type_ == kind && condition.status == status)
            .and_then(|condition| condition.reason.clone())
    };
    let held = decision
        .steps
        .iter()
        .any(|step| matches!(step.rule, Rule::Stabilized { .. }));
    of("AbleToScale", "False")
        .or_else(|| of("ScalingActive", "False"))
        .or_else(|| of("AbleToScale", "True").filter(|_| held))
        .or_else(|| of("ScalingLimited", "True"))
        .or_else(|| of("ScalingLimited", "False"))
        .unwrap_or_default()
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

impl State {
    /// The same for every decision, and small: of equal recommendations only the newest matters, since a window that
    /// holds an older one holds it too.
    pub fn reduced(&self) -> Self {
        let mut state = self.clone();
        let all = self.recommendations.as_deref();
        state.recommendations = all.map(newest_of_each);
        state
    }
}

impl Followed {
    /// What a decision begins with: new pods are waited for if it asked for some.
    pub fn begin(record: &Record) -> Self {
        let wanted = match (record.from, record.to) {
            (Some(from), Some(to)) => to.saturating_sub(from).max(0),
            _ => 0,
        };
        Self {
            phase: if wanted > 0 {
                Phase::Waiting
            } else {
                Phase::Complete
            },
            wanted_pods: wanted,
            ..Self::default()
        }
    }

    /// Brings the totals in line with the pods.
    pub fn summarize(&mut self) {
        let wanted = usize::try_from(self.wanted_pods).unwrap_or(0).min(PODS_MAX);
        // A total is known once every pod has come so far.
        let slowest = |of: fn(&PodTimes) -> Option<i64>| {
            let times: Option<Vec<i64>> = self.pods.iter().map(of).collect();
            times
                .filter(|times| times.len() >= wanted)
                .and_then(|times| times.into_iter().max())
        };
        let totals = (
            slowest(|pod| pod.scheduled_ms),
            slowest(|pod| pod.started_ms),
            slowest(|pod| pod.ready_ms),
        );
        (self.scheduled_ms, self.started_ms, self.ready_ms) = totals;
        let ready = self
            .pods
            .iter()
            .filter(|pod| pod.ready_ms.is_some())
            .count();
        self.ready_pods = i32::try_from(ready).unwrap_or(i32::MAX);
        if self.phase == Phase::Waiting && self.ready_ms.is_some() {
            self.phase = Phase::Complete;
            self.message.clear();
        }
    }

    /// The new pods' way in one sentence; nothing if none was asked for.
    pub fn sentence(&self) -> Option<String> {
        if self.wanted_pods == 0 {
            return None;
        }
        let pods = match self.wanted_pods {
            1 => "1 new pod".to_owned(),
            several => format!("{several} new pods"),
        };
        let so_far = |ms: Option<i64>, what: &str| Some(format!("{what} after {}", seconds(ms?)));
        let steps: Vec<String> = [
            so_far(self.scheduled_ms, "scheduled"),
            so_far(self.started_ms, "started"),
            so_far(self.ready_ms, "ready"),
        ]
        .into_iter()
        .flatten()
        .collect();
        let mut text = match (self.phase, self.wanted_pods) {
            (Phase::Complete, 1) => format!("{pods}, {}", steps.join(", ")),
            (Phase::Complete, _) => format!("{pods}, the slowest {}", steps.join(", ")),
            (phase, _) => {
                let ready = self.ready_pods;
                let mut text = match phase {
                    Phase::Ended => format!("{ready} of {pods} ready when no longer waited for"),
                    _ => format!("{ready} of {pods} ready so far"),
                };
                if !steps.is_empty() {
                    text.push_str(&format!(" ({})", steps.join(", ")));
                }
                text
            }
        };
        if !self.message.is_empty() {
            text.push_str(&format!(": {}", self.message));
        }
        Some(text)
    }
}

/// Milliseconds between a decision and a later time; a clock that was set back gives 0.
pub fn milliseconds_since(decision: Timestamp, later: Timestamp) -> i64 {
    let passed: SignedDuration = later.duration_since(decision);
    i64::try_from(passed.as_millis()).unwrap_or(i64::MAX).max(0)
}

/// A time as a person reads it: `0.42 s`, `12.3 s`, `90 s`.
pub fn seconds(milliseconds: i64) -> String {
    let seconds = milliseconds as f64 / 1000.0;
    match milliseconds {
        ..10_000 => format!("{seconds:.2} s"),
        10_000..60_000 => format!("{seconds:.1} s"),
        _ => format!("{seconds:.0} s"),
    }
}
