//! From a container's specification to the OCI runtime's configuration.

pub mod capabilities;
pub mod devices;
pub mod filter;
mod masks;
mod mounts;
pub mod profile;
pub mod rootfs;
pub mod seccomp;
mod seccomp_calls;
pub mod ulimits;
pub mod user;

use crate::runtime::late;
use crate::spec::{ContainerSpec, SandboxSpec, Security};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use user::User;

/// `PATH` of a container that sets none, as Docker does.
pub const PATH_DEFAULT: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything the configuration is made from.
pub struct Inputs<'a> {
    pub container: &'a ContainerSpec,
    pub sandbox: &'a SandboxSpec,
    pub user: &'a User,
    /// Directory with the sandbox's `hosts`, `hostname` and `resolv.conf`.
    pub sandbox_dir: &'a Path,
    /// What its containers share as `/dev/shm`.
    pub shared_memory: &'a Path,
    /// Namespaces by the specification's name: one to join, or none for a new one. What is not there is the runtime's own.
    pub namespaces: &'a [(&'static str, Option<PathBuf>)],
    pub cgroup: &'a str,
    pub unified: bool,
    /// The cgroup's directories on v1, by controller.
    pub cgroup_directories: &'a [(String, std::path::PathBuf)],
    pub devices: &'a [devices::Node],
    /// The AppArmor profile that its first process gets when it becomes its program.
    pub app_armor_profile: Option<&'a str>,
}

/// The content of `config.json`.
pub fn config(inputs: &Inputs) -> Value {
    let container = inputs.container;
    let security = &container.security;
    let capabilities = capabilities::of(security);
    let mut effective = if inputs.user.uid == 0 {
        capabilities.clone()
    } else {
        Vec::new()
    };
    // The last steps before the program load the filter and make what mounts are left, which needs this right, and give it up.
    let administrator = "CAP_SYS_ADMIN".to_owned();
    let loads = has_filter(security) && !security.no_new_privileges;
    let mounts = container
        .mounts
        .iter()
        .any(|mount| late::waits(container, mount));
    if (loads || mounts) && !effective.contains(&administrator) {
        effective.push(administrator);
    }
    let mut process = json!({
        "terminal": container.tty,
        "user": { "uid": inputs.user.uid, "gid": inputs.user.gid, "additionalGids": inputs.user.groups },
        "args": container.argv,
        "env": environment(inputs),
        // The executor goes to the real one, so that it can say what is wrong with it.
        "cwd": "/",
        "capabilities": { "bounding": capabilities, "effective": effective, "permitted": effective },
    });
    if security.no_new_privileges {
        process["noNewPrivileges"] = json!(true);
    }
    if let Some(profile) = inputs.app_armor_profile {
        process["apparmorProfile"] = json!(profile);
    }
    if !container.ulimits.is_empty() {
        process["rlimits"] = ulimits::of(&container.ulimits, inputs.sandbox.user_namespace);
    }
    if let Some(adjustment) = oom_score(container.oom_score_adj) {
        process["oomScoreAdj"] = json!(adjustment);
    }
    let mut linux = json!({
        "namespaces": inputs.namespaces.iter().map(namespace).collect::<Vec<_>>(),
        "cgroupsPath": inputs.cgroup,
        "resources": { "devices": [{ "allow": security.privileged, "access": "rwm" }] },
        "sysctl": security.sysctls,
        "rootfsPropagation": propagation(container),
    });
    let made: Vec<Value> = inputs
        .devices
        .iter()
        .filter(|node| node.is_made())
        .map(devices::Node::described)
        .collect();
    if !made.is_empty() {
        linux["devices"] = Value::Array(made);
    }
    if !security.privileged {
        linux["maskedPaths"] = json!(masks::unreadable(Path::new(masks::CPUS)));
        linux["readonlyPaths"] = json!(masks::READ_ONLY_PATHS);
    }
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": container.rootfs, "readonly": security.read_only_root },
        "process": process,
        "mounts": mounts::of(inputs),
        "linux": linux,
    })
}

