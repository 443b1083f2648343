//! HTTP probes, and hooks that ask a URL.

use std::net::{IpAddr, SocketAddr};

use ::http::Request;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{BODY_BYTES_MAX, tls};

/// A host that sends us from place to place is not asked more often.
const REDIRECTS_MAX: usize = 10;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    tls: bool,
    host: String,
    port: u16,
    /// With the query.
    path: String,
}

impl Place {
    /// Where a `Location` leads from here; `None` if it cannot be read.
    fn follow(&self, location: &str) -> Option<Self> {
        let (path, _) = location.split_once('#').unwrap_or((location, ""));
        let mut next = self.clone();
        if let Some(rest) = path.strip_prefix("//") {
            let scheme = if self.tls { "https" } else { "http" };
            return self.follow(&format!("{scheme}://{rest}"));
        }
        if path.contains("://") {
            let uri: ::http::Uri = path.parse().ok()?;
            next.tls = match uri.scheme_str()? {
                "http" => false,
                "https" => true,
                _ => return None,
            };
            uri.host()?
                .trim_matches(['[', ']'])
                .clone_into(&mut next.host);
            next.port = uri.port_u16().unwrap_or(if next.tls { 443 } else { 80 });
            next.path = uri.path_and_query()?.to_string();
        } else if path.starts_with('/') {
            path.clone_into(&mut next.path);
        } else {
            let own = self.path.split('?').next().unwrap_or_default();
            let directory = own.rsplit_once('/').map_or("", |(directory, _)| directory);
            next.path = format!("{directory}/{path}");
        }
        Some(next)
    }
}

/// A GET; 200–399 succeed, as the kubelet has it. Redirects to the same host are followed. With `tls` whatever certificate there is
/// is taken.
pub async fn http_get<'a>(
    tls: bool,
    host: &str,
    port: u16,
    path: &str,
    headers: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) -> Result<(), String> {
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut place = Place {
        tls,
        host: host.to_owned(),
        port,
        path: format!("{slash}{path}"),
    };
    for _ in 0..=REDIRECTS_MAX {
        let (status, location) = get(&place, headers.clone()).await?;
        if !(200..400).contains(&status) {
            return Err(format!("HTTP probe failed with statuscode: {status}"));
        }
        let Some(location) = location else {
            return Ok(());
        };
        match place.follow(&location) {
            // somebody else's answer says nothing of this one
            Some(next) if next.host == place.host => place = next,
            _ => return Ok(()),
        }
    }
    Err(format!(
        "Get \"{}\": stopped after {REDIRECTS_MAX} redirects",
        place.path
    ))
}

/// A GET of a hook: that it is answered is enough, whatever the answer (the kubelet's `runHTTPHandler`). Who does not speak TLS is asked
/// without.
pub async fn http_hook<'a>(
    tls: bool,
    host: &str,
    port: u16,
    path: &str,
    headers: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) -> Result<(), String> {
    let slash = if path.starts_with('/') { "" } else { "/" };
    let place = Place {
        tls,
        host: host.to_owned(),
        port,
        path: format!("{slash}{path}"),
    };
    let asked = get(&place, headers.clone()).await;
    if asked.is_err() && tls {
        let plain = Place {
            tls: false,
            ..place
        };
        if get(&plain, headers).await.is_ok() {
            return Ok(());
        }
    }
    asked.map(drop)
}

/// Asks once; the status, and where it is sent to, if it is.
async fn get<'a>(
    place: &Place,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(u16, Option<String>), String> {
    let Place {
        tls,
        host,
        port,
        path,
    } = place;
    let (tls, port) = (*tls, *port);
    let scheme = if tls { "https" } else { "http" };
    let url = format!("{scheme}://{host}:{port}{path}");
    let failed = |e: &dyn std::fmt::Display| format!("Get \"{url}\": {e}");
    let stream = connect(tls, host, port).await.map_err(|e| failed(&e))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| failed(&e))?;
    let driver = tokio::spawn(connection);
    let result = async {
        let mut request = Request::get(path)
            .header("user-agent", "kube-probe/1.37")
            .header("connection", "close");
        let mut host_header = format!("{host}:{port}");
        for (name, value) in headers {
            if name.eq_ignore_ascii_case("host") {
                host_header = value.to_owned();
            } else {
                request = request.header(name, value);
            }
        }
        let request = request
            .header("host", host_header)
            .body(Empty::<Bytes>::new())
            .map_err(|e| failed(&e))?;
        let response = sender.send_request(request).await.map_err(|e| failed(&e))?;
        let status = response.status().as_u16();
        let location = response.headers().get("location");
        let location = location
            .filter(|_| matches!(status, 301 | 302 | 303 | 307 | 308))
            .and_then(|location| location.to_str().ok().map(str::to_owned));
        // an endless body must not hold the probe; what does not fit is not read
        let _ = Limited::new(response.into_body(), BODY_BYTES_MAX)
            .collect()
            .await;
        Ok((status, location))
    }
    .await;
    driver.abort();
    result
}

/// A connection, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

