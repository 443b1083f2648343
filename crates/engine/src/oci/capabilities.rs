//! Which capabilities a container has: Docker's default set, more or fewer on request.

use crate::spec::Security;

const DEFAULT: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// In the kernel's numeric order (capabilities(7)).
const ALL: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Capability names with `CAP_`, sorted; only those that this process can give.
pub fn of(security: &Security) -> Vec<String> {
    let permitted =
        rustix::thread::capabilities(None).map_or(u64::MAX, |sets| sets.permitted.bits());
    chosen(security, permitted)
}

fn chosen(security: &Security, permitted: u64) -> Vec<String> {
    let added: Vec<String> = security
        .capabilities_add
        .iter()
        .map(|name| plain(name))
        .collect();
    let dropped: Vec<String> = security
        .capabilities_drop
        .iter()
        .map(|name| plain(name))
        .collect();
    let has = |list: &[String], name: &str| list.iter().any(|known| known == name);
    let wanted = |name: &str| {
        let by_default = security.privileged || (DEFAULT.contains(&name) && !has(&dropped, "ALL"));
        // What is named alone beats ALL; dropping beats adding.
        let kept = by_default || has(&added, name) || (has(&added, "ALL") && !has(&dropped, "ALL"));
        kept && (security.privileged || !has(&dropped, name))
    };
    let names = ALL
        .iter()
        .enumerate()
        .filter(|(bit, name)| permitted & (1 << bit) != 0 && wanted(name));
    let mut names: Vec<String> = names.map(|(_, name)| format!("CAP_{name}")).collect();
    names.sort();
    names
}

fn plain(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
}

/// The number of a capability.
fn bit(name: &str) -> Option<u32> {
    let name = plain(name);
    ALL.iter()
        .position(|known| *known == name)
        .map(|bit| bit as u32)
}

/// Whether this process has this right now.
pub fn held(name: &str) -> bool {
    let effective = rustix::thread::capabilities(None).map_or(0, |sets| sets.effective.bits());
    bit(name).is_some_and(|bit| effective & (1 << bit) != 0)
}

/// These capabilities as the kernel's set.
pub fn bits(names: &[String]) -> u64 {
    names
        .iter()
        .filter_map(|name| bit(name))
        .fold(0, |bits, bit| bits | 1 << bit)
}

/// Whether this is the name of a capability, or `ALL`.
pub fn known(name: &str) -> bool {
    let name = plain(name);
    name == "ALL" || ALL.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_by_request() {
        let rows: [(&[&str], &[&str], bool, usize, &str); 7] = [
            (&[], &[], false, 14, "CAP_CHOWN"),
            (&["NET_ADMIN"], &[], false, 15, "CAP_NET_ADMIN"),
            (&["cap_net_admin"], &["ALL"], false, 1, "CAP_NET_ADMIN"),
            (&[], &["CAP_CHOWN"], false, 13, "CAP_KILL"),
            (&["ALL"], &[], false, 41, "CAP_SYS_ADMIN"),
            (&["ALL"], &["sys_admin"], false, 40, "CAP_SYS_BOOT"),
            (&[], &[], true, 41, "CAP_SYS_ADMIN"),
        ];
        for (add, drop, privileged, count, member) in rows {
            let own = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
            let security = Security {
                privileged,
                capabilities_add: own(add),
                capabilities_drop: own(drop),
                ..Security::default()
            };
            let names = chosen(&security, u64::MAX);
            assert_eq!(names.len(), count, "{security:?}");
            assert!(names.contains(&member.to_owned()), "{security:?}");
        }
    }

    #[test]
    fn what_this_process_lacks_is_not_given() {
        let security = Security {
            privileged: true,
            ..Security::default()
        };
        assert!(!chosen(&security, !(1 << 24)).contains(&"CAP_SYS_RESOURCE".to_owned()));
    }

    #[test]
    fn names() {
        for (name, expected) in [
            ("chown", true),
            ("CAP_BPF", true),
            ("all", true),
            ("", false),
            ("CAP_", false),
            ("FLY", false),
        ] {
            assert_eq!(known(name), expected, "{name}");
        }
    }
}
