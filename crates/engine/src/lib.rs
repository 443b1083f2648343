//! Containers and sandboxes on this machine: runtime, supervising processes, cgroups, mounts, logs, exec, stats and events.
//!
//! What is deliberately absent: Kubernetes, the Docker API, images and addresses. A caller brings a mounted root filesystem and
//! gives the sandbox's network namespace its addresses; this crate runs processes in it and never forgets how they ended.

pub mod logs;
pub mod runner;

mod apparmor;
mod cgroup;
mod config;
mod engine;
mod error;
mod ids;
mod kernel;
mod oci;
mod proc;
mod process;
mod records;
mod runtime;
mod sealed;
mod signals;
mod spec;
mod status;
mod supervisor;
mod sys;
mod tree;
mod wire;

pub use apparmor::{AppArmor, app_armor, app_armor_profile_loaded};
pub use config::Config;
pub use engine::{Engine, lower_oom_score};
pub use error::Error;
pub use kernel::check_kernel;
pub use process::{ExecSpec, Output, Process, Resizer};
pub use runtime::runtime_main;
pub use signals::signal_number;
pub use spec::{
    ContainerSpec, Device, IpcNamespace, LogConfig, Mount, MountKind, PidNamespace, Protocol,
    PublishedPort, Resources, SandboxNetwork, SandboxSpec, SandboxUpdate, Security, Ulimit,
};
pub use status::{
    ContainerStatus, Event, ExitStatus, SandboxState, SandboxStatus, State, Stats, UserNamespace,
};

pub use supervisor::supervise_main;
