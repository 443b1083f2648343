//! The watch cache: one store watch per resource, every current object, and a window of recent changes that
//! all watchers read. A watcher is a cursor into the window, so watchers cost no memory and cannot pile up work.
//!
//! The window begins where the server started. The first watcher that resumes from before that (every client does
//! after a restart) makes it reach back through all that the store retains; until then, nothing is read for it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use parking_lot::RwLock;
use store::{Change, KeyValue, Revision, Store, WatchItem};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::object::Object;
use crate::registry::Kind;

/// One change, as every watcher sees it.
pub(crate) struct Event {
    pub revision: Revision,
    /// The object after the change; `None` for a deletion.
    pub current: Option<Arc<Object>>,
    /// The object before the change; `None` for a creation.
    pub previous: Option<Arc<Object>>,
    /// When it came into the window.
    seen: Instant,
}

impl Event {
    /// Upstream's event type for a watcher without selectors.
    pub fn kind(&self) -> &'static str {
        match (&self.current, &self.previous) {
            (Some(_), None) => "ADDED",
            (Some(_), Some(_)) => "MODIFIED",
            (None, _) => "DELETED",
        }
    }

    /// What it counts for. The object before is the one after an earlier change, or of one that has gone.
    fn bytes(&self) -> usize {
        const OVERHEAD_BYTES: usize = 500;
        let object = self.current.as_ref().or(self.previous.as_ref());
        OVERHEAD_BYTES + object.map_or(0, |object| object.json_bytes())
    }

    /// The JSON line for a watcher without selectors.
    pub fn frame(&self) -> Bytes {
        match (&self.current, &self.previous) {
            (Some(object), _) => object_frame(self.kind(), object, object.revision),
            (None, Some(object)) => object_frame("DELETED", object, self.revision),
            (None, None) => Bytes::new(),
        }
    }
}

/// One line of a watch stream: the object under `revision`.
pub(crate) fn object_frame(kind: &str, object: &Object, revision: Revision) -> Bytes {
    framed(kind, object.json_bytes(), |out| {
        object.write_json(revision, out);
    })
}

/// One line of a watch stream.
pub(crate) fn frame(kind: &str, json: &[u8]) -> Bytes {
    framed(kind, json.len(), |out| out.extend_from_slice(json))
}

fn framed(kind: &str, bytes: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::with_capacity(bytes + kind.len() + 24);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    write(&mut out);
    out.extend_from_slice(b"}\n");
    Bytes::from(out)
}

/// How long a change stays in the window: upstream's etcd forgets after five to ten minutes. What a busy hour needed
/// is given back in the quiet one.
const WINDOW_AGE: Duration = Duration::from_secs(600);

/// How much a window may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    /// Changes.
    pub changes: usize,
    /// Bytes of the changed objects.
    pub bytes: usize,
}

struct Window {
    objects: HashMap<String, Arc<Object>>,
    events: VecDeque<Arc<Event>>,
    /// What `events` counts for against the capacity.
    bytes: usize,
    /// Changes up to and including this revision may be missing from `events`.
    oldest: Revision,
    /// Every change up to this revision has been seen.
    revision: Revision,
    /// Goes up when the window is made anew; watchers of an earlier one end.
    generation: u64,
    /// The store's past has been put before `events`, or there was no room for it.
    reached_back: bool,
}

impl Window {
    fn push(&mut self, event: Event) {
        self.bytes += event.bytes();
        self.events.push_back(Arc::new(event));
    }

    /// Drops the oldest changes that are too many, too large or older than [`WINDOW_AGE`].
    fn shrink(&mut self, capacity: Capacity, now: Instant) {
        while let Some(first) = self.events.front() {
            let fits = self.events.len() <= capacity.changes && self.bytes <= capacity.bytes;
            if fits && now.duration_since(first.seen) < WINDOW_AGE {
                break;
            }
            self.oldest = first.revision;
            self.bytes -= first.bytes();
            self.events.pop_front();
        }
    }
}

/// What a watcher gets when it asks for more.
pub(crate) enum Next {
    Events(Vec<Arc<Event>>),
    /// The watcher fell out of the window.
    Gone,
}

/// The cache of one resource.
pub(crate) struct Cache {
    kind: &'static Kind,
    window: RwLock<Window>,
    capacity: Capacity,
    changed: watch::Sender<u64>,
    /// Held while the past is read, so that it is read once.
    reaching: tokio::sync::Mutex<()>,
}

/// Where a watcher is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    pub revision: Revision,
    generation: u64,
}

