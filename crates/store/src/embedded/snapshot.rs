//! The current entries at one revision as a stream of bytes, and a new store made from it.
//!
//! The stream: the words `plimsoll-store-snapshot`, format, revision and number of entries as one
//! line of text; each entry as length and bytes of its key, length and bytes of what the file holds
//! of it (lengths u32, little endian); the word `end`. The retained changes are not part of it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::Disk;
use super::options::Options;
use super::record::{Record, decode_entry, decode_key, encode_entry};
use super::source::Source;
use crate::limits::{check_key, check_value};
use crate::memory::Item;
use crate::{Error, KEY_BYTES_MAX, Revision, VALUE_BYTES_MAX};

const TITLE: &str = "plimsoll-store-snapshot";
/// The newest format of the stream that this version reads, and the one it writes.
const FORMAT: u64 = 1;
const END: &[u8] = b"end\n";
const TITLE_BYTES_MAX: usize = 200;
/// What an entry has besides its value; no less than it is.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// Revisions between the snapshot's and the restored store's. What clients saw after the snapshot
/// was taken is not there any more, and its revisions must not come to mean something else.
const REVISIONS_SKIPPED: Revision = 1_000_000;

/// Everything that a store held at one revision.
pub struct Snapshot {
    revision: Revision,
    items: Vec<Item>,
}

impl Snapshot {
    pub(super) fn new(revision: Revision, items: Vec<Item>) -> Self {
        Self { revision, items }
    }

    /// The revision that it was taken at.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Writes it all, for [`restore`].
    pub fn write_to(&self, mut out: impl Write) -> io::Result<()> {
        let (revision, count) = (self.revision, self.items.len());
        writeln!(out, "{TITLE} {FORMAT} {revision} {count}")?;
        let mut scratch = Vec::new();
        for (key, entry) in &self.items {
            scratch.clear();
            encode_entry(entry, &mut scratch);
            for part in [key.as_bytes(), &scratch] {
                let length = u32::try_from(part.len()).map_err(io::Error::other)?;
                out.write_all(&length.to_le_bytes())?;
                out.write_all(part)?;
            }
        }
        out.write_all(END)?;
        out.flush()
    }
}

/// Makes the store at `path` from what [`Snapshot::write_to`] wrote, and returns its revision: a
/// million after the snapshot's, so that no revision that a client has seen since is given again.
/// Watches and lists from earlier revisions get [`Error::Compacted`].
///
/// There must be nothing at `path`; after an error, or a crash at any moment, there still is not.
/// [`Error::Corrupt`] for a stream that is damaged or cut off, [`Error::NewerFormat`].
pub fn restore(path: &Path, mut from: impl Read) -> Result<Revision, Error> {
    let name = path.display().to_string();
    let io = |why: io::Error| Error::Io {
        attempted: format!("restore {name}"),
        reason: why.to_string(),
    };
    if fs::symlink_metadata(path).is_ok() {
        return Err(io(io::Error::other("it exists already")));
    }
    let (revision, records) = read(&mut from, &name)?;
    let unfinished = with_suffix(path, ".restoring");
    match fs::remove_file(&unfinished) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(io(why)),
        _ => {}
    }
    let made = make(&unfinished, revision, &records)
        .and_then(|()| fs::rename(&unfinished, path).map_err(io))
        .and_then(|()| sync_parent(path).map_err(io));
    if made.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    made.map(|()| revision)
}

fn make(path: &Path, revision: Revision, records: &[Record]) -> Result<(), Error> {
    let (disk, state) = Disk::open(&mut Source::file(path), &Options::default())?;
    disk.commit(records, revision, state.compacted(), revision)
}

/// The revision of the store to be made, and what it shall hold.
fn read(from: &mut impl Read, name: &str) -> Result<(Revision, Vec<Record>), Error> {
    let corrupt = |reason: String| Error::Corrupt {
        file: format!("the snapshot for {name}"),
        reason,
    };
    let short = |why: io::Error| corrupt(format!("it cannot be read to its end ({why})"));
    let title = title(from).map_err(short)?;
    let numbers: Option<Vec<u64>> = title.strip_prefix(TITLE).map(|rest| {
        rest.split_whitespace()
            .map_while(|word| word.parse().ok())
            .collect()
    });
    let Some(numbers) = numbers else {
        return Err(corrupt("it does not begin as one".to_string()));
    };
    if let Some(found) = numbers.first().copied().filter(|found| *found > FORMAT) {
        return Err(Error::NewerFormat {
            file: format!("the snapshot for {name}"),
            found,
            supported: FORMAT,
        });
    }
    let &[FORMAT, revision, count] = &*numbers else {
        return Err(corrupt(format!("its first line is {title:?}")));
    };
    let mut records = Vec::new();
    let mut keys = BTreeSet::new();
    for _ in 0..count {
        let key = part(from, KEY_BYTES_MAX).map_err(short)?;
        let key: Arc<str> = decode_key(&key).map_err(&corrupt)?.into();
        let entry = part(from, VALUE_BYTES_MAX + ENTRY_OVERHEAD_BYTES).map_err(short)?;
        let entry = decode_entry(&entry).map_err(&corrupt)?;
        check_key(&key)
            .and_then(|()| check_value(&entry.value))
            .map_err(|why| corrupt(why.to_string()))?;
        if entry.mod_revision > revision || entry.create_revision > entry.mod_revision {
            return Err(corrupt(format!("the revisions of {key} are impossible")));
        }
        if !keys.insert(key.clone()) {
            return Err(corrupt(format!("{key} comes twice")));
        }
        records.push(Record {
            revision: entry.mod_revision,
            key,
            previous: None,
            current: Some(entry),
        });
    }
    let mut end = [0; END.len()];
    from.read_exact(&mut end).map_err(short)?;
    if end != END {
        return Err(corrupt("its end is missing".to_string()));
    }
    let revision = revision
        .checked_add(REVISIONS_SKIPPED)
        .filter(|revision| i64::try_from(*revision).is_ok())
        .ok_or_else(|| corrupt(format!("its revision is {revision}")))?;
    Ok((revision, records))
}

fn title(from: &mut impl Read) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < TITLE_BYTES_MAX {
        from.read_exact(&mut byte)?;
        if byte == *b"\n" {
            break;
        }
        line.extend(byte);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn part(from: &mut impl Read, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length)).map_err(io::Error::other)?;
    if length > bytes_max {
        return Err(io::Error::other(format!("a part of it has {length} bytes")));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    name.into()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
