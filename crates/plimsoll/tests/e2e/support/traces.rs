//! A search of the machine for everything that belongs to an instance: processes, mounts, cgroups, links, rules, profiles, files.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

use super::Run;

/// One line a trace, beginning with its sort.
#[derive(Clone, Debug, PartialEq)]
pub struct Traces(BTreeSet<String>);

impl Traces {
    /// Everything that carries the instance's name or lies in its directories.
    pub fn of(name: &str, data_dir: &Path) -> Self {
        let directory = data_dir.to_string_lossy();
        let table = name.replace('-', "_");
        let run = Path::new("/run").join(name);
        let named = |line: &&str| {
            line.contains(name) || line.contains(&*directory) || line.contains(&table)
        };
        let mut found = BTreeSet::new();
        for (pid, command) in processes(&named) {
            found.insert(format!("process {pid} {command}"));
        }
        for line in fs::read_to_string("/proc/self/mountinfo")
            .expect("mountinfo")
            .lines()
            .filter(named)
        {
            found.insert(format!("mount {}", line.split(' ').nth(4).unwrap_or(line)));
        }
        for cgroup in cgroups(name) {
            found.insert(format!("cgroup {cgroup}"));
        }
        for (sort, program, arguments) in [
            ("link", "ip", "-o link"),
            ("address", "ip", "-o addr"),
            ("route", "ip", "route show table all"),
            ("table", "nft", "list tables"),
        ] {
            for line in Run::new(program, arguments).ok().lines().filter(named) {
                let name = if sort == "link" {
                    line.split(' ').nth(1).unwrap_or(line)
                } else {
                    line
                };
                found.insert(format!("{sort} {}", name.trim()));
            }
        }
        let profiles = fs::read_to_string("/sys/kernel/security/apparmor/profiles");
        for line in profiles.unwrap_or_default().lines().filter(named) {
            found.insert(format!("profile {line}"));
        }
        for path in [run.as_path(), data_dir] {
            if path.exists() {
                found.insert(format!("file {}", path.display()));
            }
        }
        Self(found)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of one sort.
    pub fn of_sort(&self, sort: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter_map(|line| line.strip_prefix(sort)?.strip_prefix(' '))
            .collect()
    }
}

impl fmt::Display for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// Processes whose command line or cgroup is named so.
fn processes(named: &impl Fn(&&str) -> bool) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let cgroup = String::from_utf8_lossy(&read("cgroup")).into_owned();
        // a program of the tests themselves may name the directory for a moment
        if command.starts_with("timeout ") {
            continue;
        }
        if named(&command.as_str()) || named(&cgroup.as_str()) {
            found.push((pid, command));
        }
    }
    found
}

/// The instance's cgroups: one in each hierarchy of version 1, or one in version 2.
fn cgroups(name: &str) -> Vec<String> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let places = std::iter::once(root.to_owned()).chain(hierarchies);
    places
        .map(|place| place.join(name))
        .filter(|place| place.is_dir())
        .map(|place| place.display().to_string())
        .collect()
}