/// Targets of the configuration's mounts that are files and lie in the root filesystem itself, not in another mount.
pub fn file_targets(config: &Value) -> Vec<&str> {
    let mounts = config["mounts"].as_array().map_or(&[][..], Vec::as_slice);
    let targets: Vec<&str> = mounts
        .iter()
        .filter_map(|mount| mount["destination"].as_str())
        .collect();
    let in_another = |path: &str| {
        targets
            .iter()
            .any(|other| path != *other && Path::new(path).starts_with(other))
    };
    let of_file = |mount: &&Value| {
        let source = mount["source"].as_str().map(Path::new);
        mount["type"] == "bind" && source.is_some_and(Path::is_file)
    };
    mounts
        .iter()
        .filter(of_file)
        .filter_map(|mount| mount["destination"].as_str())
        .filter(|path| !in_another(path))
        .collect()
}

/// What the container's root has of the host's mounts: nothing, unless one of its mounts shall see what is mounted later.
fn propagation(container: &ContainerSpec) -> &'static str {
    let wants = |names: [&str; 2]| {
        let mut options = container.mounts.iter().flat_map(|mount| &mount.options);
        options.any(|option| names.contains(&option.as_str()))
    };
    if wants(["shared", "rshared"]) {
        "shared"
    } else if wants(["slave", "rslave"]) {
        "slave"
    } else {
        "private"
    }
}

/// Whether its processes run behind a seccomp filter. It is not in the configuration: libcontainer would compile it each time.
/// One of its own a privileged container has too, as with Docker.
pub fn has_filter(security: &Security) -> bool {
    !security.seccomp_unconfined && (!security.privileged || !security.seccomp_profile.is_empty())
}

/// The profile of a process with these capabilities; `None` when it has none, or one that switches seccomp off.
pub fn seccomp_profile(
    security: &Security,
    capabilities: &[String],
) -> Result<Option<Value>, String> {
    if !has_filter(security) {
        return Ok(None);
    }
    if security.seccomp_profile.is_empty() {
        return Ok(Some(seccomp::profile(capabilities)));
    }
    let uname = rustix::system::uname();
    let here = profile::Circumstances {
        capabilities,
        architecture: std::env::consts::ARCH,
        kernel: profile::kernel_version(&uname.release().to_string_lossy()),
    };
    profile::resolve(&security.seccomp_profile, &here)
        .map_err(|reason| format!("seccomp profile: {reason}"))
}

