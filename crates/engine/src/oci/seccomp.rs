//! The default seccomp profile: Docker's choices, as data for this architecture.

use super::seccomp_calls::ALLOWED;
use serde_json::{Value, json};

/// More calls that come with a capability.
const BY_CAPABILITY: [(&str, &[&str]); 13] = [
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    (
        "CAP_SYS_ADMIN",
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    (
        "CAP_SYS_MODULE",
        &["delete_module", "finit_module", "init_module"],
    ),
    (
        "CAP_SYS_NICE",
        &[
            "get_mempolicy",
            "mbind",
            "set_mempolicy",
            "set_mempolicy_home_node",
        ],
    ),
    ("CAP_SYS_PACCT", &["acct"]),
    (
        "CAP_SYS_PTRACE",
        &["kcmp", "pidfd_getfd", "process_madvise"],
    ),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    (
        "CAP_SYS_TIME",
        &["clock_settime", "clock_settime64", "settimeofday", "stime"],
    ),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_BPF", &["bpf"]),
];

/// CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}: the flags of `clone` that need CAP_SYS_ADMIN.
const CLONE_NAMESPACES: u64 = 0x7E02_0000;
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
const AF_VSOCK: u64 = 40;

/// The profile for a process with these capabilities.
pub fn profile(capabilities: &[String]) -> Value {
    let has = |name: &str| capabilities.iter().any(|known| known == name);
    let mut names: Vec<&str> = ALLOWED.to_vec();
    for (capability, calls) in BY_CAPABILITY {
        if has(capability) {
            names.extend(calls);
        }
    }
    names.sort_unstable();
    names.dedup();
    let mut rules = vec![allow(&names, &[])];
    for value in PERSONALITIES {
        rules.push(allow(
            &["personality"],
            &[json!({ "index": 0, "value": value, "op": "SCMP_CMP_EQ" })],
        ));
    }
    rules.push(allow(
        &["socket"],
        &[json!({ "index": 0, "value": AF_VSOCK, "op": "SCMP_CMP_NE" })],
    ));
    if !has("CAP_SYS_ADMIN") {
        let none_of = json!({ "index": 0, "value": CLONE_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" });
        rules.push(allow(&["clone"], &[none_of]));
        // Its flags are in memory, where a filter cannot look.
        rules.push(
            json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS }),
        );
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "architectures": architectures(std::env::consts::ARCH),
        "syscalls": rules,
    })
}

fn allow(names: &[&str], arguments: &[Value]) -> Value {
    let mut rule = json!({ "names": names, "action": "SCMP_ACT_ALLOW" });
    if !arguments.is_empty() {
        rule["args"] = json!(arguments);
    }
    rule
}

fn architectures(arch: &str) -> Value {
    match arch {
        "x86_64" => json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        "aarch64" => json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
        // The filter's native architecture.
        _ => json!([]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(profile: &Value, name: &str) -> bool {
        let rules = profile["syscalls"].as_array().expect("rules");
        rules.iter().any(|rule| {
            rule["action"] == "SCMP_ACT_ALLOW"
                && rule["args"].is_null()
                && rule["names"]
                    .as_array()
                    .is_some_and(|names| names.contains(&json!(name)))
        })
    }

    #[test]
    fn dangerous_calls_need_their_capability() {
        let plain = profile(&[]);
        for name in ["read", "execve", "openat2", "futex", "accept4", "ptrace"] {
            assert!(allowed(&plain, name), "{name}");
        }
        for name in [
            "mount",
            "unshare",
            "setns",
            "keyctl",
            "add_key",
            "request_key",
            "bpf",
            "kexec_load",
            "init_module",
            "clone",
            "clone3",
            "io_uring_setup",
            "open_by_handle_at",
            "pivot_root",
            "reboot",
            "swapon",
            "userfaultfd",
            "perf_event_open",
            "socket",
        ] {
            assert!(!allowed(&plain, name), "{name}");
        }
        let admin = profile(&["CAP_SYS_ADMIN".into()]);
        for name in ["mount", "unshare", "clone", "clone3"] {
            assert!(allowed(&admin, name), "{name}");
        }
    }

    #[test]
    fn the_list_is_sorted_and_unique() {
        assert!(ALLOWED.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
