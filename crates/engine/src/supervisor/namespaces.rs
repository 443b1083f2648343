//! The namespaces of a sandbox: made by its supervising process, or, with a user namespace of its own, by a short-lived child in it,
//! because a process in a user namespace may not join what belongs to another.

use super::setup::Step;
use crate::ids;
use crate::oci;
use crate::records::{self, Layout, SandboxRecord};
use crate::spec::{IpcNamespace, PidNamespace, SandboxNetwork};
use crate::sys;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Who the first process of a shared process namespace is, as upstream's.
const NOBODY: u32 = 65_535;
const FILES: [&str; 4] = ["user", "ipc", "uts", "pid"];

/// Makes them. What is returned keeps the sandbox's shared process namespace alive, if it has one: the supervising process holds it
/// to its end.
pub fn make(layout: &Layout, id: &str, record: &SandboxRecord) -> Result<Option<OwnedFd>, Step> {
    let spec = &record.spec;
    if record.ids.is_some() || spec.pid == PidNamespace::Sandbox {
        let dir = layout.namespaces(id);
        records::make_dir(&dir)
            .map_err(|error| ("make the directory of namespaces", io::Error::other(error)))?;
    }
    if let Some(first) = record.ids {
        return make_mapped(layout, id, record, first);
    }
    if spec.ipc == IpcNamespace::Sandbox {
        sys::unshare(libc::CLONE_NEWIPC).map_err(|error| ("make an ipc namespace", error))?;
    }
    sys::unshare(libc::CLONE_NEWUTS).map_err(|error| ("make a uts namespace", error))?;
    sys::set_hostname(oci::hostname(spec)).map_err(|error| ("set the host name", error))?;
    if spec.network != SandboxNetwork::Host {
        make_network(layout, id)?;
    }
    if spec.pid == PidNamespace::Sandbox {
        return make_shared_processes(layout, id).map(Some);
    }
    Ok(None)
}

/// Takes back what `make` left in the run directory; whether all is gone.
pub fn release(layout: &Layout, id: &str) -> bool {
    let dir = layout.namespaces(id);
    if !dir.exists() {
        return true;
    }
    let unmounted = FILES.map(|name| sys::unmount(&dir.join(name)).is_ok());
    unmounted.iter().all(|unmounted| *unmounted) && records::remove_dir(&dir).is_ok()
}

fn make_network(layout: &Layout, id: &str) -> Result<(), Step> {
    let host = File::open("/proc/self/ns/net")
        .map_err(|error| ("open the host's network namespace", error))?;
    sys::unshare(libc::CLONE_NEWNET).map_err(|error| ("make a network namespace", error))?;
    let kept = sys::loopback_up()
        .map_err(|error| ("bring the loopback interface up", error))
        .and_then(|()| {
            let path = layout.network_namespace(id);
            keep(Path::new("/proc/self/ns/net"), &path)
                .map_err(|error| ("mount the network namespace", error))
        });
    // Published ports are the host's: this process does not stay inside.
    sys::set_namespace(&host, libc::CLONE_NEWNET)
        .map_err(|error| ("return to the host's network namespace", error))?;
    kept
}

/// Binds a namespace to a file, so that it stays without a process in it.
fn keep(namespace: &Path, path: &Path) -> io::Result<()> {
    // Left by a process that was killed.
    let _ = sys::unmount(path);
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.open(path)?;
    sys::mount(Some(namespace), path, None, libc::MS_BIND)
}

fn make_shared_processes(layout: &Layout, id: &str) -> Result<OwnedFd, Step> {
    let (end, held) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|error| ("make a pipe", error.into()))?;
    let own = File::open("/proc/self/ns/pid")
        .map_err(|error| ("open the host's process namespace", error))?;
    sys::unshare(libc::CLONE_NEWPID).map_err(|error| ("make a process namespace", error))?;
    // SAFETY: a supervising process has one thread.
    match unsafe { sys::fork() }.map_err(|error| ("fork", error))? {
        0 => {
            drop(held);
            pause(end)
        }
        _ => drop(end),
    }
    let path = layout.namespaces(id).join("pid");
    let kept = keep(Path::new("/proc/self/ns/pid_for_children"), &path)
        .map_err(|error| ("mount the process namespace", error));
    sys::set_namespace(&own, libc::CLONE_NEWPID)
        .map_err(|error| ("return to the host's process namespace", error))?;
    kept.map(|()| held)
}

/// The first process of a shared process namespace: does nothing until its supervising process ends. Who becomes its child is
/// reaped by the kernel.
fn pause(end: OwnedFd) -> ! {
    sys::reset_signals();
    sys::ignore_children();
    sys::set_name(c"pause");
    let end = File::from(end);
    // SAFETY: this process never returns to who owns them.
    unsafe { sys::close_all_but(end.as_raw_fd()) };
    // Without it no container starts, rather than one that could look at more than an empty place.
    if shrink().is_ok() {
        let _ = (&end).read(&mut [0]);
    }
    std::process::exit(0)
}

