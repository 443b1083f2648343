//! What follows from the facts: for each requirement what was found and, where it falls short, what to do.

use serde::Serialize;

use super::facts::{Disk, Facts};

/// The oldest kernel on which mounts by descriptor, pidfd and cgroup.kill's fallbacks work as the engine needs them.
const KERNEL_MIN: (u32, u32) = (5, 12);
const MEMORY_MIB_MIN: u64 = 128;
const DISK_BYTES_MIN: u64 = 1 << 30;
const INODES_MIN: u64 = 50_000;
const DESCRIPTORS_MIN: u64 = 65_536;
const INOTIFY_INSTANCES_MIN: u64 = 256;
const PIDS_MIN: u64 = 65_536;

/// One line of the doctor's report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    pub check: &'static str,
    pub state: State,
    pub found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// It works, but not as well as it could, or somebody should know.
    Warning,
    /// It must be mended first.
    Failure,
}

fn ok(check: &'static str, found: impl Into<String>) -> Finding {
    Finding {
        check,
        state: State::Ok,
        found: found.into(),
        remedy: None,
    }
}

fn warning(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding {
        state: State::Warning,
        remedy: Some(remedy.into()),
        ..ok(check, found)
    }
}

fn failure(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding {
        state: State::Failure,
        ..warning(check, found, remedy)
    }
}

/// Judges everything, in the order in which a person would mend it.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![rights(facts), kernel(facts)];
    findings.extend(engine(facts));
    findings.push(cgroups(facts));
    findings.extend(nft(facts));
    findings.push(memory(facts));
    findings.extend(facts.disk.as_ref().map(disk));
    findings.push(descriptors(facts));
    findings.extend(sysctls(facts));
    findings.extend(ports(facts));
    findings.extend(others(facts));
    findings.extend(firewall(facts));
    findings.push(resolvers(facts));
    findings.push(security(facts));
    findings.extend(instance(facts));
    findings
}

fn rights(facts: &Facts) -> Finding {
    if facts.root {
        ok("rights", "root")
    } else {
        failure(
            "rights",
            "not root",
            "run with sudo: namespaces, mounts, cgroups and network interfaces need root; what follows may be incomplete",
        )
    }
}

fn kernel(facts: &Facts) -> Finding {
    let mut numbers = facts
        .kernel
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= KERNEL_MIN => {
            ok("kernel", format!("Linux {}", facts.kernel))
        }
        _ => failure(
            "kernel",
            format!("Linux {}", facts.kernel),
            format!("Linux {}.{} or newer is needed", KERNEL_MIN.0, KERNEL_MIN.1),
        ),
    }
}

fn engine(facts: &Facts) -> Option<Finding> {
    Some(match facts.engine.as_ref()? {
        Ok(()) => ok(
            "containers",
            "namespaces, overlay, seccomp and cgroup controllers are there",
        ),
        Err(words) => failure(
            "containers",
            words.clone(),
            "without it no container can run; the daemon refuses to start",
        ),
    })
}

fn cgroups(facts: &Facts) -> Finding {
    let mounts_of = |kind: &str| {
        let needle = format!(" - {kind} ");
        facts
            .mounts
            .lines()
            .filter(|line| line.contains(&needle))
            .count()
    };
    match (mounts_of("cgroup"), mounts_of("cgroup2")) {
        (0, 0) => failure(
            "cgroups",
            "none are mounted",
            "mount -t cgroup2 none /sys/fs/cgroup",
        ),
        (0, _) => ok("cgroups", "version 2"),
        (_, 0) => warning(
            "cgroups",
            "version 1",
            "it works; kernels and systemd are leaving it: boot with systemd.unified_cgroup_hierarchy=1",
        ),
        (_, _) => warning(
            "cgroups",
            "hybrid: the controllers of version 1 are used",
            "it works; kernels and systemd are leaving it: boot with systemd.unified_cgroup_hierarchy=1",
        ),
    }
}

fn nft(facts: &Facts) -> Option<Finding> {
    Some(match facts.nft.as_ref()? {
        Ok(version) => ok("nft", version.clone()),
        Err(words) => failure(
            "nft",
            words.clone(),
            "apt-get install nftables (the kernel needs CONFIG_NF_TABLES)",
        ),
    })
}

fn memory(facts: &Facts) -> Finding {
    let found = format!(
        "{} MiB of {} MiB available",
        facts.memory_available_mib, facts.memory_total_mib
    );
    if facts.memory_available_mib < MEMORY_MIB_MIN {
        warning(
            "memory",
            found,
            format!("less than {MEMORY_MIB_MIN} MiB leave no room for containers"),
        )
    } else {
        ok("memory", found)
    }
}

fn disk(disk: &Disk) -> Finding {
    let free_percent = disk.free_bytes * 100 / disk.size_bytes.max(1);
    let found = format!(
        "{} on {}, {} MiB ({free_percent} %) free",
        disk.path.display(),
        disk.kind,
        disk.free_bytes >> 20
    );
    match disk.kind.as_str() {
        "overlay" | "nfs" | "nfs4" | "9p" | "fuse" | "vfat" | "exfat" | "ntfs3" => failure(
            "disk",
            found,
            "images cannot be mounted there: choose a directory on ext4, xfs or btrfs with --data-dir",
        ),
        "tmpfs" | "ramfs" => warning("disk", found, "everything there is gone after a reboot"),
        _ if disk.free_bytes < DISK_BYTES_MIN => warning(
            "disk",
            found,
            "free some space: `docker system df` and `docker image prune` help",
        ),
        _ if disk.free_bytes < disk.enough_bytes => warning(
            "disk",
            found,
            format!(
                "with less than {} MiB free the node takes no pods, and evicts those that run (DiskPressure): free some space (`docker system df` tells what takes it), or lower nodefs.available and imagefs.available of `evictionHard` in the settings",
                disk.enough_bytes >> 20
            ),
        ),
        // a file system without inodes of its own says 0
        _ if disk.free_inodes > 0 && disk.free_inodes < INODES_MIN => warning(
            "disk",
            format!("{found}, {} inodes free", disk.free_inodes),
            "an image may hold tens of thousands of files: free some inodes",
        ),
        _ => ok("disk", found),
    }
}

