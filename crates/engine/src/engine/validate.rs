//! What is refused before anything is made.

use crate::config::Config;
use crate::error::Error;
use crate::oci::{self, capabilities, ulimits};
use crate::process::ExecSpec;
use crate::records::check_id;
use crate::spec::{
    ContainerSpec, IpcNamespace, MountKind, PidNamespace, SandboxNetwork, SandboxSpec, Security,
};
use std::path::{Component, Path};

const HOSTNAME_LENGTH_MAX: usize = 64;
/// Arguments and environment together; the kernel's own limit is lower on most machines and is reported at the start.
const ARGUMENTS_LENGTH_MAX: usize = 6 << 20;
/// Longest name of an AppArmor profile.
const PROFILE_LENGTH_MAX: usize = 4095;
const MOUNTS_MAX: usize = 1024;
/// Parameters of namespaces that every sandbox has for itself.
const SYSCTL_PREFIXES: [&str; 5] = [
    "net.",
    "kernel.shm",
    "kernel.msg",
    "kernel.sem",
    "fs.mqueue.",
];

fn invalid<T>(field: &'static str, reason: impl Into<String>) -> Result<T, Error> {
    Err(Error::Invalid {
        field,
        reason: reason.into(),
    })
}

pub fn config(config: &Config) -> Result<(), Error> {
    if config
        .supervisor
        .last()
        .is_none_or(|word| word != "supervise")
    {
        return invalid("supervisor", "its last word must be `supervise`");
    }
    let parent = config.cgroup_parent.strip_prefix('/').unwrap_or_default();
    if parent.is_empty()
        || parent
            .split('/')
            .any(|name| check_id("cgroup_parent", name).is_err())
    {
        return invalid(
            "cgroup_parent",
            format!(
                "{:?} is not an absolute path of plain names",
                config.cgroup_parent
            ),
        );
    }
    for (field, path) in [("root", &config.root), ("run", &config.run)] {
        if !path.is_absolute() {
            return invalid(field, format!("{} is not an absolute path", path.display()));
        }
    }
    Ok(())
}

pub fn sandbox(spec: &SandboxSpec) -> Result<(), Error> {
    check_id("id", &spec.id)?;
    if spec.hostname.len() > HOSTNAME_LENGTH_MAX || spec.hostname.contains(['\0', '\n', '/']) {
        return invalid(
            "hostname",
            format!(
                "{:?} is not a host name of at most {HOSTNAME_LENGTH_MAX} bytes",
                spec.hostname
            ),
        );
    }
    let shares = spec.network == SandboxNetwork::Host
        || !matches!(spec.pid, PidNamespace::Own | PidNamespace::Sandbox)
        || spec.ipc != IpcNamespace::Sandbox;
    if spec.user_namespace && shares {
        let reason = "it cannot be had together with the network, processes or shared memory of the host or of another container";
        return invalid("user_namespace", reason);
    }
    for other in [&spec.pid_of(), &spec.ipc_of()].into_iter().flatten() {
        check_id("namespace", other)?;
    }
    Ok(())
}

