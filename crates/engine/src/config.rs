//! Where an engine keeps its things and how it starts supervising processes.

use std::ffi::OsString;
use std::path::PathBuf;

/// Configuration of one engine; every name in it belongs to one instance only.
#[derive(Clone, Debug)]
pub struct Config {
    /// Durable records: one directory per sandbox (`DIR/engine`).
    pub root: PathBuf,
    /// Sockets and namespace mounts, gone after a reboot (`/run/plim-XXXXXX/engine`).
    pub run: PathBuf,
    /// Instance name, `plim-XXXXXX`.
    pub instance: String,
    /// Parent cgroup of everything, an absolute path inside each hierarchy (`/plim-XXXXXX`).
    pub cgroup_parent: String,
    /// Program and first arguments of the supervising process: `["/proc/self/exe", "supervise"]`. The last word must be `supervise`;
    /// the same program is started with `runtime` as its first argument for runtime children.
    pub supervisor: Vec<OsString>,
}
