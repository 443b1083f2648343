//! Watch events with a retry of their own, and the set of objects that they add up to.

use std::collections::HashMap;
use std::fmt::Debug;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::core::PartialObjectMeta;
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

/// 20 ms at first, doubling to 5 s: kube's default starts at 800 ms, which a local server does not need.
#[derive(Clone, Debug, Default)]
pub struct QuickBackoff {
    attempt: u32,
}

impl Iterator for QuickBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = Duration::from_millis(20u64 << self.attempt.min(8)).min(Duration::from_secs(5));
        self.attempt = self.attempt.saturating_add(1);
        Some(wait)
    }
}

impl Backoff for QuickBackoff {
    fn reset(&mut self) {
        self.attempt = 0;
    }
}

/// Endless watch events; errors are logged and the watch begins anew.
pub fn events<K>(
    api: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Event<K>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watcher(api, config.any_semantic())
        .backoff(QuickBackoff::default())
        .filter_map(async |event| {
            event
                .inspect_err(|error| tracing::warn!(%error, "a watch broke; it starts again"))
                .ok()
        })
}

/// Names (namespace and name) of objects that changed or went, as seen by their metadata alone. What a first list holds has not
/// changed; what a later one holds may have.
pub fn changes<K>(client: Client) -> impl Stream<Item = (String, String)> + Send
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default().any_semantic();
    let mut listed = false;
    let api: Api<PartialObjectMeta<K>> = Api::all(client);
    watcher(api, config)
        .backoff(QuickBackoff::default())
        .filter_map(move |event| {
            let object = match event {
                Ok(watcher::Event::Apply(object) | watcher::Event::Delete(object)) => Some(object),
                Ok(watcher::Event::InitApply(object)) if listed => Some(object),
                Ok(watcher::Event::InitDone) => {
                    listed = true;
                    None
                }
                Ok(_) => None,
                Err(error) => {
                    tracing::warn!(%error, "a watch broke; it starts again");
                    None
                }
            };
            let named =
                object.map(|object| (object.namespace().unwrap_or_default(), object.name_any()));
            std::future::ready(named)
        })
}

/// The objects that a stream of events adds up to, by UID.
pub struct Objects<K> {
    now: HashMap<String, K>,
    incoming: Option<HashMap<String, K>>,
    complete: bool,
}

impl<K> Default for Objects<K> {
    fn default() -> Self {
        Self {
            now: HashMap::new(),
            incoming: None,
            complete: false,
        }
    }
}

impl<K: Resource> Objects<K> {
    /// Applies one event.
    pub fn take(&mut self, event: watcher::Event<K>) {
        match event {
            watcher::Event::Apply(object) => {
                self.now.insert(object.uid().unwrap_or_default(), object);
            }
            watcher::Event::Delete(object) => {
                self.now.remove(&object.uid().unwrap_or_default());
            }
            watcher::Event::Init => self.incoming = Some(HashMap::new()),
            watcher::Event::InitApply(object) => {
                self.incoming
                    .get_or_insert_default()
                    .insert(object.uid().unwrap_or_default(), object);
            }
            watcher::Event::InitDone => {
                self.now = self.incoming.take().unwrap_or_default();
                self.complete = true;
            }
        }
    }

    /// Whether a whole list has been seen.
    pub fn complete(&self) -> bool {
        self.complete
    }

    /// The objects as of the last event.
    pub fn iter(&self) -> impl Iterator<Item = &K> + Clone {
        self.now.values()
    }
}
