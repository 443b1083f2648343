//! Who a process is: its pid together with its start time, so that a reused pid is never taken for it.

use serde::{Deserialize, Serialize};
use std::fs;

/// A process that cannot be mistaken for a later one with the same pid.
///
/// The default is nobody: a process of no boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: u32,
    /// Clock ticks after boot, field 22 of `/proc/PID/stat` (proc(5)).
    pub start_time: u64,
    /// The boot that it belongs to.
    pub boot_id: String,
}

impl ProcessId {
    /// The process with this pid, if there is one that has not ended.
    pub fn of(pid: u32) -> Option<ProcessId> {
        let (state, start_time) = stat(pid)?;
        (state != 'Z' && state != 'X').then(|| ProcessId {
            pid,
            start_time,
            boot_id: boot_id(),
        })
    }

    /// Whether this very process still runs.
    pub fn alive(&self) -> bool {
        self.boot_id == boot_id()
            && ProcessId::of(self.pid).is_some_and(|now| now.start_time == self.start_time)
    }
}

/// This boot's identity; empty where the kernel does not tell.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// Start time of a process, ended or not, while it has not been reaped.
pub fn start_time(pid: u32) -> Option<u64> {
    stat(pid).map(|(_, start_time)| start_time)
}

fn stat(pid: u32) -> Option<(char, u64)> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<(char, u64)> {
    // The name in parentheses may hold anything, spaces and parentheses included.
    let rest = &text[text.rfind(')')? + 1..];
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let start_time = fields.nth(18)?.parse().ok()?;
    Some((state, start_time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_of_a_process_with_a_hostile_name() {
        let line = "42 (a) R (b c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1000 10";
        assert_eq!(parse_stat(line), Some(('S', 987654)));
        for bad in ["", "42", "42 (x", "42 (x) S 1 2"] {
            assert_eq!(parse_stat(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn this_process_is_alive_and_another_start_time_is_not() {
        let me = ProcessId::of(std::process::id()).expect("own process");
        assert!(me.alive());
        assert!(
            !ProcessId {
                start_time: me.start_time + 1,
                ..me.clone()
            }
            .alive()
        );
        assert!(
            !ProcessId {
                boot_id: "another".into(),
                ..me
            }
            .alive()
        );
    }
}
