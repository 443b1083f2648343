//! Thousands of seeded disasters: power cuts, kills, full and failing disks, one after another on the
//! same store. What was acknowledged, or shown to a watch, is there afterwards; nothing else is half
//! there; watches resume.
//!
//! `PLIMSOLL_CRASHES=10000 cargo test -p store --test store campaign -- --nocapture` runs many;
//! `PLIMSOLL_SEED=N` runs one again.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use futures::FutureExt;
use futures::StreamExt;
use futures::future::join_all;
use store::embedded::{EmbeddedStore, Options};
use store::{Error, Expect, Store, WatchItem, WatchStream};

use super::crash::{Ledger, check, options, write};
use super::faults::{Crash, Disk, Fault, Random};

/// How many stores live and die when nobody says otherwise: some seconds.
const STORES: u64 = 250;
const ROUNDS_MAX: u64 = 12;
/// About as many operations of the disk as the longest life has.
const OPERATIONS_MAX: u64 = 220;

/// What ends a life, or makes it hard.
#[derive(Clone, Copy, Debug)]
enum Disaster {
    /// The power goes at an operation.
    Power(u64),
    /// The program is killed; the power may go later.
    Kill,
    /// The disk is full, or refuses to write, for some rounds; then the power goes.
    Writes(ErrorKind),
    /// One write fails; later the power goes.
    Once(u64, ErrorKind),
    /// A sync fails and loses what it should have written; later the power goes.
    Sync { n: u64, seed: u64 },
    /// The next start cannot read; later the power goes.
    Reads,
}

impl Disaster {
    fn draw(random: &mut Random) -> Self {
        let n = random.below(OPERATIONS_MAX);
        match random.below(10) {
            0..4 => Self::Power(n),
            4 => Self::Kill,
            5 => Self::Writes(ErrorKind::StorageFull),
            6 => Self::Writes(ErrorKind::Other),
            7 => Self::Once(n, ErrorKind::StorageFull),
            8 => Self::Sync {
                n,
                seed: random.next(),
            },
            _ => Self::Reads,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Power(_) => "power cut",
            Self::Kill => "kill",
            Self::Writes(ErrorKind::StorageFull) => "full disk",
            Self::Writes(_) => "failing writes",
            Self::Once(..) => "one failing write",
            Self::Sync { .. } => "failing sync",
            Self::Reads => "failing reads",
        }
    }
}

/// How often each disaster came.
type Tally = BTreeMap<&'static str, u64>;

#[test]
fn seeded_disasters_lose_nothing_that_was_acknowledged() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().expect(name))
    };
    let seeds = match number("PLIMSOLL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PLIMSOLL_CRASHES").unwrap_or(STORES),
    };
    let began = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let tally: Mutex<Tally> = Mutex::default();
    let failed: Mutex<Vec<u64>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    match runtime.block_on(AssertUnwindSafe(store_of(seed)).catch_unwind()) {
                        Ok(came) => {
                            let mut tally = tally.lock().unwrap();
                            for name in came {
                                *tally.entry(name).or_default() += 1;
                            }
                        }
                        Err(_) => {
                            println!("PLIMSOLL_SEED={seed} fails");
                            failed.lock().unwrap().push(seed);
                        }
                    }
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    println!(
        "seeds {seeds:?}: {} disasters in {:.1} s: {tally:?}",
        tally.values().sum::<u64>(),
        began.elapsed().as_secs_f64(),
    );
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_empty(),
        "run again with PLIMSOLL_SEED=N: {failed:?}"
    );
}

/// One store through one to three disasters.
async fn store_of(seed: u64) -> Vec<&'static str> {
    let mut random = Random(seed);
    let options = Options {
        history_changes_max: 5 + random.below(40) as usize,
        // Now and then the file is compacted too.
        unused_bytes_max: (64 * 1024) << random.below(6),
        ..options()
    };
    let mut disk = Disk::default();
    drop(EmbeddedStore::open_with_backend(disk.clone(), options.clone()).expect("a new store"));
    let mut ledger = Ledger::default();
    let mut came = Vec::new();
    for _ in 0..1 + random.below(3) {
        let disaster = Disaster::draw(&mut random);
        let crash = match (disaster, random.below(4)) {
            (Disaster::Kill, _) => Crash::Kill,
            (_, 0) => Crash::LoseAll,
            (_, 1) => Crash::KeepAll,
            _ => Crash::Tear {
                seed: random.next(),
            },
        };
        // Shown when a check fails.
        println!("seed {seed}: {disaster:?}, then {crash:?}");
        let store;
        (ledger, store) = live(&disk, &options, disaster, ledger, &mut random).await;
        let found = disk.after(crash);
        // The disaster found the store open; what it does at its end comes too late.
        disk.fail(Fault::PowerAt(0));
        drop(store);
        disk = found;
        if let Disaster::Reads = disaster {
            refuses_while_it_cannot_read(&disk, &options);
        }
        if random.below(4) == 0 {
            // The power goes again while the store recovers.
            disk.fail(Fault::PowerAt(random.below(12)));
            drop(EmbeddedStore::open_with_backend(
                disk.clone(),
                options.clone(),
            ));
            disk = disk.after(Crash::Tear {
                seed: random.next(),
            });
        }
        check(&disk, &mut ledger).await;
        came.push(disaster.name());
    }
    came
}

