//! One watch and one cache per kind and process, shared by every controller that needs it.
//!
//! `kube`'s own shared stores do not deliver deletes (kube #1590). Here every subscriber has a queue that keeps the
//! newest version of each object, so that a slow subscriber costs memory per object instead of per event and never
//! misses a delete.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::sync::{Arc, Weak};

use futures::{Stream, StreamExt};
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::backoff::TriggerBackoff;
use crate::objects::controller_of;

/// What an informer needs of a kind.
pub trait Cached:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}
impl<K> Cached for K where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

/// Names the index entries of an object; lookups go through [`Informer::by_index`].
pub type IndexFn<K> = fn(&K) -> Vec<String>;

/// A shared cache of all objects of one kind, kept current by one watch.
pub struct Informer<K: Cached> {
    inner: Arc<Inner<K>>,
}

impl<K: Cached> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

struct Inner<K: Cached> {
    reader: Store<K>,
    index_of: IndexFn<K>,
    state: Mutex<State<K>>,
    /// `kube`'s `Store::wait_until_ready` wakes only the last of several waiters; nobody waits on it here.
    ready: watch::Sender<Readiness>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    Listing,
    Ready,
    Ended,
}

struct State<K> {
    index: HashMap<String, BTreeMap<String, Arc<K>>>,
    subscribers: Vec<Weak<Queue<K>>>,
    revision: u64,
    lists: u64,
}

struct Queue<K> {
    pending: Mutex<Pending<K>>,
    arrived: Notify,
}

struct Pending<K> {
    order: VecDeque<String>,
    newest: HashMap<String, Arc<K>>,
    closed: bool,
}

impl<K: Cached> Informer<K> {
    /// Starts the watch; it ends with `shutdown`. `prune` drops what nobody reads before an object is cached.
    pub fn start(
        api: Api<K>,
        config: watcher::Config,
        index_of: IndexFn<K>,
        prune: fn(&mut K),
        shutdown: CancellationToken,
    ) -> Self {
        let writer = Writer::<K>::new(());
        let informer = Self::over(writer.as_reader(), index_of);
        let inner = informer.inner.clone();
        tokio::spawn(async move {
            let events = watcher(api, config)
                .modify(move |object| {
                    object.meta_mut().managed_fields = None;
                    prune(object);
                })
                .backoff(TriggerBackoff::default());
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = follow(&inner, writer, events) => {}
            }
            inner.close();
        });
        informer
    }

    fn over(reader: Store<K>, index_of: IndexFn<K>) -> Self {
        Self {
            inner: Arc::new(Inner {
                reader,
                index_of,
                state: Mutex::new(State {
                    index: HashMap::new(),
                    subscribers: Vec::new(),
                    revision: 0,
                    lists: 0,
                }),
                ready: watch::Sender::new(Readiness::Listing),
            }),
        }
    }

    /// The cache in the form `kube::runtime::Controller` takes.
    pub fn store(&self) -> Store<K> {
        self.inner.reader.clone()
    }

    /// The cached object of this name.
    pub fn get(&self, namespace: Option<&str>, name: &str) -> Option<Arc<K>> {
        let mut reference = ObjectRef::new(name);
        if let Some(namespace) = namespace {
            reference = reference.within(namespace);
        }
        self.inner.reader.get(&reference)
    }

    /// Every cached object.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.inner.reader.state()
    }

    /// The objects whose index entries contain `entry`.
    pub fn by_index(&self, entry: &str) -> Vec<Arc<K>> {
        let state = self.inner.state.lock();
        state
            .index
            .get(entry)
            .map(|objects| objects.values().cloned().collect())
            .unwrap_or_default()
    }

    /// Returns once the first list is complete; false if the informer ended before. Must be awaited before [`Informer::store`] is given to a
    /// `Controller`: several controllers that wait for one store themselves do not all wake up.
    pub async fn ready(&self) -> bool {
        let mut ready = self.inner.ready.subscribe();
        let settled = ready.wait_for(|state| *state != Readiness::Listing).await;
        settled.is_ok_and(|state| *state == Readiness::Ready)
    }

    /// The highest resourceVersion seen on an object, and how many lists were completed.
    pub fn progress(&self) -> (u64, u64) {
        let state = self.inner.state.lock();
        (state.revision, state.lists)
    }

    /// Every cached object, then every object that changes or goes, without a gap. Versions of one object that a
    /// subscriber had no time to read are replaced by the newest.
    pub fn stream(&self) -> impl Stream<Item = Arc<K>> + Send + 'static {
        let queue = Arc::new(Queue {
            pending: Mutex::new(Pending {
                order: VecDeque::new(),
                newest: HashMap::new(),
                closed: false,
            }),
            arrived: Notify::new(),
        });
        {
            let mut state = self.inner.state.lock();
            for object in self.inner.reader.state() {
                queue.push(uid(&*object), object);
            }
            state.subscribers.push(Arc::downgrade(&queue));
        }
        futures::stream::unfold(queue, |queue| async move {
            loop {
                {
                    let mut pending = queue.pending.lock();
                    if let Some(object) = pending.pop() {
                        drop(pending);
                        return Some((object, queue));
                    }
                    if pending.closed {
                        return None;
                    }
                }
                queue.arrived.notified().await;
            }
        })
    }
}

