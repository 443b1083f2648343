//! What goes into a store and comes out of it.

use bytes::Bytes;

/// The number of a change in the store's one global sequence. The first change gets 2: an empty
/// store is at revision 1, as etcd's is, so that 0 can mean "none" to callers.
pub type Revision = u64;

/// A key as it was at some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// The value; clones share one allocation.
    pub value: Bytes,
    /// The revision that created the key (since it was last deleted).
    pub create_revision: Revision,
    /// The revision that last changed the key.
    pub mod_revision: Revision,
    /// How many times the key was set since it was created, from 1.
    pub version: u64,
}

/// What must hold for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Any,
    /// The key does not exist.
    Absent,
    /// The key exists and was last changed by this revision.
    Revision(Revision),
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The keys and values, in byte order of the keys.
    pub items: Vec<KeyValue>,
    /// The revision that the whole list shows.
    pub revision: Revision,
    /// Whether keys follow after this page.
    pub more: bool,
    /// How many keys follow after this page. Not counted again for a page that goes on (`after`) at a revision: it is what
    /// followed the page before, less this page's keys.
    pub remaining: Option<u64>,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key was created (`previous` is `None`) or changed.
    Put {
        /// The key after the change.
        current: KeyValue,
        /// The key before the change.
        previous: Option<KeyValue>,
    },
    /// The key was deleted.
    Delete {
        /// The key before the change.
        previous: KeyValue,
        /// The revision of the deletion.
        revision: Revision,
    },
}

impl Change {
    /// The key that changed.
    pub fn key(&self) -> &str {
        match self {
            Change::Put { current, .. } => &current.key,
            Change::Delete { previous, .. } => &previous.key,
        }
    }

    /// The revision of the change.
    pub fn revision(&self) -> Revision {
        match self {
            Change::Put { current, .. } => current.mod_revision,
            Change::Delete { revision, .. } => *revision,
        }
    }
}

/// What a watch delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchItem {
    /// Changes in revision order; never empty.
    Changes(Vec<Change>),
    /// Every change up to this revision that the watch asks for has been delivered. Comes once when
    /// the past has been replayed, then from time to time while other keys change.
    Progress(Revision),
}
