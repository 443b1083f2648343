//! Events as changes.

use super::*;

fn kv(key: &str, create: i64, revision: i64, value: &str) -> proto::KeyValue {
    proto::KeyValue {
        key: key.into(),
        create_revision: create,
        mod_revision: revision,
        version: 1,
        value: value.into(),
    }
}

fn event(kind: i32, kv: proto::KeyValue) -> Event {
    Event { kind, kv: Some(kv) }
}

#[test]
fn events_become_changes_with_what_was_before() {
    let there = entry(kv("/a/there", 2, 5, "old"));
    let items = BTreeMap::from([("/a/there".into(), there.clone())]);
    let state = State::new(items, VecDeque::new(), 5);
    let made = records(
        &state,
        "/a/",
        vec![
            event(0, kv("/a/there", 2, 5, "repeated")),
            event(0, kv("/a/there", 2, 6, "new")),
            event(0, kv("/b/elsewhere", 7, 7, "x")),
            event(DELETED, kv("/a/there", 0, 8, "")),
            event(DELETED, kv("/a/never", 0, 8, "")),
            event(0, kv("/a/there", 9, 9, "again")),
            event(0, kv("/a/other", 9, 9, "same revision")),
        ],
    );
    let told: Vec<_> = made
        .iter()
        .map(|record| {
            let value = |entry: &Option<Entry>| {
                entry
                    .as_ref()
                    .map(|e| String::from_utf8_lossy(&e.value).into_owned())
            };
            (
                record.revision,
                &*record.key,
                value(&record.previous),
                value(&record.current),
            )
        })
        .collect();
    let some = |text: &str| Some(text.to_string());
    assert_eq!(
        told,
        [
            (6, "/a/there", some("old"), some("new")),
            (8, "/a/there", some("new"), None),
            (9, "/a/there", None, some("again")),
            (9, "/a/other", None, some("same revision")),
        ]
    );
}

#[test]
fn the_end_of_a_prefix_is_the_first_key_after_it() {
    assert_eq!(end_of("/registry/"), b"/registry0");
    assert_eq!(end_of(""), [0]);
}
