//! The poll loop: what it waits for, and what happens then.

use super::client::{Client, Role, UNSENT_HIGH};
use super::container::{STDIN_WAITING_MAX, Source};
use super::ports::PortToken;
use super::{ENDED_COUNT_MAX, Supervisor};
use crate::status::ExitStatus;
use crate::sys::{self, WaitStatus};
use crate::wire::{Kind, Reply};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Connections at a time.
const CLIENTS_MAX: usize = 256;
/// Longest sleep while something has a deadline.
const TICK: Duration = Duration::from_millis(500);
/// How long after something happened memory that is not needed for waiting is given back.
const TIDY_AFTER: Duration = Duration::from_secs(1);
/// Reads of one output in a row, so that one noisy container does not starve the others.
const READS_IN_A_ROW: usize = 8;

#[derive(Clone, Copy)]
enum Token {
    Signals,
    Listener,
    Client(u64),
    Output(u64, Source),
    Input(u64),
    Job(u64),
    Port(PortToken),
}

impl Supervisor {
    pub(super) fn run(&mut self) -> ! {
        loop {
            let ready = self.wait();
            for (token, flags) in ready {
                self.handle(token, flags);
            }
            self.expire();
            let waiting = self
                .containers
                .values()
                .any(|container| container.pid().is_some())
                || !self.jobs.is_empty();
            if let Some((asked, until)) = self.stopping
                && (!waiting || Instant::now() > until)
            {
                self.end(asked);
            }
        }
    }

    fn wait(&self) -> Vec<(Token, PollFlags)> {
        let mut tokens = Vec::new();
        let mut fds = Vec::new();
        let mut add = |token, fd, flags: PollFlags| {
            tokens.push(token);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        };
        add(Token::Signals, self.signals.as_fd(), PollFlags::IN);
        add(Token::Listener, self.listener.as_fd(), PollFlags::IN);
        for (key, client) in &self.clients {
            let mut flags = PollFlags::empty();
            if self.may_send(client) {
                flags |= PollFlags::IN;
            }
            if client.unsent() > 0 {
                flags |= PollFlags::OUT;
            }
            if !flags.is_empty() {
                add(Token::Client(*key), client.stream.as_fd(), flags);
            }
        }
        for (key, container) in &self.containers {
            if !self.is_held_back(*key) {
                for (source, fd) in container.sources() {
                    add(Token::Output(*key, source), fd.as_fd(), PollFlags::IN);
                }
            }
            if !container.stdin_waiting.is_empty()
                && let Some(fd) = container.stdin.as_ref().or(container.terminal.as_ref())
            {
                add(Token::Input(*key), fd.as_fd(), PollFlags::OUT);
            }
        }
        for (key, job) in &self.jobs {
            add(Token::Job(*key), job.socket.as_fd(), PollFlags::IN);
        }
        for (token, fd, flags) in self.ports.watched() {
            add(Token::Port(token), fd, flags);
        }
        let timed = self.stopping.is_some()
            || !self.jobs.is_empty()
            || self.ports.timed()
            || self.clients.values().any(|c| c.unsent() > 0);
        let tick = timed.then(|| Instant::now() + TICK);
        let due = tick.into_iter().chain(self.removals.due()).min();
        loop {
            self.tidy();
            let tidy_in = self
                .tidy_at
                .get()
                .map(|at| at.saturating_duration_since(Instant::now()));
            let due_in = due.map(|at| at.saturating_duration_since(Instant::now()));
            let timeout = tidy_in.into_iter().chain(due_in).min();
            let timespec = timeout.map(|time| Timespec {
                tv_sec: time.as_secs() as i64,
                tv_nsec: i64::from(time.subsec_nanos()),
            });
            match rustix::event::poll(&mut fds, timespec.as_ref()) {
                // Here again at once, so that what was given back stays so.
                Ok(0) if due.is_none() => continue,
                Ok(0) | Err(_) => return Vec::new(),
                Ok(_) => break,
            }
        }
        if self.tidy_at.get().is_none() {
            self.tidy_at.set(Some(Instant::now() + TIDY_AFTER));
        }
        tokens
            .into_iter()
            .zip(fds.iter().map(PollFd::revents))
            .filter(|(_, flags)| !flags.is_empty())
            .collect()
    }

    /// Gives memory back a while after something happened, just before waiting: there is one such process per pod, and most wait
    /// most of the time.
    fn tidy(&self) {
        if self.tidy_at.get().is_some_and(|at| at <= Instant::now()) && self.jobs.is_empty() {
            self.tidy_at.set(None);
            sys::trim_heap();
            sys::forget_clean_pages();
        }
    }

    /// Whether what a client sends can be taken now.
    fn may_send(&self, client: &Client) -> bool {
        match client.role {
            Role::Attach { container, .. } => self
                .containers
                .get(&container)
                .is_none_or(|container| container.stdin_waiting.len() < STDIN_WAITING_MAX),
            _ => !client.ending,
        }
    }

    /// Whether someone attached is too far behind for more output to be read.
    fn is_held_back(&self, key: u64) -> bool {
        self.attached(key)
            .any(|client| client.unsent() > UNSENT_HIGH)
    }

    pub(super) fn attached(&self, key: u64) -> impl Iterator<Item = &Client> {
        self.clients.values().filter(
            move |client| matches!(client.role, Role::Attach { container, .. } if container == key),
        )
    }

