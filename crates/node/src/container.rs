//! From a container of a pod to what the engine runs: a pure translation.

mod non_root;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::{ContainerSpec, LogConfig, Mount, Security};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::confinement::Seccomp;
use crate::resources;

pub use non_root::breaks_non_root;

/// Labels on the engine's objects by which the node finds its own again.
pub mod label {
    pub const OWNER: &str = "plimsoll.dev/owner";
    pub const OWNER_NODE: &str = "node";
    pub const POD_UID: &str = "io.kubernetes.pod.uid";
    pub const POD_NAME: &str = "io.kubernetes.pod.name";
    pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    pub const CONTAINER: &str = "io.kubernetes.container.name";
    pub const RESTARTS: &str = "plimsoll.dev/restarts";
    pub const CRASHES: &str = "plimsoll.dev/crashes";
    pub const IMAGE_ID: &str = "plimsoll.dev/image-id";
    /// The image as the pod named it.
    pub const IMAGE: &str = "plimsoll.dev/image";
    /// How often the pod's sandbox had been made anew before.
    pub const SANDBOX: &str = "plimsoll.dev/sandbox";
}

const ID_BYTES_MAX: usize = 80;
/// The kernel's own limit.
const HOSTNAME_BYTES_MAX: usize = 64;
const LOG_BYTES_MAX: u64 = 10 << 20;
const LOG_FILES_MAX: u32 = 5;

/// Labels of a pod's sandbox.
pub fn pod_labels(pod: &Pod) -> BTreeMap<String, String> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    [
        (label::OWNER, label::OWNER_NODE.to_owned()),
        (label::POD_UID, text(&pod.metadata.uid)),
        (label::POD_NAME, text(&pod.metadata.name)),
        (label::POD_NAMESPACE, text(&pod.metadata.namespace)),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// Where a pod's logs lie: the layout that log collectors know.
pub fn log_directory(logs: &Path, pod: &Pod) -> PathBuf {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let metadata = &pod.metadata;
    logs.join(format!(
        "{}_{}_{}",
        text(&metadata.namespace),
        text(&metadata.name),
        text(&metadata.uid)
    ))
}

/// Removes the log of one attempt, and what it was rotated to.
pub fn remove_log(path: &Path) {
    let _ = std::fs::remove_file(path);
    for number in 1..LOG_FILES_MAX {
        let mut rotated = path.as_os_str().to_owned();
        rotated.push(format!(".{number}"));
        let _ = std::fs::remove_file(rotated);
    }
}

/// An init container that keeps running beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The containers that were added to the running pod (`kubectl debug`), with what they have in common with others.
pub fn ephemeral(pod: &Pod) -> Vec<Container> {
    let added = pod.spec.iter().flat_map(|spec| &spec.ephemeral_containers);
    added
        .flatten()
        .filter_map(|one| serde_json::from_value(serde_json::to_value(one).ok()?).ok())
        .collect()
}

/// The container whose processes an ephemeral one shall see.
pub fn target_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let added = pod.spec.iter().flat_map(|spec| &spec.ephemeral_containers);
    added
        .flatten()
        .find(|one| one.name == name)?
        .target_container_name
        .as_deref()
        .filter(|target| !target.is_empty())
}

/// As long as a UUID is in text.
const UID_BYTES: usize = 36;

/// The engine's name of one attempt; it allows 80 bytes, so a long name is cut and told apart by a hash.
pub fn attempt_id(uid: &str, name: &str, restarts: i32) -> String {
    let id = format!("{name}-{restarts}-{uid}");
    if id.len() <= ID_BYTES_MAX {
        return id;
    }
    // FNV-1a: the same in every build, which a restart of the daemon relies on
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let short: String = name.chars().take(10).collect();
    format!("{short}-{hash:016x}-{restarts}-{uid}")
}

/// The UID of the pod that an attempt belongs to; `None` for what is no attempt's name.
pub fn pod_of_attempt(id: &str) -> Option<&str> {
    let (rest, uid) = id.split_at_checked(id.len().checked_sub(UID_BYTES)?)?;
    let is_uid = uid.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    (is_uid && rest.ends_with('-')).then_some(uid)
}

/// What is known beside pod and container when one attempt is started.
pub struct Attempt<'a> {
    pub id: String,
    pub sandbox: String,
    /// The container whose processes it sees, by the engine's name; empty for its own or the pod's.
    pub processes_of: String,
    pub restarts: i32,
    pub crashes: u32,
    /// How often the pod's sandbox had been made anew before.
    pub sandboxes: u32,
    pub rootfs: PathBuf,
    pub image: &'a image::Image,
    pub environment: Vec<(String, String)>,
    pub argv: Vec<String>,
    pub mounts: Vec<Mount>,
    pub annotations: BTreeMap<String, String>,
    pub logs: PathBuf,
    pub seccomp: Seccomp,
    /// In the engine's words.
    pub app_armor_profile: String,
    pub memory_capacity_bytes: u64,
    /// The daemon's own OOM score.
    pub oom_score: i32,
}

