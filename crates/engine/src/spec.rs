//! What a caller wants: sandboxes, containers, their limits, mounts and rights.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// A sandbox: the namespaces, cgroup and published ports that the containers of one pod share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxSpec {
    /// 1 to 80 characters of `[A-Za-z0-9_.-]`, starting with a letter or digit.
    pub id: String,
    /// Host name inside the sandbox; empty means the id's first 12 characters. At most 64 bytes.
    pub hostname: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub network: SandboxNetwork,
    /// Limits of all its containers together.
    pub resources: Resources,
    /// Content of `/etc/hosts` in its containers; empty means the image's own file.
    pub hosts: String,
    /// Content of `/etc/resolv.conf` in its containers; empty means the image's own file.
    pub resolv_conf: String,
    pub published: Vec<PublishedPort>,
    /// A user namespace of its own: root inside is nobody outside. 65 536 ids of the machine are set aside for it, for as long as
    /// there is a record of it (see `SandboxStatus::user_namespace`). Not together with namespaces of the host or of others.
    pub user_namespace: bool,
    pub pid: PidNamespace,
    pub ipc: IpcNamespace,
}

/// Which processes the containers of a sandbox see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidNamespace {
    /// Each container its own ones.
    #[default]
    Own,
    /// All containers of the sandbox those of all.
    Sandbox,
    /// Those of the host.
    Host,
    /// Those of this container, which must run when one is started.
    Container(String),
}

/// Whose shared memory, semaphores and message queues the containers of a sandbox use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpcNamespace {
    /// All containers of the sandbox those of the sandbox.
    #[default]
    Sandbox,
    /// Those of the host, its `/dev/shm` included.
    Host,
    /// Those of this container, its `/dev/shm` included; it must run when one is started.
    Container(String),
}

/// What network a sandbox has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxNetwork {
    /// A network namespace of its own, with loopback up, to be given an address by the caller.
    #[default]
    Own,
    /// The host's network namespace.
    Host,
    /// A network namespace of its own that the caller gives no address.
    None,
}

/// A port of this machine that the supervising process binds and forwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Address to bind; `None` means all addresses of both families.
    pub host_ip: Option<IpAddr>,
    /// Port to bind; 0 lets the kernel choose (see `SandboxStatus::published`).
    pub host_port: u16,
    /// Where to forward. An unspecified address means "not known yet": connections are closed until it is.
    pub target: SocketAddr,
    pub protocol: Protocol,
}

/// Transport protocol of a published port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
}

/// What may change in a running sandbox; `None` leaves a part as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxUpdate {
    pub hosts: Option<String>,
    pub resolv_conf: Option<String>,
    pub published: Option<Vec<PublishedPort>>,
    /// Limits of everything in it together; one that is not named stays as it is until the next start.
    pub resources: Option<Resources>,
}

/// A container: one root process and what it may see and use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// As a sandbox's id; unique in the whole engine.
    pub id: String,
    /// Id of the sandbox it runs in.
    pub sandbox: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// The mounted root filesystem; must be there when the container starts.
    pub rootfs: PathBuf,
    /// Program and arguments; a program without `/` is looked up in `PATH` of `env`, inside the container.
    pub argv: Vec<String>,
    /// `NAME=value`; `PATH`, `HOSTNAME` and `HOME` are added when missing.
    pub env: Vec<String>,
    /// Absolute; empty means `/`. Made when missing.
    pub cwd: String,
    /// `""`, `uid`, `uid:gid`, `name` or `name:group`, looked up in the root filesystem's own files.
    pub user: String,
    pub tty: bool,
    /// Keep standard input open for `attach`; otherwise it is `/dev/null`.
    pub stdin: bool,
    /// Close standard input when the first attached client goes.
    pub stdin_once: bool,
    pub mounts: Vec<Mount>,
    /// Devices of this machine that it may use beside those that every container may.
    pub devices: Vec<Device>,
    /// No `/dev/shm`.
    pub no_shared_memory: bool,
    pub resources: Resources,
    pub security: Security,
    pub log: LogConfig,
    /// -1000 to 1000. Without CAP_SYS_RESOURCE it cannot be lowered below the engine's own, which it then is.
    pub oom_score_adj: i32,
    /// Limits of each of its processes, those that enter it included. Without CAP_SYS_RESOURCE none can be raised above the
    /// engine's own hard limit, which it then is.
    pub ulimits: Vec<Ulimit>,
    /// Signal that asks it to end; `None` means SIGTERM.
    pub stop_signal: Option<i32>,
    /// Seconds that it is given to end, for whoever ends all that runs; `None` leaves that to them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_seconds: Option<u64>,
    /// The container, of the same sandbox and running when this one starts, whose processes it sees; empty means what the
    /// sandbox says.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub processes_of: String,
}

