//! What the retained window answers and what it refuses, and that it outlives the process.

use futures::future::BoxFuture;
use store::{Error, Store};

use super::{changes, delete, pairs, put, refused};

/// Forgets the past of the whole store: not to be run beside other tests of the same store.
pub async fn compaction_forgets_the_past_only(store: &dyn Store) {
    let first = put(store, "/compact/a", "1").await.mod_revision;
    let second = put(store, "/compact/a", "2").await.mod_revision;
    let third = put(store, "/compact/a", "3").await.mod_revision;
    store.compact(second).await.unwrap();

    let error = store
        .range("/compact/", None, 0, Some(first))
        .await
        .unwrap_err();
    assert_eq!(error, Error::Compacted { oldest: second });
    assert_eq!(
        refused(store, "/compact/", first).await,
        Error::Compacted { oldest: second }
    );

    let page = store
        .range("/compact/", None, 0, Some(second))
        .await
        .unwrap();
    assert_eq!(pairs(&page.items), ["/compact/a=2"]);
    let mut watch = store.watch("/compact/", second).await.unwrap();
    assert_eq!(changes(&mut watch, 1).await, ["put /compact/a=3"]);

    store.compact(first).await.unwrap();
    store.compact(third).await.unwrap();
    assert_eq!(store.revision(), third);
    let page = store.range("/compact/", None, 0, None).await.unwrap();
    assert_eq!(pairs(&page.items), ["/compact/a=3"]);
    let mut watch = store.watch("/compact/", third).await.unwrap();
    put(store, "/compact/a", "4").await;
    assert_eq!(changes(&mut watch, 1).await, ["put /compact/a=4"]);
    let error = store.compact(third + 1000).await.unwrap_err();
    assert!(matches!(error, Error::Future { .. }), "{error}");
}

/// `open` opens the same store each time; the one before has been dropped.
pub async fn everything_outlives_a_restart(open: &dyn Fn() -> BoxFuture<'static, Box<dyn Store>>) {
    let store = open().await;
    let from = put(&*store, "/restart/a", "1").await.mod_revision;
    put(&*store, "/restart/b", "1").await;
    put(&*store, "/restart/a", "2").await;
    delete(&*store, "/restart/b").await;
    let then = store.range("/restart/", None, 0, None).await.unwrap();
    let kept = store.get("/restart/a").await.unwrap();
    drop(store);

    let store = open().await;
    assert_eq!(store.get("/restart/a").await.unwrap(), kept);
    assert_eq!(store.range("/restart/", None, 0, None).await.unwrap(), then);
    let old = store
        .range("/restart/", None, 0, Some(from + 1))
        .await
        .unwrap();
    assert_eq!(pairs(&old.items), ["/restart/a=1", "/restart/b=1"]);
    let next = put(&*store, "/restart/b", "3").await;
    assert_eq!((next.mod_revision, next.version), (kept.1 + 1, 1));
    let mut watch = store.watch("/restart/", from).await.unwrap();
    assert_eq!(
        changes(&mut watch, 4).await,
        [
            "put /restart/b=1",
            "put /restart/a=2",
            "delete /restart/b",
            "put /restart/b=3"
        ]
    );
}
