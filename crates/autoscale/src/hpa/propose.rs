//! The metrics' part of a decision: which pods count, what each metric proposes, which proposal wins.
//!
//! Source followed: `computeReplicasForMetrics`, `validateAndParseSelector` and `tolerancesForHpa` of
//! `pkg/controller/podautoscaler/horizontal.go`.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior;

use super::behavior::Rules;
use super::conditions::SCALING_ACTIVE;
use super::decision::{Action, EventType, MetricOutcome, Outcome, Proposal, Rule, Tolerance};
use super::inputs::{Pod, Scale};
use super::metric;
use super::replicas::Context;
use super::run::Run;
use crate::quantity::Quantity;
use crate::selector::Selector;

/// Of several autoscalers that select the same pods, so many are named.
const SELECTING_SHOWN_MAX: usize = 2;

impl<'a> Run<'a> {
    /// Evaluates all metrics and picks the highest proposal; sets ScalingActive.
    pub(super) fn highest_proposal(&mut self, scale: &Scale) -> Result<(i32, String), String> {
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
                .take(SELECTING_SHOWN_MAX)
                .map(|name| format!("{}/{name}", inputs.hpa.namespace))
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
}