/// The engine's description of one attempt at running `container`.
pub fn spec(pod: &Pod, container: &Container, attempt: Attempt) -> ContainerSpec {
    let pod_spec = pod.spec.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let shared = pod_spec.security_context.clone().unwrap_or_default();
    let config = &attempt.image.config;

    let mut env: BTreeMap<String, String> = BTreeMap::new();
    env.insert(
        "PATH".into(),
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
    );
    env.insert("HOSTNAME".into(), hostname(pod));
    for variable in &config.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        env.insert(name.to_owned(), value.to_owned());
    }
    env.extend(attempt.environment.iter().cloned());

    let uid = own.run_as_user.or(shared.run_as_user);
    let gid = own.run_as_group.or(shared.run_as_group);
    let user = match (uid, gid) {
        (Some(uid), Some(gid)) => format!("{uid}:{gid}"),
        (Some(uid), None) => uid.to_string(),
        (None, Some(gid)) if config.user.is_empty() => format!("0:{gid}"),
        (None, Some(gid)) => format!("{}:{gid}", config.user.split(':').next().unwrap_or("0")),
        (None, None) => config.user.clone(),
    };
    let privileged = own.privileged.unwrap_or(false);
    let capabilities = own.capabilities.clone().unwrap_or_default();

    let mut labels = pod_labels(pod);
    labels.insert(label::CONTAINER.into(), container.name.clone());
    labels.insert(label::RESTARTS.into(), attempt.restarts.to_string());
    labels.insert(label::CRASHES.into(), attempt.crashes.to_string());
    labels.insert(label::SANDBOX.into(), attempt.sandboxes.to_string());
    labels.insert(label::IMAGE_ID.into(), attempt.image.id.clone());
    let image = container.image.clone().unwrap_or_default();
    labels.insert(label::IMAGE.into(), image);

    ContainerSpec {
        id: attempt.id,
        sandbox: attempt.sandbox,
        processes_of: attempt.processes_of,
        name: container.name.clone(),
        labels,
        annotations: attempt.annotations,
        rootfs: attempt.rootfs,
        argv: attempt.argv,
        env: env
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
        cwd: container
            .working_dir
            .clone()
            .filter(|dir| !dir.is_empty())
            .unwrap_or_else(|| {
                if config.working_dir.is_empty() {
                    "/".into()
                } else {
                    config.working_dir.clone()
                }
            }),
        user,
        tty: container.tty.unwrap_or(false),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        mounts: attempt.mounts,
        resources: resources::container_resources(container),
        security: Security {
            privileged,
            capabilities_add: capabilities.add.unwrap_or_default(),
            capabilities_drop: capabilities.drop.unwrap_or_default(),
            read_only_root: own.read_only_root_filesystem.unwrap_or(false),
            no_new_privileges: own.allow_privilege_escalation == Some(false),
            seccomp_unconfined: privileged || attempt.seccomp == Seccomp::Unconfined,
            seccomp_profile: match attempt.seccomp {
                Seccomp::Profile(text) if !privileged => text,
                _ => String::new(),
            },
            app_armor_profile: attempt.app_armor_profile,
            run_as_non_root: own
                .run_as_non_root
                .or(shared.run_as_non_root)
                .unwrap_or(false),
            supplementary_groups: shared
                .fs_group
                .into_iter()
                .chain(shared.supplemental_groups.into_iter().flatten())
                .filter_map(|group| u32::try_from(group).ok())
                .collect(),
            sysctls: shared
                .sysctls
                .into_iter()
                .flatten()
                .map(|sysctl| (sysctl.name, sysctl.value))
                .collect(),
        },
        log: LogConfig {
            path: attempt
                .logs
                .join(&container.name)
                .join(format!("{}.log", attempt.restarts)),
            max_bytes: LOG_BYTES_MAX,
            max_files: LOG_FILES_MAX,
        },
        oom_score_adj: resources::oom_score_adj(
            &pod_spec,
            container,
            attempt.memory_capacity_bytes,
            attempt.oom_score,
        ),
        stop_signal: stop_signal(container, config),
        stop_seconds: pod_spec
            .termination_grace_period_seconds
            .and_then(|seconds| u64::try_from(seconds).ok()),
        ..ContainerSpec::default()
    }
}

/// The signal that asks the container to end: its own, else its image's; none for the usual one.
fn stop_signal(container: &Container, config: &image::ImageConfig) -> Option<i32> {
    let lifecycle = container.lifecycle.as_ref();
    let own = lifecycle.and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    own.or(config.stop_signal.as_deref())
        .and_then(engine::signal_number)
}

