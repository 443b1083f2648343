//! Processes that end when nobody waits for their answer any more: those of probes and hooks.

use std::os::fd::OwnedFd;

use engine::Process;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Kills the process when dropped, unless it was [released](Leash::release).
pub struct Leash(Option<OwnedFd>);

impl Leash {
    /// Of a process that was just started in a container.
    pub fn of(process: &Process) -> Self {
        let pid = process
            .pid
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        Self(pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()))
    }

    /// It has ended.
    pub fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            // it may have ended by itself
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }
}
