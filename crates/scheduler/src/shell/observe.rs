//! What the API tells: objects that came, changed and went, put into what decisions look at.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use kube::runtime::watcher;

use super::{Input, Outcome, Scheduler};
use crate::budget::Budget;
use crate::resident::Resident;

/// What a list under way has named so far.
#[derive(Default)]
pub(super) struct Listing {
    seen: Option<HashSet<String>>,
    pub(super) complete: bool,
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

impl Listing {
    /// Applies an event to what is known of objects; true if that is whole and may have changed.
    fn follow<K, V: PartialEq>(
        &mut self,
        event: watcher::Event<K>,
        known: &mut HashMap<String, V>,
        key: impl Fn(&K) -> String,
        value: impl Fn(&K) -> V,
    ) -> bool {
        match event {
            watcher::Event::Apply(object) => {
                let value = value(&object);
                let before = known.insert(key(&object), value);
                before.as_ref() != known.get(&key(&object))
            }
            watcher::Event::Delete(object) => known.remove(&key(&object)).is_some(),
            watcher::Event::Init => {
                self.seen = Some(HashSet::new());
                false
            }
            watcher::Event::InitApply(object) => {
                if let Some(seen) = &mut self.seen {
                    seen.insert(key(&object));
                }
                known.insert(key(&object), value(&object));
                false
            }
            watcher::Event::InitDone => {
                let seen = self.seen.take().unwrap_or_default();
                known.retain(|key, _| seen.contains(key));
                self.complete = true;
                true
            }
        }
    }
}

impl Scheduler {
    pub(super) fn take(&mut self, input: Input) {
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
            Input::Namespace(event) => self.take_namespace_event(*event),
            Input::Budget(event) => self.take_budget_event(*event),
            Input::Remind => self.queue.retry_all(),
            Input::Outcome(Outcome::Preempted { uid, failed }) => {
                let missed = self.preempting.remove(&uid).unwrap_or(false);
                if missed || failed {
                    self.queue.retry(&uid);
                }
            }
            Input::Outcome(Outcome::Bound { uid }) => {
                self.failures.remove(&uid);
                self.queue.remove(&uid);
            }
            Input::Outcome(Outcome::Void { uid }) => {
                self.forget_assumption(&uid);
                self.queue.hold(&uid);
            }
            Input::Outcome(Outcome::Failed { uid }) => {
                let failures = self.failures.entry(uid.clone()).or_insert(0);
                *failures = failures.saturating_add(1);
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
            let elsewhere = self.cluster.withdraw(&uid).is_some_and(|kept| kept != node);
            let resident = Arc::new(Resident::of(&pod));
            let shrinks = self.cluster.shrinks(node, &resident);
            match self.cluster.place(node, resident) {
                _ if elsewhere => self.queue.retry_all(),
                true if shrinks => self.queue.retry_all(),
                true => self.queue.retry_sociable(),
                false => {}
            }
            return;
        }
        if pod.metadata.deletion_timestamp.is_some() {
            self.queue.remove(&uid);
            if self.cluster.withdraw(&uid).is_some() {
                // others may have what was kept for it
                self.queue.retry_all();
            }
            return;
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
            self.take_nomination(&uid, &pod);
            self.queue.offer(&uid, pod);
        }
    }

    /// Keeps the pod's node as its status has it. A status that never had one may be older than what is known here.
    fn take_nomination(&mut self, uid: &str, pod: &Pod) {
        let nominated = |pod: &Pod| {
            let status = pod.status.as_ref()?;
            let node = status.nominated_node_name.clone();
            node.filter(|node| !node.is_empty())
        };
        let before = self.queue.get(uid).and_then(|pod| nominated(pod));
        match nominated(pod) {
            Some(node) if before.as_ref() != Some(&node) => {
                self.cluster.nominate(&node, Arc::new(Resident::of(pod)));
            }
            None if before.is_some() => {
                self.cluster.withdraw(uid);
            }
            _ => {}
        }
    }

    fn drop_pod(&mut self, uid: &str) {
        self.failures.remove(uid);
        self.assumed.remove(uid);
        self.queue.remove(uid);
        let kept = self.cluster.withdraw(uid).is_some();
        if self.cluster.remove(uid) || kept {
            self.queue.retry_all();
        }
    }

    fn take_namespace_event(&mut self, event: watcher::Event<Namespace>) {
        let labels = |namespace: &Namespace| namespace.labels().clone();
        let known = &mut self.cluster.namespaces;
        if self
            .namespaces
            .follow(event, known, |one| one.name_any(), labels)
        {
            self.queue.retry_all();
        }
    }

    fn take_budget_event(&mut self, event: watcher::Event<PodDisruptionBudget>) {
        let key = |budget: &PodDisruptionBudget| {
            let namespace = budget.namespace().unwrap_or_default();
            format!("{namespace}/{}", budget.name_any())
        };
        let known = &mut self.cluster.budgets;
        self.budgets.follow(event, known, key, Budget::of);
    }

    fn take_node_event(&mut self, event: watcher::Event<Node>) {
        match event {
            watcher::Event::Apply(node) => self.take_node(node),
            watcher::Event::Delete(node) => {
                let name = node.metadata.name.as_deref().unwrap_or_default();
                self.cluster.remove_node(name);
                // a domain may be gone with it that pods were to be spread over
                self.queue.retry_sociable();
            }
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
}
