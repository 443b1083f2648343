//! `POST /containers/ID/attach`, and what attach and exec share: a connection that is taken over, output as an answer's body.

use bytes::{BufMut, Bytes, BytesMut};
use engine::{Output, Process};
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Container, find, lifecycle, logs};
use crate::Docker;
use crate::query::Query;
use crate::reply::{Answer, full, stream};

const STDIN_CHUNK: usize = 16 * 1024;

/// Attaching to a container that has not been started brings its sandbox up, so that no byte of its output is missed. `logs=1`:
/// what it has said before comes first; `stream=0`: what it says from now on does not come at all.
pub async fn attach(
    docker: Docker,
    container: Container,
    query: &Query,
    mut request: Request<Incoming>,
) -> Answer {
    let upgrade = request.headers().contains_key(header::UPGRADE);
    let follow = match query.get("stream") {
        Some(_) => query.flag("stream"),
        None => !query.flag("logs"),
    };
    let wants = Wants {
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        tty: container.record.config.tty,
        own: false,
    };
    if !follow {
        let before = before(&docker, &container, query, wants);
        return match upgrade {
            true => Ok(take_over(
                &mut request,
                wants.tty,
                |connection| async move {
                    let (_, mut to) = tokio::io::split(connection);
                    let _ = send_all(before, &mut to).await;
                    let _ = to.shutdown().await;
                },
            )),
            false => stream(content_type(wants.tty), ReceiverStream::new(before)),
        };
    }
    if !container.running() {
        let _turn = docker.inner.turns.of(container.id()).await;
        let prepared = lifecycle::prepare_sandbox(&docker, &container).await;
        if let Err(refusal) = prepared {
            lifecycle::release(&docker, container.id()).await;
            if !upgrade {
                return Err(refusal);
            }
            // The start that follows says why. A refusal here would hide it: the client tells of an upgrade that failed.
            return Ok(take_over(
                &mut request,
                wants.tty,
                |connection| async move {
                    drop(connection);
                },
            ));
        }
    }
    let stdin = upgrade && query.flag("stdin") && container.record.config.open_stdin;
    let process = docker.inner.engine.attach(container.id(), stdin).await?;
    let before = before(&docker, &container, query, wants);
    let waiting = process.wait();
    let ended = async {
        let _ = waiting.await;
    };
    let id = container.id().to_owned();
    // one that was brought up to be attached to, and then not started, needs its sandbox no longer
    let settle = async move {
        let _turn = docker.inner.turns.of(&id).await;
        if find(&docker, &id).await.is_ok_and(|now| !now.running()) {
            lifecycle::release(&docker, &id).await;
        }
    };
    if !upgrade {
        return told(before, process, wants, ended, settle);
    }
    Ok(take_over(
        &mut request,
        wants.tty,
        move |connection| async move {
            serve(connection, before, process, wants, ended).await;
            settle.await;
        },
    ))
}

/// What a container has said until now, if the request asks for it, framed for the client.
fn before(
    docker: &Docker,
    container: &Container,
    query: &Query,
    wants: Wants,
) -> mpsc::Receiver<Bytes> {
    if query.flag("logs") {
        logs::until_now(docker, container, wants)
    } else {
        nothing()
    }
}

/// No bytes.
pub fn nothing() -> mpsc::Receiver<Bytes> {
    mpsc::channel(1).1
}

async fn send_all(
    mut from: mpsc::Receiver<Bytes>,
    to: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    while let Some(bytes) = from.recv().await {
        to.write_all(&bytes).await?;
    }
    Ok(())
}

/// Which streams the client asked for.
#[derive(Clone, Copy)]
pub struct Wants {
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
    /// The output has no other reader: it is taken in to its end, whoever listens.
    pub own: bool,
}

impl Wants {
    /// A piece of output as the client reads it; nothing of what it did not ask for.
    fn framed(self, output: &Output) -> Option<Bytes> {
        match output {
            Output::Stdout(bytes) | Output::Stderr(bytes) if self.tty => Some(bytes.clone()),
            Output::Stdout(bytes) => self.stdout.then(|| frame(1, bytes)),
            Output::Stderr(bytes) => self.stderr.then(|| frame(2, bytes)),
        }
    }
}

