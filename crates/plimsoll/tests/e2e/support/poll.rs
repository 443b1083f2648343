//! Waiting for something to become true, with a deadline.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Generous: it bounds a failing test, it measures nothing.
const DEADLINE: Duration = Duration::from_secs(75);
/// How many times as long everything may take, a whole number: for machines that are emulated. Without it once.
const PATIENCE_VARIABLE: &str = "PLIMSOLL_E2E_PATIENCE";
const PERIOD: Duration = Duration::from_millis(200);

/// See [`PATIENCE_VARIABLE`].
pub fn patience() -> u32 {
    let told = std::env::var(PATIENCE_VARIABLE).ok();
    told.map_or(1, |times| times.parse().expect("a whole number"))
}

/// How long a test waits for anything.
pub fn deadline() -> Duration {
    DEADLINE * patience()
}

/// Tries until it works; fails with the last reason why it did not.
#[track_caller]
pub fn eventually<T, E: Display>(what: &str, mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let until = Instant::now() + deadline();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(reason) if Instant::now() > until => {
                panic!(
                    "not within {} s: {what}; at last: {reason}",
                    deadline().as_secs()
                )
            }
            Err(_) => std::thread::sleep(PERIOD),
        }
    }
}
