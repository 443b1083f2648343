//! The file: its format, how it is read at start and how a batch is committed to it.
//!
//! Three tables: what the file is and how far it has come, the current entries, and the retained
//! changes by revision. A commit changes all three in one transaction. The database writes new pages
//! and frees the replaced ones for the commits after it, so the file grows to a small multiple of
//! what it holds and of the largest commit, and then stays. Free space at its end is given
//! back by the commits; what a past peak left between the rest, when the file is opened.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition, TableError, TableHandle,
};

use super::guard::Facts;
use super::options::Options;
use super::record::{
    Entry, Record, decode_entry, decode_key, decode_undo, encode_entry, encode_undo,
};
use super::source::Source;
use crate::memory::State;
use crate::{Error, Revision};

/// The newest format of the tables that this version reads, and the one it writes.
pub(super) const FORMAT: u64 = 1;

/// Named so that no other program's database is taken for a store.
const ABOUT: TableDefinition<&str, u64> = TableDefinition::new("plimsoll-store");
const CURRENT: TableDefinition<&[u8], &[u8]> = TableDefinition::new("current");
const HISTORY: TableDefinition<u64, &[u8]> = TableDefinition::new("history");

/// The revision of an empty store.
const FIRST_REVISION: Revision = 1;

/// Revisions are signed 64-bit numbers to Kubernetes' clients and to etcd.
const LAST_REVISION: Revision = i64::MAX as u64;

/// An open file.
pub(super) struct Disk {
    database: Database,
    facts: Facts,
    file: String,
    unused_bytes_max: u64,
    /// What it was like when compacting was last thought about.
    considered: Considered,
}

#[derive(Default)]
struct Considered {
    length_bytes: u64,
    held_bytes: u64,
}

impl Disk {
    /// Opens the file, makes it a store if it is new, and reads it.
    pub fn open(source: &mut Source, options: &Options) -> Result<(Self, State), Error> {
        let file = source.name.clone();
        shielded(&file, || {
            let mut disk = Self::open_unread(source, options)?;
            let mut state = disk.load()?;
            if disk.has_much_unused()?
                && let Err(why) = disk.database.compact()
            {
                tracing::warn!(file, %why, "could not give unused space of the store back");
                if disk.facts.sync_failed() {
                    return Err(disk.io("compact", &why));
                }
                drop(disk);
                disk = Self::open_unread(source, options)?;
                state = disk.load()?;
            }
            disk.consider(state.bytes());
            Ok((disk, state))
        })
    }

    /// Whether the file, with `held_bytes` of keys and values in it, may be much longer than it need
    /// be. Cheap, and a guess: see [`give_back`](Self::give_back).
    pub fn may_be_too_long(&self, held_bytes: u64) -> bool {
        let length = self.facts.length_bytes();
        // The database's own structures are not counted, so be generous.
        let spare = length.saturating_sub(held_bytes.saturating_mul(3));
        let differs = length > self.considered.length_bytes
            || held_bytes.saturating_mul(2) < self.considered.held_bytes;
        spare > self.unused_bytes_max && differs
    }

    /// Compacts the file if that makes it much shorter. An error is as after a failed commit.
    pub fn give_back(&mut self, held_bytes: u64) -> Result<(), Error> {
        let file = self.file.clone();
        shielded(&file, || {
            let before = self.facts.length_bytes();
            if self.has_much_unused()? {
                self.database
                    .compact()
                    .map_err(|why| self.io("compact", &why))?;
                let after = self.facts.length_bytes();
                tracing::info!(file, before, after, "the store was compacted");
            }
            self.consider(held_bytes);
            Ok(())
        })
    }

    fn consider(&mut self, held_bytes: u64) {
        self.considered = Considered {
            length_bytes: self.facts.length_bytes(),
            held_bytes,
        };
    }

    fn open_unread(source: &mut Source, options: &Options) -> Result<Self, Error> {
        let (database, facts) = source.open(options.cache_bytes)?;
        let disk = Self {
            database,
            facts,
            file: source.name.clone(),
            unused_bytes_max: options.unused_bytes_max,
            considered: Considered::default(),
        };
        disk.check_format()?;
        Ok(disk)
    }

