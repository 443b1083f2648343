//! Watches: each one is a position in the retained changes that all of them share.
//!
//! The writer only notes, per watch, the first change it has not read yet; the watch then reads on
//! from the shared history. So past and future changes come from one place, without a gap or a
//! repetition between them, a slow watch costs no memory of its own, and one whose next change has
//! left the window ends alone.

use std::collections::HashMap;
use std::collections::hash_map;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::record::Record;
use super::shared::Shared;
use super::state::State;
use crate::{Error, Revision, WatchItem, WatchStream};

/// All watches, by what they watch.
#[derive(Default)]
pub(crate) struct Hub {
    by_prefix: Mutex<HashMap<Arc<str>, Vec<Arc<Slot>>>>,
}

/// What the writer and one watch tell each other.
struct Slot {
    prefix: Arc<str>,
    /// The first change that the watch has to deliver; 0 when there is none. Written by the writer
    /// under the state's write lock and by the watch under its read lock.
    pending: AtomicU64,
    wake: Notify,
}

/// The watches to wake once the state's lock is released.
pub(crate) struct Woken(Vec<Arc<Slot>>);

impl Woken {
    pub fn wake(self) {
        for slot in self.0 {
            slot.wake.notify_one();
        }
    }
}

impl Hub {
    /// Notes new changes for the watches they concern. The caller holds the state's write lock.
    pub fn mark<'a>(&self, records: impl Iterator<Item = &'a Record> + Clone) -> Woken {
        let mut woken = Vec::new();
        for (prefix, slots) in self.by_prefix.lock().iter() {
            let Some(first) = records
                .clone()
                .find(|record| record.key.starts_with(&**prefix))
            else {
                continue;
            };
            for slot in slots {
                if slot.pending.load(Ordering::Acquire) == 0 {
                    slot.pending.store(first.revision, Ordering::Release);
                    woken.push(slot.clone());
                }
            }
        }
        Woken(woken)
    }

    /// Notes for every watch that the change of `revision` is due, though it is not retained.
    pub fn lag(&self, revision: Revision) -> Woken {
        let woken = self.all();
        for slot in &woken.0 {
            if slot.pending.load(Ordering::Acquire) == 0 {
                slot.pending.store(revision, Ordering::Release);
            }
        }
        woken
    }

    /// Every watch, to tell that the store has closed.
    pub fn all(&self) -> Woken {
        Woken(self.by_prefix.lock().values().flatten().cloned().collect())
    }

    fn register(&self, slot: &Arc<Slot>) {
        self.by_prefix
            .lock()
            .entry(slot.prefix.clone())
            .or_default()
            .push(slot.clone());
    }

    fn deregister(&self, slot: &Arc<Slot>) {
        if let hash_map::Entry::Occupied(mut slots) =
            self.by_prefix.lock().entry(slot.prefix.clone())
        {
            slots.get_mut().retain(|other| !Arc::ptr_eq(other, slot));
            if slots.get().is_empty() {
                slots.remove();
            }
        }
    }
}

/// Starts a watch. The state is locked from the look at its history until the watch is registered,
/// so no change can slip between the two.
pub(crate) fn watch(
    shared: &Arc<Shared>,
    prefix: &str,
    from: Revision,
) -> Result<WatchStream, Error> {
    let watch = {
        let state = shared.state.read();
        let first = state
            .changes_after(from)?
            .find(|record| record.key.starts_with(prefix));
        let pending = AtomicU64::new(first.map_or(0, |record| record.revision));
        let slot = Arc::new(Slot {
            prefix: prefix.into(),
            pending,
            wake: Notify::new(),
        });
        shared.hub.register(&slot);
        Watch {
            shared: shared.clone(),
            slot,
            reported: None,
            ended: false,
        }
    };
    Ok(futures::stream::unfold(watch, |mut watch| async move {
        let item = watch.next().await?;
        Some((item, watch))
    })
    .boxed())
}

struct Watch {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    /// The revision up to which the reader knows that it has everything; `None` during the replay.
    reported: Option<Revision>,
    ended: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.hub.deregister(&self.slot);
    }
}

impl Watch {
    async fn next(&mut self) -> Option<Result<WatchItem, Error>> {
        if self.ended {
            return None;
        }
        let mut quiet = false;
        loop {
            let woken = self.slot.wake.notified();
            let closed = self.shared.is_closed();
            let changes_max = self.shared.limits.watch_batch_changes_max;
            let found = read(&self.shared.state.read(), &self.slot, changes_max);
            match found {
                Ok(Read::Changes(records)) => {
                    let changes: Vec<_> = records.iter().filter_map(Record::change).collect();
                    if let (Some(reported), Some(last)) = (&mut self.reported, records.last()) {
                        *reported = last.revision;
                    }
                    return Some(Ok(WatchItem::Changes(changes)));
                }
                Ok(Read::Nothing { revision }) => {
                    let due = match self.reported {
                        None => true,
                        Some(reported) => quiet && revision > reported,
                    };
                    if due {
                        self.reported = Some(revision);
                        return Some(Ok(WatchItem::Progress(revision)));
                    }
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
            if closed {
                self.ended = true;
                return Some(Err(Error::Closed));
            }
            quiet = within(self.shared.limits.progress_interval, woken).await;
        }
    }
}

/// Waits for `woken`, but not longer than `limit`; whether it waited in vain.
async fn within(limit: Duration, woken: impl Future<Output = ()>) -> bool {
    tokio::time::timeout(limit, woken).await.is_err()
}

enum Read {
    Changes(Vec<Record>),
    Nothing { revision: Revision },
}

/// Takes the next changes of a watch, and notes the one after them.
fn read(state: &State, slot: &Slot, changes_max: usize) -> Result<Read, Error> {
    let pending = slot.pending.load(Ordering::Acquire);
    if pending == 0 {
        return Ok(Read::Nothing {
            revision: state.revision(),
        });
    }
    let mut matching = state
        .changes_after(pending - 1)
        .map_err(|_| Error::Lagged)?
        .filter(|record| record.key.starts_with(&*slot.prefix))
        .peekable();
    let mut changes: Vec<Record> = matching
        .by_ref()
        .take(changes_max.max(1))
        .cloned()
        .collect();
    // The next read begins after a revision, so what shares the last one goes along.
    let last = changes.last().map(|record| record.revision);
    while let Some(record) = matching.next_if(|record| Some(record.revision) == last) {
        changes.push(record.clone());
    }
    let next = matching.peek().map_or(0, |record| record.revision);
    slot.pending.store(next, Ordering::Release);
    Ok(Read::Changes(changes))
}
