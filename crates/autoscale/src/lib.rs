//! Pure scaling decisions: objects, measurements and a time go in, a decision with its reasons comes out.
//!
//! Nothing in this crate reads a clock, does I/O or knows a client, so the controller, the tests, a replay and
//! a simulation all call the same functions. [`hpa`] is the HorizontalPodAutoscaler, [`cron`] tells when a schedule comes round; other deciders
//! (forecasts, latency objectives, scale from zero) come beside it and produce the same [`Decision`].
//!
//! # Mutants that no test can tell apart
//!
//! `cargo-mutants` leaves these, because the two programs do the same:
//!
//! * `hpa/ending.rs`, `rescaled`: `from >= 0` for `from > 0`. Sizes are not negative, and from zero to zero is no rescale.
//! * `hpa/ending.rs`, `decision`: `to >= from` for `to > from`. A rescale has two sizes.
//! * `hpa/replicas.rs`, `conclude`: comparisons of a ratio with one that include one. A ratio of exactly one lies within every
//!   tolerance, and that is asked before.
//! * `hpa/run.rs`, `by_metrics`: `proposed >= 0` for `proposed > 0`. The metric's name is told only of growth, and to zero nothing grows.
//! * `cron/field.rs`, `range`: `bits ^ ...` for `bits | ...`. Each number comes once.
//! * `cron/schedule.rs`, `next`: `next.month() != 1` for `next.month() == 1`. What is looked at again says the same; days ask for the year, too.
//! * `replay/behavior.rs`, `store_events`: `direction != "up"` for `direction == "up"`. Growth and shrinking are remembered alike, each in a list of its own.
//! * `quantity.rs`, `scaled`: `exponent <= 0` for `exponent < 0` where the power is too large. The power of nothing is one.
//! * `quantity.rs`, `saturate`: `value <= 0` for `value < 0`. Nothing fits.
//! * `hpa/run.rs`, `normalized`: `desired <= current` for `desired < current`. A size that is to stay is held by no window.
#![forbid(unsafe_code)]

pub mod cron;
pub mod hpa;
pub mod quantity;
pub mod record;
pub mod replay;
pub mod selector;

pub use hpa::{
    Action, Arithmetic, Decision, Event, EventType, Failure, Inputs, MetricReading, PodUsage,
    Reading, Rescale, Rule, Scale, Settings, State, Step, decide, decide_after_failed_write,
};