fn descriptors(facts: &Facts) -> Finding {
    let found = format!("{} descriptors at most", facts.descriptors_max);
    if facts.descriptors_max < DESCRIPTORS_MIN {
        warning(
            "open files",
            found,
            format!(
                "raise the hard limit to {DESCRIPTORS_MIN} or more (LimitNOFILE= of the service, /etc/security/limits.conf)"
            ),
        )
    } else {
        ok("open files", found)
    }
}

fn sysctls(facts: &Facts) -> Vec<Finding> {
    let number = |name: &str| {
        facts
            .sysctls
            .get(name)
            .and_then(|value| value.parse::<u64>().ok())
    };
    let mut findings = Vec::new();
    findings.push(match number("net/ipv4/ip_forward") {
        Some(1) => ok("forwarding", "on"),
        Some(_) => ok(
            "forwarding",
            "off; `up` turns it on and `down --purge` off again",
        ),
        None => failure("forwarding", "the kernel has no IPv4", "enable CONFIG_INET"),
    });
    findings.push(match number("net/ipv6/conf/all/disable_ipv6") {
        Some(0) => ok(
            "IPv6",
            "on; pods and services have addresses of both families",
        ),
        Some(_) => ok("IPv6", "turned off; pods and services have IPv4 alone"),
        None => ok(
            "IPv6",
            "the kernel has none; pods and services have IPv4 alone",
        ),
    });
    for (check, name, min) in [
        (
            "inotify",
            "fs/inotify/max_user_instances",
            INOTIFY_INSTANCES_MIN,
        ),
        ("processes", "kernel/pid_max", PIDS_MIN),
    ] {
        if let Some(value) = number(name).filter(|value| *value < min) {
            findings.push(warning(
                check,
                format!("{name} is {value}"),
                format!(
                    "a hundred pods want more: sysctl -w {}={min}",
                    name.replace('/', ".")
                ),
            ));
        }
    }
    findings
}

fn ports(facts: &Facts) -> Vec<Finding> {
    let judge = |(what, port, holder): &(&'static str, u16, _)| match holder {
        None => ok("port", format!("{port} for {what} is free or ours")),
        Some(holder) => failure(
            "port",
            format!("{port} for {what} is taken by {holder}"),
            "end that program, or give plimsoll another port (apiPort, kubeletPort in /etc/plimsoll/config.yaml, or flags of `up`)",
        ),
    };
    facts.ports.iter().map(judge).collect()
}

fn others(facts: &Facts) -> Vec<Finding> {
    let judge = |holder: &crate::ports::Holder| {
        let found = format!("{holder} runs beside plimsoll");
        Some(match holder.program.as_str() {
            "dockerd" => ok(
                "neighbours",
                format!(
                    "{found}: both work; `eval \"$(plimsoll env)\"` decides whose DOCKER_HOST a shell uses"
                ),
            ),
            "containerd" | "firewalld" | "crio" => return None,
            _ => warning(
                "neighbours",
                found,
                "both can run, but they share ports, memory and the node's name: KUBECONFIG decides which one kubectl asks",
            ),
        })
    };
    facts.others.iter().filter_map(judge).collect()
}

fn firewall(facts: &Facts) -> Option<Finding> {
    let firewalld = facts
        .others
        .iter()
        .any(|holder| holder.program == "firewalld");
    match (facts.ufw, firewalld) {
        (false, false) => None,
        (true, _) => Some(ok(
            "firewall",
            "ufw is on; plimsoll's own traffic is let through by one commented rule",
        )),
        (false, true) => Some(ok(
            "firewall",
            "firewalld runs; plimsoll's own traffic is let through by one commented rule",
        )),
    }
}

fn resolvers(facts: &Facts) -> Finding {
    if facts.resolvers.is_empty() {
        return warning(
            "name servers",
            "/etc/resolv.conf names none",
            "containers resolve the cluster's names only; pulling images by name needs one",
        );
    }
    ok("name servers", facts.resolvers.join(", "))
}

fn security(facts: &Facts) -> Finding {
    let known: Vec<&str> = facts
        .security_modules
        .trim()
        .split(',')
        .filter(|name| ["apparmor", "selinux", "landlock"].contains(name))
        .collect();
    if facts.app_armor == Some(engine::AppArmor::WithoutParser) {
        return warning(
            "security modules",
            "the kernel has AppArmor, and there is no apparmor_parser: containers have no profile of their own; seccomp and capabilities confine them",
            "install the package apparmor (`sudo apt-get install apparmor`); containers that start afterwards are confined by it",
        );
    }
    if known.is_empty() {
        ok(
            "security modules",
            "none; seccomp and capabilities confine containers",
        )
    } else {
        ok("security modules", known.join(", "))
    }
}

fn instance(facts: &Facts) -> Option<Finding> {
    Some(match facts.instance.as_ref()? {
        Err(words) => failure("instance", words.clone(), "see docs/operations.md"),
        Ok(known) => match known.daemon {
            Some(pid) => ok("instance", format!("{} runs (pid {pid})", known.name)),
            None => warning(
                "instance",
                format!("{} is there and does not run", known.name),
                format!(
                    "`plimsoll up` starts it; its log is {}",
                    known.log.display()
                ),
            ),
        },
    })
}

#[cfg(test)]
#[path = "findings_tests.rs"]
mod tests;
