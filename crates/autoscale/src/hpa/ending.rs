//! The ways in which a decision ends, each with its conditions, events, status and memory.
//!
//! Source followed: the second half of `reconcileAutoscaler`, `setStatus` and `updateStatusIfNeeded` of
//! `pkg/controller/podautoscaler/horizontal.go`.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::behavior::remember;
use super::conditions::{ABLE_TO_SCALE, Conditions, SCALED_TO_ZERO, whole_second};
use super::decision::{Action, Decision, ErrorLabel, EventType, Outcome, Rescale, Rule};
use super::inputs::Failure;
use super::run::{Run, complete};

impl Run<'_> {
    pub(super) fn rescaled(mut self, rescale: Rescale) -> Decision {
        let Rescale { from, to, .. } = rescale;
        self.conditions.set(
            ABLE_TO_SCALE,
            true,
            "SucceededRescale",
            format!("the HPA controller was able to update the target scale to {to}"),
        );
        self.event(
            EventType::Normal,
            "SuccessfulRescale",
            format!("New size: {to}; reason: {}", rescale.reason),
        );
        let rules = self.spec.behavior.as_ref().and_then(complete);
        remember(
            &mut self.state,
            rules,
            from,
            to,
            &self.inputs.settings,
            self.inputs.now,
        );
        if !self.inputs.settings.scale_to_zero {
            self.conditions.remove(SCALED_TO_ZERO);
        } else if from > 0 && to == 0 && self.minimum() == 0 && self.has_outside_metric() {
            let message = "the HPA controller scaled the workload to zero";
            self.conditions
                .set(SCALED_TO_ZERO, true, "ScaledToZero", message);
        } else {
            let message = "the HPA controller did not scale the workload to zero";
            self.conditions
                .set(SCALED_TO_ZERO, false, "NotScaledToZero", message);
        }
        let status = self.status(from, to, true);
        self.decision(Some(from), Some(to), Some(rescale), status)
    }

    pub(super) fn write_failed(mut self, rescale: Rescale, error: &str) -> Decision {
        let Rescale { from, to, reason } = &rescale;
        self.event(
            EventType::Warning,
            "FailedRescale",
            format!("New size: {to}; reason: {reason}; error: {error}"),
        );
        self.conditions.set(
            ABLE_TO_SCALE,
            false,
            "FailedUpdateScale",
            format!("the HPA controller was unable to update the target scale: {error}"),
        );
        self.step(
            *to,
            *from,
            Rule::WriteFailed {
                error: error.to_owned(),
            },
        );
        self.error = Some(format!("failed to rescale {}: {error}", self.reference()));
        let from = *from;
        let desired = self.inputs.hpa.status.desired_replicas;
        let status = self.status(from, desired, false);
        self.decision(Some(from), None, None, status)
    }

    pub(super) fn aborted(mut self, current: i32) -> Decision {
        let reference = self.reference();
        self.error = self.error.map(|error| {
            format!("failed to compute desired number of replicas based on listed metrics for {reference}: {error}")
        });
        let desired = self.inputs.hpa.status.desired_replicas;
        let status = self.status(current, desired, false);
        self.decision(Some(current), None, None, status)
    }

    pub(super) fn without_scale(mut self, failure: &Failure) -> Decision {
        self.event(
            EventType::Warning,
            "FailedGetScale",
            failure.message.clone(),
        );
        self.conditions.set(
            ABLE_TO_SCALE,
            false,
            "FailedGetScale",
            format!(
                "the HPA controller was unable to get the target's current scale: {}",
                failure.message
            ),
        );
        let reference = self.reference();
        self.error = Some(format!(
            "failed to query scale subresource for {reference}: {}",
            failure.message
        ));
        let mut status = self.inputs.hpa.status.clone();
        status.conditions = Some(
            std::mem::replace(
                &mut self.conditions,
                Conditions::new(Vec::new(), self.inputs.now),
            )
            .finish(),
        );
        self.decision(None, None, None, status)
    }

    /// The status; conditions move into it.
    pub(super) fn status(
        &mut self,
        current: i32,
        desired: i32,
        rescaled: bool,
    ) -> HorizontalPodAutoscalerStatus {
        let before = &self.inputs.hpa.status;
        let conditions = std::mem::replace(
            &mut self.conditions,
            Conditions::new(Vec::new(), self.inputs.now),
        )
        .finish();
        HorizontalPodAutoscalerStatus {
            conditions: Some(conditions),
            current_metrics: self.statuses.take(),
            current_replicas: Some(current),
            desired_replicas: desired,
            last_scale_time: if rescaled {
                Some(Time(whole_second(self.inputs.now)))
            } else {
                before.last_scale_time.clone()
            },
            observed_generation: self.inputs.hpa.generation.or(before.observed_generation),
        }
    }

    pub(super) fn decision(
        self,
        current: Option<i32>,
        desired: Option<i32>,
        rescale: Option<Rescale>,
        status: HorizontalPodAutoscalerStatus,
    ) -> Decision {
        let action = match &rescale {
            Some(rescale) if rescale.to > rescale.from => Action::ScaleUp,
            Some(_) => Action::ScaleDown,
            None => Action::None,
        };
        let label = if self.error.is_some() {
            ErrorLabel::Internal
        } else {
            ErrorLabel::None
        };
        Decision {
            at: self.inputs.now,
            current,
            desired,
            rescale,
            metrics: self.metrics,
            steps: self.steps,
            status_changed: !same(&status, &self.inputs.hpa.status),
            status,
            events: self.events,
            state: self.state,
            error: self.error,
            outcome: Outcome {
                action,
                error: label,
            },
        }
    }
}

/// Equality as the API sees it: an empty list and an absent one are the same.
fn same(a: &HorizontalPodAutoscalerStatus, b: &HorizontalPodAutoscalerStatus) -> bool {
    let normal = |status: &HorizontalPodAutoscalerStatus| {
        let mut status = status.clone();
        status.conditions = status.conditions.filter(|list| !list.is_empty());
        status.current_metrics = status.current_metrics.filter(|list| !list.is_empty());
        status.current_replicas = status.current_replicas.or(Some(0));
        status
    };
    normal(a) == normal(b)
}
