//! cgroups of ended containers that are to go: tried at once and then again on a timer, since the last processes in one may take
//! a while to be gone and the loop must not wait for them.

use crate::cgroup::Cgroups;
use std::time::{Duration, Instant};

const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Those that could not be removed yet.
#[derive(Default)]
pub struct Removals(Vec<Removal>);

struct Removal {
    cgroup: String,
    pause: Duration,
    at: Instant,
}

impl Removals {
    /// Removes the cgroup, now or later.
    pub fn add(&mut self, cgroups: &Cgroups, cgroup: String) {
        let now = Instant::now();
        self.0.push(Removal {
            cgroup,
            pause: PAUSE_MIN,
            at: now,
        });
        self.work(cgroups, now);
    }

    /// When the next try is due.
    pub fn due(&self) -> Option<Instant> {
        self.0.iter().map(|removal| removal.at).min()
    }

    /// Tries those that are due.
    pub fn work(&mut self, cgroups: &Cgroups, now: Instant) {
        self.0.retain_mut(|removal| {
            if removal.at > now {
                return true;
            }
            let removed = cgroups.try_remove(&removal.cgroup).is_ok();
            removal.at = now + removal.pause;
            removal.pause = (removal.pause * 2).min(PAUSE_MAX);
            !removed
        });
    }

    /// The cgroup is wanted again: whoever is left in it is killed, but it stays.
    pub fn cancel(&mut self, cgroups: &Cgroups, cgroup: &str) {
        let before = self.0.len();
        self.0.retain(|removal| removal.cgroup != cgroup);
        if self.0.len() < before {
            let _ = cgroups.try_remove(cgroup);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_cannot_go_yet_goes_later_and_what_is_wanted_again_stays() {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-removals-")
            .tempdir()
            .expect("temp dir");
        let cgroups = Cgroups::beneath(dir.path());
        for name in ["free", "busy", "wanted"] {
            fs::create_dir(dir.path().join(name)).expect("mkdir");
        }
        // A directory that is not empty is refused, as a cgroup with processes is.
        fs::write(dir.path().join("busy/process"), "").expect("write");
        fs::write(dir.path().join("wanted/process"), "").expect("write");
        let mut removals = Removals::default();
        for name in ["free", "busy", "wanted"] {
            removals.add(&cgroups, format!("/{name}"));
        }
        assert!(!dir.path().join("free").exists() && dir.path().join("busy").exists());
        let due = removals.due().expect("two left");
        fs::remove_file(dir.path().join("busy/process")).expect("remove");
        removals.cancel(&cgroups, "/wanted");
        fs::remove_file(dir.path().join("wanted/process")).expect("remove");
        removals.work(&cgroups, due);
        assert!(!dir.path().join("busy").exists() && dir.path().join("wanted").exists());
        assert_eq!(removals.due(), None);
    }
}
