//! Devices of this machine that a container was given: looked up when it starts, since their numbers are not kept over reboots.

use crate::cgroup::devices::{Access, Kind, Rule};
use crate::spec::Device;
use rustix::fs::FileType;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the runtime makes device files; anywhere else the machine's own is mounted.
const DIRECTORY: &str = "/dev";
const DEPTH_MAX: usize = 8;
const NODES_MAX: usize = 1024;

/// One device file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub source: PathBuf,
    pub target: PathBuf,
    pub rule: Rule,
    mode: u32,
    uid: u32,
    gid: u32,
}

/// The device files of all these; a directory stands for all in it.
///
/// Errors: one that is none, in dockerd's words.
pub fn find(devices: &[Device]) -> Result<Vec<Node>, String> {
    let mut nodes: Vec<Node> = Vec::new();
    for device in devices {
        let failed = |reason: &str| {
            format!(
                "error gathering device information while adding custom device {:?}: {reason}",
                device.source.display().to_string()
            )
        };
        let access = Access::of(&device.access)
            .ok_or_else(|| failed(&format!("bad mode specified: {}", device.access)))?;
        let source = fs::canonicalize(&device.source).map_err(|error| failed(&words(&error)))?;
        let before = nodes.len();
        let target = Path::new(&device.target);
        walk(&source, target, access, DEPTH_MAX, &mut nodes).map_err(|error| failed(&error))?;
        if nodes.len() == before {
            return Err(failed("not a device node"));
        }
    }
    Ok(nodes)
}

/// What is not the machine's own in its `/dev`, or made for every container.
const NOT_GIVEN: [&str; 8] = [
    "pts", "shm", "fd", "mqueue", "console", "ptmx", ".udev", ".lxc",
];
/// Made for every container.
const MADE: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// The device files of the machine, for a privileged container: all beneath `directory` (`/dev`) that `given` does not have, as
/// many as there is room for.
pub fn all(directory: &Path, given: &[Node]) -> Vec<Node> {
    let mut found = Vec::new();
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let skipped = |names: &[&str]| names.iter().any(|one| name == *one);
        if !skipped(&NOT_GIVEN) && !skipped(&MADE) {
            // more than there is room for are left out: nobody has asked for one of them by its name
            let target = Path::new(DIRECTORY).join(&name);
            let _ = walk(&entry.path(), &target, Access::ALL, DEPTH_MAX, &mut found);
        }
    }
    let is_given = |node: &Node| given.iter().any(|one| one.target == node.target);
    found.retain(|node| !is_given(node));
    found.truncate(NODES_MAX.saturating_sub(given.len()));
    found
}

fn walk(
    source: &Path,
    target: &Path,
    access: Access,
    depth: usize,
    nodes: &mut Vec<Node>,
) -> Result<(), String> {
    let Ok(metadata) = fs::symlink_metadata(source) else {
        return Ok(());
    };
    if metadata.is_dir() {
        let entries = fs::read_dir(source).map_err(|error| words(&error))?;
        if depth == 0 {
            return Ok(());
        }
        for entry in entries.flatten() {
            let target = target.join(entry.file_name());
            walk(&entry.path(), &target, access, depth - 1, nodes)?;
        }
        return Ok(());
    }
    let kind = match FileType::from_raw_mode(metadata.mode()) {
        FileType::CharacterDevice => Kind::Character,
        FileType::BlockDevice => Kind::Block,
        _ => return Ok(()),
    };
    if nodes.len() == NODES_MAX {
        return Err(format!("more than {NODES_MAX} devices"));
    }
    nodes.push(Node {
        source: source.to_owned(),
        target: target.to_owned(),
        rule: Rule {
            kind,
            major: Some(rustix::fs::major(metadata.rdev())),
            minor: Some(rustix::fs::minor(metadata.rdev())),
            access,
        },
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    });
    Ok(())
}

impl Node {
    /// Whether the runtime makes it, as a file of the container's own.
    pub fn is_made(&self) -> bool {
        self.target.starts_with(DIRECTORY)
    }

    /// As the OCI runtime's configuration has it.
    pub fn described(&self) -> Value {
        let kind = match self.rule.kind {
            Kind::Character => "c",
            Kind::Block => "b",
        };
        json!({
            "path": self.target, "type": kind, "major": self.rule.major, "minor": self.rule.minor,
            "fileMode": self.mode, "uid": self.uid, "gid": self.gid,
        })
    }
}

fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or(&text)
        .to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(source: &str, target: &str, access: &str) -> Device {
        Device {
            source: source.into(),
            target: target.into(),
            access: access.into(),
        }
    }

    #[test]
    fn a_privileged_container_has_what_the_machine_has() {
        let given = find(&[device("/dev/null", "/dev/kmsg", "r")]).expect("found");
        let all = all(Path::new(DIRECTORY), &given);
        let targets: Vec<&str> = all.iter().filter_map(|node| node.target.to_str()).collect();
        let machines = fs::read_dir("/dev").expect("readable").flatten();
        for entry in machines {
            let name = entry.file_name().into_string().expect("UTF-8");
            let data = entry.metadata().expect("there");
            let kind = FileType::from_raw_mode(data.mode());
            let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
            let expected = is_device
                && name != "kmsg"
                && !MADE.contains(&&*name)
                && !NOT_GIVEN.contains(&&*name);
            let target = format!("/dev/{name}");
            assert_eq!(targets.contains(&&*target), expected, "{name}");
        }
        assert!(!targets.iter().any(|target| target.starts_with("/dev/pts")));
    }

    #[test]
    fn a_device_has_its_numbers_and_rights() {
        let nodes = find(&[device("/dev/null", "/dev/nothing", "r")]).expect("found");
        let described = nodes[0].described();
        assert_eq!(described["path"], "/dev/nothing");
        assert_eq!(
            (&described["major"], &described["minor"]),
            (&json!(1), &json!(3))
        );
        assert_eq!(described["fileMode"], 0o666);
        assert_eq!(nodes[0].rule.line(), "c 1:3 r");
        assert!(nodes[0].is_made());
        let elsewhere = find(&[device("/dev/null", "/srv/null", "rw")]).expect("found");
        assert!(!elsewhere[0].is_made());
    }

    #[test]
    fn a_directory_stands_for_its_devices() {
        let nodes = find(&[device("/dev", "/dev/all", "rwm")]).expect("found");
        let null = nodes
            .iter()
            .find(|node| node.target == Path::new("/dev/all/null"));
        assert!(null.is_some() && nodes.len() > 3, "{nodes:?}");
    }

    #[test]
    fn what_is_no_device_is_told() {
        for (source, access, reason) in [
            ("/dev/plim-none", "rwm", "no such file or directory"),
            ("/etc/passwd", "rwm", "not a device node"),
            ("/etc", "rwm", "not a device node"),
            ("/dev/null", "rx", "bad mode specified: rx"),
            ("/dev/null", "", "bad mode specified: "),
        ] {
            let error = find(&[device(source, "/dev/x", access)]).expect_err(source);
            let start = format!(
                "error gathering device information while adding custom device {source:?}: "
            );
            assert_eq!(error, start + reason);
        }
    }
}
