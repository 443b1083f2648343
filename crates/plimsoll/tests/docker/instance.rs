//! A daemon of its own, and its answers as they come over the socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::disk::ANY_DISK;

pub const PLIMSOLL: &str = env!("CARGO_BIN_EXE_plimsoll");
/// Nothing here takes nearly so long; a hang shall fail, not hang.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Instance {
    pub directory: tempfile::TempDir,
    pub socket: PathBuf,
}

pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Instance {
    pub fn up() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-api-")
            .tempdir()
            .expect("a directory");
        let mut instance = Self {
            directory,
            socket: PathBuf::new(),
        };
        instance.start();
        let file =
            std::fs::read_to_string(instance.data().join("instance.json")).expect("instance.json");
        let file: Value = serde_json::from_str(&file).expect("JSON");
        instance.socket = Path::new("/run")
            .join(file["name"].as_str().expect("name"))
            .join("docker.sock");
        instance.plimsoll(&["import", "/bin/busybox", "busybox:static", "--busybox"]);
        instance
    }

    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn start(&self) {
        let data = self.data();
        self.plimsoll(&["up", "--data-dir", data.to_str().expect("UTF-8")]);
    }

    #[track_caller]
    pub fn plimsoll(&self, arguments: &[&str]) -> String {
        let ran = Command::new(PLIMSOLL)
            .args(arguments)
            .env("PLIMSOLL_DATA_DIR", self.data())
            .envs(ANY_DISK)
            .output()
            .expect("plimsoll");
        let (out, err) = (
            String::from_utf8_lossy(&ran.stdout),
            String::from_utf8_lossy(&ran.stderr),
        );
        assert!(ran.status.success(), "plimsoll {arguments:?}: {out}{err}");
        out.into_owned()
    }

    pub fn kill_daemon(&self) {
        let status: Value =
            serde_json::from_str(&self.plimsoll(&["status", "-o", "json"])).expect("JSON");
        let pid = i32::try_from(status["pid"].as_u64().expect("a pid")).expect("a pid");
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).expect("a pid"),
            rustix::process::Signal::KILL,
        )
        .expect("killed");
        eventually("the daemon to be gone", || {
            !Path::new(&format!("/proc/{pid}/exe")).exists()
        });
    }

    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// Sends a request and reads nothing.
    pub fn send(&self, method: &str, path: &str, body: &[u8]) -> UnixStream {
        let mut stream = self.connect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("sent");
        // a refusal may come before the body has been taken
        let _ = stream.write_all(body);
        stream
    }

    /// Attaches as the docker command does, and reads as far as the headers' end: now the server listens.
    pub fn attach(&self, id: &str) -> UnixStream {
        let mut stream = self.connect();
        let head = format!(
            "POST /containers/{id}/attach?stream=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("headers");
            answer.push(byte[0]);
        }
        assert!(
            answer.starts_with(b"HTTP/1.1 101"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        stream
    }

    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        answer(self.send(method, path, body))
    }

    #[track_caller]
    pub fn create(&self, configuration: Value) -> String {
        let reply = self.ask(
            "POST",
            "/containers/create",
            configuration.to_string().as_bytes(),
        );
        assert_eq!(reply.status, 201, "{}", reply.text());
        reply.json()["Id"].as_str().expect("an ID").to_owned()
    }

    #[track_caller]
    pub fn done(&self, method: &str, path: &str) {
        let reply = self.ask(method, path, b"");
        assert!(
            (200..305).contains(&reply.status),
            "{method} {path}: {} {}",
            reply.status,
            reply.text()
        );
    }

    pub fn gone(&self, id: &str) -> bool {
        self.ask("GET", &format!("/containers/{id}/json"), b"")
            .status
            == 404
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let down = Command::new(PLIMSOLL)
            .args(["down", "--purge", "--data-dir"])
            .arg(self.data())
            .output();
        if !down.is_ok_and(|ran| ran.status.success()) && !std::thread::panicking() {
            panic!("the instance could not be removed");
        }
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
        assert!(
            error.kind() == std::io::ErrorKind::ConnectionReset,
            "no answer before patience ended: {error}"
        );
    }
    let at = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {bytes:?}"));
    let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
    let body = bytes[at + 4..].to_vec();
    let body = if head.to_lowercase().contains("transfer-encoding: chunked") {
        unchunked(&body)
    } else {
        body
    };
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .expect("a status");
    Reply { status, head, body }
}

pub fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
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
    json!({ "Image": "busybox:static", "Cmd": ["sleep", "1000"] })
}
