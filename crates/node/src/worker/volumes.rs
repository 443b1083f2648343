//! A pod's volumes while it runs: made before its containers, kept up to date, and measured where they are bounded.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Worker;
use crate::volumes::{self, Bounded, Sources};

/// How often emptyDirs with a limit are measured, as the kubelet does.
const MEASURE: Duration = Duration::from_secs(10);
/// A volume that could not be brought up to date is tried again after this, besides whenever its objects change.
const RETRY: Duration = Duration::from_secs(10);
/// Volumes that a pod cannot begin without are tried again quickly at first.
const QUICK_RETRY: Duration = Duration::from_millis(50);
const MOUNT_RETRY: Duration = Duration::from_secs(2);
const QUIET_ATTEMPTS: u32 = 2;
/// A pod that is evicted because it took too much gets no more than this to end (upstream's immediate eviction).
const EVICTED_GRACE: Duration = Duration::from_secs(1);
pub(super) const EVICTED: &str = "Evicted";

type Strings = Option<BTreeMap<String, String>>;

/// Labels and annotations, as a volume shows them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Shown(Strings, Strings);

impl Worker {
    /// Makes the volumes, or brings them up to date; false if the pod has to wait for them.
    pub(super) async fn ensure_volumes(&mut self) -> bool {
        if self.volumes.is_some() {
            self.refresh_volumes().await;
            return true;
        }
        self.stale.store(false, Ordering::Release);
        let (facts, directory) = (self.facts(), self.directory());
        let (client, pod) = (self.shared.client.clone(), self.pod.clone());
        let sources = Sources {
            client: &client,
            pod: &pod,
            facts: &facts,
            directory: &directory,
        };
        match sources.prepare(&mut self.tokens).await {
            Ok((places, stale)) => {
                self.volumes = Some(places);
                self.unmounted = 0;
                self.shown = self.metadata();
                self.tell(stale);
                self.renew_in_time();
                true
            }
            Err(error) => {
                // what a new namespace gets comes a moment after it: nobody is told of that
                self.unmounted = self.unmounted.saturating_add(1);
                if self.unmounted > QUIET_ATTEMPTS {
                    let message = error.to_string();
                    self.shared
                        .recorder
                        .warning(&self.pod, None, "FailedMount", message);
                }
                let wait = QUICK_RETRY * (1 << self.unmounted.min(5));
                self.retry_at(Instant::now() + wait.min(MOUNT_RETRY));
                false
            }
        }
    }

    async fn refresh_volumes(&mut self) {
        let now = Timestamp::now();
        let due = self.tokens.renew_at().is_some_and(|at| at <= now);
        let metadata = self.metadata();
        let relabelled = metadata != self.shown && volumes::shows_metadata(&self.pod);
        if self.stale.swap(false, Ordering::AcqRel) || due || relabelled {
            let (facts, directory) = (self.facts(), self.directory());
            let (client, pod) = (self.shared.client.clone(), self.pod.clone());
            let sources = Sources {
                client: &client,
                pod: &pod,
                facts: &facts,
                directory: &directory,
            };
            let failures = sources.refresh(&mut self.tokens).await;
            self.shown = metadata;
            self.tell(failures);
        }
        self.renew_in_time();
    }

    fn metadata(&self) -> Shown {
        let metadata = &self.pod.metadata;
        Shown(metadata.labels.clone(), metadata.annotations.clone())
    }

    /// What could not be brought up to date stays as it was; the user is told, and it is tried again.
    fn tell(&mut self, failures: Vec<volumes::VolumeError>) {
        for failure in failures {
            self.shared
                .recorder
                .warning(&self.pod, None, "FailedMount", failure.to_string());
            self.stale.store(true, Ordering::Release);
            self.retry_at(Instant::now() + RETRY);
        }
    }

    fn renew_in_time(&mut self) {
        if let Some(at) = self.tokens.renew_at() {
            let left_ms = at
                .as_millisecond()
                .saturating_sub(Timestamp::now().as_millisecond())
                // a token that cannot be had is not asked for without pause
                .max(1000);
            self.retry_at(Instant::now() + Duration::from_millis(left_ms as u64));
        }
    }

    /// A pod whose emptyDir has outgrown its limit is evicted.
    pub(super) async fn check_sizes(&mut self) {
        if self.volumes.is_none() || self.finished() {
            return;
        }
        let bounded = volumes::bounded(&self.pod, &self.directory());
        if bounded.is_empty() {
            return;
        }
        let now = Instant::now();
        match self.measure_at {
            Some(at) if at > now => return self.retry_at(at),
            _ => {}
        }
        let measured = tokio::task::spawn_blocking(move || {
            let over = |one: &Bounded| volumes::usage_bytes(&one.path) > one.bytes_max;
            bounded.into_iter().find(over)
        });
        self.measure_at = Some(now + MEASURE);
        self.retry_at(now + MEASURE);
        let Ok(Some(over)) = measured.await else {
            return;
        };
        // upstream's words, blank at the end included
        let message = format!(
            "Usage of EmptyDir volume {:?} exceeds the limit {:?}. ",
            over.volume, over.limit
        );
        self.shared
            .recorder
            .warning(&self.pod, None, EVICTED, message.clone());
        self.failure = Some((EVICTED.to_owned(), message));
    }

    /// How long the pod's containers get to end.
    pub(super) fn ending_grace(&self) -> Duration {
        match &self.failure {
            Some((reason, _)) if reason == EVICTED => self.grace().min(EVICTED_GRACE),
            _ => self.grace(),
        }
    }
}
