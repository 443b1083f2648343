//! What `docker run` asks of confinement: `--security-opt`, `--cap-add`, `--ulimit` and the like.

use std::path::Path;

use engine::{Security, Ulimit};
use serde::{Deserialize, Serialize};

use crate::record::HostConfig;
use crate::reply::Refusal;

/// One `--ulimit`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UlimitRequest {
    pub name: String,
    pub soft: i64,
    pub hard: i64,
}

/// The engine's words for it.
///
/// # Errors
/// An option that cannot be honoured: it is refused rather than left out.
pub fn of(host: &HostConfig) -> Result<Security, Refusal> {
    let mut security = Security {
        privileged: host.privileged,
        capabilities_add: host.cap_add.clone(),
        capabilities_drop: host.cap_drop.clone(),
        read_only_root: host.readonly_rootfs,
        seccomp_unconfined: host.privileged,
        supplementary_groups: host
            .group_add
            .iter()
            .filter_map(|group| group.parse().ok())
            .collect(),
        ..Security::default()
    };
    for (name, value) in &host.sysctls {
        let name = name.replace('/', ".");
        if let Some(why) = not_its_own(host, &name) {
            return Err(Refusal::bad(format!("invalid sysctl {name:?}: {why}")));
        }
        security.sysctls.insert(name, value.clone());
    }
    for (name, value) in unprivileged(host) {
        let setting = security.sysctls.entry((*name).to_owned());
        setting.or_insert_with(|| (*value).to_owned());
    }
    for option in &host.security_opt {
        // Older clients write a colon.
        let (name, value) = option
            .split_once('=')
            .or_else(|| option.split_once(':'))
            .unwrap_or((option, ""));
        match (name, value) {
            ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
            ("no-new-privileges", "false") => security.no_new_privileges = false,
            ("seccomp", "unconfined") => security.seccomp_unconfined = true,
            ("seccomp", "builtin" | "") => security.seccomp_unconfined = host.privileged,
            // The docker command sends the file's content; with one of its own a privileged container is confined too.
            ("seccomp", profile) => {
                value.clone_into(&mut security.seccomp_profile);
                security.seccomp_unconfined = false;
                if !profile.trim_start().starts_with('{') {
                    return Err(Refusal::bad(format!(
                        "Decoding seccomp profile failed: {profile:.60?} is no JSON object; the API takes a profile's content, not its path"
                    )));
                }
            }
            // Without AppArmor there is nothing to be unconfined from.
            ("apparmor", "unconfined") => security.app_armor_profile = "unconfined".into(),
            // The engine's own is meant by the name that dockerd's has; one without a name, with dockerd, too.
            ("apparmor", "docker-default" | "") => security.app_armor_profile.clear(),
            ("apparmor", profile) => profile.clone_into(&mut security.app_armor_profile),
            // SELinux labels mean nothing where it is not enabled, with dockerd too.
            ("label", _) => {}
            _ => {
                return Err(Refusal::bad(format!("invalid --security-opt: {option:?}")));
            }
        }
    }
    Ok(security)
}

/// Ports below 1024 for everybody, and `ping` without a capability.
const UNPRIVILEGED: [(&str, &str); 2] = [
    ("net.ipv4.ip_unprivileged_port_start", "0"),
    ("net.ipv4.ping_group_range", "0 2147483647"),
];

/// What dockerd sets in every network namespace that is the container's own, where the user says nothing else.
fn unprivileged(host: &HostConfig) -> &'static [(&'static str, &'static str)] {
    let shared = host.network_mode == "host" || host.network_mode.starts_with("container:");
    let there =
        |(name, _): &(&str, &str)| Path::new("/proc/sys").join(name.replace('.', "/")).exists();
    // groups that are not mapped cannot be named
    let all_groups = std::fs::read_to_string("/proc/self/gid_map")
        .is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]));
    match () {
        () if shared || !there(&UNPRIVILEGED[0]) => &[],
        () if !all_groups || !there(&UNPRIVILEGED[1]) => &UNPRIVILEGED[..1],
        () => &UNPRIVILEGED,
    }
}

/// Settings of the kernel that every IPC namespace has for itself.
const OF_IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// Why the setting is not the container's own to change, if it is not: others would have it, too.
fn not_its_own(host: &HostConfig, name: &str) -> Option<&'static str> {
    let shares = |mode: Option<&str>| mode == Some("host");
    let ipc = host.rest.get("IpcMode").and_then(|mode| mode.as_str());
    if name.contains("..") {
        Some("it names no setting")
    } else if name.starts_with("net.") {
        shares(Some(&host.network_mode)).then_some("the container has the machine's network")
    } else if OF_IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        shares(ipc).then_some("the container has the machine's IPC namespace")
    } else {
        Some("it is not in a separate kernel namespace")
    }
}

