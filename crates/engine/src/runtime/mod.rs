//! Short-lived children of a supervising process: one makes a container, one enters a container. Both run single-threaded, report
//! once over a socket and end; what they made becomes a child of the supervising process, which is the subreaper.

mod create;
mod exec;
mod joined;
mod keyring;
pub(crate) mod late;
mod launch;
mod stage;

use crate::records::Layout;
use crate::sys;
use crate::wire::{Failure, FailureKind};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// What a child tells, once. With a terminal its master end comes along.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    Started { pid: u32 },
    Failed(Failure),
}

/// What a child is told on its command line.
pub(crate) struct Task {
    pub layout: Layout,
    /// The sandbox's cgroup.
    pub cgroup: String,
    pub sandbox: String,
    pub container: String,
}

/// A short-lived runtime child of a supervising process; `args` is what follows the `runtime` word. Never returns.
pub fn runtime_main(args: impl Iterator<Item = OsString>) -> ! {
    sys::reset_signals();
    sys::set_umask(0o022);
    let args: Vec<OsString> = args.collect();
    let code = match parse(&args) {
        Some((action, task, socket, rest)) => {
            let creates = action == "create";
            let kind = if creates {
                FailureKind::Start
            } else {
                FailureKind::Exec
            };
            let result = keyring::leave_inherited()
                .map_err(|error| failed(kind, "cannot make a session keyring", error))
                .and_then(|()| match creates {
                    true => create::run(&task),
                    false => exec::run(&task, rest.to_str().unwrap_or_default()),
                });
            let (report, terminal) = match result {
                Ok((pid, terminal)) => (Report::Started { pid }, terminal),
                Err(failure) => (Report::Failed(failure), None),
            };
            send(&socket, &report, terminal.as_ref())
        }
        None => {
            eprintln!("runtime: this is started by a supervising process only");
            2
        }
    };
    std::process::exit(code)
}

fn parse(args: &[OsString]) -> Option<(String, Task, OwnedFd, OsString)> {
    let [action, root, run, cgroup, sandbox, container, socket, rest] = args else {
        return None;
    };
    let text = |arg: &OsString| arg.to_str().map(str::to_owned);
    let socket = text(socket)?.parse().ok().filter(|fd| *fd > 2)?;
    // SAFETY: the supervising process passes the number of a socket that it left open for this process alone.
    let socket = unsafe { sys::adopt(socket) };
    sys::set_inheritable(&socket, false).ok()?;
    let layout = Layout {
        root: PathBuf::from(root),
        run: PathBuf::from(run),
    };
    let task = Task {
        layout,
        cgroup: text(cgroup)?,
        sandbox: text(sandbox)?,
        container: text(container)?,
    };
    Some((text(action)?, task, socket, rest.clone()))
}

fn send(socket: &OwnedFd, report: &Report, terminal: Option<&OwnedFd>) -> i32 {
    let bytes = serde_json::to_vec(report).unwrap_or_default();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = terminal.map(|fd| [fd.as_fd()]);
    if let Some(fds) = &fds {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    match rustix::net::sendmsg(
        socket,
        &[IoSlice::new(&bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    ) {
        Ok(_) => 0,
        Err(_) => 1,
    }
}

/// A failure of the machinery, not of the program that was asked for.
fn failed(kind: FailureKind, what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new(kind, format!("{what}: {error}"))
}
