//! The store of one machine: one file, one writer, everything in memory.
//!
//! Requests wait in a bounded queue. The writer thread takes all that wait, decides what they
//! change, commits that in one durable transaction (group commit), shows it to readers and watches,
//! and answers. What memory shows is therefore always what the disk holds; when a commit fails,
//! reads go on and writes are refused until the file can be written again.

mod create;
mod disk;
mod guard;
mod options;
mod plan;
mod queue;
mod record;
mod snapshot;
mod source;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use bytes::Bytes;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use tokio::sync::oneshot;

pub use options::Options;
pub use snapshot::{Snapshot, restore};

use crate::limits::{check_key, check_value};
use crate::memory::{self, Shared};
use crate::{Error, Expect, KeyValue, Page, Revision, Store, WatchStream};
use disk::Disk;
use plan::Request;
use queue::Entrance;

use source::Source;
use writer::{Writable, Writer};

/// A [`Store`] in one file. Dropping it completes the writes that have been accepted, closes the
/// file and ends all watches with [`Error::Closed`]; that takes about as long as one commit.
///
/// Watches need a Tokio runtime with timers.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    /// `None` only while being dropped.
    entrance: Option<Entrance>,
    writer: Option<JoinHandle<()>>,
}

impl EmbeddedStore {
    /// Opens the store in the file at `path`, and creates it (and its directory) if it is not
    /// there. Reads and checks the whole file before it returns.
    ///
    /// [`Error::NewerFormat`] and [`Error::Corrupt`] when the file is not one this version can use
    /// (it is left as it is), [`Error::InUse`] when another process has it open.
    pub fn open(path: &Path, options: Options) -> Result<Self, Error> {
        Self::start(Source::file(path), options)
    }

    /// Opens a store on any storage. After a failed write it stays read-only, because the storage
    /// cannot be opened again; see [`open_with_backends`](Self::open_with_backends).
    pub fn open_with_backend(
        backend: impl StorageBackend,
        options: Options,
    ) -> Result<Self, Error> {
        let mut backend = Some(backend);
        let make = move || {
            backend.take().ok_or_else(|| Error::Io {
                attempted: "open the storage again".to_string(),
                reason: "a write to it failed before; restart".to_string(),
            })
        };
        Self::open_with_backends(make, options)
    }

    /// Opens a store on storage that `make` opens: once at first, and again after each failed write
    /// when the last one has been closed.
    pub fn open_with_backends<B: StorageBackend>(
        make: impl FnMut() -> Result<B, Error> + Send + 'static,
        options: Options,
    ) -> Result<Self, Error> {
        Self::start(Source::backends("the storage".to_string(), make), options)
    }

    /// A store that lives in memory only.
    pub fn in_memory() -> Result<Self, Error> {
        Self::open_with_backend(InMemoryBackend::new(), Options::default())
    }

    /// Everything that the store holds now, at one revision. Takes no time to speak of, shares the
    /// values with the store and keeps nobody waiting.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.shared.state.read();
        Snapshot::new(state.revision(), state.items())
    }

    fn start(mut source: Source, options: Options) -> Result<Self, Error> {
        let (disk, state) = Disk::open(&mut source, &options)?;
        let (entrance, queue) = queue::queue(&options);
        let shared = Arc::new(Shared::new(state, options.limits()));
        let writer = Writer {
            shared: shared.clone(),
            options,
            source,
            disk: Writable::Yes(disk),
            queue,
        };
        let thread = thread::Builder::new()
            .name("store-writer".to_string())
            .spawn(move || writer.run())
            .map_err(|why| Error::Io {
                attempted: "start the store's writer thread".to_string(),
                reason: why.to_string(),
            })?;
        Ok(Self {
            shared,
            entrance: Some(entrance),
            writer: Some(thread),
        })
    }

    async fn request<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Request,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.entrance
            .as_ref()
            .ok_or(Error::Closed)?
            .send(make(reply))
            .await?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        drop(self.entrance.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer thread had panicked");
        }
    }
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore")
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision), Error> {
        let state = self.shared.state.read();
        Ok((
            state.entry(key).map(|entry| entry.key_value(key)),
            state.revision(),
        ))
    }

    async fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        revision: Option<Revision>,
    ) -> Result<Page, Error> {
        let listing = self
            .shared
            .state
            .read()
            .range(prefix, after, limit, revision)?;
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
        // A view of a larger buffer would keep all of it in memory.
        let value = Bytes::copy_from_slice(&value);
        self.request(|reply| Request::Put {
            key: key.into(),
            value,
            expect,
            reply,
        })
        .await
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<(KeyValue, Revision), Error> {
        check_key(key)?;
        self.request(|reply| Request::Delete {
            key: key.into(),
            expect,
            reply,
        })
        .await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, Error> {
        memory::watch(&self.shared, prefix, from)
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.request(|reply| Request::Compact { revision, reply })
            .await
    }

    fn revision(&self) -> Revision {
        self.shared.state.read().revision()
    }
}
