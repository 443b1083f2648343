//! The custom kinds of this moment, and what is done about definitions: names are accepted, kinds established.
//!
//! A write of a definition settles everything before it is answered, so that the next request finds the kind. Requests
//! read one pointer.

mod known;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use super::definition::{self, PREFIX};
use super::names::by_preference;
use super::terminate;
use crate::registry::{self, Kind, KindRef};
use crate::server::State;
use known::Known;

/// How long to wait when the store could not be read or written.
const PAUSE: Duration = Duration::from_millis(500);

/// The custom kinds that are served.
#[derive(Default)]
pub(crate) struct CustomKinds {
    set: RwLock<Arc<Set>>,
    /// Held while definitions are settled, so that one does it at a time.
    known: tokio::sync::Mutex<Known>,
}

/// Kinds by group, each group's in the order of discovery.
#[derive(Default)]
pub(crate) struct Set {
    groups: BTreeMap<&'static str, Vec<Arc<Kind>>>,
}

impl Set {
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        let kinds = self.groups.get(group)?;
        kinds
            .iter()
            .find(|kind| kind.version == version && kind.plural == plural)
    }

    /// The groups, by name.
    pub fn groups(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.groups.keys().copied()
    }

    pub fn of_group(&self, group: &str) -> &[Arc<Kind>] {
        self.groups.get(group).map_or(&[], Vec::as_slice)
    }

    /// The versions of a group, preferred first.
    pub fn versions(&self, group: &str) -> Vec<&'static str> {
        let mut versions: Vec<_> = self
            .of_group(group)
            .iter()
            .map(|kind| kind.version)
            .collect();
        versions.sort_by(|a, b| by_preference(a, b));
        versions.dedup();
        versions
    }
}

impl CustomKinds {
    /// The kinds of now.
    pub fn set(&self) -> Arc<Set> {
        self.set.read().clone()
    }

    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<KindRef> {
        let set = self.set.read();
        set.find(group, version, plural)
            .cloned()
            .map(KindRef::Custom)
    }

    /// The kind, also when its definition was established only this moment: who has read that must find it served.
    pub async fn find_late(
        &self,
        state: &Arc<State>,
        group: &str,
        version: &str,
        plural: &str,
    ) -> Option<KindRef> {
        let name = format!("{plural}.{group}");
        let key = format!("{PREFIX}{name}");
        let stored = state.store.get(&key).await.ok()?.0?;
        // what is being settled is waited for
        let settled = self.known.lock().await.revision(&name) == Some(stored.mod_revision);
        if !settled {
            self.settle(state).await.ok()?;
        }
        self.find(group, version, plural)
    }

    /// Reads the definitions, writes what is to be said of them, and serves what they describe.
    pub async fn settle(&self, state: &Arc<State>) -> Result<(), store::Error> {
        let mut known = self.known.lock().await;
        // accepting one name can set free another
        for _ in 0..4 {
            known.read(state).await?;
            if !known.judge(state).await? {
                break;
            }
        }
        let mut ended = known.serve(state).await?;
        ended.extend(known.ended());
        let mut groups: BTreeMap<&'static str, Vec<Arc<Kind>>> = BTreeMap::new();
        let mut names: Vec<_> = known.served.keys().collect();
        names.sort();
        for kind in names.iter().flat_map(|name| &known.served[*name].kinds) {
            groups.entry(kind.group).or_default().push(kind.clone());
        }
        *self.set.write() = Arc::new(Set { groups });
        for end in ended {
            end.cancel();
        }
        for definition in known.parsed.values().map(|(_, definition)| definition) {
            terminate::begin(state, definition);
        }
        Ok(())
    }
}

/// Serves what the store's definitions describe, and follows them.
pub(crate) async fn start(state: &Arc<State>) -> Result<(), crate::Error> {
    let changed = registry::find(definition::GROUP, "v1", definition::PLURAL)
        .and_then(|kind| state.cache(kind))
        .map(|cache| cache.subscribe());
    state
        .custom
        .settle(state)
        .await
        .map_err(|source| crate::Error::Store {
            attempt: "read the CustomResourceDefinitions".into(),
            source,
        })?;
    if let Some(changed) = changed {
        tokio::spawn(follow(
            Arc::downgrade(state),
            changed,
            state.shutdown.clone(),
        ));
    }
    Ok(())
}

/// Settles definitions again whenever one changes, until the server goes: what others wrote to the store counts, too.
async fn follow(
    state: Weak<State>,
    mut changed: tokio::sync::watch::Receiver<u64>,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            result = changed.changed() => if result.is_err() { return },
        }
        loop {
            changed.mark_unchanged();
            let Some(state) = state.upgrade() else {
                return;
            };
            match state.custom.settle(&state).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(%error, "could not settle the CustomResourceDefinitions")
                }
            }
            drop(state);
            tokio::time::sleep(PAUSE).await;
        }
    }
}
