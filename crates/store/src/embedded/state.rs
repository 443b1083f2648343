//! What reads and watches are answered from: the current entries and the retained changes.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::Options;
use super::record::{Entry, Record};
use crate::{Error, Revision};

/// A key with its entry, cheap to take out of a lock.
pub(super) type Item = (Arc<str>, Entry);

/// One page of a list, before it is copied for the caller.
pub(super) struct Listing {
    pub items: Vec<Item>,
    pub revision: Revision,
    pub remaining: u64,
}

/// The durable state. Every revision after `compacted` has exactly one record, so the record of a
/// revision is found by its index.
pub(super) struct State {
    current: BTreeMap<Arc<str>, Entry>,
    history: VecDeque<Record>,
    history_bytes: usize,
    current_bytes: usize,
    compacted: Revision,
}

impl State {
    /// `history` must hold the revisions after `compacted` without a hole, the oldest first.
    pub fn new(
        current: BTreeMap<Arc<str>, Entry>,
        history: VecDeque<Record>,
        compacted: Revision,
    ) -> Self {
        let history_bytes = history.iter().map(Record::retained_bytes).sum();
        let current_bytes = current.iter().map(|(key, entry)| size(key, entry)).sum();
        Self {
            current,
            history,
            history_bytes,
            current_bytes,
            compacted,
        }
    }

    pub fn revision(&self) -> Revision {
        self.compacted + self.history.len() as u64
    }

    /// The oldest revision that can be listed or watched from.
    pub fn compacted(&self) -> Revision {
        self.compacted
    }

    /// About how many bytes the file has to hold.
    pub fn bytes(&self) -> u64 {
        (self.current_bytes + self.history_bytes) as u64
    }

    /// Every current entry, in key order.
    pub fn items(&self) -> Vec<Item> {
        let pair = |(key, entry): (&Arc<str>, &Entry)| (key.clone(), entry.clone());
        self.current.iter().map(pair).collect()
    }

    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.current.get(key)
    }

    /// The key, as the current entries hold it.
    pub fn shared_key(&self, key: &str) -> Option<Arc<str>> {
        self.current.get_key_value(key).map(|(key, _)| key.clone())
    }

    /// The changes after `revision`, the oldest first; an error outside the window.
    pub fn changes_after(
        &self,
        revision: Revision,
    ) -> Result<impl Iterator<Item = &Record>, Error> {
        if revision < self.compacted {
            return Err(Error::Compacted {
                oldest: self.compacted,
            });
        }
        if revision > self.revision() {
            return Err(Error::Future {
                requested: revision,
                current: self.revision(),
            });
        }
        let index = usize::try_from(revision - self.compacted).unwrap_or(usize::MAX);
        Ok(self.history.range(index.min(self.history.len())..))
    }

    /// See [`Store::range`](crate::Store::range).
    pub fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        revision: Option<Revision>,
    ) -> Result<Listing, Error> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let live = self
            .current
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix));
        let revision = revision.unwrap_or_else(|| self.revision());
        if revision == self.revision() {
            let (items, remaining) = page(live, limit);
            return Ok(Listing {
                items,
                revision,
                remaining,
            });
        }

        // The first change of a key after `revision` knows what the key was at `revision`.
        let mut undo: BTreeMap<&Arc<str>, Option<&Entry>> = BTreeMap::new();
        for record in self.changes_after(revision)? {
            let beyond_start = match start {
                Bound::Excluded(after) => &*record.key > after,
                _ => true,
            };
            if beyond_start && record.key.starts_with(prefix) {
                undo.entry(&record.key).or_insert(record.previous.as_ref());
            }
        }
        let (items, remaining) = page(undone(live, undo.into_iter()), limit);
        Ok(Listing {
            items,
            revision,
            remaining,
        })
    }

    /// What `compacted` must become for the history with `new` appended to stay within its limits.
    pub fn compacted_after(&self, new: &[Record], options: &Options) -> Revision {
        let new_bytes: usize = new.iter().map(Record::retained_bytes).sum();
        let mut changes = self.history.len() + new.len();
        let mut bytes = self.history_bytes + new_bytes;
        let mut compacted = self.compacted;
        for record in self.history.iter().chain(new) {
            if changes <= options.history_changes_max && bytes <= options.history_bytes_max {
                break;
            }
            changes -= 1;
            bytes -= record.retained_bytes();
            compacted = record.revision;
        }
        compacted
    }

    /// Takes over what has been committed. Returns what left the window, to be dropped outside the
    /// lock.
    #[must_use]
    pub fn apply(&mut self, new: Vec<Record>, compacted: Revision) -> Vec<Record> {
        for record in new {
            debug_assert_eq!(record.revision, self.revision() + 1);
            let replaced = match &record.current {
                Some(entry) => {
                    self.current_bytes += size(&record.key, entry);
                    self.current.insert(record.key.clone(), entry.clone())
                }
                None => self.current.remove(&record.key),
            };
            self.current_bytes -= replaced.map_or(0, |entry| size(&record.key, &entry));
            self.history_bytes += record.retained_bytes();
            self.history.push_back(record);
        }
        let leaving = usize::try_from(compacted.saturating_sub(self.compacted))
            .unwrap_or(usize::MAX)
            .min(self.history.len());
        let left: Vec<Record> = self.history.drain(..leaving).collect();
        self.history_bytes -= left.iter().map(Record::retained_bytes).sum::<usize>();
        self.compacted += left.len() as u64;
        left
    }
}

fn size(key: &str, entry: &Entry) -> usize {
    key.len() + entry.value.len()
}

/// The first `limit` (0 = all) of the entries, and how many follow.
fn page<'a>(
    mut entries: impl Iterator<Item = (&'a Arc<str>, &'a Entry)>,
    limit: usize,
) -> (Vec<Item>, u64) {
    let limit = if limit == 0 { usize::MAX } else { limit };
    let items = entries
        .by_ref()
        .take(limit)
        .map(|(key, entry)| (key.clone(), entry.clone()))
        .collect();
    (items, entries.count() as u64)
}

/// Merges the live entries with what some of them were before; both in key order.
fn undone<'a>(
    live: impl Iterator<Item = (&'a Arc<str>, &'a Entry)>,
    undo: impl Iterator<Item = (&'a Arc<str>, Option<&'a Entry>)>,
) -> impl Iterator<Item = (&'a Arc<str>, &'a Entry)> {
    let mut live = live.peekable();
    let mut undo = undo.peekable();
    std::iter::from_fn(move || {
        loop {
            let order = match (live.peek(), undo.peek()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((live, _)), Some((undo, _))) => live.cmp(undo),
            };
            if order == Ordering::Less {
                return live.next();
            }
            if order == Ordering::Equal {
                live.next();
            }
            if let Some((key, Some(entry))) = undo.next() {
                return Some((key, entry));
            }
        }
    })
}