    pub(super) fn attached_mut(&mut self, key: u64) -> impl Iterator<Item = &mut Client> {
        self.clients.values_mut().filter(
            move |client| matches!(client.role, Role::Attach { container, .. } if container == key),
        )
    }

    fn handle(&mut self, token: Token, flags: PollFlags) {
        match token {
            Token::Signals => self.read_signals(),
            Token::Listener => self.accept(),
            Token::Client(key) => self.serve(key, flags),
            Token::Output(key, source) => {
                for _ in 0..READS_IN_A_ROW {
                    if self.is_held_back(key) || !self.read_output(key, source) {
                        break;
                    }
                }
            }
            Token::Input(key) => {
                if let Some(container) = self.containers.get_mut(&key) {
                    container.feed();
                }
            }
            Token::Job(key) => self.finish_job(key),
            Token::Port(token) => self.ports.handle(token, flags, &mut self.scratch),
        }
    }

    fn read_signals(&mut self) {
        // Each record of signalfd(2) is 128 bytes and starts with the signal's number.
        let mut bytes = [0; 128 * 8];
        while let Ok(count) = rustix::io::read(&self.signals, &mut bytes) {
            for record in bytes[..count].chunks_exact(128) {
                let signal = i32::from_ne_bytes([record[0], record[1], record[2], record[3]]);
                if signal == libc::SIGTERM && self.stopping.is_none() {
                    self.stop(None);
                }
            }
        }
        self.reap();
    }

    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = sys::wait_child(-1, false) {
            let pid = pid as u32;
            if !self.claim(pid, status) && !self.jobs.is_empty() {
                self.ended.truncate(ENDED_COUNT_MAX - 1);
                self.ended.push_front((pid, status));
            }
        }
    }

    /// Tells an ended process to whoever it belongs to.
    pub(super) fn claim(&mut self, pid: u32, status: WaitStatus) -> bool {
        let of_container = self
            .containers
            .iter()
            .find(|(_, container)| container.pid() == Some(pid))
            .map(|(key, _)| *key);
        if let Some(key) = of_container {
            self.container_ended(key, status);
            return true;
        }
        let Some(client) = self.execs.remove(&pid) else {
            return false;
        };
        let status = ExitStatus {
            code: status.code(),
            signal: status.signal(),
            oom_killed: false,
            finished_at: Timestamp::now(),
            lost: false,
        };
        if let Some(client) = self.clients.get_mut(&client) {
            client.tell(
                0,
                Reply::Exited {
                    container: String::new(),
                    status,
                },
            );
            client.ending = true;
        }
        true
    }

    /// Reads once; false when there is nothing (more) to read.
    pub(super) fn read_output(&mut self, key: u64, source: Source) -> bool {
        let Some(container) = self.containers.get_mut(&key) else {
            return false;
        };
        let Some((_, fd)) = container.sources().find(|(open, _)| *open == source) else {
            return false;
        };
        let count = match rustix::io::read(fd, &mut self.scratch) {
            Ok(count) => count,
            Err(rustix::io::Errno::AGAIN) => return false,
            Err(rustix::io::Errno::INTR) => return true,
            // A terminal that nobody has open any more answers EIO.
            Err(_) => 0,
        };
        if count == 0 {
            container.close(source);
            return false;
        }
        let (stream, kind) = if source == Source::Stderr {
            ("stderr", Kind::Stderr)
        } else {
            ("stdout", Kind::Stdout)
        };
        if let Some(log) = &mut container.log {
            log.write(Timestamp::now(), stream, &self.scratch[..count]);
        }
        for client in self.clients.values_mut() {
            if matches!(client.role, Role::Attach { container, .. } if container == key) {
                client.output(kind, &self.scratch[..count]);
            }
        }
        true
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.clients.len() >= CLIENTS_MAX || stream.set_nonblocking(true).is_err() {
                continue;
            }
            let key = self.key();
            self.clients.insert(key, Client::new(stream));
        }
    }

    fn serve(&mut self, key: u64, flags: PollFlags) {
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        if flags.contains(PollFlags::OUT) {
            client.flush();
        }
        if !flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        match client.receive(&mut self.scratch) {
            Ok(true) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return;
            }
            Ok(false) | Err(_) => return self.drop_client(key),
        }
        while let Some(client) = self.clients.get_mut(&key) {
            match client.next_frame() {
                Ok(Some((kind, payload))) => self.frame(key, kind, payload),
                Ok(None) => return,
                Err(_) => return self.drop_client(key),
            }
        }
    }

    pub(super) fn drop_client(&mut self, key: u64) {
        let Some(client) = self.clients.remove(&key) else {
            return;
        };
        if let Role::Attach {
            container,
            stdin: true,
        } = client.role
            && let Some(container) = self.containers.get_mut(&container)
            && container.stdin_once
        {
            container.stdin_ending = true;
            container.feed();
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let gone = |client: &Client| client.stalled(now) || (client.ending && client.unsent() == 0);
        let keys: Vec<u64> = self
            .clients
            .iter()
            .filter(|(_, client)| gone(client))
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.drop_client(key);
        }
        self.expire_jobs(now);
        self.removals.work(&self.cgroups, now);
        self.ports.expire(now);
        if self.jobs.is_empty() {
            self.ended.clear();
        }
    }
}
