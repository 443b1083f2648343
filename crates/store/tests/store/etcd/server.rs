//! An etcd of the test's own: on loopback, in a temporary directory, gone at the end.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use store::EtcdStore;
use store::etcd::Options;
use tempfile::TempDir;

const START: Duration = Duration::from_secs(30);

pub struct Etcd {
    directory: TempDir,
    port: u16,
    peer_port: u16,
    further: Vec<String>,
    child: Option<Child>,
    /// How etcdctl connects.
    pub client_flags: Vec<String>,
    scheme: &'static str,
}

impl Etcd {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With further flags.
    pub fn with(flags: &[&str]) -> Self {
        let mut etcd = Self::prepared("http");
        etcd.further = flags.iter().map(|flag| (*flag).to_string()).collect();
        etcd.run();
        etcd
    }

    /// Not started yet; `further` may refer to files in [`path`](Self::path).
    pub fn prepared(scheme: &'static str) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-etcd-")
            .tempdir()
            .expect("a directory");
        Self {
            directory,
            port: free_port(),
            peer_port: free_port(),
            further: Vec::new(),
            child: None,
            client_flags: Vec::new(),
            scheme,
        }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().to_path_buf()
    }

    pub fn set_flags(&mut self, flags: Vec<String>) {
        self.further = flags;
    }

    /// Starts it, again on the same data, and waits until it answers.
    pub fn run(&mut self) {
        assert!(self.child.is_none(), "etcd runs already");
        let log = File::create(self.directory.path().join("log")).expect("a log");
        let client = format!("{}://127.0.0.1:{}", self.scheme, self.port);
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let child = Command::new("etcd")
            .args(["--name", "test", "--data-dir"])
            .arg(self.directory.path().join("data"))
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("test={peer}")])
            // Room for the largest value of the store with its key; the default is a little less.
            .arg("--max-request-bytes=2097152")
            .args(&self.further)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("etcd can be started; scripts/clients installs it");
        self.child = Some(child);
        let deadline = Instant::now() + START;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self
                .child
                .as_mut()
                .and_then(|c| c.try_wait().expect("a state"));
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it as a power failure would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("its end");
        }
    }

    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn options(&self) -> Options {
        Options::new(vec![self.endpoint()])
    }

    pub async fn store(&self) -> EtcdStore {
        EtcdStore::open(self.options()).await.expect("a store")
    }

    /// The stock client.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let output = self.try_ctl(arguments);
        assert!(
            output.status.success(),
            "etcdctl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn try_ctl(&self, arguments: &[&str]) -> Output {
        Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}://{}", self.scheme, self.endpoint()))
            .args(&self.client_flags)
            .args(arguments)
            .output()
            .expect("etcdctl can be started; scripts/clients installs it")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that was free a moment ago: one of those that the kernel gives to no connection, and this program to nobody else.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    let ports = || first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
    std::iter::repeat_with(ports)
        .take(10_000)
        .map(|n| 20_000 + u16::try_from(n).expect("below 10 000"))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}
