//! The control connection to a supervising process: requests out, answers and events in.

use super::{Engine, Inner};
use crate::error::Error;
use crate::supervisor::short_socket_path;
use crate::wire::{self, Asked, HEADER_LENGTH, Kind, Reply, Request, Told};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{mpsc, oneshot};

/// Requests under way on one connection.
const CALLS_MAX: usize = 256;
/// Longest wait for an answer; starting may take the supervising process a minute.
const ANSWER_MAX: Duration = Duration::from_secs(75);

type Call = (Request, oneshot::Sender<Reply>);

/// One control connection. Dropping it closes it.
pub struct Link {
    /// Told apart from those before and after it to the same sandbox.
    pub number: u64,
    sandbox: String,
    calls: mpsc::Sender<Call>,
}

impl Link {
    /// Connects to the supervising process of `sandbox`; `None` when nobody listens.
    pub async fn connect(engine: &Engine, sandbox: &str) -> Option<Arc<Link>> {
        let stream = connect(&engine.inner, sandbox).await.ok()?;
        let (calls, waiting) = mpsc::channel(CALLS_MAX);
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(run(
            Arc::downgrade(&engine.inner),
            sandbox.to_owned(),
            number,
            stream,
            waiting,
        ));
        Some(Arc::new(Link {
            number,
            sandbox: sandbox.to_owned(),
            calls,
        }))
    }

    /// Asks and waits for the answer; a failure that is told becomes an error about `object`.
    pub async fn call(&self, request: Request, object: &str) -> Result<Reply, Error> {
        let gone = |reason: &str| Error::Supervisor {
            sandbox: self.sandbox.clone(),
            reason: reason.into(),
        };
        let (answer, answered) = oneshot::channel();
        self.calls
            .send((request, answer))
            .await
            .map_err(|_| gone("is gone"))?;
        match tokio::time::timeout(ANSWER_MAX, answered).await {
            Ok(Ok(Reply::Failed(failure))) => Err(failure.into_error(&self.sandbox, object)),
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(gone("went away before it answered")),
            Err(_) => Err(gone("does not answer")),
        }
    }
}

/// A fresh connection, for any purpose.
pub async fn connect(inner: &Inner, sandbox: &str) -> io::Result<UnixStream> {
    let directory = File::open(inner.layout.sockets())?;
    UnixStream::connect(short_socket_path(&directory, sandbox)).await
}

/// Reads one frame; `None` at the end of the stream.
pub async fn read_frame(
    stream: &mut (impl AsyncReadExt + Unpin),
) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let mut header = [0; HEADER_LENGTH];
    match stream.read_exact(&mut header).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let (kind, length) = wire::parse_header(header).map_err(io::Error::other)?;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    Ok(Some((kind, payload)))
}

/// A started container's id travels with its call, so that its start is known before its exit is read.
struct Waiting {
    container: Option<String>,
    answer: oneshot::Sender<Reply>,
}

async fn run(
    engine: Weak<Inner>,
    sandbox: String,
    number: u64,
    stream: UnixStream,
    mut calls: mpsc::Receiver<Call>,
) {
    let (reading, mut writing) = stream.into_split();
    let (frames_in, mut frames) = mpsc::channel(64);
    let reader = tokio::spawn(read_all(reading, frames_in));
    let mut waiting: BTreeMap<u64, Waiting> = BTreeMap::new();
    let mut seq = 0;
    loop {
        tokio::select! {
            call = calls.recv() => {
                // Nobody holds this link any more: its end is wanted.
                let Some((request, answer)) = call else { return reader.abort() };
                seq += 1;
                let container = match &request {
                    Request::Start { container } => Some(container.clone()),
                    _ => None,
                };
                let bytes = wire::json_frame(&Asked { seq, request });
                waiting.insert(seq, Waiting { container, answer });
                if writing.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            told = frames.recv() => {
                let Some(told) = told else { break };
                handle(&engine, &mut waiting, told);
            }
        }
    }
    reader.abort();
    drop(waiting);
    let Some(inner) = engine.upgrade() else {
        return;
    };
    Engine { inner }.lost_link(&sandbox, number).await;
}

async fn read_all(mut reading: OwnedReadHalf, frames: mpsc::Sender<Told>) {
    while let Ok(Some((kind, payload))) = read_frame(&mut reading).await {
        let told = (kind == Kind::Json).then(|| wire::read_told(&payload));
        // What a later version says besides is not for this one.
        let Some(told) = told.flatten() else { continue };
        if frames.send(told).await.is_err() {
            return;
        }
    }
}

fn handle(engine: &Weak<Inner>, waiting: &mut BTreeMap<u64, Waiting>, told: Told) {
    let Some(inner) = engine.upgrade() else {
        return;
    };
    if let Reply::Exited { container, status } = told.reply {
        inner.exited(&container, status);
        return;
    }
    let Some(call) = waiting.remove(&told.seq) else {
        return;
    };
    if let (Reply::Started { state }, Some(container)) = (&told.reply, &call.container) {
        inner.started(container, state);
    }
    // Whoever asked may have given up.
    let _ = call.answer.send(told.reply);
}
