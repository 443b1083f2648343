//! One scrape: connect to the pod, ask, read the page within its bounds.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::dropped::Failure;
use super::limits::Limits;
use super::page::{Page, Reader};
use super::target::Target;

/// Most that is buffered of an answer, its head included.
const BUFFER_BYTES_MAX: usize = 32 * 1024;
const HEADERS_MAX: usize = 64;

/// Scrapes once.
pub async fn fetch(
    target: &Target,
    limits: &Limits,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Page, Failure> {
    tokio::time::timeout(limits.timeout, connect(target, limits, tls))
        .await
        .unwrap_or_else(|_| Err(Failure::Timeout(limits.timeout.as_millis())))
}

async fn connect(
    target: &Target,
    limits: &Limits,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Page, Failure> {
    let stream = TcpStream::connect(target.address)
        .await
        .map_err(Failure::Unreachable)?;
    if !target.tls {
        return ask(stream, target, limits).await;
    }
    let name = ServerName::IpAddress(target.address.ip().into());
    let stream = TlsConnector::from(tls.clone())
        .connect(name, stream)
        .await
        .map_err(Failure::Tls)?;
    ask(stream, target, limits).await
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    target: &Target,
    limits: &Limits,
) -> Result<Page, Failure> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(Failure::Broken)?;
    // ends with this scrape, however that ends
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = http::Request::get(&target.path)
        .header(http::header::HOST, target.address.to_string())
        .header(
            http::header::ACCEPT,
            "text/plain;version=0.0.4;q=1,*/*;q=0.1",
        )
        .header(http::header::USER_AGENT, "plimsoll")
        .header(http::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Failure::Annotation(format!("the path cannot be asked for: {error}")))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(Failure::Broken)?;
    if response.status() != http::StatusCode::OK {
        return Err(Failure::Status(response.status().as_u16()));
    }
    let mut body = response.into_body();
    let mut reader = Reader::new(limits);
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame.map_err(Failure::Broken)?.into_data() {
            reader.feed(&piece)?;
        }
    }
    Ok(reader.finish())
}
