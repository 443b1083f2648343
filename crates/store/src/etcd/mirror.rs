//! What etcd holds, in memory: read once at a revision, then followed by one watch.
//!
//! The watch is of *every* key of etcd, not only of those that are kept, because then every
//! revision shows itself, and "all changes up to here have come" is known without asking: the
//! progress that etcd tells on request can be wrong before 3.4.25 and 3.5.8.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::client::{Client, signed, unsigned};
use super::failure::{Failure, Kind};
use super::options::Options;
use super::proto::{self, DELETED, Event, RangeRequest, WatchCreateRequest, WatchResponse};
use crate::memory::{Entry, Record, Shared, State};
use crate::{Error, Revision};

/// How many keys are read at once, at first; fewer when they are large.
const PAGE_KEYS: i64 = 500;
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// etcd says every 100 ms which watches begin before what it retains.
const COMPACTED_WITHIN: Duration = Duration::from_secs(5);

pub(super) struct Mirror {
    pub shared: Arc<Shared>,
    pub client: Arc<Client>,
    prefix: String,
    window: u64,
    backoff_max: Duration,
    /// The cluster that is followed; 0 before the first answer.
    cluster: AtomicU64,
    /// The revision that the memory shows.
    shown: watch::Sender<Revision>,
    /// Held while the state is changed.
    changing: Mutex<()>,
    /// Told when changes that etcd has made do not come.
    stalled: Notify,
}

/// Why following ended.
enum End {
    /// Begin again where it ended.
    Lost(String),
    /// Read everything anew: what follows is not retained, or etcd is not where it was.
    Anew(String),
}

impl Mirror {
    /// Reads everything, but follows nothing yet.
    pub async fn load(client: Arc<Client>, options: &Options) -> Result<Self, Failure> {
        let window = options.history_changes_max as u64;
        let state = load(&client, &options.prefix, window).await?;
        let shown = watch::Sender::new(state.revision());
        Ok(Self {
            shared: Arc::new(Shared::new(state, options.limits())),
            client,
            prefix: options.prefix.clone(),
            window,
            backoff_max: options.backoff_max,
            cluster: AtomicU64::new(0),
            shown,
            changing: Mutex::new(()),
            stalled: Notify::new(),
        })
    }

