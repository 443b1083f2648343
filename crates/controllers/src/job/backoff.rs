//! How long a Job waits before it replaces a failed pod: ten seconds, doubling to ten minutes.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::pod;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);

/// Failures since the last success, and when the last one was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    pub count: u32,
    pub last: Option<Timestamp>,
}

impl Failures {
    /// With pods that have ended since.
    pub fn and(self, succeeded: &[Arc<Pod>], failed: &[Arc<Pod>]) -> Self {
        let ends = failed.iter().map(|pod| pod::ended_at(pod));
        let success = succeeded.iter().map(|pod| pod::ended_at(pod)).max();
        let (before, ends): (Self, Vec<Timestamp>) = match success {
            None => (self, ends.collect()),
            Some(success) => (Self::default(), ends.filter(|end| *end > success).collect()),
        };
        match ends.iter().max() {
            None => before,
            Some(last) => Self {
                count: before
                    .count
                    .saturating_add(u32::try_from(ends.len()).unwrap_or(u32::MAX)),
                last: Some(*last),
            },
        }
    }

    /// Of one index, as its last failed pod tells.
    pub fn of_index(last: &Pod) -> Self {
        let before = pod::failures(last).saturating_add(pod::ignored_failures(last));
        Self {
            count: u32::try_from(before).unwrap_or(0).saturating_add(1),
            last: Some(pod::ended_at(last)),
        }
    }

    /// What is left of the wait. A failure that is still to come (the clock went back) does not lengthen it.
    pub fn wait(self, now: Timestamp) -> Duration {
        let Some(last) = self.last.filter(|_| self.count > 0) else {
            return Duration::ZERO;
        };
        let doubled = 1_u32.checked_shl(self.count - 1).unwrap_or(u32::MAX);
        let whole = FIRST.saturating_mul(doubled).min(LONGEST);
        let passed = Duration::try_from(now.duration_since(last)).unwrap_or_default();
        whole.saturating_sub(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn ended(second: i64) -> Arc<Pod> {
        let statuses = json!([{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 1, "finishedAt": at(second).to_string()}}}]);
        Arc::new(
            serde_json::from_value(json!({"status": {"containerStatuses": statuses}})).unwrap(),
        )
    }

    #[test]
    fn a_success_forgives_the_failures_before_it() {
        let failures = |count, last: Option<i64>| Failures {
            count,
            last: last.map(at),
        };
        for (before, succeeded, failed, expected) in [
            (failures(0, None), vec![], vec![], failures(0, None)),
            (failures(0, None), vec![], vec![5], failures(1, Some(5))),
            (
                failures(2, Some(1)),
                vec![],
                vec![7, 5],
                failures(4, Some(7)),
            ),
            (failures(2, Some(1)), vec![], vec![], failures(2, Some(1))),
            (failures(2, Some(1)), vec![3], vec![], failures(0, None)),
            (
                failures(2, Some(1)),
                vec![6],
                vec![5, 7, 9],
                failures(2, Some(9)),
            ),
            (failures(2, Some(1)), vec![6], vec![5], failures(0, None)),
        ] {
            let pods = |ends: Vec<i64>| ends.into_iter().map(ended).collect::<Vec<_>>();
            assert_eq!(before.and(&pods(succeeded), &pods(failed)), expected);
        }
    }

    #[test]
    fn the_wait_doubles_from_the_last_failure() {
        for (count, now, expected) in [
            (0, 0, 0),
            (1, 0, 10),
            (1, 4, 6),
            (1, 10, 0),
            (1, 100, 0),
            (2, 0, 20),
            (6, 0, 320),
            (7, 0, 600),
            (99, 0, 600),
            // the clock went back
            (1, -50, 10),
        ] {
            let failures = Failures {
                count,
                last: Some(at(0)),
            };
            assert_eq!(
                failures.wait(at(now)),
                Duration::from_secs(expected),
                "{count} {now}"
            );
        }
    }
}
