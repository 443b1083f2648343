//! One hierarchy of control groups as a tree of directories.

use crate::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One mounted hierarchy.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    pub mount: PathBuf,
    /// Names of its v1 controllers; for v2 those of `cgroup.controllers`.
    pub controllers: Vec<String>,
    pub unified: bool,
}

/// v1 controllers that this crate knows.
pub const CONTROLLERS: [&str; 12] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
];

/// v2 controllers that groups of containers use.
const DELEGATED: [&str; 5] = ["cpu", "cpuset", "memory", "pids", "io"];

impl Hierarchy {
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|known| known == controller)
    }

    /// The directory of a group.
    pub fn dir(&self, path: &str) -> PathBuf {
        self.mount.join(path.trim_start_matches('/'))
    }

    /// Makes the group and its parents.
    pub fn create(&self, path: &str) -> Result<(), Error> {
        let mut dir = self.mount.clone();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if self.unified {
                self.delegate(&dir);
            }
            let parent = dir.clone();
            dir.push(name);
            match fs::create_dir(&dir) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("make the cgroup", &dir, error)),
            }
            if self.has("cpuset") && !self.unified {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    copy_when_empty(&parent.join(file), &dir.join(file))?;
                }
            }
        }
        Ok(())
    }

    /// Lets the groups beneath `dir` use the controllers; one at a time, since some may be refused. Those that they have already
    /// are left alone: each write would stop all processes of the machine from forking for a moment. Nothing is taken back at
    /// the end: by then others may have come to rely on it, and their limits would be lifted without a word.
    fn delegate(&self, dir: &Path) {
        let file = dir.join("cgroup.subtree_control");
        let given = fs::read_to_string(&file).unwrap_or_default();
        let wanted = self.controllers.iter().filter(|name| {
            DELEGATED.contains(&name.as_str()) && !given.split_whitespace().any(|had| had == *name)
        });
        for controller in wanted {
            let _ = fs::write(&file, format!("+{controller}"));
        }
    }

    /// The first of these controllers that a v2 group does not have.
    pub fn missing<'a>(&self, path: &str, wanted: &[&'a str]) -> Option<&'a str> {
        let file = self.dir(path).join("cgroup.controllers");
        let has = fs::read_to_string(file).unwrap_or_default();
        let lacks = |name: &&&str| !has.split_whitespace().any(|had| had == **name);
        wanted.iter().find(lacks).copied()
    }
}

fn copy_when_empty(from: &Path, to: &Path) -> Result<(), Error> {
    let current = fs::read_to_string(to).map_err(|error| Error::io("read", to, error))?;
    if !current.trim().is_empty() {
        return Ok(());
    }
    let value = fs::read_to_string(from).map_err(|error| Error::io("read", from, error))?;
    fs::write(to, value.trim()).map_err(|error| Error::io("write", to, error))
}

/// The groups directly beneath.
pub fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Adds the processes in the group and beneath.
pub fn collect_processes(dir: &Path, pids: &mut Vec<u32>) {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    pids.extend(
        text.lines()
            .filter_map(|line| line.parse::<u32>().ok())
            .filter(|pid| *pid != 0),
    );
    for subdirectory in subdirectories(dir) {
        collect_processes(&subdirectory, pids);
    }
}

/// Removes the group and all beneath; fine when there is none.
pub fn remove_tree(dir: &Path) -> io::Result<()> {
    for subdirectory in subdirectories(dir) {
        remove_tree(&subdirectory)?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
