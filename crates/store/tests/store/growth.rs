//! The file stays proportional to what it holds.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use store::embedded::{EmbeddedStore, Options};
use store::{Expect, Store};

const MIB: u64 = 1024 * 1024;
/// Generous: it only ends a test that would wait for ever.
const HANG: Duration = Duration::from_secs(60);

fn length(path: &Path) -> u64 {
    path.metadata().expect("the file").len()
}

async fn put_all(store: &Arc<EmbeddedStore>, keys: std::ops::Range<u64>, bytes: usize) {
    let keys: Vec<u64> = keys.collect();
    for some in keys.chunks(64) {
        let puts = some.iter().map(|n| {
            let value = Bytes::from(vec![*n as u8; bytes]);
            let store = store.clone();
            async move {
                store
                    .put(&format!("/growth/{n:06}"), value, Expect::Any)
                    .await
            }
        });
        for put in join_all(puts).await {
            put.expect("put");
        }
    }
}

async fn delete_all(store: &Arc<EmbeddedStore>, keys: std::ops::Range<u64>) {
    let deletes = keys.map(|n| {
        let store = store.clone();
        async move { store.delete(&format!("/growth/{n:06}"), Expect::Any).await }
    });
    for delete in join_all(deletes).await {
        delete.expect("delete");
    }
}

/// Many times the live size is written and deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_bounded_by_what_it_holds() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state.redb");
    let options = Options {
        history_changes_max: 500,
        history_bytes_max: 2 * MIB as usize,
        ..Options::default()
    };
    let store = Arc::new(EmbeddedStore::open(&path, options).expect("a store"));
    // 200 objects of 10 KB are alive at any time: 2 MB, and 2 MB of history.
    let mut longest = 0;
    for round in 0..50 {
        let first = round * 200;
        put_all(&store, first..first + 200, 10_000).await;
        if round > 0 {
            delete_all(&store, first - 200..first).await;
        }
        longest = longest.max(length(&path));
    }
    println!("100 MB written, 2 MB alive: at most {} KiB", longest / 1024);
    assert!(longest < 24 * MIB, "{longest} bytes");
}

/// What a peak needed is given back in the next pause, without a restart, and while reads go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peak_is_given_back_in_a_pause() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state.redb");
    let options = Options {
        history_changes_max: 100,
        ..Options::default()
    };
    let store = Arc::new(EmbeddedStore::open(&path, options.clone()).expect("a store"));
    put_all(&store, 0..8_000, 10_000).await;
    let peak = length(&path);
    assert!(peak > 80 * MIB, "{peak} bytes");
    // Every hundredth stays, so that what remains is spread over the file.
    for first in (0..8_000).step_by(100) {
        delete_all(&store, first + 1..first + 100).await;
    }
    let began = Instant::now();
    while length(&path) > 24 * MIB {
        assert!(
            began.elapsed() < HANG,
            "{} bytes after {HANG:?}",
            length(&path)
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!(
        "{} MiB became {} KiB, {:.1} s after the last deletion",
        peak / MIB,
        length(&path) / 1024,
        began.elapsed().as_secs_f64()
    );
    let before = store.range("/growth/", None, 0, None).await.expect("list");
    assert_eq!(before.items.len(), 80);
    put_all(&store, 9_000..9_001, 10).await;
    drop(store);
    let store = EmbeddedStore::open(&path, options).expect("opens again");
    let after = store.range("/growth/", None, 80, None).await.expect("list");
    assert_eq!(after.items, before.items);
}

/// Prints how long a start takes that finds as much as a busy machine has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_ten_thousand_objects_opens() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state.redb");
    let store = Arc::new(EmbeddedStore::open(&path, Options::default()).expect("a store"));
    put_all(&store, 0..10_000, 1_500).await;
    let revision = store.revision();
    drop(store);
    let began = Instant::now();
    let store = EmbeddedStore::open(&path, Options::default()).expect("opens");
    println!(
        "10 000 objects of 1.5 KB, {} MiB: opened in {} ms",
        length(&path) / MIB,
        began.elapsed().as_millis()
    );
    assert_eq!(store.revision(), revision);
    let page = store.range("/growth/", None, 0, None).await.expect("list");
    assert_eq!(page.items.len(), 10_000);
}