    /// Follows etcd for ever.
    pub async fn run(self: Arc<Self>) {
        let mut pause = BACKOFF_MIN;
        let mut lost = false;
        loop {
            let began = Instant::now();
            let before = self.shared.state.read().revision();
            let end = self.follow(&mut lost).await;
            // What went on for a while, or brought something, was a connection.
            if began.elapsed() > self.backoff_max || self.shared.state.read().revision() > before {
                pause = BACKOFF_MIN;
            }
            match end {
                End::Lost(reason) => {
                    if !lost {
                        tracing::warn!(reason, "the connection to etcd was lost; trying again");
                    }
                    lost = true;
                    self.client.turn();
                }
                End::Anew(reason) => {
                    tracing::warn!(reason, "reading everything from etcd anew");
                    match load(&self.client, &self.prefix, self.window).await {
                        Ok(state) => self.replace(state),
                        Err(failure) => {
                            tracing::warn!(reason = failure.reason, "etcd could not be read");
                        }
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.backoff_max);
        }
    }

    /// Waits until memory shows this revision.
    pub async fn wait(&self, revision: Revision, limit: Duration) -> Result<(), Error> {
        let mut shown = self.shown.subscribe();
        match tokio::time::timeout(limit, shown.wait_for(|shown| *shown >= revision)).await {
            Ok(Ok(_)) => Ok(()),
            _ => {
                // only who follows at this moment hears it: it may be the reason
                self.stalled.notify_waiters();
                Err(Error::Unavailable {
                    attempted: format!("follow etcd to revision {revision}"),
                    reason: format!("its changes have not come within {} ms", limit.as_millis()),
                })
            }
        }
    }

    /// Forgets the changes up to and including `revision`, which must be shown already.
    pub fn forget(&self, revision: Revision) {
        let _changing = self.changing.lock();
        let (current, compacted) = {
            let state = self.shared.state.read();
            (state.revision(), state.compacted())
        };
        let compacted = compacted.max(revision.min(current));
        self.shared.publish(Vec::new(), current, compacted);
    }

    async fn follow(&self, lost: &mut bool) -> End {
        let from = self.shared.state.read().revision();
        let create = WatchCreateRequest {
            key: vec![0],
            range_end: vec![0],
            start_revision: signed(from + 1),
            fragment: true,
        };
        let (mut stream, _open) = match self.client.watch(create).await {
            Ok(opened) => opened,
            Err(failure) => return End::Lost(failure.reason),
        };
        let mut events = Vec::new();
        loop {
            let message = tokio::select! {
                message = stream.message() => message,
                () = self.stalled.notified() => {
                    return End::Lost("changes that etcd has made do not come".into());
                }
            };
            let response: WatchResponse = match message {
                Ok(Some(response)) => response,
                Ok(None) => return End::Lost("etcd ended the watch".into()),
                Err(status) => return End::Lost(Failure::from(status).reason),
            };
            if response.canceled {
                return canceled(&response, from);
            }
            if response.created {
                let (current, cluster) = response
                    .header
                    .as_ref()
                    .map_or((0, 0), |h| (unsigned(h.revision), h.cluster_id));
                // Restored from a snapshot, or another one altogether.
                let before = self.cluster.swap(cluster, Ordering::AcqRel);
                let same = before == 0 || before == cluster;
                if same && current < from && self.has_reached(from).await {
                    return End::Lost(format!("a member of etcd is behind, at revision {current}"));
                }
                if current < from || !same {
                    self.client.set_back(current);
                    return End::Anew(format!(
                        "etcd is another one than before, at revision {current} (it was at {from})"
                    ));
                }
                if std::mem::take(lost) {
                    tracing::info!(revision = current, "etcd is back");
                }
            }
            events.extend(response.events);
            if !response.fragment && !events.is_empty() {
                self.apply(std::mem::take(&mut events));
            }
        }
    }

    /// Whether etcd as a whole has this revision, although one of its members does not.
    async fn has_reached(&self, revision: Revision) -> bool {
        current(&self.client)
            .await
            // when nobody can tell, nothing is given up
            .is_ok_and(|current| current >= revision)
    }

    /// Shows what etcd did. Whole revisions come together.
    fn apply(&self, events: Vec<Event>) {
        let _changing = self.changing.lock();
        let Some(revision) = events
            .iter()
            .filter_map(|event| event.kv.as_ref())
            .map(|kv| unsigned(kv.mod_revision))
            .max()
        else {
            return;
        };
        let (records, compacted) = {
            let state = self.shared.state.read();
            let records = records(&state, &self.prefix, events);
            let compacted = state.compacted_after(&records, &self.shared.limits);
            (records, compacted)
        };
        let revision = revision.max(self.shared.state.read().revision());
        self.shared.publish(records, revision, compacted);
        self.shown.send_replace(revision);
    }

    fn replace(&self, state: State) {
        let _changing = self.changing.lock();
        let revision = state.revision();
        self.shared.replace(state);
        self.shown.send_replace(revision);
    }
}

fn canceled(response: &WatchResponse, from: Revision) -> End {
    if response.compact_revision > 0 {
        return End::Anew(format!(
            "the changes after revision {from} were compacted (to {})",
            response.compact_revision
        ));
    }
    let mut reason = format!("etcd refused the watch: {}", response.cancel_reason);
    if response.cancel_reason.contains("permission denied") {
        reason.push_str(
            "; the user must be allowed to read all keys \
             (`etcdctl role grant-permission ROLE readwrite \"\" --from-key=true`)",
        );
    }
    End::Lost(reason)
}

/// The events as changes of what is kept. One revision changes a key at most once.
fn records(state: &State, prefix: &str, events: Vec<Event>) -> Vec<Record> {
    let mut changed: BTreeMap<Arc<str>, Option<Entry>> = BTreeMap::new();
    let mut records = Vec::with_capacity(events.len());
    for event in events {
        let Some(kv) = event.kv else { continue };
        let revision = unsigned(kv.mod_revision);
        // Already shown; etcd repeats nothing, but a wrong window would be worse than a lost one.
        if revision <= state.revision() {
            continue;
        }
        let Some(text) = kept(&kv, prefix) else {
            continue;
        };
        let key = state.shared_key(text).unwrap_or_else(|| text.into());
        let previous = match changed.get(&key) {
            Some(entry) => entry.clone(),
            None => state.entry(&key).cloned(),
        };
        let current = (event.kind != DELETED).then(|| entry(kv));
        if previous.is_none() && current.is_none() {
            continue;
        }
        changed.insert(key.clone(), current.clone());
        records.push(Record {
            revision,
            key,
            previous,
            current,
        });
    }
    records
}

fn kept<'a>(kv: &'a proto::KeyValue, prefix: &str) -> Option<&'a str> {
    if !kv.key.starts_with(prefix.as_bytes()) {
        return None;
    }
    let text = std::str::from_utf8(&kv.key).ok();
    if text.is_none() {
        tracing::warn!(key = %String::from_utf8_lossy(&kv.key), "a key in etcd is not text");
    }
    text
}

