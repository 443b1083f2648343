//! What the kernel must offer, checked once so that the first container does not fail in a strange way.

use crate::cgroup::{Cgroups, devices};
use crate::error::Error;
use std::fs;
use std::path::Path;

/// Controllers that every container needs.
pub const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// Whether this machine can run containers. Changes nothing.
///
/// Errors: `Kernel`, with the first feature that is missing and what to do.
pub fn check_kernel() -> Result<(), Error> {
    check().map(drop)
}

/// Checks everything that containers need; the error names what is missing.
pub fn check() -> Result<Cgroups, Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(missing(
            "root rights",
            "run as root: namespaces, mounts and cgroups need them",
        ));
    }
    for (name, option) in [
        ("pid", "PID_NS"),
        ("mnt", "NAMESPACES"),
        ("net", "NET_NS"),
        ("ipc", "IPC_NS"),
        ("uts", "UTS_NS"),
        ("cgroup", "CGROUPS"),
    ] {
        if !Path::new("/proc/self/ns").join(name).exists() {
            return Err(missing(
                &format!("{name} namespaces"),
                &format!("enable CONFIG_{option}"),
            ));
        }
    }
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !has_filesystem(&filesystems, "overlay")
        && !Path::new("/sys/module/overlay").exists()
        && !module_available("overlay")
    {
        return Err(missing(
            "the overlay file system",
            "enable CONFIG_OVERLAY_FS or load the module overlay",
        ));
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if !status.lines().any(|line| line.starts_with("Seccomp:")) {
        return Err(missing("seccomp filters", "enable CONFIG_SECCOMP_FILTER"));
    }
    let me = rustix::process::getpid();
    if rustix::process::pidfd_open(me, rustix::process::PidfdFlags::empty()).is_err() {
        return Err(missing("pidfd_open", "Linux 5.12 or newer is needed"));
    }
    let cgroups = Cgroups::detect()?;
    for controller in CONTROLLERS {
        if !cgroups.has(controller) {
            return Err(missing(
                &format!("the cgroup controller {controller}"),
                "enable it on the kernel's command line or in its build",
            ));
        }
    }
    if cgroups.unified() {
        devices::supported().map_err(|error| {
            missing(
                "device rules for cgroups (BPF programs of type cgroup_device)",
                &format!("enable CONFIG_CGROUP_BPF and CONFIG_BPF_SYSCALL, or run with CAP_BPF and CAP_NET_ADMIN ({error})"),
            )
        })?;
    } else {
        for controller in ["cpuacct", "freezer", "devices"] {
            if !cgroups.has(controller) {
                return Err(missing(
                    &format!("the cgroup controller {controller}"),
                    "mount it beneath /sys/fs/cgroup",
                ));
            }
        }
    }
    Ok(cgroups)
}

fn missing(feature: &str, hint: &str) -> Error {
    Error::Kernel {
        feature: feature.into(),
        hint: hint.into(),
    }
}

fn has_filesystem(text: &str, name: &str) -> bool {
    text.lines()
        .any(|line| line.split_whitespace().last() == Some(name))
}

fn module_available(name: &str) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let list = format!("/lib/modules/{}/modules.dep", release.trim());
    fs::read_to_string(list).is_ok_and(|text| {
        text.lines()
            .any(|line| line.contains(&format!("/{name}.ko")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_whole_words() {
        let text = "nodev\tproc\n\text4\nnodev\toverlay\n";
        assert!(has_filesystem(text, "overlay") && has_filesystem(text, "ext4"));
        assert!(!has_filesystem(text, "over"));
    }
}
