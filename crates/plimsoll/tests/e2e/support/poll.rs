//! Waiting for something to become true, with a deadline.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Generous: it bounds a failing test, it measures nothing.
pub const DEADLINE: Duration = Duration::from_secs(75);
const PERIOD: Duration = Duration::from_millis(200);

/// Tries until it works; fails with the last reason why it did not.
#[track_caller]
pub fn eventually<T, E: Display>(what: &str, mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(reason) if Instant::now() > deadline => {
                panic!(
                    "not within {} s: {what}; at last: {reason}",
                    DEADLINE.as_secs()
                )
            }
            Err(_) => std::thread::sleep(PERIOD),
        }
    }
}
