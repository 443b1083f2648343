//! Watches: past and future, prefixes, progress, and many writers at once.

use futures::future::join_all;
use store::{Change, Store};

use super::{changes, delete, put, raw_changes, replay};

pub async fn a_watch_shows_past_and_future(store: &dyn Store) {
    put(store, "/watch/before", "0").await;
    let from = put(store, "/watch/start", "0").await.mod_revision;
    put(store, "/watch/a", "1").await;
    put(store, "/elsewhere/a", "1").await;
    put(store, "/watch/a", "2").await;
    let mut watch = store.watch("/watch/", from).await.unwrap();
    delete(store, "/watch/a").await;
    put(store, "/watch", "not under the prefix").await;
    put(store, "/watch/b", "3").await;
    assert_eq!(
        changes(&mut watch, 4).await,
        [
            "put /watch/a=1",
            "put /watch/a=2",
            "delete /watch/a",
            "put /watch/b=3"
        ]
    );
    put(store, "/watch/c", "4").await;
    assert_eq!(changes(&mut watch, 1).await, ["put /watch/c=4"]);
}

pub async fn a_change_shows_before_and_after(store: &dyn Store) {
    let from = store.revision();
    let mut watch = store.watch("/change/", from).await.unwrap();
    let created = put(store, "/change/a", "1").await;
    let changed = put(store, "/change/a", "2").await;
    let revision = delete(store, "/change/a").await;
    let reborn = put(store, "/change/a", "3").await;
    let expected = [
        Change::Put {
            current: created.clone(),
            previous: None,
        },
        Change::Put {
            current: changed.clone(),
            previous: Some(created),
        },
        Change::Delete {
            previous: changed,
            revision,
        },
        Change::Put {
            current: reborn,
            previous: None,
        },
    ];
    assert_eq!(raw_changes(&mut watch, 4).await, expected);
    let mut again = store.watch("/change/", from).await.unwrap();
    assert_eq!(raw_changes(&mut again, 4).await, expected);
}

pub async fn progress_ends_the_replay(store: &dyn Store) {
    let from = store.revision();
    put(store, "/progress/a", "1").await;
    let last = put(store, "/progress/a", "2").await.mod_revision;
    let mut watch = store.watch("/progress/", from).await.unwrap();
    let (seen, revision) = replay(&mut watch).await;
    assert_eq!(seen.len(), 2);
    assert!(revision >= last, "{revision} is before {last}");
    let mut idle = store.watch("/progress/nothing/", from).await.unwrap();
    let (seen, revision) = replay(&mut idle).await;
    assert_eq!(seen, []);
    assert!(revision >= last, "{revision} is before {last}");
}

pub async fn watches_are_independent(store: &dyn Store) {
    let from = store.revision();
    let mut all = store.watch("/many/", from).await.unwrap();
    let mut one = store.watch("/many/1/", from).await.unwrap();
    let dropped = store.watch("/many/", from).await.unwrap();
    put(store, "/many/1/a", "x").await;
    drop(dropped);
    put(store, "/many/2/a", "y").await;
    put(store, "/many/1/b", "z").await;
    assert_eq!(
        changes(&mut one, 2).await,
        ["put /many/1/a=x", "put /many/1/b=z"]
    );
    assert_eq!(
        changes(&mut all, 3).await,
        ["put /many/1/a=x", "put /many/2/a=y", "put /many/1/b=z"]
    );
}

/// Watches that start at any moment of a busy store see each change exactly once.
pub async fn nothing_is_lost_or_repeated_at_the_start(store: &dyn Store) {
    const WRITERS: usize = 6;
    const WRITES: usize = 40;
    let from = store.revision();
    let writers = join_all((0..WRITERS).map(|writer| async move {
        for n in 0..WRITES {
            put(store, &format!("/busy/{writer}"), &n.to_string()).await;
        }
    }));
    let watchers = join_all((0..10).map(|n: usize| async move {
        // Starts after some writes of its own, so at different moments of the writers' work.
        for _ in 0..n * 3 {
            put(store, "/busy-not", "").await;
        }
        let mut watch = store.watch("/busy/", from).await.unwrap();
        raw_changes(&mut watch, WRITERS * WRITES).await
    }));
    let (_, seen) = futures::join!(writers, watchers);
    for changes in seen {
        assert!(changes.is_sorted_by(|a, b| a.revision() < b.revision()));
        for writer in 0..WRITERS {
            let key = format!("/busy/{writer}");
            let values: Vec<String> = changes
                .iter()
                .filter(|change| change.key() == key)
                .map(|change| super::text(change).rsplit('=').next().unwrap().to_string())
                .collect();
            let expected: Vec<String> = (0..WRITES).map(|n| n.to_string()).collect();
            assert_eq!(values, expected);
        }
    }
}