async fn connect(tls: bool, host: &str, port: u16) -> Result<Box<dyn Stream>, String> {
    let stream = match host.parse::<IpAddr>() {
        Ok(ip) => TcpStream::connect(SocketAddr::new(ip, port)).await,
        Err(_) => TcpStream::connect((host, port)).await,
    }
    .map_err(|e| dial(host, port, &e))?;
    if !tls {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
    let stream = TlsConnector::from(tls::config())
        .connect(name, stream)
        .await
        .map_err(|e| e.to_string())?;
    Ok(Box::new(stream))
}

/// In the words of Go's net package, which people search for.
pub(super) fn dial(host: &str, port: u16, error: &std::io::Error) -> String {
    let why = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        std::io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    };
    format!("dial tcp {host}:{port}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn http_statuses_refusals_and_garbage() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        async fn answer(text: &'static str) -> u16 {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
                .await
                .expect("bind");
            let port = listener.local_addr().expect("address").port();
            tokio::spawn(async move {
                if let Ok((mut stream, _)) = listener.accept().await {
                    let mut buffer = [0; 1024];
                    let _ = stream.read(&mut buffer).await;
                    let _ = stream.write_all(text.as_bytes()).await;
                }
            });
            port
        }
        let none = || std::iter::empty();
        for (text, want) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Ok(())),
            ("HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n", Ok(())),
            (
                "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",
                Err("HTTP probe failed with statuscode: 500".to_owned()),
            ),
        ] {
            assert_eq!(
                http_get(false, "127.0.0.1", answer(text).await, "healthz", none()).await,
                want
            );
        }
        // hooks want an answer, whatever it is, and not by TLS if there is none
        for (tls, text) in [
            (false, "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"),
            (false, "HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n"),
        ] {
            let asked = http_hook(tls, "127.0.0.1", answer(text).await, "hook", none());
            assert_eq!(asked.await, Ok(()), "{text}");
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("bind");
        let plain = listener.local_addr().expect("address").port();
        let twice = tokio::spawn(async move {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.expect("accepts");
                let mut buffer = [0; 1024];
                let _ = stream.read(&mut buffer).await;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                let _ = stream.write_all(answer).await;
            }
        });
        let asked = http_hook(true, "127.0.0.1", plain, "hook", none());
        assert_eq!(asked.await, Ok(()));
        twice.await.expect("asked twice");
        let garbage = http_get(
            false,
            "127.0.0.1",
            answer("nonsense\r\n\r\n").await,
            "/",
            none(),
        )
        .await
        .expect_err("garbage");
        assert!(garbage.starts_with("Get \"http://127.0.0.1:"), "{garbage}");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let closed = listener.local_addr().expect("address").port();
        drop(listener);
        assert!(
            http_get(false, "127.0.0.1", closed, "/", none())
                .await
                .expect_err("closed")
                .contains("refused")
        );
        assert!(
            http_hook(true, "127.0.0.1", closed, "/", none())
                .await
                .expect_err("closed")
                .contains("refused")
        );
    }

    #[test]
    fn places_that_locations_lead_to() {
        let here = Place {
            tls: false,
            host: "10.0.0.1".into(),
            port: 8080,
            path: "/a/b?c".into(),
        };
        let told = |place: Place| {
            let scheme = if place.tls { "https" } else { "http" };
            format!("{scheme}://{}:{}{}", place.host, place.port, place.path)
        };
        for (location, expected) in [
            ("/x?y#z", Some("http://10.0.0.1:8080/x?y")),
            ("x", Some("http://10.0.0.1:8080/a/x")),
            ("https://10.0.0.1/x", Some("https://10.0.0.1:443/x")),
            ("http://[fd00::1]:81/", Some("http://fd00::1:81/")),
            ("//other:9/x", Some("http://other:9/x")),
            ("ftp://10.0.0.1/x", None),
            ("http://", None),
        ] {
            assert_eq!(
                here.follow(location).map(told).as_deref(),
                expected,
                "{location}"
            );
        }
    }

    #[tokio::test]
    async fn what_counts_is_where_a_redirect_ends() {
        use axum::response::Redirect;
        use axum::routing::get;
        let app = axum::Router::new()
            .route("/well", get(async || Redirect::temporary("ok")))
            .route("/ok", get(async || "ok"))
            .route("/ill", get(async || Redirect::temporary("/none")))
            .route(
                "/away",
                get(async || Redirect::temporary("http://192.0.2.1/")),
            )
            .route("/round", get(async || Redirect::permanent("/round")));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("bind");
        let port = listener.local_addr().expect("address").port();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let ask = |path: &'static str| http_get(false, "127.0.0.1", port, path, std::iter::empty());
        assert_eq!(ask("well").await, Ok(()));
        assert_eq!(
            ask("ill").await,
            Err("HTTP probe failed with statuscode: 404".to_owned())
        );
        assert_eq!(ask("away").await, Ok(()));
        let round = ask("round").await.expect_err("no end");
        assert!(round.contains("stopped after 10 redirects"), "{round}");
    }

    #[tokio::test]
    async fn by_tls_whoever_vouches_for_it() {
        let made =
            rcgen::generate_simple_self_signed(vec!["pod".to_owned()]).expect("a certificate");
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .expect("a configuration");
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("bind");
        let port = listener.local_addr().expect("address").port();
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut buffer = [0; 1024];
                let _ = stream.read(&mut buffer).await;
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    .await;
                let _ = stream.shutdown().await;
            }
        });
        let none = || std::iter::empty();
        assert_eq!(http_get(true, "127.0.0.1", port, "/", none()).await, Ok(()));
        let plain = http_get(false, "127.0.0.1", port, "/", none()).await;
        assert!(plain.is_err(), "the server speaks nothing but TLS");
    }
}
