//! Looks at the node every second, reclaims what can be reclaimed, and has pods evicted, one at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use engine::State;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::decide::{self, Memory};
use super::rank::{Candidate, rank};
use super::signal::{Observations, Pressure, Signal};
use super::threshold::Threshold;
use super::{conditions, images, measure, message, reclaim};
use crate::pods::Pods;
use crate::worker::Shared;

/// Reading the signals costs next to nothing.
const EVERY: Duration = Duration::from_secs(1);
/// While nothing can be done, what is done about it is not tried again at once; as often as the kubelet looks.
const AGAIN: Duration = Duration::from_secs(10);
/// While images are pulled or built none can be deleted. So long that may go on before pods have to go instead.
const BUSY_MAX: Duration = Duration::from_secs(30);
/// How long an evicted pod's end is waited for before the next one has to go.
const END_MAX: Duration = Duration::from_secs(30);
const END_POLL: Duration = Duration::from_millis(100);

/// A pod has to go.
pub struct Order {
    pub uid: String,
    /// For its status, in upstream's words.
    pub message: String,
}

/// Where orders are carried out.
pub type Evictions = mpsc::Sender<Order>;

/// Runs until `shutdown`.
pub async fn run(
    shared: Arc<Shared>,
    pods: Pods,
    evictions: Evictions,
    told: watch::Sender<BTreeSet<Pressure>>,
    shutdown: CancellationToken,
) {
    let settings = &shared.config.pressure;
    let thresholds = settings
        .eviction_hard
        .with(&settings.eviction_minimum_reclaim);
    let manager = Manager {
        thresholds,
        evictions,
        pods,
        shared: shared.clone(),
        busy_since: None,
    };
    tokio::join!(
        manager.watch(told, shutdown.clone()),
        images::run(shared, shutdown),
    );
}

struct Manager {
    thresholds: Vec<Threshold>,
    evictions: Evictions,
    pods: Pods,
    shared: Arc<Shared>,
    /// Since when images could not be collected.
    busy_since: Option<Instant>,
}

impl Manager {
    async fn watch(mut self, told: watch::Sender<BTreeSet<Pressure>>, shutdown: CancellationToken) {
        let transition = self.shared.config.pressure.eviction_transition;
        let began = Instant::now();
        let mut memory = Memory::default();
        let mut shared_out = false;
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut not_before = began;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            if !shared_out {
                shared_out = self.share_out().await;
            }
            let observed = measure::observe(&self.shared);
            let looked = decide::look(
                &self.thresholds,
                &observed,
                &memory,
                transition,
                began.elapsed(),
            );
            memory = looked.memory;
            self.tell(&told, &looked.conditions);
            if let Some(first) = looked.met.first()
                && Instant::now() >= not_before
            {
                let helped = tokio::select! {
                    helped = self.relieve(first.signal, &looked.met, &observed) => helped,
                    () = shutdown.cancelled() => return,
                };
                if !helped {
                    not_before = Instant::now() + AGAIN;
                }
            }
        }
    }

    /// Limits what all pods take together; true once that is done.
    async fn share_out(&self) -> bool {
        let bytes = u64::try_from(self.shared.division.pods_memory_bytes).unwrap_or(0);
        match self.shared.engine.share_machine(bytes.max(1)).await {
            Ok(done) => done,
            Err(error) => {
                tracing::warn!(%error, "what pods may take together could not be limited; it goes on without");
                true
            }
        }
    }

    fn tell(&self, told: &watch::Sender<BTreeSet<Pressure>>, now: &BTreeSet<Pressure>) {
        let before = told.borrow().clone();
        if before == *now {
            return;
        }
        told.send_replace(now.clone());
        let name = &self.shared.config.name;
        for reason in conditions::changes(&before, now) {
            let message = format!("Node {name} status is now: {reason}");
            self.shared.recorder.node(name, "Normal", reason, message);
            tracing::info!(reason, "the node's condition has changed");
        }
    }

    /// Reclaims, and evicts the first pod if that is not enough; false if nothing could be done.
    async fn relieve(
        &mut self,
        signal: Signal,
        met: &[Threshold],
        observed: &Observations,
    ) -> bool {
        let (shared, resource) = (self.shared.clone(), signal.resource());
        let message = format!("Attempting to reclaim {resource}");
        shared.recorder.node(
            &shared.config.name,
            "Warning",
            "EvictionThresholdMet",
            message,
        );
        if self.reclaim(signal).await {
            return true;
        }
        let apart = measure::images_are_apart(&shared);
        let active = self.active();
        let disks = signal.condition() == Pressure::Disk;
        let mut candidates = measure::candidates(&shared, &active, disks).await;
        rank(&mut candidates, signal, apart);
        let Some(first) = candidates.iter().find(|pod| !pod.is_critical()) else {
            tracing::warn!(
                resource,
                "the node is short of it, and no pod is left that could be evicted"
            );
            return false;
        };
        let message = message::eviction(first, signal, met, observed);
        tracing::warn!(pod = first.name, message, "a pod is evicted");
        let order = Order {
            uid: first.uid.clone(),
            message,
        };
        if self.evictions.send(order).await.is_err() {
            return false;
        }
        self.end_of(first).await;
        true
    }

    /// Gives back what nobody uses; true if nothing is short any more, or will be in a moment.
    async fn reclaim(&mut self, signal: Signal) -> bool {
        let shared = &self.shared;
        if signal.condition() != Pressure::Disk {
            return false;
        }
        // what is short where images are not is not found among them
        let of_images = matches!(signal, Signal::ImageFs | Signal::ImageFsInodes);
        if of_images || !measure::images_are_apart(shared) {
            reclaim::reclaim_dead(&shared.engine, &shared.images).await;
            match images::collect(shared, u64::MAX).await {
                Ok(freed) if freed.busy => {
                    let since = *self.busy_since.get_or_insert_with(Instant::now);
                    if since.elapsed() < BUSY_MAX {
                        return true;
                    }
                }
                Ok(_) => self.busy_since = None,
                Err(error) => tracing::warn!(error, "images could not be collected"),
            }
        }
        !decide::still_short(&self.thresholds, &measure::observe(shared))
    }

    /// Pods of which something may run.
    fn active(&self) -> Vec<Arc<Pod>> {
        let pods = self.pods.read();
        let active = pods.values().filter(|pod| crate::pods::is_active(pod));
        active.cloned().collect()
    }

    /// Waits until nothing of the pod runs any more, so that the next look sees what its end has given back.
    async fn end_of(&self, pod: &Candidate) {
        let over = async {
            loop {
                let containers = self.shared.engine.containers().await;
                let mut of_pod = containers.iter().filter(|one| one.sandbox == pod.uid);
                let still_there = self
                    .active()
                    .iter()
                    .any(|one| one.uid().as_deref() == Some(&pod.uid));
                if !still_there && of_pod.all(|one| one.state != State::Running) {
                    return;
                }
                tokio::time::sleep(END_POLL).await;
            }
        };
        if tokio::time::timeout(END_MAX, over).await.is_err() {
            tracing::warn!(pod = pod.name, "an evicted pod has not ended yet");
        }
    }
}