fn entry(kv: proto::KeyValue) -> Entry {
    Entry {
        create_revision: unsigned(kv.create_revision),
        mod_revision: unsigned(kv.mod_revision),
        version: unsigned(kv.version),
        value: Bytes::from(kv.value),
    }
}

/// What was there `window` revisions ago, or as far back as etcd retains. The changes since then
/// come by the watch, so that they are retained in memory, too.
async fn load(client: &Client, prefix: &str, window: u64) -> Result<State, Failure> {
    const ATTEMPTS: usize = 5;
    let current = current(client).await?;
    let mut base = current.saturating_sub(window).max(1);
    let mut attempt = 1;
    loop {
        match read_at(client, prefix, base).await {
            Ok(items) => return Ok(State::new(items, VecDeque::new(), base)),
            Err(failure) if failure.kind == Kind::Compacted && attempt < ATTEMPTS => {
                base = oldest(client, base).await?;
                attempt += 1;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// The revision of etcd now, from a quorum.
pub(super) async fn current(client: &Client) -> Result<Revision, Failure> {
    let answer = client
        .range(RangeRequest {
            key: vec![0],
            count_only: true,
            ..RangeRequest::default()
        })
        .await?;
    Ok(answer.header.map_or(0, |header| unsigned(header.revision)))
}

async fn read_at(
    client: &Client,
    prefix: &str,
    revision: Revision,
) -> Result<BTreeMap<Arc<str>, Entry>, Failure> {
    let mut items = BTreeMap::new();
    let range_end = end_of(prefix);
    let mut key = match prefix {
        "" => vec![0],
        _ => prefix.as_bytes().to_vec(),
    };
    let mut limit = PAGE_KEYS;
    loop {
        let answer = client
            .range(RangeRequest {
                key: key.clone(),
                range_end: range_end.clone(),
                limit,
                revision: signed(revision),
                ..RangeRequest::default()
            })
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) if failure.kind == Kind::TooLarge && limit > 1 => {
                limit = (limit / 4).max(1);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        let Some(last) = answer.kvs.last() else {
            return Ok(items);
        };
        key = last.key.clone();
        key.push(0);
        for kv in answer.kvs {
            if let Some(text) = kept(&kv, prefix) {
                items.insert(text.into(), entry(kv));
            }
        }
        if !answer.more {
            return Ok(items);
        }
    }
}

/// The revision up to which etcd is compacted; a watch from before tells.
async fn oldest(client: &Client, before: Revision) -> Result<Revision, Failure> {
    let create = WatchCreateRequest {
        key: vec![0],
        range_end: vec![0],
        start_revision: signed(before),
        fragment: true,
    };
    let (mut stream, _open) = client.watch(create).await?;
    let told = async {
        while let Some(response) = stream.message().await? {
            if response.compact_revision > 0 {
                return Ok(unsigned(response.compact_revision));
            }
        }
        Err(Failure {
            reason: "etcd ended a watch without a reason".into(),
            kind: Kind::NotDone,
        })
    };
    tokio::time::timeout(COMPACTED_WITHIN, told)
        .await
        .unwrap_or_else(|_| Err(Failure::timeout(COMPACTED_WITHIN)))
}

/// The first key after all that start with `prefix`; `[0]` = there is none.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

#[cfg(test)]
mod tests;
