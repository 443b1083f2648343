//! A machine of its own for each test: a network namespace in which `Network` is the host, and more of them as pods.
//! Nothing outside is seen or touched; all of it goes with the guard, also on a panic.

#![allow(dead_code)]

pub mod dual;
pub mod firewalls;

use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use network::{Config, Ipv6Ranges, Network, Options, Protocol, Service, ServicePort};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Only here so that a test that hangs ends; no test measures with it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A named network namespace, removed when dropped.
pub struct Namespace {
    pub name: String,
}

impl Namespace {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("plimtest-{}-{number}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]));
        Self { name }
    }

    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Runs `work` on a thread in the namespace.
    pub fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(work).join().expect("the work panicked")
    }

    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let file = File::open(self.path()).expect("the namespace exists");
        std::thread::spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("tests run as root");
            work()
        })
    }

    /// Runs a program in the namespace.
    pub fn command(&self, argv: &[&str]) -> Output {
        let argv: Vec<String> = argv.iter().map(|arg| (*arg).to_owned()).collect();
        self.within(move || {
            Command::new(&argv[0])
                .args(&argv[1..])
                .output()
                .expect("the program starts")
        })
    }

    /// What a program in the namespace prints; it must succeed.
    pub fn text(&self, argv: &[&str]) -> String {
        let output = self.command(argv);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{argv:?}: {text}{error}");
        text
    }

    /// Serves TCP on `port`, by IPv4 and IPv6: each connection is told `label` and who it came from.
    pub fn serve(&self, port: u16, label: &str) {
        let listener = self.within(move || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)));
        let listener = listener.expect("the port is free");
        let label = label.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let peer = stream.peer_addr().expect("a peer");
                let _ = write!(stream, "{label} {}", peer.ip().to_canonical());
            }
        });
    }

    /// Serves UDP on `port`, likewise: each packet is answered with `label`.
    pub fn serve_udp(&self, port: u16, label: &str) {
        let socket = self.within(move || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)));
        let socket = socket.expect("the port is free");
        let label = label.to_owned();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(label.as_bytes(), from);
            }
        });
    }

    /// Connects from the namespace and reads all that is said.
    pub fn fetch(&self, to: impl Into<SocketAddr>) -> io::Result<String> {
        let to = to.into();
        self.within(move || {
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
    }

    /// The distinct first words that `count` connections are answered with.
    pub fn answers(
        &self,
        to: impl Into<SocketAddr>,
        count: usize,
    ) -> std::collections::BTreeSet<String> {
        let to = to.into();
        (0..count)
            .map(|_| self.fetch(to).expect("the service answers"))
            .map(|text| text.split(' ').next().unwrap_or_default().to_owned())
            .collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .output();
    }
}

/// The machine of one test.
pub struct Machine {
    pub host: Namespace,
    pub outside: Namespace,
    pub directory: tempfile::TempDir,
}

/// The host's address on the network that it shares with `outside`, and that one's.
pub const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub const OUTSIDE_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
pub const HOST_ADDRESS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
pub const OUTSIDE_ADDRESS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);

impl Machine {
    /// A host with a default route to another machine, `outside`, which knows no route back to pods.
    pub fn new() -> Self {
        let machine = Self {
            host: Namespace::new(),
            outside: Namespace::new(),
            directory: tempfile::Builder::new()
                .prefix("plimsoll-network-")
                .tempdir()
                .expect("a temporary directory"),
        };
        let (host, outside) = (&machine.host, &machine.outside);
        // A namespace begins with what the real machine has.
        host.text(&["sysctl", "-qw", "net.ipv4.ip_forward=0"]);
        host.text(&["ip", "link", "set", "lo", "up"]);
        outside.text(&["ip", "link", "set", "lo", "up"]);
        host.text(&[
            "ip",
            "link",
            "add",
            "up0",
            "type",
            "veth",
            "peer",
            "name",
            "up0",
            "netns",
            &outside.name,
        ]);
        host.text(&["ip", "addr", "add", "198.51.100.1/24", "dev", "up0"]);
        outside.text(&["ip", "addr", "add", "198.51.100.2/24", "dev", "up0"]);
        host.text(&["ip", "link", "set", "up0", "up"]);
        outside.text(&["ip", "link", "set", "up0", "up"]);
        host.text(&["ip", "route", "add", "default", "via", "198.51.100.2"]);
        for (side, address) in [(host, HOST_ADDRESS6), (outside, OUTSIDE_ADDRESS6)] {
            let address = format!("{address}/64");
            side.text(&["ip", "addr", "add", &address, "dev", "up0", "nodad"]);
        }
        let router = OUTSIDE_ADDRESS6.to_string();
        host.text(&["ip", "-6", "route", "add", "default", "via", &router]);
        std::fs::write(
            machine.directory.path().join("resolv.conf"),
            format!("nameserver {OUTSIDE_ADDRESS}\n"),
        )
        .expect("written");
        machine
    }