/// Whether the pod shares this machine's network.
pub fn host_network(pod: &Pod) -> bool {
    pod.spec
        .as_ref()
        .is_some_and(|spec| spec.host_network == Some(true))
}

/// The name that the pod's processes see; the kernel allows 64 bytes, DNS labels 63.
pub fn hostname(pod: &Pod) -> String {
    if host_network(pod)
        && let Ok(name) = std::fs::read_to_string("/proc/sys/kernel/hostname")
    {
        return name.trim().to_owned();
    }
    let spec = pod.spec.as_ref();
    if let Some(name) = spec.and_then(|spec| spec.hostname_override.clone()) {
        return name;
    }
    let name = spec
        .and_then(|spec| spec.hostname.clone())
        .filter(|name| !name.is_empty())
        .or_else(|| pod.metadata.name.clone())
        .unwrap_or_default();
    name.chars()
        .take(63)
        .collect::<String>()
        .trim_end_matches(['-', '.'])
        .to_owned()
}

/// What the kernel is told: the same, or the whole name in DNS of a pod that wants it so.
pub fn kernel_hostname(pod: &Pod, cluster_domain: &str) -> Result<String, String> {
    let wanted = pod.spec.as_ref().and_then(|spec| spec.set_hostname_as_fqdn) == Some(true);
    let name = hostname(pod);
    let Some(domain) = domain(pod, cluster_domain).filter(|_| wanted && !host_network(pod)) else {
        return Ok(name);
    };
    let whole = format!("{name}.{domain}");
    if whole.len() > HOSTNAME_BYTES_MAX {
        return Err(format!(
            "Failed to construct FQDN from pod hostname and cluster domain, FQDN {whole} is too long ({HOSTNAME_BYTES_MAX} is the max, {} characters requested)",
            whole.len()
        ));
    }
    Ok(whole)
}

/// Where the pod's name is in DNS, if it is in a subdomain.
fn domain(pod: &Pod, cluster_domain: &str) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if spec.hostname_override.is_some() {
        return None;
    }
    let subdomain = spec.subdomain.as_deref().filter(|name| !name.is_empty())?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    Some(format!("{subdomain}.{namespace}.svc.{cluster_domain}"))
}

