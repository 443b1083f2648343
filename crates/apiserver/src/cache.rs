//! The watch cache: one store watch per resource, every current object, and a window of recent changes that
//! all watchers read. A watcher is a cursor into the window, so watchers cost no memory and cannot pile up work.
//!
//! The window begins where the server started. The first watcher that resumes from before that (every client does
//! after a restart) makes it reach back through all that the store retains; until then, nothing is read for it.

mod event;
mod window;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use parking_lot::RwLock;
use store::{Change, KeyValue, Revision, Store, WatchItem};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::object::Object;
use crate::registry::{Kind, KindRef};
pub(crate) use event::{Event, frame, object_frame};
pub(crate) use window::Capacity;
use window::Window;

/// What a watcher gets when it asks for more.
pub(crate) enum Next {
    Events(Vec<Arc<Event>>),
    /// The watcher fell out of the window.
    Gone,
}

/// The cache of one resource.
pub(crate) struct Cache {
    kind: KindRef,
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
        kind: KindRef,
        store: Arc<dyn Store>,
        capacity: Capacity,
        shutdown: CancellationToken,
    ) -> Result<Arc<Self>, Error> {
        let storage = kind.storage;
        let fail = |source| Error::Store {
            attempt: format!("read {storage}"),
            source,
        };
        let prefix = format!("{}/", kind.storage);
        let page = store.range(&prefix, None, 0, None).await.map_err(fail)?;
        let cache = Arc::new(Self {
            window: RwLock::new(Window::new(load(&kind, &page.items), page.revision)),
            capacity: Capacity {
                changes: capacity.changes.max(1),
                ..capacity
            },
            changed: watch::Sender::new(0),
            reaching: tokio::sync::Mutex::new(()),
            kind,
        });
        let stream = store.watch(&prefix, page.revision).await.map_err(fail)?;
        let follower = cache.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = follower.follow(store, stream) => {}
            }
        });
        Ok(cache)
    }

    async fn follow(&self, store: Arc<dyn Store>, mut stream: store::WatchStream) {
        let kind: &Kind = &self.kind;
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
                let objects = load(kind, &page.items);
                self.window.write().renew(objects, page.revision);
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
                            false,
                        ),
                        Change::Delete { previous, revision } => {
                            (*revision, previous.key.as_str(), None, true)
                        }
                    })
                    .collect();
                let mut window = self.window.write();
                for (revision, key, current, deleted) in parsed {
                    if current.is_none() && !deleted {
                        // somebody else made it what cannot be read here, which is not to have deleted it
                        tracing::error!(
                            key,
                            "an object cannot be read any more; its last form is shown"
                        );
                        window.revision = window.revision.max(revision);
                        continue;
                    }
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
        let object = |kv: &KeyValue| self.object(kv).or_else(|| Object::new(&self.kind, kv));
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

    /// The next events after the cursor, about `limit`; the cursor moves on. Does not wait.
    pub fn poll(&self, cursor: &mut Cursor, limit: usize) -> Next {
        let window = self.window.read();
        if cursor.generation != window.generation || cursor.revision < window.oldest {
            return Next::Gone;
        }
        let events = window.after(cursor.revision, limit);
        if let Some(last) = events.last() {
            cursor.revision = last.revision;
        }
        Next::Events(events)
    }

    /// Every change up to this revision has been shown to watchers that are up to date.
    pub fn revision(&self) -> Revision {
        self.window.read().revision
    }

    /// Whether no object is there, as far as watchers can know.
    pub fn is_empty(&self) -> bool {
        self.window.read().objects.is_empty()
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
