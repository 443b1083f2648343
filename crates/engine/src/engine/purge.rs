//! Removes everything that an instance ever made on this machine.

use super::Engine;
use crate::error::Error;
use crate::records;
use crate::sys;
use std::path::{Path, PathBuf};

impl Engine {
    /// Ends every process and removes every mount, cgroup, namespace and file of this instance. May be called again.
    ///
    /// Errors: what could not be removed; the rest is gone all the same.
    pub async fn purge(&self) -> Result<(), Error> {
        let mut left = Vec::new();
        let ids: Vec<String> = self.inner.known.lock().sandboxes.keys().cloned().collect();
        let mut removals = tokio::task::JoinSet::new();
        for id in ids {
            let engine = self.clone();
            removals.spawn(async move { engine.remove_sandbox(&id).await });
        }
        while let Some(removed) = removals.join_next().await {
            if let Ok(Err(error)) = removed {
                left.push(error.to_string());
            }
        }
        let inner = self.inner.clone();
        let swept = tokio::task::spawn_blocking(move || {
            let mut left = Vec::new();
            let mut note = |result: Result<(), Error>| {
                if let Err(error) = result {
                    left.push(error.to_string());
                }
            };
            // Supervising processes are in there too.
            note(inner.cgroups.remove(&inner.config.cgroup_parent));
            let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            for path in mounts_beneath(&text, &[&inner.layout.run, &inner.layout.root]) {
                note(sys::unmount(&path).map_err(|error| Error::io("unmount", &path, error)));
            }
            // Nothing that has it runs any longer.
            let profile = inner.profile.remove();
            note(profile.map_err(|error| {
                Error::io("unload the AppArmor profile", inner.profile.name(), error)
            }));
            note(records::remove_dir(&inner.layout.run));
            note(records::remove_dir(&inner.layout.root));
            left
        });
        match swept.await {
            Ok(more) => left.extend(more),
            Err(error) => left.push(error.to_string()),
        }
        let mut known = self.inner.known.lock();
        known.sandboxes.clear();
        known.containers.clear();
        drop(known);
        if left.is_empty() {
            Ok(())
        } else {
            Err(Error::Purge(left.join("; ")))
        }
    }
}

/// Mount points in `text` (proc(5), mountinfo) beneath one of `dirs`, the last mounted first.
fn mounts_beneath(text: &str, dirs: &[&Path]) -> Vec<PathBuf> {
    let points = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(unescape(point)));
    let mut points: Vec<PathBuf> = points
        .filter(|point| dirs.iter().any(|dir| point.starts_with(dir)))
        .collect();
    points.reverse();
    points
}

/// Blanks, newlines and backslashes are written as octal numbers.
fn unescape(text: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_of_this_instance_and_deepest_first() {
        let text = "1 2 0:1 / / rw - ext4 x rw\n3 1 0:4 net:[1] /run/plim-1/engine/netns/a rw - nsfs nsfs rw\n\
            4 3 0:4 / /run/plim-1/engine/netns/a rw - nsfs nsfs rw\n5 1 0:4 / /run/plim-10/engine/netns/b rw - nsfs nsfs rw\n\
            6 1 0:4 / /run/plim-1/engine/with\\040blank rw - nsfs nsfs rw\nbroken\n";
        let found = mounts_beneath(text, &[Path::new("/run/plim-1")]);
        let expected = [
            "/run/plim-1/engine/with blank",
            "/run/plim-1/engine/netns/a",
            "/run/plim-1/engine/netns/a",
        ];
        assert_eq!(found, expected.map(PathBuf::from));
    }
}
