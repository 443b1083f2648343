//! Load on a running API server from a process of its own, over TLS with the administrator's certificate:
//!
//!     api_load KUBECONFIG METHOD PATH SECONDS CLIENTS [BODY]
//!
//! Each client has one connection and one request in flight. `{client}` and `{n}` in PATH and BODY become the client's number
//! and the request's. Prints one line of JSON: requests a second, and latencies in microseconds. `bench/run` drives it.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(kubeconfig), Some(method), Some(path), Some(seconds), Some(clients)) = (
        arguments.first(),
        arguments.get(1),
        arguments.get(2),
        arguments.get(3),
        arguments.get(4),
    ) else {
        return Err("usage: api_load KUBECONFIG METHOD PATH SECONDS CLIENTS [BODY]".into());
    };
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "a TLS provider is there already")?;
    let load = Arc::new(Load {
        access: Access::read(&std::fs::read_to_string(kubeconfig)?)?,
        method: method.parse()?,
        path: path.clone(),
        body: arguments.get(5).cloned().unwrap_or_default(),
        duration: Duration::from_secs_f64(seconds.parse()?),
    });
    let clients: usize = clients.parse()?;
    let began = Instant::now();
    let running: Vec<_> = (0..clients)
        .map(|client| tokio::spawn(run(load.clone(), client)))
        .collect();
    let mut latencies = Vec::new();
    for client in running {
        latencies.extend(client.await??);
    }
    let taken = began.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |share: f64| {
        let index = (latencies.len() as f64 * share) as usize;
        latencies
            .get(index.min(latencies.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    };
    println!(
        "{}",
        serde_json::json!({
            "per_second": latencies.len() as f64 / taken,
            "requests": latencies.len(),
            "p50_us": at(0.5),
            "p99_us": at(0.99),
        })
    );
    Ok(())
}

struct Load {
    access: Access,
    method: Method,
    path: String,
    body: String,
    duration: Duration,
}

/// Where the server is, and the right to ask it.
struct Access {
    address: String,
    tls: Arc<rustls::ClientConfig>,
}

impl Access {
    fn read(kubeconfig: &str) -> Result<Access> {
        let field = |name: &str| {
            kubeconfig
                .lines()
                .find_map(|line| line.trim().trim_start_matches("- ").strip_prefix(name))
                .map(|value| value.trim().trim_matches('"'))
                .ok_or_else(|| format!("the kubeconfig has no {name}"))
        };
        let pem =
            |name: &str| Ok::<_, Box<dyn Error + Send + Sync>>(STANDARD.decode(field(name)?)?);
        let mut roots = rustls::RootCertStore::empty();
        for certificate in
            rustls_pemfile::certs(&mut pem("certificate-authority-data:")?.as_slice())
        {
            roots.add(certificate?)?;
        }
        let chain = rustls_pemfile::certs(&mut pem("client-certificate-data:")?.as_slice())
            .collect::<std::io::Result<_>>()?;
        let key = rustls_pemfile::private_key(&mut pem("client-key-data:")?.as_slice())?
            .ok_or("the kubeconfig has no key")?;
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        Ok(Access {
            address: field("server:")?.trim_start_matches("https://").to_owned(),
            tls: Arc::new(tls),
        })
    }
}

/// One client's requests, one after the other; how long each took, in microseconds.
async fn run(load: Arc<Load>, client: usize) -> Result<Vec<u64>> {
    let stream = TcpStream::connect(&load.access.address).await?;
    stream.set_nodelay(true)?;
    let host = load.access.address.rsplit_once(':').ok_or("no port")?.0;
    let name = ServerName::try_from(host.to_owned())?;
    let stream = tokio_rustls::TlsConnector::from(load.access.tls.clone())
        .connect(name, stream)
        .await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let end = Instant::now() + load.duration;
    let mut latencies = Vec::new();
    for n in 0u64.. {
        let fill = |text: &str| {
            text.replace("{client}", &client.to_string())
                .replace("{n}", &n.to_string())
        };
        let began = Instant::now();
        if began >= end {
            break;
        }
        let request = Request::builder()
            .method(load.method.clone())
            .uri(fill(&load.path))
            .header("host", &load.access.address)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(fill(&load.body))))?;
        sender.ready().await?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
            return Err(format!("{} {}: {status} {text}", load.method, fill(&load.path)).into());
        }
        latencies.push(u64::try_from(began.elapsed().as_micros())?);
    }
    Ok(latencies)
}