async fn follow<K: Cached>(
    inner: &Inner<K>,
    mut writer: Writer<K>,
    events: impl Stream<Item = Result<watcher::Event<K>, watcher::Error>>,
) {
    let mut events = std::pin::pin!(events);
    while let Some(item) = events.next().await {
        match item {
            Ok(event) => inner.apply(&mut writer, event),
            Err(error) => {
                tracing::debug!(kind = %K::kind(&()), %error, "watch failed, starting again");
            }
        }
    }
}

impl<K: Cached> Inner<K> {
    fn apply(&self, writer: &mut Writer<K>, event: watcher::Event<K>) {
        let mut state = self.state.lock();
        match &event {
            watcher::Event::Apply(object) => {
                let reference = ObjectRef::from_obj(object);
                let previous = self.reader.get(&reference);
                state.note_revision(object);
                writer.apply_watcher_event(&event);
                if let Some(previous) = previous {
                    self.unindex(&mut state, &previous);
                    let owner = |object: &K| controller_of(object).map(|owner| owner.uid.clone());
                    if uid(&*previous) != uid(object) {
                        state.publish(&previous);
                    } else if let Some(before) = owner(&previous)
                        && owner(object).as_ref() != Some(&before)
                    {
                        // its labels may not lead to the controller that has lost it
                        state.publish_as(format!("{}/{before}", uid(object)), &previous);
                    }
                }
                if let Some(current) = self.reader.get(&reference) {
                    self.index(&mut state, &current);
                    state.publish(&current);
                }
            }
            watcher::Event::Delete(object) => {
                state.note_revision(object);
                if let Some(previous) = self.reader.get(&ObjectRef::from_obj(object)) {
                    self.unindex(&mut state, &previous);
                }
                writer.apply_watcher_event(&event);
                state.publish(&Arc::new(object.clone()));
            }
            watcher::Event::Init | watcher::Event::InitApply(_) => {
                writer.apply_watcher_event(&event);
            }
            watcher::Event::InitDone => {
                let before = self.reader.state();
                writer.apply_watcher_event(&event);
                let after = self.reader.state();
                state.index.clear();
                state.lists += 1;
                let live: HashSet<String> = after.iter().map(|object| uid(&**object)).collect();
                for object in before
                    .iter()
                    .filter(|object| !live.contains(&uid(&***object)))
                {
                    state.publish(object);
                }
                for object in &after {
                    state.note_revision(&**object);
                    self.index(&mut state, object);
                    state.publish(object);
                }
                self.ready.send_replace(Readiness::Ready);
            }
        }
    }

    fn index(&self, state: &mut State<K>, object: &Arc<K>) {
        for entry in (self.index_of)(object) {
            let objects = state.index.entry(entry).or_default();
            objects.insert(uid(&**object), object.clone());
        }
    }

    fn unindex(&self, state: &mut State<K>, object: &Arc<K>) {
        for entry in (self.index_of)(object) {
            if let Some(objects) = state.index.get_mut(&entry) {
                objects.remove(&uid(&**object));
                if objects.is_empty() {
                    state.index.remove(&entry);
                }
            }
        }
    }

    fn close(&self) {
        self.ready.send_replace(Readiness::Ended);
        for queue in self.state.lock().subscribers.drain(..) {
            if let Some(queue) = queue.upgrade() {
                queue.pending.lock().closed = true;
                queue.arrived.notify_one();
            }
        }
    }
}

impl<K: Cached> State<K> {
    fn note_revision(&mut self, object: &K) {
        self.revision = self.revision.max(revision_of(object));
    }

    fn publish(&mut self, object: &Arc<K>) {
        self.publish_as(uid(&**object), object);
    }

    /// Of several objects under one key the last is told of.
    fn publish_as(&mut self, key: String, object: &Arc<K>) {
        self.subscribers.retain(|queue| match queue.upgrade() {
            Some(queue) => {
                queue.push(key.clone(), object.clone());
                true
            }
            None => false,
        });
    }
}

impl<K: Cached> Queue<K> {
    fn push(&self, key: String, object: Arc<K>) {
        let mut pending = self.pending.lock();
        if pending.newest.insert(key.clone(), object).is_none() {
            pending.order.push_back(key);
        }
        drop(pending);
        self.arrived.notify_one();
    }
}

impl<K> Pending<K> {
    fn pop(&mut self) -> Option<Arc<K>> {
        let key = self.order.pop_front()?;
        self.newest.remove(&key)
    }
}

fn uid<K: Resource>(object: &K) -> String {
    object.meta().uid.clone().unwrap_or_default()
}

/// The object's resourceVersion as a number (0 when it is none): since Kubernetes 1.35 versions of one kind may be
/// ordered.
pub fn revision_of<K: Resource>(object: &K) -> u64 {
    object
        .meta()
        .resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
