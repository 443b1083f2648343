//! etcd goes, comes back, does not answer, is full, forgets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use store::{Change, Error, EtcdStore, Expect, Store, WatchItem};

use super::super::suite::{changes, next, put};
use super::gate::{Gate, Way};
use super::server::{Etcd, free_port};

/// etcd is killed again and again under writers: what was acknowledged is there, and a watch sees
/// every change once, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_while_etcd_is_killed() {
    const KILLS: usize = 4;
    const WRITERS: usize = 4;
    let mut etcd = Etcd::start();
    let store = Arc::new(etcd.store().await);
    let from = store.revision();
    let mut watch = store.watch("/w/", from).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, done, count) = (store.clone(), done.clone(), acknowledged.clone());
            tokio::spawn(async move {
                let key = format!("/w/{writer}");
                // What was told as written, and what may have been.
                let (mut sure, mut perhaps) = (Vec::new(), Vec::new());
                for n in 0_u64.. {
                    if done.load(Ordering::Acquire) {
                        break;
                    }
                    let value = Bytes::from(n.to_string());
                    match store.put(&key, value, Expect::Any).await {
                        Ok(kv) => {
                            sure.push((kv.mod_revision, n));
                            count.fetch_add(1, Ordering::AcqRel);
                        }
                        Err(Error::Undecided { .. }) => perhaps.push(n),
                        Err(Error::Unavailable { .. }) => {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                (key, sure, perhaps)
            })
        })
        .collect();
    for _ in 0..KILLS {
        let target = acknowledged.load(Ordering::Acquire) + 60;
        let deadline = Instant::now() + Duration::from_secs(60);
        while acknowledged.load(Ordering::Acquire) < target {
            assert!(Instant::now() < deadline, "writes do not go on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        etcd.kill();
        tokio::time::sleep(Duration::from_millis(150)).await;
        etcd.run();
    }
    let target = acknowledged.load(Ordering::Acquire) + 20;
    while acknowledged.load(Ordering::Acquire) < target {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    done.store(true, Ordering::Release);

    let mut told = BTreeMap::new();
    let mut possible = BTreeMap::new();
    for writer in writers {
        let (key, sure, perhaps) = writer.await.unwrap();
        told.insert(key.clone(), sure);
        possible.insert(key, perhaps);
    }
    let last = put(&*store, "/w/end", "").await.mod_revision;
    let mut seen: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    let mut previous = from;
    'read: loop {
        let WatchItem::Changes(changes) = next(&mut watch).await.unwrap().unwrap() else {
            continue;
        };
        for change in changes {
            assert!(change.revision() > previous, "repeated or out of order");
            previous = change.revision();
            if previous == last {
                break 'read;
            }
            let Change::Put { current, .. } = change else {
                panic!("nothing was deleted");
            };
            let n = std::str::from_utf8(&current.value)
                .unwrap()
                .parse()
                .unwrap();
            seen.entry(current.key)
                .or_default()
                .push((current.mod_revision, n));
        }
    }
    for (key, sure) in &told {
        for write in sure {
            assert!(
                seen[key].contains(write),
                "{key}: {write:?} was acknowledged and is lost"
            );
        }
        for write in &seen[key] {
            let explained = sure.contains(write) || possible[key].contains(&write.1);
            assert!(explained, "{key}: {write:?} was told as not done");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_etcd_requests_fail_and_say_so_and_then_all_goes_on() {
    let mut etcd = Etcd::start();
    let store = etcd.store().await;
    let written = put(&store, "/a", "1").await;
    let mut watch = store.watch("/", written.mod_revision).await.unwrap();
    etcd.kill();
    // The first request may have been on its way when the connection ended.
    let _ = store.put("/a", Bytes::from("x"), Expect::Revision(1)).await;
    let began = Instant::now();
    let error = store
        .put("/a", Bytes::from("2"), Expect::Any)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    let said = error.to_string();
    assert!(
        said.contains(&etcd.endpoint()) && said.contains("nothing was changed"),
        "{said}"
    );
    let error = store.delete("/a", Expect::Any).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    let error = store.get("/a").await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    // A list at a revision that memory shows needs nobody.
    let page = store
        .range("/", None, 0, Some(written.mod_revision))
        .await
        .unwrap();
    assert_eq!(page.items, [written]);

    etcd.run();
    let deadline = Instant::now() + Duration::from_secs(30);
    while store.get("/a").await.is_err() {
        assert!(Instant::now() < deadline, "it does not connect again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    put(&store, "/a", "3").await;
    assert_eq!(changes(&mut watch, 1).await, ["put /a=3"]);
}

/// The write reaches etcd and its answer does not come: nobody can say what became of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_is_lost_is_undecided_and_not_repeated() {
    let etcd = Etcd::start();
    let gate = Gate::start(etcd.endpoint()).await;
    let mut options = etcd.options();
    options.request_timeout = Duration::from_secs(1);
    options.endpoints = vec![gate.endpoint.clone(), gate.endpoint.clone()];
    let store = EtcdStore::open(options).await.unwrap();
    let before = put(&store, "/a", "1").await;
    let mut watch = store.watch("/", before.mod_revision).await.unwrap();
    gate.set(Way::Deaf);
    let value = Bytes::from("2");
    let error = store.put("/a", value, Expect::Any).await.unwrap_err();
    assert!(matches!(error, Error::Undecided { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("it is not known whether"), "{said}");
    gate.close().await;
    gate.set(Way::Open);
    let deadline = Instant::now() + Duration::from_secs(30);
    let found = loop {
        match store.get("/a").await {
            Ok((Some(kv), _)) => break kv,
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // Here it had happened, once.
    assert_eq!((&*found.value, found.version), (&b"2"[..], 2));
    assert_eq!(changes(&mut watch, 1).await, ["put /a=2"]);
}

/// What follows the last change that memory has is gone when the connection comes back: watches end
/// (410 for the API's clients), and what is read anew is right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_end_when_etcd_compacts_what_they_have_not_seen() {
    let mut etcd = Etcd::start();
    let gate = Gate::start(etcd.endpoint()).await;
    let mut options = etcd.options();
    options.endpoints = vec![gate.endpoint.clone()];
    let store = EtcdStore::open(options).await.unwrap();
    let from = put(&store, "/a", "1").await.mod_revision;
    let mut watch = store.watch("/", from).await.unwrap();
    assert_eq!(next(&mut watch).await, Some(Ok(WatchItem::Progress(from))));
    gate.close().await;
    for n in 2..9 {
        etcd.ctl(&["put", "/a", &n.to_string()]);
    }
    etcd.ctl(&["compact", &(from + 5).to_string()]);
    gate.set(Way::Open);
    assert_eq!(next(&mut watch).await, Some(Err(Error::Lagged)));
    assert_eq!(watch.next().await, None);
    let found = store.get("/a").await.unwrap().0.unwrap();
    assert_eq!(&*found.value, b"8");
    let error = super::refused(&store, "/", from).await;
    assert_eq!(error, Error::Compacted { oldest: from + 5 });
    let mut watch = store.watch("/", found.mod_revision).await.unwrap();
    put(&store, "/a", "9").await;
    assert_eq!(changes(&mut watch, 1).await, ["put /a=9"]);
    etcd.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_was_set_back_is_read_anew() {
    another_etcd_is_read_anew(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_etcd_is_read_anew_though_it_is_further() {
    another_etcd_is_read_anew(20).await;
}

/// As after a restore from a snapshot: the cluster is another one, with smaller or larger revisions.
async fn another_etcd_is_read_anew(writes: u64) {
    let mut old = Etcd::start();
    let gate = Gate::start(old.endpoint()).await;
    let mut options = old.options();
    options.endpoints = vec![gate.endpoint.clone()];
    let store = EtcdStore::open(options).await.unwrap();
    for n in 0..5 {
        put(&store, "/a", &n.to_string()).await;
    }
    let mut watch = store.watch("/", store.revision()).await.unwrap();
    assert!(matches!(
        next(&mut watch).await,
        Some(Ok(WatchItem::Progress(_)))
    ));
    let restored = Etcd::start();
    for _ in 0..writes {
        restored.ctl(&["put", "/a", "restored"]);
    }
    gate.close().await;
    gate.turn(restored.endpoint());
    old.kill();
    gate.set(Way::Open);
    assert_eq!(next(&mut watch).await, Some(Err(Error::Lagged)));
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match store.get("/a").await {
            Ok((Some(kv), at)) if &*kv.value == b"restored" && at == writes + 1 => break,
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.revision(), writes + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_member_is_asked_when_one_is_away() {
    let etcd = Etcd::start();
    let mut options = etcd.options();
    let nobody = format!("127.0.0.1:{}", free_port());
    options.endpoints = vec![nobody, etcd.endpoint()];
    let store = EtcdStore::open(options).await.unwrap();
    put(&store, "/a", "1").await;
    assert!(store.get("/a").await.unwrap().0.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_etcd_says_what_to_do_and_still_deletes() {
    // The smallest database has less than this; a few values fill it.
    let etcd = Etcd::with(&["--quota-backend-bytes=4194304"]);
    let store = etcd.store().await;
    let value = Bytes::from(vec![b'v'; 1_000_000]);
    let mut error = None;
    // It notices when it has committed, a tenth of a second later.
    for n in 0..100 {
        if let Err(why) = store
            .put(&format!("/full/{n}"), value.clone(), Expect::Any)
            .await
        {
            error = Some(why);
            break;
        }
    }
    let error = error.expect("it never becomes full");
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    assert!(
        error.to_string().contains("etcdctl alarm disarm"),
        "{error}"
    );
    assert!(store.get("/full/0").await.unwrap().0.is_some());
    store.delete("/full/0", Expect::Any).await.unwrap();
    assert!(store.get("/full/0").await.unwrap().0.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_tells_where_nobody_answers() {
    let endpoint = format!("127.0.0.1:{}", free_port());
    let mut options = store::etcd::Options::new(vec![endpoint.clone()]);
    options.open_timeout = Duration::from_millis(300);
    let error = EtcdStore::open(options).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    let said = error.to_string();
    assert!(
        said.contains(&endpoint) && said.contains("refused"),
        "{said}"
    );
    let none = EtcdStore::open(store::etcd::Options::new(Vec::new())).await;
    assert!(matches!(none, Err(Error::Refused { .. })));
}
