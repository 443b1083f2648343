//! Pods that fail as a whole: their time is over, or the node has them end; and what is given back when a pod has ended.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::Instant;

use super::Worker;
use super::volumes::EVICTED;
use crate::container;

const DISRUPTION: &str = "DisruptionTarget";

impl Worker {
    /// A pod that has run longer than its activeDeadlineSeconds fails as a whole.
    pub(super) fn check_deadline(&mut self) {
        let Some(deadline) = self.deadline() else {
            return;
        };
        if deadline > Instant::now() {
            self.retry_at(deadline);
        } else if !self.finished() {
            let message = "Pod was active on the node longer than the specified deadline";
            self.shared
                .recorder
                .normal(&self.pod, None, "DeadlineExceeded", message);
            self.failure = Some(("DeadlineExceeded".to_owned(), message.to_owned()));
        }
    }

    /// When the pod's activeDeadlineSeconds are over, if it has such a time at all.
    pub(super) fn deadline(&self) -> Option<Instant> {
        // some 30 years: what lies further away cannot be added to a clock
        const SECONDS_MAX: u64 = 1 << 30;
        let seconds = self.pod.spec.as_ref()?.active_deadline_seconds?;
        let (began, age) = self.began;
        let deadline = Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(SECONDS_MAX));
        Some(began + deadline.saturating_sub(age))
    }

    /// Takes up an order to end.
    pub(super) fn check_eviction(&mut self) {
        let Some(message) = self.evicted.borrow_and_update().clone() else {
            return;
        };
        if self.finished() {
            return;
        }
        self.shared
            .recorder
            .warning(&self.pod, None, EVICTED, message.clone());
        self.disruption = Some(message.clone());
        self.failure = Some((EVICTED.to_owned(), message));
    }

    /// Removes what only a running pod needs: its volumes; of one that was evicted also what its containers wrote, and their logs,
    /// because the room is needed.
    pub(super) async fn give_back(&mut self) {
        if self.given_back {
            return;
        }
        self.given_back = true;
        self.volumes = None;
        let directory = self.directory();
        let (images, logs) = (
            self.shared.images.clone(),
            container::log_directory(&self.shared.config.logs_dir, &self.pod),
        );
        let ids: Vec<String> = if self.is_evicted() {
            self.ids.iter().cloned().collect()
        } else {
            Vec::new()
        };
        let evicted = self.is_evicted();
        let removing = tokio::task::spawn_blocking(move || {
            for part in ["volume-subpaths", "volumes"] {
                let path = directory.join(part);
                if let Err(error) = crate::volumes::release(&path) {
                    tracing::warn!(%error, path = %path.display(), "the volumes of a pod that has ended could not be removed");
                }
            }
            for id in ids {
                if let Err(error) = images.remove_snapshot(&id) {
                    tracing::warn!(%error, id, "what an evicted container wrote could not be removed");
                }
            }
            if evicted {
                // there may be none
                let _ = std::fs::remove_dir_all(&logs);
            }
        });
        let _ = removing.await;
    }

    fn is_evicted(&self) -> bool {
        let told = self
            .pod
            .status
            .as_ref()
            .and_then(|status| status.reason.as_deref());
        let own = self.failure.as_ref().map(|(reason, _)| reason.as_str());
        told == Some(EVICTED) || own == Some(EVICTED)
    }

    /// Notes in the status that the node had the pod end.
    pub(super) fn note_disruption(&self, status: &mut PodStatus) {
        let Some(message) = &self.disruption else {
            return;
        };
        let conditions = status.conditions.get_or_insert_default();
        if conditions.iter().any(|one| one.type_ == DISRUPTION) {
            return;
        }
        let now = Timestamp::now();
        conditions.push(PodCondition {
            type_: DISRUPTION.to_owned(),
            status: "True".to_owned(),
            reason: Some("TerminationByKubelet".to_owned()),
            message: Some(message.clone()),
            last_transition_time: Some(Time(
                Timestamp::from_second(now.as_second()).unwrap_or(now),
            )),
            observed_generation: self.pod.metadata.generation,
            ..PodCondition::default()
        });
    }
}