impl Cache {
    /// Reads the resource and follows it until `shutdown`.
    pub async fn start(
        kind: &'static Kind,
        store: Arc<dyn Store>,
        capacity: Capacity,
        shutdown: CancellationToken,
    ) -> Result<Arc<Self>, Error> {
        let fail = |source| Error::Store {
            attempt: format!("read {}", kind.storage),
            source,
        };
        let prefix = format!("{}/", kind.storage);
        let page = store.range(&prefix, None, 0, None).await.map_err(fail)?;
        let cache = Arc::new(Self {
            kind,
            window: RwLock::new(Window {
                objects: load(kind, &page.items),
                events: VecDeque::new(),
                bytes: 0,
                oldest: page.revision,
                revision: page.revision,
                generation: 0,
                reached_back: false,
            }),
            capacity: Capacity {
                changes: capacity.changes.max(1),
                ..capacity
            },
            changed: watch::Sender::new(0),
            reaching: tokio::sync::Mutex::new(()),
        });
        let stream = store.watch(&prefix, page.revision).await.map_err(fail)?;
        let follower = cache.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = follower.follow(kind, store, stream) => {}
            }
        });
        Ok(cache)
    }

    async fn follow(
        &self,
        kind: &'static Kind,
        store: Arc<dyn Store>,
        mut stream: store::WatchStream,
    ) {
        let prefix = format!("{}/", kind.storage);
        let mut pause = Duration::from_millis(10);
        loop {
            match stream.next().await {
                Some(Ok(item)) => {
                    self.apply(kind, item);
                    pause = Duration::from_millis(10);
                    continue;
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, prefix, "watch of the store failed; reading anew")
                }
                None => tracing::debug!(prefix, "watch of the store ended; reading anew"),
            }
            // The cache missed changes: everything is read again, and watchers end to do the same.
            loop {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
                let Ok(page) = store.range(&prefix, None, 0, None).await else {
                    continue;
                };
                let Ok(again) = store.watch(&prefix, page.revision).await else {
                    continue;
                };
                let mut window = self.window.write();
                window.objects = load(kind, &page.items);
                window.events.clear();
                window.bytes = 0;
                window.oldest = page.revision;
                window.revision = page.revision;
                window.generation += 1;
                window.reached_back = false;
                stream = again;
                break;
            }
            self.changed.send_modify(|n| *n += 1);
        }
    }

    fn apply(&self, kind: &Kind, item: WatchItem) {
        match item {
            WatchItem::Progress(revision) => {
                let mut window = self.window.write();
                window.revision = window.revision.max(revision);
                window.shrink(self.capacity, Instant::now());
                return;
            }
            WatchItem::Changes(changes) => {
                let now = Instant::now();
                // Parsing happens before the lock is taken.
                let parsed: Vec<_> = changes
                    .iter()
                    .map(|change| match change {
                        Change::Put { current, .. } => (
                            current.mod_revision,
                            current.key.as_str(),
                            Object::new(kind, current),
                        ),
                        Change::Delete { previous, revision } => {
                            (*revision, previous.key.as_str(), None)
                        }
                    })
                    .collect();
                let mut window = self.window.write();
                for (revision, key, current) in parsed {
                    let previous = match &current {
                        Some(object) => window.objects.insert(key.to_owned(), object.clone()),
                        None => window.objects.remove(key),
                    };
                    window.revision = window.revision.max(revision);
                    if current.is_none() && previous.is_none() {
                        continue;
                    }
                    window.push(Event {
                        revision,
                        current,
                        previous,
                        seen: now,
                    });
                }
                window.shrink(self.capacity, now);
            }
        }
        self.changed.send_modify(|n| *n += 1);
    }

    /// The object of a key at exactly this revision, if the cache has it.
    pub fn object(&self, kv: &KeyValue) -> Option<Arc<Object>> {
        let window = self.window.read();
        window
            .objects
            .get(&kv.key)
            .filter(|o| o.revision == kv.mod_revision)
            .cloned()
    }

    /// The objects of many keys; what the cache does not have at that revision is parsed.
    pub fn objects(&self, kind: &Kind, items: &[KeyValue]) -> Vec<Arc<Object>> {
        let window = self.window.read();
        let found: Vec<_> = items
            .iter()
            .map(|kv| {
                window
                    .objects
                    .get(&kv.key)
                    .filter(|o| o.revision == kv.mod_revision)
                    .cloned()
            })
            .collect();
        drop(window);
        found
            .into_iter()
            .zip(items)
            .filter_map(|(found, kv)| found.or_else(|| Object::new(kind, kv)))
            .collect()
    }

    /// A cursor after `revision`; the oldest usable revision when that is too old.
    pub fn cursor(&self, revision: Revision) -> Result<Cursor, Revision> {
        let window = self.window.read();
        if revision < window.oldest {
            return Err(window.oldest);
        }
        Ok(Cursor {
            revision,
            generation: window.generation,
        })
    }

    /// A cursor after `revision`, as [`cursor`](Self::cursor), also when the change after it is older than this
    /// process and the store still has it.
    pub async fn resume(&self, store: &dyn Store, revision: Revision) -> Result<Cursor, Revision> {
        if let Ok(cursor) = self.cursor(revision) {
            return Ok(cursor);
        }
        let _once = self.reaching.lock().await;
        if !self.window.read().reached_back
            && let Err(error) = self.reach_back(store).await
        {
            let prefix = self.kind.storage;
            tracing::warn!(%error, prefix, "could not read the retained changes");
        }
        self.cursor(revision)
    }

    /// Puts what the store retains of the time before the window in front of it.
    async fn reach_back(&self, store: &dyn Store) -> Result<(), store::Error> {
        let (until, generation) = {
            let window = self.window.read();
            (window.oldest, window.generation)
        };
        let prefix = format!("{}/", self.kind.storage);
        let mut oldest = match store.watch(&prefix, 0).await {
            Ok(_) => 0,
            Err(store::Error::Compacted { oldest }) => oldest,
            Err(error) => return Err(error),
        };
        let mut past = VecDeque::new();
        let mut stream = store.watch(&prefix, oldest).await?;
        'read: while let Some(item) = stream.next().await {
            let WatchItem::Changes(changes) = item? else {
                break;
            };
            for change in &changes {
                if change.revision() > until {
                    break 'read;
                }
                if let Some(event) = self.past_event(change) {
                    past.push_back(Arc::new(event));
                }
                if past.len() > self.capacity.changes
                    && let Some(dropped) = past.pop_front()
                {
                    oldest = dropped.revision;
                }
            }
        }
        let mut window = self.window.write();
        if window.generation != generation {
            return Ok(());
        }
        window.reached_back = true;
        // A window that has dropped events meanwhile is full; then nothing is missing that it would keep.
        if window.oldest != until {
            return Ok(());
        }
        window.oldest = window.oldest.min(oldest);
        window.bytes += past.iter().map(|event| event.bytes()).sum::<usize>();
        past.append(&mut window.events);
        window.events = past;
        window.shrink(self.capacity, Instant::now());
        Ok(())
    }

    fn past_event(&self, change: &Change) -> Option<Event> {
        let object = |kv: &KeyValue| self.object(kv).or_else(|| Object::new(self.kind, kv));
        let (current, previous) = match change {
            Change::Put { current, previous } => {
                (object(current), previous.as_ref().and_then(object))
            }
            Change::Delete { previous, .. } => (None, object(previous)),
        };
        (current.is_some() || previous.is_some()).then(|| Event {
            revision: change.revision(),
            current,
            previous,
            seen: Instant::now(),
        })
    }

    /// The next events after the cursor, at most `limit`; the cursor moves on. Does not wait.
    pub fn poll(&self, cursor: &mut Cursor, limit: usize) -> Next {
        let window = self.window.read();
        if cursor.generation != window.generation || cursor.revision < window.oldest {
            return Next::Gone;
        }
        let start = window
            .events
            .partition_point(|e| e.revision <= cursor.revision);
        let events: Vec<_> = window.events.range(start..).take(limit).cloned().collect();
        if let Some(last) = events.last() {
            cursor.revision = last.revision;
        }
        Next::Events(events)
    }

    /// Every change up to this revision has been shown to watchers that are up to date.
    pub fn revision(&self) -> Revision {
        self.window.read().revision
    }

    /// Told of every change.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

