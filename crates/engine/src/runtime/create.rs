//! Makes a container with libcontainer and starts its program.

use super::joined::{self, Joined};
use super::late::Late;
use super::launch::{Confinement, Launch, Steps, read_failure};
use super::{Task, failed, stage};
use crate::apparmor;
use crate::cgroup::{Cgroups, devices};
use crate::oci::rootfs::Root;
use crate::oci::{self, user};
use crate::records::{self, ContainerRecord, SandboxRecord};
use crate::spec::{ContainerSpec, Mount, MountKind};
use crate::wire::{Failure, FailureKind};
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

/// Makes and starts it; its pid here, and its terminal.
pub fn run(task: &Task) -> Result<(u32, Option<OwnedFd>), Failure> {
    let fail = |what: &str, error: &dyn std::fmt::Display| failed(FailureKind::Start, what, error);
    let layout = &task.layout;
    let record: ContainerRecord =
        records::load(&layout.container_record(&task.sandbox, &task.container))
            .and_then(|record| {
                record.ok_or(crate::Error::NotFound {
                    what: "container record",
                    id: task.container.clone(),
                })
            })
            .map_err(|error| fail("cannot read the container's record", &error))?;
    let sandbox: SandboxRecord = records::load(&layout.sandbox_record(&task.sandbox))
        .and_then(|record| {
            record.ok_or(crate::Error::NotFound {
                what: "sandbox record",
                id: task.sandbox.clone(),
            })
        })
        .map_err(|error| fail("cannot read the sandbox's record", &error))?;
    let container = &record.spec;
    let cgroups = Cgroups::detect().map_err(|error| fail("cgroups", &error))?;
    let cgroup = format!("{}/{}", task.cgroup, task.container);

    let root = Root::open(&container.rootfs).map_err(|error| {
        fail(
            &format!(
                "cannot open the root filesystem {}",
                container.rootfs.display()
            ),
            &error,
        )
    })?;
    root.check_ours()
        .map_err(|error| fail("cannot use the root filesystem", &error))?;
    let read = |path: &str| {
        root.read(path)
            .map_err(|error| fail(&format!("cannot read {path} of the container"), &error))
    };
    let mut user = user::resolve(&container.user, &read("/etc/passwd")?, &read("/etc/group")?)
        .map_err(|reason| Failure::new(FailureKind::Start, reason))?;
    if container.security.run_as_non_root && user.uid == 0 {
        return Err(Failure::new(
            FailureKind::Start,
            "container has runAsNonRoot and image will run as root",
        ));
    }
    user.groups.extend(&container.security.supplementary_groups);
    user.groups.sort_unstable();
    user.groups.dedup();
    if let Some(id) = sandbox.ids.and_then(|_| joined::unmapped(&user)) {
        let reason = format!(
            "the id {id} is not mapped in the container's user namespace: it has 0 to 65535"
        );
        return Err(Failure::new(FailureKind::Start, reason));
    }
    let missing = |mount: &&Mount| mount.kind == MountKind::Bind && !mount.source.exists();
    if let Some(mount) = container.mounts.iter().find(missing) {
        let reason = format!(
            "bind source path does not exist: {}",
            mount.source.display()
        );
        return Err(Failure::new(FailureKind::Start, reason));
    }
    for mount in &container.mounts {
        root.check_target(&mount.target).map_err(|error| {
            let what = format!(
                "cannot mount {} at {}",
                mount.source.display(),
                mount.target
            );
            fail(&what, &error)
        })?;
    }
    if container.cwd.len() > 1 {
        // As root, here, because the container's user may not be allowed to; a mount may still hide it.
        let _ = root.make_dirs(&container.cwd);
    }
    give_stdio_to(&user, sandbox.ids);

    let mut joined = Joined::of(&sandbox, &container.processes_of, layout, cgroups.unified())
        .map_err(|reason| Failure::new(FailureKind::Start, reason))?;
    let mut seen = container.clone();
    let mut sandbox_dir = layout.sandbox(&task.sandbox);
    let cgroup_directories = cgroups.directories(&cgroup);
    let mut given = oci::devices::find(&container.devices)
        .map_err(|reason| Failure::new(FailureKind::Start, reason))?;
    if sandbox.ids.is_some() && !given.is_empty() {
        let reason = "devices of the machine cannot be had in a user namespace";
        return Err(Failure::new(FailureKind::Start, reason));
    }
    if container.security.privileged && sandbox.ids.is_none() {
        let all = oci::devices::all(Path::new("/dev"), &given).into_iter();
        // where the caller mounts something, that is what is there
        let is_free = |node: &oci::devices::Node| {
            let over = |mount: &Mount| node.target.starts_with(&mount.target);
            !container.mounts.iter().any(over)
        };
        given.extend(all.filter(is_free));
    }
    for node in given.iter().filter(|node| !node.is_made()) {
        let target = node.target.to_string_lossy();
        root.check_target(&target)
            .map_err(|error| fail(&format!("cannot mount a device at {target}"), &error))?;
    }
    let app_armor_profile = apparmor::of(&container.security, layout);
    let inputs = |seen: &ContainerSpec, sandbox_dir: &Path, joined: &Joined| {
        oci::config(&oci::Inputs {
            container: seen,
            sandbox: &sandbox.spec,
            user: &user,
            sandbox_dir,
            shared_memory: &joined.shared_memory,
            namespaces: &joined.namespaces,
            cgroup: &cgroup,
            unified: cgroups.unified(),
            cgroup_directories: &cgroup_directories,
            devices: &given,
            app_armor_profile: app_armor_profile.as_deref(),
        })
    };
    let mut config = inputs(&seen, &sandbox_dir, &joined);
    let owner = sandbox.ids.filter(|_| stage::is_overlay(&container.rootfs));
    for target in oci::file_targets(&config) {
        // What cannot be made, the mount complains of; a mount of the caller may be above it.
        let _ = root.make_file(target);
        root.give(target, owner);
    }
    root.give(&container.cwd, owner);
    let bundle = layout.bundles().join(&task.container);
    for dir in [&bundle, &layout.runtime()] {
        records::make_dir(dir).map_err(|error| fail("runtime", &error))?;
    }
    let late =
        Late::of(container).map_err(|error| fail("cannot open a mount over /dev", &error))?;
    if sandbox.ids.is_some() {
        stage::set(layout, &mut seen, &mut sandbox_dir, &mut joined)
            .map_err(|reason| Failure::new(FailureKind::Start, reason))?;
        config = inputs(&seen, &sandbox_dir, &joined);
    }
    fs::write(bundle.join("config.json"), config.to_string())
        .map_err(|error| fail("cannot write the runtime's configuration", &error))?;

    let env = config["process"]["env"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.as_str().map(str::to_owned))
        .collect();
    let launch = Launch {
        argv: container.argv.clone(),
        env,
        cwd: container.cwd.clone(),
        kind: FailureKind::Start,
    };
    let confinement = Confinement::of(&container.security, &user, layout)
        .map_err(|error| fail("cannot prepare", &error))?;
    let (failures, failures_in) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|error| fail("pipe", &error))?;
    let failures_in = Arc::new(failures_in);
    let steps = Steps {
        launch,
        late,
        confinement,
        failures: failures_in.clone(),
    };
    let console = container
        .tty
        .then(|| console_listener(&bundle))
        .transpose()
        .map_err(|error| fail("cannot make the console socket", &error))?;

    let built = build(task, &bundle, console.is_some(), steps);
    let mut built = match built {
        Ok(built) => built,
        Err(reason) => {
            drop(failures_in);
            // The steps inside the container know better what went wrong.
            return Err(
                read_failure(failures).unwrap_or_else(|| Failure::new(FailureKind::Start, reason))
            );
        }
    };
    let pid = built
        .pid()
        .map(|pid| pid.as_raw() as u32)
        .ok_or_else(|| Failure::new(FailureKind::Start, "the runtime told no pid"))?;
    cgroups
        .add(&cgroup, pid)
        .and_then(|()| cgroups.limit(&cgroup, &container.resources))
        .and_then(|()| {
            match devices::rules(&container.security, given.iter().map(|node| node.rule)) {
                Some(rules) => cgroups.restrict_devices(&cgroup, &rules),
                None => Ok(()),
            }
        })
        .map_err(|error| Failure::new(FailureKind::Start, error.to_string()))?;
    let terminal = console
        .map(|listener| receive_terminal(&listener))
        .transpose()
        .map_err(|error| fail("cannot get the terminal", &error))?;
    built
        .start()
        .map_err(|error| Failure::new(FailureKind::Start, chain(&error)))?;
    drop(built);
    drop(failures_in);
    match read_failure(failures) {
        Some(failure) => Err(failure),
        None => Ok((pid, terminal)),
    }
}

