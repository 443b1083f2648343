//! Snapshots of a store that is written to, and stores made from them.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use store::embedded::{self, EmbeddedStore, Options};
use store::{Error, Expect, Store};
use tempfile::TempDir;

use super::faults::Random;
use super::suite::{changes, delete, put, refused};

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("restored/state.redb");
    fs::create_dir(directory.path().join("restored")).expect("a directory");
    (directory, path)
}

async fn snapshot() -> (EmbeddedStore, Vec<u8>) {
    let store = EmbeddedStore::in_memory().expect("a store");
    for n in 0..40 {
        put(&store, &format!("/snapshot/{n}"), &"v".repeat(n * 50)).await;
    }
    put(&store, "/snapshot/3", "again").await;
    delete(&store, "/snapshot/4").await;
    let mut bytes = Vec::new();
    store.snapshot().write_to(&mut bytes).expect("written");
    (store, bytes)
}

#[tokio::test]
async fn a_restored_store_holds_the_same_and_goes_on_at_later_revisions() {
    let (store, bytes) = snapshot().await;
    let (_directory, path) = directory();
    let taken = store.revision();
    let revision = embedded::restore(&path, &*bytes).expect("restored");
    assert_eq!(revision, taken + 1_000_000);
    let expected = store.range("", None, 0, None).await.expect("list");
    for _ in 0..2 {
        let restored = EmbeddedStore::open(&path, Options::default()).expect("opens");
        assert!(restored.revision() >= revision);
        let found = restored
            .range("/snapshot/", None, 0, None)
            .await
            .expect("list");
        assert_eq!(found.items, expected.items, "with revisions and versions");
        // What a client knew before is over; it lists again.
        assert_eq!(
            refused(&restored, "", taken).await,
            Error::Compacted { oldest: revision }
        );
        let mut watch = restored
            .watch("/new/", restored.revision())
            .await
            .expect("a watch");
        let next = put(&restored, "/new/a", "1").await;
        assert!(next.mod_revision > revision);
        assert_eq!(changes(&mut watch, 1).await, ["put /new/a=1"]);
    }
    let names: Vec<_> = fs::read_dir(path.parent().expect("a parent"))
        .expect("read")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(names, ["state.redb"]);
}

/// Two keys that are always written one after the other differ by one at most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_of_one_revision_while_writes_go_on() {
    let store = Arc::new(EmbeddedStore::in_memory().expect("a store"));
    put(&*store, "/pair/a", "0").await;
    put(&*store, "/pair/b", "0").await;
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 1..400 {
                let value = || Bytes::from(n.to_string());
                store
                    .put("/pair/a", value(), Expect::Any)
                    .await
                    .expect("put");
                store
                    .put("/pair/b", value(), Expect::Any)
                    .await
                    .expect("put");
            }
        })
    };
    let mut seen = 0;
    while !writer.is_finished() {
        let (_directory, path) = directory();
        let mut bytes = Vec::new();
        let taken = store.snapshot();
        taken.write_to(&mut bytes).expect("written");
        let revision = embedded::restore(&path, &*bytes).expect("restored");
        assert_eq!(revision, taken.revision() + 1_000_000);
        let restored = EmbeddedStore::open(&path, Options::default()).expect("opens");
        let value = async |key: &str| -> u64 {
            let found = restored.get(key).await.expect("get").0.expect("there");
            String::from_utf8_lossy(&found.value)
                .parse()
                .expect("a number")
        };
        let (a, b) = (value("/pair/a").await, value("/pair/b").await);
        assert!(a == b || a == b + 1, "{a} {b}");
        assert_eq!(
            taken.revision(),
            3 + a + b,
            "all up to the revision, and no more"
        );
        seen += 1;
    }
    writer.await.expect("the writer");
    assert!(seen > 0);
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused_and_leaves_nothing() {
    let (_store, whole) = snapshot().await;
    let (_directory, path) = directory();
    let mut random = Random(11);
    let mut lengths: Vec<usize> = (0..60)
        .map(|_| random.below(whole.len() as u64) as usize)
        .collect();
    lengths.extend([0, 1, 23, whole.len() - 1]);
    for length in lengths {
        let error = embedded::restore(&path, &whole[..length]).expect_err("cut off");
        assert!(
            matches!(error, Error::Corrupt { .. }),
            "{length}: {error:?}"
        );
    }
    let text = |whole: &[u8], from: &str, to: &str| {
        let at = whole
            .windows(from.len())
            .position(|part| part == from.as_bytes())
            .expect("there");
        [&whole[..at], to.as_bytes(), &whole[at + from.len()..]].concat()
    };
    for (from, to) in [
        ("plimsoll-store-snapshot", "plimsoll-etcd-snapshot!"),
        ("snapshot 1 ", "snapshot 0 "),
        ("/snapshot/5", "/snapshot/6"),
        ("/snapshot/5", "/snapshot/\u{1}"),
        ("end\n", "and\n"),
    ] {
        let error = embedded::restore(&path, &*text(&whole, from, to));
        // A changed key cannot be told from another store's: only its container's checksum can.
        if to != "/snapshot/\u{1}" {
            let error = error.expect_err(to);
            assert!(matches!(error, Error::Corrupt { .. }), "{to:?}: {error:?}");
        } else {
            error.expect("a key like any other");
            fs::remove_file(&path).expect("removed");
        }
    }
    let newer = text(&whole, "snapshot 1 ", "snapshot 2 ");
    let error = embedded::restore(&path, &*newer).expect_err("newer");
    assert!(
        matches!(
            error,
            Error::NewerFormat {
                found: 2,
                supported: 1,
                ..
            }
        ),
        "{error:?}"
    );
    let left = fs::read_dir(path.parent().expect("a parent"))
        .expect("read")
        .count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_store_that_is_there_is_not_overwritten() {
    let (_store, bytes) = snapshot().await;
    let (_directory, path) = directory();
    drop(EmbeddedStore::open(&path, Options::default()).expect("a store"));
    let before = fs::read(&path).expect("read");
    let error = embedded::restore(&path, &*bytes).expect_err("refused");
    assert!(error.to_string().contains("exists already"), "{error}");
    assert_eq!(fs::read(&path).expect("read"), before);
}
