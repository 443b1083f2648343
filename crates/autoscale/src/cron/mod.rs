//! When a schedule in cron's notation comes round: a text is parsed, and a moment gives the next one.
//!
//! Follows github.com/robfig/cron v3 (`ParseStandard`, `Schedule.Next`), which Kubernetes uses for CronJobs, down to its
//! messages. Deliberately absent: clocks, waiting, anything about jobs.

mod duration;
mod field;
mod schedule;
mod zone;

pub use schedule::{Schedule, without_zone};
pub use zone::zone;

/// Why a text is no schedule, in the words of the library that upstream uses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub(crate) String);
