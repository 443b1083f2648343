//! The event recorder: sends Events in the background, counting repetitions instead of repeating them.
//!
//! Follows client-go's `tools/record` correlator: equal events become one with a growing `count`; more than ten
//! events in ten minutes that differ only in their message become one "(combined from similar events)"; each object
//! may cause 25 events at once and then one every five minutes.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use tokio::sync::mpsc;

/// Events of one object wait for each other, those of several objects are written at once.
const LANES: usize = 8;
/// Of each lane.
const QUEUE_MAX: usize = 2048;
const KEYS_MAX: usize = 1024;
const SIMILAR_MAX: usize = 10;
const SIMILAR_WINDOW: SignedDuration = SignedDuration::from_secs(600);
const BURST: f64 = 25.0;
const REFILL_PER_SECOND: f64 = 1.0 / 300.0;

/// `Normal` or `Warning`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Something happened as it should.
    Normal,
    /// Something did not.
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What happened to which object.
#[derive(Clone, Debug)]
pub struct Note {
    /// The object that the event is about.
    pub object: ObjectReference,
    /// Normal or Warning.
    pub severity: Severity,
    /// A CamelCase word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// Records events of one component; cheap to clone. When the API cannot keep up, events are dropped, never awaited.
#[derive(Clone, Debug)]
pub struct Recorder {
    lanes: Arc<[mpsc::Sender<Note>]>,
}

impl Recorder {
    /// Starts the senders; they end when the last clone is dropped.
    pub fn start(client: Client, component: &str) -> Self {
        let lane = |_| {
            let (queue, notes) = mpsc::channel(QUEUE_MAX);
            tokio::spawn(send_all(client.clone(), component.to_owned(), notes));
            queue
        };
        Self {
            lanes: (0..LANES).map(lane).collect(),
        }
    }

    /// Records an event about `object`.
    pub fn record<K>(&self, object: &K, severity: Severity, reason: &str, message: String)
    where
        K: Resource<DynamicType = ()>,
    {
        self.send(Note {
            object: reference(object),
            severity,
            reason: reason.to_owned(),
            message,
        });
    }

    /// Records an event about an object that is only known by reference.
    pub fn send(&self, note: Note) {
        let Some(lane) = self.lanes.get(lane_of(&note.object)) else {
            return;
        };
        if let Err(mpsc::error::TrySendError::Full(note)) = lane.try_send(note) {
            tracing::warn!(reason = note.reason, "event dropped: the queue is full");
        }
    }
}

/// The lane of everything that is told of the object.
fn lane_of(object: &ObjectReference) -> usize {
    let mut hasher = DefaultHasher::new();
    object_key(object).hash(&mut hasher);
    (hasher.finish() % LANES as u64) as usize
}

/// The reference an Event carries to `object`.
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

async fn send_all(client: Client, component: String, mut notes: mpsc::Receiver<Note>) {
    let mut correlator = Correlator::new(component);
    while let Some(note) = notes.recv().await {
        let Some(entry) = correlator.observe(&note, Timestamp::now()) else {
            continue;
        };
        let namespace = entry.event.metadata.namespace.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        if let Err(error) = write(&api, &entry).await {
            tracing::debug!(reason = note.reason, %error, "event not recorded");
        }
    }
}

async fn write(api: &Api<Event>, entry: &Observed) -> Result<(), kube::Error> {
    let name = entry.event.metadata.name.as_deref().unwrap_or_default();
    if entry.repeated {
        let change = serde_json::json!({
            "count": entry.event.count,
            "lastTimestamp": entry.event.last_timestamp,
            "message": entry.event.message,
        });
        match api
            .patch(name, &PatchParams::default(), &Patch::Merge(&change))
            .await
        {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => return other.map(drop),
        }
    }
    api.create(&PostParams::default(), &entry.event)
        .await
        .map(drop)
}

/// An event to write; `repeated` when only its count, time and message changed.
#[derive(Clone, Debug)]
struct Observed {
    event: Event,
    repeated: bool,
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

/// What is kept of an event in case it repeats: the rest comes with the repetition.
#[derive(Clone, Debug)]
struct Known {
    name: String,
    first: Timestamp,
    count: i32,
}

/// Decides what becomes of an observed event; holds at most a thousand keys of each sort.
#[derive(Debug)]
struct Correlator {
    component: String,
    known: HashMap<String, Known>,
    similar: HashMap<String, Similar>,
    buckets: HashMap<String, Bucket>,
}

impl Correlator {
    fn new(component: String) -> Self {
        Self {
            component,
            known: HashMap::new(),
            similar: HashMap::new(),
            buckets: HashMap::new(),
        }
    }

    fn observe(&mut self, note: &Note, now: Timestamp) -> Option<Observed> {
        self.bound();
        let object = object_key(&note.object);
        let family = format!("{object}|{}|{}", note.severity.as_str(), note.reason);
        let (key, message) = self.combine(family, &note.message, now);
        let repeated = self.known.contains_key(&key);
        let known = self.known.entry(key).or_insert_with(|| Known {
            name: name_of(&note.object, now),
            first: now,
            count: 0,
        });
        known.count = known.count.saturating_add(1);
        let event = event(&self.component, note, known, message, now);
        self.admit(object, now)
            .then_some(Observed { event, repeated })
    }