/// Writes, alone and several at a time, until done or cut off.
async fn live(
    disk: &Disk,
    options: &Options,
    disaster: Disaster,
    ledger: Ledger,
    random: &mut Random,
) -> (Ledger, Option<EmbeddedStore>) {
    let now = disk.operations();
    disk.fail(match disaster {
        Disaster::Power(n) => Some(Fault::PowerAt(now + n)),
        Disaster::Once(n, kind) => Some(Fault::WriteOnceFrom(now + n, kind)),
        Disaster::Sync { n, seed } => Some(Fault::SyncOnceFrom { n: now + n, seed }),
        Disaster::Kill | Disaster::Writes(_) | Disaster::Reads => None,
    });
    let ledger = Mutex::new(ledger);
    let Ok(store) = EmbeddedStore::open_with_backends(disk.maker(), options.clone()) else {
        return (ledger.into_inner().unwrap(), None);
    };
    let mut watch = watch_from_now(&store).await;
    let rounds = 1 + random.below(ROUNDS_MAX);
    let (from, until) = (random.below(rounds), random.below(rounds + 1));
    for round in 0..rounds {
        if let Disaster::Writes(kind) = disaster {
            disk.fail(
                (from..until)
                    .contains(&round)
                    .then_some(Fault::Writes(kind)),
            );
        }
        let together = if random.below(2) == 0 {
            1
        } else {
            1 + random.below(10)
        };
        let choices: Vec<u64> = (0..together).map(|_| random.next() >> 8).collect();
        join_all(
            choices
                .into_iter()
                .map(|choice| write(&store, &ledger, choice)),
        )
        .await;
        if random.below(3) == 0 {
            drain(&store, &mut watch, &ledger).await;
        }
    }
    match disaster {
        Disaster::Writes(_) | Disaster::Once(..) => {
            disk.fail(None);
            writes_again(&store, &ledger).await;
        }
        Disaster::Sync { .. } => stays_refused(&store, disk).await,
        _ => {}
    }
    drain(&store, &mut watch, &ledger).await;
    (ledger.into_inner().unwrap(), Some(store))
}

async fn watch_from_now(store: &EmbeddedStore) -> WatchStream {
    store.watch("", store.revision()).await.expect("a watch")
}

/// Takes what the watch has: the reader has seen it now. One that was too slow begins anew.
async fn drain(store: &EmbeddedStore, watch: &mut WatchStream, ledger: &Mutex<Ledger>) {
    while let Some(item) = tokio::task::unconstrained(watch.next()).now_or_never() {
        match item {
            Some(Ok(WatchItem::Changes(changes))) => {
                let mut ledger = ledger.lock().unwrap();
                changes.iter().for_each(|change| ledger.shown(change));
            }
            Some(Ok(WatchItem::Progress(_))) => {}
            Some(Err(Error::Lagged)) => *watch = watch_from_now(store).await,
            other => panic!("the watch ended with {other:?}"),
        }
    }
}

async fn writes_again(store: &EmbeddedStore, ledger: &Mutex<Ledger>) {
    // The failure may strike the first write after it was called off.
    for choice in [2, 3] {
        write(store, ledger, choice).await;
    }
    let value = Bytes::from_static(b"x");
    ledger.lock().unwrap().attempts += 1;
    let done = store.put("/crash/again", value, Expect::Any).await;
    let done = done.expect("the disk is well and the store does not write");
    let mut ledger = ledger.lock().unwrap();
    ledger
        .acknowledged
        .insert(done.mod_revision, super::crash::Acknowledged::Put(done));
}

/// After a failed sync nothing is acknowledged any more, however well the disk seems.
async fn stays_refused(store: &EmbeddedStore, disk: &Disk) {
    if disk.failed_syncs() == 0 {
        return;
    }
    let value = Bytes::from_static(b"x");
    let refused = store.put("/crash/refused", value, Expect::Any).await;
    assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
}

fn refuses_while_it_cannot_read(disk: &Disk, options: &Options) {
    disk.fail(Fault::Reads(ErrorKind::Other));
    let opened = EmbeddedStore::open_with_backend(disk.clone(), options.clone());
    assert!(
        matches!(opened, Err(Error::Io { .. })),
        "{:?}",
        opened.err()
    );
    disk.fail(None);
}
