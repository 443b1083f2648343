//! A registry made of a closure: speaks as little HTTP as a pull needs, and misbehaves on request.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// With query.
    pub path: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn range(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.split('-').next()?.parse().ok()
    }
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Bytes of the body that are sent before the connection breaks; all when `None`.
    pub cut: Option<usize>,
    /// After the cut, or before anything is sent at all when that is 0, nothing more happens on an open connection.
    pub hang: bool,
    /// The body comes byte by byte, with pauses.
    pub drip: Option<Duration>,
}

impl Reply {
    pub fn ok(body: impl Into<Vec<u8>>) -> Reply {
        Reply {
            status: 200,
            body: body.into(),
            ..Reply::default()
        }
    }

    pub fn status(status: u16, body: &str) -> Reply {
        Reply {
            status,
            ..Reply::ok(body)
        }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn cut(mut self, at: usize) -> Reply {
        self.cut = Some(at);
        self
    }

    pub fn hang(mut self, at: usize) -> Reply {
        self.hang = true;
        self.cut(at)
    }
}

impl Reply {
    pub fn drip(mut self, pause: Duration) -> Reply {
        self.drip = Some(pause);
        self
    }
}

pub struct Server {
    pub port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (handler, seen) = (Arc::new(handler), requests.clone());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, seen) = (handler.clone(), seen.clone());
                connections.spawn(async move {
                    // A client that goes away is the client's affair.
                    let _ = serve(stream, &*handler, &seen).await;
                });
            }
        });
        Server {
            port,
            requests,
            task,
        }
    }

    pub fn name(&self, path: &str) -> String {
        format!("127.0.0.1:{}/{path}", self.port)
    }

    pub fn requests(&self, part: &str) -> Vec<Request> {
        let requests = self.requests.lock().unwrap();
        let matching = requests.iter().filter(|r| r.path.contains(part));
        matching.cloned().collect()
    }
}

async fn serve(
    mut stream: TcpStream,
    handler: &(impl Fn(&Request) -> Reply + ?Sized),
    seen: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let path = lines.next().and_then(|l| l.split(' ').nth(1)).unwrap_or("");
    let request = Request {
        path: path.to_owned(),
        headers: lines
            .filter_map(|l| l.split_once(": "))
            .map(|(n, v)| (n.to_lowercase(), v.to_owned()))
            .collect(),
    };
    seen.lock().unwrap().push(request.clone());
    let reply = handler(&request);
    let forever = Duration::from_secs(3600);
    if reply.hang && reply.cut == Some(0) {
        tokio::time::sleep(forever).await;
    }
    let mut out = format!(
        "HTTP/1.1 {} x\r\nContent-Length: {}\r\nConnection: close\r\n",
        reply.status,
        reply.body.len()
    );
    for (name, value) in &reply.headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{out}\r\n").as_bytes()).await?;
    let end = reply.cut.unwrap_or(reply.body.len());
    let piece_bytes = if reply.drip.is_some() { 1 } else { 16 << 10 };
    for piece in reply.body[..end].chunks(piece_bytes) {
        stream.write_all(piece).await?;
        stream.flush().await?;
        tokio::time::sleep(reply.drip.unwrap_or_default()).await;
    }
    if reply.hang {
        tokio::time::sleep(forever).await;
    }
    stream.shutdown().await
}

pub fn digest(bytes: &[u8]) -> String {
    let hex = Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect::<String>();
    format!("sha256:{hex}")
}

/// An image as a registry has it.
#[derive(Clone)]
pub struct Content {
    pub manifest: String,
    pub config: Vec<u8>,
    pub layer: Vec<u8>,
}

impl Content {
    /// One layer with the archive compressed by `media` (`gzip` or `zstd`).
    pub fn new(archive: &[u8], media: &str) -> Content {
        let layer = match media {
            "gzip" => {
                let mut gzip =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gzip.write_all(archive).unwrap();
                gzip.finish().unwrap()
            }
            _ => zstd::encode_all(archive, 1).unwrap(),
        };
        let host = image::Platform::host().architecture;
        let config = format!(
            r#"{{"architecture":"{host}","os":"linux","config":{{"Cmd":["run"]}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            digest(archive)
        )
        .into_bytes();
        let mut content = Content {
            manifest: String::new(),
            config,
            layer,
        };
        content.describe(media, content.config.len(), content.layer.len());
        content
    }

    /// Writes the manifest anew, with sizes as told.
    pub fn describe(&mut self, media: &str, config_size: usize, layer_size: usize) {
        self.manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
            "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{config_size}}},
            "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+{media}","digest":"{}","size":{layer_size}}}]}}"#,
            digest(&self.config),
            digest(&self.layer),
        );
    }

    /// Answers a pull that is allowed; ranges are served.
    pub fn reply(&self, request: &Request) -> Reply {
        let path = request.path.as_str();
        let blob = [&self.config, &self.layer]
            .into_iter()
            .find(|b| path.ends_with(&digest(b)));
        match blob {
            _ if path == "/v2/" => Reply::ok("{}"),
            Some(blob) if path.contains("/blobs/") => match request.range() {
                Some(from) => Reply {
                    status: 206,
                    ..Reply::ok(&blob[from..])
                },
                None => Reply::ok(blob.clone()),
            },
            _ if path.contains("/manifests/") => Reply::ok(self.manifest.clone())
                .with("Content-Type", "application/vnd.oci.image.manifest.v1+json"),
            _ => Reply::status(404, ""),
        }
    }

    pub fn layer_path(&self) -> String {
        format!("/blobs/{}", digest(&self.layer))
    }
}
