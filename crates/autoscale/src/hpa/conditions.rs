//! Conditions of the status, set in place in the order in which upstream first sets them.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerCondition as Condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The scale can be read and written.
pub const ABLE_TO_SCALE: &str = "AbleToScale";
/// A size can be calculated.
pub const SCALING_ACTIVE: &str = "ScalingActive";
/// A bound or rate holds the size.
pub const SCALING_LIMITED: &str = "ScalingLimited";
/// The autoscaler itself, not a person, set the size to zero.
pub const SCALED_TO_ZERO: &str = "ScaledToZero";

/// The conditions under construction.
pub struct Conditions {
    list: Vec<Condition>,
    now: Timestamp,
}

impl Conditions {
    /// Starts from the conditions of the last status.
    pub fn new(list: Vec<Condition>, now: Timestamp) -> Self {
        Self { list, now }
    }

    /// Sets one condition; its transition time changes only with its status, and a new one goes to the end.
    pub fn set(&mut self, kind: &str, status: bool, reason: &str, message: impl Into<String>) {
        let status = if status { "True" } else { "False" };
        let place = self
            .list
            .iter()
            .position(|condition| condition.type_ == kind)
            .unwrap_or_else(|| {
                self.list.push(Condition {
                    type_: kind.to_owned(),
                    ..Default::default()
                });
                self.list.len() - 1
            });
        let condition = &mut self.list[place];
        if condition.status != status {
            condition.last_transition_time = Some(Time(whole_second(self.now)));
        }
        condition.status = status.to_owned();
        condition.reason = Some(reason.to_owned());
        condition.message = Some(message.into());
    }

    /// Removes one condition.
    pub fn remove(&mut self, kind: &str) {
        self.list.retain(|condition| condition.type_ != kind);
    }

    /// Whether a condition is true.
    pub fn is_true(&self, kind: &str) -> bool {
        self.list
            .iter()
            .any(|condition| condition.type_ == kind && condition.status == "True")
    }

    /// The finished list.
    pub fn finish(self) -> Vec<Condition> {
        self.list
    }
}

/// API times have whole seconds.
pub fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
