//! What becomes of an event: one of its own, a repetition of another, or nothing.
//!
//! Follows client-go's `tools/record` correlator: equal events become one with a growing `count`; ten and more within ten
//! minutes that differ only in their message become one "(combined from similar events)"; each object may cause 25 events
//! at once and then one every five minutes.

use std::collections::{BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;

use super::{Note, name_of};

const KEYS_MAX: usize = 1024;
const SIMILAR_MAX: usize = 10;
const SIMILAR_WINDOW: SignedDuration = SignedDuration::from_secs(600);
const BURST: f64 = 25.0;
const REFILL_PER_SECOND: f64 = 1.0 / 300.0;

/// An event to write; `repeated` when only its count, time and message changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    pub name: String,
    pub first: Timestamp,
    pub count: i32,
    pub message: String,
    pub repeated: bool,
}

/// What was observed lately, of at most a thousand keys of each sort.
#[derive(Debug, Default)]
pub struct Correlator {
    known: HashMap<String, Known>,
    similar: HashMap<String, Similar>,
    buckets: HashMap<String, Bucket>,
}

#[derive(Debug)]
struct Known {
    name: String,
    first: Timestamp,
    count: i32,
}

#[derive(Debug)]
struct Similar {
    messages: BTreeSet<String>,
    last_seen: Timestamp,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    last_seen: Timestamp,
}

impl Correlator {
    /// What of `note` is to be written; `None`: its object has caused too many. Those are counted all the same.
    pub fn observe(&mut self, note: &Note) -> Option<Observed> {
        self.bound();
        let (object, now) = (object_key(note.component, &note.about), note.at);
        let family = format!("{object}|{}|{}", note.kind, note.reason);
        let (key, message) = self.combine(family, &note.message, now);
        let part = note.about.field_path.as_deref().unwrap_or_default();
        let key = format!("{key}|{part}");
        let repeated = self.known.contains_key(&key);
        let known = self.known.entry(key).or_insert_with(|| Known {
            name: name_of(&note.about, now),
            first: now,
            count: 0,
        });
        known.count = known.count.saturating_add(1);
        let observed = Observed {
            name: known.name.clone(),
            first: known.first,
            count: known.count,
            message,
            repeated,
        };
        self.admit(object, now).then_some(observed)
    }

    fn combine(&mut self, family: String, message: &str, now: Timestamp) -> (String, String) {
        let none = || Similar {
            messages: BTreeSet::new(),
            last_seen: now,
        };
        let similar = self.similar.entry(family.clone()).or_insert_with(none);
        if now.duration_since(similar.last_seen) > SIMILAR_WINDOW {
            similar.messages.clear();
        }
        similar.last_seen = now;
        similar.messages.insert(message.to_owned());
        if similar.messages.len() < SIMILAR_MAX {
            return (format!("{family}|{message}"), message.to_owned());
        }
        // One is enough to stay above the limit; which one does not matter.
        similar.messages.pop_first();
        (family, format!("(combined from similar events): {message}"))
    }

    fn admit(&mut self, object: String, now: Timestamp) -> bool {
        let bucket = self.buckets.entry(object).or_insert(Bucket {
            tokens: BURST,
            last_seen: now,
        });
        let elapsed = now.duration_since(bucket.last_seen).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + elapsed * REFILL_PER_SECOND).min(BURST);
        bucket.last_seen = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }

    /// Forgetting costs at most a second Event object, so a full map is simply emptied.
    fn bound(&mut self) {
        if self.known.len() >= KEYS_MAX {
            self.known.clear();
        }
        if self.similar.len() >= KEYS_MAX {
            self.similar.clear();
        }
        if self.buckets.len() >= KEYS_MAX {
            self.buckets.clear();
        }
    }
}

/// The object as a whole: its parts share what it may cause.
fn object_key(component: &str, object: &ObjectReference) -> String {
    let parts = [&object.kind, &object.namespace, &object.name, &object.uid];
    let parts = parts.map(|part| part.as_deref().unwrap_or_default());
    format!("{component}/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &str, message: &str, seconds: i64) -> Note {
        Note {
            about: ObjectReference {
                kind: Some("Pod".into()),
                namespace: Some("shop".into()),
                name: Some(name.into()),
                uid: Some(format!("uid-{name}")),
                ..ObjectReference::default()
            },
            component: "kubelet",
            kind: "Warning",
            reason: "Failed".into(),
            message: message.into(),
            at: at(seconds),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).expect("a time")
    }

    #[test]
    fn an_equal_event_is_counted_under_the_first_name() {
        let mut correlator = Correlator::default();
        let first = correlator.observe(&note("a", "no", 0)).expect("written");
        let second = correlator.observe(&note("a", "no", 5)).expect("written");
        assert!(!first.repeated && second.repeated);
        assert_eq!((second.count, second.first), (2, at(0)));
        assert_eq!(second.name, first.name);
        let mut of_container = note("a", "no", 6);
        of_container.about.field_path = Some("spec.containers{c}".into());
        for other in [note("b", "no", 6), of_container] {
            assert!(!correlator.observe(&other).expect("written").repeated);
        }
    }

    #[test]
    fn many_messages_of_one_reason_are_combined() {
        let mut correlator = Correlator::default();
        let seen: Vec<Observed> = (0..12)
            .map(|n| {
                let note = note("a", &format!("try {n}"), n);
                correlator.observe(&note).expect("written")
            })
            .collect();
        assert_eq!(seen[8].message, "try 8");
        assert_eq!(seen[9].message, "(combined from similar events): try 9");
        assert_eq!(seen[11].message, "(combined from similar events): try 11");
        assert_eq!((seen[11].count, &seen[11].name), (3, &seen[9].name));
        let later = correlator.observe(&note("a", "calm", 2000));
        assert_eq!(later.expect("written").message, "calm");
    }

    #[test]
    fn one_object_cannot_flood() {
        let mut correlator = Correlator::default();
        let admitted = (0..100)
            .filter(|_| correlator.observe(&note("a", "no", 0)).is_some())
            .count();
        assert_eq!(admitted, 25);
        assert!(correlator.observe(&note("b", "no", 0)).is_some());
        let later = correlator.observe(&note("a", "no", 301)).expect("written");
        assert_eq!(later.count, 101, "dropped ones are counted");
    }

    #[test]
    fn memory_is_bounded() {
        let mut correlator = Correlator::default();
        for n in 0..KEYS_MAX * 2 {
            correlator.observe(&note(&n.to_string(), "x", 0));
        }
        assert!(correlator.known.len() <= KEYS_MAX && correlator.buckets.len() <= KEYS_MAX);
    }
}
