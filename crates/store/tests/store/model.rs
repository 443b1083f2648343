//! Random operations on the store and on a plain model of it, which must agree.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use proptest::prelude::*;
use store::embedded::{EmbeddedStore, Options};
use store::{Change, Error, Expect, KeyValue, Page, Store, WatchItem, WatchStream};

use super::faults::Disk;

/// So small that the window moves during a test.
const WINDOW: usize = 12;
const KEYS: [&str; 6] = ["/a", "/a/1", "/a/2", "/ab", "/b/1", "/b/2"];
const PREFIXES: [&str; 5] = ["", "/a", "/a/", "/b/", "/c"];

#[derive(Clone, Debug)]
enum Operation {
    Put {
        key: usize,
        value: u8,
        expect: Wish,
    },
    Delete {
        key: usize,
        expect: Wish,
    },
    List {
        prefix: usize,
        after: Option<usize>,
        limit: usize,
        back: Option<u64>,
    },
    Watch {
        prefix: usize,
        back: u64,
    },
    Compact {
        back: u64,
    },
    Reopen,
}

#[derive(Clone, Debug)]
enum Wish {
    Any,
    Absent,
    Right,
    Wrong,
}

fn operation() -> impl Strategy<Value = Operation> {
    let key = 0..KEYS.len();
    let prefix = 0..PREFIXES.len();
    let wish = prop_oneof![
        4 => Just(Wish::Any), 1 => Just(Wish::Absent), 3 => Just(Wish::Right), 1 => Just(Wish::Wrong)
    ];
    let back = 0..(WINDOW as u64 + 4);
    prop_oneof![
        12 => (key.clone(), any::<u8>(), wish.clone())
            .prop_map(|(key, value, expect)| Operation::Put { key, value, expect }),
        5 => (key.clone(), wish).prop_map(|(key, expect)| Operation::Delete { key, expect }),
        6 => (prefix.clone(), proptest::option::of(key), 0..4usize, proptest::option::of(back.clone()))
            .prop_map(|(prefix, after, limit, back)| Operation::List { prefix, after, limit, back }),
        4 => (prefix, back.clone()).prop_map(|(prefix, back)| Operation::Watch { prefix, back }),
        1 => back.prop_map(|back| Operation::Compact { back }),
        1 => Just(Operation::Reopen),
    ]
}

/// Every state there ever was, and every change.
struct Model {
    states: Vec<BTreeMap<String, KeyValue>>,
    changes: Vec<Change>,
    compacted: u64,
}

impl Model {
    fn new() -> Self {
        Self {
            states: vec![BTreeMap::new(); 2],
            changes: Vec::new(),
            compacted: 1,
        }
    }

    fn revision(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    fn now(&self) -> &BTreeMap<String, KeyValue> {
        &self.states[self.states.len() - 1]
    }

    fn expect(&self, key: &str, wish: &Wish) -> Expect {
        let at = self
            .now()
            .get(key)
            .map_or(1, |current| current.mod_revision);
        match wish {
            Wish::Any => Expect::Any,
            Wish::Absent => Expect::Absent,
            Wish::Right => Expect::Revision(at),
            Wish::Wrong => Expect::Revision(at + 1),
        }
    }

    fn conflict(&self, key: &str, expect: Expect) -> Option<Error> {
        let current = self.now().get(key);
        let holds = match expect {
            Expect::Any => true,
            Expect::Absent => current.is_none(),
            Expect::Revision(at) => current.is_some_and(|current| current.mod_revision == at),
        };
        (!holds).then(|| Error::Conflict {
            current: current.cloned(),
        })
    }

    fn push(&mut self, state: BTreeMap<String, KeyValue>, change: Change) {
        self.states.push(state);
        self.changes.push(change);
        self.compacted = self
            .compacted
            .max(self.revision().saturating_sub(WINDOW as u64));
    }

    fn put(&mut self, key: &str, value: &Bytes, expect: Expect) -> Result<KeyValue, Error> {
        if let Some(conflict) = self.conflict(key, expect) {
            return Err(conflict);
        }
        let revision = self.revision() + 1;
        let mut state = self.now().clone();
        let previous = state.get(key).cloned();
        let current = KeyValue {
            key: key.to_string(),
            value: value.clone(),
            create_revision: previous.as_ref().map_or(revision, |p| p.create_revision),
            mod_revision: revision,
            version: previous.as_ref().map_or(0, |p| p.version) + 1,
        };
        state.insert(key.to_string(), current.clone());
        self.push(
            state,
            Change::Put {
                current: current.clone(),
                previous,
            },
        );
        Ok(current)
    }

    fn delete(&mut self, key: &str, expect: Expect) -> Result<(KeyValue, u64), Error> {
        let mut state = self.now().clone();
        let previous = state.remove(key).ok_or(Error::NotFound)?;
        if let Some(conflict) = self.conflict(key, expect) {
            return Err(conflict);
        }
        let revision = self.revision() + 1;
        self.push(
            state,
            Change::Delete {
                previous: previous.clone(),
                revision,
            },
        );
        Ok((previous, revision))
    }

    fn outside(&self, revision: u64) -> Option<Error> {
        (revision < self.compacted).then_some(Error::Compacted {
            oldest: self.compacted,
        })
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        revision: u64,
    ) -> Result<Page, Error> {
        if let Some(outside) = self.outside(revision) {
            return Err(outside);
        }
        let mut items: Vec<KeyValue> = self.states[revision as usize]
            .values()
            .filter(|item| item.key.starts_with(prefix))
            .filter(|item| after.is_none_or(|after| &*item.key > after))
            .cloned()
            .collect();
        let kept = if limit == 0 {
            items.len()
        } else {
            limit.min(items.len())
        };
        let remaining = (items.len() - kept) as u64;
        items.truncate(kept);
        Ok(Page {
            items,
            revision,
            more: remaining > 0,
            remaining: Some(remaining),
        })
    }

    fn changes(&self, prefix: &str, from: u64) -> Vec<Change> {
        self.changes
            .iter()
            .filter(|change| change.revision() > from && change.key().starts_with(prefix))
            .cloned()
            .collect()
    }
}

struct Watcher {
    prefix: &'static str,
    /// Everything the watch asks for up to here has been delivered.
    seen: u64,
    stream: WatchStream,
}

impl Watcher {
    /// Takes all that the stream has, and compares; false when it ended as it should.
    fn drain(&mut self, model: &Model) -> bool {
        let due = model.changes(self.prefix, self.seen);
        let lagged = due
            .first()
            .is_some_and(|change| change.revision() <= model.compacted);
        let mut got = Vec::new();
        loop {
            match tokio::task::unconstrained(self.stream.next()).now_or_never() {
                None => break,
                Some(Some(Ok(WatchItem::Changes(changes)))) => got.extend(changes),
                Some(Some(Ok(WatchItem::Progress(at)))) => {
                    assert_eq!(at, model.revision());
                    assert_eq!(got, due, "progress before its changes");
                }
                Some(Some(Err(Error::Lagged))) => {
                    assert!(lagged, "lagged without need");
                    assert_eq!(got, []);
                    assert!(matches!(self.stream.next().now_or_never(), Some(None)));
                    return false;
                }
                Some(other) => panic!("{other:?}"),
            }
        }
        assert!(!lagged, "delivered {got:?} though the window has moved on");
        assert_eq!(got, due);
        self.seen = model.revision();
        true
    }
}

struct Pair {
    disk: Disk,
    store: Option<EmbeddedStore>,
    model: Model,
    watchers: Vec<Watcher>,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self {
            disk: Disk::default(),
            store: None,
            model: Model::new(),
            watchers: Vec::new(),
        };
        pair.open();
        pair
    }