    /// Runs `work` in a runtime all of whose threads are in the host's namespace.
    pub fn run<T: Send + 'static, F: Future<Output = T>>(
        &self,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> T {
        let answer = self.host.spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(work())
        });
        match answer.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// An instance with both families; see [`single`] for one without IPv6.
    pub fn config(&self, number: u8) -> Config {
        let instance = format!("plim-0000{number:02x}");
        Config {
            bridge: instance.clone(),
            state_dir: self.directory.path().join(&instance),
            instance,
            pod_cidr: format!("10.64.{number}.0/24").parse().expect("a range"),
            service_cidr: format!("10.112.{number}.0/24").parse().expect("a range"),
            ipv6: Some(Ipv6Ranges {
                pod_cidr: format!("fd00:64:{number}::/64").parse().expect("a range"),
                service_cidr: format!("fd00:112:{number}::/112").parse().expect("a range"),
            }),
            cluster_domain: "cluster.local".into(),
            dns_ip: Ipv4Addr::new(10, 112, number, 10),
        }
    }

    pub fn options(&self) -> Options {
        Options {
            resolv_conf: self.directory.path().join("resolv.conf"),
            shared_dir: self.directory.path().join("shared"),
            resolved_conf: self.directory.path().join("resolved.conf"),
            ..Options::default()
        }
    }

    /// What an instance with IPv6 changes of the machine's settings.
    pub fn ipv6_settings(&self) -> [String; 5] {
        [
            "all/forwarding",
            "up0/forwarding",
            "up0/accept_ra",
            "default/accept_ra",
            "lo/accept_ra",
        ]
        .map(|setting| {
            self.host
                .text(&["cat", &format!("/proc/sys/net/ipv6/conf/{setting}")])
        })
    }

    /// What the host has beside what every namespace has: links, routes, rules and the setting that we change.
    pub fn state(&self) -> String {
        let links = self.host.text(&["ip", "-o", "link", "show"]);
        let links: Vec<&str> = links
            .lines()
            .filter_map(|line| line.split(": ").nth(1))
            .collect();
        format!(
            "{links:?}\n{}\n{}\n{}\nIPv6 {} {}\nip_forward {}",
            self.host.text(&["ip", "route"]),
            self.host.text(&["ip", "-6", "route"]),
            self.host.text(&["nft", "list", "ruleset"]),
            self.host
                .text(&["cat", "/proc/sys/net/ipv6/conf/all/forwarding"]),
            self.host
                .text(&["cat", "/proc/sys/net/ipv6/conf/up0/accept_ra"]),
            self.host.text(&["cat", "/proc/sys/net/ipv4/ip_forward"]),
        )
    }
}

/// No endpoints.
pub const NOWHERE: &[SocketAddr] = &[];

/// A service with one TCP port.
pub fn service<E: Copy + Into<SocketAddr>>(
    name: &str,
    ip: impl Into<IpAddr>,
    port: u16,
    endpoints: &[E],
) -> Service {
    Service {
        namespace: "default".into(),
        name: name.into(),
        cluster_ips: vec![ip.into()],
        ports: vec![ServicePort::new("http", Protocol::Tcp, port, endpoints)],
        ..Service::default()
    }
}

/// The same without IPv6.
pub fn single(config: Config) -> Config {
    Config {
        ipv6: None,
        ..config
    }
}

pub async fn open(config: Config, options: Options) -> Network {
    Network::open_with(config, options)
        .await
        .expect("the network opens")
}

fn run(command: &mut Command) {
    let output = command.output().expect("ip is installed");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
}
