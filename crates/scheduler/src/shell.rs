//! The loop around the decisions: reads pods and nodes, assumes, binds, tells, and tries again when room appears.
//!
//! One task owns all state. A pod that was given a node takes its room at once (it is assumed there), so that a burst
//! of pods does not overcommit while the bindings are on their way.

mod observe;
mod order;
mod write;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt, Stream, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::backoff::TriggerBackoff;
use crate::cluster::Cluster;
use crate::decide::{Refusal, decide};
use crate::incoming::Incoming;
use crate::queue::Queue;
use crate::resident::Resident;
use crate::storage::{Choice, Storage};
use observe::Listing;
use write::Writer;

/// Inputs taken in before decisions are made; more wait in their streams.
const BATCH_MAX: usize = 1000;
/// Decisions made before inputs are taken in again and others have a turn on the processor.
const DECISIONS_MAX: usize = 100;
/// A pod that waits is tried again after this long in any case, and its user told again.
const REMIND: Duration = Duration::from_secs(300);

/// What the loop reacts to.
enum Input {
    Pod(Box<watcher::Event<Pod>>),
    Node(Box<watcher::Event<Node>>),
    Claim(Box<watcher::Event<PersistentVolumeClaim>>),
    Volume(Box<watcher::Event<PersistentVolume>>),
    Class(Box<watcher::Event<StorageClass>>),
    Namespace(Box<watcher::Event<Namespace>>),
    Budget(Box<watcher::Event<PodDisruptionBudget>>),
    Outcome(Outcome),
    Remind,
}

/// What became of a binding.
pub(crate) enum Outcome {
    /// The API accepted it.
    Bound { uid: String },
    /// The pod has a node or is gone, and the watch tells; or something stands against it that may pass.
    Void { uid: String },
    /// Try again now (the writer has waited).
    Failed { uid: String },
    /// The victims of a preemption for the pod are going, or not all of them.
    Preempted { uid: String, failed: bool },
}

/// Schedules until `shutdown` is cancelled.
pub async fn run(client: Client, config: Config, shutdown: CancellationToken) {
    let (outcomes, results) = mpsc::unbounded_channel();
    let mut inputs = Box::pin(inputs(&client, results));
    let mut scheduler = Scheduler {
        writer: Writer::new(client, &config, outcomes),
        config,
        cluster: Cluster::default(),
        queue: Queue::default(),
        assumed: HashMap::new(),
        pods: Listing::default(),
        nodes: Listing::default(),
        storage: Storage::default(),
        claims: Listing::default(),
        volumes: Listing::default(),
        classes: Listing::default(),
        namespaces: Listing::default(),
        budgets: Listing::default(),
        last: String::new(),
        preempting: HashMap::new(),
        failures: HashMap::new(),
    };
    let mut more = false;
    loop {
        let first = tokio::select! {
            () = shutdown.cancelled() => return,
            input = inputs.next() => Some(input),
            () = tokio::task::yield_now(), if more => None,
        };
        match first {
            Some(Some(input)) => scheduler.take(input),
            Some(None) => return,
            None => {}
        }
        for _ in 0..BATCH_MAX {
            match inputs.next().now_or_never() {
                Some(Some(input)) => scheduler.take(input),
                _ => break,
            }
        }
        more = scheduler.place(DECISIONS_MAX);
        if more {
            // others have a turn, also while there is always more to take in
            tokio::task::yield_now().await;
        }
    }
}

fn inputs(
    client: &Client,
    results: mpsc::UnboundedReceiver<Outcome>,
) -> impl Stream<Item = Input> + use<> {
    let config = || watcher::Config::default().any_semantic();
    let pods = watcher(Api::<Pod>::all(client.clone()), config())
        .modify(|pod| pod.metadata.managed_fields = None)
        .backoff(TriggerBackoff::default())
        .filter_map(|event| async { accept(event).map(|event| Input::Pod(Box::new(event))) });
    let nodes = watcher(Api::<Node>::all(client.clone()), config())
        .modify(|node| node.metadata.managed_fields = None)
        .backoff(TriggerBackoff::default())
        .filter_map(|event| async { accept(event).map(|event| Input::Node(Box::new(event))) });
    let claims = watched(client).map(|event| Input::Claim(Box::new(event)));
    let volumes = watched(client).map(|event| Input::Volume(Box::new(event)));
    let classes = watched(client).map(|event| Input::Class(Box::new(event)));
    let namespaces = watched(client).map(|event| Input::Namespace(Box::new(event)));
    let budgets = watched(client).map(|event| Input::Budget(Box::new(event)));
    let results = tokio_stream::wrappers::UnboundedReceiverStream::new(results).map(Input::Outcome);
    let reminders = tokio_stream::wrappers::IntervalStream::new(tokio::time::interval(REMIND / 5))
        .map(|_| Input::Remind);
    futures::stream::select_all([
        pods.boxed(),
        nodes.boxed(),
        claims.boxed(),
        volumes.boxed(),
        classes.boxed(),
        namespaces.boxed(),
        budgets.boxed(),
        results.boxed(),
        reminders.boxed(),
    ])
}

