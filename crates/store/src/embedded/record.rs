//! What is kept of a key and of a change, and how both are written into the file.
//!
//! The file holds the current entries and, per retained revision, what the change *replaced*: going
//! back from the current entries through these records gives every change in the window complete,
//! and no value is stored twice.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Change, KeyValue, Revision};

/// A value and its revisions; clones share the value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
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
pub(super) struct Record {
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

const ENTRY_HEADER_BYTES: usize = 24;

/// Appends create revision, modification revision and version (u64, little endian), then the value.
pub(super) fn encode_entry(entry: &Entry, out: &mut Vec<u8>) {
    out.extend_from_slice(&entry.create_revision.to_le_bytes());
    out.extend_from_slice(&entry.mod_revision.to_le_bytes());
    out.extend_from_slice(&entry.version.to_le_bytes());
    out.extend_from_slice(&entry.value);
}

pub(super) fn decode_entry(bytes: &[u8]) -> Result<Entry, String> {
    let Some((header, value)) = bytes.split_at_checked(ENTRY_HEADER_BYTES) else {
        return Err(format!(
            "an entry has {} bytes, less than its header",
            bytes.len()
        ));
    };
    let number = |at: usize| {
        let mut raw = [0; 8];
        raw.copy_from_slice(&header[at..at + 8]);
        u64::from_le_bytes(raw)
    };
    Ok(Entry {
        create_revision: number(0),
        mod_revision: number(8),
        version: number(16),
        value: Bytes::copy_from_slice(value),
    })
}

/// Appends the key's length (u32, little endian), the key, and the entry that was replaced (nothing
/// if the change created the key).
pub(super) fn encode_undo(record: &Record, out: &mut Vec<u8>) {
    let key_bytes = u32::try_from(record.key.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&key_bytes.to_le_bytes());
    out.extend_from_slice(record.key.as_bytes());
    if let Some(previous) = &record.previous {
        encode_entry(previous, out);
    }
}

pub(super) fn decode_undo(bytes: &[u8]) -> Result<(&str, Option<Entry>), String> {
    let short = || format!("a change record has only {} bytes", bytes.len());
    let (length, rest) = bytes.split_at_checked(4).ok_or_else(short)?;
    let mut raw = [0; 4];
    raw.copy_from_slice(length);
    let length = usize::try_from(u32::from_le_bytes(raw)).map_err(|_| short())?;
    let (key, previous) = rest.split_at_checked(length).ok_or_else(short)?;
    let key = decode_key(key)?;
    let previous = if previous.is_empty() {
        None
    } else {
        Some(decode_entry(previous)?)
    };
    Ok((key, previous))
}

pub(super) fn decode_key(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|why| format!("a key is not UTF-8: {why}"))
}