pub fn container(spec: &ContainerSpec) -> Result<(), Error> {
    check_id("id", &spec.id)?;
    check_id("sandbox", &spec.sandbox)?;
    if !spec.processes_of.is_empty() {
        check_id("processes_of", &spec.processes_of)?;
    }
    program(&spec.argv, &spec.env, &spec.cwd, &spec.user)?;
    if !spec.rootfs.is_absolute() {
        return invalid(
            "rootfs",
            format!("{} is not an absolute path", spec.rootfs.display()),
        );
    }
    if spec.mounts.len() > MOUNTS_MAX {
        return invalid(
            "mounts",
            format!("{} are more than {MOUNTS_MAX}", spec.mounts.len()),
        );
    }
    for mount in &spec.mounts {
        target(&mount.target)?;
        if mount.kind == MountKind::Bind && !mount.source.is_absolute() {
            return invalid(
                "mounts",
                format!("source {} is not an absolute path", mount.source.display()),
            );
        }
        if mount
            .options
            .iter()
            .any(|option| option.contains([',', '\0']))
        {
            return invalid(
                "mounts",
                format!("an option of {} holds a comma or NUL", mount.target),
            );
        }
    }
    for name in spec
        .security
        .capabilities_add
        .iter()
        .chain(&spec.security.capabilities_drop)
    {
        if !capabilities::known(name) {
            return invalid("capabilities", format!("unknown capability {name:?}"));
        }
    }
    if spec.devices.len() > MOUNTS_MAX {
        let reason = format!("{} are more than {MOUNTS_MAX}", spec.devices.len());
        return invalid("devices", reason);
    }
    for device in &spec.devices {
        target(&device.target)?;
        if !device.source.is_absolute() {
            let reason = format!("{} is not an absolute path", device.source.display());
            return invalid("devices", reason);
        }
    }
    let profile = &spec.security.app_armor_profile;
    if profile.len() > PROFILE_LENGTH_MAX || profile.contains(char::is_control) {
        let reason = format!("{profile:.60?} is no profile's name");
        return invalid("app_armor_profile", reason);
    }
    if let Err(reason) = check_seccomp(&spec.security) {
        return invalid("seccomp", reason);
    }
    for ulimit in &spec.ulimits {
        let higher = |soft: i64, hard: i64| hard >= 0 && (soft < 0 || soft > hard);
        if !ulimits::known(&ulimit.name) {
            return invalid("ulimits", format!("unknown limit {:?}", ulimit.name));
        }
        if higher(ulimit.soft, ulimit.hard) {
            let reason = format!(
                "the soft limit of {} is higher than the hard one: {} > {}",
                ulimit.name, ulimit.soft, ulimit.hard
            );
            return invalid("ulimits", reason);
        }
    }
    for name in spec.security.sysctls.keys() {
        let plain = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
            && !name.contains("..");
        if !plain
            || !SYSCTL_PREFIXES
                .iter()
                .any(|prefix| name.starts_with(prefix))
        {
            return invalid(
                "sysctls",
                format!("{name:?} does not belong to a namespace of the sandbox"),
            );
        }
    }
    if spec
        .stop_signal
        .is_some_and(|signal| !(1..=64).contains(&signal))
    {
        return invalid("stop_signal", "it is not between 1 and 64");
    }
    if !spec.log.path.as_os_str().is_empty() && !spec.log.path.is_absolute() {
        return invalid(
            "log",
            format!("{} is not an absolute path", spec.log.path.display()),
        );
    }
    Ok(())
}

/// What the kernel would not take is told now: compiled as for its start, and kept nowhere.
fn check_seccomp(security: &Security) -> Result<(), String> {
    if security.seccomp_profile.is_empty() {
        return Ok(());
    }
    let profile = oci::seccomp_profile(security, &capabilities::of(security))?;
    profile.map_or(Ok(()), |profile| oci::filter::check(&profile))
}

pub fn exec(spec: &ExecSpec) -> Result<(), Error> {
    program(&spec.argv, &spec.env, &spec.cwd, &spec.user)
}

fn program(argv: &[String], env: &[String], cwd: &str, user: &str) -> Result<(), Error> {
    if argv.first().is_none_or(String::is_empty) {
        return invalid("argv", "no command specified");
    }
    if argv.iter().chain(env).any(|text| text.contains('\0')) {
        return invalid("argv", "an argument or variable holds a NUL byte");
    }
    if let Some(entry) = env.iter().find(|entry| {
        entry
            .split_once('=')
            .is_none_or(|(name, _)| name.is_empty())
    }) {
        return invalid("env", format!("{entry:?} is not NAME=value"));
    }
    let length: usize = argv.iter().chain(env).map(|text| text.len() + 1).sum();
    if length > ARGUMENTS_LENGTH_MAX {
        return invalid(
            "argv",
            format!(
                "arguments and environment of {length} bytes are longer than {ARGUMENTS_LENGTH_MAX}"
            ),
        );
    }
    if !cwd.is_empty() && (!cwd.starts_with('/') || cwd.contains('\0')) {
        return invalid("cwd", format!("{cwd:?} is not an absolute path"));
    }
    if user.contains(['\0', '\n']) {
        return invalid("user", "it holds a NUL byte or newline");
    }
    Ok(())
}

