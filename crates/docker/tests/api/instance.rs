//! A server of the API in this process, and its answers as they come over the socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use docker::Docker;
use engine::Engine;
use image::Images;
use network::Network;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Nothing here takes nearly so long; a hang shall fail, not hang.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const IMAGE: &str = "busybox:static";
/// A sandbox that is there before the server starts, as of a container that was being made when the last one was killed.
pub const ORPHAN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub struct Instance {
    runtime: Runtime,
    pub engine: Engine,
    images: Images,
    network: Network,
    server: Option<JoinHandle<()>>,
    stop: CancellationToken,
    pub directory: tempfile::TempDir,
}

pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Instance {
    pub fn up() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-docker-")
            .tempdir()
            .expect("a directory");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let path = directory.path().to_owned();
        let seed = std::process::id();
        let name = format!("plim-{:06x}", seed & 0xff_ffff);
        let (engine, images, network) = runtime.block_on(async {
            let taken = network::taken_ranges().await.expect("ranges");
            let (pod_cidr, service_cidr) = network::choose_ranges(seed, &taken).expect("ranges");
            let network = network::Config {
                instance: name.clone(),
                bridge: name.clone(),
                pod_cidr,
                service_cidr,
                ipv6: None,
                cluster_domain: "cluster.local".into(),
                dns_ip: service_cidr.hosts().nth(9).expect("an address"),
                state_dir: path.join("network"),
            };
            let network = Network::open(network).await.expect("a network");
            let engine = engine::Config {
                root: path.join("engine"),
                run: path.join("run"),
                cgroup_parent: format!("/{name}"),
                instance: name,
                supervisor: vec!["/proc/self/exe".into(), "supervise".into()],
            };
            let engine = Engine::open(engine).await.expect("an engine");
            let images = Images::open(path.join("images"), image::Options::default());
            let images = images.expect("images");
            images
                .base_from_busybox("/bin/busybox".as_ref(), IMAGE)
                .await
                .expect("an image");
            let orphan = engine::SandboxSpec {
                id: ORPHAN.into(),
                labels: [("plimsoll.dev/owner".to_owned(), "docker".to_owned())].into(),
                ..engine::SandboxSpec::default()
            };
            engine.create_sandbox(orphan).await.expect("a sandbox");
            (engine, images, network)
        });
        let (logs, stop) = (path.join("logs/containers"), CancellationToken::new());
        let docker = Docker::new(engine.clone(), images.clone(), network.clone(), logs);
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(path.join("docker.sock")).expect("a socket")
        };
        let server = runtime.spawn(docker::serve(listener, docker, stop.clone()));
        Self {
            runtime,
            engine,
            images,
            network,
            server: Some(server),
            stop,
            directory,
        }
    }

    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    /// Sends a request and reads nothing.
    pub fn send(&self, method: &str, path: &str, body: &[u8]) -> UnixStream {
        let mut stream = UnixStream::connect(self.socket()).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("sent");
        // a refusal may come before the body has been taken
        let _ = stream.write_all(body);
        stream
    }

    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        answer(self.send(method, path, body))
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let reply = self.ask("GET", path, b"");
        assert_eq!(reply.status, 200, "GET {path}: {}", reply.text());
        reply.json()
    }

    #[track_caller]
    pub fn create(&self, configuration: Value) -> String {
        let text = configuration.to_string();
        let reply = self.ask("POST", "/containers/create", text.as_bytes());
        assert_eq!(reply.status, 201, "{}", reply.text());
        reply.json()["Id"].as_str().expect("an ID").to_owned()
    }

    #[track_caller]
    pub fn done(&self, method: &str, path: &str) {
        let reply = self.ask(method, path, b"");
        let (status, text) = (reply.status, reply.text());
        assert!(
            (200..305).contains(&status),
            "{method} {path}: {status} {text}"
        );
    }

    /// A container that runs.
    #[track_caller]
    pub fn started(&self, configuration: Value) -> String {
        let id = self.create(configuration);
        self.done("POST", &format!("/containers/{id}/start"));
        id
    }

    /// What a container with this script says to its end.
    #[track_caller]
    pub fn said(&self, script: &str, mut configuration: Value) -> String {
        configuration["Image"] = json!(IMAGE);
        configuration["Cmd"] = json!(["sh", "-c", script]);
        configuration["Tty"] = json!(true);
        let id = self.started(configuration);
        self.done("POST", &format!("/containers/{id}/wait"));
        let logs = format!("/containers/{id}/logs?stdout=1&stderr=1");
        let said = self.ask("GET", &logs, b"").text();
        self.remove(&id);
        said
    }

    #[track_caller]
    pub fn inspect(&self, id: &str) -> Value {
        self.get(&format!("/containers/{id}/json"))
    }

    #[track_caller]
    pub fn remove(&self, id: &str) {
        self.done("DELETE", &format!("/containers/{id}?force=1&v=1"));
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop.cancel();
        let server = self.server.take();
        let (engine, network) = (self.engine.clone(), self.network.clone());
        self.runtime.block_on(async move {
            if let Some(server) = server {
                let _ = server.await;
            }
            engine.purge().await.expect("the engine's end");
            network.purge().await.expect("the network's end");
        });
        self.images.purge().expect("the images' end");
    }
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

pub fn answer(mut stream: UnixStream) -> Reply {
    let mut bytes = Vec::new();
    // a server that refuses does not read the rest of the body: the kernel tells that once, and then what was answered
    while let Err(error) = stream.read_to_end(&mut bytes) {
        let kind = error.kind();
        assert!(
            kind == std::io::ErrorKind::ConnectionReset,
            "no answer before patience ended: {error}"
        );
    }
    let at = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {bytes:?}"));
    let head = String::from_utf8_lossy(&bytes[..at]).to_lowercase();
    let body = bytes[at + 4..].to_vec();
    let body = match head.contains("transfer-encoding: chunked") {
        true => unchunked(&body),
        false => body,
    };
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Reply {
        status: status.expect("a status"),
        head,
        body,
    }
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(at) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..at])
            .ok()
            .and_then(|text| usize::from_str_radix(text, 16).ok())
            .unwrap_or(0);
        if size == 0 || bytes.len() < at + 2 + size {
            break;
        }
        whole.extend_from_slice(&bytes[at + 2..at + 2 + size]);
        bytes = bytes.get(at + 4 + size..).unwrap_or_default();
    }
    whole
}

#[track_caller]
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !check() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A container that stays.
pub fn sleeper() -> Value {
    json!({ "Image": IMAGE, "Cmd": ["sleep", "1000"], "StopSignal": "SIGKILL" })
}
