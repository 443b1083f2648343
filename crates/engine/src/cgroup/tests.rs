//! Which hierarchies are chosen, and what the unified one does on a real kernel: also on a hybrid machine, where it has no
//! controllers but can freeze, kill and refuse devices.

use super::*;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
const UNIFIED: &str = "25 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";

#[test]
fn the_version_is_chosen_by_where_the_controllers_are() {
    let legacy: String = HYBRID
        .lines()
        .filter(|line| !line.contains("cgroup2"))
        .map(|line| format!("{line}\n"))
        .collect();
    // v1 for systemd's own use only: the controllers are on v2
    let named =
        format!("{UNIFIED}40 31 0:37 / /mnt/systemd rw - cgroup cgroup rw,xattr,name=systemd\n");
    for (name, text, found, unified) in [
        ("hybrid", HYBRID, 3, false),
        ("v1", legacy.as_str(), 3, false),
        ("v2", UNIFIED, 1, true),
        ("v2 beside systemd's", named.as_str(), 1, true),
        ("nothing", "garbage\n - \n1 2 - cgroup", 0, false),
    ] {
        let cgroups = Cgroups::from_mountinfo(text);
        assert_eq!(
            (cgroups.hierarchies.len(), cgroups.unified()),
            (found, unified),
            "{name}"
        );
    }
}

#[test]
fn controllers_are_found_where_they_are_mounted() {
    let cgroups = Cgroups::from_mountinfo(HYBRID);
    for (name, there) in [
        ("cpuacct", true),
        ("memory", true),
        ("name=systemd", true),
        ("pids", false),
    ] {
        assert_eq!(cgroups.has(name), there, "{name}");
    }
    assert_eq!(
        cgroups.dir_of("cpu", "/a/b"),
        Some(PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/a/b"))
    );
}

/// A group of the unified hierarchy of this machine, and a shell in it.
struct Group {
    cgroups: Cgroups,
    path: String,
    shell: Child,
}

impl Group {
    /// `None` where cgroup v2 is not mounted at all.
    fn running(script: &str) -> Option<Group> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let text = fs::read_to_string("/proc/self/mountinfo").expect("readable");
        let line = text.lines().find(|line| line.contains(" - cgroup2 "))?;
        let cgroups = Cgroups::from_mountinfo(line);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = format!("/plim-unit-{}-{number}", std::process::id());
        cgroups.create(&path).expect("root may make groups");
        let shell = Command::new("sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sh");
        cgroups.add(&path, shell.id()).expect("added");
        Some(Group {
            cgroups,
            path,
            shell,
        })
    }

    /// What the script says, to its end.
    fn said(&mut self) -> String {
        drop(self.shell.stdin.take());
        let mut said = String::new();
        let stderr = self.shell.stderr.take().expect("a pipe");
        std::io::Read::read_to_string(&mut { stderr }, &mut said).expect("text");
        let _ = self.shell.wait();
        said
    }
}

fn until(what: &str, check: impl Fn() -> bool) {
    for _ in 0..4000 {
        if check() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("it never came: {what}");
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
        self.cgroups.remove(&self.path).expect("removed");
    }
}

#[test]
fn without_cgroup_kill_everything_is_killed_all_the_same() {
    let Some(mut group) = Group::running("sleep 1000 & sleep 1000 & wait") else {
        return;
    };
    drop(group.shell.stdin.take());
    until("three processes", || {
        group.cgroups.processes(&group.path).len() >= 3
    });
    group.cgroups.kill_one_by_one(&group.path);
    let status = group.shell.wait().expect("ended");
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(9)
    );
    assert!(!group.cgroups.frozen(&group.path));
    group.cgroups.remove(&group.path).expect("nothing holds it");
}

#[test]
fn a_paused_group_is_frozen_until_it_is_let_go_on() {
    let Some(group) = Group::running("true") else {
        return;
    };
    assert!(!group.cgroups.frozen(&group.path));
    group.cgroups.pause(&group.path).expect("paused");
    assert!(group.cgroups.frozen(&group.path));
    group.cgroups.unpause(&group.path);
    until("it goes on", || !group.cgroups.frozen(&group.path));
}

#[test]
fn a_group_without_processes_cannot_be_paused() {
    let Some(mut group) = Group::running("true") else {
        return;
    };
    group.said();
    let error = group
        .cgroups
        .pause(&group.path)
        .expect_err("nothing to freeze");
    assert!(error.to_string().contains("no process is in it"), "{error}");
}

#[test]
fn devices_are_refused_by_a_program() {
    let Some(mut group) = Group::running("head -c 1 /dev/zero >&2; head -c 1 /dev/full >&2") else {
        return;
    };
    if devices::supported().is_err() {
        return;
    }
    let zero = devices::Rule {
        kind: devices::Kind::Character,
        major: Some(1),
        minor: Some(5),
        access: devices::Access::ALL,
    };
    // the second time in place of the first
    for rules in [vec![], vec![zero]] {
        group
            .cgroups
            .restrict_devices(&group.path, &rules)
            .expect("attached");
    }
    let said = group.said();
    assert!(!said.contains("/dev/zero"), "{said}");
    assert!(
        said.contains("/dev/full") && said.contains("not permitted"),
        "{said}"
    );
}
