//! Starting supervising processes, joining those that run, and seeing them end.

use super::link::Link;
use super::{Engine, Sandbox};
use crate::error::Error;
use crate::proc::ProcessId;
use crate::status::SandboxState;
use crate::sys;
use crate::wire::{Failure, Reply, Request};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

/// How long a supervising process may take to get ready.
const READY_MAX: Duration = Duration::from_secs(30);
/// How long a supervising process may take to end when asked, and then when killed.
pub(super) const END_MAX: Duration = Duration::from_secs(15);
const END_PATIENCE: Duration = Duration::from_secs(1);
/// Longest message of a supervising process that could not start.
const MESSAGE_LENGTH_MAX: u64 = 64 << 10;

impl Engine {
    /// Starts a sandbox's supervising process and connects to it.
    pub(super) async fn supervise(&self, sandbox: &Arc<Sandbox>) -> Result<(), Error> {
        let inner = &self.inner;
        let id = &sandbox.id;
        let fail = |reason: String| Error::Supervisor {
            sandbox: id.clone(),
            reason,
        };
        let log_path = inner.layout.sandbox(id).join("supervisor.log");
        let log = File::options()
            .append(true)
            .create(true)
            .open(&log_path)
            .map_err(|error| Error::io("open", &log_path, error))?;
        let words = &inner.config.supervisor;
        let mut child = Command::new(inner.program.path())
            .arg0("plimsoll-sandbox")
            .args(&words[1..])
            .args([&inner.layout.root, &inner.layout.run])
            .args([&inner.config.cgroup_parent, id])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| fail(format!("cannot be started: {error}")))?;
        let pid = child.id().unwrap_or_default();
        let process = ProcessId::of(pid);
        let stdout = child.stdout.take();
        // Reaped whenever it ends, while this daemon lives.
        tokio::spawn(async move { child.wait().await });
        let mut line = String::new();
        if let Some(stdout) = stdout {
            let mut lines = BufReader::new(stdout.take(MESSAGE_LENGTH_MAX));
            let _ = tokio::time::timeout(READY_MAX, lines.read_line(&mut line)).await;
        }
        let told: Option<Option<Failure>> = serde_json::from_str(line.trim()).ok();
        match told {
            Some(None) => {}
            Some(Some(failure)) => return Err(failure.into_error(id, id)),
            None => {
                if let Some(process) = process {
                    end_process(&process).await;
                }
                return Err(fail(format!(
                    "did not get ready; see {}",
                    log_path.display()
                )));
            }
        }
        self.join(sandbox, process).await
    }

    /// Connects to a supervising process that is ready.
    pub(super) async fn join(
        &self,
        sandbox: &Arc<Sandbox>,
        process: Option<ProcessId>,
    ) -> Result<(), Error> {
        let gone = || Error::Supervisor {
            sandbox: sandbox.id.clone(),
            reason: "does not listen".into(),
        };
        let link = Link::connect(self, &sandbox.id).await.ok_or_else(gone)?;
        let Reply::Hello {
            pid,
            running,
            published,
            ..
        } = link.call(Request::Hello, &sandbox.id).await?
        else {
            return Err(gone());
        };
        let process = process
            .filter(|process| process.pid == pid)
            .or_else(|| ProcessId::of(pid))
            .ok_or_else(gone)?;
        {
            let mut now = sandbox.now.lock();
            now.state = SandboxState::Running;
            now.supervisor = Some(process);
            now.published = published;
            now.link = Some(link);
            now.stopping = false;
        }
        for (container, state) in running {
            self.inner.take_up(&container, &state);
        }
        Ok(())
    }
}

/// Waits for a process that is ending; kills it when that takes too long. Only this very process, whatever its pid is now.
pub(super) async fn end_process(process: &ProcessId) {
    let Some(end) = End::of(process) else {
        return;
    };
    if tokio::time::timeout(END_PATIENCE, end.wait()).await.is_ok() {
        return;
    }
    if process.alive() {
        // Its containers die by their cgroup.
        let _ = sys::kill(process.pid as i32, libc::SIGKILL);
    }
    let _ = tokio::time::timeout(END_MAX, end.wait()).await;
}

/// The end of a process that runs, as a descriptor that becomes readable.
struct End(AsyncFd<OwnedFd>);

impl End {
    /// `None` when it has ended already.
    fn of(process: &ProcessId) -> Option<End> {
        let pid = rustix::process::Pid::from_raw(process.pid as i32)?;
        let flags = rustix::process::PidfdFlags::empty();
        let fd = rustix::process::pidfd_open(pid, flags).ok()?;
        // Looked at after it was opened: from then on the descriptor means this process whatever happens to its pid.
        if !process.alive() {
            return None;
        }
        // SAFETY: an OwnedFd always answers with the same descriptor, and keeps it open for as long as it lives.
        let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Some(End(registered.ok()?))
    }

    async fn wait(&self) {
        let _ = self.0.readable().await;
    }
}