    /// Makes the changes durable, all or none. After an error it is unknown which, and this handle
    /// refuses to write again.
    ///
    /// The window reaches from `compacted_before` to `compacted` afterwards.
    pub fn commit(
        &self,
        records: &[Record],
        revision: Revision,
        compacted_before: Revision,
        compacted: Revision,
    ) -> Result<(), Error> {
        shielded(&self.file, || {
            self.write(records, revision, compacted_before, compacted)
                .map_err(|why| self.commit_error(&why))
        })
    }

    /// Whether opening the file again can be trusted to show what is on the disk.
    pub fn can_be_reopened(&self) -> bool {
        !self.facts.sync_failed()
    }

    fn write(
        &self,
        records: &[Record],
        revision: Revision,
        compacted_before: Revision,
        compacted: Revision,
    ) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut scratch = Vec::new();
            let mut current = transaction.open_table(CURRENT)?;
            // Of several changes of a key only the last one needs to be written.
            let last: HashMap<&str, &Record> = records
                .iter()
                .map(|record| (&*record.key, record))
                .collect();
            for record in last.values() {
                let key = record.key.as_bytes();
                match &record.current {
                    Some(entry) => {
                        scratch.clear();
                        encode_entry(entry, &mut scratch);
                        current.insert(key, scratch.as_slice())?;
                    }
                    None => drop(current.remove(key)?),
                }
            }
            let mut history = transaction.open_table(HISTORY)?;
            if compacted > compacted_before {
                history.retain_in(..=compacted, |_, _| false)?;
            }
            for record in records.iter().filter(|record| record.revision > compacted) {
                scratch.clear();
                encode_undo(record, &mut scratch);
                history.insert(record.revision, scratch.as_slice())?;
            }
            let mut about = transaction.open_table(ABOUT)?;
            about.insert("revision", revision)?;
            about.insert("compacted", compacted)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Refuses what is not a store of this version; makes an empty database one.
    fn check_format(&self) -> Result<(), Error> {
        let transaction = self.read()?;
        let about = match transaction.open_table(ABOUT) {
            Ok(about) => about,
            Err(TableError::TableDoesNotExist(_)) => {
                let tables = transaction
                    .list_tables()
                    .map_err(|why| self.io("read", &why))?;
                let tables: Vec<String> = tables.map(|table| table.name().to_string()).collect();
                if !tables.is_empty() {
                    let tables = tables.join(", ");
                    return Err(self.corrupt(format!("it is another database, of {tables}")));
                }
                return self.initialise().map_err(|why| self.io("initialise", &why));
            }
            Err(why) => return Err(self.corrupt(why.to_string())),
        };
        match about
            .get("format")
            .map_err(|why| self.io("read", &why))?
            .map(|found| found.value())
        {
            Some(FORMAT) => Ok(()),
            Some(found) if found > FORMAT => Err(Error::NewerFormat {
                file: self.file.clone(),
                found,
                supported: FORMAT,
            }),
            found => Err(self.corrupt(format!("its format stamp is {found:?}"))),
        }
    }

