//! What the writer, the readers and the watches of one store have in common.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use super::Limits;
use super::record::Record;
use super::state::State;
use super::watch::Hub;
use crate::Revision;

pub(crate) struct Shared {
    /// Never locked across an await or a disk access. Locked before `hub`'s own lock.
    pub state: RwLock<State>,
    pub hub: Hub,
    pub limits: Limits,
    closed: AtomicBool,
}

impl Shared {
    pub fn new(state: State, limits: Limits) -> Self {
        Self {
            state: RwLock::new(state),
            hub: Hub::default(),
            limits,
            closed: AtomicBool::new(false),
        }
    }

    /// Shows committed changes up to `revision` to readers and watches.
    pub fn publish(&self, records: Vec<Record>, revision: Revision, compacted: Revision) {
        let (left, woken) = {
            let mut state = self.state.write();
            let woken = self.hub.mark(records.iter());
            (state.apply(records, revision, compacted), woken)
        };
        woken.wake();
        drop(left);
    }

    /// Takes over what was read back from the disk: the state it had, and perhaps changes whose
    /// commit had been reported as failed.
    pub fn replace(&self, loaded: State) {
        let (old, woken) = {
            let mut state = self.state.write();
            let seen = state.revision();
            let woken = match loaded.changes_after(seen) {
                Ok(new) => self.hub.mark(new.collect::<Vec<_>>().iter().copied()),
                // More than a window at once: nobody can be given it all.
                Err(_) => self.hub.lag(seen + 1),
            };
            (std::mem::replace(&mut *state, loaded), woken)
        };
        woken.wake();
        drop(old);
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.hub.all().wake();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use futures::{FutureExt, StreamExt};

    use super::super::Entry;
    use super::super::watch;
    use super::*;
    use crate::{Change, Error, WatchItem};

    fn limits() -> Limits {
        Limits {
            history_changes_max: 100,
            history_bytes_max: 1 << 20,
            watch_batch_changes_max: 256,
            progress_interval: Duration::from_secs(5),
        }
    }

    /// A store with one key, set at each revision from 2 to `last`, of which those after
    /// `compacted` are retained.
    fn state(compacted: Revision, last: Revision) -> State {
        let key: Arc<str> = "/a".into();
        let entry = |revision| Entry {
            value: Bytes::new(),
            create_revision: 2,
            mod_revision: revision,
            version: revision - 1,
        };
        let history: VecDeque<Record> = (compacted + 1..=last)
            .map(|revision| Record {
                revision,
                key: key.clone(),
                previous: (revision > 2).then(|| entry(revision - 1)),
                current: Some(entry(revision)),
            })
            .collect();
        let current = match last {
            1 => BTreeMap::new(),
            _ => BTreeMap::from([(key, entry(last))]),
        };
        State::new(current, history, compacted)
    }

    #[tokio::test]
    async fn what_is_read_back_reaches_watches_that_had_seen_all_before() {
        let shared = Arc::new(Shared::new(state(1, 3), limits()));
        let mut stream = watch(&shared, "/", 3).unwrap();
        let mut other = watch(&shared, "/other/", 3).unwrap();
        assert_eq!(stream.next().await, Some(Ok(WatchItem::Progress(3))));
        assert_eq!(other.next().await, Some(Ok(WatchItem::Progress(3))));

        shared.replace(state(1, 5));
        let Some(Ok(WatchItem::Changes(changes))) = stream.next().await else {
            panic!("the changes are missing");
        };
        let revisions: Vec<_> = changes.iter().map(Change::revision).collect();
        assert_eq!(revisions, [4, 5]);
        assert_eq!(other.next().now_or_never(), None);
    }

    #[tokio::test]
    async fn watches_lag_when_what_is_read_back_does_not_reach_back_to_them() {
        let shared = Arc::new(Shared::new(state(1, 3), limits()));
        let mut stream = watch(&shared, "/", 3).unwrap();
        assert_eq!(stream.next().await, Some(Ok(WatchItem::Progress(3))));
        shared.replace(state(6, 8));
        assert_eq!(stream.next().await, Some(Err(Error::Lagged)));
        assert_eq!(stream.next().await, None);
    }
}