    fn combine(&mut self, family: String, message: &str, now: Timestamp) -> (String, String) {
        let similar = self
            .similar
            .entry(family.clone())
            .or_insert_with(|| Similar {
                messages: BTreeSet::new(),
                last_seen: now,
            });
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

fn event(component: &str, note: &Note, known: &Known, message: String, now: Timestamp) -> Event {
    let namespace = note.object.namespace.clone();
    Event {
        metadata: ObjectMeta {
            name: Some(known.name.clone()),
            namespace: Some(namespace.unwrap_or_else(|| "default".to_owned())),
            ..Default::default()
        },
        involved_object: note.object.clone(),
        reason: Some(note.reason.clone()),
        message: Some(message),
        type_: Some(note.severity.as_str().to_owned()),
        source: Some(EventSource {
            component: Some(component.to_owned()),
            host: None,
        }),
        reporting_component: Some(component.to_owned()),
        reporting_instance: Some(String::new()),
        first_timestamp: Some(Time(known.first)),
        last_timestamp: Some(Time(now)),
        count: Some(known.count),
        ..Default::default()
    }
}

/// The object's name and the time; where that would be no name that an Event may have, the object's uid and the time.
fn name_of(object: &ObjectReference, now: Timestamp) -> String {
    const BYTES_MAX: usize = 253;
    let name = object.name.as_deref().unwrap_or_default();
    let named = format!("{name}.{:x}", now.as_nanosecond());
    let end = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(|byte| end(*byte))
            && bytes.last().is_some_and(|byte| end(*byte))
            && bytes.iter().all(|byte| end(*byte) || *byte == b'-')
    };
    if named.len() <= BYTES_MAX && named.split('.').all(is_label) {
        return named;
    }
    let uid = object.uid.as_deref().unwrap_or("event");
    format!("{uid}.{:x}", now.as_nanosecond())
}

fn object_key(object: &ObjectReference) -> String {
    let part = |value: &Option<String>| value.clone().unwrap_or_default();
    [
        part(&object.kind),
        part(&object.namespace),
        part(&object.name),
        part(&object.uid),
        part(&object.field_path),
    ]
    .join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &str, message: &str) -> Note {
        Note {
            object: ObjectReference {
                kind: Some("Pod".into()),
                namespace: Some("shop".into()),
                name: Some(name.into()),
                uid: Some(format!("uid-{name}")),
                ..Default::default()
            },
            severity: Severity::Warning,
            reason: "Failed".into(),
            message: message.into(),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    #[test]
    fn an_equal_event_is_counted_under_the_first_name() {
        let mut correlator = Correlator::new("test".into());
        let first = correlator.observe(&note("a", "no"), at(0)).unwrap();
        let second = correlator.observe(&note("a", "no"), at(5)).unwrap();
        assert!(!first.repeated && second.repeated);
        assert_eq!(second.event.count, Some(2));
        assert_eq!(second.event.metadata.name, first.event.metadata.name);
        assert_eq!(second.event.first_timestamp, Some(Time(at(0))));
        assert_eq!(second.event.last_timestamp, Some(Time(at(5))));
        let other = correlator.observe(&note("b", "no"), at(6)).unwrap();
        assert!(!other.repeated);
    }

    #[test]
    fn an_objects_events_have_one_lane_and_objects_many() {
        let lanes = |message: &str| -> Vec<usize> {
            let names = (0..200).map(|n| n.to_string());
            names
                .map(|name| lane_of(&note(&name, message).object))
                .collect()
        };
        assert_eq!(lanes("no"), lanes("another"));
        let used: BTreeSet<usize> = lanes("no").into_iter().collect();
        assert_eq!(used, (0..LANES).collect());
    }

    #[test]
    fn events_have_names_that_they_may_have() {
        let named = |name: &str| name_of(&note(name, "no").object, at(0));
        assert!(named("web-1").starts_with("web-1."), "{}", named("web-1"));
        for name in [&*"a".repeat(250), "system:node", "A", "", "a..b"] {
            let own = named(name);
            assert!(own.starts_with(&format!("uid-{name}.")), "{own}");
        }
    }

    #[test]
    fn many_messages_of_one_reason_are_combined() {
        let mut correlator = Correlator::new("test".into());
        let messages: Vec<String> = (0..12)
            .map(|n| {
                let observed = correlator
                    .observe(&note("a", &format!("try {n}")), at(n))
                    .unwrap();
                observed.event.message.unwrap()
            })
            .collect();
        assert_eq!(messages[8], "try 8");
        assert_eq!(messages[9], "(combined from similar events): try 9");
        assert_eq!(messages[11], "(combined from similar events): try 11");
        let later = correlator.observe(&note("a", "calm"), at(2000)).unwrap();
        assert_eq!(later.event.message.as_deref(), Some("calm"));
    }

    #[test]
    fn one_object_cannot_flood() {
        let mut correlator = Correlator::new("test".into());
        let admitted = (0..100)
            .filter(|_| correlator.observe(&note("a", "no"), at(0)).is_some())
            .count();
        assert_eq!(admitted, 25);
        assert!(correlator.observe(&note("b", "no"), at(0)).is_some());
        let later = correlator.observe(&note("a", "no"), at(301)).unwrap();
        assert_eq!(later.event.count, Some(101), "dropped ones are counted");
    }

    #[test]
    fn memory_is_bounded() {
        let mut correlator = Correlator::new("test".into());
        for n in 0..(KEYS_MAX as i64 * 2) {
            correlator.observe(&note(&n.to_string(), "x"), at(0));
        }
        assert!(correlator.known.len() <= KEYS_MAX && correlator.buckets.len() <= KEYS_MAX);
    }
}
