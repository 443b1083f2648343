//! A server for pods that stand in for somebody's programs: `e2e stand-in WAY:PORT...`, where a way is `grpc` (the standard
//! health check, without encryption), `https` (a certificate of its own that nobody has signed) or `http`.
//!
//! It is healthy unless the file [`SICK`] is there: then the health check answers NOT_SERVING and every other path 503.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// Makes the server unhealthy as long as it is there.
pub const SICK: &str = "/tmp/sick";
/// The service that a health check may name; the empty name is the server as a whole.
const SERVICE: &str = "cart";

type Body = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

/// Serves until it is killed.
pub fn run(ways: &[String]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let servers = ways.iter().map(|way| {
            let (way, port) = way.split_once(':').expect("WAY:PORT");
            listen(way, port.parse().expect("a port"))
        });
        futures::future::join_all(servers).await;
    });
}

async fn listen(way: &str, port: u16) {
    let acceptor = match way {
        "https" => Some(certified()),
        "http" | "grpc" => None,
        other => panic!("{other:?} is no way to serve"),
    };
    let listener = TcpListener::bind(("0.0.0.0", port))
        .await
        .expect("the port is free");
    loop {
        // a client that is gone before it is accepted is no reason to end
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        tokio::spawn(connection(stream, acceptor.clone()));
    }
}

async fn connection(stream: TcpStream, acceptor: Option<TlsAcceptor>) {
    match acceptor {
        None => serve(stream).await,
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream).await;
            }
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let builder = auto::Builder::new(TokioExecutor::new());
    // clients leave as they like
    let _ = builder
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await;
}

/// A certificate as programs make themselves one at their start.
fn certified() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["stand-in".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has what TLS 1.2 and 1.3 need")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("they fit");
    TlsAcceptor::from(Arc::new(config))
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let well = !Path::new(SICK).exists();
    if request.uri().path() == "/grpc.health.v1.Health/Check" {
        let asked = match request.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => Bytes::new(),
        };
        return Ok(health(&asked, well));
    }
    let status = if well { 200 } else { 503 };
    let text = Frame::data(Bytes::from_static(if well { b"ok\n" } else { b"sick\n" }));
    let response = Response::builder().status(status).body(body(vec![text]));
    Ok(response.expect("a response"))
}

/// The answer to a HealthCheckRequest: its first field is the service's name, behind a byte and the length of the message.
fn health(asked: &[u8], well: bool) -> Response<Body> {
    let name = asked.get(7..).unwrap_or_default();
    let known = name.is_empty() || name == SERVICE.as_bytes();
    let mut last = HeaderMap::new();
    let mut frames = Vec::new();
    if known {
        let status = if well { 1 } else { 2 };
        frames.push(Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 0x08, status])));
        last.insert("grpc-status", HeaderValue::from_static("0"));
    } else {
        last.insert("grpc-status", HeaderValue::from_static("5"));
        last.insert("grpc-message", HeaderValue::from_static("unknown service"));
    }
    frames.push(Frame::trailers(last));
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(body(frames)).expect("a response")
}

fn body(frames: Vec<Frame<Bytes>>) -> Body {
    let frames: Vec<Result<_, Infallible>> = frames.into_iter().map(Ok).collect();
    StreamBody::new(stream::iter(frames))
}
