//! Whether and when a container that ended starts again: a pure function.
//!
//! Follows the kubelet's `ShouldContainerBeRestarted` and `doBackOff`.

use engine::ContainerStatus;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerRestartRule};

use crate::ending::note;

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

/// Whether a container starts again after it ended so: by its own rules, else its own policy, else that of its pod.
pub fn starts_again(container: &Container, policy: &str, code: i32) -> bool {
    let mut rules = container.restart_policy_rules.iter().flatten();
    let own = container.restart_policy.as_deref();
    rules.any(|rule| applies(rule, code)) || restarts_after(own.unwrap_or(policy), code)
}

/// The same of an attempt: one that a probe had end starts again however it took it, unless its policy never lets it.
pub fn comes_again(container: &Container, policy: &str, last: &ContainerStatus, code: i32) -> bool {
    let own = container.restart_policy.as_deref();
    let condemned = last.spec.annotations.contains_key(note::CONDEMNED);
    starts_again(container, policy, code) || condemned && own.unwrap_or(policy) != "Never"
}

fn applies(rule: &ContainerRestartRule, code: i32) -> bool {
    let on = rule
        .exit_codes
        .as_ref()
        .filter(|_| rule.action == "Restart");
    on.is_some_and(|on| {
        let among = on.values.iter().flatten().any(|value| *value == code);
        match on.operator.as_str() {
            "In" => among,
            "NotIn" => !among,
            _ => false,
        }
    })
}

/// When a container that ended starts again, if it does.
pub fn after_exit(again: bool, ended: &Ended, now: Timestamp) -> Step {
    if !again {
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
                started: Some(at(1000 - ran)),
                finished: at(1000),
                restarts: 4,
                crashes,
            };
            after_exit(restarts_after(policy, code), &ended, at(now))
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
    fn a_containers_own_rules_come_before_its_pods_policy() {
        let container = |own: serde_json::Value| -> Container {
            serde_json::from_value(own).expect("a container")
        };
        let rule = |operator: &str, values: &[i32]| {
            serde_json::json!({"name": "a", "restartPolicy": "Never",
            "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": operator, "values": values}}]})
        };
        for (own, policy, code, expected) in [
            (serde_json::json!({"name": "a"}), "OnFailure", 1, true),
            (serde_json::json!({"name": "a"}), "OnFailure", 0, false),
            (
                serde_json::json!({"name": "a", "restartPolicy": "Always"}),
                "Never",
                0,
                true,
            ),
            (
                serde_json::json!({"name": "a", "restartPolicy": "Never"}),
                "Always",
                1,
                false,
            ),
            (rule("In", &[42, 43]), "Never", 42, true),
            (rule("In", &[42, 43]), "Always", 1, false),
            (rule("NotIn", &[42]), "Never", 42, false),
            (rule("NotIn", &[42]), "Never", 1, true),
            (rule("Exists", &[42]), "Never", 42, false),
        ] {
            let found = starts_again(&container(own.clone()), policy, code);
            assert_eq!(found, expected, "{own} {policy} {code}");
        }
    }

    #[test]
    fn what_a_probe_ended_comes_again_however_it_took_it() {
        let container: Container =
            serde_json::from_value(serde_json::json!({"name": "a"})).expect("a container");
        let attempt = |condemned: bool| {
            let notes = condemned.then(|| (note::CONDEMNED.to_owned(), "true".to_owned()));
            let spec = engine::ContainerSpec {
                annotations: notes.into_iter().collect(),
                ..engine::ContainerSpec::default()
            };
            ContainerStatus {
                id: "a".into(),
                sandbox: "s".into(),
                spec: spec.into(),
                state: engine::State::Exited,
                pid: None,
                created_at: at(0),
                started_at: None,
                exit: None,
                paused: false,
            }
        };
        for (policy, condemned, code, expected) in [
            ("OnFailure", true, 0, true),
            ("OnFailure", false, 0, false),
            ("OnFailure", true, 1, true),
            ("Never", true, 0, false),
            ("Never", true, 1, false),
            ("Always", false, 0, true),
        ] {
            let found = comes_again(&container, policy, &attempt(condemned), code);
            assert_eq!(found, expected, "{policy} {condemned} {code}");
        }
    }

    #[test]
    fn a_container_that_ended_tomorrow_starts_now() {
        let ended = Ended {
            started: Some(at(86_000)),
            finished: at(86_400),
            restarts: 3,
            crashes: 3,
        };
        let start = Step::Start {
            restarts: 4,
            crashes: 4,
        };
        assert_eq!(after_exit(true, &ended, at(0)), start);
        assert_eq!(after_exit(true, &ended, at(172_800)), start);
        assert!(matches!(
            after_exit(true, &ended, at(86_400)),
            Step::BackOff { .. }
        ));
    }

    #[test]
    fn a_clock_that_jumps_back_does_no_harm() {
        let ended = Ended {
            started: Some(at(2000)),
            finished: at(1000),
            restarts: i32::MAX,
            crashes: u32::MAX,
        };
        assert_eq!(
            after_exit(true, &ended, at(5000)),
            Step::Start {
                restarts: i32::MAX,
                crashes: u32::MAX
            }
        );
    }
}