    fn initialise(&self) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut about = transaction.open_table(ABOUT)?;
            about.insert("format", FORMAT)?;
            about.insert("revision", FIRST_REVISION)?;
            about.insert("compacted", FIRST_REVISION)?;
            transaction.open_table(CURRENT)?;
            transaction.open_table(HISTORY)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Reads everything, and rebuilds each retained change by going back from the current entries.
    fn load(&self) -> Result<State, Error> {
        let transaction = self.read()?;
        let (revision, compacted) = self.progress(&transaction)?;
        let mut current = BTreeMap::new();
        let table = transaction
            .open_table(CURRENT)
            .map_err(|why| self.corrupt(why.to_string()))?;
        for row in table.iter().map_err(|why| self.io("read", &why))? {
            let (key, entry) = row.map_err(|why| self.io("read", &why))?;
            let key: Arc<str> = decode_key(key.value())
                .map_err(|why| self.corrupt(why))?
                .into();
            let entry = decode_entry(entry.value()).map_err(|why| self.corrupt(why))?;
            if entry.mod_revision > revision {
                return Err(self.corrupt(format!(
                    "{key} was changed at revision {}, after the last one, {revision}",
                    entry.mod_revision
                )));
            }
            current.insert(key, entry);
        }

        let table = transaction
            .open_table(HISTORY)
            .map_err(|why| self.corrupt(why.to_string()))?;
        let retained = table.len().map_err(|why| self.io("read", &why))?;
        if revision - compacted != retained {
            return Err(self.corrupt(format!(
                "it holds {retained} changes between revisions {compacted} and {revision}"
            )));
        }
        let mut history = VecDeque::new();
        let mut before: HashMap<Arc<str>, Option<Entry>> = HashMap::new();
        let mut expected = revision;
        for row in table.iter().map_err(|why| self.io("read", &why))?.rev() {
            let (at, undo) = row.map_err(|why| self.io("read", &why))?;
            if at.value() != expected {
                return Err(self.corrupt(format!("the change of revision {expected} is missing")));
            }
            let (key, previous) = decode_undo(undo.value()).map_err(|why| self.corrupt(why))?;
            let key: Arc<str> = match current.get_key_value(key) {
                Some((key, _)) => key.clone(),
                None => key.into(),
            };
            let after = match before.get(&key) {
                Some(entry) => entry.clone(),
                None => current.get(&key).cloned(),
            };
            if previous.is_none() && after.is_none() {
                return Err(self.corrupt(format!("the change of revision {expected} is void")));
            }
            before.insert(key.clone(), previous.clone());
            history.push_front(Record {
                revision: expected,
                key,
                previous,
                current: after,
            });
            expected -= 1;
        }
        Ok(State::new(current, history, compacted))
    }

    fn progress(&self, transaction: &ReadTransaction) -> Result<(Revision, Revision), Error> {
        let about = transaction
            .open_table(ABOUT)
            .map_err(|why| self.corrupt(why.to_string()))?;
        let number = |name: &str| {
            let found = about.get(name).map_err(|why| self.io("read", &why))?;
            found
                .map(|found| found.value())
                .ok_or_else(|| self.corrupt(format!("it has no {name}")))
        };
        let (revision, compacted) = (number("revision")?, number("compacted")?);
        if compacted < FIRST_REVISION || revision < compacted || revision > LAST_REVISION {
            return Err(self.corrupt(format!(
                "its last revision is {revision}, its oldest {compacted}"
            )));
        }
        Ok((revision, compacted))
    }

    fn has_much_unused(&self) -> Result<bool, Error> {
        if self.facts.length_bytes() <= self.unused_bytes_max {
            return Ok(false);
        }
        let transaction = self
            .database
            .begin_write()
            .map_err(|why| self.io("read", &why))?;
        let stats = transaction.stats().map_err(|why| self.io("read", &why))?;
        transaction.abort().map_err(|why| self.io("read", &why))?;
        let used = stats.allocated_pages() * stats.page_size() as u64;
        let unused = self.facts.length_bytes().saturating_sub(used);
        Ok(unused > self.unused_bytes_max.max(used))
    }

    fn read(&self) -> Result<ReadTransaction, Error> {
        self.database
            .begin_read()
            .map_err(|why| self.io("read", &why))
    }

    fn commit_error(&self, why: &redb::Error) -> Error {
        let remedy = match why {
            _ if self.facts.sync_failed() => {
                "the disk may be failing: check it, then restart; until then writes are refused"
            }
            redb::Error::Io(why)
                if matches!(
                    why.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                "free some space; until then writes are refused"
            }
            _ => "the next write tries again",
        };
        Error::Io {
            attempted: format!("commit to {}", self.file),
            reason: format!("{why}; {remedy}"),
        }
    }

    fn io(&self, verb: &str, why: &dyn std::error::Error) -> Error {
        Error::Io {
            attempted: format!("{verb} {}", self.file),
            reason: why.to_string(),
        }
    }

    fn corrupt(&self, reason: String) -> Error {
        Error::Corrupt {
            file: self.file.clone(),
            reason,
        }
    }
}

/// Turns a panic of the database, which some damages of a file cause, into an error.
fn shielded<T>(file: &str, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        Err(Error::Corrupt {
            file: file.to_string(),
            reason: format!("the database gave up on it ({text})"),
        })
    })
}
