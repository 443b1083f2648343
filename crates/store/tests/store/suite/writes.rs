//! Puts, deletes, compare-and-swap and limits.

use bytes::Bytes;
use futures::future::join_all;
use store::{Error, Expect, KEY_BYTES_MAX, Store, VALUE_BYTES_MAX};

use super::{delete, put};

pub async fn revisions_and_versions_count_up(store: &dyn Store) {
    let key = "/counting/a";
    assert_eq!(store.get(key).await.unwrap().0, None);

    let first = put(store, key, "1").await;
    assert_eq!(
        (first.create_revision, first.version),
        (first.mod_revision, 1)
    );
    let second = put(store, key, "2").await;
    assert!(second.mod_revision > first.mod_revision);
    assert_eq!(
        (second.create_revision, second.version),
        (first.create_revision, 2)
    );

    let (found, at) = store.get(key).await.unwrap();
    assert_eq!(found, Some(second.clone()));
    assert!(at >= second.mod_revision);

    let (last, deleted_at) = store.delete(key, Expect::Any).await.unwrap();
    assert_eq!(last, second);
    assert!(deleted_at > second.mod_revision);
    assert_eq!(store.get(key).await.unwrap().0, None);

    let reborn = put(store, key, "3").await;
    assert!(reborn.mod_revision > deleted_at);
    assert_eq!(
        (reborn.create_revision, reborn.version),
        (reborn.mod_revision, 1)
    );
    assert!(store.revision() >= reborn.mod_revision);
}

pub async fn a_write_happens_only_as_expected(store: &dyn Store) {
    let there = put(store, "/cas/there", "old").await;
    let right = Expect::Revision(there.mod_revision);
    let wrong = Expect::Revision(there.mod_revision - 1);
    let conflict = Err(Error::Conflict {
        current: Some(there.clone()),
    });
    let nothing = Err(Error::Conflict { current: None });
    let value = || Bytes::from_static(b"new");

    assert_eq!(
        store.put("/cas/there", value(), Expect::Absent).await,
        conflict
    );
    assert_eq!(store.put("/cas/there", value(), wrong).await, conflict);
    assert_eq!(store.put("/cas/missing", value(), right).await, nothing);
    let deletion = store.delete("/cas/there", wrong).await;
    assert_eq!(
        deletion,
        Err(Error::Conflict {
            current: Some(there.clone())
        })
    );
    for expect in [Expect::Any, Expect::Absent, right] {
        assert_eq!(
            store.delete("/cas/missing", expect).await,
            Err(Error::NotFound)
        );
    }
    assert_eq!(
        store.get("/cas/there").await.unwrap().0,
        Some(there.clone())
    );
    assert_eq!(store.get("/cas/missing").await.unwrap().0, None);

    let changed = store.put("/cas/there", value(), right).await.unwrap();
    assert_eq!(changed.version, 2);
    let (gone, _) = store
        .delete("/cas/there", Expect::Revision(changed.mod_revision))
        .await
        .unwrap();
    assert_eq!(gone, changed);
    store
        .put("/cas/there", value(), Expect::Absent)
        .await
        .unwrap();
}

pub async fn one_of_many_creators_wins(store: &dyn Store) {
    let attempts = (0..16).map(|n| {
        let value = Bytes::from(format!("creator {n}"));
        store.put("/race/leader", value, Expect::Absent)
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(attempts)
        .await
        .into_iter()
        .partition(Result::is_ok);
    let winner = won.into_iter().next().expect("nobody won").unwrap();
    assert_eq!(lost.len(), 15);
    for result in lost {
        assert_eq!(
            result,
            Err(Error::Conflict {
                current: Some(winner.clone())
            })
        );
    }
}

pub async fn concurrent_increments_add_up(store: &dyn Store) {
    put(store, "/sum/n", "0").await;
    let increments = (0..8).map(|_| async {
        for _ in 0..5 {
            loop {
                let current = store.get("/sum/n").await.unwrap().0.unwrap();
                let number: u64 = std::str::from_utf8(&current.value)
                    .unwrap()
                    .parse()
                    .unwrap();
                let value = Bytes::from((number + 1).to_string());
                let expect = Expect::Revision(current.mod_revision);
                match store.put("/sum/n", value, expect).await {
                    Ok(_) => break,
                    Err(Error::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    });
    join_all(increments).await;
    let sum = store.get("/sum/n").await.unwrap().0.unwrap();
    assert_eq!((&*sum.value, sum.version), (&b"40"[..], 41));
}

pub async fn keys_and_values_have_limits(store: &dyn Store) {
    let empty = Bytes::new;
    let long = format!("/limits/{}", "k".repeat(KEY_BYTES_MAX - 8));
    let too_long = format!("{long}k");
    let big = Bytes::from(vec![b'v'; VALUE_BYTES_MAX]);
    let too_big = Bytes::from(vec![b'v'; VALUE_BYTES_MAX + 1]);

    store.put(&long, empty(), Expect::Any).await.unwrap();
    let kept = store
        .put("/limits/big", big.clone(), Expect::Any)
        .await
        .unwrap();
    assert_eq!(kept.value, big);
    let before = store.revision();
    assert_eq!(
        store.put(&too_long, empty(), Expect::Any).await,
        Err(Error::TooLarge {
            what: "key",
            size_bytes: KEY_BYTES_MAX + 1,
            limit_bytes: KEY_BYTES_MAX
        })
    );
    assert_eq!(
        store.put("/limits/big", too_big, Expect::Any).await,
        Err(Error::TooLarge {
            what: "value",
            size_bytes: VALUE_BYTES_MAX + 1,
            limit_bytes: VALUE_BYTES_MAX
        })
    );
    assert_eq!(
        store.put("", empty(), Expect::Any).await,
        Err(Error::EmptyKey)
    );
    assert_eq!(store.delete("", Expect::Any).await, Err(Error::EmptyKey));
    assert_eq!(store.revision(), before);
    assert_eq!(store.get("/limits/big").await.unwrap().0, Some(kept));
    delete(store, "/limits/big").await;
    delete(store, &long).await;
}
