//! How a connection becomes one of streams: by HTTP's upgrade, or inside a WebSocket whose messages carry the bytes (KEP-4006).

use std::future::Future;

use axum::body::Body;
use axum::extract::Request;
use axum::extract::ws::{Message, WebSocket};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::header::{CONNECTION, HeaderName, HeaderValue, UPGRADE};
use http::{HeaderMap, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;

use super::session::{Stream, accept};

const SPDY: HeaderValue = HeaderValue::from_static("SPDY/3.1");
const VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
/// Bytes on their way between the WebSocket and the streams.
const BUFFER: usize = 64 * 1024;

/// Whether the request can be upgraded, and the first of `protocols` that its client names; else the refusal. Which streams there
/// are and what they carry is the protocol's; a client that names none is taken to mean the first.
pub fn negotiate(
    headers: &HeaderMap,
    protocols: &[&'static str],
) -> Result<&'static str, Box<Response>> {
    let asked = headers.get(UPGRADE);
    if !asked.is_some_and(|asked| asked.as_bytes().eq_ignore_ascii_case(SPDY.as_bytes())) {
        let words = "unable to upgrade: missing upgrade headers in request\n";
        return Err(Box::new((StatusCode::BAD_REQUEST, words).into_response()));
    }
    choose(headers, protocols).ok_or_else(|| {
        let words = "unable to upgrade: unable to negotiate protocol\n";
        let mut refusal = (StatusCode::FORBIDDEN, words).into_response();
        for protocol in protocols {
            refusal
                .headers_mut()
                .append(ACCEPTED, HeaderValue::from_static(protocol));
        }
        Box::new(refusal)
    })
}

/// Upgrades a request to SPDY/3.1 and gives its streams to `run`, under the protocol that was negotiated.
pub fn upgrade<F: Future<Output = ()> + Send + 'static>(
    mut request: Request,
    protocol: &'static str,
    run: impl FnOnce(mpsc::Receiver<Stream>) -> F + Send + 'static,
) -> Response {
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(io) => run(accept(TokioIo::new(io))).await,
            Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
        }
    });
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, SPDY);
    headers.insert(VERSION, HeaderValue::from_static(protocol));
    answer
}

fn choose(headers: &HeaderMap, protocols: &[&'static str]) -> Option<&'static str> {
    let offered: Vec<&str> = headers
        .get_all(VERSION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    if offered.is_empty() {
        return protocols.first().copied();
    }
    let known = |protocol: &&&'static str| offered.contains(*protocol);
    protocols.iter().find(known).copied()
}

/// Carries the bytes of a WebSocket's messages in the background. Either end closes the other.
pub fn tunnel(socket: WebSocket) -> DuplexStream {
    let (near, far) = tokio::io::duplex(BUFFER);
    let (mut to_client, mut from_client) = socket.split();
    let (mut reader, mut writer) = tokio::io::split(far);
    tokio::spawn(async move {
        while let Some(Ok(message)) = from_client.next().await {
            match message {
                Message::Binary(bytes) if writer.write_all(&bytes).await.is_err() => break,
                Message::Close(_) => break,
                _ => {}
            }
        }
        let _ = writer.shutdown().await;
    });
    tokio::spawn(async move {
        let mut buffer = vec![0; BUFFER];
        while let Ok(length @ 1..) = reader.read(&mut buffer).await {
            let bytes = Bytes::copy_from_slice(&buffer[..length]);
            if to_client.send(Message::Binary(bytes)).await.is_err() {
                break;
            }
        }
        let _ = to_client.close().await;
    });
    near
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_ours_that_the_client_knows_is_chosen() {
        let ours = ["v4", "v3"];
        for (offered, chosen) in [
            (&["v5", "v3", "v4"][..], Some("v4")),
            (&["v5, v3"], Some("v3")),
            (&["v5"], None),
            (&[""], None),
            (&[], Some("v4")),
        ] {
            let mut headers = HeaderMap::new();
            for one in offered {
                headers.append(VERSION, HeaderValue::from_static(one));
            }
            assert_eq!(choose(&headers, &ours), chosen, "{offered:?}");
        }
    }
}
