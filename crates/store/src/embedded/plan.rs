//! Decides what a batch of requests changes, without doing it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::record::{Entry, Record};
use crate::memory::State;
use crate::{Error, Expect, KeyValue, Revision};

/// How a caller is answered.
type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What a caller wants from the writer.
pub(super) enum Request {
    Put {
        key: Arc<str>,
        value: Bytes,
        expect: Expect,
        reply: Reply<KeyValue>,
    },
    Delete {
        key: Arc<str>,
        expect: Expect,
        reply: Reply<(KeyValue, Revision)>,
    },
    Compact {
        revision: Revision,
        reply: Reply<()>,
    },
}

impl Request {
    /// What the request adds to a commit, in bytes.
    pub fn size_bytes(&self) -> usize {
        match self {
            Request::Put { key, value, .. } => key.len() + value.len(),
            Request::Delete { key, .. } => key.len(),
            Request::Compact { .. } => 0,
        }
    }
}

/// An answer that waits for the commit it depends on.
pub(super) enum Answer {
    Put(Reply<KeyValue>, Result<KeyValue, Error>),
    Delete(
        Reply<(KeyValue, Revision)>,
        Result<(KeyValue, Revision), Error>,
    ),
    Compact(Reply<()>, Result<(), Error>),
}

impl Answer {
    // A caller that has gone away wants no answer, so a failed send is no error.
    pub fn send(self) {
        match self {
            Answer::Put(reply, result) => drop(reply.send(result)),
            Answer::Delete(reply, result) => drop(reply.send(result)),
            Answer::Compact(reply, result) => drop(reply.send(result)),
        }
    }

    /// Answers that the commit failed: also a conflict, because it may be with a write of the same
    /// batch that did not happen.
    pub fn fail(self, error: &Error) {
        match self {
            Answer::Put(reply, _) => drop(reply.send(Err(error.clone()))),
            Answer::Delete(reply, _) => drop(reply.send(Err(error.clone()))),
            Answer::Compact(reply, _) => drop(reply.send(Err(error.clone()))),
        }
    }
}

/// What a batch of requests comes to.
pub(super) struct Plan {
    pub records: Vec<Record>,
    pub compact_to: Revision,
    pub answers: Vec<Answer>,
}

/// Works through the requests in order; each sees what those before it changed.
pub(super) fn plan(state: &State, requests: Vec<Request>) -> Plan {
    let mut planner = Planner {
        state,
        changed: HashMap::new(),
        records: Vec::with_capacity(requests.len()),
        compact_to: state.compacted(),
    };
    let answers = requests
        .into_iter()
        .map(|request| match request {
            Request::Put {
                key,
                value,
                expect,
                reply,
            } => Answer::Put(reply, planner.put(key, value, expect)),
            Request::Delete { key, expect, reply } => {
                Answer::Delete(reply, planner.delete(key, expect))
            }
            Request::Compact { revision, reply } => {
                Answer::Compact(reply, planner.compact(revision))
            }
        })
        .collect();
    Plan {
        records: planner.records,
        compact_to: planner.compact_to,
        answers,
    }
}

struct Planner<'a> {
    state: &'a State,
    changed: HashMap<Arc<str>, Option<Entry>>,
    records: Vec<Record>,
    compact_to: Revision,
}

impl Planner<'_> {
    fn revision(&self) -> Revision {
        self.state.revision() + self.records.len() as u64
    }

    fn entry(&self, key: &str) -> Option<Entry> {
        match self.changed.get(key) {
            Some(entry) => entry.clone(),
            None => self.state.entry(key).cloned(),
        }
    }

    fn put(&mut self, key: Arc<str>, value: Bytes, expect: Expect) -> Result<KeyValue, Error> {
        let previous = self.entry(&key);
        check(&key, previous.as_ref(), expect)?;
        let revision = self.revision() + 1;
        let current = Entry {
            value,
            create_revision: previous
                .as_ref()
                .map_or(revision, |entry| entry.create_revision),
            mod_revision: revision,
            version: previous
                .as_ref()
                .map_or(1, |entry| entry.version.saturating_add(1)),
        };
        let answer = current.key_value(&key);
        self.record(key, previous, Some(current));
        Ok(answer)
    }

    fn delete(&mut self, key: Arc<str>, expect: Expect) -> Result<(KeyValue, Revision), Error> {
        let Some(previous) = self.entry(&key) else {
            return Err(Error::NotFound);
        };
        check(&key, Some(&previous), expect)?;
        let answer = previous.key_value(&key);
        self.record(key, Some(previous), None);
        Ok((answer, self.revision()))
    }

    fn compact(&mut self, revision: Revision) -> Result<(), Error> {
        if revision > self.revision() {
            return Err(Error::Future {
                requested: revision,
                current: self.revision(),
            });
        }
        self.compact_to = self.compact_to.max(revision);
        Ok(())
    }

    fn record(&mut self, key: Arc<str>, previous: Option<Entry>, current: Option<Entry>) {
        // The records of a key share the allocation that the current entries have.
        let key = self.state.shared_key(&key).unwrap_or(key);
        self.changed.insert(key.clone(), current.clone());
        self.records.push(Record {
            revision: self.revision() + 1,
            key,
            previous,
            current,
        });
    }
}

fn check(key: &str, current: Option<&Entry>, expect: Expect) -> Result<(), Error> {
    let holds = match expect {
        Expect::Any => true,
        Expect::Absent => current.is_none(),
        Expect::Revision(revision) => current.is_some_and(|entry| entry.mod_revision == revision),
    };
    if holds {
        return Ok(());
    }
    Err(Error::Conflict {
        current: current.map(|entry| entry.key_value(key)),
    })
}
