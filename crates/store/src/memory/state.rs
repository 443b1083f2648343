//! What reads and watches are answered from: the current entries and the retained changes.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::Limits;
use super::directories::Directories;
use super::record::{Entry, Record};
use crate::{Error, Revision};

/// A key with its entry, cheap to take out of a lock.
pub(crate) type Item = (Arc<str>, Entry);

/// One page of a list, before it is copied for the caller.
pub(crate) struct Listing {
    pub items: Vec<Item>,
    pub revision: Revision,
    pub more: bool,
    pub remaining: Option<u64>,
}

/// The durable state. The records after `compacted` are in the order of their revisions; one
/// revision can have several (a transaction of somebody else) or none (a change of keys that are
/// not kept).
pub(crate) struct State {
    current: BTreeMap<Arc<str>, Entry>,
    directories: Directories,
    history: VecDeque<Record>,
    history_bytes: usize,
    current_bytes: usize,
    compacted: Revision,
    revision: Revision,
}

impl State {
    /// `history` must hold all changes after `compacted`, the oldest first.
    pub fn new(
        current: BTreeMap<Arc<str>, Entry>,
        history: VecDeque<Record>,
        compacted: Revision,
    ) -> Self {
        let revision = history.back().map_or(compacted, |last| last.revision);
        let history_bytes = history.iter().map(Record::retained_bytes).sum();
        let current_bytes = current.iter().map(|(key, entry)| size(key, entry)).sum();
        Self {
            directories: current.keys().map(|key| &**key).collect(),
            current,
            history,
            history_bytes,
            current_bytes,
            compacted,
            revision,
        }
    }

