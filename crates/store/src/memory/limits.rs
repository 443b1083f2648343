//! How much is retained and handed out at once.

use std::time::Duration;

/// See the options of the stores.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// How many recent changes are retained.
    pub history_changes_max: usize,
    /// How many bytes of overwritten and deleted values are retained.
    pub history_bytes_max: usize,
    /// How many changes one [`WatchItem::Changes`](crate::WatchItem) holds at most (more only when
    /// they have one revision).
    pub watch_batch_changes_max: usize,
    /// How often a quiet watch reports progress, if other keys changed.
    pub progress_interval: Duration,
}
