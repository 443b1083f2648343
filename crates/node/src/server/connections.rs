//! Connections to the kubelet's API: how many, for how long, and that nobody takes all of them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::authorize::Client;

/// Connections of this machine itself, where the API server is, and as many of all others.
const CONNECTIONS_MAX: usize = 512;
/// Of one other address, until it has shown a certificate.
const OF_ONE_ADDRESS_MAX: usize = 64;
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// For a request's head, and for a connection between two requests. What is upgraded takes its time.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// Between two attempts to accept, when there are no file descriptors, for instance.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until `shutdown`; open streams end with it. `app` finds in a request whom a certificate names.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    app: Router,
    shutdown: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let of_machine = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let of_others = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let strangers = Strangers::default();
    loop {
        let (stream, peer) = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "the kubelet's API could not accept a connection");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        // Beyond the bounds one is closed, not kept waiting: those behind it may be within them.
        let (slots, place) = if is_from_here(&stream, peer) {
            (&of_machine, None)
        } else {
            let Some(place) = strangers.admit(peer.ip()) else {
                tracing::debug!(%peer, "refused a connection: too many of this address are open");
                continue;
            };
            (&of_others, Some(place))
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            tracing::warn!(%peer, "refused a connection: {CONNECTIONS_MAX} are open");
            continue;
        };
        let connection = connection(acceptor.clone(), stream, place, app.clone());
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            let _slot = slot;
            tokio::select! {
                () = connection => {}
                () = shutdown.cancelled() => {}
            }
        });
    }
}

async fn connection(acceptor: TlsAcceptor, stream: TcpStream, place: Option<Taken>, app: Router) {
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await else {
        return;
    };
    let shown = stream.get_ref().1.peer_certificates();
    let client = shown.and_then(|chain| Client::of(chain.first()?));
    let (app, _place) = match client {
        // Whom the cluster knows may be another machine's API server, with the streams of all its users.
        Some(client) => (app.layer(axum::Extension(client)), None),
        None => (app, place),
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
        .with_upgrades();
    // However it ends, it concerns this connection alone.
    let _ = connection.await;
}

/// Whether this machine speaks to itself: from the address that it speaks to.
fn is_from_here(stream: &TcpStream, peer: SocketAddr) -> bool {
    stream.local_addr().is_ok_and(|own| own.ip() == peer.ip())
}

/// Open connections by their address.
#[derive(Clone, Default)]
struct Strangers(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Strangers {
    /// A place for a connection of this address, unless it has too many.
    fn admit(&self, address: IpAddr) -> Option<Taken> {
        let mut open = self.0.lock();
        let count = open.entry(address).or_default();
        if *count >= OF_ONE_ADDRESS_MAX {
            return None;
        }
        *count += 1;
        let of = self.clone();
        Some(Taken { of, address })
    }
}

/// A place that is given back when it is dropped.
struct Taken {
    of: Strangers,
    address: IpAddr,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut open = self.of.0.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::routing::get;
    use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;

    use super::*;

    const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// A server of `/healthz`, its port, and what its clients connect with.
    async fn scene() -> (SocketAddr, TlsConnector) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let parameters = rcgen::CertificateParams::new(vec![SERVER.to_string()]).expect("names");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        let secret = PrivatePkcs8KeyDer::from(key.serialize_der());
        let chain = vec![certificate.der().clone()];
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, secret.into())
            .expect("a configuration");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.der().clone()).expect("a root");
        let trusting = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind((SERVER, 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let app = Router::new().route("/healthz", get(async || "ok"));
        let shutdown = CancellationToken::new();
        tokio::spawn(serve(listener, Arc::new(tls), app, shutdown));
        (address, TlsConnector::from(Arc::new(trusting)))
    }

    async fn connect(
        (server, tls): &(SocketAddr, TlsConnector),
        from: [u8; 4],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind((IpAddr::from(from), 0).into())?;
        let stream = socket.connect(*server).await?;
        tls.connect(ServerName::IpAddress(SERVER.into()), stream)
            .await
    }

    async fn healthz(stream: &mut TlsStream<TcpStream>) -> std::io::Result<String> {
        let request = b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    #[tokio::test]
    async fn idle_connections_of_one_address_keep_nobody_else_out() {
        let scene = scene().await;
        let mut idle = Vec::new();
        // More than there are places for all.
        for _ in 0..CONNECTIONS_MAX + 1 {
            idle.extend(connect(&scene, [127, 0, 0, 2]).await);
        }
        assert_eq!(idle.len(), OF_ONE_ADDRESS_MAX);
        for other in [[127, 0, 0, 3], [127, 0, 0, 1]] {
            let mut stream = connect(&scene, other).await.expect("connected");
            let said = healthz(&mut stream).await.expect("answered");
            assert!(said.starts_with("HTTP/1.1 200 OK"), "{said}");
        }
        // One that goes makes room for the next.
        idle.pop();
        let again = async {
            while connect(&scene, [127, 0, 0, 2]).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let again = tokio::time::timeout(Duration::from_secs(5), again).await;
        assert!(again.is_ok(), "its place was not given back");
    }

    #[tokio::test]
    async fn addresses_together_do_not_keep_this_machine_out() {
        let scene = scene().await;
        let mut idle = Vec::new();
        for low in 2..12 {
            for _ in 0..OF_ONE_ADDRESS_MAX {
                idle.extend(connect(&scene, [127, 0, 0, low]).await);
            }
        }
        assert_eq!(idle.len(), CONNECTIONS_MAX);
        let mut own = connect(&scene, [127, 0, 0, 1]).await.expect("connected");
        let said = healthz(&mut own).await.expect("answered");
        assert!(said.ends_with("ok"), "{said}");
    }

    #[tokio::test]
    async fn a_connection_that_asks_nothing_is_closed() {
        let scene = scene().await;
        let began = Instant::now();
        let mut idle = connect(&scene, [127, 0, 0, 2]).await.expect("connected");
        let mut slow = connect(&scene, [127, 0, 0, 2]).await.expect("connected");
        slow.write_all(b"GET /healthz HTTP/1.1\r\n")
            .await
            .expect("sent");
        let mut rest = Vec::new();
        for stream in [&mut idle, &mut slow] {
            let ended = stream.read_to_end(&mut rest);
            let ended = tokio::time::timeout(HEAD_MAX * 3, ended).await;
            assert!(ended.is_ok(), "it is open after {:?}", began.elapsed());
        }
        assert!(began.elapsed() > HEAD_MAX / 2, "it has its time");
    }
}
