//! A container as its supervising process sees it: pipes or a terminal, a log, who is attached, how it ended.

use super::log::Log;
use crate::records::ContainerState;
use rustix::fs::OFlags;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

/// Bytes for standard input that wait for the container to read.
pub const STDIN_WAITING_MAX: usize = 64 << 10;

/// Where a container's output comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Stdout,
    Stderr,
    Terminal,
}

/// One container.
pub struct Container {
    pub id: String,
    pub log: Option<Log>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    pub terminal: Option<OwnedFd>,
    pub stdin: Option<OwnedFd>,
    pub stdin_waiting: VecDeque<u8>,
    /// Close standard input when what waits is written.
    pub stdin_ending: bool,
    pub stdin_once: bool,
    pub tty: bool,
    pub starting: bool,
    /// Asked for before there was a terminal: columns and rows.
    pub size: Option<(u16, u16)>,
    pub state: Option<ContainerState>,
}

impl Container {
    pub fn new(id: &str) -> Container {
        Container {
            id: id.to_owned(),
            log: None,
            stdout: None,
            stderr: None,
            terminal: None,
            stdin: None,
            stdin_waiting: VecDeque::new(),
            stdin_ending: false,
            stdin_once: false,
            tty: false,
            starting: false,
            size: None,
            state: None,
        }
    }

    /// Its first process, while that runs.
    pub fn pid(&self) -> Option<u32> {
        self.state
            .as_ref()
            .filter(|state| state.exit.is_none())
            .map(|state| state.process.pid)
    }

    /// Open outputs.
    pub fn sources(&self) -> impl Iterator<Item = (Source, &OwnedFd)> {
        let all = [
            (Source::Stdout, &self.stdout),
            (Source::Stderr, &self.stderr),
            (Source::Terminal, &self.terminal),
        ];
        all.into_iter()
            .filter_map(|(source, fd)| Some((source, fd.as_ref()?)))
    }

    pub fn close(&mut self, source: Source) {
        match source {
            Source::Stdout => self.stdout = None,
            Source::Stderr => self.stderr = None,
            Source::Terminal => self.terminal = None,
        }
    }

    /// Writes what waits for standard input as far as it goes without waiting.
    pub fn feed(&mut self) {
        let Some(fd) = self.stdin.as_ref().or(self.terminal.as_ref()) else {
            // Before its first start it will want what was typed; without an open input it never will.
            if !self.starting && self.state.is_some() {
                self.stdin_waiting.clear();
            }
            return;
        };
        while !self.stdin_waiting.is_empty() {
            let (front, _) = self.stdin_waiting.as_slices();
            match rustix::io::write(fd, front) {
                Ok(count) => drop(self.stdin_waiting.drain(..count)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => {
                    self.stdin_waiting.clear();
                    self.stdin_ending = true;
                }
            }
        }
        if self.stdin_ending {
            self.stdin = None;
        }
    }
}

/// Two ends of a pipe, reading and writing; `ours` does not block, the other is the container's.
pub fn pipe(ours_reads: bool) -> io::Result<(OwnedFd, OwnedFd)> {
    let (reading, writing) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (ours, theirs) = if ours_reads {
        (reading, writing)
    } else {
        (writing, reading)
    };
    set_nonblocking(&ours)?;
    Ok((ours, theirs))
}

/// Makes reads and writes return at once.
pub fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}
