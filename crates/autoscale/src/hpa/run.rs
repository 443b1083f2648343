//! One decision in the making: from the scale to a verdict about the size.
//!
//! Source followed: `reconcileAutoscaler` and `normalizeDesiredReplicas*` of `pkg/controller/podautoscaler/horizontal.go`.

use std::cmp::Ordering;

use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, MetricStatus,
};

use super::behavior::Rules;
use super::conditions::{
    ABLE_TO_SCALE, Conditions, SCALED_TO_ZERO, SCALING_ACTIVE, SCALING_LIMITED,
};
use super::decision::{Decision, Event, EventType, MetricOutcome, Rescale, Rule, Step};
use super::defaults::default_spec;
use super::inputs::{Inputs, Recommendation, Scale, State};
use super::normalize::{Bounds, limit, limit_with_behavior, stabilize, stabilize_with_behavior};

/// One decision in the making.
pub struct Run<'a> {
    pub(super) inputs: &'a Inputs,
    pub(super) spec: HorizontalPodAutoscalerSpec,
    pub(super) conditions: Conditions,
    pub(super) events: Vec<Event>,
    pub(super) steps: Vec<Step>,
    pub(super) metrics: Vec<MetricOutcome>,
    pub(super) statuses: Option<Vec<MetricStatus>>,
    pub(super) state: State,
    /// What upstream's reconcile returns; it counts every such error as internal, also those of the specification.
    pub(super) error: Option<String>,
}

/// Where the number comes from: a size to set with upstream's reason, or the end of the decision.
enum Verdict {
    Set { replicas: i32, reason: String },
    Keep,
    Abort,
}

impl<'a> Run<'a> {
    pub(super) fn new(inputs: &'a Inputs) -> Self {
        let mut spec = inputs.hpa.spec.clone();
        default_spec(&mut spec);
        if let Some(down) = spec
            .behavior
            .as_mut()
            .and_then(|behavior| behavior.scale_down.as_mut())
        {
            down.stabilization_window_seconds
                .get_or_insert(inputs.settings.downscale_stabilization_seconds);
        }
        Self {
            inputs,
            spec,
            conditions: Conditions::new(
                inputs.hpa.status.conditions.clone().unwrap_or_default(),
                inputs.now,
            ),
            events: Vec::new(),
            steps: Vec::new(),
            metrics: Vec::new(),
            statuses: None,
            state: inputs.state.clone(),
            error: None,
        }
    }

    pub(super) fn finish(mut self, write_error: Option<&str>) -> Decision {
        let scale = match &self.inputs.scale {
            Ok(scale) => scale,
            Err(failure) => return self.without_scale(failure),
        };
        self.conditions.set(
            ABLE_TO_SCALE,
            true,
            "SucceededGetScale",
            "the HPA controller was able to get the target's current scale",
        );
        let current = scale.spec_replicas;
        let first = || {
            vec![Recommendation {
                replicas: current,
                at: self.inputs.now,
            }]
        };
        self.state.recommendations.get_or_insert_with(first);
        match self.verdict(scale) {
            Verdict::Abort => self.aborted(current),
            Verdict::Keep => {
                let status = self.status(current, current, false);
                self.decision(Some(current), Some(current), None, status)
            }
            Verdict::Set { replicas, .. } if replicas == current => {
                let status = self.status(current, current, false);
                self.decision(Some(current), Some(current), None, status)
            }
            Verdict::Set { replicas, reason } => {
                let rescale = Rescale {
                    from: current,
                    to: replicas,
                    reason,
                };
                match write_error {
                    None => self.rescaled(rescale),
                    Some(error) => self.write_failed(rescale, error),
                }
            }
        }
    }

    pub(super) fn minimum(&self) -> i32 {
        self.spec.min_replicas.unwrap_or(1)
    }

    fn verdict(&mut self, scale: &Scale) -> Verdict {
        let current = scale.spec_replicas;
        let (minimum, maximum) = (self.minimum(), self.spec.max_replicas);
        let zeroed = self.inputs.settings.scale_to_zero && self.conditions.is_true(SCALED_TO_ZERO);
        if current == 0 {
            let wakes = zeroed && (minimum != 0 || self.has_outside_metric());
            if !wakes {
                self.conditions.set(
                    SCALING_ACTIVE,
                    false,
                    "ScalingDisabled",
                    "scaling is disabled since the replica count of the target is zero",
                );
                if !self.inputs.settings.scale_to_zero {
                    self.conditions.remove(SCALED_TO_ZERO);
                }
                self.step(0, 0, Rule::Disabled);
                return Verdict::Keep;
            }
        } else if current > maximum {
            self.step(current, maximum, Rule::AboveMaximum { maximum });
            return Verdict::Set {
                replicas: maximum,
                reason: "Current number of replicas above Spec.MaxReplicas".to_owned(),
            };
        } else if current < minimum {
            self.step(current, minimum, Rule::BelowMinimum { minimum });
            return Verdict::Set {
                replicas: minimum,
                reason: "Current number of replicas below Spec.MinReplicas".to_owned(),
            };
        }
        self.by_metrics(scale, zeroed)
    }

