//! Control groups by their files, on v1, hybrid and v2: create, limit, read, empty, remove.
//!
//! A path here is the same in every hierarchy (`/plim-XXXXXX/pods/SANDBOX/CONTAINER`). On a hybrid machine the v1 controllers
//! rule, and the unified hierarchy is left alone. Source: the kernel's cgroup-v1 and cgroup-v2 documents.
//!
//! On v2 a group that gives controllers to the groups beneath may hold no processes of its own ("no internal processes"): so
//! processes are in leaves only, `supervisors` and `pods/SANDBOX/CONTAINER`.

mod hierarchy;
mod limits;
mod stats;

use crate::error::Error;
use crate::spec::Resources;
use crate::sys;
use hierarchy::{CONTROLLERS, Hierarchy, collect_processes, remove_tree, subdirectories};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Rounds of killing and removing before giving up; with the pauses between them about two seconds.
const ROUNDS_MAX: u32 = 60;

/// All hierarchies that this crate uses on this machine.
#[derive(Clone, Debug)]
pub struct Cgroups {
    hierarchies: Vec<Hierarchy>,
}

impl Cgroups {
    /// Finds the mounted hierarchies.
    pub fn detect() -> Result<Cgroups, Error> {
        let path = Path::new("/proc/self/mountinfo");
        let text = fs::read_to_string(path).map_err(|error| Error::io("read", path, error))?;
        let cgroups = Cgroups::from_mountinfo(&text);
        if cgroups.hierarchies.is_empty() {
            let hint = "mount cgroup2 on /sys/fs/cgroup".to_owned();
            return Err(Error::Kernel {
                feature: "a mounted cgroup hierarchy".into(),
                hint,
            });
        }
        Ok(cgroups)
    }

