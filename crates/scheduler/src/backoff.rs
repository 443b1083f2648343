//! How long to wait after failures: watches start again quickly.

use std::time::Duration;

use kube::runtime::utils::Backoff;

/// 20 ms, doubling to 5 s. `kube`'s default begins at 800 ms, which one 410 turns into visible delay.
#[derive(Clone, Debug, Default)]
pub struct TriggerBackoff {
    failures: u32,
}

impl Iterator for TriggerBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = Duration::from_millis(20 << self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        Some(delay.min(Duration::from_secs(5)))
    }
}

impl Backoff for TriggerBackoff {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_its_cap_and_starts_again() {
        let mut backoff = TriggerBackoff::default();
        let delays: Vec<u128> = backoff
            .by_ref()
            .take(10)
            .map(|delay| delay.as_millis())
            .collect();
        assert_eq!(delays, [20, 40, 80, 160, 320, 640, 1280, 2560, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.next().map(|delay| delay.as_millis()), Some(20));
    }
}
