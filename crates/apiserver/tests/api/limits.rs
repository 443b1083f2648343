//! What clients may take: time, connections, watches, streams, and the size of what they send.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::server::{CONFIG_MAPS, Server};
use crate::tls::{Listening, listen_with};

/// Long for a machine, short for a test.
const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(20);

async fn connect(listening: &Listening, alpn: &[u8]) -> TlsStream<TcpStream> {
    let admin = listening.keys.admin().expect("admin");
    let mut tls = rustls::ClientConfig::clone(&*listening.keys.client_tls(&admin).expect("TLS"));
    tls.alpn_protocols = vec![alpn.to_vec()];
    let tcp = TcpStream::connect(listening.address)
        .await
        .expect("connected");
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").expect("a name");
    TlsConnector::from(Arc::new(tls))
        .connect(name, tcp)
        .await
        .expect("TLS")
}

/// Everything the server still says; it must close the connection by itself.
async fn until_closed(mut stream: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut rest = Vec::new();
    // However the connection ends, it ends.
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut rest))
        .await
        .expect("the server closes the connection");
    String::from_utf8_lossy(&rest).into_owned()
}

#[tokio::test]
async fn slow_clients_are_let_go() {
    let listening = listen_with(|config| {
        config.limits.handshake_timeout = SHORT;
        config.limits.head_timeout = SHORT;
        config.limits.body_timeout = SHORT;
    })
    .await;
    // No handshake.
    let silent = TcpStream::connect(listening.address)
        .await
        .expect("connected");
    until_closed(silent).await;
    // No request.
    until_closed(connect(&listening, b"http/1.1").await).await;
    // Half a head.
    let mut stream = connect(&listening, b"http/1.1").await;
    stream
        .write_all(b"GET /api HTTP/1.1\r\nhost: x\r\nx-slow: ")
        .await
        .expect("sent");
    until_closed(stream).await;
    // Half a body.
    let mut stream = connect(&listening, b"http/1.1").await;
    let head = format!(
        "POST {CONFIG_MAPS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let answer = until_closed(stream).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    // An open watch is not slow: it waits for the server.
    let mut stream = connect(&listening, b"http/1.1").await;
    stream
        .write_all(b"GET /api/v1/configmaps?watch=1&timeoutSeconds=1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .expect("sent");
    let answer = until_closed(stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("0\r\n\r\n"),
        "{answer}"
    );
    listening.shutdown.cancel();
}

#[tokio::test]
async fn connections_are_bounded() {
    let listening = listen_with(|config| config.limits.connections_max = 2).await;
    let _first = connect(&listening, b"http/1.1").await;
    let second = connect(&listening, b"http/1.1").await;
    let third = TcpStream::connect(listening.address)
        .await
        .expect("connected");
    until_closed(third).await;
    drop(second);
    // The place is free again once the server has noticed.
    let again = async {
        loop {
            let admin = listening.keys.admin().expect("admin");
            let tls = listening.keys.client_tls(&admin).expect("TLS");
            let tcp = TcpStream::connect(listening.address)
                .await
                .expect("connected");
            let name = rustls::pki_types::ServerName::try_from("127.0.0.1").expect("a name");
            if TlsConnector::from(tls).connect(name, tcp).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, again).await.expect("a place");
    listening.shutdown.cancel();
}

#[tokio::test]
async fn heads_and_paths_are_bounded() {
    let listening = listen_with(|config| config.limits.head_bytes_max = 16 * 1024).await;
    let mut stream = connect(&listening, b"http/1.1").await;
    let head = format!(
        "GET /api HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "x".repeat(64 * 1024)
    );
    // The server may close before it has read all.
    let _ = stream.write_all(head.as_bytes()).await;
    let answer = until_closed(stream).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
    listening.shutdown.cancel();

    let server = Server::new().await;
    let long = format!("{CONFIG_MAPS}/{}", "x".repeat(5000));
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        server.ask(method, &long, &[], "{}").await.refusal(414);
    }
    let segments = format!("/api/v1/{}", "a/".repeat(2000));
    server.get(&segments).await.refusal(404);
}

#[tokio::test]
async fn every_body_is_bounded() {
    let server = Server::with(|config| config.max_body_bytes = 1000).await;
    let body = format!("{{\"x\":\"{}\"}}", "x".repeat(2000));
    let paths = [
        ("POST", "/api/v1/namespaces"),
        ("POST", CONFIG_MAPS),
        ("PUT", "/api/v1/namespaces/default/configmaps/a"),
        ("PATCH", "/api/v1/namespaces/default/configmaps/a"),
        ("DELETE", "/api/v1/namespaces/default/configmaps/a"),
        ("DELETE", CONFIG_MAPS),
        ("PUT", "/api/v1/namespaces/default/pods/a/status"),
        ("POST", "/api/v1/namespaces/default/pods/a/binding"),
        ("POST", "/api/v1/namespaces/default/pods/a/eviction"),
        ("PUT", "/api/v1/namespaces/default/finalize"),
        (
            "PATCH",
            "/apis/apps/v1/namespaces/default/deployments/a/scale",
        ),
        (
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        ),
    ];
    for (method, path) in paths {
        for content_type in ["application/json", "application/apply-patch+yaml"] {
            let headers = [("content-type", content_type)];
            let answer = server.ask(method, path, &headers, body.clone()).await;
            assert!(
                matches!(answer.code, 413 | 405),
                "{method} {path}: {}",
                answer.body
            );
        }
    }
}

#[tokio::test]
async fn watches_are_bounded() {
    let server = Server::with(|config| config.limits.watches_max = 2).await;
    let watch = || {
        let request = http::Request::get(format!("{CONFIG_MAPS}?watch=1"))
            .body(Full::new(Bytes::new()))
            .expect("a request");
        server.send(request)
    };
    let first = watch().await;
    let second = watch().await;
    assert_eq!(
        (first.status().as_u16(), second.status().as_u16()),
        (200, 200)
    );
    let refused = watch().await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "1");
    drop(first);
    assert_eq!(watch().await.status(), 200);
}

#[tokio::test]
async fn streams_of_one_connection_are_bounded() {
    let listening = listen_with(|config| {
        config.limits.streams_max = 3;
        config.limits.head_bytes_max = 20_000;
    })
    .await;
    let mut stream = connect(&listening, b"h2").await;
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .expect("sent");
    let settings = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.expect("a frame");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            stream.read_exact(&mut payload).await.expect("its payload");
            if head[3] == 4 && head[4] & 1 == 0 {
                return payload;
            }
        }
    };
    let settings = tokio::time::timeout(LONG, settings)
        .await
        .expect("settings");
    let announced: Vec<_> = settings
        .chunks_exact(6)
        .map(|s| {
            (
                u16::from_be_bytes([s[0], s[1]]),
                u32::from_be_bytes([s[2], s[3], s[4], s[5]]),
            )
        })
        .collect();
    assert!(
        announced.contains(&(3, 3)),
        "concurrent streams: {announced:?}"
    );
    assert!(
        announced.contains(&(6, 20_000)),
        "header list: {announced:?}"
    );
    listening.shutdown.cancel();
}
