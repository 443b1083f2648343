//! The suite on the embedded store, and what only this store promises: its window, its slow
//! watches, its file.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use store::embedded::{EmbeddedStore, Options};
use store::{Error, Expect, Store, WatchItem};
use tempfile::TempDir;

use super::faults::Disk;
use super::suite::{changes, compaction, delete, lists, next, put, refused, watches, writes};

fn directory() -> TempDir {
    tempfile::Builder::new()
        .prefix("plimsoll-store-")
        .tempdir()
        .unwrap()
}

fn open(directory: &Path) -> EmbeddedStore {
    EmbeddedStore::open(&directory.join("store/state.redb"), Options::default()).unwrap()
}

macro_rules! suite {
    ($($module:ident::$name:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let directory = directory();
            $module::$name(&open(directory.path())).await;
        }
    )*};
}

suite! {
    writes::revisions_and_versions_count_up,
    writes::a_write_happens_only_as_expected,
    writes::one_of_many_creators_wins,
    writes::concurrent_increments_add_up,
    writes::keys_and_values_have_limits,
    lists::a_prefix_is_a_prefix_of_bytes,
    lists::a_limit_says_what_remains,
    lists::pages_show_one_revision,
    lists::a_future_revision_is_refused,
    watches::a_watch_shows_past_and_future,
    watches::a_change_shows_before_and_after,
    watches::progress_ends_the_replay,
    watches::watches_are_independent,
    watches::nothing_is_lost_or_repeated_at_the_start,
    compaction::compaction_forgets_the_past_only,
}

#[tokio::test]
async fn everything_outlives_a_restart() {
    let directory = directory();
    let path = directory.path().to_path_buf();
    let reopen = || -> BoxFuture<'static, Box<dyn Store>> {
        let path = path.clone();
        async move { Box::new(open(&path)) as Box<dyn Store> }.boxed()
    };
    compaction::everything_outlives_a_restart(&reopen).await;
}

#[tokio::test]
async fn an_empty_store_is_at_revision_one() {
    let store = EmbeddedStore::in_memory().unwrap();
    assert_eq!(store.revision(), 1);
    assert_eq!(store.range("", None, 0, None).await.unwrap().revision, 1);
    assert_eq!(put(&store, "/a", "").await.mod_revision, 2);
    assert_eq!(refused(&store, "", 0).await, Error::Compacted { oldest: 1 });
}

#[tokio::test]
async fn the_window_is_bounded_by_count_and_by_bytes() {
    let directory = directory();
    let path = directory.path().join("state.redb");
    let by_count = Options {
        history_changes_max: 3,
        ..Options::default()
    };
    let by_bytes = Options {
        history_bytes_max: 4000,
        ..Options::default()
    };
    for (options, oldest) in [(by_count, 18), (by_bytes, 18)] {
        let store = EmbeddedStore::open(&path, options.clone()).unwrap();
        let value = "v".repeat(1000);
        for _ in 0..20 {
            put(&store, "/a", &value).await;
        }
        let behind = store.revision() - 3;
        assert_eq!(
            refused(&store, "/", behind - 1).await,
            Error::Compacted { oldest: behind }
        );
        let mut watch = store.watch("/", behind).await.unwrap();
        assert_eq!(changes(&mut watch, 3).await.len(), 3);
        drop(store);
        // The window is the same after a restart, also with larger limits.
        let store = EmbeddedStore::open(&path, Options::default()).unwrap();
        assert_eq!(
            refused(&store, "/", behind - 1).await,
            Error::Compacted { oldest: behind }
        );
        assert_eq!(store.watch("/", behind).await.map(|_| ()), Ok(()));
        delete(&store, "/a").await;
        store.compact(store.revision()).await.unwrap();
        assert!(behind >= oldest);
    }
}

#[tokio::test]
async fn a_slow_watch_ends_alone() {
    let options = Options {
        history_changes_max: 5,
        ..Options::default()
    };
    let backend = redb::backends::InMemoryBackend::new();
    let store = EmbeddedStore::open_with_backend(backend, options).unwrap();
    let from = store.revision();
    let mut slow = store.watch("/", from).await.unwrap();
    let mut quick = store.watch("/", from).await.unwrap();
    let mut elsewhere = store.watch("/rare/", from).await.unwrap();
    for n in 0..6 {
        put(&store, "/a", &n.to_string()).await;
        assert_eq!(changes(&mut quick, 1).await, [format!("put /a={n}")]);
    }
    assert_eq!(next(&mut slow).await, Some(Err(Error::Lagged)));
    assert_eq!(next(&mut slow).await, None);
    // What left the window did not concern this one, so it has missed nothing.
    put(&store, "/rare/a", "x").await;
    assert_eq!(changes(&mut elsewhere, 1).await, ["put /rare/a=x"]);
    assert_eq!(changes(&mut quick, 1).await, ["put /rare/a=x"]);
}