fn build(
    task: &Task,
    bundle: &Path,
    console: bool,
    steps: Steps,
) -> Result<libcontainer::container::Container, String> {
    ContainerBuilder::new(task.container.clone(), SyscallType::default())
        .with_root_path(task.layout.runtime())
        .map_err(|error| chain(&error))?
        .with_console_socket(console.then(|| bundle.join("console.sock")))
        .with_executor(steps)
        .as_init(bundle)
        .with_systemd(false)
        .with_detach(true)
        .build()
        .map_err(|error| chain(&error))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        source = error.source();
    }
    text
}

/// So that a program that is not root may open `/dev/stdout` and the like again.
fn give_stdio_to(user: &user::User, ids: Option<u32>) {
    let first = ids.unwrap_or(0);
    let (uid, gid) = (first + user.uid, first + user.gid);
    if uid == 0 {
        return;
    }
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for fd in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
        let is_pipe = rustix::fs::fstat(fd)
            .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_fifo());
        if is_pipe {
            let _ = rustix::fs::fchown(
                fd,
                Some(rustix::fs::Uid::from_raw(uid)),
                Some(rustix::fs::Gid::from_raw(gid)),
            );
        }
    }
}

/// Bound from within its directory: a whole path may be too long for a socket's address.
fn console_listener(bundle: &Path) -> std::io::Result<UnixListener> {
    let _ = fs::remove_file(bundle.join("console.sock"));
    std::env::set_current_dir(bundle)?;
    let listener = UnixListener::bind("console.sock");
    std::env::set_current_dir("/")?;
    listener
}

fn receive_terminal(listener: &UnixListener) -> std::io::Result<OwnedFd> {
    let (socket, _) = listener.accept()?;
    receive_descriptor(socket.as_fd())
}

/// Receives one descriptor; blocks until the other side sends or closes.
pub fn receive_descriptor(socket: std::os::fd::BorrowedFd) -> std::io::Result<OwnedFd> {
    let mut bytes = [0; 64];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message
            && let Some(fd) = fds.next()
        {
            return Ok(fd);
        }
    }
    Err(std::io::Error::new(
        std::io::ErrorKind::UnexpectedEof,
        "no descriptor came",
    ))
}
