//! A disk in memory that fails on purpose: it stops at a chosen operation, and a crash leaves what
//! was synced plus, as chosen, none, some or all of what was not.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use redb::StorageBackend;
use store::Error;

/// Real disks tear a write at the boundaries of sectors.
const SECTOR_BYTES: usize = 512;

/// A handle on the disk; the disk outlives the stores on it.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    platter: Arc<Mutex<Platter>>,
    gate: Arc<Mutex<()>>,
    arrivals: Arc<AtomicU64>,
}

/// While this lives, the disk does not answer.
pub struct Paused<'a> {
    _gate: MutexGuard<'a, ()>,
}

/// What a crash does with writes that were not synced.
#[derive(Clone, Copy, Debug)]
pub enum Crash {
    LoseAll,
    KeepAll,
    /// Each sector of each write is kept or lost by the seed.
    Tear {
        seed: u64,
    },
}

/// How the operations fail once they do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Every operation from the `n`-th on, as if the power had gone.
    PowerAt(u64),
    /// Only the `n`-th operation.
    Once(u64, io::ErrorKind),
    /// Every write and growth, but no sync.
    Writes(io::ErrorKind),
    /// Every sync.
    Syncs,
}

#[derive(Default)]
struct Platter {
    synced: Vec<u8>,
    /// What readers see.
    shown: Vec<u8>,
    unsynced: Vec<Operation>,
    /// Writes, growths and syncs so far.
    operations: u64,
    syncs: u64,
    fault: Option<Fault>,
}

impl std::fmt::Debug for Platter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Platter")
            .field("operations", &self.operations)
            .finish_non_exhaustive()
    }
}

enum Operation {
    Write(usize, Vec<u8>),
    Resize(usize),
}

enum Kind {
    Write,
    Sync,
}

impl Disk {
    pub fn fail(&self, fault: impl Into<Option<Fault>>) {
        self.platter().fault = fault.into();
    }

    pub fn operations(&self) -> u64 {
        self.platter().operations
    }

    /// The disk as it is found after a crash now.
    pub fn after(&self, crash: Crash) -> Disk {
        let platter = self.platter();
        let mut found = platter.synced.clone();
        match crash {
            Crash::LoseAll => {}
            Crash::KeepAll => found.clone_from(&platter.shown),
            Crash::Tear { seed } => {
                let mut random = Random(seed);
                platter
                    .unsynced
                    .iter()
                    .for_each(|operation| tear(operation, &mut found, &mut random));
            }
        }
        let platter = Platter {
            synced: found.clone(),
            shown: found,
            ..Platter::default()
        };
        Disk {
            platter: Arc::new(Mutex::new(platter)),
            ..Disk::default()
        }
    }

    /// Stops the disk at its next write or sync, until the guard is dropped.
    pub fn pause(&self) -> Paused<'_> {
        self.arrivals.store(0, Ordering::SeqCst);
        Paused {
            _gate: self
                .gate
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner()),
        }
    }

    /// Waits until a paused disk is asked to write.
    pub async fn wait_for_arrival(&self) {
        while self.arrivals.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// How often the disk was synced.
    pub fn syncs(&self) -> u64 {
        self.platter().syncs
    }

    /// For `EmbeddedStore::open_with_backends`.
    pub fn maker(&self) -> impl FnMut() -> Result<Disk, Error> + Send + 'static {
        let disk = self.clone();
        move || Ok(disk.clone())
    }

    fn arrive(&self) -> MutexGuard<'_, Platter> {
        self.arrivals.fetch_add(1, Ordering::SeqCst);
        drop(
            self.gate
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner()),
        );
        self.platter()
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.platter
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Platter {
    fn count(&mut self, kind: Kind) -> io::Result<()> {
        let at = self.operations;
        self.operations += 1;
        let error = match (self.fault, kind) {
            (Some(Fault::PowerAt(n)), _) if at >= n => io::Error::other("the power has gone"),
            (Some(Fault::Once(n, kind)), _) if at == n => kind.into(),
            (Some(Fault::Writes(kind)), Kind::Write) => kind.into(),
            (Some(Fault::Syncs), Kind::Sync) => io::Error::other("the disk does not answer"),
            _ => return Ok(()),
        };
        Err(error)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.platter().shown.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.platter();
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let found = platter.shown.get(offset..offset + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.arrive();
        platter.count(Kind::Write)?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        platter.shown.resize(len, 0);
        platter.unsynced.push(Operation::Resize(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.arrive();
        platter.count(Kind::Sync)?;
        platter.syncs += 1;
        let unsynced = std::mem::take(&mut platter.unsynced);
        unsynced
            .iter()
            .for_each(|operation| apply(operation, &mut platter.synced));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.arrive();
        platter.count(Kind::Write)?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let operation = Operation::Write(offset, data.to_vec());
        apply(&operation, &mut platter.shown);
        platter.unsynced.push(operation);
        Ok(())
    }
}

fn apply(operation: &Operation, bytes: &mut Vec<u8>) {
    match operation {
        Operation::Write(offset, data) => place(*offset, data, bytes),
        Operation::Resize(length) => bytes.resize(*length, 0),
    }
}

/// Writes as a file does: beyond the end it grows.
fn place(offset: usize, data: &[u8], bytes: &mut Vec<u8>) {
    if bytes.len() < offset + data.len() {
        bytes.resize(offset + data.len(), 0);
    }
    bytes[offset..offset + data.len()].copy_from_slice(data);
}

fn tear(operation: &Operation, bytes: &mut Vec<u8>, random: &mut Random) {
    match operation {
        // A file's length is the file system's and is not torn; growth comes before its contents.
        Operation::Resize(length) => bytes.resize((*length).max(bytes.len()), 0),
        Operation::Write(offset, data) => {
            for (n, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                if random.next().is_multiple_of(2) {
                    place(offset + n * SECTOR_BYTES, sector, bytes);
                }
            }
        }
    }
}

/// SplitMix64: small, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