fn target(path: &str) -> Result<(), Error> {
    let plain = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.starts_with('/')
        || path.contains('\0')
        || !plain
        || path.trim_end_matches('/').is_empty()
    {
        return invalid(
            "mounts",
            format!("target {path:?} is not an absolute path without `..`"),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Mount;

    fn good() -> ContainerSpec {
        let own = |text: &str| text.to_owned();
        ContainerSpec {
            id: own("c"),
            sandbox: own("s"),
            argv: vec![own("true")],
            rootfs: "/r".into(),
            ..ContainerSpec::default()
        }
    }

    fn with_mount(target: &str) -> ContainerSpec {
        let mount = Mount {
            source: "/a".into(),
            target: target.into(),
            ..Mount::default()
        };
        ContainerSpec {
            mounts: vec![mount],
            ..good()
        }
    }

    #[test]
    fn hostile_specs_are_refused_by_field() {
        let own = |text: &str| vec![text.to_owned()];
        let adding = |name: &str| Security {
            capabilities_add: own(name),
            ..Security::default()
        };
        let sysctl = |name: &str| Security {
            sysctls: [(name.to_owned(), "1".to_owned())].into(),
            ..Security::default()
        };
        let rows = [
            ("", good()),
            ("", with_mount("/a/b")),
            (
                "argv",
                ContainerSpec {
                    argv: vec![],
                    ..good()
                },
            ),
            (
                "argv",
                ContainerSpec {
                    argv: own(""),
                    ..good()
                },
            ),
            (
                "argv",
                ContainerSpec {
                    argv: own("a\0b"),
                    ..good()
                },
            ),
            (
                "argv",
                ContainerSpec {
                    env: own("A=\0"),
                    ..good()
                },
            ),
            (
                "argv",
                ContainerSpec {
                    env: own(&format!("A={}", "x".repeat(ARGUMENTS_LENGTH_MAX))),
                    ..good()
                },
            ),
            (
                "env",
                ContainerSpec {
                    env: own("novalue"),
                    ..good()
                },
            ),
            (
                "env",
                ContainerSpec {
                    env: own("=x"),
                    ..good()
                },
            ),
            (
                "cwd",
                ContainerSpec {
                    cwd: "relative".into(),
                    ..good()
                },
            ),
            (
                "id",
                ContainerSpec {
                    id: "../x".into(),
                    ..good()
                },
            ),
            (
                "sandbox",
                ContainerSpec {
                    sandbox: String::new(),
                    ..good()
                },
            ),
            (
                "rootfs",
                ContainerSpec {
                    rootfs: "r".into(),
                    ..good()
                },
            ),
            ("mounts", with_mount("/../etc")),
            ("mounts", with_mount("/")),
            ("mounts", with_mount("etc")),
            (
                "capabilities",
                ContainerSpec {
                    security: adding("FLY"),
                    ..good()
                },
            ),
            (
                "sysctls",
                ContainerSpec {
                    security: sysctl("kernel.panic"),
                    ..good()
                },
            ),
            (
                "sysctls",
                ContainerSpec {
                    security: sysctl("net./../x"),
                    ..good()
                },
            ),
            (
                "",
                ContainerSpec {
                    security: sysctl("net.ipv4.ip_forward"),
                    ..good()
                },
            ),
            (
                "stop_signal",
                ContainerSpec {
                    stop_signal: Some(99),
                    ..good()
                },
            ),
        ];
        for (expected, spec) in rows {
            match container(&spec) {
                Ok(()) => assert_eq!(expected, "", "{spec:?}"),
                Err(Error::Invalid { field, .. }) => assert_eq!(expected, field),
                Err(other) => panic!("{other}"),
            }
        }
    }
}
