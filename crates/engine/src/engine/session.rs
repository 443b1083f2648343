//! exec and attach: processes whose input and output the caller holds.

use super::link::{connect, read_frame};
use super::streams::{PIECE_LENGTH, read_pipe, read_terminal, watch_terminal, write_terminal};
use super::{Engine, validate};
use crate::error::Error;
use crate::process::{ExecSpec, Exit, Output, Process, Resizer};
use crate::status::State;
use crate::supervisor::short_socket_path;
use crate::wire::{self, Asked, Kind, Reply, Request, Told};
use bytes::Bytes;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::sync::{mpsc, watch};

/// Pieces of output that wait for the caller.
const OUTPUT_MAX: usize = 32;
/// Input that waits to be sent.
const INPUT_LENGTH_MAX: usize = 64 << 10;
const ANSWER_MAX: Duration = Duration::from_secs(75);

impl Engine {
    /// Runs one more process in a running container, with the container's own user, rights, limits and filter.
    ///
    /// Errors: `Exec`, with what was not found or not allowed.
    pub async fn exec(&self, container_id: &str, spec: ExecSpec) -> Result<Process, Error> {
        validate::exec(&spec)?;
        let container = self.running(container_id, "run a command in")?;
        if container.now.borrow().paused {
            return Err(container.state_error("run a command in"));
        }
        self.inner.link_of(&container.sandbox)?;
        let (inner, sandbox, id) = (
            self.inner.clone(),
            container.sandbox.clone(),
            container_id.to_owned(),
        );
        let fail = |reason: String| Error::Exec {
            id: container_id.to_owned(),
            reason,
            code: 128,
        };
        let wants_stdin = spec.stdin;
        let started = tokio::task::spawn_blocking(move || {
            let directory = File::open(inner.layout.sockets())?;
            let stream = UnixStream::connect(short_socket_path(&directory, &sandbox))?;
            start_exec(stream, id, spec)
        });
        let started = started
            .await
            .map_err(|error| fail(error.to_string()))?
            .map_err(|error| fail(error.to_string()))?;
        let started =
            started.map_err(|failure| failure.into_error(&container.sandbox, container_id))?;
        let registered = register(started, wants_stdin);
        registered.map_err(|error| fail(error.to_string()))
    }

    /// Connects to the input and output of a container that runs, or that will be started: then nothing is missed.
    pub async fn attach(&self, container_id: &str, stdin: bool) -> Result<Process, Error> {
        let container = self.inner.get_container(container_id)?;
        let fail = |error: io::Error| Error::io("attach to", container_id, error);
        // A sandbox that does not run is told apart from one that does not answer.
        self.inner.link_of(&container.sandbox)?;
        let stream = connect(&self.inner, &container.sandbox)
            .await
            .map_err(fail)?;
        let (mut reading, mut writing) = stream.into_split();
        let request = Request::Attach {
            container: container_id.to_owned(),
            stdin,
        };
        writing
            .write_all(&wire::json_frame(&Asked { seq: 1, request }))
            .await
            .map_err(fail)?;
        let told = match tokio::time::timeout(ANSWER_MAX, read_frame(&mut reading)).await {
            Ok(Ok(Some((Kind::Json, payload)))) => wire::read_told(&payload),
            _ => None,
        };
        match told.map(|told| told.reply) {
            Some(Reply::Attached { .. }) => {}
            Some(Reply::Failed(failure)) => {
                return Err(failure.into_error(&container.sandbox, container_id));
            }
            _ => {
                return Err(Error::Supervisor {
                    sandbox: container.sandbox.clone(),
                    reason: "does not answer".into(),
                });
            }
        }
        let (output_in, output) = mpsc::channel(OUTPUT_MAX);
        let (exit_in, exit) = watch::channel(None);
        tokio::spawn(receive_attached(reading, output_in, exit_in));
        let pid = container
            .now
            .borrow()
            .process
            .as_ref()
            .filter(|_| container.now.borrow().state == State::Running)
            .map(|process| process.pid);
        let stdin = if stdin && container.now.borrow().spec.stdin {
            let (near, far) = tokio::io::duplex(INPUT_LENGTH_MAX);
            tokio::spawn(send_stdin(far, writing));
            Some(Box::new(near) as _)
        } else {
            // Kept open: closing it would end the attachment.
            writing.forget();
            None
        };
        let resizer = Resizer::of_container(self.clone(), container_id);
        Ok(Process {
            stdin,
            output,
            pid,
            resizer,
            exit,
        })
    }
}

