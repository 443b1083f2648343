//! Start and end of a supervising process: its own cgroup, the sandbox's cgroup, namespaces, socket and ports.

use super::namespaces;
use super::ports::Ports;
use super::removals::Removals;
use super::{SCRATCH_LENGTH, Supervisor};
use crate::cgroup::Cgroups;
use crate::error::Error;
use crate::proc::ProcessId;
use crate::records::{self, Layout, SandboxRecord, SupervisorRecord};
use crate::sys;
use crate::wire::{Failure, FailureKind};
use rustix::mount::MountFlags;
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Name of the cgroup of all supervising processes, beneath the instance's.
pub const SUPERVISORS: &str = "supervisors";
/// Name of the cgroup of all sandboxes, beneath the instance's.
pub const PODS: &str = "pods";

/// Makes everything; what it made is removed again when it fails.
pub fn set_up(args: &[OsString]) -> Result<Supervisor, Failure> {
    let other = |reason: String| Failure::new(FailureKind::Other, reason);
    let [root, run, parent, id] = args else {
        return Err(other(
            "supervise: this is started by the daemon only".into(),
        ));
    };
    let (Some(parent), Some(id)) = (parent.to_str(), id.to_str()) else {
        return Err(other("supervise: an argument is not UTF-8".into()));
    };
    let layout = Layout {
        root: PathBuf::from(root),
        run: PathBuf::from(run),
    };
    sys::new_session();
    sys::set_umask(0o022);
    sys::set_name(c"plim-sandbox");
    sys::raise_descriptor_limit();
    let signals =
        sys::signal_descriptor(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP])
            .map_err(|error| other(format!("cannot receive signals: {error}")))?;
    sys::become_subreaper()
        .map_err(|error| other(format!("cannot become a subreaper: {error}")))?;

    let text = |error: Error| other(error.to_string());
    let record: SandboxRecord = records::load(&layout.sandbox_record(id))
        .map_err(text)?
        .ok_or_else(|| other(format!("there is no record of sandbox {id}")))?;
    let cgroups = Cgroups::detect().map_err(text)?;
    let supervisors = format!("{parent}/{SUPERVISORS}");
    cgroups
        .create(&supervisors)
        .and_then(|()| cgroups.add(&supervisors, std::process::id()))
        .map_err(text)?;
    let cgroup = format!("{parent}/{PODS}/{id}");
    let mut resources = record.spec.resources.clone();
    resources.pids_limit = resources.pids_limit.or_else(pids_limit_default);
    cgroups
        .create(&cgroup)
        .and_then(|()| cgroups.limit(&cgroup, &resources))
        .map_err(text)?;

    namespaces::make(&layout, id, &record)
        .and_then(|pause| make_shared_memory(&layout, id, record.ids).map(|()| pause))
        .map_err(|(what, error)| other(format!("cannot {what}: {error}")))
        // Held to the end of this process.
        .map(std::mem::forget)?;
    let mut ports = Ports::default();
    let bound = ports.publish(&record.spec.published);
    let listener =
        listen(&layout, id).map_err(|error| other(format!("cannot listen on the socket: {error}")));
    let (listener, published) = match (listener, bound) {
        (Ok(listener), Ok(published)) => (listener, published),
        (Err(failure), _) | (_, Err(failure)) => {
            release(&layout, &cgroups, &cgroup, id);
            return Err(failure);
        }
    };
    let process = ProcessId::of(std::process::id())
        .ok_or_else(|| other("cannot read /proc/self/stat".into()))?;
    records::save_for_this_boot(
        &layout.supervisor_record(id),
        &SupervisorRecord { process, published },
    )
    .map_err(text)?;
    Ok(Supervisor {
        id: id.to_owned(),
        layout,
        cgroups,
        cgroup,
        signals,
        listener,
        clients: BTreeMap::new(),
        containers: BTreeMap::new(),
        jobs: BTreeMap::new(),
        greetings: Vec::new(),
        execs: BTreeMap::new(),
        ended: VecDeque::new(),
        ports,
        removals: Removals::default(),
        stopping: None,
        next_key: 0,
        tidy_at: Cell::new(Some(Instant::now())),
        scratch: vec![0; SCRATCH_LENGTH],
    })
}

/// Tasks that a sandbox may have unless told otherwise: half of what the machine can, so that one that multiplies without end
/// leaves room to end it.
fn pids_limit_default() -> Option<i64> {
    let read = |name: &str| -> Option<i64> {
        let text = fs::read_to_string(Path::new("/proc/sys/kernel").join(name)).ok()?;
        text.trim().parse().ok()
    };
    Some(read("pid_max")?.min(read("threads-max")?) / 2)
}

/// Says over standard output that it is ready (nothing) or why not, and closes it.
pub fn tell_ready(failure: Option<Failure>) {
    let text = serde_json::to_string(&failure).unwrap_or_default();
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "{text}");
    let _ = stdout.flush();
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}

/// Removes what `set_up` made in the kernel and the run directory. Works from any process, and again.
pub fn release(layout: &Layout, cgroups: &Cgroups, cgroup: &str, id: &str) -> bool {
    let namespace = layout.network_namespace(id);
    let mut clean = sys::unmount(&namespace).is_ok();
    let _ = fs::remove_file(&namespace);
    clean &= namespaces::release(layout, id);
    let shared_memory = layout.shared_memory(id);
    clean &= sys::unmount(&shared_memory).is_ok();
    let _ = fs::remove_dir(&shared_memory);
    let _ = fs::remove_file(socket_path(layout, id));
    let _ = fs::remove_file(layout.supervisor_record(id));
    for container in records::ids_in(&layout.containers(id)) {
        let _ = records::remove_dir(&layout.bundles().join(&container));
        let _ = records::remove_dir(&layout.runtime().join(&container));
    }
    clean &= cgroups.remove(cgroup).is_ok();
    clean
}

/// Where a sandbox's supervising process listens.
pub fn socket_path(layout: &Layout, id: &str) -> PathBuf {
    layout.sockets().join(id)
}

/// The same through a descriptor of the directory: a whole path may be too long for a socket's address.
pub fn short_socket_path(directory: &File, id: &str) -> PathBuf {
    Path::new("/proc/self/fd")
        .join(directory.as_raw_fd().to_string())
        .join(id)
}

fn listen(layout: &Layout, id: &str) -> std::io::Result<UnixListener> {
    let path = socket_path(layout, id);
    let directory = File::open(layout.sockets())?;
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(short_socket_path(&directory, id))?;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

pub(super) type Step = (&'static str, std::io::Error);

/// What its containers share as `/dev/shm`: as long as the sandbox lives, and of a size that Docker and containerd give it.
fn make_shared_memory(layout: &Layout, id: &str, ids: Option<u32>) -> Result<(), Step> {
    let path = layout.shared_memory(id);
    // Left by a process that was killed.
    let _ = sys::unmount(&path);
    records::make_dir(&path)
        .map_err(|error| ("make shared memory", std::io::Error::other(error)))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let owner = ids.unwrap_or(0);
    let options = format!("mode=1777,size=65536k,uid={owner},gid={owner}");
    let options = std::ffi::CString::new(options)
        .map_err(|error| ("mount shared memory", std::io::Error::other(error)))?;
    rustix::mount::mount("shm", &path, "tmpfs", flags, options.as_c_str())
        .map_err(|error| ("mount shared memory", error.into()))
}
