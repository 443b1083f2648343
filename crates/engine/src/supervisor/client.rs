//! One connection to the supervising process: bytes in, frames out, bounded both ways.

use crate::wire::{self, Kind, Reply, Told};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Output of a container waits while this much is unsent to someone attached to it.
pub const UNSENT_HIGH: usize = 64 << 10;
/// A client with this much unsent is given up.
const UNSENT_MAX: usize = 4 << 20;
/// A client that takes nothing for so long is given up, but for one that is attached to a container: the container waits for it,
/// for as long as its connection is open.
const STALL_MAX: Duration = Duration::from_secs(10);
/// Descriptors that may come with a request.
const DESCRIPTORS_MAX: usize = 3;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its first request decides.
    New,
    Control,
    Exec,
    /// Attached to this container, with the right to write to it.
    Attach {
        container: u64,
        stdin: bool,
    },
}

/// One connection.
pub struct Client {
    pub stream: UnixStream,
    pub role: Role,
    pub descriptors: Vec<OwnedFd>,
    pub ending: bool,
    input: Vec<u8>,
    unsent: VecDeque<u8>,
    progress: Instant,
}

impl Client {
    pub fn new(stream: UnixStream) -> Client {
        Client {
            stream,
            role: Role::New,
            descriptors: Vec::new(),
            ending: false,
            input: Vec::new(),
            unsent: VecDeque::new(),
            progress: Instant::now(),
        }
    }

    pub fn unsent(&self) -> usize {
        self.unsent.len()
    }

    /// Whether it has stopped taking what waits for it.
    pub fn stalled(&self, now: Instant) -> bool {
        let patient = matches!(self.role, Role::Attach { .. } | Role::Exec);
        self.unsent.len() > UNSENT_MAX
            || (!patient
                && !self.unsent.is_empty()
                && now.duration_since(self.progress) > STALL_MAX)
    }

    /// Reads once; false at the end of the stream.
    pub fn receive(&mut self, scratch: &mut [u8]) -> io::Result<bool> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            &self.stream,
            &mut [IoSliceMut::new(scratch)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        self.descriptors.truncate(DESCRIPTORS_MAX);
        self.input.extend_from_slice(&scratch[..received.bytes]);
        Ok(received.bytes > 0)
    }

    /// The next whole frame that was received.
    pub fn next_frame(&mut self) -> Result<Option<(Kind, Vec<u8>)>, String> {
        let frame = wire::take_frame(&mut self.input)?;
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        Ok(frame)
    }

    /// Queues a message and sends what goes at once.
    pub fn tell(&mut self, seq: u64, reply: Reply) {
        let bytes = wire::json_frame(&Told { seq, reply });
        self.queue(&bytes);
    }

    /// Queues output of a container.
    pub fn output(&mut self, kind: Kind, bytes: &[u8]) {
        self.queue(&wire::frame(kind, bytes));
    }

    /// Sends a message together with a descriptor; only while nothing else waits.
    pub fn tell_with(&mut self, seq: u64, reply: Reply, descriptor: &OwnedFd) -> io::Result<()> {
        let bytes = wire::json_frame(&Told { seq, reply });
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let sent = rustix::net::sendmsg(
            &self.stream,
            &[IoSlice::new(&bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        self.queue(&bytes[sent..]);
        Ok(())
    }

    fn queue(&mut self, bytes: &[u8]) {
        if self.unsent.is_empty() {
            self.progress = Instant::now();
        }
        self.unsent.extend(bytes);
        self.flush();
    }

    /// Sends what goes without waiting; an error shows when reading.
    pub fn flush(&mut self) {
        while !self.unsent.is_empty() {
            let (front, _) = self.unsent.as_slices();
            match (&self.stream).write(front) {
                Ok(0) => return,
                Ok(count) => {
                    self.unsent.drain(..count);
                    self.progress = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.unsent.clear();
                    self.ending = true;
                    return;
                }
            }
        }
        self.unsent = VecDeque::new();
    }
}
