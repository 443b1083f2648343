//! The listening side: TLS, client certificates, HTTP/1.1 and HTTP/2.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::activity::{Activity, Counted};
use crate::server::State;

/// How often an HTTP/2 client is asked whether it is still there, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a quiet connection may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
/// How long open requests may go on after shutdown.
const DRAIN: Duration = Duration::from_secs(2);

/// Accepts until `shutdown`, then lets open connections finish for a moment.
pub(crate) async fn run(
    state: Arc<State>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    shutdown: CancellationToken,
) {
    let acceptor = tokio_rustls::TlsAcceptor::from(tls);
    let tracker = TaskTracker::new();
    let most = state.config.limits.connections_max;
    let slots = Arc::new(tokio::sync::Semaphore::new(most));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let tcp = match accepted {
            Ok((tcp, _)) => tcp,
            Err(error) => {
                // Out of file descriptors, most likely: give the others time to close theirs.
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            tracing::warn!("refused a connection: {most} are open");
            continue;
        };
        let connection = connection(state.clone(), acceptor.clone(), tcp, shutdown.clone());
        tracker.spawn(async move {
            connection.await;
            drop(slot);
        });
    }
    tracker.close();
    let _ = tokio::time::timeout(DRAIN, tracker.wait()).await;
}

/// Serves a connection; at shutdown it takes no new requests, and when it is quiet for too long it is closed. A macro,
/// because the two kinds of connection have no trait in common.
macro_rules! drive {
    ($connection:expr, $shutdown:expr, $quiet:expr) => {{
        let mut connection = std::pin::pin!($connection);
        tokio::select! {
            result = connection.as_mut() => result,
            () = $shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = $quiet => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(GOODBYE, connection).await.unwrap_or(Ok(()))
            }
        }
    }};
}

async fn connection(
    state: Arc<State>,
    acceptor: tokio_rustls::TlsAcceptor,
    tcp: TcpStream,
    shutdown: CancellationToken,
) {
    let _ = tcp.set_nodelay(true);
    let limits = state.config.limits.clone();
    let stream = match tokio::time::timeout(limits.handshake_timeout, acceptor.accept(tcp)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let identity = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .and_then(crate::pki::identity_of)
        .map(crate::Identity::authenticated);
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let ending = shutdown.clone();
    let activity = Activity::new();
    let counting = activity.clone();
    let service =
        hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let state = state.clone();
            let identity = identity.clone();
            let ending = ending.clone();
            let open = counting.begin();
            async move {
                let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
                request.extensions_mut().insert(ending);
                let response = crate::handlers::handle(state, identity, request).await;
                Ok::<_, Infallible>(response.map(|body| Counted { body, _open: open }))
            }
        });
    let io = TokioIo::new(stream);
    // The protocol is what the handshake agreed on: a connection that says nothing is not waited for to guess it.
    let result = if http2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams_max)
            .max_header_list_size(limits.head_bytes_max)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        let quiet = activity.quiet_for(limits.idle_timeout);
        drive!(builder.serve_connection(io, service), shutdown, quiet)
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout)
            .max_buf_size(limits.head_bytes_max as usize);
        let connection = builder.serve_connection(io, service).with_upgrades();
        // The time for a head covers idling here, and an upgraded connection is its own affair.
        drive!(connection, shutdown, std::future::pending::<()>())
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
}
