//! Control groups by their files, on v1, hybrid and v2: create, limit, read, empty, remove.
//!
//! A path here is the same in every hierarchy (`/plim-XXXXXX/pods/SANDBOX/CONTAINER`). On a hybrid machine the v1 controllers
//! rule, and the unified hierarchy is left alone. Source: the kernel's cgroup-v1 and cgroup-v2 documents.
//!
//! On v2 a group that gives controllers to the groups beneath may hold no processes of its own ("no internal processes"): so
//! processes are in leaves only, `supervisors` and `pods/SANDBOX/CONTAINER`.

pub mod devices;
mod freezer;
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

/// Name of a group that is made and removed at the start.
const PROBE: &str = "probe";
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
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && limits::may_be_missing(&file) => {
                }
                written => {
                    written.map_err(|error| Error::io("set the limit", &file, error))?;
                }
            }
        }
        Ok(())
    }

    /// Makes this the most memory that the group and all beneath it take together; swap is not limited. False when more is taken
    /// already and cannot be freed.
    pub fn limit_memory(&self, path: &str, bytes: u64) -> Result<bool, Error> {
        let Some(dir) = self.dir_of("memory", path) else {
            return Ok(true);
        };
        let file = dir.join(if self.unified() {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        });
        match fs::write(&file, bytes.to_string()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(false),
            Err(error) => Err(Error::io("set the limit", &file, error)),
        }
    }

    /// Makes these the only devices that processes of the group may use; the group has none beneath it yet.
    pub fn restrict_devices(&self, path: &str, rules: &[devices::Rule]) -> Result<(), Error> {
        if self.unified() {
            let dir = self.hierarchies[0].dir(path);
            return devices::attach(&dir, rules)
                .map_err(|error| Error::io("restrict the devices of", &dir, error));
        }
        let Some(dir) = self.dir_of("devices", path) else {
            return Ok(());
        };
        let write = |file: &str, line: &str| {
            let file = dir.join(file);
            fs::write(&file, line).map_err(|error| Error::io("restrict devices by", &file, error))
        };
        write("devices.deny", "a")?;
        rules
            .iter()
            .try_for_each(|rule| write("devices.allow", &rule.line()))
    }

    /// Makes sure that the groups beneath this one can be limited: on v2 controllers are handed down from group to group, and a
    /// group on the way may refuse.
    pub fn check_controllers(&self, path: &str, wanted: &[&str]) -> Result<(), Error> {
        let Some(hierarchy) = self.hierarchies.iter().find(|hierarchy| hierarchy.unified) else {
            return Ok(());
        };
        // beneath a group of its own, so that all of the way is gone
        self.create(&format!("{path}/{PROBE}"))?;
        let missing = hierarchy.missing(&format!("{path}/{PROBE}"), wanted);
        let _ = remove_tree(&hierarchy.dir(&format!("{path}/{PROBE}")));
        let _ = fs::remove_dir(hierarchy.dir(path));
        match missing {
            None => Ok(()),
            Some(controller) => Err(Error::Kernel {
                feature: format!(
                    "the cgroup controller {controller} for groups beneath {}",
                    hierarchy.dir(path).display()
                ),
                hint: format!(
                    "write +{controller} to {}: when that is refused as busy, processes are in that group itself and must be moved to one beneath it first",
                    hierarchy.mount.join("cgroup.subtree_control").display()
                ),
            }),
        }
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

    /// Kills every process in the group and beneath.
    pub fn kill(&self, path: &str) {
        if self.processes(path).is_empty() {
            return;
        }
        if self.unified() && self.kill_at_once(path) {
            // Who comes into the group after them shall not find it frozen.
            self.freeze(path, false);
        } else {
            self.kill_one_by_one(path);
        }
    }

    /// False where the kernel cannot (v2 before Linux 5.14).
    fn kill_at_once(&self, path: &str) -> bool {
        let file = |hierarchy: &Hierarchy| hierarchy.dir(path).join("cgroup.kill");
        self.hierarchies
            .iter()
            .all(|hierarchy| fs::write(file(hierarchy), "1").is_ok())
    }

    /// Frozen meanwhile, so that nothing can fork its way out.
    fn kill_one_by_one(&self, path: &str) {
        self.freeze(path, true);
        for pid in self.processes(path) {
            // A process that ended by itself meanwhile is what was wanted.
            let _ = sys::kill(pid as i32, libc::SIGKILL);
        }
        self.freeze(path, false);
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
mod tests;
