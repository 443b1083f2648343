//! Disks that are full or broken: writes fail with an error, reads go on, and memory never shows
//! what the disk does not hold.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use store::embedded::{EmbeddedStore, Options};
use store::{Change, Error, Expect, Store};

use super::faults::{Crash, Disk, Fault};
use super::suite::{changes, put, replay};

/// Each write after a failure tries the disk anew.
fn at_once() -> Options {
    Options {
        reopen_pause: Duration::ZERO,
        ..Options::default()
    }
}

fn open(disk: &Disk) -> EmbeddedStore {
    EmbeddedStore::open_with_backends(disk.maker(), at_once()).unwrap()
}

async fn try_put(store: &EmbeddedStore, key: &str, value: &'static str) -> Result<u64, Error> {
    let value = Bytes::from_static(value.as_bytes());
    store
        .put(key, value, Expect::Any)
        .await
        .map(|current| current.mod_revision)
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_space() {
    let disk = Disk::default();
    let store = open(&disk);
    let kept = put(&store, "/full/a", "old").await;
    let mut watch = store.watch("/full/", kept.mod_revision).await.unwrap();

    disk.fail(Fault::Writes(ErrorKind::StorageFull));
    for _ in 0..3 {
        let error = try_put(&store, "/full/a", "lost").await.unwrap_err();
        let Error::Io { .. } = &error else {
            panic!("{error}")
        };
    }
    assert_eq!(
        store.get("/full/a").await.unwrap(),
        (Some(kept.clone()), kept.mod_revision)
    );
    assert_eq!(
        store.range("/full/", None, 0, None).await.unwrap().items,
        std::slice::from_ref(&kept)
    );

    disk.fail(None);
    let revision = try_put(&store, "/full/a", "new").await.unwrap();
    assert_eq!(revision, kept.mod_revision + 1);
    assert_eq!(changes(&mut watch, 1).await, ["put /full/a=new"]);
    drop(store);
    assert_eq!(
        &*open(&disk).get("/full/a").await.unwrap().0.unwrap().value,
        b"new"
    );
}

#[tokio::test]
async fn the_error_of_a_full_disk_says_what_to_do() {
    let disk = Disk::default();
    let store = open(&disk);
    disk.fail(Fault::Writes(ErrorKind::StorageFull));
    let error = try_put(&store, "/full/a", "x")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("cannot commit to the storage: "),
        "{error}"
    );
    assert!(error.contains("free some space"), "{error}");
}

/// A full disk is not read anew for each of the writes that come while it is full.
#[tokio::test]
async fn storage_that_failed_is_left_alone_for_a_while() {
    for (pause, asked) in [(Duration::ZERO, true), (Duration::from_secs(3600), false)] {
        let disk = Disk::default();
        let options = Options {
            reopen_pause: pause,
            ..Options::default()
        };
        let store = EmbeddedStore::open_with_backends(disk.maker(), options).unwrap();
        disk.fail(Fault::Writes(ErrorKind::StorageFull));
        let error = try_put(&store, "/full/a", "x").await.unwrap_err();
        disk.fail(None);
        let before = disk.operations();
        let again = try_put(&store, "/full/a", "x").await;
        assert_eq!(again.is_ok(), asked, "{again:?}");
        if !asked {
            assert_eq!(again, Err(error));
        }
        assert_eq!(disk.operations() > before, asked);
    }
}

/// After a failed sync, what the disk holds cannot be told any more by reading it.
#[tokio::test]
async fn a_failed_sync_stops_writes_until_a_restart() {
    let disk = Disk::default();
    let store = open(&disk);
    let kept = put(&store, "/sync/a", "old").await;
    disk.fail(Fault::Syncs);
    let error = try_put(&store, "/sync/a", "perhaps").await.unwrap_err();
    assert!(
        error.to_string().contains("check it, then restart"),
        "{error}"
    );
    disk.fail(None);
    assert_eq!(try_put(&store, "/sync/a", "no").await, Err(error));
    assert_eq!(
        store.get("/sync/a").await.unwrap(),
        (Some(kept.clone()), kept.mod_revision)
    );
    drop(store);
    let found = open(&disk.after(Crash::LoseAll))
        .get("/sync/a")
        .await
        .unwrap()
        .0;
    assert_eq!(found, Some(kept));
}

