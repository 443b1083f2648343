//! From a container of a pod to what the engine runs: a pure translation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::{ContainerSpec, LogConfig, Mount, Security};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::resources;

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
}

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
    logs.join(format!("{}_{}_{}", text(&metadata.namespace), text(&metadata.name), text(&metadata.uid)))
}

/// What is known beside pod and container when one attempt is started.
pub struct Attempt<'a> {
    pub id: String,
    pub sandbox: String,
    pub restarts: i32,
    pub crashes: u32,
    pub rootfs: PathBuf,
    pub image: &'a image::Image,
    pub environment: Vec<(String, String)>,
    pub argv: Vec<String>,
    pub mounts: Vec<Mount>,
    pub logs: PathBuf,
    pub memory_capacity_bytes: u64,
}

/// The engine's description of one attempt at running `container`.
pub fn spec(pod: &Pod, container: &Container, attempt: Attempt) -> ContainerSpec {
    let pod_spec = pod.spec.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let shared = pod_spec.security_context.clone().unwrap_or_default();
    let config = &attempt.image.config;

    let mut env: BTreeMap<String, String> = BTreeMap::new();
    env.insert("PATH".into(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
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
    let profile = own.seccomp_profile.as_ref().or(shared.seccomp_profile.as_ref());
    let capabilities = own.capabilities.clone().unwrap_or_default();

    let mut labels = pod_labels(pod);
    labels.insert(label::CONTAINER.into(), container.name.clone());
    labels.insert(label::RESTARTS.into(), attempt.restarts.to_string());
    labels.insert(label::CRASHES.into(), attempt.crashes.to_string());
    labels.insert(label::IMAGE_ID.into(), attempt.image.id.clone());

    ContainerSpec {
        id: attempt.id,
        sandbox: attempt.sandbox,
        name: container.name.clone(),
        labels,
        rootfs: attempt.rootfs,
        argv: attempt.argv,
        env: env.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
        cwd: container
            .working_dir
            .clone()
            .filter(|dir| !dir.is_empty())
            .unwrap_or_else(|| if config.working_dir.is_empty() { "/".into() } else { config.working_dir.clone() }),
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
            seccomp_unconfined: privileged || profile.is_some_and(|p| p.type_ == "Unconfined"),
            run_as_non_root: own.run_as_non_root.or(shared.run_as_non_root).unwrap_or(false),
            ..Security::default()
        },
        log: LogConfig {
            path: attempt.logs.join(&container.name).join(format!("{}.log", attempt.restarts)),
            max_bytes: LOG_BYTES_MAX,
            max_files: LOG_FILES_MAX,
        },
        oom_score_adj: resources::oom_score_adj(&pod_spec, container, attempt.memory_capacity_bytes),
        ..ContainerSpec::default()
    }
}

/// The name that the pod's processes see; the kernel allows 64 bytes, DNS labels 63.
pub fn hostname(pod: &Pod) -> String {
    let name = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.hostname.clone())
        .filter(|name| !name.is_empty())
        .or_else(|| pod.metadata.name.clone())
        .unwrap_or_default();
    name.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned()
}

/// /etc/hosts of the pod.
pub fn hosts(pod: &Pod, ip: Option<&str>, cluster_domain: &str) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    let spec = pod.spec.clone().unwrap_or_default();
    let name = hostname(pod);
    if let Some(ip) = ip {
        match spec.subdomain.filter(|s| !s.is_empty()) {
            Some(subdomain) => {
                let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
                text += &format!("{ip}\t{name}.{subdomain}.{namespace}.svc.{cluster_domain}\t{name}\n");
            }
            None => text += &format!("{ip}\t{name}\n"),
        }
    }
    let aliases = spec.host_aliases.unwrap_or_default();
    if !aliases.is_empty() {
        text += "\n# Entries added by HostAliases.\n";
        for alias in aliases {
            text += &format!("{}\t{}\n", alias.ip, alias.hostnames.unwrap_or_default().join("\t"));
        }
    }
    text
}
