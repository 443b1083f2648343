//! How a key's value and a change are written into the file.
//!
//! The file holds the current entries and, per retained revision, what the change *replaced*: going
//! back from the current entries through these records gives every change in the window complete,
//! and no value is stored twice.

use bytes::Bytes;

pub(super) use crate::memory::{Entry, Record};

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