/// Containers see this process, and one that may trace others could make it do anything: so there is nothing that it can do. No
/// user, no rights, an empty root, no network, and no word of where this instance lives.
fn shrink() -> io::Result<()> {
    sys::set_dumpable();
    hide_arguments()?;
    sys::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWNET)?;
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags)?;
    // Any directory does; the old root lies beneath the new one until it is let go.
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("empty", "/proc", "tmpfs", flags, c"size=4k,mode=555")?;
    std::env::set_current_dir("/proc")?;
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")?;
    for bit in 0..64 {
        // Numbers that the kernel does not know are the end of the list.
        if sys::drop_bounding(bit).is_err() {
            break;
        }
    }
    sys::set_ids(NOBODY, NOBODY, &[])?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    rustix::thread::set_capabilities(None, sets)?;
    sys::set_no_new_privileges()?;
    sys::set_undumpable();
    Ok(())
}

/// Writes over this process's own arguments (proc(5), stat: fields 48 and 49 are where they lie).
fn hide_arguments() -> io::Result<()> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .collect();
    let number = |field: usize| {
        fields
            .get(field - 3)
            .and_then(|text| text.trim().parse::<u64>().ok())
    };
    if let (Some(start), Some(end)) = (number(48), number(49)) {
        let mut bytes = vec![0; end.saturating_sub(start).min(1 << 16) as usize];
        let name = b"/pause";
        if bytes.len() > name.len() {
            bytes[..name.len()].copy_from_slice(name);
        }
        File::options()
            .write(true)
            .open("/proc/self/mem")?
            .write_all_at(&bytes, start)?;
    }
    Ok(())
}

/// What the child tells: the number of steps done, or what went wrong.
struct Child {
    told: File,
    go: File,
    pid: i32,
}

impl Child {
    fn step(&mut self, what: &'static str) -> Result<(), Step> {
        let mut text = vec![0; 512];
        match self.told.read(&mut text) {
            Ok(1) => Ok(()),
            Ok(0) => Err((what, io::Error::other("the process ended"))),
            Ok(count) => Err((
                what,
                io::Error::other(String::from_utf8_lossy(&text[..count]).into_owned()),
            )),
            Err(error) => Err((what, error)),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = sys::kill(self.pid, libc::SIGKILL);
        let _ = sys::wait_child(self.pid, true);
    }
}

fn make_mapped(
    layout: &Layout,
    id: &str,
    record: &SandboxRecord,
    first: u32,
) -> Result<Option<OwnedFd>, Step> {
    let pipe = || {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|error| ("make a pipe", io::Error::from(error)))
    };
    let (told, tell) = pipe()?;
    let (wait, go) = pipe()?;
    let shares = record.spec.pid == PidNamespace::Sandbox;
    let (end, held) = pipe()?;
    // SAFETY: a supervising process has one thread.
    let pid = match unsafe { sys::fork() }.map_err(|error| ("fork", error))? {
        0 => {
            drop((told, go, held));
            inside(
                record,
                File::from(tell),
                File::from(wait),
                shares.then_some(end),
            )
        }
        pid => pid,
    };
    drop((tell, wait, end));
    let mut child = Child {
        told: File::from(told),
        go: File::from(go),
        pid,
    };
    child.step("make a user namespace")?;
    let map = format!("0 {first} {}\n", ids::COUNT);
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{pid}/{file}"), &map)
            .map_err(|error| ("map the ids of the user namespace", error))?;
    }
    child
        .go
        .write_all(b"g")
        .map_err(|error| ("make namespaces", error))?;
    child.step("make namespaces in the user namespace")?;
    let dir = layout.namespaces(id);
    let own = |name: &str| format!("/proc/{pid}/ns/{name}");
    let mut kept = vec![
        ("user", dir.join("user")),
        ("ipc", dir.join("ipc")),
        ("uts", dir.join("uts")),
    ];
    if record.spec.network != SandboxNetwork::Host {
        kept.push(("net", layout.network_namespace(id)));
    }
    if shares {
        kept.push(("pid_for_children", dir.join("pid")));
    }
    for (name, path) in kept {
        keep(Path::new(&own(name)), &path).map_err(|error| ("mount a namespace", error))?;
    }
    Ok(shares.then_some(held))
}

/// In the child; never returns.
fn inside(
    record: &SandboxRecord,
    mut tell: File,
    mut wait: File,
    pause_until: Option<OwnedFd>,
) -> ! {
    let mut steps = || -> io::Result<()> {
        sys::unshare(libc::CLONE_NEWUSER)?;
        tell.write_all(b"u")?;
        wait.read_exact(&mut [0])?;
        // What is made now belongs to root inside.
        sys::set_ids(0, 0, &[])?;
        sys::unshare(libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWNET)?;
        sys::set_hostname(oci::hostname(&record.spec))?;
        sys::loopback_up()
    };
    let done = steps().and_then(|()| {
        let Some(end) = pause_until else {
            return Ok(());
        };
        sys::unshare(libc::CLONE_NEWPID)?;
        // SAFETY: this process was forked from one with one thread.
        match unsafe { sys::fork() }? {
            0 => pause(end),
            _ => Ok(()),
        }
    });
    match done {
        Ok(()) => drop(tell.write_all(b"n")),
        Err(error) => drop(tell.write_all(format!("{error} ").as_bytes())),
    }
    // Until it is killed: its namespaces are taken from it meanwhile.
    let _ = wait.read(&mut [0]);
    std::process::exit(0)
}
