//! The default seccomp profile: Docker's choices, as data for this architecture.

use super::seccomp_calls::ALLOWED;
use serde_json::{Value, json};

/// More calls that come with a capability.
const BY_CAPABILITY: [(&str, &[&str]); 14] = [
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
            "lsm_get_self_attr",
            "lsm_list_modules",
            "lsm_set_self_attr",
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
    ("CAP_PERFMON", &["perf_event_open"]),
];

/// More calls that only this architecture (as `std::env::consts::ARCH` names it) has.
const BY_ARCHITECTURE: [(&str, &[&str]); 5] = [
    ("x86_64", &["arch_prctl", "modify_ldt"]),
    (
        "aarch64",
        &[
            "arm_fadvise64_64",
            "arm_sync_file_range",
            "breakpoint",
            "cacheflush",
            "set_tls",
            "sync_file_range2",
        ],
    ),
    ("riscv64", &["riscv_flush_icache"]),
    ("powerpc64", &["swapcontext", "sync_file_range2"]),
    (
        "s390x",
        &[
            "s390_pci_mmio_read",
            "s390_pci_mmio_write",
            "s390_runtime_instr",
        ],
    ),
];

/// CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}: the flags of `clone` that need CAP_SYS_ADMIN.
const CLONE_NAMESPACES: u64 = 0x7E02_0000;
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// The kernel's cryptography and the hypervisor's sockets: neither belongs to a namespace.
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// The profile for a process with these capabilities on this machine.
pub fn profile(capabilities: &[String]) -> Value {
    profile_for(capabilities, std::env::consts::ARCH)
}

fn profile_for(capabilities: &[String], arch: &str) -> Value {
    let has = |name: &str| capabilities.iter().any(|known| known == name);
    let mut names: Vec<&str> = ALLOWED.to_vec();
    for (capability, calls) in BY_CAPABILITY {
        if has(capability) {
            names.extend(calls);
        }
    }
    for (name, calls) in BY_ARCHITECTURE {
        if name == arch {
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
    for (operator, family) in [
        ("SCMP_CMP_LT", AF_ALG),
        ("SCMP_CMP_EQ", AF_ALG + 1),
        ("SCMP_CMP_GT", AF_VSOCK),
    ] {
        let condition = json!({ "index": 0, "value": family, "op": operator });
        rules.push(allow(&["socket"], &[condition]));
    }
    if !has("CAP_SYS_ADMIN") {
        // On this one architecture the stack comes first.
        let flags = if arch == "s390x" { 1 } else { 0 };
        let none_of = json!({ "index": flags, "value": CLONE_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" });
        rules.push(allow(&["clone"], &[none_of]));
        // Its flags are in memory, where a filter cannot look.
        rules.push(
            json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS }),
        );
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "architectures": architectures(arch),
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
        "s390x" => json!(["SCMP_ARCH_S390X", "SCMP_ARCH_S390"]),
        // The filter's native architecture.
        _ => json!([]),
    }
}

#[cfg(test)]
#[path = "seccomp_tests.rs"]
pub(super) mod tests;
