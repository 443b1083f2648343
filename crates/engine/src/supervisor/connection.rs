//! One carried TCP connection: a plain copy in both directions that never blocks and keeps half-closed connections half open.

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{Shutdown, sockopt};
use std::os::fd::OwnedFd;

/// Copies in a row before others get their turn.
const COPIES_IN_A_ROW: usize = 16;

/// A TCP connection from outside and its continuation into the sandbox.
pub struct Connection {
    pub outside: OwnedFd,
    pub inside: OwnedFd,
    pub connecting: bool,
    pub inward: Flow,
    pub outward: Flow,
}

/// One direction: what was read and could not be written yet.
#[derive(Default)]
pub struct Flow {
    pending: Vec<u8>,
    ended: bool,
    shut: bool,
}

impl Connection {
    /// Copies what goes in both directions; false when the connection is over.
    pub fn carry(&mut self, scratch: &mut [u8]) -> bool {
        if self.connecting {
            match sockopt::socket_error(&self.inside) {
                Ok(Ok(())) => self.connecting = false,
                _ => return false,
            }
        }
        let inward = self.inward.copy(&self.outside, &self.inside, scratch);
        let outward = self.outward.copy(&self.inside, &self.outside, scratch);
        inward && outward && !(self.inward.shut && self.outward.shut)
    }
}

impl Flow {
    /// False when the connection is broken.
    fn copy(&mut self, from: &OwnedFd, to: &OwnedFd, scratch: &mut [u8]) -> bool {
        for _ in 0..COPIES_IN_A_ROW {
            if !self.pending.is_empty() {
                match send(to, &self.pending) {
                    Some(count) => drop(self.pending.drain(..count)),
                    None => return false,
                }
                if !self.pending.is_empty() {
                    return true;
                }
                self.pending = Vec::new();
            }
            if self.ended {
                if !self.shut {
                    self.shut = true;
                    let _ = rustix::net::shutdown(to, Shutdown::Write);
                }
                return true;
            }
            match rustix::io::read(from, &mut *scratch) {
                Ok(0) => self.ended = true,
                Ok(count) => match send(to, &scratch[..count]) {
                    Some(sent) => self.pending.extend_from_slice(&scratch[sent..count]),
                    None => return false,
                },
                Err(Errno::AGAIN | Errno::INTR) => return true,
                Err(_) => return false,
            }
        }
        true
    }
}

/// How much went; `None` when the connection is broken.
fn send(to: &OwnedFd, bytes: &[u8]) -> Option<usize> {
    match rustix::net::send(to, bytes, rustix::net::SendFlags::NOSIGNAL) {
        Ok(count) => Some(count),
        Err(Errno::AGAIN | Errno::INTR) => Some(0),
        Err(_) => None,
    }
}

/// What the side that is `reading` from waits for.
pub fn wanted_flags(reading: &Flow, writing: &Flow, connecting: bool) -> PollFlags {
    let mut flags = PollFlags::empty();
    if connecting || !writing.pending.is_empty() {
        flags |= PollFlags::OUT;
    }
    if !connecting && !reading.ended && reading.pending.is_empty() {
        flags |= PollFlags::IN;
    }
    flags
}