    fn open(&mut self) {
        drop(self.store.take());
        self.watchers.clear();
        let options = Options {
            history_changes_max: WINDOW,
            watch_batch_changes_max: 3,
            cache_bytes: 256 * 1024,
            ..Options::default()
        };
        self.store = Some(EmbeddedStore::open_with_backend(self.disk.clone(), options).unwrap());
    }

    async fn step(&mut self, operation: &Operation) {
        let store = self.store.as_ref().unwrap();
        let model = &mut self.model;
        match operation {
            Operation::Put { key, value, expect } => {
                let (key, expect) = (KEYS[*key], model.expect(KEYS[*key], expect));
                let value = Bytes::from(vec![*value; 3]);
                let expected = model.put(key, &value, expect);
                assert_eq!(store.put(key, value, expect).await, expected);
            }
            Operation::Delete { key, expect } => {
                let (key, expect) = (KEYS[*key], model.expect(KEYS[*key], expect));
                let expected = model.delete(key, expect);
                assert_eq!(store.delete(key, expect).await, expected);
            }
            Operation::List {
                prefix,
                after,
                limit,
                back,
            } => {
                let (prefix, after) = (PREFIXES[*prefix], after.map(|after| KEYS[after]));
                let revision = back.map(|back| model.revision().saturating_sub(back));
                let at = revision.unwrap_or(model.revision());
                let mut expected = model.list(prefix, after, *limit, at);
                if let (Ok(page), Some(_), Some(_)) = (&mut expected, after, revision)
                    && page.more
                {
                    page.remaining = None;
                }
                assert_eq!(store.range(prefix, after, *limit, revision).await, expected);
            }
            Operation::Watch { prefix, back } => {
                let prefix = PREFIXES[*prefix];
                let from = model.revision().saturating_sub(*back);
                match (store.watch(prefix, from).await, model.outside(from)) {
                    (Ok(stream), None) => {
                        self.watchers.push(Watcher {
                            prefix,
                            seen: from,
                            stream,
                        });
                    }
                    (Err(error), Some(outside)) => assert_eq!(error, outside),
                    (result, outside) => panic!("{:?} and {outside:?}", result.map(|_| ())),
                }
            }
            Operation::Compact { back } => {
                let revision = model.revision().saturating_sub(*back);
                store.compact(revision).await.unwrap();
                model.compacted = model.compacted.max(revision);
            }
            Operation::Reopen => self.open(),
        }
        let (store, model) = (self.store.as_ref().unwrap(), &self.model);
        assert_eq!(store.revision(), model.revision());
        for key in KEYS {
            let expected = (model.now().get(key).cloned(), model.revision());
            assert_eq!(store.get(key).await, Ok(expected));
        }
        // Every third watch is slow: it is read only now and then, and may lag.
        let round = model.revision();
        let mut n = 0;
        self.watchers.retain_mut(|watcher| {
            n += 1;
            let slow = n % 3 == 0 && !round.is_multiple_of(17);
            slow || watcher.drain(model)
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_store_does_what_the_model_does(operations in prop::collection::vec(operation(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new();
            for operation in &operations {
                pair.step(operation).await;
            }
        });
    }
}
