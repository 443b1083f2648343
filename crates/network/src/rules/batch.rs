//! Changes applied by the kernel's own interface (nfnetlink): all of them in one transaction, or nothing.
//!
//! nft reads every chain and set of the table before it changes one, and the kernel makes its exit wait until what it replaced
//! is taken apart. Here a change among thousands of services costs what it changes.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::change::Change;
use super::encode::{self, Sink, encode};
use super::text::Layout;
use crate::Error;
use crate::netfilter::{Refusal, Transactions, frame};

/// NFNL_SUBSYS_NFTABLES
const SUBSYSTEM: u16 = 10;
/// NFNL_MSG_BATCH_*
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
/// NLM_F_*
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
/// Where a message has its flags.
const FLAGS_AT: usize = 6;

/// How much of a refused change is worth showing.
const CHANGE_CHARS_MAX: usize = 300;

/// What changes in one table.
pub(super) type Changes<'a> = (&'a Layout, Vec<Change>);

/// The way to the kernel. Opened once, because closing it waits until the kernel has taken apart what was replaced.
#[derive(Clone)]
pub(super) struct Kernel(Arc<Mutex<Transactions>>);

impl Kernel {
    pub fn open() -> io::Result<Self> {
        Ok(Self(Arc::new(Mutex::new(Transactions::open()?))))
    }

    /// Whom the kernel names as the author of what comes by this way.
    pub fn port(&self) -> u32 {
        self.0.lock().port()
    }

    /// Says a transaction whose last message has this number.
    async fn run(&self, bytes: Vec<u8>, last: u32) -> Result<(), Refusal> {
        let way = self.0.clone();
        let answer = tokio::task::spawn_blocking(move || way.lock().run(&bytes, last)).await;
        answer.unwrap_or_else(|cut| Err(Refusal::from(io::Error::from(cut))))
    }

    /// Adds elements to sets of a table (`true`), or takes them away, by their keys; all or none. What is there already is no error.
    pub async fn elements(
        &self,
        (family, table): (u8, &str),
        changes: &[(bool, &str, Vec<u8>)],
    ) -> Result<(), Error> {
        let mut batch = Batch::new();
        batch.family = family;
        for (add, set, key) in changes {
            encode::element(table, (*add, set, key), &mut batch);
        }
        let Some((bytes, last)) = batch.finished() else {
            return Ok(());
        };
        let Err(refusal) = self.run(bytes, last).await else {
            return Ok(());
        };
        Err(Error::Rules {
            table: table.to_owned(),
            reason: refusal.error.to_string(),
        })
    }

    /// Applies all changes, or none.
    pub async fn apply(&self, tables: &[Changes<'_>]) -> Result<(), Error> {
        let mut batch = Batch::of(tables);
        let Some((bytes, last)) = batch.finished() else {
            return Ok(());
        };
        let Err(refusal) = self.run(bytes, last).await else {
            return Ok(());
        };
        let origin = refusal.sequence.and_then(|number| {
            let after = batch
                .origins
                .partition_point(|(first, _, _)| *first <= number);
            let (_, table, change) = batch.origins.get(after.checked_sub(1)?)?;
            let (layout, changes) = tables.get(*table)?;
            Some((*layout, changes.get(*change)?))
        });
        Err(match origin {
            Some((layout, change)) => {
                let mut text = String::new();
                change.text(&mut text, layout);
                let text: String = text.trim_end().chars().take(CHANGE_CHARS_MAX).collect();
                refused(layout, format!("{text}: {}", refusal.error))
            }
            None => refused(tables[0].0, refusal.error.to_string()),
        })
    }
}

fn refused(layout: &Layout, reason: String) -> Error {
    Error::Rules {
        table: layout.table.clone(),
        reason,
    }
}

/// The messages of a transaction.
struct Batch {
    bytes: Vec<u8>,
    /// NFPROTO_* of the table that is being written.
    family: u8,
    /// The number of the last message.
    sequence: u32,
    /// Where the last message begins, and its flags.
    last_at: usize,
    last_flags: u16,
    sets: u32,
    /// (the first message, table, change), ascending.
    origins: Vec<(u32, usize, usize)>,
}

impl Batch {
    fn new() -> Self {
        let mut batch = Self {
            bytes: Vec::new(),
            family: 0,
            sequence: 0,
            last_at: 0,
            last_flags: 0,
            sets: 0,
            origins: Vec::new(),
        };
        frame(&mut batch.bytes, (BEGIN, REQUEST, 0), (0, SUBSYSTEM), &[]);
        batch
    }

    fn of(tables: &[Changes<'_>]) -> Self {
        let mut batch = Self::new();
        for (table, (layout, changes)) in tables.iter().enumerate() {
            batch.family = layout.family.number();
            for (number, change) in changes.iter().enumerate() {
                batch.origins.push((batch.sequence + 1, table, number));
                encode(layout, change, &mut batch);
            }
        }
        batch
    }

    /// All of it, and the number of its last message; `None` when nothing changes.
    fn finished(&mut self) -> Option<(Vec<u8>, u32)> {
        if self.sequence == 0 {
            return None;
        }
        // One answer will do for all that goes well; what does not is answered by itself.
        let flags = self.last_at + FLAGS_AT..self.last_at + FLAGS_AT + 2;
        let acknowledged = (self.last_flags | ACKNOWLEDGE).to_ne_bytes();
        self.bytes[flags].copy_from_slice(&acknowledged);
        let end = (END, REQUEST, self.sequence + 1);
        frame(&mut self.bytes, end, (0, SUBSYSTEM), &[]);
        Some((std::mem::take(&mut self.bytes), self.sequence))
    }
}

impl Sink for Batch {
    fn message(&mut self, kind: u16, flags: u16, attributes: &[u8]) {
        self.sequence += 1;
        self.last_at = self.bytes.len();
        self.last_flags = REQUEST | flags;
        let about = (SUBSYSTEM << 8 | kind, self.last_flags, self.sequence);
        frame(&mut self.bytes, about, (self.family, 0), attributes);
    }

    fn set_id(&mut self) -> u32 {
        self.sets += 1;
        self.sets
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
