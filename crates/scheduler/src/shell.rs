//! The loop around the decisions: reads pods and nodes, assumes, binds, tells, and tries again when room appears.
//!
//! One task owns all state. A pod that was given a node takes its room at once (it is assumed there), so that a burst
//! of pods does not overcommit while the bindings are on their way.

mod write;

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;
use std::time::{Duration, Instant};

use futures::{FutureExt, Stream, StreamExt};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::backoff::TriggerBackoff;
use crate::cluster::{Cluster, Footprint};
use crate::decide::decide;
use crate::queue::Queue;
use crate::storage::{Choice, Storage};
use write::Writer;

/// Inputs taken in before decisions are made; more wait in their streams.
const BATCH_MAX: usize = 1000;
/// A pod that waits is tried again after this long in any case, and its user told again.
const REMIND: Duration = Duration::from_secs(300);

/// What the loop reacts to.
enum Input {
    Pod(Box<watcher::Event<Pod>>),
    Node(Box<watcher::Event<Node>>),
    Claim(Box<watcher::Event<PersistentVolumeClaim>>),
    Volume(Box<watcher::Event<PersistentVolume>>),
    Class(Box<watcher::Event<StorageClass>>),
    Outcome(Outcome),
    Remind,
}

/// What became of a binding.
pub(crate) enum Outcome {
    /// The API accepted it.
    Bound { uid: String },
    /// The pod has a node or is gone; the watch tells.
    Void { uid: String },
    /// Try again now (the writer has waited).
    Failed { uid: String },
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
    };
    loop {
        let first = tokio::select! {
            () = shutdown.cancelled() => return,
            input = inputs.next() => input,
        };
        let Some(first) = first else {
            return;
        };
        scheduler.take(first);
        for _ in 0..BATCH_MAX {
            match inputs.next().now_or_never() {
                Some(Some(input)) => scheduler.take(input),
                _ => break,
            }
        }
        scheduler.place_all();
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
    let results = tokio_stream::wrappers::UnboundedReceiverStream::new(results).map(Input::Outcome);
    let reminders = tokio_stream::wrappers::IntervalStream::new(tokio::time::interval(REMIND / 5))
        .map(|_| Input::Remind);
    futures::stream::select_all([
        pods.boxed(),
        nodes.boxed(),
        claims.boxed(),
        volumes.boxed(),
        classes.boxed(),
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

/// What a list under way has named so far.
#[derive(Default)]
struct Listing {
    seen: Option<HashSet<String>>,
    complete: bool,
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
}

/// Applies an event to a map of objects; true if something changed that decisions look at.
fn keep<K, N: Eq + Hash + Clone>(
    event: watcher::Event<K>,
    objects: &mut HashMap<N, K>,
    listing: &mut Listing,
    key: impl Fn(&K) -> N,
) -> bool
where
    K: kube::Resource<DynamicType = ()>,
{
    let uid = |object: &K| object.meta().uid.clone().unwrap_or_default();
    match event {
        watcher::Event::Apply(object) => {
            objects.insert(key(&object), object);
        }
        watcher::Event::Delete(object) => {
            objects.remove(&key(&object));
        }
        watcher::Event::Init => {
            listing.seen = Some(HashSet::new());
            return false;
        }
        watcher::Event::InitApply(object) => {
            if let Some(seen) = &mut listing.seen {
                seen.insert(uid(&object));
            }
            objects.insert(key(&object), object);
            return false;
        }
        watcher::Event::InitDone => {
            let seen = listing.seen.take().unwrap_or_default();
            objects.retain(|_, object| seen.contains(&uid(object)));
            listing.complete = true;
        }
    }
    true
}

impl Scheduler {
    fn take(&mut self, input: Input) {
        match input {
            Input::Pod(event) => self.take_pod_event(*event),
            Input::Node(event) => self.take_node_event(*event),
            Input::Claim(event) => {
                let key = |claim: &PersistentVolumeClaim| {
                    let text = |value: &Option<String>| value.clone().unwrap_or_default();
                    (text(&claim.metadata.namespace), text(&claim.metadata.name))
                };
                if keep(*event, &mut self.storage.claims, &mut self.claims, key) {
                    self.queue.retry_all();
                }
            }
            Input::Volume(event) => {
                let key =
                    |volume: &PersistentVolume| volume.metadata.name.clone().unwrap_or_default();
                if keep(*event, &mut self.storage.volumes, &mut self.volumes, key) {
                    self.queue.retry_all();
                }
            }
            Input::Class(event) => {
                let key = |class: &StorageClass| class.metadata.name.clone().unwrap_or_default();
                if keep(*event, &mut self.storage.classes, &mut self.classes, key) {
                    self.queue.retry_all();
                }
            }
            Input::Remind => self.queue.retry_all(),
            Input::Outcome(Outcome::Bound { uid }) => self.queue.remove(&uid),
            Input::Outcome(Outcome::Void { uid }) => {
                self.queue.remove(&uid);
                self.forget_assumption(&uid);
            }
            Input::Outcome(Outcome::Failed { uid }) => {
                self.forget_assumption(&uid);
                self.queue.retry(&uid);
            }
        }
    }

    fn forget_assumption(&mut self, uid: &str) {
        if self.assumed.remove(uid).is_some() && self.cluster.remove(uid) {
            self.queue.retry_all();
        }
    }

    fn take_pod_event(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Apply(pod) => self.take_pod(pod),
            watcher::Event::Delete(pod) => {
                self.drop_pod(pod.metadata.uid.as_deref().unwrap_or_default())
            }
            watcher::Event::Init => self.pods.seen = Some(HashSet::new()),
            watcher::Event::InitApply(pod) => {
                if let Some(seen) = &mut self.pods.seen {
                    seen.insert(pod.metadata.uid.clone().unwrap_or_default());
                }
                self.take_pod(pod);
            }
            watcher::Event::InitDone => {
                let seen = self.pods.seen.take().unwrap_or_default();
                let known = self.queue.uids().into_iter().chain(self.cluster.uids());
                for uid in known.filter(|uid| !seen.contains(uid)).collect::<Vec<_>>() {
                    self.drop_pod(&uid);
                }
                self.pods.complete = true;
            }
        }
    }

    fn take_pod(&mut self, pod: Pod) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            return self.drop_pod(&uid);
        }
        let spec = pod.spec.as_ref();
        if let Some(node) = spec
            .and_then(|spec| spec.node_name.as_deref())
            .filter(|node| !node.is_empty())
        {
            self.assumed.remove(&uid);
            self.queue.remove(&uid);
            let footprint = Footprint::of(&pod);
            self.cluster.place(&uid, node, footprint);
            return;
        }
        if pod.metadata.deletion_timestamp.is_some() {
            return self.queue.remove(&uid);
        }
        let gated = spec.is_some_and(|spec| {
            spec.scheduling_gates
                .as_ref()
                .is_some_and(|gates| !gates.is_empty())
        });
        let ours = spec
            .and_then(|spec| spec.scheduler_name.as_deref())
            .unwrap_or(&self.config.scheduler_name)
            == self.config.scheduler_name;
        if ours && !gated && !self.assumed.contains_key(&uid) {
            self.queue.offer(&uid, pod);
        }
    }

    fn drop_pod(&mut self, uid: &str) {
        self.assumed.remove(uid);
        self.queue.remove(uid);
        if self.cluster.remove(uid) {
            self.queue.retry_all();
        }
    }

    fn take_node_event(&mut self, event: watcher::Event<Node>) {
        match event {
            watcher::Event::Apply(node) => self.take_node(node),
            watcher::Event::Delete(node) => self
                .cluster
                .remove_node(node.metadata.name.as_deref().unwrap_or_default()),
            watcher::Event::Init => self.nodes.seen = Some(HashSet::new()),
            watcher::Event::InitApply(node) => {
                if let Some(seen) = &mut self.nodes.seen {
                    seen.insert(node.metadata.name.clone().unwrap_or_default());
                }
                self.take_node(node);
            }
            watcher::Event::InitDone => {
                let seen = self.nodes.seen.take().unwrap_or_default();
                self.cluster.retain_nodes(|name| seen.contains(name));
                self.nodes.complete = true;
            }
        }
    }

    fn take_node(&mut self, node: Node) {
        // Heartbeats change nothing that a decision looks at.
        if self.cluster.set_node(node) {
            self.queue.retry_all();
        }
    }

    fn place_all(&mut self) {
        let listings = [
            &self.pods,
            &self.nodes,
            &self.claims,
            &self.volumes,
            &self.classes,
        ];
        if !listings.iter().all(|listing| listing.complete) {
            return;
        }
        while let Some((uid, pod)) = self.queue.pop() {
            let footprint = Footprint::of(&pod);
            match decide(&pod, &footprint, &self.cluster, &self.storage) {
                Ok(placed) if !placed.choices.is_empty() => {
                    // it takes room when its claims are bound; until then their events bring it here again
                    let told =
                        |choice: &Choice| matches!(choice, Choice::Provision { told: true, .. });
                    if !placed.choices.iter().all(told) {
                        self.writer.choose(uid.clone(), placed);
                    }
                    self.queue.hold(&uid);
                }
                Ok(placed) => {
                    let node = placed.node;
                    self.cluster.place(&uid, &node, footprint);
                    self.assumed.insert(uid.clone(), node.clone());
                    self.writer.bind(uid, pod, node);
                }
                Err(message) => {
                    if self.queue.park(&uid, &message, Instant::now(), REMIND) {
                        self.writer.explain(pod, message);
                    }
                }
            }
        }
    }
}