fn namespace((kind, path): &(&'static str, Option<PathBuf>)) -> Value {
    match path {
        Some(path) => json!({ "type": kind, "path": path }),
        None => json!({ "type": kind }),
    }
}

fn environment(inputs: &Inputs) -> Vec<String> {
    let container = inputs.container;
    let has = |name: &str| {
        container
            .env
            .iter()
            .any(|entry| entry.split('=').next() == Some(name))
    };
    let mut env = Vec::with_capacity(container.env.len() + 4);
    if !has("PATH") {
        env.push(PATH_DEFAULT.to_owned());
    }
    if !has("HOSTNAME") {
        env.push(format!("HOSTNAME={}", hostname(inputs.sandbox)));
    }
    if container.tty && !has("TERM") {
        env.push("TERM=xterm".to_owned());
    }
    env.extend(container.env.iter().cloned());
    if !has("HOME") {
        env.push(format!("HOME={}", inputs.user.home));
    }
    env
}

/// The host name inside a sandbox.
pub fn hostname(sandbox: &SandboxSpec) -> &str {
    if sandbox.hostname.is_empty() {
        &sandbox.id[..sandbox.id.len().min(12)]
    } else {
        &sandbox.hostname
    }
}

/// What to set, if anything: lowering the score needs a right that this engine works without.
fn oom_score(wanted: i32) -> Option<i32> {
    let clamped = oom_score_possible(wanted);
    (clamped != own_oom_score()).then_some(clamped)
}

/// As wanted, or as low as this process may: its own score, unless it has CAP_SYS_RESOURCE.
pub fn oom_score_possible(wanted: i32) -> i32 {
    let wanted = wanted.clamp(-1000, 1000);
    if capabilities::held("SYS_RESOURCE") {
        wanted
    } else {
        wanted.max(own_oom_score())
    }
}

pub fn own_oom_score() -> i32 {
    std::fs::read_to_string("/proc/self/oom_score_adj")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Mount, MountKind};

    fn make(container: &ContainerSpec) -> Value {
        let sandbox = SandboxSpec {
            id: "plim-sandbox-0001".into(),
            hosts: "x".into(),
            ..SandboxSpec::default()
        };
        let user = User {
            uid: 7,
            gid: 8,
            groups: vec![9],
            home: "/".into(),
        };
        config(&Inputs {
            container,
            sandbox: &sandbox,
            user: &user,
            sandbox_dir: Path::new("/s"),
            shared_memory: Path::new("/run/shm/s"),
            namespaces: &[("pid", None), ("network", Some("/run/netns/x".into()))],
            cgroup: "/plim/pods/a/b",
            unified: false,
            cgroup_directories: &[("memory".into(), "/cg/memory".into())],
            devices: &[],
            app_armor_profile: None,
        })
    }

    #[test]
    fn the_default_is_confined() {
        let spec = make(&ContainerSpec {
            env: vec!["A=1".into()],
            ..ContainerSpec::default()
        });
        assert_eq!(spec["process"]["noNewPrivileges"], Value::Null);
        assert_eq!(
            spec["process"]["capabilities"]["bounding"]
                .as_array()
                .map(Vec::len),
            Some(14)
        );
        assert_eq!(
            spec["process"]["capabilities"]["effective"],
            json!(["CAP_SYS_ADMIN"]),
            "a plain user has none effective but the one that loads the filter"
        );
        let unable = make(&ContainerSpec {
            security: Security {
                no_new_privileges: true,
                ..Security::default()
            },
            ..ContainerSpec::default()
        });
        assert_eq!(unable["process"]["capabilities"]["effective"], json!([]));
        assert!(
            spec["linux"]["maskedPaths"]
                .as_array()
                .is_some_and(|paths| paths.contains(&json!("/proc/kcore")))
        );
        let env = spec["process"]["env"].as_array().expect("env");
        assert_eq!(
            env.iter()
                .map(|entry| entry.as_str().unwrap_or_default())
                .collect::<Vec<_>>()[1..],
            ["HOSTNAME=plim-sandbox", "A=1", "HOME=/"]
        );
        let targets: Vec<_> = spec["mounts"]
            .as_array()
            .expect("mounts")
            .iter()
            .map(|mount| mount["destination"].clone())
            .collect();
        assert!(
            targets.contains(&json!("/etc/hosts")) && !targets.contains(&json!("/etc/resolv.conf")),
            "{targets:?}"
        );
    }

    #[test]
    fn privileged_is_not() {
        let spec = make(&ContainerSpec {
            security: Security {
                privileged: true,
                ..Security::default()
            },
            ..ContainerSpec::default()
        });
        assert_eq!(spec["linux"]["maskedPaths"], Value::Null);
        assert_eq!(spec["linux"]["resources"]["devices"][0]["allow"], true);
    }

    #[test]
    fn a_mount_of_the_caller_replaces_ours() {
        let mount = Mount {
            source: "/h".into(),
            target: "/etc/hosts".into(),
            kind: MountKind::Bind,
            read_only: true,
            options: vec![],
        };
        let spec = make(&ContainerSpec {
            mounts: vec![mount],
            ..ContainerSpec::default()
        });
        let of_hosts: Vec<_> = spec["mounts"]
            .as_array()
            .expect("mounts")
            .iter()
            .filter(|mount| mount["destination"] == "/etc/hosts")
            .collect();
        assert_eq!(of_hosts.len(), 1);
        assert_eq!(of_hosts[0]["source"], "/h");
        assert!(
            of_hosts[0]["options"]
                .as_array()
                .is_some_and(|options| options.contains(&json!("ro")))
        );
    }
}
