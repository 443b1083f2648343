//! The HorizontalPodAutoscaler's controller: reads what a decision needs, lets `autoscale` decide, writes the result.
//!
//! Every autoscaler is looked at once per period, and at once when its specification changes ([`Pace`]). What upstream
//! ties to its 15 s sync stays tied to 15 s of wall clock: the default limit on growth (`autoscale`), small changes of
//! the status's metric values, and repeated warnings. Larger ones are written within 2 s, because `kubectl get hpa`
//! is a person's window on the load (`shown`).
//!
//! Source followed: `pkg/controller/podautoscaler/horizontal.go` and `.../metrics/client.go`.

mod evaluate;
mod follow;
mod keep;
mod memory;
mod novelty;
mod readings;
mod record;
mod selectors;
mod shown;
mod target;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::events::Recorder;
use crate::informer::Informer;
use crate::objects;
use crate::shared::in_namespace;
pub use keep::KeptDecisions;
pub(crate) use keep::run as keep_decisions;
pub use record::{DecisionRecord, DecisionSink, RecentDecisions};

use evaluate::Evaluator;
use memory::Memory;
use target::Targets;

/// Evaluations under way at once; an autoscaler is never evaluated twice at a time.
const CONCURRENCY: usize = 16;
/// An evaluation that takes longer is given up, so that sources that hang cannot hold others back for ever.
const EVALUATION_MAX: Duration = Duration::from_secs(10);

/// How often autoscalers are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Time between two looks at each; 100 ms at least.
    pub period: Duration,
    /// Whether a new autoscaler, or one whose specification changed, is looked at at once instead of with all others.
    pub on_change: bool,
}

impl Default for Pace {
    /// Upstream's period.
    fn default() -> Self {
        Self {
            period: Duration::from_secs(15),
            on_change: true,
        }
    }
}

/// Runs the controller until `shutdown` is cancelled, with a watch of pods of its own. Decisions are kept in the API,
/// where it serves their group.
pub async fn run(client: Client, config: Config, shutdown: CancellationToken) {
    let pods = Informer::start(
        Api::<Pod>::all(client.clone()),
        watcher::Config::default().any_semantic(),
        |pod| vec![in_namespace(objects::namespace(pod))],
        |pod| pod.metadata.managed_fields = None,
        shutdown.clone(),
    );
    let decisions = KeptDecisions::default();
    let sink = Arc::new(decisions.clone());
    tokio::join!(
        keep_decisions(client.clone(), pods.clone(), decisions, shutdown.clone()),
        run_with(client, pods, config.autoscalers, sink, shutdown),
    );
}

/// Runs the controller until `shutdown` is cancelled. `pods` must be indexed by namespace; every decision that
/// differs goes to `sink`.
pub(crate) async fn run_with(
    client: Client,
    pods: Informer<Pod>,
    pace: Pace,
    sink: Arc<dyn DecisionSink>,
    shutdown: CancellationToken,
) {
    let autoscalers = Informer::start(
        Api::<HorizontalPodAutoscaler>::all(client.clone()),
        watcher::Config::default().any_semantic(),
        |_| Vec::new(),
        |autoscaler| autoscaler.metadata.managed_fields = None,
        shutdown.clone(),
    );
    if !autoscalers.ready().await || !pods.ready().await {
        return;
    }
    let loops = Loop {
        evaluator: Arc::new(Evaluator {
            recorder: Recorder::start(client.clone(), "horizontal-pod-autoscaler"),
            targets: Targets::new(client.clone()),
            memory: Memory::default(),
            settings: autoscale::Settings::default(),
            client,
            pods,
            sink,
        }),
        slots: Arc::new(Semaphore::new(CONCURRENCY)),
        shutdown,
    };
    loops.run(autoscalers, pace).await;
}

struct Loop {
    evaluator: Arc<Evaluator>,
    slots: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl Loop {
    async fn run(&self, autoscalers: Informer<HorizontalPodAutoscaler>, pace: Pace) {
        let mut ticks = tokio::time::interval(pace.period.max(Duration::from_millis(100)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = std::pin::pin!(autoscalers.stream());
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                _ = ticks.tick() => {
                    let all = autoscalers.all();
                    self.evaluator.memory.keep_only(&all);
                    for autoscaler in all {
                        self.start(autoscaler);
                    }
                }
                Some(changed) = changes.next() => {
                    let current = autoscalers.get(changed.metadata.namespace.as_deref(), objects::name(&*changed));
                    match current {
                        Some(current) if pace.on_change && self.evaluator.memory.is_new(&current) => self.start(current),
                        Some(_) => {}
                        None => self.evaluator.memory.forget(objects::uid(&*changed)),
                    }
                }
            }
        }
    }

    /// Evaluates in the background, unless the autoscaler is being evaluated already.
    fn start(&self, autoscaler: Arc<HorizontalPodAutoscaler>) {
        let Some(turn) = self.evaluator.memory.begin(&autoscaler) else {
            return;
        };
        let (evaluator, slots, shutdown) = (
            self.evaluator.clone(),
            self.slots.clone(),
            self.shutdown.clone(),
        );
        tokio::spawn(async move {
            let work = async {
                let _slot = slots.acquire().await;
                tokio::time::timeout(EVALUATION_MAX, evaluator.evaluate(&autoscaler)).await
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                done = work => if done.is_err() {
                    tracing::warn!(
                        autoscaler = objects::key(&*autoscaler),
                        "evaluation took longer than {} s and was given up; the size stays",
                        EVALUATION_MAX.as_secs()
                    );
                }
            }
            drop(turn);
        });
    }
}