#[tokio::test]
async fn batches_of_a_watch_are_bounded() {
    let options = Options {
        watch_batch_changes_max: 2,
        ..Options::default()
    };
    let backend = redb::backends::InMemoryBackend::new();
    let store = EmbeddedStore::open_with_backend(backend, options).unwrap();
    let from = store.revision();
    for n in 0..5 {
        put(&store, "/a", &n.to_string()).await;
        put(&store, "/b", "").await;
    }
    let mut watch = store.watch("/a", from).await.unwrap();
    let mut sizes = Vec::new();
    while let Some(Ok(WatchItem::Changes(changes))) = next(&mut watch).await {
        sizes.push(changes.len());
    }
    assert_eq!(sizes, [2, 2, 1]);
}

#[tokio::test]
async fn a_quiet_watch_reports_progress() {
    let options = Options {
        progress_interval: Duration::from_millis(1),
        ..Options::default()
    };
    let backend = redb::backends::InMemoryBackend::new();
    let store = EmbeddedStore::open_with_backend(backend, options).unwrap();
    let mut watch = store.watch("/quiet/", 1).await.unwrap();
    assert_eq!(next(&mut watch).await, Some(Ok(WatchItem::Progress(1))));
    let revision = put(&store, "/elsewhere", "").await.mod_revision;
    assert_eq!(
        next(&mut watch).await,
        Some(Ok(WatchItem::Progress(revision)))
    );
}

#[tokio::test]
async fn writes_that_wait_share_one_commit() {
    let disk = Disk::default();
    let store = EmbeddedStore::open_with_backend(disk.clone(), Options::default()).unwrap();
    put(&store, "/a", "").await;
    let before = disk.syncs();
    let gate = disk.pause();
    let keys: Vec<String> = (0..40).map(|n| format!("/group/{n}")).collect();
    let puts = keys
        .iter()
        .map(|key| store.put(key, Bytes::new(), Expect::Any));
    let mut puts = join_all(puts);
    assert!(
        (&mut puts).now_or_never().is_none(),
        "written to a disk that waits"
    );
    drop(gate);
    let mut revisions: Vec<u64> = puts
        .await
        .into_iter()
        .map(|result| result.unwrap().mod_revision)
        .collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (3..43).collect::<Vec<_>>());
    // The writer may have taken some before the others arrived: two commits, of two syncs at most.
    let syncs = disk.syncs() - before;
    assert!((1..=4).contains(&syncs), "{syncs} syncs for 40 writes");
}

#[tokio::test]
async fn reads_and_watches_do_not_wait_for_the_disk() {
    let disk = Disk::default();
    let store = EmbeddedStore::open_with_backend(disk.clone(), Options::default()).unwrap();
    let old = put(&store, "/a", "old").await;
    let mut watch = store.watch("/", old.mod_revision).await.unwrap();
    assert_eq!(
        next(&mut watch).await,
        Some(Ok(WatchItem::Progress(old.mod_revision)))
    );
    let gate = disk.pause();
    let mut write = store.put("/a", Bytes::from_static(b"new"), Expect::Any);
    assert!(
        (&mut write).now_or_never().is_none(),
        "written to a disk that waits"
    );
    disk.wait_for_arrival().await;
    // The writer is in the middle of its commit now: nothing of it shows.
    assert_eq!(
        store.get("/a").await,
        Ok((Some(old.clone()), old.mod_revision))
    );
    assert_eq!(
        store.range("/", None, 0, None).await.unwrap().items,
        std::slice::from_ref(&old)
    );
    assert_eq!(store.watch("/", old.mod_revision).await.map(|_| ()), Ok(()));
    assert!(
        futures::StreamExt::next(&mut watch)
            .now_or_never()
            .is_none()
    );
    drop(gate);
    write.await.unwrap();
    assert_eq!(changes(&mut watch, 1).await, ["put /a=new"]);
}