    pub fn revision(&self) -> Revision {
        self.revision
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
        let index = self
            .history
            .partition_point(|record| record.revision <= revision);
        Ok(self.history.range(index..))
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
        // Bounds at both ends: what follows a page is counted without a look at its keys.
        let end = behind(prefix);
        let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        // `after` may lie behind all of them
        let live = match (start, end) {
            (Bound::Excluded(start), Bound::Excluded(end)) if start >= end => None,
            _ => Some(self.current.range::<str, _>((start, end))),
        };
        let mut live = live.into_iter().flatten();
        // What goes on at a revision was counted by its first page.
        let counts = after.is_none() || revision.is_none();
        let revision = revision.unwrap_or_else(|| self.revision());
        if revision == self.revision() {
            let (items, more) = page(&mut live, limit);
            let known = || {
                let all = self.directories.keys(prefix)?;
                after.is_none().then(|| all - items.len() as u64)
            };
            return Ok(Listing {
                remaining: match (more, counts) {
                    (false, _) => Some(0),
                    (true, true) => known().or_else(|| Some(1 + live.count() as u64)),
                    (true, false) => None,
                },
                items,
                revision,
                more,
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
        let mut then = undone(live, undo.into_iter());
        let (items, more) = page(&mut then, limit);
        Ok(Listing {
            items,
            revision,
            more,
            remaining: match (more, counts) {
                (false, _) => Some(0),
                (true, true) => Some(1 + then.count() as u64),
                (true, false) => None,
            },
        })
    }

    /// What `compacted` must become for the history with `new` appended to stay within its limits. However large they are, `new`
    /// themselves stay: who has kept up until now is to see them.
    pub fn compacted_after(&self, new: &[Record], limits: &Limits) -> Revision {
        let new_bytes: usize = new.iter().map(Record::retained_bytes).sum();
        let mut changes = self.history.len() + new.len();
        let mut bytes = self.history_bytes + new_bytes;
        let mut compacted = self.compacted;
        for record in &self.history {
            if changes <= limits.history_changes_max && bytes <= limits.history_bytes_max {
                break;
            }
            changes -= 1;
            bytes -= record.retained_bytes();
            compacted = record.revision;
        }
        compacted
    }

    /// Takes over what has been committed up to `revision`. Returns what left the window, to be
    /// dropped outside the lock.
    #[must_use]
    pub fn apply(
        &mut self,
        new: Vec<Record>,
        revision: Revision,
        compacted: Revision,
    ) -> Vec<Record> {
        debug_assert!(revision >= self.revision && compacted <= revision);
        for record in new {
            debug_assert!(record.revision > self.revision && record.revision <= revision);
            let replaced = match &record.current {
                Some(entry) => {
                    self.current_bytes += size(&record.key, entry);
                    let replaced = self.current.insert(record.key.clone(), entry.clone());
                    if replaced.is_none() {
                        self.directories.add(&record.key);
                    }
                    replaced
                }
                None => self
                    .current
                    .remove(&record.key)
                    .inspect(|_| self.directories.remove(&record.key)),
            };
            self.current_bytes -= replaced.map_or(0, |entry| size(&record.key, &entry));
            self.history_bytes += record.retained_bytes();
            self.history.push_back(record);
        }
        self.revision = revision;
        let leaving = self
            .history
            .partition_point(|record| record.revision <= compacted);
        let left: Vec<Record> = self.history.drain(..leaving).collect();
        self.history_bytes -= left.iter().map(Record::retained_bytes).sum::<usize>();
        self.compacted = self.compacted.max(compacted);
        left
    }
}

/// The least string behind all that begin with `prefix`; none if there is no such string. Strings are in the order of their
/// code points.
fn behind(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // between the two there are no characters
        let next = if last == '\u{d7ff}' {
            Some('\u{e000}')
        } else {
            char::from_u32(u32::from(last) + 1)
        };
        if let Some(next) = next {
            text.push(next);
            return Some(text);
        }
    }
    None
}

fn size(key: &str, entry: &Entry) -> usize {
    key.len() + entry.value.len()
}

/// The first `limit` (0 = all) of the entries, and whether one follows, which is taken, too.
fn page<'a>(
    entries: &mut impl Iterator<Item = (&'a Arc<str>, &'a Entry)>,
    limit: usize,
) -> (Vec<Item>, bool) {
    let limit = if limit == 0 { usize::MAX } else { limit };
    let items = entries
        .by_ref()
        .take(limit)
        .map(|(key, entry)| (key.clone(), entry.clone()))
        .collect();
    (items, entries.next().is_some())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What one commit replaces may be more than is retained: who has kept up until then is told of it all the same.
    #[test]
    fn one_commit_does_not_push_itself_out_of_the_window() {
        let entry = |revision| Entry {
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            value: vec![0; 1000].into(),
        };
        let deletion = |revision: Revision| Record {
            revision,
            key: format!("/a/{revision}").into(),
            previous: Some(entry(1)),
            current: None,
        };
        let limits = Limits {
            history_changes_max: 100,
            history_bytes_max: 2500,
            watch_batch_changes_max: 100,
            progress_interval: std::time::Duration::from_secs(1),
        };
        let mut state = State::new(BTreeMap::new(), VecDeque::new(), 1);
        let apply = |state: &mut State, revisions: std::ops::RangeInclusive<Revision>| {
            let (last, new) = (
                *revisions.end(),
                revisions.map(deletion).collect::<Vec<_>>(),
            );
            let compacted = state.compacted_after(&new, &limits);
            drop(state.apply(new, last, compacted));
            compacted
        };
        assert_eq!(apply(&mut state, 2..=3), 1);
        assert_eq!(apply(&mut state, 4..=12), 3, "all nine are there");
        assert_eq!(state.changes_after(3).map(Iterator::count), Ok(9));
        assert_eq!(apply(&mut state, 13..=13), 11);
    }

    #[test]
    fn what_lies_behind_a_prefix() {
        for (prefix, expected) in [
            ("/pods/", Some("/pods0")),
            ("a\u{7f}", Some("a\u{80}")),
            ("\u{d7ff}", Some("\u{e000}")),
            ("a\u{10ffff}\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
            ("", None),
        ] {
            assert_eq!(behind(prefix).as_deref(), expected, "{prefix:?}");
        }
    }
}
