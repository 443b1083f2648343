//! Which namespaces a container joins: those of its sandbox, of the host, or of another container.

use crate::ids;
use crate::oci::user::User;
use crate::records::{self, ContainerState, Layout, SandboxRecord};
use crate::spec::{IpcNamespace, PidNamespace, SandboxNetwork};
use std::path::PathBuf;

/// What a container shares, and with whom.
pub struct Joined {
    /// For the runtime's configuration.
    pub namespaces: Vec<(&'static str, Option<PathBuf>)>,
    /// What it sees as `/dev/shm`.
    pub shared_memory: PathBuf,
}

impl Joined {
    /// Errors: a container whose namespaces are wanted and that does not run.
    pub fn of(
        sandbox: &SandboxRecord,
        processes_of: &str,
        layout: &Layout,
        unified: bool,
    ) -> Result<Joined, String> {
        let spec = &sandbox.spec;
        let id = &spec.id;
        let holder = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        let held = |name: &str| match sandbox.ids {
            Some(_) => layout.namespaces(id).join(name),
            None => format!("/proc/{holder}/ns/{name}").into(),
        };
        let mut namespaces = vec![("mount", None), ("uts", Some(held("uts")))];
        if sandbox.ids.is_some() {
            namespaces.push(("user", Some(held("user"))));
        }
        let pid = match (&spec.pid, processes_of) {
            (PidNamespace::Own, other) if !other.is_empty() => {
                &PidNamespace::Container(other.to_owned())
            }
            (shared, _) => shared,
        };
        match pid {
            PidNamespace::Own => namespaces.push(("pid", None)),
            PidNamespace::Sandbox => {
                namespaces.push(("pid", Some(layout.namespaces(id).join("pid"))));
            }
            PidNamespace::Host => {}
            PidNamespace::Container(other) => {
                let (_, pid) = running(layout, other)?;
                namespaces.push(("pid", Some(format!("/proc/{pid}/ns/pid").into())));
            }
        }
        let mut shared_memory = layout.shared_memory(id);
        match &spec.ipc {
            IpcNamespace::Sandbox => namespaces.push(("ipc", Some(held("ipc")))),
            IpcNamespace::Host => shared_memory = "/dev/shm".into(),
            IpcNamespace::Container(other) => {
                let (sandbox, pid) = running(layout, other)?;
                namespaces.push(("ipc", Some(format!("/proc/{pid}/ns/ipc").into())));
                shared_memory = layout.shared_memory(&sandbox);
            }
        }
        if spec.network != SandboxNetwork::Host {
            namespaces.push(("network", Some(layout.network_namespace(id))));
        }
        if unified {
            namespaces.push(("cgroup", None));
        }
        Ok(Joined {
            namespaces,
            shared_memory,
        })
    }
}

/// The sandbox and first process of another container that runs.
fn running(layout: &Layout, id: &str) -> Result<(String, u32), String> {
    for sandbox in records::ids_in(&layout.sandboxes()) {
        let path = layout.container_state(&sandbox, id);
        if let Ok(Some(state)) = records::load::<ContainerState>(&path)
            && state.exit.is_none()
            && state.process.alive()
        {
            return Ok((sandbox, state.process.pid));
        }
    }
    Err(format!(
        "cannot join the namespaces of container {id}: it is not running"
    ))
}

/// An id of the user that has no place in a user namespace.
pub fn unmapped(user: &User) -> Option<u32> {
    [user.uid, user.gid]
        .into_iter()
        .chain(user.groups.iter().copied())
        .find(|id| *id >= ids::COUNT)
}