struct Started {
    pid: u32,
    stream: UnixStream,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

type Answer = Result<Started, wire::Failure>;

/// Blocking: asks, hands over the standard streams and waits for the start.
fn start_exec(stream: UnixStream, container: String, spec: ExecSpec) -> io::Result<Answer> {
    let tty = spec.tty;
    let mut theirs: Vec<OwnedFd> = Vec::new();
    let (mut stdin, mut stdout, mut stderr) = (None, None, None);
    if !tty {
        let make = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        if spec.stdin {
            let (reading, writing) = make()?;
            theirs.push(reading);
            stdin = Some(writing);
        } else {
            theirs.push(File::open("/dev/null")?.into());
        }
        let (out, out_in) = make()?;
        let (error, error_in) = make()?;
        theirs.extend([out_in, error_in]);
        (stdout, stderr) = (Some(out), Some(error));
    }
    let bytes = wire::json_frame(&Asked {
        seq: 1,
        request: Request::Exec { container, spec },
    });
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let borrowed: Vec<_> = theirs.iter().map(AsFd::as_fd).collect();
    if !borrowed.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&borrowed));
    }
    let sent = rustix::net::sendmsg(
        &stream,
        &[IoSlice::new(&bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    (&stream).write_all(&bytes[sent..])?;
    drop(theirs);
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let (told, terminal) = receive_answer(&stream)?;
    Ok(match told.reply {
        Reply::ExecStarted { pid } => Ok(Started {
            pid,
            stream,
            stdin,
            stdout,
            stderr,
            terminal,
        }),
        Reply::Failed(failure) => Err(failure),
        _ => {
            return Err(io::Error::other(
                "the supervising process gave a strange answer",
            ));
        }
    })
}

/// One message, with the descriptor that may come along. Reads not a byte more: the rest belongs to others.
fn receive_answer(stream: &UnixStream) -> io::Result<(Told, Option<OwnedFd>)> {
    let mut bytes = Vec::new();
    let mut terminal = None;
    let mut wanted = wire::HEADER_LENGTH;
    while bytes.len() < wanted {
        let mut piece = vec![0; wanted - bytes.len()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            stream,
            &mut [IoSliceMut::new(&mut piece)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut fds) = message {
                terminal = fds.next().or(terminal);
            }
        }
        if received.bytes == 0 {
            return Err(io::Error::other("the supervising process went away"));
        }
        bytes.extend_from_slice(&piece[..received.bytes]);
        if let (Some(header), true) = (bytes.first_chunk(), wanted == wire::HEADER_LENGTH) {
            wanted += wire::parse_header(*header).map_err(io::Error::other)?.1;
        }
    }
    let told = serde_json::from_slice(&bytes[wire::HEADER_LENGTH..]).map_err(io::Error::other)?;
    Ok((told, terminal))
}

/// Puts the blocking pieces of a started process into the async world.
fn register(started: Started, wants_stdin: bool) -> io::Result<Process> {
    let (output_in, output) = mpsc::channel(OUTPUT_MAX);
    let (exit_in, exit) = watch::channel(None);
    started.stream.set_nonblocking(true)?;
    let (reading, writing) = tokio::net::UnixStream::from_std(started.stream)?.into_split();
    tokio::spawn(async move {
        // Dropping this half would only half-close the connection; it goes with the other.
        let _writing = writing;
        receive_exit(reading, exit_in).await
    });
    let mut stdin: Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>> = None;
    let mut resizer = Resizer::none();
    if let Some(terminal) = started.terminal {
        if wants_stdin {
            let (near, far) = tokio::io::duplex(INPUT_LENGTH_MAX);
            tokio::spawn(write_terminal(far, watch_terminal(terminal.try_clone()?)?));
            stdin = Some(Box::new(near));
        }
        resizer = Resizer::of_terminal(terminal.try_clone()?);
        tokio::spawn(read_terminal(watch_terminal(terminal)?, output_in));
    } else {
        if let Some(fd) = started.stdin {
            stdin = Some(Box::new(pipe::Sender::from_owned_fd(fd)?));
        }
        for (fd, wrap) in [
            (started.stdout, Output::Stdout as fn(Bytes) -> Output),
            (started.stderr, Output::Stderr),
        ] {
            if let Some(fd) = fd {
                tokio::spawn(read_pipe(
                    pipe::Receiver::from_owned_fd(fd)?,
                    wrap,
                    output_in.clone(),
                ));
            }
        }
    }
    Ok(Process {
        stdin,
        output,
        pid: Some(started.pid),
        resizer,
        exit,
    })
}

/// `None` at the end, or when nobody wants to know any more.
async fn next_frame(
    reading: &mut OwnedReadHalf,
    exit: &watch::Sender<Exit>,
) -> Option<(Kind, Vec<u8>)> {
    tokio::select! {
        frame = read_frame(reading) => frame.ok().flatten(),
        () = exit.closed() => None,
    }
}

async fn receive_exit(mut reading: OwnedReadHalf, exit: watch::Sender<Exit>) {
    while let Some((kind, payload)) = next_frame(&mut reading, &exit).await {
        if kind == Kind::Json
            && let Ok(Told {
                reply: Reply::Exited { status, .. },
                ..
            }) = serde_json::from_slice(&payload)
        {
            exit.send_replace(Some(Ok(status)));
            return;
        }
    }
    exit.send_replace(Some(Err("went away before the process ended".to_owned())));
}

async fn receive_attached(
    mut reading: OwnedReadHalf,
    output: mpsc::Sender<Output>,
    exit: watch::Sender<Exit>,
) {
    while let Some((kind, payload)) = next_frame(&mut reading, &exit).await {
        let piece = match kind {
            Kind::Stdout => Output::Stdout(payload.into()),
            Kind::Stderr => Output::Stderr(payload.into()),
            Kind::Json => match serde_json::from_slice::<Told>(&payload).map(|told| told.reply) {
                Ok(Reply::Exited { status, .. }) => {
                    exit.send_replace(Some(Ok(status)));
                    return;
                }
                Ok(Reply::Failed(failure)) => {
                    exit.send_replace(Some(Err(failure.reason)));
                    return;
                }
                _ => continue,
            },
            Kind::Stdin | Kind::StdinEnd | Kind::Unknown => continue,
        };
        // Nobody may read any more while the exit is still waited for.
        let _ = output.send(piece).await;
    }
    exit.send_replace(Some(Err(
        "went away, or the connection was given up".to_owned()
    )));
}

async fn send_stdin(mut input: tokio::io::DuplexStream, mut writing: OwnedWriteHalf) {
    let mut bytes = vec![0; PIECE_LENGTH];
    while let Ok(count) = input.read(&mut bytes).await {
        let frame = if count == 0 {
            wire::frame(Kind::StdinEnd, &[])
        } else {
            wire::frame(Kind::Stdin, &bytes[..count])
        };
        if writing.write_all(&frame).await.is_err() {
            return;
        }
        if count == 0 {
            break;
        }
    }
    // Forgetting keeps the connection from being half-closed, which the other side takes for the end of it all.
    writing.forget();
}

impl Resizer {
    fn none() -> Resizer {
        Resizer(Arc::new(|_, _| Box::pin(async { Ok(()) })))
    }

    fn of_terminal(terminal: OwnedFd) -> Resizer {
        let terminal = Arc::new(terminal);
        Resizer(Arc::new(move |cols, rows| {
            let terminal = terminal.clone();
            Box::pin(async move {
                crate::sys::set_terminal_size(&terminal, cols, rows)
                    .map_err(|error| Error::io("resize", "terminal", error))
            })
        }))
    }

    fn of_container(engine: Engine, id: &str) -> Resizer {
        let id = id.to_owned();
        Resizer(Arc::new(move |cols, rows| {
            let (engine, id) = (engine.clone(), id.clone());
            Box::pin(async move { engine.resize_container(&id, cols, rows).await })
        }))
    }
}
