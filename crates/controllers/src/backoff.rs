//! How long to wait after failures: watches start again quickly, keys of one controller grow slower one by one.

use std::collections::HashMap;
use std::time::Duration;

use kube::runtime::utils::Backoff;
use parking_lot::Mutex;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(5);
/// Objects that were deleted while failing are forgotten with all others when so many have gathered.
const KEYS_MAX: usize = 10_000;

/// 20 ms, doubling to 5 s. `kube`'s default begins at 800 ms, which one 410 turns into visible delay.
#[derive(Clone, Debug, Default)]
pub struct TriggerBackoff {
    failures: u32,
}

impl Iterator for TriggerBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = nth(FIRST, LONGEST, self.failures);
        self.failures = self.failures.saturating_add(1);
        Some(delay)
    }
}

impl Backoff for TriggerBackoff {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Failures per object: the delay doubles from 5 ms to 30 s and starts anew after a success.
#[derive(Debug, Default)]
pub struct KeyedBackoff {
    failures: Mutex<HashMap<String, u32>>,
}

impl KeyedBackoff {
    /// The delay before `key` is tried again.
    pub fn failed(&self, key: &str) -> Duration {
        let mut failures = self.failures.lock();
        if failures.len() >= KEYS_MAX {
            failures.clear();
        }
        let count = failures.entry(key.to_owned()).or_insert(0);
        let delay = nth(Duration::from_millis(5), Duration::from_secs(30), *count);
        *count = count.saturating_add(1);
        delay
    }

    /// `key` succeeded or is gone.
    pub fn succeeded(&self, key: &str) {
        self.failures.lock().remove(key);
    }
}

fn nth(first: Duration, longest: Duration, failures: u32) -> Duration {
    first
        .saturating_mul(1_u32.checked_shl(failures.min(20)).unwrap_or(u32::MAX))
        .min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trigger_backoff_doubles_to_its_cap_and_starts_again() {
        let mut backoff = TriggerBackoff::default();
        let delays: Vec<u128> = backoff
            .by_ref()
            .take(10)
            .map(|delay| delay.as_millis())
            .collect();
        assert_eq!(delays, [20, 40, 80, 160, 320, 640, 1280, 2560, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.next(), Some(FIRST));
    }

    #[test]
    fn keys_back_off_by_themselves() {
        let backoff = KeyedBackoff::default();
        assert_eq!(backoff.failed("a").as_millis(), 5);
        assert_eq!(backoff.failed("a").as_millis(), 10);
        assert_eq!(backoff.failed("b").as_millis(), 5);
        backoff.succeeded("a");
        assert_eq!(backoff.failed("a").as_millis(), 5);
        for _ in 0..100 {
            backoff.failed("c");
        }
        assert_eq!(backoff.failed("c"), Duration::from_secs(30));
    }
}