/// One limit of setrlimit(2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ulimit {
    /// In lower case without `RLIMIT_`: `nofile`, `nproc`, `core`, ...
    pub name: String,
    /// In the kernel's unit; negative means without limit.
    pub soft: i64,
    /// In the kernel's unit; negative means without limit.
    pub hard: i64,
}

/// One more mount in a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Host file or directory for `Bind`; unused for `Tmpfs`.
    pub source: PathBuf,
    /// Absolute path inside the container; resolved beneath its root.
    pub target: String,
    pub kind: MountKind,
    pub read_only: bool,
    /// More mount options (`size=64m`, `mode=1777`, `rslave`, `noexec`, ...). `bind`: without what is mounted beneath the source.
    pub options: Vec<String>,
}

/// A device of this machine that a container may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// A device file, or a directory that stands for all device files in it; looked up when the container starts.
    pub source: PathBuf,
    /// Absolute path inside the container.
    pub target: String,
    /// What it may do, of `r` (read), `w` (write) and `m` (make such a file).
    pub access: String,
}

/// Kind of a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    #[default]
    Bind,
    Tmpfs,
}

/// cgroup limits; `None` means no limit of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Relative weight, 1024 per CPU as Kubernetes and Docker count (2 to 262144).
    pub cpu_shares: Option<u64>,
    /// CPU time per period in microseconds; zero or less means unlimited.
    pub cpu_quota_us: Option<i64>,
    /// Length of a period in microseconds (1000 to 1000000; default 100000).
    pub cpu_period_us: Option<u64>,
    /// Memory in bytes, swap included; zero or less means unlimited.
    pub memory_limit_bytes: Option<i64>,
    /// When memory runs out all processes of the container are killed, not only the largest, so that no half of it lives on. On
    /// cgroup v2 only (`memory.oom.group`); v1 has no such thing.
    pub memory_oom_group: bool,
    /// Number of tasks; zero or less means unlimited.
    pub pids_limit: Option<i64>,
    /// CPUs it may run on, as `0-2,4`.
    pub cpuset: Option<String>,
}

/// What a container may do beyond, or short of, the default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// All capabilities and devices, nothing masked, no seccomp profile but one of its own.
    pub privileged: bool,
    /// Names with or without `CAP_`, or `ALL`.
    pub capabilities_add: Vec<String>,
    /// Names with or without `CAP_`, or `ALL`.
    pub capabilities_drop: Vec<String>,
    pub read_only_root: bool,
    pub no_new_privileges: bool,
    pub seccomp_unconfined: bool,
    /// A seccomp profile of its own instead of the default one: the text of a JSON document as Docker and the OCI runtime
    /// specification know it, at most 1 MiB. Docker's `includes` and `excludes` are resolved for its capabilities, this
    /// architecture and this kernel when it starts.
    pub seccomp_profile: String,
    /// Name of an AppArmor profile that the kernel has; empty means the engine's own where there is AppArmor, and none for a
    /// privileged container; `unconfined` means none.
    pub app_armor_profile: String,
    /// Refuse to start as user id 0.
    pub run_as_non_root: bool,
    /// Group ids in addition to those of the user.
    pub supplementary_groups: Vec<u32>,
    /// Namespaced kernel parameters (`net.*`, `kernel.shm*`, ...).
    pub sysctls: BTreeMap<String, String>,
}

/// Where output goes, in CRI format.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// File to append to; empty means output is not kept.
    pub path: PathBuf,
    /// Size at which the file is rotated to `PATH.1`, `PATH.2`, ...; 0 means 10 MiB.
    pub max_bytes: u64,
    /// Files kept in all, the current one included; 0 means 5.
    pub max_files: u32,
}

impl Default for PublishedPort {
    fn default() -> Self {
        PublishedPort {
            host_ip: None,
            host_port: 0,
            target: SocketAddr::from(([0, 0, 0, 0], 0)),
            protocol: Protocol::Tcp,
        }
    }
}

impl SandboxSpec {
    /// The container whose processes it sees.
    pub(crate) fn pid_of(&self) -> Option<&str> {
        match &self.pid {
            PidNamespace::Container(id) => Some(id),
            _ => None,
        }
    }

    /// The container whose shared memory it uses.
    pub(crate) fn ipc_of(&self) -> Option<&str> {
        match &self.ipc {
            IpcNamespace::Container(id) => Some(id),
            _ => None,
        }
    }
}
