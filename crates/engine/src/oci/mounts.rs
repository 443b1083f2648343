//! What is mounted in a container: the kernel's file systems, the sandbox's files, the caller's volumes.

use super::Inputs;
use crate::runtime::late;
use crate::spec::{Mount, MountKind};
use serde_json::{Value, json};

/// All mounts, in the order in which they are made.
pub(super) fn of(inputs: &Inputs) -> Value {
    let privileged = inputs.container.security.privileged;
    let access = if privileged { "rw" } else { "ro" };
    let mut list = vec![
        mount("proc", "proc", "/proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "tmpfs",
            "tmpfs",
            "/dev",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "devpts",
            "devpts",
            "/dev/pts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount(
            "mqueue",
            "mqueue",
            "/dev/mqueue",
            &["nosuid", "noexec", "nodev"],
        ),
        mount(
            "bind",
            &inputs.shared_memory.to_string_lossy(),
            "/dev/shm",
            &["bind", "rprivate", "nosuid", "noexec", "nodev"],
        ),
        mount(
            "sysfs",
            "sysfs",
            "/sys",
            &["nosuid", "noexec", "nodev", access],
        ),
    ];
    if inputs.unified {
        list.push(mount(
            "cgroup",
            "cgroup",
            "/sys/fs/cgroup",
            &["nosuid", "noexec", "nodev", "relatime", access],
        ));
    } else {
        // Bound one by one: libcontainer's own v1 cgroup mount leaves the controllers writable, and with them the limits.
        list.push(mount(
            "tmpfs",
            "tmpfs",
            "/sys/fs/cgroup",
            &["nosuid", "noexec", "nodev", "mode=755", "size=64k"],
        ));
        for (name, dir) in inputs.cgroup_directories {
            let options = ["bind", "rprivate", "nosuid", "noexec", "nodev", access];
            list.push(mount(
                "bind",
                &dir.to_string_lossy(),
                &format!("/sys/fs/cgroup/{name}"),
                &options,
            ));
        }
    }
    let ours = [
        ("hosts", "/etc/hosts", !inputs.sandbox.hosts.is_empty()),
        ("hostname", "/etc/hostname", true),
        (
            "resolv.conf",
            "/etc/resolv.conf",
            !inputs.sandbox.resolv_conf.is_empty(),
        ),
    ];
    for (file, target, wanted) in ours {
        if wanted {
            let source = inputs.sandbox_dir.join(file);
            list.push(mount(
                "bind",
                &source.to_string_lossy(),
                target,
                &["bind", "rprivate"],
            ));
        }
    }
    let container = inputs.container;
    if container.no_shared_memory {
        list.retain(|ours| ours["destination"] != "/dev/shm");
    }
    for node in inputs.devices.iter().filter(|node| !node.is_made()) {
        list.push(mount(
            "bind",
            &node.source.to_string_lossy(),
            &node.target.to_string_lossy(),
            &["bind", "rprivate"],
        ));
    }
    let wanted: Vec<&Mount> = container
        .mounts
        .iter()
        .filter(|mount| !late::waits(container, mount))
        .collect();
    list.retain(|ours| {
        !wanted
            .iter()
            .any(|theirs| ours["destination"] == theirs.target.as_str())
    });
    // A mount beneath another must come after it.
    let mut wanted = wanted;
    wanted.sort_by_key(|mount| mount.target.trim_end_matches('/').matches('/').count());
    list.extend(wanted.into_iter().map(of_caller));
    Value::Array(list)
}

fn of_caller(wanted: &Mount) -> Value {
    let mut options: Vec<&str> = wanted.options.iter().map(String::as_str).collect();
    let access = if wanted.read_only { "ro" } else { "rw" };
    options.push(access);
    match wanted.kind {
        MountKind::Bind => {
            // `bind`: without what is mounted beneath the source
            if !options.contains(&"bind") {
                options.push("rbind");
            }
            let propagation = [
                "private", "slave", "shared", "rprivate", "rslave", "rshared",
            ];
            if !options.iter().any(|option| propagation.contains(option)) {
                options.push("rprivate");
            }
            mount(
                "bind",
                &wanted.source.to_string_lossy(),
                &wanted.target,
                &options,
            )
        }
        MountKind::Tmpfs => {
            options.extend(["nosuid", "nodev"]);
            mount("tmpfs", "tmpfs", &wanted.target, &options)
        }
    }
}

fn mount(kind: &str, source: &str, target: &str, options: &[&str]) -> Value {
    json!({ "type": kind, "source": source, "destination": target, "options": options })
}
