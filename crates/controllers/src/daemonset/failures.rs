//! How often a pod that failed is made anew on its node: a node that refuses a pod is not to be asked without end.
//!
//! Pure. 1 s, doubling to 15 min, as upstream's `failedPodsBackoff`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// A node where nothing failed for so long begins anew.
const FORGOTTEN: Duration = Duration::from_secs(2 * 15 * 60);
/// More are not remembered; the oldest knowledge goes.
const KEYS_MAX: usize = 10_000;

/// Failures by set, generation and node.
#[derive(Debug, Default)]
pub struct Failures {
    known: HashMap<String, (Instant, Duration)>,
}

impl Failures {
    /// Whether [`admit`](Self::admit) would have the failed pod replaced now.
    pub fn is_due(&self, key: &str, now: Instant) -> bool {
        let known = self.known.get(key);
        known.is_none_or(|(since, delay)| now.saturating_duration_since(*since) >= *delay)
    }

    /// The failed pod may be replaced now, or after this time.
    pub fn admit(&mut self, key: &str, now: Instant) -> Result<(), Duration> {
        self.known
            .retain(|_, (since, _)| now.saturating_duration_since(*since) <= FORGOTTEN);
        if self.known.len() >= KEYS_MAX {
            self.known.clear();
        }
        let delay = match self.known.get(key) {
            None => FIRST,
            Some((since, delay)) => {
                let passed = now.saturating_duration_since(*since);
                if passed < *delay {
                    return Err(*delay - passed);
                }
                (*delay * 2).min(LONGEST)
            }
        };
        self.known.insert(key.to_owned(), (now, delay));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_fails_again_waits_ever_longer() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        let mut admit = |key: &str, seconds: u64| {
            let now = start + Duration::from_secs(seconds);
            let due = failures.is_due(key, now);
            let outcome = failures.admit(key, now);
            assert_eq!(due, outcome.is_ok(), "{key} {seconds}");
            outcome.map_err(|wait| wait.as_secs())
        };
        assert_eq!(admit("a", 0), Ok(()));
        assert_eq!(admit("b", 0), Ok(()), "another node");
        assert_eq!(admit("a", 0), Err(1));
        assert_eq!(admit("a", 1), Ok(()));
        assert_eq!(admit("a", 2), Err(1));
        assert_eq!(admit("a", 3), Ok(()));
        assert_eq!(admit("a", 4), Err(3));
        let mut at = 10_000;
        for _ in 0..12 {
            assert_eq!(admit("a", at), Ok(()));
            at += 900;
        }
        assert_eq!(admit("a", at - 1), Err(1), "a quarter of an hour at most");
        assert_eq!(admit("a", at + 10_000), Ok(()));
        assert_eq!(admit("a", at + 10_001), Ok(()), "forgotten");
    }
}
