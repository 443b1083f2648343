//! One metadata watch per kind, started and stopped as kinds come and go.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::discovery::{ApiResource, Scope, verbs};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Discovery};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Collector;
use super::graph::Node;
use crate::backoff::TriggerBackoff;

type Meta = PartialObjectMeta<DynamicObject>;

/// The watches that run.
#[derive(Default)]
pub struct Monitors {
    by_kind: HashMap<(String, String), Monitor>,
}

struct Monitor {
    synced: watch::Receiver<bool>,
    _stop: DropGuard,
}

impl Monitors {
    /// Starts and stops watches so that they match what the server offers.
    pub async fn refresh(
        &mut self,
        collector: &Arc<Collector>,
        stop: &CancellationToken,
    ) -> Result<(), kube::Error> {
        let discovery = Discovery::new(collector.client.clone()).run().await?;
        let mut kinds = HashMap::new();
        let mut watched = HashMap::new();
        for group in discovery.groups() {
            for (resource, capabilities) in group
                .versions()
                .flat_map(|version| group.versioned_resources(version))
            {
                let namespaced = capabilities.scope == Scope::Namespaced;
                kinds.insert(key_of(&resource), (resource, namespaced));
            }
            // Each kind once, in its own best version: not every kind of a group is served in the one that the group prefers.
            for (resource, capabilities) in group.resources_by_stability() {
                let usable = [verbs::LIST, verbs::WATCH, verbs::DELETE]
                    .into_iter()
                    .all(|verb| capabilities.supports_operation(verb));
                // Events own nothing and are many.
                if usable && resource.kind != "Event" {
                    watched.insert(key_of(&resource), resource);
                }
            }
        }
        // Before the watches: what they find is judged by it.
        *collector.kinds.write() = kinds;
        for key in self.by_kind.keys().cloned().collect::<Vec<_>>() {
            if !watched.contains_key(&key) {
                self.by_kind.remove(&key);
                collector.forget_kind(&key);
            }
        }
        for (key, resource) in watched {
            self.by_kind
                .entry(key)
                .or_insert_with(|| start(collector, resource, stop));
        }
        Ok(())
    }

    /// Whether nothing is watched, because the server has not said what there is.
    pub fn is_empty(&self) -> bool {
        self.by_kind.is_empty()
    }

    /// The kinds whose watch has not listed what there is.
    pub fn not_synced(&self) -> Vec<String> {
        let missing = |(key, monitor): (&(String, String), &Monitor)| {
            let (api_version, kind) = key;
            (!*monitor.synced.borrow()).then(|| format!("{kind} {api_version}"))
        };
        self.by_kind.iter().filter_map(missing).collect()
    }

    /// Waits until every watch has listed what there is; false if that takes longer than `limit`.
    pub async fn synced(&self, limit: Duration) -> bool {
        if self.by_kind.is_empty() {
            return false;
        }
        let all = async {
            for monitor in self.by_kind.values() {
                if monitor
                    .synced
                    .clone()
                    .wait_for(|synced| *synced)
                    .await
                    .is_err()
                {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(limit, all).await.unwrap_or(false)
    }
}

fn key_of(resource: &ApiResource) -> (String, String) {
    (resource.api_version.clone(), resource.kind.clone())
}

fn start(collector: &Arc<Collector>, resource: ApiResource, stop: &CancellationToken) -> Monitor {
    let (synced, receiver) = watch::channel(false);
    let stop = stop.child_token();
    let guard = stop.clone().drop_guard();
    let collector = collector.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = follow(&collector, &resource, synced) => {}
        }
    });
    Monitor {
        synced: receiver,
        _stop: guard,
    }
}

async fn follow(collector: &Collector, resource: &ApiResource, synced: watch::Sender<bool>) {
    let api: Api<Meta> = Api::all_with(collector.client.clone(), resource);
    let config = watcher::Config::default().any_semantic();
    let mut events = watcher(api, config)
        .backoff(TriggerBackoff::default())
        .boxed();
    let node = |object: Meta| Node::new(&resource.api_version, &resource.kind, object.metadata);
    let mut listed: Option<HashSet<String>> = None;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(object)) => collector.apply(node(object)),
            Ok(watcher::Event::Delete(object)) => {
                let uid = object.metadata.uid.unwrap_or_default();
                collector.gone.lock().insert(uid.clone());
                collector.remove(&uid);
            }
            Ok(watcher::Event::Init) => listed = Some(HashSet::new()),
            Ok(watcher::Event::InitApply(object)) => {
                if let Some(listed) = &mut listed {
                    listed.insert(object.metadata.uid.clone().unwrap_or_default());
                }
                collector.apply(node(object));
            }
            Ok(watcher::Event::InitDone) => {
                let listed = listed.take().unwrap_or_default();
                let known = collector
                    .graph
                    .lock()
                    .uids_of(&resource.api_version, &resource.kind);
                for uid in known.iter().filter(|uid| !listed.contains(*uid)) {
                    collector.remove(uid);
                }
                let bereft = collector
                    .graph
                    .lock()
                    .bereft_of(&resource.api_version, &resource.kind);
                collector.queue.add(bereft);
                synced.send_replace(true);
            }
            Err(error) => {
                tracing::debug!(kind = resource.kind, %error, "watch failed, starting again")
            }
        }
    }
}

impl Collector {
    fn apply(&self, node: Node) {
        if node.identity.kind == "CustomResourceDefinition" {
            self.definitions.notify_one();
        }
        let look = self.graph.lock().apply(node);
        self.queue.add(look);
    }

    fn remove(&self, uid: &str) {
        let look = self.graph.lock().remove(uid);
        self.queue.add(look);
    }

    /// A kind that is no longer served says nothing about its objects: dependents are not judged by that.
    fn forget_kind(&self, (api_version, kind): &(String, String)) {
        let mut graph = self.graph.lock();
        for uid in graph.uids_of(api_version, kind) {
            graph.remove(&uid);
        }
    }
}
