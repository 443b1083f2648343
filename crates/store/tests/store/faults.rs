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
    /// Any of it, by the seed: each sector of each write is kept or lost, of several writes to one
    /// sector any may be the last (so their order does not matter), and the file's length is one
    /// that it had since the last sync.
    Tear {
        seed: u64,
    },
    /// Only the program ends: the kernel keeps what was written, and still has to sync it.
    Kill,
}

/// How the operations fail once they do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Every operation from the `n`-th on, as if the power had gone.
    PowerAt(u64),
    /// Only the `n`-th operation.
    Once(u64, io::ErrorKind),
    /// Only the first write or growth from the `n`-th operation on.
    WriteOnceFrom(u64, io::ErrorKind),
    /// Every write and growth, but no sync.
    Writes(io::ErrorKind),
    /// Every sync.
    Syncs,
    /// The first sync from the `n`-th operation on. As in Linux, what it should have written counts
    /// as written from then on, is shown to readers, and no later sync writes it; by the seed, some
    /// of it reached the disk.
    SyncOnceFrom { n: u64, seed: u64 },
    /// Every read.
    Reads(io::ErrorKind),
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
    failed_syncs: u64,
    fault: Option<Fault>,
}

impl std::fmt::Debug for Platter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Platter")
            .field("operations", &self.operations)
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
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
        let mut unsynced = Vec::new();
        match crash {
            Crash::LoseAll => {}
            Crash::KeepAll => found.clone_from(&platter.shown),
            Crash::Tear { seed } => tear(&platter.unsynced, &mut found, seed),
            Crash::Kill => unsynced.clone_from(&platter.unsynced),
        }
        let shown = match crash {
            Crash::Kill => platter.shown.clone(),
            _ => found.clone(),
        };
        let platter = Platter {
            synced: found,
            shown,
            unsynced,
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

    /// How often a sync failed by [`Fault::SyncOnceFrom`].
    pub fn failed_syncs(&self) -> u64 {
        self.platter().failed_syncs
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
            (Some(Fault::WriteOnceFrom(n, kind)), Kind::Write) if at >= n => {
                self.fault = None;
                kind.into()
            }
            (Some(Fault::Writes(kind)), Kind::Write) => kind.into(),
            (Some(Fault::Syncs), Kind::Sync) => {
                self.unsynced.clear();
                io::Error::other("the disk does not answer")
            }
            (Some(Fault::SyncOnceFrom { n, seed }), Kind::Sync) if at >= n => {
                self.fault = None;
                self.failed_syncs += 1;
                let lost = std::mem::take(&mut self.unsynced);
                tear(&lost, &mut self.synced, seed);
                io::Error::other("the disk does not answer")
            }
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
        if let Some(Fault::Reads(kind)) = platter.fault {
            return Err(kind.into());
        }
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

/// Applies some of the operations, by the seed. The file's length is the file system's: it follows
/// the order of the changes, up to one of them, and what was written beyond it is not there.
fn tear(operations: &[Operation], bytes: &mut Vec<u8>, seed: u64) {
    let mut random = Random(seed);
    let is_resize = |operation: &&Operation| matches!(operation, Operation::Resize(_));
    let resizes = operations.iter().filter(is_resize).count() as u64;
    let mut resizes_kept = random.below(resizes + 1);
    // From hardly anything to nearly all.
    let kept_of_8 = 1 + random.below(7);
    for operation in operations {
        match operation {
            Operation::Resize(length) => {
                if resizes_kept > 0 {
                    resizes_kept -= 1;
                    bytes.resize(*length, 0);
                }
            }
            Operation::Write(offset, data) => {
                for (n, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                    let at = offset + n * SECTOR_BYTES;
                    if random.below(8) < kept_of_8 && at < bytes.len() {
                        let fits = sector.len().min(bytes.len() - at);
                        place(at, &sector[..fits], bytes);
                    }
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
