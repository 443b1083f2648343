//! The supervising process of one sandbox: holds its namespaces, the input and output of its containers and its published ports,
//! writes logs and exit records, and outlives the daemon.
//!
//! One thread, one poll loop, no async runtime, small buffers: there is one such process per pod.

mod client;
mod connection;
mod container;
mod datagram;
mod ending;
mod events;
mod jobs;
pub mod log;
mod namespaces;
mod ports;
mod removals;
mod requests;
mod setup;
mod udp;

use crate::cgroup::Cgroups;
use crate::records::Layout;
use crate::sys::WaitStatus;
use client::Client;
use container::Container;
use jobs::Job;
use ports::Ports;
use removals::Removals;
pub use setup::{PODS, SUPERVISORS, release, short_socket_path};
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::time::Instant;

/// Bytes read at once from a pipe, terminal or connection.
const SCRATCH_LENGTH: usize = 32 << 10;
/// Ended processes that nobody has claimed yet, kept while something is being started.
const ENDED_COUNT_MAX: usize = 1024;

/// The supervising process of one sandbox; `args` is what follows the `supervise` word. Never returns.
pub fn supervise_main(args: impl Iterator<Item = OsString>) -> ! {
    // SAFETY: this is the first thing the process does; nothing owns a descriptor beyond the standard three.
    unsafe { crate::sys::close_from(3) };
    let args: Vec<OsString> = args.collect();
    match setup::set_up(&args) {
        Ok(mut supervisor) => {
            setup::tell_ready(None);
            supervisor.run()
        }
        Err(failure) => {
            setup::tell_ready(Some(failure));
            std::process::exit(1)
        }
    }
}

/// Everything it knows.
struct Supervisor {
    id: String,
    layout: Layout,
    cgroups: Cgroups,
    /// The sandbox's cgroup.
    cgroup: String,
    signals: OwnedFd,
    listener: UnixListener,
    clients: BTreeMap<u64, Client>,
    containers: BTreeMap<u64, Container>,
    jobs: BTreeMap<u64, Job>,
    /// Daemons that introduced themselves while a container was being started, by the number of their request: they are told what
    /// runs once that is known.
    greetings: Vec<(u64, u64)>,
    /// Processes started by exec, and the client that waits for each.
    execs: BTreeMap<u32, u64>,
    ended: VecDeque<(u32, WaitStatus)>,
    ports: Ports,
    removals: Removals,
    /// Who asked it to end, and until when it waits for its containers.
    stopping: Option<(Option<(u64, u64)>, Instant)>,
    next_key: u64,
    /// When to give memory back; none when nothing has happened since the last time.
    tidy_at: Cell<Option<Instant>>,
    scratch: Vec<u8>,
}

impl Supervisor {
    fn key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }
}
