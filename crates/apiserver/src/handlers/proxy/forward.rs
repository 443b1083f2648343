//! One request handed on over one connection. Upgrades (WebSocket, SPDY) are passed through: both sides switch protocols and
//! the bytes are copied.

use std::time::Duration;

use http::StatusCode;
use http::header::{CONNECTION, TRANSFER_ENCODING};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::super::finish::Verbatim;
use super::super::respond::{self, Response};
use crate::flow::places::Place;
use crate::kubelet::NodeStream;
use crate::server::RequestBody;
use crate::status::ApiError;

/// What came of a request.
pub enum Outcome {
    /// The protocols were switched; this is the answer that says so.
    Upgraded(Response),
    /// An ordinary answer, and the place that is held until it has been read.
    Answered(http::Response<Incoming>, Place),
}

/// Sends `request` over `stream`. `failed` says in words that the other side cannot be reached.
pub async fn send(
    stream: Box<dyn NodeStream>,
    request: http::Request<RequestBody>,
    client_side: Option<OnUpgrade>,
    place: Place,
    failed: impl Fn(&dyn std::fmt::Display) -> ApiError,
) -> Result<Outcome, ApiError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| failed(&e))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a proxied connection ended");
        }
    });
    let mut answer = sender.send_request(request).await.map_err(|e| failed(&e))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Outcome::Answered(answer, place));
    }
    let Some(client_side) = client_side else {
        return Err(ApiError::bad_request("this connection cannot be upgraded"));
    };
    let other_side = hyper::upgrade::on(&mut answer);
    tokio::spawn(async move {
        splice(client_side, other_side).await;
        drop(place);
    });
    let mut response = http::Response::new(respond::full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = answer.headers().clone();
    Ok(Outcome::Upgraded(response))
}

/// The answer as it came, without what is of its connection alone; the place is held as long as the bytes flow.
pub fn passed(answer: http::Response<Incoming>, place: Place) -> Response {
    let mut response = http::Response::new(());
    *response.status_mut() = answer.status();
    for (name, value) in answer.headers() {
        if *name != CONNECTION && *name != TRANSFER_ENCODING {
            response.headers_mut().append(name.clone(), value.clone());
        }
    }
    response.extensions_mut().insert(Verbatim);
    let body = answer
        .into_body()
        .map_err(Into::into)
        .map_frame(move |frame| {
            let _held = &place;
            frame
        });
    response.map(|()| body.boxed_unsync())
}

/// For so long one direction goes on when the other has ended: the last words of a command for a client that is slow.
const LINGER: Duration = Duration::from_secs(10);
const PASSED_AT_ONCE_BYTES: usize = 16 * 1024;

async fn splice(client: OnUpgrade, other: OnUpgrade) {
    let (client, other) = match tokio::try_join!(client, other) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "a connection was not upgraded");
            return;
        }
    };
    let (mut from_client, mut to_client) = tokio::io::split(TokioIo::new(client));
    let (mut from_other, mut to_other) = tokio::io::split(TokioIo::new(other));
    let there = pass(&mut from_client, &mut to_other);
    let back = pass(&mut from_other, &mut to_client);
    tokio::pin!(there, back);
    tokio::select! {
        // a client that says no more may go on listening
        whole = &mut there => if whole {
            back.await;
        } else {
            let _ = tokio::time::timeout(LINGER, back).await;
        },
        _ = &mut back => drop(tokio::time::timeout(LINGER, there).await),
    }
}

/// Passes on what comes until its end, and then the end; whether all of it was passed on. What came before an error is passed on,
/// too: a peer that closes its connection without a word of TLS is one.
async fn pass(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> bool {
    let mut buffer = vec![0; PASSED_AT_ONCE_BYTES];
    let whole = loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) => break true,
            Ok(read) => read,
            Err(_) => break false,
        };
        if to.write_all(&buffer[..read]).await.is_err() || to.flush().await.is_err() {
            return false;
        }
    };
    to.shutdown().await.is_ok() && whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::io;

    #[tokio::test]
    async fn what_came_before_a_sudden_end_is_passed_on() {
        for (end, whole) in [(None, true), (Some(io::ErrorKind::UnexpectedEof), false)] {
            let words: [io::Result<Bytes>; 2] = [Ok("the last ".into()), Ok("words".into())];
            let parts = words.into_iter().chain(end.map(|kind| Err(kind.into())));
            let mut from = tokio_util::io::StreamReader::new(futures::stream::iter(parts));
            // a listener that takes four bytes at a time
            let (mut to, mut listener) = tokio::io::duplex(4);
            let mut heard = String::new();
            let (passed, read) = tokio::join!(
                pass(&mut from, &mut to),
                listener.read_to_string(&mut heard)
            );
            assert_eq!((passed, &*heard), (whole, "the last words"), "{end:?}");
            read.expect("text");
        }
    }
}
