//! What the daemon and a supervising process say to each other: frames of a length, a kind and a payload on a unix socket.
//!
//! A connection starts with one JSON request. On the control connection more follow, answered by `seq`, and events arrive with
//! `seq` 0; an `Exec` connection carries the exit, an `Attach` connection the bytes of the terminal or pipes.
//!
//! The two may be of different versions, either of them the newer: a supervising process keeps the program that it was started
//! with for as long as its sandbox runs. So names and fields stay, a field that comes later has a default, and what is not known
//! (a field, a request, an answer, a kind of frame) is skipped or refused by its number, and never ends a connection.

use crate::error::Error;
use crate::process::ExecSpec;
use crate::records::ContainerState;
use crate::spec::PublishedPort;
use crate::status::ExitStatus;
use serde::{Deserialize, Serialize};

/// Longest payload of a frame.
pub const FRAME_LENGTH_MAX: usize = 8 << 20;
/// Counts what was added to the requests and answers.
pub const PROTOCOL: u32 = 1;
/// Length and kind in front of the payload.
pub const HEADER_LENGTH: usize = 5;

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Json = 0,
    Stdin = 1,
    Stdout = 2,
    Stderr = 3,
    StdinEnd = 4,
    /// Of a later version: skipped.
    Unknown = 255,
}

impl Kind {
    fn of(byte: u8) -> Kind {
        [
            Kind::Json,
            Kind::Stdin,
            Kind::Stdout,
            Kind::Stderr,
            Kind::StdinEnd,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
        .unwrap_or(Kind::Unknown)
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Asked {
    pub seq: u64,
    pub request: Request,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Makes this the control connection, which receives events.
    Hello,
    Start {
        container: String,
    },
    Signal {
        container: String,
        signal: i32,
    },
    /// Kills everything in the container's cgroup.
    Kill {
        container: String,
    },
    /// Standard input, output and error come as descriptors, none with a terminal.
    Exec {
        container: String,
        spec: ExecSpec,
    },
    Attach {
        container: String,
        stdin: bool,
    },
    Resize {
        container: String,
        cols: u16,
        rows: u16,
    },
    Publish {
        ports: Vec<PublishedPort>,
    },
    /// Drops what is kept about a container that does not run.
    Forget {
        container: String,
    },
    /// Kills all containers, releases everything and ends.
    Stop,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Told {
    pub seq: u64,
    pub reply: Reply,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    Done,
    Hello {
        pid: u32,
        running: Vec<(String, ContainerState)>,
        #[serde(default)]
        published: Vec<PublishedPort>,
        /// [`PROTOCOL`] of who answers; 0 before it was told.
        #[serde(default)]
        protocol: u32,
    },
    Started {
        state: ContainerState,
    },
    /// With a terminal its master end comes as a descriptor.
    ExecStarted {
        pid: u32,
    },
    Attached {
        tty: bool,
    },
    Published {
        ports: Vec<PublishedPort>,
    },
    Failed(Failure),
    /// Event, or the last word on an exec or attach connection.
    Exited {
        container: String,
        status: ExitStatus,
    },
}

/// An error that crosses the socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    pub reason: String,
    /// Exit code as Docker reports it, for `Start` and `Exec`.
    pub code: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    Start,
    Exec,
    Port,
    State,
    /// Also what a later version tells apart.
    #[serde(other)]
    Other,
}

impl Failure {
    pub fn new(kind: FailureKind, reason: impl Into<String>) -> Failure {
        Failure {
            kind,
            reason: reason.into(),
            code: 128,
        }
    }

    pub fn with_code(self, code: i32) -> Failure {
        Failure { code, ..self }
    }

    /// The error for the caller of the engine.
    pub fn into_error(self, sandbox: &str, object: &str) -> Error {
        match self.kind {
            FailureKind::Start => Error::Start {
                id: object.into(),
                reason: self.reason,
                code: self.code,
            },
            FailureKind::Exec => Error::Exec {
                id: object.into(),
                reason: self.reason,
                code: self.code,
            },
            FailureKind::Port => {
                let (address, reason) = self.reason.split_once(": ").unwrap_or(("", &self.reason));
                let (address, protocol) = address.split_once('/').unwrap_or((address, "tcp"));
                let protocol = if protocol == "udp" { "udp" } else { "tcp" };
                Error::PortTaken {
                    address: address.into(),
                    protocol,
                    reason: reason.into(),
                }
            }
            FailureKind::State => Error::State {
                action: "use",
                what: "container",
                id: object.into(),
                state: self.reason,
            },
            FailureKind::Other => Error::Supervisor {
                sandbox: sandbox.into(),
                reason: format!("failed: {}", self.reason),
            },
        }
    }
}

/// One frame, ready to be sent.
pub fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LENGTH + payload.len());
    push_frame(&mut bytes, kind, payload);
    bytes
}

/// Appends one frame.
pub fn push_frame(bytes: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes.push(kind as u8);
    bytes.extend_from_slice(payload);
}

/// One message as a frame.
pub fn json_frame<T: Serialize>(message: &T) -> Vec<u8> {
    frame(Kind::Json, &serde_json::to_vec(message).unwrap_or_default())
}

/// Kind and payload length of a header; an error says what is wrong with it.
pub fn parse_header(header: [u8; HEADER_LENGTH]) -> Result<(Kind, usize), String> {
    let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
    if length > FRAME_LENGTH_MAX {
        return Err(format!(
            "frame of {length} bytes is longer than {FRAME_LENGTH_MAX}"
        ));
    }
    Ok((Kind::of(header[4]), length))
}

/// A request; where it is none that is known here, the number to refuse it by, if it has one.
pub fn read_asked(payload: &[u8]) -> Result<Asked, Option<u64>> {
    serde_json::from_slice(payload).map_err(|_| number(payload))
}

/// An answer or event. An answer that is not known here is a failure to whoever waits for it; an event that is not is nothing.
pub fn read_told(payload: &[u8]) -> Option<Told> {
    let unknown = || {
        let seq = number(payload).filter(|seq| *seq > 0)?;
        let reason = "gave an answer that this version does not know";
        let reply = Reply::Failed(Failure::new(FailureKind::Other, reason));
        Some(Told { seq, reply })
    };
    serde_json::from_slice(payload).ok().or_else(unknown)
}

fn number(payload: &[u8]) -> Option<u64> {
    let value: serde_json::Value = serde_json::from_slice(payload).ok()?;
    value["seq"].as_u64()
}

/// Takes the first complete frame off `buffer`.
pub fn take_frame(buffer: &mut Vec<u8>) -> Result<Option<(Kind, Vec<u8>)>, String> {
    let Some(header) = buffer.first_chunk::<HEADER_LENGTH>() else {
        return Ok(None);
    };
    let (kind, length) = parse_header(*header)?;
    if buffer.len() < HEADER_LENGTH + length {
        return Ok(None);
    }
    let payload = buffer[HEADER_LENGTH..HEADER_LENGTH + length].to_vec();
    buffer.drain(..HEADER_LENGTH + length);
    Ok(Some((kind, payload)))
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
