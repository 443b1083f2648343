//! What is kept of a key and of a change.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Change, KeyValue, Revision};

/// A value and its revisions; clones share the value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub value: Bytes,
    pub create_revision: Revision,
    pub mod_revision: Revision,
    pub version: u64,
}

impl Entry {
    pub fn key_value(&self, key: &str) -> KeyValue {
        KeyValue {
            key: key.to_string(),
            value: self.value.clone(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
        }
    }
}

/// One change: what a key was before it, and is after it. `None` = it does not exist.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub revision: Revision,
    pub key: Arc<str>,
    pub previous: Option<Entry>,
    pub current: Option<Entry>,
}

impl Record {
    /// What retaining this change costs, in bytes. The value after the change is not counted: it
    /// is shared with the current entries or with the next record of the key.
    pub fn retained_bytes(&self) -> usize {
        const OVERHEAD_BYTES: usize = 160;
        let replaced = self.previous.as_ref().map_or(0, |entry| entry.value.len());
        OVERHEAD_BYTES + self.key.len() + replaced
    }

    /// The change as callers see it; `None` for one that changed nothing, which is never made.
    pub fn change(&self) -> Option<Change> {
        let previous = self
            .previous
            .as_ref()
            .map(|entry| entry.key_value(&self.key));
        match &self.current {
            Some(entry) => Some(Change::Put {
                current: entry.key_value(&self.key),
                previous,
            }),
            None => previous.map(|previous| Change::Delete {
                previous,
                revision: self.revision,
            }),
        }
    }
}
