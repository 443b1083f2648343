//! A revisioned key-value store with compare-and-swap, consistent paged lists and gap-free watches,
//! modelled on etcd v3.
//!
//! Two of them: [`EmbeddedStore`] in a file of this process, [`EtcdStore`] on etcd, which several
//! processes can share.
//!
//! Every successful write gets the next [`Revision`] of one global sequence. Reads and watches are
//! answered from memory, a write returns once it is durable. A bounded window of recent changes is
//! retained: inside it a list can be continued at its own revision and a watch resumed without a
//! gap, also after a restart; outside it the answer is [`Error::Compacted`].
//!
//! The crate knows nothing about what it stores: keys are text, values are bytes.
#![forbid(unsafe_code)]

pub mod embedded;
mod error;
pub mod etcd;
mod limits;
mod memory;
mod types;

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;

pub use embedded::EmbeddedStore;
pub use error::Error;
pub use etcd::EtcdStore;
pub use limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
pub use types::{Change, Expect, KeyValue, Page, Revision, WatchItem};

/// The changes of one watch, in revision order. An error is always the last item.
pub type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchItem, Error>> + Send>>;

/// What the API server needs from its storage, whatever the storage is.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The current value of a key, and the revision of the whole store it was read at.
    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision), Error>;

    /// The keys that start with `prefix` and come strictly after `after`, in byte order, at most
    /// `limit` of them (0 = all), as they were at `revision` (`None` = now).
    ///
    /// A list is paged consistently by passing the first page's [`Page::revision`] and the last key
    /// of each page to the next call. [`Error::Compacted`] when `revision` has left the retained
    /// window, [`Error::Future`] when it does not exist yet.
    async fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        revision: Option<Revision>,
    ) -> Result<Page, Error>;

    /// Sets a key when `expect` holds, and returns what is stored now. Durable when it returns.
    ///
    /// [`Error::Conflict`] when `expect` does not hold, [`Error::TooLarge`] beyond
    /// [`KEY_BYTES_MAX`] and [`VALUE_BYTES_MAX`]. After [`Error::Io`] the value *may* have reached
    /// the disk: read again; after [`Error::Undecided`] likewise. Dropping the future does not take back a write that has started.
    async fn put(&self, key: &str, value: Bytes, expect: Expect) -> Result<KeyValue, Error>;

    /// Deletes a key when `expect` holds. Returns its last value and the revision of the deletion.
    /// Durable when it returns. [`Error::NotFound`] when there is no such key.
    async fn delete(&self, key: &str, expect: Expect) -> Result<(KeyValue, Revision), Error>;

    /// Every change with a revision greater than `from` of the keys that start with `prefix`, past
    /// ones first. None is lost or delivered twice between the two.
    ///
    /// [`Error::Compacted`] when changes after `from` are no longer all retained,
    /// [`Error::Future`] when `from` does not exist yet. The stream ends with [`Error::Lagged`]
    /// when the reader falls so far behind that its next change has left the window, and with
    /// [`Error::Closed`] when the store closes.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, Error>;

    /// Forgets the changes up to and including `revision`, which stays the oldest revision that can
    /// be listed or watched from. Compacting what is already compacted does nothing.
    async fn compact(&self, revision: Revision) -> Result<(), Error>;

    /// The revision of the last durable change this process knows of; 1 in a store that never saw
    /// one.
    fn revision(&self) -> Revision;

    /// The revision of the last durable change, also when another process made it.
    async fn latest_revision(&self) -> Result<Revision, Error> {
        Ok(self.revision())
    }
}