/// Thousands of watches start while another thread commits as fast as it can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_slips_past_a_watch_that_starts() {
    let store = Arc::new(EmbeddedStore::in_memory().unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (store, stop) = (store.clone(), stop.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                put(&*store, "/a", "").await;
            }
        }
    });
    for _ in 0..100 {
        let mut started = Vec::new();
        for _ in 0..400 {
            let from = store.revision();
            started.push((from, store.watch("/", from).await.unwrap()));
        }
        let last = put(&*store, "/a", "last").await.mod_revision;
        for (from, mut watch) in started {
            let mut seen = from;
            while seen < last {
                if let Some(Ok(WatchItem::Changes(changes))) = next(&mut watch).await {
                    for change in changes {
                        assert_eq!(change.revision(), seen + 1, "of a watch from {from}");
                        seen += 1;
                    }
                }
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
}

#[tokio::test]
async fn the_queue_is_bounded_in_bytes() {
    let disk = Disk::default();
    let options = Options {
        queue_bytes_max: 1000,
        ..Options::default()
    };
    let store = EmbeddedStore::open_with_backend(disk.clone(), options).unwrap();
    let gate = disk.pause();
    let large = Bytes::from(vec![b'v'; 5000]);
    let mut first = store.put("/large", large, Expect::Any);
    assert!((&mut first).now_or_never().is_none());
    let mut second = store.put("/small", Bytes::from_static(b"v"), Expect::Any);
    assert!((&mut second).now_or_never().is_none());
    // Had the small one been enqueued, it would be written though its caller has gone.
    drop(second);
    drop(gate);
    first.await.unwrap();
    assert_eq!(put(&store, "/small", "w").await.version, 1);
}

#[tokio::test]
async fn a_write_whose_caller_has_gone_is_whole() {
    let disk = Disk::default();
    let store = EmbeddedStore::open_with_backend(disk.clone(), Options::default()).unwrap();
    let gate = disk.pause();
    let mut abandoned = store.put("/a", Bytes::from_static(b"1"), Expect::Any);
    assert!((&mut abandoned).now_or_never().is_none());
    drop(abandoned);
    drop(gate);
    assert_eq!(put(&store, "/a", "2").await.version, 2);
}

#[tokio::test]
async fn closing_the_store_ends_its_watches_after_the_last_change() {
    let store = EmbeddedStore::in_memory().unwrap();
    let mut watch = store.watch("/", 1).await.unwrap();
    put(&store, "/a", "1").await;
    drop(store);
    assert_eq!(changes(&mut watch, 1).await, ["put /a=1"]);
    assert_eq!(next(&mut watch).await, Some(Ok(WatchItem::Progress(2))));
    assert_eq!(next(&mut watch).await, Some(Err(Error::Closed)));
    assert_eq!(next(&mut watch).await, None);
}

#[tokio::test]
async fn a_file_in_use_is_not_opened_twice() {
    let directory = directory();
    let path = directory.path().join("state.redb");
    let store = EmbeddedStore::open(&path, Options::default()).unwrap();
    let file = path.display().to_string();
    let second = EmbeddedStore::open(&path, Options::default());
    assert_eq!(second.map(|_| ()), Err(Error::InUse { file }));
    put(&store, "/a", "1").await;
    drop(store);
    assert!(EmbeddedStore::open(&path, Options::default()).is_ok());
}

#[tokio::test]
async fn the_file_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let directory = directory();
    let path = directory.path().join("state.redb");
    let _store = EmbeddedStore::open(&path, Options::default()).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn the_file_stays_proportional_to_what_it_holds() {
    const MIB: u64 = 1024 * 1024;
    let directory = directory();
    let path = directory.path().join("state.redb");
    let options = Options {
        history_bytes_max: 1024 * 1024,
        unused_bytes_max: 4 * MIB,
        ..Options::default()
    };
    let store = EmbeddedStore::open(&path, options.clone()).unwrap();
    // 22 MiB written over the same 768 KiB.
    let mut sizes = Vec::new();
    for round in 0..30 {
        let value = Bytes::from(vec![round; 64 * 1024]);
        let keys: Vec<String> = (0..12).map(|n| format!("/churn/{n}")).collect();
        let puts = keys
            .iter()
            .map(|key| store.put(key, value.clone(), Expect::Any));
        for result in join_all(puts).await {
            result.unwrap();
        }
        sizes.push(path.metadata().unwrap().len());
    }
    assert!(sizes[29] <= sizes[14], "the file keeps growing: {sizes:?}");
    assert!(
        sizes[29] < 16 * MIB,
        "768 KiB of data take {} bytes",
        sizes[29]
    );

    // A peak of 24 MiB that goes away is given back at the next start, also when what remains is
    // spread over the file.
    let value = Bytes::from(vec![7; 1024 * 1024]);
    for n in 0..24 {
        let large = format!("/peak/{n}");
        store.put(&large, value.clone(), Expect::Any).await.unwrap();
        put(&store, &format!("/remains/{n}"), &"v".repeat(200_000)).await;
    }
    let peak = path.metadata().unwrap().len();
    assert!(peak > 24 * MIB, "{peak}");
    for n in 0..24 {
        delete(&store, &format!("/peak/{n}")).await;
    }
    let before = store.range("", None, 0, None).await.unwrap();
    drop(store);
    let store = EmbeddedStore::open(&path, options).unwrap();
    assert_eq!(store.range("", None, 0, None).await.unwrap(), before);
    let after = path.metadata().unwrap().len();
    assert!(after < 16 * MIB, "{after} bytes, of {peak} at the peak");
}
