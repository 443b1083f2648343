//! Lists: prefixes, pages, and pages at the revision of the first one.

use store::{Error, KeyValue, Store};

use super::{delete, pairs, put};

pub async fn a_prefix_is_a_prefix_of_bytes(store: &dyn Store) {
    let root = "/prefix";
    for key in ["a", "a/", "a/b", "a/b/c", "a0", "b", "a/\u{10ffff}", "é"] {
        put(store, &format!("{root}/{key}"), "").await;
    }
    let cases: [(&str, Option<&str>, &[&str]); 8] = [
        (
            "",
            None,
            &["a", "a/", "a/b", "a/b/c", "a/\u{10ffff}", "a0", "b", "é"],
        ),
        ("a/", None, &["a/", "a/b", "a/b/c", "a/\u{10ffff}"]),
        ("a/b", None, &["a/b", "a/b/c"]),
        ("a/b/c/d", None, &[]),
        ("a/", Some("a/b"), &["a/b/c", "a/\u{10ffff}"]),
        ("a/", Some("a/aa"), &["a/b", "a/b/c", "a/\u{10ffff}"]),
        ("a/", Some("a"), &["a/", "a/b", "a/b/c", "a/\u{10ffff}"]),
        ("a/", Some("b"), &[]),
    ];
    for (prefix, after, expected) in cases {
        let after = after.map(|after| format!("{root}/{after}"));
        let prefix = format!("{root}/{prefix}");
        let page = store
            .range(&prefix, after.as_deref(), 0, None)
            .await
            .unwrap();
        let keys: Vec<_> = page
            .items
            .iter()
            .map(|item| &item.key[root.len() + 1..])
            .collect();
        assert_eq!(keys, expected, "{prefix} after {after:?}");
        assert_eq!((page.more, page.remaining), (false, Some(0)));
    }
}

pub async fn a_limit_says_what_remains(store: &dyn Store) {
    for n in 0..5 {
        put(store, &format!("/limit/{n}"), "").await;
    }
    // limit → items, remaining
    for (limit, items, remaining) in [(0, 5, 0), (1, 1, 4), (4, 4, 1), (5, 5, 0), (6, 5, 0)] {
        let page = store.range("/limit/", None, limit, None).await.unwrap();
        assert_eq!(
            (page.items.len(), page.remaining),
            (items, Some(remaining)),
            "limit {limit}"
        );
        assert_eq!(page.more, remaining > 0, "limit {limit}");
    }
}

pub async fn pages_show_one_revision(store: &dyn Store) {
    for n in 1..8 {
        put(store, &format!("/pages/{n}"), "old").await;
    }
    delete(store, "/pages/4").await;
    let whole = store.range("/pages/", None, 0, None).await.unwrap();
    let first = store.range("/pages/", None, 2, None).await.unwrap();
    assert_eq!((first.revision, first.remaining), (whole.revision, Some(4)));

    put(store, "/pages/1", "new").await;
    put(store, "/pages/3", "new").await;
    put(store, "/pages/3", "newer").await;
    put(store, "/pages/4", "reborn").await;
    delete(store, "/pages/6").await;
    put(store, "/pages/55", "inserted").await;
    delete(store, "/pages/55").await;
    put(store, "/pages/8", "appended").await;
    put(store, "/pages-not/5", "elsewhere").await;

    let mut items: Vec<KeyValue> = first.items;
    let mut more = first.more;
    while more {
        let after = items.last().unwrap().key.clone();
        let page = store
            .range("/pages/", Some(&after), 2, Some(whole.revision))
            .await
            .unwrap();
        assert_eq!(page.revision, whole.revision);
        // counted by the first page
        assert_eq!(page.remaining, (!page.more).then_some(0));
        items.extend(page.items);
        more = page.more;
    }
    assert_eq!(items, whole.items);

    let now = store.range("/pages/", None, 0, None).await.unwrap();
    assert_eq!(
        pairs(&now.items),
        [
            "/pages/1=new",
            "/pages/2=old",
            "/pages/3=newer",
            "/pages/4=reborn",
            "/pages/5=old",
            "/pages/7=old",
            "/pages/8=appended"
        ]
    );
}

pub async fn a_future_revision_is_refused(store: &dyn Store) {
    put(store, "/future/a", "").await;
    let requested = store.revision() + 1000;
    let error = store
        .range("/future/", None, 0, Some(requested))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Future { requested: r, .. } if r == requested),
        "{error}"
    );
    let error = super::refused(store, "/future/", requested).await;
    assert!(
        matches!(error, Error::Future { requested: r, .. } if r == requested),
        "{error}"
    );
}