pub fn ulimits(host: &HostConfig) -> Vec<Ulimit> {
    let ulimit = |request: &UlimitRequest| Ulimit {
        name: request.name.clone(),
        soft: request.soft,
        hard: request.hard,
    };
    host.ulimits.iter().map(ulimit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_kernel_are_the_containers_own_or_refused() {
        let ask = |name: &str, network: &str, ipc: &str| {
            let host = HostConfig {
                sysctls: [(name.to_owned(), "1".to_owned())].into(),
                network_mode: network.into(),
                rest: [("IpcMode".to_owned(), ipc.into())].into(),
                ..HostConfig::default()
            };
            of(&host)
                .map(|security| security.sysctls)
                .map_err(|refusal| refusal.message)
        };
        for (name, network, ipc, expected) in [
            ("net.core.somaxconn", "", "", true),
            ("net/core/somaxconn", "", "", true),
            ("net.core.somaxconn", "host", "", false),
            ("kernel.shmmax", "host", "", true),
            ("kernel.shmmax", "", "host", false),
            ("fs.mqueue.msg_max", "", "", true),
            ("kernel.panic", "", "", false),
            ("vm.swappiness", "", "", false),
            ("net.../../kernel.panic", "", "", false),
        ] {
            let found = ask(name, network, ipc);
            assert_eq!(found.is_ok(), expected, "{name} {network} {ipc} {found:?}");
        }
        let told = ask("net/core/somaxconn", "", "").expect("its own");
        assert_eq!(told["net.core.somaxconn"], "1");
    }

    #[test]
    fn whoever_has_a_network_of_its_own_may_bind_low_ports_and_ping() {
        let ask = |network: &str, sysctls: &[(&str, &str)]| {
            let host = HostConfig {
                network_mode: network.into(),
                sysctls: sysctls
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
                ..HostConfig::default()
            };
            of(&host).expect("valid").sysctls
        };
        let (port, ping) = (UNPRIVILEGED[0].0, UNPRIVILEGED[1].0);
        for network in ["", "bridge", "none"] {
            assert_eq!(ask(network, &[])[port], "0", "{network}");
            assert_eq!(ask(network, &[])[ping], "0 2147483647", "{network}");
        }
        for network in ["host", "container:a"] {
            assert!(ask(network, &[]).is_empty(), "{network}");
        }
        assert_eq!(ask("", &[(port, "1024")])[port], "1024", "as the user says");
    }

    #[test]
    fn options_are_honoured_or_refused() {
        let ask = |options: &[&str]| {
            of(&HostConfig {
                security_opt: options.iter().map(|option| (*option).to_owned()).collect(),
                ..HostConfig::default()
            })
        };
        for (options, no_new_privileges, unconfined) in [
            (&[][..], false, false),
            (&["no-new-privileges"], true, false),
            (&["no-new-privileges:true"], true, false),
            (
                &["no-new-privileges=true", "seccomp=unconfined"],
                true,
                true,
            ),
            (&["no-new-privileges=false"], false, false),
            (&["seccomp:unconfined", "apparmor=unconfined"], false, true),
            (&["apparmor=docker-default", "label=disable"], false, false),
        ] {
            let security = ask(options).unwrap_or_else(|_| panic!("{options:?}"));
            assert_eq!(
                (security.no_new_privileges, security.seccomp_unconfined),
                (no_new_privileges, unconfined),
                "{options:?}"
            );
        }
        for options in [
            &["seccomp=/etc/profile.json"][..],
            &["magic"],
            &["no-new-privileges=maybe"],
        ] {
            assert!(ask(options).is_err(), "{options:?}");
        }
    }

    #[test]
    fn an_apparmor_profile_comes_by_its_name() {
        for (option, profile) in [
            (None, ""),
            (Some("apparmor=docker-default"), ""),
            (Some("apparmor=unconfined"), "unconfined"),
            (Some("apparmor:unconfined"), "unconfined"),
            (Some("apparmor=mine"), "mine"),
        ] {
            let security = of(&HostConfig {
                security_opt: option.iter().map(|option| (*option).to_owned()).collect(),
                ..HostConfig::default()
            });
            let security = security.unwrap_or_else(|_| panic!("{option:?}"));
            assert_eq!(security.app_armor_profile, profile, "{option:?}");
        }
    }

    #[test]
    fn a_seccomp_profile_comes_as_its_content() {
        let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a=b:c"]}]}"#;
        for privileged in [false, true] {
            let security = of(&HostConfig {
                security_opt: vec![format!("seccomp={profile}")],
                privileged,
                ..HostConfig::default()
            });
            let security = security.unwrap_or_else(|_| panic!("{privileged}"));
            assert_eq!(security.seccomp_profile, profile);
            assert!(!security.seccomp_unconfined, "{privileged}");
        }
    }

    #[test]
    fn ulimits_come_as_the_command_sends_them() {
        let text = r#"{"Ulimits":[{"Name":"nofile","Soft":1024,"Hard":2048},{"Name":"core","Soft":-1,"Hard":-1}]}"#;
        let host: HostConfig = serde_json::from_str(text).expect("valid");
        let limits = ulimits(&host);
        assert_eq!(
            (limits[0].name.as_str(), limits[0].soft, limits[0].hard),
            ("nofile", 1024, 2048)
        );
        assert_eq!((limits[1].soft, limits[1].hard), (-1, -1));
        let shown = serde_json::to_value(&host).expect("encode");
        assert_eq!(shown["Ulimits"][0]["Name"], "nofile");
        let none: HostConfig = serde_json::from_str(r#"{"Ulimits":null}"#).expect("valid");
        assert!(ulimits(&none).is_empty());
    }
}
