//! `POST /containers/ID/attach`, and the taking over of a connection that attach and exec share.

use bytes::{BufMut, Bytes, BytesMut};
use engine::{Output, Process};
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Container, find, lifecycle};
use crate::Docker;
use crate::query::Query;
use crate::reply::{Answer, Refusal, full};

const STDIN_CHUNK: usize = 16 * 1024;

/// Attaching to a container that has not been started brings its sandbox up, so that no byte of its output is missed.
pub async fn attach(
    docker: Docker,
    container: Container,
    query: &Query,
    mut request: Request<Incoming>,
) -> Answer {
    if !request.headers().contains_key(header::UPGRADE) {
        return Err(Refusal::bad(
            "attaching takes the connection over: send `Connection: Upgrade` and `Upgrade: tcp`",
        ));
    }
    let tty = container.record.config.tty;
    if !container.running() {
        let _turn = docker.inner.turns.of(container.id()).await;
        let prepared = lifecycle::prepare_sandbox(&docker, &container).await;
        if prepared.is_err() {
            // The start that follows says why. A refusal here would hide it: the client tells of an upgrade that failed.
            return Ok(take_over(&mut request, tty, |connection| async move {
                drop(connection);
            }));
        }
    }
    let stdin = query.flag("stdin") && container.record.config.open_stdin;
    let process = docker.inner.engine.attach(container.id(), stdin).await?;
    let wants = Wants {
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        tty,
        own: false,
    };
    let ended = process.wait();
    let id = container.id().to_owned();
    Ok(take_over(&mut request, tty, move |connection| async move {
        let ended = async {
            let _ = ended.await;
        };
        serve(connection, process, wants, ended).await;
        // one that was brought up to be attached to, and then not started, needs its sandbox no longer
        let _turn = docker.inner.turns.of(&id).await;
        if find(&docker, &id).await.is_ok_and(|now| !now.running()) {
            lifecycle::release(&docker, &id).await;
        }
    }))
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

type Connection = TokioIo<hyper::upgrade::Upgraded>;

/// Answers 101 (200 to clients that did not ask for an upgrade) and hands the raw connection to `then`.
pub fn take_over<F, B>(
    request: &mut Request<B>,
    tty: bool,
    then: impl FnOnce(Connection) -> F + Send + 'static,
) -> Response<crate::reply::Body>
where
    F: Future<Output = ()> + Send,
{
    let asked = request.headers().contains_key(header::UPGRADE);
    let upgrade: OnUpgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => then(TokioIo::new(upgraded)).await,
            Err(error) => tracing::debug!(%error, "a connection could not be taken over"),
        }
    });
    let mut response = Response::new(full(""));
    let kind = if tty {
        "application/vnd.docker.raw-stream"
    } else {
        "application/vnd.docker.multiplexed-stream"
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    if asked {
        headers.insert(
            header::CONNECTION,
            header::HeaderValue::from_static("Upgrade"),
        );
        headers.insert(header::UPGRADE, header::HeaderValue::from_static("tcp"));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    }
    response
}

/// Moves bytes until all output is sent and `ended` has come, then closes.
pub async fn serve(
    connection: Connection,
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
    while let Some(output) = process.output.recv().await {
        let framed = match (&output, wants.tty) {
            (Output::Stdout(bytes), true) => bytes.clone(),
            (Output::Stderr(bytes), true) => bytes.clone(),
            (Output::Stdout(bytes), false) if wants.stdout => frame(1, bytes),
            (Output::Stderr(bytes), false) if wants.stderr => frame(2, bytes),
            _ => continue,
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