fn watched<K>(client: &Client) -> impl Stream<Item = watcher::Event<K>> + use<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    watcher(
        Api::<K>::all(client.clone()),
        watcher::Config::default().any_semantic(),
    )
    .modify(|object| object.meta_mut().managed_fields = None)
    .backoff(TriggerBackoff::default())
    .filter_map(|event| async { accept(event) })
}

fn accept<K>(event: watcher::Result<watcher::Event<K>>) -> Option<watcher::Event<K>> {
    event
        .inspect_err(|error| tracing::debug!(%error, "watch failed, starting again"))
        .ok()
}

struct Scheduler {
    config: Config,
    writer: Writer,
    cluster: Cluster,
    queue: Queue,
    /// Pods that were given a node which the watch does not show yet.
    assumed: HashMap<String, String>,
    pods: Listing,
    nodes: Listing,
    storage: Storage,
    claims: Listing,
    volumes: Listing,
    classes: Listing,
    namespaces: Listing,
    budgets: Listing,
    /// The node that the last decision looked at last.
    last: String,
    /// Pods whose victims are being told to go, and whether the pod should have been tried meanwhile.
    preempting: HashMap<String, bool>,
    /// How often in a row bindings failed, by pod.
    failures: HashMap<String, u32>,
}

impl Scheduler {
    /// Decides for at most so many pods; true if more wait for a decision.
    fn place(&mut self, most: usize) -> bool {
        let listings = [
            &self.pods,
            &self.nodes,
            &self.claims,
            &self.volumes,
            &self.classes,
            &self.namespaces,
            &self.budgets,
        ];
        if !listings.iter().all(|listing| listing.complete) {
            return false;
        }
        for _ in 0..most {
            let Some((uid, pod)) = self.queue.pop() else {
                return false;
            };
            if let Some(missed) = self.preempting.get_mut(&uid) {
                *missed = true;
                continue;
            }
            let incoming = Incoming::of(&pod);
            let decision = decide(&incoming, &self.cluster, &self.storage, &self.last);
            if let Ok(placed) = &decision {
                self.last.clone_from(&placed.last);
            }
            match decision {
                Ok(placed) if !placed.choices.is_empty() => {
                    // until its claims are bound, whose events bring it here again, its room is kept: what they are told is final
                    self.cluster.nominate(&placed.node, incoming.resident);
                    let told =
                        |choice: &Choice| matches!(choice, Choice::Provision { told: true, .. });
                    if !placed.choices.iter().all(told) {
                        self.writer.choose(uid.clone(), placed);
                    }
                    self.queue.hold(&uid);
                }
                Ok(placed) => {
                    let node = placed.node;
                    self.queue.settle(&uid);
                    self.cluster.withdraw(&uid);
                    self.cluster.place(&node, incoming.resident);
                    self.queue.retry_sociable();
                    self.assumed.insert(uid.clone(), node.clone());
                    let failures = self.failures.get(&uid).copied().unwrap_or(0);
                    self.writer.bind(uid, pod, node, failures);
                }
                Err(refusal) => self.refuse(&uid, &pod, incoming.resident, refusal),
            }
        }
        true
    }

    /// Tells the pod why it waits, and makes room for it if that can be done.
    fn refuse(&mut self, uid: &str, pod: &Arc<Pod>, resident: Arc<Resident>, refusal: Refusal) {
        let tell = self
            .queue
            .park(uid, &refusal.message, Instant::now(), REMIND);
        let nomination = match &refusal.preemption {
            Some(preemption) => Some(Some(preemption.node.clone())),
            None => refusal.hopeless.then_some(None),
        };
        if tell || nomination.is_some() {
            self.writer
                .explain(pod.clone(), refusal.message, nomination, tell);
        }
        if refusal.hopeless && self.cluster.withdraw(uid).is_some() {
            // others may have what was kept for it
            self.queue.retry_all_but(uid);
        }
        let Some(preemption) = refusal.preemption else {
            return;
        };
        for lesser in &preemption.displaced {
            self.cluster.withdraw(&lesser.uid);
            if let Some(waiting) = self.queue.get(&lesser.uid) {
                self.writer.displace(waiting.clone());
            }
            self.queue.retry(&lesser.uid);
        }
        self.cluster.nominate(&preemption.node, resident);
        self.preempting.insert(uid.to_owned(), false);
        let (uid, pod) = (uid.to_owned(), pod.clone());
        self.writer.preempt(uid, pod, preemption);
    }
}
