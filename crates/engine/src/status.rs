//! What is: states, exits, measurements and events.

use crate::spec::{ContainerSpec, PublishedPort, SandboxSpec};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// The exit code; 128 + n after signal n. With `lost` set: 137 when it was killed because its supervising process had gone, 255
    /// when the machine went down.
    pub code: i32,
    pub signal: Option<i32>,
    /// The kernel killed a process of this container for memory.
    pub oom_killed: bool,
    pub finished_at: Timestamp,
    /// Its supervising process or the machine went away first: code and time are an estimate.
    #[serde(default)]
    pub lost: bool,
}

/// State of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    Created,
    Running,
    Exited,
}

/// State of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxState {
    Created,
    Running,
    Stopped,
}

/// A container as it is now.
#[derive(Clone, Debug)]
pub struct ContainerStatus {
    pub id: String,
    pub sandbox: String,
    pub spec: Arc<ContainerSpec>,
    pub state: State,
    /// Process id of its first process in the host's pid namespace, while it runs.
    pub pid: Option<u32>,
    /// Its processes are frozen (`Engine::pause_container`); only while it runs.
    pub paused: bool,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub exit: Option<ExitStatus>,
}

/// A sandbox's user namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserNamespace {
    /// The machine's id that is 0 inside; 65 535 more follow.
    pub first_id: u32,
    /// The namespace as a file.
    pub path: PathBuf,
}

/// A sandbox as it is now.
#[derive(Clone, Debug)]
pub struct SandboxStatus {
    pub id: String,
    pub spec: Arc<SandboxSpec>,
    pub state: SandboxState,
    /// Path of its network namespace while it runs; `None` with the host's network.
    pub netns: Option<PathBuf>,
    pub supervisor_pid: Option<u32>,
    pub created_at: Timestamp,
    /// The ports that are bound now, with the numbers that the kernel chose.
    pub published: Vec<PublishedPort>,
    /// Its user namespace while it runs, if it asked for one. The root filesystem of a container in it must be owned by its ids:
    /// an overlay of id-mapped layers, or else any directory of a file system that supports id-mapped mounts, which is mapped.
    pub user_namespace: Option<UserNamespace>,
}

/// One reading of a cgroup's counters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    pub at: Timestamp,
    /// CPU time used since the start, nanoseconds.
    pub cpu_usage_ns: u64,
    pub memory_usage_bytes: u64,
    /// Usage less inactive file pages, as the kubelet defines it.
    pub memory_working_set_bytes: u64,
    pub memory_limit_bytes: Option<u64>,
    pub pids: u64,
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_ns: u64,
    /// Processes that the kernel killed for memory.
    pub oom_kills: u64,
}

/// Something that happened; a receiver that lags loses the oldest and must look at the statuses again.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    SandboxStarted {
        id: String,
    },
    SandboxStopped {
        id: String,
    },
    SandboxRemoved {
        id: String,
    },
    ContainerCreated {
        id: String,
        sandbox: String,
    },
    ContainerStarted {
        id: String,
        sandbox: String,
        pid: u32,
    },
    ContainerPaused {
        id: String,
        sandbox: String,
    },
    ContainerUnpaused {
        id: String,
        sandbox: String,
    },
    /// Comes before the `ContainerExited` of the same container.
    ContainerOomKilled {
        id: String,
        sandbox: String,
    },
    ContainerExited {
        id: String,
        sandbox: String,
        status: ExitStatus,
    },
    ContainerRemoved {
        id: String,
        sandbox: String,
    },
}