/// /etc/hosts of the pod.
pub fn hosts(pod: &Pod, ips: &[String], cluster_domain: &str) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    let spec = pod.spec.clone().unwrap_or_default();
    let name = hostname(pod);
    if host_network(pod) {
        text = std::fs::read_to_string("/etc/hosts").unwrap_or(text);
    } else {
        let names = match domain(pod, cluster_domain) {
            Some(domain) => format!("{name}.{domain}\t{name}"),
            None => name,
        };
        for ip in ips {
            text += &format!("{ip}\t{names}\n");
        }
    }
    let aliases = spec.host_aliases.unwrap_or_default();
    if !aliases.is_empty() {
        text += "\n# Entries added by HostAliases.\n";
        for alias in aliases {
            text += &format!(
                "{}\t{}\n",
                alias.ip,
                alias.hostnames.unwrap_or_default().join("\t")
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_attempts_fit_and_differ() {
        let uid = "01234567-89ab-cdef-0123-456789abcdef";
        assert_eq!(attempt_id(uid, "web", 3), format!("web-3-{uid}"));
        for name in ["web", &"x".repeat(63)] {
            assert_eq!(pod_of_attempt(&attempt_id(uid, name, 7)), Some(uid));
        }
        for other in [&*"0".repeat(64), "", uid, "é-3", "build-1"] {
            assert_eq!(pod_of_attempt(other), None, "{other}");
        }
        let (a, b) = (
            attempt_id(uid, &format!("{}a", "x".repeat(62)), 2_000_000_000),
            attempt_id(uid, &format!("{}b", "x".repeat(62)), 2_000_000_000),
        );
        assert!(a.len() <= 80 && b.len() <= 80 && a != b, "{a} {b}");
    }

    #[test]
    fn ephemeral_containers_are_containers_with_a_target() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "spec": { "containers": [{ "name": "web" }], "ephemeralContainers": [
                { "name": "look", "image": "i", "command": ["sh"], "stdin": true, "tty": true,
                    "securityContext": { "capabilities": { "add": ["SYS_PTRACE"] } }, "targetContainerName": "web" },
                { "name": "other", "image": "j", "targetContainerName": "" } ] } }))
        .expect("pod");
        let added = ephemeral(&pod);
        assert_eq!(added.len(), 2);
        assert_eq!((added[0].stdin, added[0].tty), (Some(true), Some(true)));
        assert_eq!(added[0].command, Some(vec!["sh".to_owned()]));
        assert!(added[0].security_context.is_some());
        assert_eq!(target_of(&pod, "look"), Some("web"));
        assert_eq!(target_of(&pod, "other"), None);
        assert_eq!(target_of(&pod, "web"), None);
    }

    #[test]
    fn names_that_the_kernel_is_told() {
        let told = |spec: serde_json::Value| {
            let pod =
                serde_json::json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec});
            let pod: Pod = serde_json::from_value(pod).expect("a pod");
            kernel_hostname(&pod, "cluster.local")
        };
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        for (spec, expected) in [
            ("{}", "p"),
            (r#"{"hostname": "h", "subdomain": "s"}"#, "h"),
            (
                r#"{"hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true}"#,
                "h.s.n.svc.cluster.local",
            ),
            (r#"{"setHostnameAsFQDN": true}"#, "p"),
            (
                r#"{"hostname": "h", "hostnameOverride": "own.example.com"}"#,
                "own.example.com",
            ),
        ] {
            assert_eq!(told(json(spec)).as_deref(), Ok(expected), "{spec}");
        }
        let long = format!(
            r#"{{"subdomain": "{}", "setHostnameAsFQDN": true}}"#,
            "s".repeat(60)
        );
        let why = told(json(&long)).expect_err("too long");
        assert!(
            why.contains("is too long (64 is the max, 82 characters requested)"),
            "{why}"
        );
    }

    #[test]
    fn users_groups_and_rights() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "p", "uid": "u" },
            "spec": {
                "securityContext": { "runAsUser": 1, "fsGroup": 7, "supplementalGroups": [8], "runAsNonRoot": true },
                "containers": [
                    { "name": "a", "securityContext": { "runAsUser": 2, "runAsGroup": 3, "readOnlyRootFilesystem": true,
                        "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"], "add": ["NET_BIND_SERVICE"] } } },
                    { "name": "b", "workingDir": "", "env": [] } ] } }))
        .expect("pod");
        let config = image::ImageConfig {
            user: "root".into(),
            working_dir: "/srv".into(),
            env: vec!["A=1".into(), "B".into()],
            ..Default::default()
        };
        let image = image::Image {
            id: "sha256:1".into(),
            tags: Vec::new(),
            digests: Vec::new(),
            config,
            architecture: "amd64".into(),
            file: Default::default(),
            os: "linux".into(),
            created: jiff::Timestamp::UNIX_EPOCH,
            size_bytes: 0,
            local: true,
        };
        let of = |index: usize| {
            let container = &pod.spec.as_ref().expect("spec").containers[index];
            spec(
                &pod,
                container,
                Attempt {
                    sandboxes: 0,
                    id: "x".into(),
                    sandbox: "u".into(),
                    processes_of: String::new(),
                    restarts: 1,
                    crashes: 0,
                    rootfs: "/r".into(),
                    image: &image,
                    environment: vec![("A".into(), "2".into())],
                    argv: vec!["true".into()],
                    mounts: Vec::new(),
                    annotations: BTreeMap::new(),
                    logs: "/logs".into(),
                    seccomp: Seccomp::RuntimeDefault,
                    app_armor_profile: String::new(),
                    memory_capacity_bytes: 1 << 30,
                    oom_score: 0,
                },
            )
        };
        let a = of(0);
        assert_eq!((a.user.as_str(), a.cwd.as_str()), ("2:3", "/srv"));
        assert_eq!(a.security.supplementary_groups, [7, 8]);
        assert!(
            a.security.read_only_root && a.security.no_new_privileges && a.security.run_as_non_root
        );
        assert_eq!(
            (a.security.capabilities_drop, a.security.capabilities_add),
            (vec!["ALL".to_owned()], vec!["NET_BIND_SERVICE".to_owned()])
        );
        assert!(
            a.env.contains(&"A=2".to_owned())
                && a.env.contains(&"B=".to_owned())
                && a.env.contains(&"HOSTNAME=p".to_owned())
        );
        assert_eq!(a.log.path, Path::new("/logs/a/1.log"));
        assert_eq!(of(1).user, "1", "the pod's");
    }

    #[test]
    fn hosts_of_a_pod() {
        let pod: Pod = serde_json::from_value(serde_json::json!({ "metadata": { "name": "db-0", "namespace": "shop" },
            "spec": { "containers": [], "subdomain": "db", "hostAliases": [{ "ip": "1.2.3.4", "hostnames": ["a", "b"] }] } })).expect("pod");
        let ips = ["10.0.0.2", "fd00::2"].map(str::to_owned);
        let text = hosts(&pod, &ips, "cluster.local");
        for ip in ips {
            let line = format!("{ip}\tdb-0.db.shop.svc.cluster.local\tdb-0\n");
            assert!(text.contains(&line), "{text}");
        }
        assert!(
            text.ends_with("# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"),
            "{text}"
        );
        assert_eq!(hostname(&Pod { spec: None, ..pod }), "db-0");
    }
}