#[tokio::test]
async fn storage_that_cannot_be_opened_again_stays_readable() {
    let disk = Disk::default();
    let store = EmbeddedStore::open_with_backend(disk.clone(), at_once()).unwrap();
    let kept = put(&store, "/once/a", "old").await;
    disk.fail(Fault::Writes(ErrorKind::StorageFull));
    try_put(&store, "/once/a", "lost").await.unwrap_err();
    disk.fail(None);
    let error = try_put(&store, "/once/a", "lost").await.unwrap_err();
    assert!(error.to_string().contains("restart"), "{error}");
    assert_eq!(store.get("/once/a").await.unwrap().0, Some(kept));
}

/// One operation fails, at each place in turn, and the disk is well again. Whatever became of the
/// failed commit, readers, watches and the file agree in the end, and nothing acknowledged is lost.
#[tokio::test]
async fn one_failure_at_every_operation_leaves_memory_and_disk_the_same() {
    let whole = Disk::default();
    let start = {
        drop(open(&whole));
        whole.operations()
    };
    let run = async |disk: &Disk| {
        let Ok(store) = EmbeddedStore::open_with_backends(disk.maker(), at_once()) else {
            return (Vec::new(), Vec::new(), None);
        };
        let mut watch = store.watch("", 1).await.unwrap();
        let mut acknowledged = Vec::new();
        for n in 0..12 {
            let key = format!("/once/{}", n % 3);
            if let Ok(current) = store
                .put(&key, Bytes::from(vec![n; 3000]), Expect::Any)
                .await
            {
                acknowledged.push(current);
            }
        }
        let revision = store.revision();
        let mut seen: Vec<Change> = Vec::new();
        if revision > 1 {
            while seen
                .last()
                .is_none_or(|change| change.revision() < revision)
            {
                seen.extend(replay_some(&mut watch).await);
            }
        }
        let shown = store.range("", None, 0, None).await.unwrap();
        drop(store);
        (acknowledged, seen, Some(shown))
    };
    run(&whole).await;
    let end = whole.operations();
    assert!(end > start + 20, "{start} to {end}");
    for at in start..end {
        let disk = Disk::default();
        drop(open(&disk));
        disk.fail(Fault::Once(at, ErrorKind::StorageFull));
        let Ok((acknowledged, seen, shown)) = tokio::time::timeout(HANG, run(&disk)).await else {
            panic!("failure at operation {at}: the watch hangs");
        };
        for current in acknowledged {
            assert!(
                seen.iter().any(
                    |change| matches!(change, Change::Put { current: c, .. } if *c == current)
                ),
                "failure at operation {at}: {current:?} was not seen"
            );
        }
        disk.fail(None);
        let store = open(&disk);
        let mut again = store.watch("", 1).await.unwrap();
        let (found, _) = replay(&mut again).await;
        // A failed sync leaves it open whether the last commit happened; else all must be equal.
        assert!(found.starts_with(&seen), "failure at operation {at}");
        if let Some(shown) = shown
            && found.len() == seen.len()
        {
            assert_eq!(
                store.range("", None, 0, None).await.unwrap(),
                shown,
                "operation {at}"
            );
        }
    }
}

/// Only to end a test that would hang for ever.
const HANG: Duration = Duration::from_secs(60);

async fn replay_some(watch: &mut store::WatchStream) -> Vec<Change> {
    match super::suite::next(watch).await {
        Some(Ok(store::WatchItem::Changes(changes))) => changes,
        Some(Ok(store::WatchItem::Progress(_))) => Vec::new(),
        other => panic!("the watch ended: {other:?}"),
    }
}
