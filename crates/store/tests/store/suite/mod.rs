//! What every `Store` must do, as functions over `&dyn Store`: each backend runs them all.
//!
//! The functions use keys under a directory of their own and revisions relative to what they find,
//! so they can share one store with each other and with strangers.

pub mod compaction;
pub mod lists;
pub mod watches;
pub mod writes;

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use store::{Change, Error, Expect, KeyValue, Store, WatchItem, WatchStream};

/// Only to end a test that would hang for ever; nothing is measured with it.
const HANG: Duration = Duration::from_secs(60);

pub async fn put(store: &dyn Store, key: &str, value: &str) -> KeyValue {
    let value = Bytes::copy_from_slice(value.as_bytes());
    store.put(key, value, Expect::Any).await.expect("put")
}

pub async fn delete(store: &dyn Store, key: &str) -> u64 {
    store.delete(key, Expect::Any).await.expect("delete").1
}

pub async fn next(stream: &mut WatchStream) -> Option<Result<WatchItem, Error>> {
    tokio::time::timeout(HANG, stream.next())
        .await
        .expect("the watch delivers nothing")
}

/// The next `count` changes, as `put KEY=VALUE` and `delete KEY`.
pub async fn changes(stream: &mut WatchStream, count: usize) -> Vec<String> {
    raw_changes(stream, count).await.iter().map(text).collect()
}

pub async fn raw_changes(stream: &mut WatchStream, count: usize) -> Vec<Change> {
    let mut all = Vec::new();
    while all.len() < count {
        match next(stream)
            .await
            .expect("the watch ended")
            .expect("the watch failed")
        {
            WatchItem::Changes(changes) => {
                assert!(!changes.is_empty(), "an empty batch");
                all.extend(changes);
            }
            WatchItem::Progress(_) => {}
        }
    }
    assert_eq!(all.len(), count, "more changes than were made: {all:?}");
    all
}

/// Everything up to the first progress, which a watch reports when it has replayed the past.
pub async fn replay(stream: &mut WatchStream) -> (Vec<Change>, u64) {
    let mut all = Vec::new();
    loop {
        match next(stream)
            .await
            .expect("the watch ended")
            .expect("the watch failed")
        {
            WatchItem::Changes(changes) => all.extend(changes),
            WatchItem::Progress(revision) => return (all, revision),
        }
    }
}

pub fn text(change: &Change) -> String {
    match change {
        Change::Put { current, .. } => {
            format!(
                "put {}={}",
                current.key,
                String::from_utf8_lossy(&current.value)
            )
        }
        Change::Delete { previous, .. } => format!("delete {}", previous.key),
    }
}

pub fn pairs(items: &[KeyValue]) -> Vec<String> {
    items
        .iter()
        .map(|item| format!("{}={}", item.key, String::from_utf8_lossy(&item.value)))
        .collect()
}

/// A watch that must not start; streams have no `Debug`.
pub async fn refused(store: &dyn Store, prefix: &str, from: u64) -> Error {
    match store.watch(prefix, from).await {
        Ok(_) => panic!("a watch of {prefix} from {from} started"),
        Err(error) => error,
    }
}
