//! The limits of an embedded store.

use std::time::Duration;

use crate::memory::Limits;

/// How much an embedded store retains and takes on at once. The defaults suit one machine.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many recent changes are retained. Well above `commit_writes_max`, or watches that keep
    /// up can lag.
    pub history_changes_max: usize,
    /// How many bytes of overwritten and deleted values are retained, in memory and in the file.
    pub history_bytes_max: usize,
    /// How many writes wait for the writer before further callers wait to enqueue theirs.
    pub queue_writes_max: usize,
    /// How many bytes of keys and values wait for the writer, or are being written, before further
    /// callers wait.
    pub queue_bytes_max: usize,
    /// How many writes share one commit.
    pub commit_writes_max: usize,
    /// How many bytes of keys and values share one commit (a single larger write still gets one).
    pub commit_bytes_max: usize,
    /// How many changes one [`WatchItem::Changes`](crate::WatchItem) holds at most.
    pub watch_batch_changes_max: usize,
    /// How often a quiet watch reports [`WatchItem::Progress`](crate::WatchItem), if other keys
    /// changed.
    pub progress_interval: Duration,
    /// The database's page cache. Small, because reads never reach the disk.
    pub cache_bytes: usize,
    /// How much more than what it holds the file may be before it is compacted: when it is opened,
    /// and in a pause of the writes.
    pub unused_bytes_max: u64,
    /// How long a file that could not be written is left alone before it is opened again: that reads it whole, and writes
    /// come all the time. They are refused meanwhile.
    pub reopen_pause: Duration,
}

impl Options {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            history_changes_max: self.history_changes_max,
            history_bytes_max: self.history_bytes_max,
            watch_batch_changes_max: self.watch_batch_changes_max,
            progress_interval: self.progress_interval,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            history_changes_max: 10_000,
            history_bytes_max: 8 * 1024 * 1024,
            queue_writes_max: 1024,
            queue_bytes_max: 16 * 1024 * 1024,
            commit_writes_max: 512,
            commit_bytes_max: 8 * 1024 * 1024,
            watch_batch_changes_max: 256,
            progress_interval: Duration::from_secs(5),
            cache_bytes: 4 * 1024 * 1024,
            unused_bytes_max: 16 * 1024 * 1024,
            reopen_pause: Duration::from_millis(250),
        }
    }
}
