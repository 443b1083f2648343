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
use super::redirect;
use super::target::Target;

/// Most that is buffered of an answer, its head included.
const BUFFER_BYTES_MAX: usize = 32 * 1024;
const HEADERS_MAX: usize = 64;

/// How often an answer may lead to another path.
const REDIRECTS_MAX: usize = 3;
/// How much of where it leads is told.
const LOCATION_BYTES_MAX: usize = 200;

/// What was answered.
enum Answer {
    Page(Page),
    /// Another path has it.
    Elsewhere(String),
}

/// Scrapes once.
pub async fn fetch(
    target: &Target,
    limits: &Limits,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Page, Failure> {
    tokio::time::timeout(limits.timeout, follow(target, limits, tls))
        .await
        .unwrap_or_else(|_| Err(Failure::Timeout(limits.timeout.as_millis())))
}

async fn follow(
    target: &Target,
    limits: &Limits,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Page, Failure> {
    let (mut path, mut left) = (target.path.clone(), REDIRECTS_MAX);
    loop {
        match connect(target, &path, left > 0, limits, tls).await? {
            Answer::Page(page) => return Ok(page),
            Answer::Elsewhere(next) => (path, left) = (next, left.saturating_sub(1)),
        }
    }
}

async fn connect(
    target: &Target,
    path: &str,
    may_lead: bool,
    limits: &Limits,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Answer, Failure> {
    let stream = TcpStream::connect(target.address)
        .await
        .map_err(Failure::Unreachable)?;
    if !target.tls {
        return ask(stream, target, path, may_lead, limits).await;
    }
    let name = ServerName::IpAddress(target.address.ip().into());
    let stream = TlsConnector::from(tls.clone())
        .connect(name, stream)
        .await
        .map_err(Failure::Tls)?;
    ask(stream, target, path, may_lead, limits).await
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    target: &Target,
    path: &str,
    may_lead: bool,
    limits: &Limits,
) -> Result<Answer, Failure> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(Failure::Broken)?;
    // ends with this scrape, however that ends
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = http::Request::get(path)
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
        return elsewhere(target, path, may_lead, &response);
    }
    let mut body = response.into_body();
    let mut reader = Reader::new(limits);
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame.map_err(Failure::Broken)?.into_data() {
            reader.feed(&piece)?;
        }
    }
    Ok(Answer::Page(reader.finish()))
}

/// Where an answer without a page leads, if it may lead there.
fn elsewhere<B>(
    target: &Target,
    path: &str,
    may_lead: bool,
    response: &http::Response<B>,
) -> Result<Answer, Failure> {
    let code = response.status().as_u16();
    let location = response.headers().get(http::header::LOCATION);
    let location = location.filter(|_| matches!(code, 301 | 302 | 303 | 307 | 308));
    let Some(location) = location else {
        return Err(Failure::Status(code));
    };
    let to = String::from_utf8_lossy(location.as_bytes());
    match redirect::path(target, path, &to).filter(|_| may_lead) {
        Some(next) => Ok(Answer::Elsewhere(next)),
        None => {
            let to = to.chars().take(LOCATION_BYTES_MAX).collect();
            Err(Failure::Redirect { code, to })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A pod that answers paths with (status, location); others with a page. And how often it was asked.
    async fn pod(
        answers: &'static [(&'static str, u16, &'static str)],
    ) -> (Target, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let mut request = [0; 1024];
                let read = stream.read(&mut request).await.unwrap_or_default();
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                let text = match answers.iter().find(|(at, _, _)| *at == path) {
                    Some((_, code, to)) => {
                        let to = to.replace("SELF", &address.to_string());
                        format!("HTTP/1.1 {code} x\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n")
                    }
                    None => "HTTP/1.1 200 OK\r\n\r\nup 1\n".to_owned(),
                };
                let _ = stream.write_all(text.as_bytes()).await;
            }
        });
        let target = Target {
            uid: "u".into(),
            address,
            path: "/metrics".into(),
            tls: false,
            ready: true,
        };
        (target, asked)
    }

    async fn scrape(target: &Target) -> Result<(), String> {
        let tls = super::super::tls::config();
        let page = fetch(target, &Limits::default(), &tls).await;
        page.map(drop).map_err(|failure| failure.to_string())
    }

    #[tokio::test]
    async fn redirects_are_followed_on_the_pods_own_port_and_not_for_ever() {
        let (target, asked) = pod(&[
            ("/metrics", 301, "/metrics/"),
            ("/metrics/", 308, "http://SELF/a/b"),
            ("/a/b", 302, "c"),
        ])
        .await;
        assert_eq!(scrape(&target).await, Ok(()));
        assert_eq!(asked.load(Ordering::SeqCst), 4);
        let (target, asked) = pod(&[("/metrics", 302, "/metrics")]).await;
        let refused = "the answer is HTTP 302 and leads to \"/metrics\", which is not followed";
        assert_eq!(scrape(&target).await, Err(refused.to_owned()));
        assert_eq!(asked.load(Ordering::SeqCst), 1 + REDIRECTS_MAX);
        let (target, asked) = pod(&[("/metrics", 307, "http://127.0.0.1:1/metrics")]).await;
        let why = scrape(&target).await.expect_err("elsewhere");
        assert!(why.ends_with("which is not followed"), "{why}");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        // Only what leads somewhere.
        let (target, _) = pod(&[("/metrics", 404, "/other")]).await;
        assert_eq!(
            scrape(&target).await,
            Err("the answer is HTTP 404".to_owned())
        );
    }
}
