//! One client's storm is not another's wait: requests in flight, lasting requests, deadlines and quiet connections.

use std::sync::Arc;
use std::time::Duration;

use apiserver::pki;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::server::{CONFIG_MAPS, config_map};
use crate::tls::{Listening, listen_with};

const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(20);

fn user(listening: &Listening, name: &str) -> pki::Pair {
    listening
        .keys
        .client(name, name, Some("system:masters"))
        .expect("a certificate")
}

async fn connect(listening: &Listening, pair: &pki::Pair, alpn: &[u8]) -> TlsStream<TcpStream> {
    let mut tls = rustls::ClientConfig::clone(&*listening.keys.client_tls(pair).expect("TLS"));
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

/// Sends a head and what of a body is given.
async fn send(listening: &Listening, pair: &pki::Pair, text: &str) -> TlsStream<TcpStream> {
    let mut stream = connect(listening, pair, b"http/1.1").await;
    stream.write_all(text.as_bytes()).await.expect("sent");
    stream
}

/// The answer up to the end of its head, and what came with it.
async fn head(stream: &mut TlsStream<TcpStream>) -> String {
    let mut answer = Vec::new();
    let read = async {
        while !answer.windows(4).any(|w| w == b"\r\n\r\n") {
            if stream.read_buf(&mut answer).await.unwrap_or(0) == 0 {
                break;
            }
        }
    };
    tokio::time::timeout(LONG, read)
        .await
        .expect("an answer in time");
    String::from_utf8_lossy(&answer).into_owned()
}

/// The whole answer of a connection that the server closes after it.
async fn whole(stream: &mut TlsStream<TcpStream>) -> String {
    let mut answer = Vec::new();
    // However the connection ends, it ends.
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(LONG, read)
        .await
        .expect("an answer in time");
    String::from_utf8_lossy(&answer).into_owned()
}

/// A POST whose body does not come.
fn half_a_post() -> String {
    format!(
        "POST {CONFIG_MAPS} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{{"
    )
}

fn post(name: &str) -> String {
    let body = config_map(name).to_string();
    format!(
        "POST {CONFIG_MAPS} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_storm_of_one_user_is_not_the_others_wait() {
    let listening = listen_with(|config| {
        config.limits.writes_max = 4;
        config.limits.body_timeout = LONG;
    })
    .await;
    let (storm, calm) = (user(&listening, "storm"), user(&listening, "calm"));
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(send(&listening, &storm, &half_a_post()).await);
    }
    // All of those are in the server before it goes on.
    tokio::time::sleep(SHORT).await;
    for n in 0..5 {
        let mut stream = send(&listening, &calm, &post(&format!("calm-{n}"))).await;
        let answer = head(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }
    // Roles inside the process are not counted at all.
    let map = config_map("role");
    let role = listening.server.post(CONFIG_MAPS, &map);
    tokio::time::timeout(LONG, role)
        .await
        .expect("in time")
        .expect(201);
    // Reads of the stormy user are apart from its writes.
    let get = format!("GET {CONFIG_MAPS} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let mut stream = send(&listening, &storm, &get).await;
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
    // Its own writes wait for its own.
    let mut waiting = send(&listening, &storm, &post("storm")).await;
    let early = tokio::time::timeout(SHORT, head(&mut waiting)).await;
    assert!(early.is_err(), "{early:?}");
    drop(held);
    let answer = head(&mut waiting).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    listening.shutdown.cancel();
}

#[tokio::test]
async fn who_has_too_many_waiting_is_refused() {
    let listening = listen_with(|config| {
        config.limits.writes_max = 1;
        config.limits.body_timeout = LONG;
    })
    .await;
    let storm = user(&listening, "storm");
    let mut held = Vec::new();
    for _ in 0..129 {
        held.push(send(&listening, &storm, &half_a_post()).await);
    }
    let refused = async {
        loop {
            let mut stream = send(&listening, &storm, &post("x")).await;
            let mut answer = String::new();
            let read = stream.read_to_string(&mut answer);
            if tokio::time::timeout(SHORT, read).await.is_ok() {
                break answer;
            }
            held.push(stream);
        }
    };
    let answer = tokio::time::timeout(LONG, refused)
        .await
        .expect("429 in time");
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    assert!(
        answer.contains("Too many requests, please try again later."),
        "{answer}"
    );
    listening.shutdown.cancel();
}

#[tokio::test]
async fn requests_have_a_deadline() {
    let listening = listen_with(|config| {
        config.limits.request_timeout = SHORT;
        config.limits.body_timeout = LONG;
    })
    .await;
    let one = user(&listening, "one");
    let mut stream = send(&listening, &one, &half_a_post()).await;
    let answer = head(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    listening.shutdown.cancel();

    let listening = listen_with(|config| config.limits.body_timeout = LONG).await;
    let one = user(&listening, "one");
    let asked = half_a_post().replace(CONFIG_MAPS, &format!("{CONFIG_MAPS}?timeout=100ms"));
    let mut stream = send(&listening, &one, &asked).await;
    let answer = whole(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    assert!(
        answer.contains("Timeout: request did not complete within the allotted timeout"),
        "{answer}"
    );
    let message = listening
        .server
        .get(&format!("{CONFIG_MAPS}?timeout=soon"))
        .await
        .refusal(400);
    assert_eq!(
        message,
        "invalid timeout specified in the request URL - time: invalid duration \"soon\""
    );
    listening.shutdown.cancel();
}

#[tokio::test]
async fn watches_of_one_user_are_bounded() {
    let listening = listen_with(|config| {
        config.limits.watches_per_user_max = 2;
        config.limits.reads_max = 1;
        config.limits.request_timeout = SHORT;
    })
    .await;
    let (storm, calm) = (user(&listening, "storm"), user(&listening, "calm"));
    let watch = format!("GET {CONFIG_MAPS}?watch=1&resourceVersion=0 HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = send(&listening, &storm, &watch).await;
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
        open.push(stream);
    }
    let mut refused = send(&listening, &storm, &watch).await;
    let answer = head(&mut refused).await;
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    let mut other = send(&listening, &calm, &watch).await;
    assert!(head(&mut other).await.starts_with("HTTP/1.1 200"));
    // Open watches are not requests in flight, of which there may be one, nor do they have a deadline.
    tokio::time::sleep(SHORT * 2).await;
    let get = format!("GET {CONFIG_MAPS} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let mut stream = send(&listening, &storm, &get).await;
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
    listening
        .server
        .post(CONFIG_MAPS, &config_map("seen"))
        .await
        .expect(201);
    let mut seen = Vec::new();
    let event = async {
        while !String::from_utf8_lossy(&seen).contains("\"name\":\"seen\"") {
            assert_ne!(other.read_buf(&mut seen).await.expect("a frame"), 0);
        }
    };
    tokio::time::timeout(LONG, event).await.expect("an event");
    // A place is free when a watch ends.
    drop(open);
    let again = async {
        loop {
            let mut stream = send(&listening, &storm, &watch).await;
            if head(&mut stream).await.starts_with("HTTP/1.1 200") {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, again).await.expect("a place");
    listening.shutdown.cancel();
}

#[tokio::test]
async fn quiet_connections_are_closed_and_open_ones_are_not() {
    let listening = listen_with(|config| config.limits.idle_timeout = SHORT).await;
    let one = user(&listening, "one");
    // One that says nothing at all, not even HTTP/2's greeting.
    let mut silent = connect(&listening, &one, b"h2").await;
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(LONG, silent.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "a silent connection is closed");
    // One that greets, and then is quiet.
    let stream = connect(&listening, &one, b"h2").await;
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .expect("HTTP/2");
    let driven = tokio::spawn(connection);
    let request = |path: &str| {
        http::Request::get(format!("https://x{path}"))
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .expect("a request")
    };
    let watch = sender
        .send_request(request(&format!("{CONFIG_MAPS}?watch=1&resourceVersion=0")))
        .await
        .expect("a watch");
    tokio::time::sleep(SHORT * 4).await;
    assert!(!driven.is_finished(), "an open watch keeps it open");
    let again = sender
        .send_request(request(CONFIG_MAPS))
        .await
        .expect("an answer");
    assert_eq!(again.status(), 200);
    drop((watch, again));
    let ended = tokio::time::timeout(LONG, driven).await;
    assert!(ended.is_ok(), "quiet, it is closed");
    listening.shutdown.cancel();
}

/// Large lists on many streams, none of which is read.
#[tokio::test]
async fn answers_that_nobody_reads_are_bounded() {
    let listening = listen_with(|config| {
        config.limits.unsent_bytes_per_user_max = 1_500_000;
    })
    .await;
    let mut large = config_map("large");
    large["data"]["a"] = "x".repeat(600_000).into();
    listening.server.post(CONFIG_MAPS, &large).await.expect(201);
    let (storm, calm) = (user(&listening, "storm"), user(&listening, "calm"));
    let client = async |pair: &pki::Pair, window: u32| {
        let io = hyper_util::rt::TokioIo::new(connect(&listening, pair, b"h2").await);
        let executor = hyper_util::rt::TokioExecutor::new();
        let (sender, connection) = hyper::client::conn::http2::Builder::new(executor)
            .initial_stream_window_size(window)
            .handshake::<_, http_body_util::Empty<bytes::Bytes>>(io)
            .await
            .expect("HTTP/2");
        tokio::spawn(connection);
        sender
    };
    let request = || {
        http::Request::get(format!("https://x{CONFIG_MAPS}"))
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .expect("a request")
    };
    let mut sender = client(&storm, 100).await;
    let mut unread = Vec::new();
    for expected in [200, 200, 429] {
        let answer = sender.send_request(request()).await.expect("an answer");
        assert_eq!(answer.status(), expected);
        unread.push(answer);
    }
    // Short answers are had all the same, and others have theirs.
    let short = http::Request::get("https://x/api/v1/namespaces/default")
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .expect("a request");
    assert_eq!(
        sender
            .send_request(short)
            .await
            .expect("an answer")
            .status(),
        200
    );
    let mut other = client(&calm, 1 << 20).await;
    let answer = other.send_request(request()).await.expect("an answer");
    let whole = http_body_util::BodyExt::collect(answer.into_body());
    let whole = tokio::time::timeout(LONG, whole)
        .await
        .expect("in time")
        .expect("a body");
    let list: serde_json::Value = serde_json::from_slice(&whole.to_bytes()).expect("JSON");
    assert_eq!(list["items"][0]["metadata"]["name"], "large");
    // What is given up is free again.
    drop(unread);
    let again = async {
        while sender
            .send_request(request())
            .await
            .expect("an answer")
            .status()
            != 200
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, again).await.expect("room again");
    listening.shutdown.cancel();
}
