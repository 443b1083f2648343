//! What a store shows its readers and watches: the current entries and a window of recent changes,
//! in memory. Whoever owns it applies changes in the order of their revisions: the embedded store
//! when they are on the disk, the one on etcd when etcd's watch delivers them.

mod directories;
mod limits;
mod record;
mod shared;
mod state;
mod watch;

pub(crate) use limits::Limits;
pub(crate) use record::{Entry, Record};
pub(crate) use shared::Shared;
pub(crate) use state::{Item, State};
pub(crate) use watch::watch;