/// With a terminal output comes as it is, else in frames.
pub fn content_type(tty: bool) -> &'static str {
    match tty {
        true => "application/vnd.docker.raw-stream",
        false => "application/vnd.docker.multiplexed-stream",
    }
}

type Connection = TokioIo<hyper::upgrade::Upgraded>;

/// Answers 101 and hands the raw connection to `then`.
pub fn take_over<F, B>(
    request: &mut Request<B>,
    tty: bool,
    then: impl FnOnce(Connection) -> F + Send + 'static,
) -> Response<crate::reply::Body>
where
    F: Future<Output = ()> + Send,
{
    let upgrade: OnUpgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => then(TokioIo::new(upgraded)).await,
            Err(error) => tracing::debug!(%error, "a connection could not be taken over"),
        }
    });
    let mut response = Response::new(full(""));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type(tty)),
        (header::CONNECTION, "Upgrade"),
        (header::UPGRADE, "tcp"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
}

/// Answers a client that takes no connection over: the output is the body, which ends after `ended` and `then`. There is no
/// input.
pub fn told(
    mut before: mpsc::Receiver<Bytes>,
    mut process: Process,
    wants: Wants,
    ended: impl Future<Output = ()> + Send + 'static,
    then: impl Future<Output = ()> + Send + 'static,
) -> Answer {
    process.stdin = None;
    let (pieces, body) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut heard = true;
        while let Some(bytes) = before.recv().await {
            heard = heard && pieces.send(bytes).await.is_ok();
        }
        while heard || wants.own {
            let output = tokio::select! {
                output = process.output.recv() => output,
                () = pieces.closed(), if heard => {
                    heard = false;
                    continue;
                }
            };
            let Some(output) = output else {
                break;
            };
            if let Some(framed) = wants.framed(&output).filter(|_| heard) {
                heard = pieces.send(framed).await.is_ok();
            }
        }
        drop(process);
        if heard {
            ended.await;
        }
        drop(pieces);
        then.await;
    });
    stream(content_type(wants.tty), ReceiverStream::new(body))
}

/// Moves bytes, first those from before, until all output is sent and `ended` has come, then closes.
pub async fn serve(
    connection: Connection,
    before: mpsc::Receiver<Bytes>,
    mut process: Process,
    wants: Wants,
    ended: impl Future<Output = ()> + Send,
) {
    let (mut from, mut to) = tokio::io::split(connection);
    let stdin = process.stdin.take();
    let input = tokio::spawn(async move {
        let mut stdin = stdin;
        let mut buffer = vec![0; STDIN_CHUNK];
        while let Ok(length) = from.read(&mut buffer).await {
            let Some(pipe) = &mut stdin else {
                if length == 0 {
                    break;
                }
                continue;
            };
            if length == 0 {
                let _ = pipe.shutdown().await;
                break;
            }
            if pipe.write_all(&buffer[..length]).await.is_err() || pipe.flush().await.is_err() {
                stdin = None;
            }
        }
    });
    let _ = send_all(before, &mut to).await;
    while let Some(output) = process.output.recv().await {
        let Some(framed) = wants.framed(&output) else {
            continue;
        };
        if to.write_all(&framed).await.is_err() {
            // nobody listens any more, and nobody is held up for that
            match wants.own {
                true => while process.output.recv().await.is_some() {},
                false => drop(process),
            }
            break;
        }
    }
    // the exit is known before the connection closes: the client asks for it right then
    ended.await;
    let _ = to.shutdown().await;
    input.abort();
}

/// Docker's header of eight bytes: stream, three zeros, length in big-endian order.
pub fn frame(stream: u8, bytes: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(bytes.len() + 8);
    framed.put_slice(&[stream, 0, 0, 0]);
    framed.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    framed.put_slice(bytes);
    framed.freeze()
}

#[cfg(test)]
mod tests {
    use super::frame;

    #[test]
    fn frames() {
        assert_eq!(
            frame(2, b"ab").as_ref(),
            [2, 0, 0, 0, 0, 0, 0, 2, b'a', b'b']
        );
    }
}
