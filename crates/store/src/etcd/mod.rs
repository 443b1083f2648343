//! The store on etcd (v3.4 and later), which several API servers can share, stock ones included.
//!
//! Everything beneath the prefix is kept in memory and followed by one watch ([`mirror`]). A read
//! asks etcd's quorum for its revision (all reads that wait at that moment share one question),
//! waits until memory shows it, and is answered from there: so a read sees every write that was
//! acknowledged before it began, whoever made it. A write is one transaction that compares
//! revisions. When its answer is lost it is told as [`Error::Undecided`] and never tried again
//! by itself.

mod client;
mod compactor;
mod failure;
mod mirror;
mod options;
mod proto;
mod txn;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use options::{Options, Tls, User, parse_url};

use crate::limits::{check_key, check_value};
use crate::memory;
use crate::{Error, Expect, KeyValue, Page, Revision, Store, WatchStream};
use client::Client;
use failure::Kind;
use mirror::Mirror;

/// A [`Store`] on etcd. Dropping it ends its connections and all watches with [`Error::Closed`].
pub struct EtcdStore {
    mirror: Arc<Mirror>,
    request_timeout: Duration,
    /// When the last question for the revision began, and its answer.
    asked: tokio::sync::Mutex<Option<(Instant, Result<Revision, Error>)>>,
    tasks: Vec<JoinHandle<()>>,
}

impl EtcdStore {
    /// Connects, and reads everything beneath the prefix. Tries for
    /// [`open_timeout`](Options::open_timeout) while etcd cannot be reached, but ends at once when
    /// it refuses. Must be called inside a Tokio runtime.
    pub async fn open(options: Options) -> Result<Self, Error> {
        let client = Arc::new(Client::new(&options)?);
        let deadline = Instant::now() + options.open_timeout;
        let attempted = format!("open the store on etcd at {}", options.endpoints.join(","));
        let mut pause = Duration::from_millis(50);
        let mirror = loop {
            let failure = match Mirror::load(client.clone(), &options).await {
                Ok(mirror) => break Arc::new(mirror),
                Err(failure) => failure,
            };
            let last = Instant::now() + pause >= deadline;
            if last || matches!(failure.kind, Kind::Refused | Kind::LogIn) {
                return Err(failure.reading(&attempted));
            }
            tracing::warn!(reason = failure.reason, "etcd cannot be read; trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(options.backoff_max);
        };
        let mut tasks = vec![tokio::spawn(mirror.clone().run())];
        if let Some(interval) = options.compaction_interval {
            tasks.push(tokio::spawn(compactor::run(client.clone(), interval)));
        }
        let store = Self {
            mirror,
            request_timeout: options.request_timeout,
            asked: tokio::sync::Mutex::new(None),
            tasks,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        store.mirror.wait(client.known(), left).await?;
        Ok(store)
    }

    /// Waits until memory shows all that had been acknowledged when this was called.
    async fn catch_up(&self) -> Result<Revision, Error> {
        let revision = self.ask().await?;
        self.mirror.wait(revision, self.request_timeout).await?;
        Ok(revision)
    }

    /// The revision of etcd at some moment after the call. Callers that wait for an answer to
    /// another's question share the next one.
    async fn ask(&self) -> Result<Revision, Error> {
        let called = Instant::now();
        let mut asked = self.asked.lock().await;
        if let Some((began, answer)) = &*asked
            && *began > called
        {
            return answer.clone();
        }
        let began = Instant::now();
        let answer = mirror::current(&self.mirror.client).await;
        let answer = answer.map_err(|failure| failure.reading("ask etcd for its revision"));
        *asked = Some((began, answer.clone()));
        answer
    }

    /// Makes sure that memory shows `revision`; [`Error::Future`] when etcd has not got there.
    async fn reach(&self, revision: Revision) -> Result<(), Error> {
        if revision <= self.mirror.shared.state.read().revision() {
            return Ok(());
        }
        if revision > self.mirror.client.known() {
            let current = self.ask().await?;
            if revision > current {
                return Err(Error::Future {
                    requested: revision,
                    current,
                });
            }
        }
        self.mirror.wait(revision, self.request_timeout).await
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.mirror.shared.close();
    }
}

impl fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdStore")
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision), Error> {
        self.catch_up().await?;
        let state = self.mirror.shared.state.read();
        let found = state.entry(key).map(|entry| entry.key_value(key));
        Ok((found, state.revision()))
    }

    async fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        revision: Option<Revision>,
    ) -> Result<Page, Error> {
        match revision {
            Some(revision) => self.reach(revision).await?,
            None => drop(self.catch_up().await?),
        }
        let listing = {
            let state = self.mirror.shared.state.read();
            state.range(prefix, after, limit, revision)?
        };
        Ok(Page {
            items: listing
                .items
                .iter()
                .map(|(key, entry)| entry.key_value(key))
                .collect(),
            revision: listing.revision,
            more: listing.more,
            remaining: listing.remaining,
        })
    }

    async fn put(&self, key: &str, value: Bytes, expect: Expect) -> Result<KeyValue, Error> {
        check_key(key)?;
        check_value(&value)?;
        let size_bytes = key.len() + value.len();
        match self
            .mirror
            .client
            .txn(txn::put(key, value.clone(), expect))
            .await
        {
            Ok(answer) => txn::put_answer(value, answer),
            Err(failure) => Err(failure.writing(format!("write {key}"), size_bytes)),
        }
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<(KeyValue, Revision), Error> {
        check_key(key)?;
        match self.mirror.client.txn(txn::delete(key, expect)).await {
            Ok(answer) => txn::delete_answer(answer),
            Err(failure) => Err(failure.writing(format!("delete {key}"), key.len())),
        }
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, Error> {
        // The first progress promises all that had been acknowledged; without etcd, what is known.
        self.reach(from).await?;
        let known = self.mirror.client.known();
        self.mirror.wait(known, self.request_timeout).await?;
        memory::watch(&self.mirror.shared, prefix, from)
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.reach(revision).await?;
        match self.mirror.client.compact(revision).await {
            Ok(()) => {}
            Err(failure) if failure.kind == Kind::Compacted => {}
            Err(failure) => {
                return Err(failure.writing(format!("compact to revision {revision}"), 0));
            }
        }
        self.mirror.forget(revision);
        Ok(())
    }

    fn revision(&self) -> Revision {
        let shown = self.mirror.shared.state.read().revision();
        shown.max(self.mirror.client.known())
    }

    async fn latest_revision(&self) -> Result<Revision, Error> {
        self.ask().await
    }
}
