//! When memory, disk or process ids run short: what can be reclaimed is, then pods go, and meanwhile none come.
//!
//! The decisions are pure functions (`decide`, `rank`, `message`, `admit`, `reserve`); `manager` and `images` are the shell.

mod admit;
mod conditions;
mod decide;
mod images;
mod manager;
mod measure;
mod message;
mod rank;
mod reclaim;
mod reserve;
mod settings;
mod signal;
mod threshold;

use std::collections::BTreeSet;

pub use admit::{Refusal, admit};
pub use conditions::conditions;
pub use manager::{Evictions, Order, run};
pub use measure::tasks_of_machine;
pub use reserve::{Allocatable, Division, Reserved, divide};
pub use settings::Settings;
pub use signal::Pressure;
pub use threshold::{Reclaims, Thresholds};

/// What the node is short of now; the node's status and the admission of pods follow it.
pub type Conditions = tokio::sync::watch::Receiver<BTreeSet<Pressure>>;
