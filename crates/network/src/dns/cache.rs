//! What other resolvers said, for as long as they allow (RFC 1035, 2308): bounded, and pure but for the clock that is
//! handed in.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record};

/// Answers that are kept at once, and their bytes as they came.
const ANSWERS_MAX: usize = 4096;
const BYTES_MAX: usize = 4 << 20;
/// A longer answer is not kept.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// Nothing is kept longer, whatever it allows: machines change networks, and names change their meaning there. As
/// upstream's configuration of CoreDNS has it.
const KEPT_MAX: Duration = Duration::from_secs(30);

/// Answers by question.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: HashMap<Key, Entry>,
    /// Keys in the order in which they came: the oldest makes room.
    order: BTreeMap<u64, Key>,
    next: u64,
    bytes: usize,
}

/// What answers depend on: name, type and class without case, and the flags and extensions of the query.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    question: String,
    flags: u8,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    answer: Message,
    bytes: usize,
    since: Instant,
    until: Instant,
}

/// The key of a query; `None` for one whose answer is for its asker alone.
pub(crate) fn key(query: &Message) -> Option<Key> {
    let question = query.queries.first()?;
    let data = &query.metadata;
    let mut flags = u8::from(data.recursion_desired)
        | u8::from(data.checking_disabled) << 1
        | u8::from(data.authentic_data) << 2;
    if let Some(edns) = &query.edns {
        // Cookies, client subnets and the like.
        if edns.version() != 0 || !edns.options().as_ref().is_empty() {
            return None;
        }
        flags |= 8 | u8::from(edns.flags().dnssec_ok) << 4;
    }
    if query.queries.len() != 1 || !query.additionals.is_empty() || query.signature.is_some() {
        return None;
    }
    Some(Key {
        question: format!(
            "{} {:?} {:?}",
            question.name.to_ascii().to_ascii_lowercase(),
            question.query_type,
            question.query_class
        ),
        flags,
    })
}

impl Cache {
    /// The answer to `query`, with the time that it has been here taken off its records' lifetimes.
    pub fn get(&mut self, key: &Key, query: &Message, now: Instant) -> Option<Message> {
        let entry = self.entries.get(key)?;
        if entry.until <= now {
            self.remove(key);
            return None;
        }
        let age_seconds = now.saturating_duration_since(entry.since).as_secs();
        let age_seconds = u32::try_from(age_seconds).unwrap_or(u32::MAX);
        let mut answer = entry.answer.clone();
        answer.metadata.id = query.metadata.id;
        // As it was spelled: clients that mix the case of letters against forgery compare it.
        answer.queries.clone_from(&query.queries);
        for section in [
            &mut answer.answers,
            &mut answer.authorities,
            &mut answer.additionals,
        ] {
            for record in section {
                record.ttl = record.ttl.saturating_sub(age_seconds);
            }
        }
        Some(answer)
    }

    /// Keeps an answer, if it may be kept.
    pub fn put(&mut self, key: Key, bytes: &[u8], now: Instant) {
        if bytes.len() > ANSWER_BYTES_MAX {
            return;
        }
        let Ok(answer) = Message::from_vec(bytes) else {
            return;
        };
        let Some(lifetime) = lifetime(&answer) else {
            return;
        };
        self.remove(&key);
        self.bytes += bytes.len();
        self.next += 1;
        self.order.insert(self.next, key.clone());
        self.entries.insert(
            key,
            Entry {
                number: self.next,
                answer,
                bytes: bytes.len(),
                since: now,
                until: now + lifetime.min(KEPT_MAX),
            },
        );
        while self.entries.len() > ANSWERS_MAX || self.bytes > BYTES_MAX {
            let Some((_, oldest)) = self.order.first_key_value() else {
                return;
            };
            let oldest = oldest.clone();
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.number);
            self.bytes -= entry.bytes;
        }
    }
}

/// How long an answer may be kept: the shortest lifetime of its records; a denial as long as its SOA says.
fn lifetime(answer: &Message) -> Option<Duration> {
    let code = answer.metadata.response_code;
    if answer.metadata.truncation || !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
    {
        return None;
    }
    let denial = code == ResponseCode::NXDomain || answer.answers.is_empty();
    let least = answer
        .all_sections()
        .map(|record| record.ttl)
        .min()
        .unwrap_or(0);
    let seconds = if denial {
        least.min(answer.authorities.iter().find_map(denial_seconds)?)
    } else {
        least
    };
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

fn denial_seconds(record: &Record) -> Option<u32> {
    match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
