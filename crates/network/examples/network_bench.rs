//! What services, attachments and DNS cost on this machine, in a network namespace of its own. Needs root.
//!
//! `cargo run --release -p network --example network_bench`

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use network::{Config, Network, Options, Protocol, Service, ServicePort};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const SERVICES: usize = 1000;
const ENDPOINTS: u8 = 2;
const CHANGES: usize = 30;
const LOADS: usize = 20;
const ATTACHMENTS: usize = 20;
const QUERIES: usize = 1000;

type Failure = Box<dyn std::error::Error>;

/// A named network namespace, removed when dropped.
struct Namespace(String);

impl Namespace {
    fn new(suffix: &str) -> Result<Self, Failure> {
        let name = format!("plimbench-{}-{suffix}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).status()?;
        if !made.success() {
            return Err(format!("ip netns add {name}: {made}; are you root?").into());
        }
        Ok(Self(name))
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.0)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn main() -> Result<(), Failure> {
    let machine = Namespace::new("host")?;
    let pods: Vec<Namespace> = (0..ATTACHMENTS)
        .map(|n| Namespace::new(&n.to_string()))
        .collect::<Result<_, _>>()?;
    let directory = tempfile::Builder::new()
        .prefix("plimsoll-bench-")
        .tempdir()?;
    move_into_link_name_space(
        File::open(machine.path())?.as_fd(),
        Some(LinkNameSpaceType::Network),
    )?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let result = runtime.block_on(bench(directory.path(), &pods));
    print!("load average {}", std::fs::read_to_string("/proc/loadavg")?);
    result
}

async fn bench(directory: &std::path::Path, pods: &[Namespace]) -> Result<(), Failure> {
    let config = Config {
        instance: "plim-be0c40".into(),
        bridge: "plim-be0c40".into(),
        pod_cidr: "10.64.0.0/23".parse()?,
        service_cidr: "10.112.0.0/20".parse()?,
        ipv6: None,
        cluster_domain: "cluster.local".into(),
        dns_ip: Ipv4Addr::new(10, 112, 0, 10),
        state_dir: directory.join("network"),
    };
    let options = Options {
        shared_dir: directory.join("shared"),
        ..Options::default()
    };
    Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()?;
    let mut services = services(SERVICES);
    let (mut opened, mut loaded, mut again) = (Vec::new(), Vec::new(), Vec::new());
    let open = || Network::open_with(config.clone(), options.clone());
    for _ in 0..LOADS {
        let start = Instant::now();
        let network = open().await?;
        opened.push(start.elapsed());
        let start = Instant::now();
        network.set_services(services.clone()).await?;
        loaded.push(start.elapsed());
        drop(network);
        // As a daemon does that takes over from another.
        let network = open().await?;
        let start = Instant::now();
        network.set_services(services.clone()).await?;
        again.push(start.elapsed());
        network.purge().await?;
    }
    report("open, nothing there", opened);
    report("load 1000 services of 2 endpoints", loaded);
    report("load them where a process left them", again);

    let network = open().await?;
    network.set_services(services.clone()).await?;
    let (mut changes, mut more, mut fewer) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..CHANGES {
        services[n * 7].ports[0].endpoints.pop();
        let wanted = services.clone();
        let start = Instant::now();
        network.set_services(wanted).await?;
        changes.push(start.elapsed());

        let mut wanted = services.clone();
        let gone = wanted.remove(n * 11);
        let start = Instant::now();
        network.set_services(wanted).await?;
        fewer.push(start.elapsed());

        services[n * 11] = gone;
        let wanted = services.clone();
        let start = Instant::now();
        network.set_services(wanted).await?;
        more.push(start.elapsed());
    }
    report("change of one service among 1000", changes);
    report("one of 1000 services goes", fewer);
    report("one of 1000 services comes", more);

    let (mut attached, mut detached) = (Vec::new(), Vec::new());
    for pod in pods {
        let start = Instant::now();
        network.attach(pod.path().as_ref(), &pod.0).await?;
        attached.push(start.elapsed());
    }
    for pod in pods {
        let start = Instant::now();
        network.detach(&pod.0).await?;
        detached.push(start.elapsed());
    }
    report("attach a namespace", attached);
    report("detach it", detached);

    let gateway = network.gateway();
    let queries = tokio::task::spawn_blocking(move || ask(gateway)).await??;
    report("DNS query of a service, UDP", queries);

    let purged = Instant::now();
    network.purge().await?;
    report("purge", vec![purged.elapsed()]);
    Ok(())
}

fn services(count: usize) -> Vec<Service> {
    (0..count)
        .map(|n| {
            let [_, _, high, low] = (n as u32 + 16).to_be_bytes();
            Service {
                namespace: "default".into(),
                // Sorted, as the node hands them in.
                name: format!("service-{n:04}"),
                cluster_ips: vec![Ipv4Addr::new(10, 112, high, low).into()],
                ports: vec![ServicePort::new(
                    "http",
                    Protocol::Tcp,
                    80,
                    &(2..2 + ENDPOINTS)
                        .map(|host| SocketAddrV4::new(Ipv4Addr::new(10, 64, 0, host), 8080))
                        .collect::<Vec<_>>(),
                )],
                ..Service::default()
            }
        })
        .collect()
}

/// One question after the other over one socket.
fn ask(server: Ipv4Addr) -> std::io::Result<Vec<Duration>> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.connect((server, 53))?;
    let mut query = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["service-0500", "default", "svc", "cluster", "local", ""] {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend([0, 1, 0, 1]);
    let mut buffer = [0; 512];
    (0..QUERIES)
        .map(|_| {
            let start = Instant::now();
            socket.send(&query)?;
            socket.recv(&mut buffer)?;
            Ok(start.elapsed())
        })
        .collect()
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let milliseconds = |at: usize| times[at].as_secs_f64() * 1e3;
    println!(
        "{what:<36} n {:>4}  median {:>8.2} ms  worst {:>8.2} ms",
        times.len(),
        milliseconds(times.len() / 2),
        milliseconds(times.len() - 1),
    );
}
