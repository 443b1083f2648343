//! Short-lived runtime children under way: started here, heard over a socket, given up after a while.

use super::Supervisor;
use super::client::Role;
use super::container::set_nonblocking;
use crate::proc::{self, ProcessId};
use crate::records::{self, ContainerState};
use crate::runtime::Report;
use crate::sys;
use crate::wire::{Failure, FailureKind, Reply};
use jiff::Timestamp;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long making or entering a container may take.
const JOB_MAX: Duration = Duration::from_secs(60);
/// Longest report.
const REPORT_LENGTH_MAX: usize = 128 << 10;

/// What a runtime child is for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    Create { container: u64 },
    Exec { tty: bool },
}

/// One runtime child.
pub struct Job {
    pub socket: OwnedFd,
    pub purpose: Purpose,
    /// Who asked, and the number of the request.
    pub client: u64,
    pub seq: u64,
    pub pid: u32,
    pub until: Instant,
}

impl Supervisor {
    /// Starts a runtime child with these standard streams.
    pub(super) fn start_job(
        &mut self,
        purpose: Purpose,
        asked: (u64, u64),
        container: &str,
        argument: &str,
        streams: [Stdio; 3],
    ) -> io::Result<()> {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        set_nonblocking(&ours)?;
        sys::set_inheritable(&theirs, true)?;
        let action = match purpose {
            Purpose::Create { .. } => "create",
            Purpose::Exec { .. } => "exec",
        };
        let [stdin, stdout, stderr] = streams;
        let child = Command::new("/proc/self/exe")
            .arg0("plimsoll-runtime")
            .args(["runtime", action])
            .args([&self.layout.root, &self.layout.run])
            .args([
                &self.cgroup,
                &self.id,
                container,
                &theirs.as_raw_fd().to_string(),
                argument,
            ])
            .env_clear()
            .current_dir("/")
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()?;
        let key = self.key();
        let (client, seq) = asked;
        self.jobs.insert(
            key,
            Job {
                socket: ours,
                purpose,
                client,
                seq,
                pid: child.id(),
                until: Instant::now() + JOB_MAX,
            },
        );
        Ok(())
    }

    /// Takes a runtime child's report, or notices that it ended without one.
    pub(super) fn finish_job(&mut self, key: u64) {
        let Some(job) = self.jobs.get(&key) else {
            return;
        };
        let Some((report, terminal)) = read_report(&job.socket) else {
            return;
        };
        let Some(job) = self.jobs.remove(&key) else {
            return;
        };
        match (job.purpose, report) {
            (Purpose::Create { container }, Report::Started { pid }) => {
                self.created(&job, container, pid, terminal);
                self.greet();
            }
            (Purpose::Create { container }, Report::Failed(failure)) => {
                self.not_created(&job, container, failure);
                self.greet();
            }
            (Purpose::Exec { tty }, Report::Started { pid }) => {
                self.entered(&job, pid, terminal.filter(|_| tty))
            }
            (Purpose::Exec { .. }, Report::Failed(failure)) => {
                if let Some(client) = self.clients.get_mut(&job.client) {
                    client.tell(job.seq, Reply::Failed(failure));
                    client.ending = true;
                }
            }
        }
    }

    fn created(&mut self, job: &Job, key: u64, pid: u32, terminal: Option<OwnedFd>) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        // It may have ended, but nobody else has reaped it: the pid is still its own.
        let start_time = proc::start_time(pid).unwrap_or(0);
        let process = ProcessId {
            pid,
            start_time,
            boot_id: proc::boot_id(),
        };
        let state = ContainerState {
            process,
            started_at: Timestamp::now(),
            exit: None,
        };
        container.starting = false;
        if let Some(terminal) = terminal {
            let _ = set_nonblocking(&terminal);
            if let Some((cols, rows)) = container.size {
                let _ = sys::set_terminal_size(&terminal, cols, rows);
            }
            container.terminal = Some(terminal);
        }
        container.state = Some(state.clone());
        container.feed();
        let path = self.layout.container_state(&self.id, &container.id);
        // After a power cut a record that is not there tells as much as this one; that of an earlier run would tell a lie.
        let saved = if path.exists() {
            records::save(&path, &state)
        } else {
            records::save_for_this_boot(&path, &state)
        };
        let reply = match saved {
            Ok(()) => Reply::Started { state },
            Err(error) => {
                // A container that a later daemon could not find must not run.
                let _ = sys::kill(pid as i32, libc::SIGKILL);
                Reply::Failed(Failure::new(FailureKind::Other, error.to_string()))
            }
        };
        if let Some(client) = self.clients.get_mut(&job.client) {
            client.tell(job.seq, reply);
        }
        self.claim_early(pid);
        if self.stopping.is_some() {
            self.cgroups.kill(&self.cgroup);
        }
    }

    fn not_created(&mut self, job: &Job, key: u64, failure: Failure) {
        let container = self.containers.remove(&key);
        for client in self.attached_mut(key) {
            client.tell(0, Reply::Failed(failure.clone()));
            client.ending = true;
        }
        if let Some(client) = self.clients.get_mut(&job.client) {
            client.tell(job.seq, Reply::Failed(failure));
        }
        if let Some(container) = container {
            self.clean_up_after(&container.id);
        }
    }

    fn entered(&mut self, job: &Job, pid: u32, terminal: Option<OwnedFd>) {
        let Some(client) = self.clients.get_mut(&job.client) else {
            // Who asked is gone before it started; as with any exec, the process runs on.
            self.execs.insert(pid, job.client);
            return self.claim_early(pid);
        };
        client.role = Role::Exec;
        let reply = Reply::ExecStarted { pid };
        match terminal {
            Some(terminal) => {
                if client.tell_with(job.seq, reply, &terminal).is_err() {
                    client.ending = true;
                }
            }
            None => client.tell(job.seq, reply),
        }
        self.execs.insert(pid, job.client);
        self.claim_early(pid);
    }

    /// A process may end before its start is reported.
    fn claim_early(&mut self, pid: u32) {
        if let Some(index) = self.ended.iter().position(|(ended, _)| *ended == pid)
            && let Some((pid, status)) = self.ended.remove(index)
        {
            self.claim(pid, status);
        }
    }

    pub(super) fn expire_jobs(&mut self, now: Instant) {
        for job in self.jobs.values_mut().filter(|job| now > job.until) {
            // Its end closes the socket, and that is what is waited for.
            let _ = sys::kill(job.pid as i32, libc::SIGKILL);
            job.until = now + JOB_MAX;
        }
    }
}

/// `None` when there is nothing to read yet.
fn read_report(socket: &OwnedFd) -> Option<(Report, Option<OwnedFd>)> {
    let mut bytes = vec![0; REPORT_LENGTH_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let count = match rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    ) {
        Ok(received) => received.bytes,
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return None,
        Err(_) => 0,
    };
    let terminal = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let died = || {
        Report::Failed(Failure::new(
            FailureKind::Other,
            "the runtime ended without a report",
        ))
    };
    Some((
        serde_json::from_slice(&bytes[..count]).unwrap_or_else(|_| died()),
        terminal,
    ))
}