    fn by_metrics(&mut self, scale: &Scale, zeroed: bool) -> Verdict {
        let current = scale.spec_replicas;
        let (proposed, metric) = match self.highest_proposal(scale) {
            Ok(found) => found,
            Err(error) => {
                self.event(
                    EventType::Warning,
                    "FailedComputeMetricsReplicas",
                    error.clone(),
                );
                self.error = Some(error);
                return Verdict::Abort;
            }
        };
        let desired = proposed.max(0);
        let metric = if proposed > 0 { metric } else { String::new() };
        let mut reason = match desired.cmp(&current) {
            Ordering::Greater => format!("{metric} above target"),
            Ordering::Less => "All metrics below target".to_owned(),
            Ordering::Equal => String::new(),
        };
        let mut desired = self.normalized(current, desired);
        let minimum = self.minimum();
        if current == 0 && zeroed && desired < minimum {
            self.step(desired, minimum, Rule::Minimum { minimum });
            desired = minimum;
            if reason.is_empty() {
                reason = "Current number of replicas below Spec.MinReplicas".to_owned();
            }
        }
        Verdict::Set {
            replicas: desired,
            reason,
        }
    }

    /// Stabilises and limits; sets AbleToScale and ScalingLimited.
    fn normalized(&mut self, current: i32, desired: i32) -> i32 {
        let now = self.inputs.now;
        let log = self.state.recommendations.get_or_insert_default();
        let behavior = self.spec.behavior.as_ref().and_then(complete);
        let (stabilized, down, window_seconds) = match behavior {
            None => {
                let window = self.inputs.settings.downscale_stabilization_seconds;
                (stabilize(log, desired, window, now), true, window)
            }
            Some((up, down)) => {
                let up = up.stabilization_window_seconds.unwrap_or_default();
                let down = down.stabilization_window_seconds.unwrap_or_default();
                let stabilized = stabilize_with_behavior(log, current, desired, up, down, now);
                let is_down = desired < current;
                (stabilized, is_down, if is_down { down } else { up })
            }
        };
        let bounds = Bounds {
            minimum: self.minimum(),
            maximum: self.spec.max_replicas,
            current,
            ups: if behavior.is_some() {
                &self.state.scale_ups
            } else {
                &self.state.default_scale_ups
            },
            downs: &self.state.scale_downs,
            now,
        };
        let limited = match behavior {
            None => limit(stabilized, &bounds, &self.inputs.settings),
            Some((up, down)) => limit_with_behavior(stabilized, &bounds, up, down),
        };
        if stabilized == desired {
            self.conditions.set(
                ABLE_TO_SCALE,
                true,
                "ReadyForNewScale",
                "recommended size matches current size",
            );
        } else {
            let (reason, message) = if down {
                (
                    "ScaleDownStabilized",
                    "recent recommendations were higher than current one, applying the highest recent recommendation",
                )
            } else {
                (
                    "ScaleUpStabilized",
                    "recent recommendations were lower than current one, applying the lowest recent recommendation",
                )
            };
            self.conditions.set(ABLE_TO_SCALE, true, reason, message);
            self.step(
                desired,
                stabilized,
                Rule::Stabilized {
                    down,
                    window_seconds,
                },
            );
        }
        self.conditions.set(
            SCALING_LIMITED,
            limited.replicas != stabilized,
            limited.reason,
            limited.message,
        );
        if let Some(rule) = limited.rule {
            self.step(stabilized, limited.replicas, rule);
        }
        limited.replicas
    }

    pub(super) fn has_outside_metric(&self) -> bool {
        self.spec
            .metrics
            .iter()
            .flatten()
            .any(|metric| metric.type_ == "Object" || metric.type_ == "External")
    }

    pub(super) fn event(&mut self, kind: EventType, reason: &str, message: String) {
        self.events.push(Event {
            kind,
            reason: reason.to_owned(),
            message,
        });
    }

    pub(super) fn step(&mut self, before: i32, after: i32, rule: Rule) {
        self.steps.push(Step {
            before,
            after,
            rule,
        });
    }

    pub(super) fn reference(&self) -> String {
        let target = &self.spec.scale_target_ref;
        format!(
            "{}/{}/{}",
            target.kind, self.inputs.hpa.namespace, target.name
        )
    }
}

pub(super) fn complete(behavior: &HorizontalPodAutoscalerBehavior) -> Option<(&Rules, &Rules)> {
    behavior.scale_up.as_ref().zip(behavior.scale_down.as_ref())
}
