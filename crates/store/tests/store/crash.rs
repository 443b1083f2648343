//! The power goes at every operation of the disk, and nothing that was acknowledged is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use bytes::Bytes;
use futures::future::join_all;
use store::embedded::{EmbeddedStore, Options};
use store::{Change, Error, Expect, KeyValue, Store};

use super::faults::{Crash, Disk, Fault, Random};
use super::suite::{put, replay};

/// Everything that was acknowledged or shown before the power went, and how much was attempted.
#[derive(Clone, Default)]
pub struct Ledger {
    pub acknowledged: BTreeMap<u64, Acknowledged>,
    pub attempts: u64,
    /// Keys that a write of unknown outcome may have changed.
    pub uncertain: BTreeSet<String>,
}

impl Ledger {
    /// A change that readers have seen must be as durable as an acknowledged one.
    pub fn shown(&mut self, change: &Change) {
        let shown = Acknowledged::from(change);
        let known = self
            .acknowledged
            .entry(change.revision())
            .or_insert_with(|| change.into());
        assert_eq!(*known, shown, "revision {}", change.revision());
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Acknowledged {
    Put(KeyValue),
    Delete(KeyValue),
}

impl From<&Change> for Acknowledged {
    fn from(change: &Change) -> Self {
        match change {
            Change::Put { current, .. } => Acknowledged::Put(current.clone()),
            Change::Delete { previous, .. } => Acknowledged::Delete(previous.clone()),
        }
    }
}

pub fn options() -> Options {
    // Small, so that changes leave the window during the workload.
    Options {
        history_changes_max: 20,
        cache_bytes: 256 * 1024,
        reopen_pause: std::time::Duration::ZERO,
        ..Options::default()
    }
}

/// One random write; what comes of it goes into the ledger.
pub async fn write(store: &EmbeddedStore, ledger: &Mutex<Ledger>, choice: u64) {
    let key = format!("/crash/{}", choice % 7);
    ledger.lock().unwrap().attempts += 1;
    let done = if choice.is_multiple_of(5) {
        match store.delete(&key, Expect::Any).await {
            Ok((previous, revision)) => (revision, Acknowledged::Delete(previous)),
            Err(why) => return doubt(ledger, key, &why),
        }
    } else {
        let size = if choice.is_multiple_of(97) {
            400_000
        } else if choice.is_multiple_of(11) {
            20_000
        } else {
            50 + choice % 300
        };
        let value = Bytes::from(vec![choice as u8; size as usize]);
        match store.put(&key, value, Expect::Any).await {
            Ok(current) => (current.mod_revision, Acknowledged::Put(current)),
            Err(why) => return doubt(ledger, key, &why),
        }
    };
    let twice = ledger.lock().unwrap().acknowledged.insert(done.0, done.1);
    assert_eq!(twice, None, "a revision was given to two writes");
}

/// A refused write changed nothing; of one that failed nobody knows.
fn doubt(ledger: &Mutex<Ledger>, key: String, why: &Error) {
    if matches!(
        why,
        Error::Io { .. } | Error::Corrupt { .. } | Error::Closed
    ) {
        ledger.lock().unwrap().uncertain.insert(key);
    }
}

/// Writes alone and eight at a time (so that one commit holds several), until done or cut off.
async fn workload(disk: &Disk, seed: u64) -> Ledger {
    let ledger = Mutex::new(Ledger::default());
    let mut random = Random(seed);
    if let Ok(store) = EmbeddedStore::open_with_backend(disk.clone(), options()) {
        for _ in 0..4 {
            for _ in 0..3 {
                write(&store, &ledger, random.next() >> 8).await;
            }
            let together: Vec<u64> = (0..8).map(|_| random.next() >> 8).collect();
            join_all(
                together
                    .into_iter()
                    .map(|choice| write(&store, &ledger, choice)),
            )
            .await;
        }
    }
    ledger.into_inner().unwrap()
}

/// Opens what the crash left and compares it with the ledger, which then holds what was found.
pub async fn check(disk: &Disk, ledger: &mut Ledger) {
    let store = EmbeddedStore::open_with_backend(disk.clone(), options())
        .expect("the store does not open after a crash");
    let revision = store.revision();
    let last = ledger.acknowledged.keys().next_back().copied().unwrap_or(1);
    assert!(revision >= last, "acknowledged {last}, found {revision}");
    assert!(
        revision <= 1 + ledger.attempts,
        "revision {revision} was never attempted"
    );

    let oldest = match store.watch("", 0).await.map(|_| ()) {
        Err(Error::Compacted { oldest }) => oldest,
        other => panic!("a watch from 0 must be outside the window: {other:?}"),
    };
    let mut watch = store.watch("", oldest).await.unwrap();
    let (changes, progress) = replay(&mut watch).await;
    assert_eq!(progress, revision);
    let revisions: Vec<u64> = changes.iter().map(Change::revision).collect();
    assert_eq!(
        revisions,
        (oldest + 1..=revision).collect::<Vec<_>>(),
        "gaps in the replay"
    );

    // Old list + replay = new list, at every revision on the way.
    let mut folded = list(&store, oldest).await;
    for change in &changes {
        let known = ledger.acknowledged.get(&change.revision());
        assert!(
            known.is_none_or(|known| *known == change.into()),
            "{known:?} became {change:?}"
        );
        let before = match change {
            Change::Put { current, previous } => {
                assert_eq!(
                    folded.insert(current.key.clone(), current.clone()),
                    *previous
                );
                continue_at(&store, change, &folded).await;
                continue;
            }
            Change::Delete { previous, .. } => folded.remove(&previous.key),
        };
        assert_eq!(
            before.as_ref().map(|before| &*before.key),
            Some(change.key())
        );
        continue_at(&store, change, &folded).await;
    }
    assert_eq!(folded, list(&store, revision).await);

    // What left the window is known by what it left behind.
    for key in (0..7).map(|n| format!("/crash/{n}")) {
        let of_key = |done: &&Acknowledged| match done {
            Acknowledged::Put(at) | Acknowledged::Delete(at) => at.key == key,
        };
        let Some(done) = ledger.acknowledged.values().rfind(of_key) else {
            continue;
        };
        let touched_since = changes.iter().any(|change| {
            change.key() == key && !ledger.acknowledged.contains_key(&change.revision())
        });
        if !touched_since && !ledger.uncertain.contains(&key) {
            let expected = match done {
                Acknowledged::Put(current) => Some(current),
                Acknowledged::Delete(_) => None,
            };
            assert_eq!(folded.get(&key), expected, "{key}");
        }
    }
    let after = put(&store, "/crash/after", "x").await;
    assert_eq!(after.mod_revision, revision + 1);

    // From now on this is the truth.
    ledger.attempts += 1;
    ledger.uncertain.clear();
    ledger.acknowledged.retain(|_, done| match done {
        Acknowledged::Delete(at) => !folded.contains_key(&at.key),
        Acknowledged::Put(_) => false,
    });
    changes.iter().for_each(|change| ledger.shown(change));
    let last_of = |item: &KeyValue| (item.mod_revision, Acknowledged::Put(item.clone()));
    ledger.acknowledged.extend(folded.values().map(last_of));
    ledger
        .acknowledged
        .insert(revision + 1, Acknowledged::Put(after));
}

async fn continue_at(store: &EmbeddedStore, change: &Change, folded: &BTreeMap<String, KeyValue>) {
    // Comparing each list would be quadratic in time; every fifth finds the same faults.
    if change.revision().is_multiple_of(5) {
        assert_eq!(*folded, list(store, change.revision()).await);
    }
}

async fn list(store: &EmbeddedStore, revision: u64) -> BTreeMap<String, KeyValue> {
    let page = store.range("", None, 0, Some(revision)).await.unwrap();
    page.items
        .into_iter()
        .map(|item| (item.key.clone(), item))
        .collect()
}

/// A disk with an empty store. (A file is made under another name, so a cut during its creation
/// leaves none; see `hostile::an_unfinished_file_is_started_again`.)
pub fn formatted() -> Disk {
    let disk = Disk::default();
    drop(EmbeddedStore::open_with_backend(disk.clone(), options()).unwrap());
    disk
}

#[tokio::test]
async fn power_cut_at_every_operation() {
    const SEED: u64 = 1;
    let whole = formatted();
    let start = whole.operations();
    let ledger = workload(&whole, SEED).await;
    assert!(
        ledger.acknowledged.len() > 25,
        "the workload does too little"
    );
    check(&whole.after(Crash::LoseAll), &mut ledger.clone()).await;
    let operations = whole.operations();
    assert!(
        operations > start + 60,
        "only operations {start} to {operations}"
    );
    let empty = formatted();
    for cut in 0..operations - start {
        let disk = empty.after(Crash::KeepAll);
        disk.fail(Fault::PowerAt(cut));
        let ledger = workload(&disk, SEED).await;
        for crash in [Crash::LoseAll, Crash::KeepAll, Crash::Tear { seed: cut }] {
            // Shown when the check fails.
            println!("power cut at operation {cut}, {crash:?}");
            check(&disk.after(crash), &mut ledger.clone()).await;
        }
    }
}

/// The power goes again while the store recovers from the first cut.
#[tokio::test]
async fn power_cut_during_recovery() {
    let whole = formatted();
    let start = whole.operations();
    workload(&whole, 4).await;
    let empty = formatted();
    for cut in (0..whole.operations() - start).step_by(13) {
        let disk = empty.after(Crash::KeepAll);
        disk.fail(Fault::PowerAt(cut));
        let ledger = workload(&disk, 4).await;
        for again in 0..8 {
            let found = disk.after(Crash::Tear { seed: cut });
            found.fail(Fault::PowerAt(again));
            drop(EmbeddedStore::open_with_backend(found.clone(), options()));
            check(
                &found.after(Crash::Tear { seed: again }),
                &mut ledger.clone(),
            )
            .await;
        }
    }
}

/// The power goes while the file is made shorter.
#[tokio::test]
async fn power_cut_at_every_operation_of_a_compaction() {
    let whole = formatted();
    let mut ledger = Ledger::default();
    {
        let store = EmbeddedStore::open_with_backend(whole.clone(), options()).unwrap();
        // What was large once leaves gaps between what is small now.
        for n in 0..7 + 28_usize {
            let size = if n < 7 { 300_000 } else { 40 + n };
            let key = format!("/crash/{}", n % 7);
            let done = store
                .put(&key, Bytes::from(vec![n as u8; size]), Expect::Any)
                .await
                .unwrap();
            ledger.attempts += 1;
            ledger
                .acknowledged
                .insert(done.mod_revision, Acknowledged::Put(done));
        }
    }
    let compacting = Options {
        unused_bytes_max: 16 * 1024,
        ..options()
    };
    let trial = whole.after(Crash::KeepAll);
    let length = |disk: &Disk| redb::StorageBackend::len(disk).unwrap();
    drop(EmbeddedStore::open_with_backend(trial.clone(), compacting.clone()).unwrap());
    let (before, after, operations) = (length(&whole), length(&trial), trial.operations());
    assert!(after < before / 2, "{before} became {after}");
    println!("{before} became {after} bytes in {operations} operations");
    for cut in 0..operations {
        let disk = whole.after(Crash::KeepAll);
        disk.fail(Fault::PowerAt(cut));
        drop(EmbeddedStore::open_with_backend(
            disk.clone(),
            compacting.clone(),
        ));
        for crash in [Crash::LoseAll, Crash::KeepAll, Crash::Tear { seed: cut }] {
            println!("power cut at operation {cut}, {crash:?}");
            check(&disk.after(crash), &mut ledger.clone()).await;
        }
    }
}

/// The checks above can fail: a disk that says it has synced and has not is found out.
#[tokio::test]
async fn a_lying_disk_is_noticed() {
    #[derive(Debug)]
    struct Liar(Disk);
    impl redb::StorageBackend for Liar {
        fn len(&self) -> std::io::Result<u64> {
            self.0.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
            self.0.read(offset, out)
        }
        fn set_len(&self, len: u64) -> std::io::Result<()> {
            self.0.set_len(len)
        }
        fn sync_data(&self) -> std::io::Result<()> {
            Ok(())
        }
        fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
            self.0.write(offset, data)
        }
    }
    let disk = formatted();
    let store = EmbeddedStore::open_with_backend(Liar(disk.clone()), options()).unwrap();
    let ledger = Mutex::new(Ledger::default());
    write(&store, &ledger, 1).await;
    let found = disk.after(Crash::LoseAll);
    drop(store);
    let mut ledger = ledger.into_inner().unwrap();
    let verdict = tokio::spawn(async move { check(&found, &mut ledger).await }).await;
    assert!(verdict.is_err(), "the loss went unnoticed");
}
