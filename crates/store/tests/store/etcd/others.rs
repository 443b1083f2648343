//! Several stores on one etcd, and stock clients beside them.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use store::{Change, Error, EtcdStore, Expect, Store, WatchItem};

use super::super::suite::{changes, next, pairs, put, raw_changes, refused};
use super::server::Etcd;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stock_client_writes_is_seen_and_the_other_way_round() {
    let etcd = Etcd::start();
    let store = etcd.store().await;
    let mut watch = store.watch("/registry/", store.revision()).await.unwrap();
    etcd.ctl(&["put", "/registry/a", "by etcdctl"]);
    etcd.ctl(&["put", "/registry/a", "again"]);
    etcd.ctl(&["del", "/registry/a"]);
    assert_eq!(
        changes(&mut watch, 3).await,
        [
            "put /registry/a=by etcdctl",
            "put /registry/a=again",
            "delete /registry/a"
        ]
    );
    // Without a watch in between, a read sees it at once.
    etcd.ctl(&["put", "/registry/b", "1"]);
    let found = store.get("/registry/b").await.unwrap().0.unwrap();
    assert_eq!(&*found.value, b"1");
    let written = store
        .put(
            "/registry/b",
            Bytes::from("2"),
            Expect::Revision(found.mod_revision),
        )
        .await
        .unwrap();
    assert_eq!(written.version, 2);
    assert_eq!(
        etcd.ctl(&["get", "/registry/b", "--print-value-only"]),
        "2\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_of_several_keys_comes_whole() {
    let etcd = Etcd::start();
    let mut options = etcd.options();
    options.watch_batch_changes_max = 1;
    let store = EtcdStore::open(options).await.unwrap();
    let from = put(&store, "/t/0", "").await.mod_revision;
    etcd.ctl(&["put", "/t/a", "1"]);
    etcd.ctl(&["put", "/t/b", "1"]);
    // One revision.
    etcd.ctl(&["del", "/t/", "--prefix"]);
    put(&store, "/t/c", "1").await;
    let mut watch = store.watch("/t/", from).await.unwrap();
    let mut batches = Vec::new();
    while batches.len() < 4 {
        if let WatchItem::Changes(changes) = next(&mut watch).await.unwrap().unwrap() {
            batches.push(changes.iter().map(Change::revision).collect::<Vec<_>>());
        }
    }
    let third = from + 3;
    assert_eq!(
        batches,
        [
            vec![from + 1],
            vec![from + 2],
            vec![third; 3],
            vec![from + 4]
        ]
    );
    let before = store.range("/t/", None, 0, Some(third - 1)).await.unwrap();
    assert_eq!(pairs(&before.items), ["/t/0=", "/t/a=1", "/t/b=1"]);
    let after = store.range("/t/", None, 0, Some(third)).await.unwrap();
    assert_eq!(after.items, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_see_each_others_writes_at_once() {
    let etcd = Etcd::start();
    let (one, two) = (etcd.store().await, etcd.store().await);
    for n in 0..50 {
        let (writer, reader) = if n % 2 == 0 {
            (&one, &two)
        } else {
            (&two, &one)
        };
        let written = put(writer, "/shared/n", &n.to_string()).await;
        let (found, at) = reader.get("/shared/n").await.unwrap();
        assert_eq!(found, Some(written.clone()));
        assert!(at >= written.mod_revision);
        let page = reader.range("/shared/", None, 0, None).await.unwrap();
        assert_eq!(page.items, [written]);
    }
    // A revision that the other store was given is waited for, and not from the future.
    let written = put(&one, "/shared/n", "last").await;
    let page = two
        .range("/shared/", None, 0, Some(written.mod_revision))
        .await
        .unwrap();
    assert_eq!(pairs(&page.items), ["/shared/n=last"]);
    assert!(two.latest_revision().await.unwrap() >= written.mod_revision);
    let sums = join_all([&one, &two].map(|store| async move {
        for _ in 0..20 {
            loop {
                let current = store.get("/sum").await.unwrap().0;
                let (sum, expect) = current.map_or((0, Expect::Absent), |kv| {
                    let sum: u64 = std::str::from_utf8(&kv.value).unwrap().parse().unwrap();
                    (sum, Expect::Revision(kv.mod_revision))
                });
                match store
                    .put("/sum", Bytes::from((sum + 1).to_string()), expect)
                    .await
                {
                    Ok(_) => break,
                    Err(Error::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }));
    sums.await;
    assert_eq!(&*one.get("/sum").await.unwrap().0.unwrap().value, b"40");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_beneath_the_prefix_only_counts() {
    let etcd = Etcd::start();
    let mut options = etcd.options();
    options.prefix = "/registry/".into();
    etcd.ctl(&["put", "/other/app", "1"]);
    let store = EtcdStore::open(options).await.unwrap();
    let mut watch = store.watch("", store.revision()).await.unwrap();
    etcd.ctl(&["put", "/other/app", "2"]);
    etcd.ctl(&["put", "/registry/a", "1"]);
    etcd.ctl(&["put", "/other/app", "3"]);
    assert_eq!(changes(&mut watch, 1).await, ["put /registry/a=1"]);
    let page = store.range("", None, 0, None).await.unwrap();
    assert_eq!(
        (pairs(&page.items), page.revision),
        (vec!["/registry/a=1".into()], 5)
    );
}

/// More than one page, and more bytes than one message may have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_is_read_in_pages_of_bounded_size() {
    let etcd = Etcd::start();
    let store = etcd.store().await;
    let value = Bytes::from(vec![b'v'; 100_000]);
    for n in 0..40 {
        store
            .put(&format!("/large/{n:03}"), value.clone(), Expect::Any)
            .await
            .unwrap();
    }
    join_all((0..700).map(|n| put_small(&store, n))).await;
    drop(store);
    let mut options = etcd.options();
    options.message_bytes_max = 1_000_000;
    // So that everything is read, and nothing comes by the watch.
    options.history_changes_max = 1;
    let store = EtcdStore::open(options).await.unwrap();
    assert_eq!(
        store
            .range("/large/", None, 0, None)
            .await
            .unwrap()
            .items
            .len(),
        40
    );
    assert_eq!(
        store
            .range("/small/", None, 0, None)
            .await
            .unwrap()
            .items
            .len(),
        700
    );
}

async fn put_small(store: &EtcdStore, n: usize) {
    put(store, &format!("/small/{n:03}"), "x").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_opens_where_others_have_compacted() {
    let etcd = Etcd::start();
    let first = etcd.store().await;
    for n in 0..10 {
        put(&first, "/c/a", &n.to_string()).await;
    }
    etcd.ctl(&["compact", "8"]);
    let second = etcd.store().await;
    assert_eq!(
        refused(&second, "/c/", 7).await,
        Error::Compacted { oldest: 8 }
    );
    let mut watch = second.watch("/c/", 8).await.unwrap();
    let seen: Vec<_> = raw_changes(&mut watch, 3)
        .await
        .iter()
        .map(Change::revision)
        .collect();
    assert_eq!(seen, [9, 10, 11]);
    // What the first one has seen it still has.
    let mut watch = first.watch("/c/", 7).await.unwrap();
    assert_eq!(raw_changes(&mut watch, 4).await.len(), 4);
}

/// Two stores compact as one: what is older than an interval goes, and it goes once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_is_compacted_by_one_of_several() {
    let etcd = Etcd::start();
    let mut options = etcd.options();
    options.compaction_interval = Some(Duration::from_millis(300));
    let (one, _two) = (
        EtcdStore::open(options.clone()).await.unwrap(),
        EtcdStore::open(options).await.unwrap(),
    );
    let old = put(&one, "/k", "1").await.mod_revision;
    put(&one, "/k", "2").await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while etcd
        .try_ctl(&["get", "/k", &format!("--rev={old}")])
        .status
        .success()
    {
        assert!(
            tokio::time::Instant::now() < deadline,
            "nothing was compacted"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let rounds = one.get("compact_rev_key").await.unwrap().0.unwrap();
    assert!(rounds.version >= 2, "{rounds:?}");
    assert_eq!(&*one.get("/k").await.unwrap().0.unwrap().value, b"2");
}