fn load(kind: &Kind, items: &[KeyValue]) -> HashMap<String, Arc<Object>> {
    items
        .iter()
        .filter_map(|kv| Some((kv.key.clone(), Object::new(kind, kv)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;

    fn event(revision: Revision, bytes: usize, seen: Instant) -> Event {
        let kind = crate::registry::find("", "v1", "configmaps").expect("a kind");
        let kv = KeyValue {
            key: format!("/registry/configmaps/a/{revision}"),
            value: object::encode(
                &serde_json::json!({"metadata": {}, "data": {"a": "x".repeat(bytes)}}),
            ),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
        };
        Event {
            revision,
            current: Object::new(kind, &kv),
            previous: None,
            seen,
        }
    }

    fn window(events: impl IntoIterator<Item = Event>) -> Window {
        let mut window = Window {
            objects: HashMap::new(),
            events: VecDeque::new(),
            bytes: 0,
            oldest: 0,
            revision: 0,
            generation: 0,
            reached_back: false,
        };
        events.into_iter().for_each(|event| window.push(event));
        window
    }

    fn held(window: &Window) -> (Revision, Vec<Revision>) {
        let revisions = window.events.iter().map(|event| event.revision).collect();
        (window.oldest, revisions)
    }

    #[test]
    fn a_window_is_bounded_by_number_bytes_and_age() {
        let now = Instant::now();
        let capacity = |changes, bytes| Capacity { changes, bytes };
        let mut of_number = window((1..=5).map(|n| event(n, 10, now)));
        of_number.shrink(capacity(3, 1 << 20), now);
        assert_eq!(held(&of_number), (2, vec![3, 4, 5]));

        let mut of_bytes = window((1..=5).map(|n| event(n, 10_000, now)));
        of_bytes.shrink(capacity(100, 25_000), now);
        assert_eq!(held(&of_bytes), (3, vec![4, 5]));
        assert!(
            (20_000..25_000).contains(&of_bytes.bytes),
            "{}",
            of_bytes.bytes
        );

        let later = now + WINDOW_AGE / 2;
        let mut of_age = window([event(1, 10, now), event(2, 10, now), event(3, 10, later)]);
        of_age.shrink(capacity(100, 1 << 20), now + WINDOW_AGE);
        assert_eq!(held(&of_age), (2, vec![3]));
        of_age.shrink(capacity(100, 1 << 20), later + WINDOW_AGE);
        assert_eq!((held(&of_age), of_age.bytes), ((3, vec![]), 0));
    }
}