    fn from_mountinfo(text: &str) -> Cgroups {
        let mut legacy = Vec::new();
        let mut unified = Vec::new();
        for line in text.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let (Some(mount), mut right) = (left.split(' ').nth(4), right.split(' ')) else {
                continue;
            };
            let (kind, _, options) = (right.next(), right.next(), right.next().unwrap_or_default());
            let mount = PathBuf::from(mount);
            match kind {
                Some("cgroup") => {
                    let known =
                        |name: &&str| CONTROLLERS.contains(name) || name.starts_with("name=");
                    let controllers: Vec<String> = options
                        .split(',')
                        .filter(known)
                        .map(str::to_owned)
                        .collect();
                    if !controllers.is_empty()
                        && !legacy
                            .iter()
                            .any(|known: &Hierarchy| known.controllers == controllers)
                    {
                        legacy.push(Hierarchy {
                            mount,
                            controllers,
                            unified: false,
                        });
                    }
                }
                Some("cgroup2") if unified.is_empty() => {
                    let controllers =
                        fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
                    let controllers = controllers.split_whitespace().map(str::to_owned).collect();
                    unified.push(Hierarchy {
                        mount,
                        controllers,
                        unified: true,
                    });
                }
                _ => {}
            }
        }
        let has_v1_controllers = legacy
            .iter()
            .any(|hierarchy| hierarchy.has("memory") || hierarchy.has("cpu"));
        Cgroups {
            hierarchies: if has_v1_controllers { legacy } else { unified },
        }
    }

    /// A directory that stands in for a hierarchy without controllers.
    #[cfg(test)]
    pub fn beneath(mount: &Path) -> Cgroups {
        Cgroups {
            hierarchies: vec![Hierarchy {
                mount: mount.to_owned(),
                controllers: Vec::new(),
                unified: false,
            }],
        }
    }

    /// Whether the kernel refuses containers the devices that they may not use. Only the v1 controller does so here: on v2 it
    /// would take a BPF program per cgroup, which is not written yet. There containers cannot make device files instead
    /// ([`crate::oci::capabilities`]), unless they are given that right on purpose.
    pub fn refuses_devices(&self) -> bool {
        self.has("devices")
    }

    /// Whether the unified hierarchy rules.
    pub fn unified(&self) -> bool {
        self.hierarchies.iter().any(|hierarchy| hierarchy.unified)
    }

    /// Whether some hierarchy has this controller.
    pub fn has(&self, controller: &str) -> bool {
        self.hierarchies
            .iter()
            .any(|hierarchy| hierarchy.has(controller))
    }

    fn dir_of(&self, controller: &str, path: &str) -> Option<PathBuf> {
        self.hierarchies
            .iter()
            .find(|hierarchy| hierarchy.has(controller))
            .map(|hierarchy| hierarchy.dir(path))
    }

    /// Makes the group and its parents in every hierarchy.
    pub fn create(&self, path: &str) -> Result<(), Error> {
        for hierarchy in &self.hierarchies {
            hierarchy.create(path)?;
        }
        Ok(())
    }

    /// Makes these limits those of the group.
    pub fn limit(&self, path: &str, resources: &Resources) -> Result<(), Error> {
        let controller = |name: &str| self.dir_of(name, path);
        for (dir, file, value) in limits::files(resources, self.unified(), controller) {
            let file = dir.join(file);
            match fs::write(&file, &value) {
                // A kernel that does not account for swap has no such file, and gives no swap either.
                Err(error) if error.kind() == io::ErrorKind::NotFound && limits::of_swap(&file) => {
                }
                written => {
                    written.map_err(|error| Error::io("set the limit", &file, error))?;
                }
            }
        }
        Ok(())
    }

    /// Moves a process into the group, in every hierarchy.
    pub fn add(&self, path: &str, pid: u32) -> Result<(), Error> {
        for hierarchy in &self.hierarchies {
            let file = hierarchy.dir(path).join("cgroup.procs");
            fs::write(&file, pid.to_string())
                .map_err(|error| Error::io("move a process to", &file, error))?;
        }
        Ok(())
    }

    /// The files through which a process gets into the group.
    pub fn doors(&self, path: &str) -> Result<Vec<fs::File>, Error> {
        let open = |hierarchy: &Hierarchy| {
            let file = hierarchy.dir(path).join("cgroup.procs");
            fs::OpenOptions::new()
                .write(true)
                .open(&file)
                .map_err(|error| Error::io("open", &file, error))
        };
        self.hierarchies.iter().map(open).collect()
    }

    /// The group's directories with the names under which v1 machines show them; on v2 there is no need to.
    pub fn directories(&self, path: &str) -> Vec<(String, PathBuf)> {
        let legacy = self
            .hierarchies
            .iter()
            .filter(|hierarchy| !hierarchy.unified);
        let name = |hierarchy: &Hierarchy| hierarchy.controllers.join(",").replace("name=", "");
        legacy
            .map(|hierarchy| (name(hierarchy), hierarchy.dir(path)))
            .collect()
    }

    /// Processes in the group and the groups beneath it.
    pub fn processes(&self, path: &str) -> Vec<u32> {
        let mut pids = Vec::new();
        for hierarchy in &self.hierarchies {
            collect_processes(&hierarchy.dir(path), &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Names of the groups directly beneath, in any hierarchy.
    pub fn children(&self, path: &str) -> Vec<String> {
        let dirs = self
            .hierarchies
            .iter()
            .flat_map(|hierarchy| subdirectories(&hierarchy.dir(path)));
        let mut names: Vec<String> = dirs
            .filter_map(|dir| Some(dir.file_name()?.to_str()?.to_owned()))
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Kills every process in the group and beneath; frozen meanwhile, so that nothing can fork its way out.
    pub fn kill(&self, path: &str) {
        if self.processes(path).is_empty() {
            return;
        }
        if self.unified() {
            let killed = self
                .hierarchies
                .iter()
                .all(|hierarchy| fs::write(hierarchy.dir(path).join("cgroup.kill"), "1").is_ok());
            if killed {
                return;
            }
        }
        self.freeze(path, true);
        for pid in self.processes(path) {
            // A process that ended by itself meanwhile is what was wanted.
            let _ = sys::kill(pid as i32, libc::SIGKILL);
        }
        self.freeze(path, false);
    }

    fn freeze(&self, path: &str, frozen: bool) {
        for hierarchy in &self.hierarchies {
            let (file, value) = match (hierarchy.unified, frozen) {
                (true, true) => ("cgroup.freeze", "1"),
                (true, false) => ("cgroup.freeze", "0"),
                (false, true) => ("freezer.state", "FROZEN"),
                (false, false) => ("freezer.state", "THAWED"),
            };
            let mut dirs = vec![hierarchy.dir(path)];
            while let Some(dir) = dirs.pop() {
                dirs.extend(subdirectories(&dir));
                let _ = fs::write(dir.join(file), value);
            }
        }
    }

    /// Kills what is in the group and removes it with all beneath, unless what was killed is still on its way out.
    pub fn try_remove(&self, path: &str) -> io::Result<()> {
        self.kill(path);
        self.hierarchies
            .iter()
            .try_for_each(|hierarchy| remove_tree(&hierarchy.dir(path)))
    }

    /// Kills what is in the group and removes it with all beneath. Blocks up to two seconds; fine when there is none.
    pub fn remove(&self, path: &str) -> Result<(), Error> {
        let mut last = Ok(());
        for round in 0..ROUNDS_MAX {
            last = self.try_remove(path);
            if last.is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(u64::from(round.min(20)) * 2 + 1));
        }
        last.map_err(|error| Error::io("remove the cgroup", Path::new(path), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_means_v1() {
        let text = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
            35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let cgroups = Cgroups::from_mountinfo(text);
        assert!(!cgroups.unified());
        assert!(
            cgroups.has("cpuacct")
                && cgroups.has("memory")
                && cgroups.has("name=systemd")
                && !cgroups.has("pids")
        );
        assert_eq!(
            cgroups.dir_of("cpu", "/a/b"),
            Some(PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/a/b"))
        );
    }

    #[test]
    fn only_cgroup2_means_v2() {
        let cgroups = Cgroups::from_mountinfo(
            "25 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n",
        );
        assert!(cgroups.unified());
        assert!(
            Cgroups::from_mountinfo("garbage\n - \n1 2 - cgroup")
                .hierarchies
                .is_empty()
        );
    }
}
