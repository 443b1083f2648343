//! Why the store did not do what it was asked.

use crate::{KeyValue, Revision};

/// An error of any [`Store`](crate::Store). Cloneable, because one failed commit answers many
/// callers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The key is not in the state that the write expected; here is the state it is in.
    #[error("the key changed since it was read ({}); read it again and retry", describe(.current))]
    Conflict {
        /// The key as it is now.
        current: Option<KeyValue>,
    },
    /// There is no such key.
    #[error("there is no such key")]
    NotFound,
    /// The revision asked for has left the retained window.
    #[error(
        "the changes since that revision are no longer retained (the oldest revision is {oldest}); list again"
    )]
    Compacted {
        /// The oldest revision that can be listed or watched from.
        oldest: Revision,
    },
    /// The revision asked for does not exist yet.
    #[error("revision {requested} does not exist yet (the store is at {current})")]
    Future {
        /// What was asked for.
        requested: Revision,
        /// Where the store is.
        current: Revision,
    },
    /// The reader of a watch was too slow: its next change has left the retained window.
    #[error("the watch fell behind the retained changes; list and watch again")]
    Lagged,
    /// A key must not be empty.
    #[error("a key must not be empty")]
    EmptyKey,
    /// A key or value is beyond its limit.
    #[error("the {what} of {size_bytes} bytes is too large: the limit is {limit_bytes} bytes")]
    TooLarge {
        /// `key` or `value`.
        what: &'static str,
        /// How large it is.
        size_bytes: usize,
        /// How large it may be.
        limit_bytes: usize,
    },
    /// A newer version of the program wrote the file.
    #[error(
        "{file} has store format {found}, and this version supports formats up to {supported}; \
         run the version that wrote it, or start with another data directory"
    )]
    NewerFormat {
        /// The file (or what stands for it).
        file: String,
        /// The format of the file.
        found: u64,
        /// The newest format this version can read.
        supported: u64,
    },
    /// The file is damaged, or is not a store at all.
    #[error(
        "{file} is not a usable store: {reason}; restore it from a backup, or move it away to start empty"
    )]
    Corrupt {
        /// The file (or what stands for it).
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process has the file open.
    #[error(
        "{file} is in use by another process; stop that one first, or use another data directory"
    )]
    InUse {
        /// The file.
        file: String,
    },
    /// Reading or writing failed. After a failed write, reads go on.
    #[error("cannot {attempted}: {reason}")]
    Io {
        /// What was attempted, on what.
        attempted: String,
        /// Why it failed, and what to do.
        reason: String,
    },
    /// The storage service cannot be reached, or does not answer for now. Nothing was done.
    #[error("cannot {attempted}: {reason}; nothing was changed, try again")]
    Unavailable {
        /// What was attempted, on what.
        attempted: String,
        /// Why it failed.
        reason: String,
    },
    /// The answer to a write was lost: it may have happened or may still happen.
    #[error(
        "it is not known whether the store could {attempted}: {reason}; \
         read it again before trying once more"
    )]
    Undecided {
        /// What was attempted, on what.
        attempted: String,
        /// How the answer was lost.
        reason: String,
    },
    /// The storage service has used up its room. Nothing was done.
    #[error("cannot {attempted}: {reason}")]
    NoSpace {
        /// What was attempted, on what.
        attempted: String,
        /// What it said, and what to do.
        reason: String,
    },
    /// The storage service refuses this program: credentials, certificates or settings are wrong.
    #[error("cannot {attempted}: {reason}")]
    Refused {
        /// What was attempted, on what.
        attempted: String,
        /// What it said, and what to do.
        reason: String,
    },
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

fn describe(current: &Option<KeyValue>) -> String {
    match current {
        Some(current) => format!("it is at revision {}", current.mod_revision),
        None => "it does not exist".to_string(),
    }
}
