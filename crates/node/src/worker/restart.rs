//! Whether and when a container that ended starts again: a pure function.
//!
//! Follows the kubelet's `ShouldContainerBeRestarted` and `doBackOff`.

use jiff::Timestamp;

const BACKOFF_S: u64 = 10;
const BACKOFF_S_MAX: u64 = 300;
/// A container that ran this long has recovered: its next crash is its first.
const RECOVERED_S: i64 = 600;

/// The supervising process's clock is ours, but for the reading of it.
const SKEW_S: i64 = 2;

/// What to do about a container.
#[derive(Debug, PartialEq)]
pub enum Step {
    Leave,
    Start {
        restarts: i32,
        crashes: u32,
    },
    /// Not before this moment.
    BackOff {
        until: Timestamp,
        seconds: u64,
    },
}

/// How an attempt ended.
pub struct Ended {
    pub code: i32,
    pub started: Option<Timestamp>,
    pub finished: Timestamp,
    /// Attempts before this one, and those of them that count towards the wait.
    pub restarts: i32,
    pub crashes: u32,
}

/// Seconds to wait after so many failures in a row: 10, 20, 40, … 300.
pub fn backoff_s(failures: u32) -> u64 {
    (BACKOFF_S << failures.min(5)).min(BACKOFF_S_MAX)
}

/// Whether the policy lets a container that ended so start again.
pub fn restarts_after(policy: &str, code: i32) -> bool {
    match policy {
        "Always" => true,
        "OnFailure" => code != 0,
        _ => false,
    }
}

/// Whether and when a container that ended starts again.
pub fn after_exit(policy: &str, ended: &Ended, now: Timestamp) -> Step {
    if !restarts_after(policy, ended.code) {
        return Step::Leave;
    }
    let ran_s = ended.started.map_or(0, |started| {
        ended
            .finished
            .as_second()
            .saturating_sub(started.as_second())
    });
    let crashes = if ran_s >= RECOVERED_S {
        0
    } else {
        ended.crashes
    };
    // the first restart comes at once, then after 10 s, 20 s, 40 s, … as the kubelet has it
    let seconds = if crashes == 0 {
        0
    } else {
        backoff_s(crashes - 1)
    };
    let until = Timestamp::from_second(ended.finished.as_second().saturating_add(seconds as i64))
        .unwrap_or(ended.finished);
    // an end that is still to come was told by a clock that has been set back since: nobody waits for it again
    let clock_went_back = ended.finished.as_second() > now.as_second().saturating_add(SKEW_S);
    if seconds > 0 && now < until && !clock_went_back {
        return Step::BackOff { until, seconds };
    }
    Step::Start {
        restarts: ended.restarts.saturating_add(1),
        crashes: crashes.saturating_add(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("time")
    }

    #[test]
    fn restarts_back_off_as_the_kubelets_do() {
        let after = |policy, code, ran: i64, crashes, now| {
            let ended = Ended {
                code,
                started: Some(at(1000 - ran)),
                finished: at(1000),
                restarts: 4,
                crashes,
            };
            after_exit(policy, &ended, at(now))
        };
        assert_eq!(after("Never", 1, 5, 0, 1000), Step::Leave);
        assert_eq!(after("OnFailure", 0, 5, 0, 1000), Step::Leave);
        assert_eq!(
            after("OnFailure", 1, 5, 0, 1000),
            Step::Start {
                restarts: 5,
                crashes: 1
            }
        );
        assert_eq!(
            after("Always", 0, 5, 1, 1000),
            Step::BackOff {
                until: at(1010),
                seconds: 10
            }
        );
        assert_eq!(
            after("Always", 0, 5, 1, 1010),
            Step::Start {
                restarts: 5,
                crashes: 2
            }
        );
        assert_eq!(
            after("Always", 1, 5, 3, 1001),
            Step::BackOff {
                until: at(1040),
                seconds: 40
            }
        );
        assert_eq!(
            after("Always", 1, 5, 900, 1001),
            Step::BackOff {
                until: at(1300),
                seconds: 300
            }
        );
        assert_eq!(
            after("Always", 1, 600, 900, 1001),
            Step::Start {
                restarts: 5,
                crashes: 1
            },
            "ten minutes heal"
        );
    }

    #[test]
    fn a_container_that_ended_tomorrow_starts_now() {
        let ended = Ended {
            code: 1,
            started: Some(at(86_000)),
            finished: at(86_400),
            restarts: 3,
            crashes: 3,
        };
        let start = Step::Start {
            restarts: 4,
            crashes: 4,
        };
        assert_eq!(after_exit("Always", &ended, at(0)), start);
        assert_eq!(after_exit("Always", &ended, at(172_800)), start);
        assert!(matches!(
            after_exit("Always", &ended, at(86_400)),
            Step::BackOff { .. }
        ));
    }

    #[test]
    fn a_clock_that_jumps_back_does_no_harm() {
        let ended = Ended {
            code: 1,
            started: Some(at(2000)),
            finished: at(1000),
            restarts: i32::MAX,
            crashes: u32::MAX,
        };
        assert_eq!(
            after_exit("Always", &ended, at(5000)),
            Step::Start {
                restarts: i32::MAX,
                crashes: u32::MAX
            }
        );
    }
}
