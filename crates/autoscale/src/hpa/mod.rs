//! The HorizontalPodAutoscaler's decision, as Kubernetes' controller makes it.
//!
//! [`decide`] is `reconcileAutoscaler` of `pkg/controller/podautoscaler/horizontal.go` without its reads and
//! writes: same arithmetic, same order of conditions, same reasons and messages. Where upstream's prose and code
//! differ, the code is followed: missing pods count as max(100, target) % of their request on the way down, and
//! the ratio multiplies the ready pods, not the current size.
//!
//! Differences, each on purpose: sums saturate where upstream's integers wrap, and the default limit on growth
//! holds per 15 s of wall clock instead of per sync ([`Settings::scale_up_limit_period_seconds`]).

mod behavior;
mod conditions;
mod convert;
mod decision;
mod defaults;
mod ending;
mod explain;
mod field_error;
mod form;
mod inputs;
mod metric;
mod normalize;
mod outside;
mod pods;
mod propose;
mod replicas;
mod run;
mod usage;
mod validate;

pub use behavior::{Rules, change_in_period, remember, scale_down_limit, scale_up_limit};
pub use decision::{
    Action, Adjusted, Arithmetic, Conclusion, Decision, ErrorLabel, Event, EventType,
    MetricFailure, MetricOutcome, Outcome, PodGroups, Proposal, Rescale, Rule, Step, Target,
    Tolerance,
};
pub use defaults::{
    CPU_UTILIZATION_PERCENT, default_behavior, default_spec, scale_down_rules, scale_up_rules,
};
pub use field_error::FieldError;
pub use inputs::{
    Container, ContainerUsage, Failure, Hpa, Inputs, MetricReading, OtherAutoscaler, Pod, PodUsage,
    PodValue, Reading, ReadyCondition, Recommendation, Scale, ScaleEvent, Settings, State,
};
pub use normalize::{
    Bounds, Limited, limit, limit_with_behavior, newest_of_each, stabilize, stabilize_with_behavior,
};
pub use pods::{Sample, Samples, group_pods, requests, resource_samples};
pub use replicas::{Context, by_average, by_utilization, by_value, by_value_per_pod, sum};
pub use usage::{Utilization, average, utilization};
pub use validate::{validate_autoscaler, validate_scale};

use run::Run;

/// Decides. If the decision asks for a rescale, its status, events and state hold once that write succeeded;
/// should it fail, [`decide_after_failed_write`] says what holds instead.
pub fn decide(inputs: &Inputs) -> Decision {
    Run::new(inputs).finish(None)
}

/// What holds when the write of the scale subresource that [`decide`] asked for on the same inputs failed.
pub fn decide_after_failed_write(inputs: &Inputs, error: &str) -> Decision {
    Run::new(inputs).finish(Some(error))
}
