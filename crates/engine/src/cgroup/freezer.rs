//! Stopping all processes of a group in their tracks and letting them go on: `freezer.state` on v1, `cgroup.freeze` on v2.

use super::Cgroups;
use super::hierarchy::subdirectories;
use crate::error::Error;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long the processes of a group may take to stop; one that waits for a disk cannot be stopped before.
const FREEZE_MAX: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

impl Cgroups {
    /// Freezes the group and waits until every process in it has stopped. Blocks up to ten seconds; when some process does not
    /// stop in that time, all go on.
    pub fn pause(&self, path: &str) -> Result<(), Error> {
        let until = Instant::now() + FREEZE_MAX;
        while Instant::now() < until {
            // Again and again: on v1 what forks meanwhile may escape.
            self.freeze(path, true);
            if self.processes(path).is_empty() {
                self.freeze(path, false);
                let reason =
                    std::io::Error::new(std::io::ErrorKind::NotFound, "no process is in it");
                return Err(Error::io("freeze the cgroup", Path::new(path), reason));
            }
            if self.frozen(path) {
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        self.freeze(path, false);
        let reason = std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "a process in it does not stop; is it waiting for a disk or network file system?",
        );
        Err(Error::io("freeze the cgroup", Path::new(path), reason))
    }

    /// Lets the processes of the group go on; fine when they do already.
    pub fn unpause(&self, path: &str) {
        self.freeze(path, false);
    }

    /// Whether every process of the group has been stopped.
    pub fn frozen(&self, path: &str) -> bool {
        self.hierarchies
            .iter()
            .filter(|hierarchy| hierarchy.unified || hierarchy.has("freezer"))
            .any(|hierarchy| {
                let file = if hierarchy.unified {
                    "cgroup.events"
                } else {
                    "freezer.state"
                };
                let text = fs::read_to_string(hierarchy.dir(path).join(file)).unwrap_or_default();
                says_frozen(&text)
            })
    }

    pub(super) fn freeze(&self, path: &str, frozen: bool) {
        for hierarchy in &self.hierarchies {
            let (file, value) = match (hierarchy.unified, frozen) {
                (true, true) => ("cgroup.freeze", "1"),
                (true, false) => ("cgroup.freeze", "0"),
                (false, true) => ("freezer.state", "FROZEN"),
                (false, false) => ("freezer.state", "THAWED"),
            };
            if !hierarchy.unified && !hierarchy.has("freezer") {
                continue;
            }
            let mut dirs = vec![hierarchy.dir(path)];
            while let Some(dir) = dirs.pop() {
                dirs.extend(subdirectories(&dir));
                // A group that went away meanwhile has nothing to freeze.
                let _ = fs::write(dir.join(file), value);
            }
        }
    }
}

/// The content of `cgroup.events` or `freezer.state`.
fn says_frozen(text: &str) -> bool {
    text.lines()
        .any(|line| matches!(line.trim(), "frozen 1" | "FROZEN"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_freezing_counts() {
        for (text, frozen) in [
            ("populated 1\nfrozen 1\n", true),
            ("populated 1\nfrozen 0\n", false),
            ("FROZEN\n", true),
            ("FREEZING\n", false),
            ("THAWED\n", false),
            ("", false),
        ] {
            assert_eq!(says_frozen(text), frozen, "{text:?}");
        }
    }
}
