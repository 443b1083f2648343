//! gRPC probes: the standard health check (`grpc.health.v1.Health/Check`) without encryption, as the kubelet asks it.

use ::http::{HeaderMap, Request};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::http::dial;

/// A health check's answer has a few bytes.
const ANSWER_BYTES_MAX: usize = 4096;
/// Compressed or not, and the length.
const PREFIX_BYTES: usize = 5;
const UNIMPLEMENTED: &str = "12";
const SERVING: u64 = 1;

/// Asks whether a service is healthy; the empty name is the server as a whole.
pub(super) async fn check(host: &str, port: u16, service: &str) -> Result<(), String> {
    let address = format!("{host}:{port}");
    let unreachable =
        |e: &dyn std::fmt::Display| format!("failed to connect service {address:?}: {e}");
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|e| unreachable(&dial(host, port, &e)))?;
    let executor = TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, TokioIo::new(stream))
            .await
            .map_err(|e| unreachable(&e))?;
    let driver = tokio::spawn(connection);
    let result = async {
        let broken = |e: &dyn std::fmt::Display| format!("error: health rpc probe failed: {e}");
        let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "kube-probe/1.37")
            .body(Full::new(question(service)))
            .map_err(|e| broken(&e))?;
        let response = sender.send_request(request).await.map_err(|e| broken(&e))?;
        let head = response.headers().clone();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|e| broken(&e))?;
        // an answer without a body has its status in front
        let trailers = body.trailers().cloned().unwrap_or(head);
        answer(&trailers, &body.to_bytes())
    }
    .await;
    driver.abort();
    result
}

/// HealthCheckRequest: the name is field 1.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8(length as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put_slice(&message);
    framed.freeze()
}

/// What the answer means, in the kubelet's words.
fn answer(trailers: &HeaderMap, body: &[u8]) -> Result<(), String> {
    let text = |name: &str| {
        let value = trailers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let (code, message) = (text("grpc-status"), text("grpc-message"));
    match code.as_str() {
        "0" => {}
        UNIMPLEMENTED => {
            return Err(format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
            ));
        }
        "" => return Err("error: health rpc probe failed: the answer has no status".to_owned()),
        code => {
            return Err(format!(
                "error: health rpc probe failed: rpc error: code = {code} desc = {message}"
            ));
        }
    }
    let status = body
        .get(PREFIX_BYTES..)
        .and_then(status_of)
        .ok_or("error: health rpc probe failed: the answer is no HealthCheckResponse")?;
    let name = match status {
        SERVING => return Ok(()),
        0 => "UNKNOWN",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "a status that nobody knows",
    };
    Err(format!("service unhealthy (responded with {name:?})"))
}

/// HealthCheckResponse: the status is field 1, a number; left out it is 0.
fn status_of(message: &[u8]) -> Option<u64> {
    let Some((tag, rest)) = message.split_first() else {
        return Some(0);
    };
    if *tag != 0x08 {
        return None;
    }
    match rest {
        [value, ..] if *value < 0x80 => Some(u64::from(*value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::Response;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use hyper::service::service_fn;

    /// A server whose answers have this body and these trailers; returns its port.
    async fn serve(body: &'static [u8], trailers: &'static [(&'static str, &'static str)]) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("bind");
        let port = listener.local_addr().expect("address").port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service =
                    service_fn(move |request: Request<hyper::body::Incoming>| async move {
                        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                        let asked = request
                            .into_body()
                            .collect()
                            .await
                            .expect("a body")
                            .to_bytes();
                        assert_eq!(&asked[..], b"\0\0\0\0\x06\x0a\x04cart");
                        let mut last = HeaderMap::new();
                        for (name, value) in trailers {
                            last.insert(*name, value.parse().expect("a value"));
                        }
                        let frames = [Frame::data(Bytes::from_static(body)), Frame::trailers(last)];
                        let frames = frames.map(Ok::<_, std::convert::Infallible>);
                        let body = StreamBody::new(futures::stream::iter(frames));
                        Ok::<_, std::convert::Infallible>(Response::new(body))
                    });
                let io = TokioIo::new(stream);
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(server.serve_connection(io, service));
            }
        });
        port
    }

    #[tokio::test]
    async fn healthy_sick_and_broken() {
        const FINE: &[(&str, &str)] = &[("grpc-status", "0")];
        for (body, trailers, wanted) in [
            (&b"\0\0\0\0\x02\x08\x01"[..], FINE, Ok(())),
            (b"\0\0\0\0\x02\x08\x02", FINE, Err("NOT_SERVING")),
            (b"\0\0\0\0\0", FINE, Err("UNKNOWN")),
            (b"\0\0\0\0\x02\x08\x81", FINE, Err("no HealthCheckResponse")),
            (b"\0\0", FINE, Err("no HealthCheckResponse")),
            (
                b"",
                &[("grpc-status", "12"), ("grpc-message", "what?")],
                Err("does not implement the grpc health protocol"),
            ),
            (b"", &[("grpc-status", "5")], Err("code = 5")),
            (b"", &[], Err("no status")),
        ] {
            let port = serve(body, trailers).await;
            let got = check("127.0.0.1", port, "cart").await;
            match wanted {
                Ok(()) => assert_eq!(got, Ok(())),
                Err(part) => {
                    let said = got.expect_err(part);
                    assert!(said.contains(part), "{said}");
                }
            }
        }
    }

    #[tokio::test]
    async fn nobody_and_somebody_else() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("bind");
        let port = listener.local_addr().expect("address").port();
        tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").await;
            }
        });
        assert!(check("127.0.0.1", port, "").await.is_err());
        let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = closed.local_addr().expect("address").port();
        drop(closed);
        let said = check("127.0.0.1", port, "").await.expect_err("closed");
        assert!(said.contains("connection refused"), "{said}");
    }

    #[test]
    fn long_names_have_long_lengths() {
        let name = "x".repeat(300);
        let asked = question(&name);
        assert_eq!(&asked[..8], b"\0\0\0\x01\x2f\x0a\xac\x02");
        assert_eq!(asked.len(), 8 + 300);
    }
}
