//! One decision in the making: from the scale to a verdict about the size.
//!
//! Source followed: `reconcileAutoscaler`, `computeReplicasForMetrics`, `validateAndParseSelector`,
//! `normalizeDesiredReplicas*` of `pkg/controller/podautoscaler/horizontal.go`.

use std::cmp::Ordering;

use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, MetricStatus,
};

use super::behavior::Rules;
use super::conditions::{
    ABLE_TO_SCALE, Conditions, SCALED_TO_ZERO, SCALING_ACTIVE, SCALING_LIMITED,
};
use super::decision::{
    Action, Decision, Event, EventType, MetricOutcome, Outcome, Proposal, Rescale, Rule, Step,
    Tolerance,
};
use super::defaults::default_spec;
use super::inputs::{Inputs, Pod, Recommendation, Scale, State};
use super::metric;
use super::normalize::{Bounds, limit, limit_with_behavior, stabilize, stabilize_with_behavior};
use super::replicas::Context;
use crate::quantity::Quantity;
use crate::selector::Selector;

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
        self.from_metrics(scale, zeroed)
    }

    fn from_metrics(&mut self, scale: &Scale, zeroed: bool) -> Verdict {
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

    /// Evaluates all metrics and picks the highest proposal; sets ScalingActive.
    fn highest_proposal(&mut self, scale: &Scale) -> Result<(i32, String), String> {
        let selected = self.selected_pods(scale)?;
        let context = Context {
            pods: &selected,
            settings: &self.inputs.settings,
            now: self.inputs.now,
            tolerance: self.tolerance(),
            current: scale.spec_replicas,
        };
        let specs = self.spec.metrics.clone().unwrap_or_default();
        let mut statuses = Vec::with_capacity(specs.len());
        let mut best: Option<(i32, String)> = None;
        let mut invalid = 0usize;
        let mut first_failure: Option<metric::Failed> = None;
        for (index, spec) in specs.iter().enumerate() {
            let evaluated =
                metric::evaluate(self.inputs, &context, scale.status_replicas, index, spec);
            statuses.push(evaluated.status);
            self.metrics.push(self.outcome_of(
                spec.type_.clone(),
                &evaluated.name,
                &evaluated.result,
            ));
            match evaluated.result {
                Ok(proposal) => {
                    let higher = best.as_ref().is_none_or(|(replicas, _)| {
                        *replicas == 0 || proposal.replicas > *replicas
                    });
                    if higher {
                        best = Some((proposal.replicas, evaluated.name));
                    }
                }
                Err(failure) => {
                    invalid += 1;
                    self.event(
                        EventType::Warning,
                        &failure.shown.reason,
                        failure.shown.message.clone(),
                    );
                    first_failure.get_or_insert(failure);
                }
            }
        }
        self.statuses = Some(statuses);
        let total = specs.len();
        let current = scale.spec_replicas;
        let failed = first_failure.map(|failure| {
            let error = format!(
                "invalid metrics ({invalid} invalid out of {total}), first error is: {}",
                failure.error
            );
            (failure.shown, error)
        });
        // What cannot be seen must not make the target smaller.
        match (best, failed) {
            (Some((replicas, name)), failed) if failed.is_none() || replicas >= current => {
                self.conditions.set(
                    SCALING_ACTIVE,
                    true,
                    "ValidMetricFound",
                    format!(
                        "the HPA was able to successfully calculate a replica count from {name}"
                    ),
                );
                self.error = failed.map(|(_, error)| error);
                self.step(
                    current,
                    replicas,
                    Rule::HighestProposal {
                        metric: name.clone(),
                        invalid,
                    },
                );
                Ok((replicas, name))
            }
            (_, Some((shown, error))) => {
                self.conditions.set(
                    SCALING_ACTIVE,
                    false,
                    &shown.reason,
                    format!(
                        "the HPA was unable to compute the replica count: {}",
                        shown.message
                    ),
                );
                self.step(current, current, Rule::MetricsInvalid { invalid, total });
                Err(error)
            }
            // Defaulting leaves no specification without metrics.
            (_, None) => Err("no metrics in the specification".to_owned()),
        }
    }

    /// The pods that the scale selects, unless another autoscaler selects some of them too.
    fn selected_pods(&mut self, scale: &Scale) -> Result<Vec<&'a Pod>, String> {
        let invalid =
            |run: &mut Self, event: &str, reason: &str, condition: String, error: String| {
                run.event(EventType::Warning, event, error.clone());
                run.conditions.set(SCALING_ACTIVE, false, reason, condition);
                Err(error)
            };
        if scale.selector.is_empty() {
            let condition = "the HPA target's scale is missing a selector".to_owned();
            let error = "selector is required".to_owned();
            return invalid(
                self,
                "SelectorRequired",
                "InvalidSelector",
                condition,
                error,
            );
        }
        let selector = match Selector::parse(&scale.selector) {
            Ok(selector) => selector,
            Err(error) => {
                let error = format!(
                    "couldn't convert selector into a corresponding internal selector object: {error}"
                );
                return invalid(
                    self,
                    "InvalidSelector",
                    "InvalidSelector",
                    error.clone(),
                    error,
                );
            }
        };
        let inputs = self.inputs;
        let pods: Vec<&Pod> = inputs
            .pods
            .iter()
            .filter(|pod| selector.matches(&pod.labels))
            .collect();
        let mut selecting: Vec<&str> = inputs
            .others
            .iter()
            .filter(|other| !other.selector.is_empty())
            .filter(|other| {
                Selector::parse(&other.selector)
                    .is_ok_and(|selector| pods.iter().any(|pod| selector.matches(&pod.labels)))
            })
            .map(|other| other.name.as_str())
            .collect();
        if !selecting.is_empty() {
            selecting.push(&inputs.hpa.name);
            selecting.sort_unstable();
            let keys: Vec<String> = selecting
                .iter()
                .map(|name| format!("{{{name} {}}}", inputs.hpa.namespace))
                .collect();
            let error = format!(
                "pods by selector {} are controlled by more than one HPA (e.g. [{}])",
                scale.selector,
                keys.join(" ")
            );
            return invalid(
                self,
                "AmbiguousSelector",
                "AmbiguousSelector",
                error.clone(),
                error,
            );
        }
        Ok(pods)
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

    fn outcome_of(
        &self,
        source: String,
        name: &str,
        result: &Result<Proposal, metric::Failed>,
    ) -> MetricOutcome {
        let before = self.inputs.hpa.status.current_replicas.unwrap_or_default();
        let outcome = match result {
            Ok(proposal) if proposal.replicas > before => Outcome {
                action: Action::ScaleUp,
                ..Outcome::default()
            },
            Ok(proposal) if proposal.replicas < before => Outcome {
                action: Action::ScaleDown,
                ..Outcome::default()
            },
            Ok(_) => Outcome::default(),
            Err(failure) => Outcome {
                error: failure.label,
                ..Outcome::default()
            },
        };
        MetricOutcome {
            source,
            name: name.to_owned(),
            result: match result {
                Ok(proposal) => Ok(proposal.clone()),
                Err(failure) => Err(failure.shown.clone()),
            },
            outcome,
        }
    }

    fn tolerance(&self) -> Tolerance {
        let settings = &self.inputs.settings;
        let given = |rules: fn(&HorizontalPodAutoscalerBehavior) -> Option<&Rules>| {
            let quantity = self
                .spec
                .behavior
                .as_ref()
                .and_then(rules)?
                .tolerance
                .as_ref()?;
            Quantity::parse(&quantity.0)
                .ok()
                .filter(|_| settings.configurable_tolerance)
        };
        Tolerance {
            scale_down: given(|behavior| behavior.scale_down.as_ref())
                .map_or(settings.tolerance, Quantity::as_f64),
            scale_up: given(|behavior| behavior.scale_up.as_ref())
                .map_or(settings.tolerance, Quantity::as_f64),
        }
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
