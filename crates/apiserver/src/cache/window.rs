//! What a cache holds: every object, and the changes of late, within bounds.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use store::Revision;

use super::event::Event;
use crate::object::Object;

/// How long a change stays in the window: upstream's etcd forgets after five to ten minutes. What a busy hour needed
/// is given back in the quiet one.
const WINDOW_AGE: Duration = Duration::from_secs(600);

/// A change that is younger stays although the window holds more bytes than it should (upstream's `DefaultEventFreshDuration`),
/// up to so many times as much: who lists and then watches, or is busy for a moment, finds what came meanwhile.
const FRESH: Duration = Duration::from_secs(75);
const FRESH_BYTES_FACTOR: usize = 4;

/// How much a window may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    /// Changes.
    pub changes: usize,
    /// Bytes of the changed objects; of those of the last 75 s, four times as much.
    pub bytes: usize,
}

pub(super) struct Window {
    pub(super) objects: HashMap<String, Arc<Object>>,
    pub(super) events: VecDeque<Arc<Event>>,
    /// What `events` counts for against the capacity.
    pub(super) bytes: usize,
    /// Changes up to and including this revision may be missing from `events`.
    pub(super) oldest: Revision,
    /// Every change up to this revision has been seen.
    pub(super) revision: Revision,
    /// Goes up when the window is made anew; watchers of an earlier one end.
    pub(super) generation: u64,
    /// The store's past has been put before `events`, or there was no room for it.
    pub(super) reached_back: bool,
}

impl Window {
    /// Of the objects at a revision, without a past.
    pub(super) fn new(objects: HashMap<String, Arc<Object>>, revision: Revision) -> Self {
        Self {
            objects,
            events: VecDeque::new(),
            bytes: 0,
            oldest: revision,
            revision,
            generation: 0,
            reached_back: false,
        }
    }

    /// Made anew: changes were missed.
    pub(super) fn renew(&mut self, objects: HashMap<String, Arc<Object>>, revision: Revision) {
        *self = Self {
            generation: self.generation + 1,
            ..Self::new(objects, revision)
        };
    }

    /// Events newer than a revision: at most `limit`, and the rest of the last one's revision. A transaction of others on the same
    /// store may have changed several objects at once.
    pub(super) fn after(&self, revision: Revision, limit: usize) -> Vec<Arc<Event>> {
        let start = self.events.partition_point(|e| e.revision <= revision);
        let mut next = self.events.range(start..);
        let mut events: Vec<_> = next.by_ref().take(limit).cloned().collect();
        if let Some(last) = events.last().map(|last| last.revision) {
            events.extend(next.take_while(|e| e.revision == last).cloned());
        }
        events
    }

    pub(super) fn push(&mut self, event: Event) {
        self.bytes += event.bytes();
        self.events.push_back(Arc::new(event));
    }

    /// Drops the oldest changes that are too many, too large or older than [`WINDOW_AGE`].
    pub(super) fn shrink(&mut self, capacity: Capacity, now: Instant) {
        while let Some(first) = self.events.front() {
            let age = now.duration_since(first.seen);
            let bytes_max = match age < FRESH {
                true => capacity.bytes.saturating_mul(FRESH_BYTES_FACTOR),
                false => capacity.bytes,
            };
            let fits = self.events.len() <= capacity.changes && self.bytes <= bytes_max;
            if fits && age < WINDOW_AGE {
                break;
            }
            self.oldest = first.revision;
            self.bytes -= first.bytes();
            self.events.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use store::KeyValue;

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
        let mut window = Window::new(HashMap::new(), 0);
        events.into_iter().for_each(|event| window.push(event));
        window
    }

    fn held(window: &Window) -> (Revision, Vec<Revision>) {
        let revisions = window.events.iter().map(|event| event.revision).collect();
        (window.oldest, revisions)
    }

    #[test]
    fn changes_of_one_revision_are_not_taken_apart() {
        let now = Instant::now();
        let window = window([1, 2, 2, 2, 3].map(|revision| event(revision, 10, now)));
        let revisions = |after, limit| -> Vec<Revision> {
            let events = window.after(after, limit);
            events.iter().map(|event| event.revision).collect()
        };
        assert_eq!(revisions(0, 1), [1]);
        assert_eq!(revisions(0, 2), [1, 2, 2, 2]);
        assert_eq!(revisions(1, 3), [2, 2, 2]);
        assert_eq!(revisions(1, 9), [2, 2, 2, 3]);
        assert_eq!(revisions(3, 9), [0; 0]);
        assert_eq!(revisions(0, 0), [0; 0]);
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
        assert_eq!(held(&of_bytes).1.len(), 5, "fresh ones stay");
        of_bytes.shrink(capacity(100, 25_000), now + FRESH);
        assert_eq!(held(&of_bytes), (3, vec![4, 5]));
        let mut fresh = window((1..=20).map(|n| event(n, 1000, now)));
        fresh.shrink(capacity(100, 2000), now);
        let (_, left) = held(&fresh);
        assert!((5..8).contains(&left.len()), "{left:?}");
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
