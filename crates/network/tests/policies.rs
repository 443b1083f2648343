//! Network policies against real packets: what is denied does not arrive, what is permitted does, and there is no moment
//! in between.

mod common;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{HOST_ADDRESS, Machine, Namespace, OUTSIDE_ADDRESS, open, service, single};
use network::{AddressSet, Allowance, Network, PodPolicy, PortRange, Protocol, Service, Transport};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 112, 1, 20), 80);

/// Pods a, b and c, which serve their names on TCP 8080 and 8081; a service over a, with a node port.
struct Cluster {
    machine: Machine,
    pods: [Namespace; 3],
    at: [Ipv4Addr; 3],
}

fn services(a: Ipv4Addr) -> Vec<Service> {
    let mut web = service("web", *SERVICE.ip(), 80, &[SocketAddrV4::new(a, 8080)]);
    web.ports[0].node_port = Some(30080);
    vec![web]
}

impl Cluster {
    fn new() -> Self {
        let machine = Machine::new();
        let pods = [Namespace::new(), Namespace::new(), Namespace::new()];
        let (config, options) = (machine.config(1), machine.options());
        let paths = [pods[0].path(), pods[1].path(), pods[2].path()];
        let at = machine.run(move || async move {
            let network = open(config, options).await;
            let mut at = [Ipv4Addr::UNSPECIFIED; 3];
            for (n, path) in paths.iter().enumerate() {
                at[n] = network
                    .attach(path, &n.to_string())
                    .await
                    .expect("attached")
                    .address;
            }
            at
        });
        for (pod, name) in pods.iter().zip(["a", "b", "c"]) {
            pod.serve(8080, name);
            pod.serve(8081, name);
        }
        Self { machine, pods, at }
    }

    fn with<F, Fut>(&self, work: F)
    where
        F: FnOnce(Network) -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        let (config, options) = (self.machine.config(1), self.machine.options());
        self.machine
            .run(move || async move { work(open(config, options).await).await });
    }

    /// Services and these policies, as the first thing that a new process applies.
    fn police(&self, policies: Vec<PodPolicy>) {
        let services = services(self.at[0]);
        self.with(|network| async move {
            let applied = network.set_traffic(Some(services), Some(policies)).await;
            applied.expect("applied");
        });
    }

    fn reaches(&self, from: &Namespace, to: SocketAddrV4) -> bool {
        match from.fetch(to) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::TimedOut, "dropped, not refused");
                false
            }
        }
    }
}

fn peers(addresses: &[Ipv4Addr]) -> Option<AddressSet> {
    let mut set = AddressSet::default();
    addresses
        .iter()
        .for_each(|address| set.add_address((*address).into()));
    Some(set)
}

fn allow(peers: Option<AddressSet>, ports: &[(Transport, u16, u16)]) -> Allowance {
    let range = |(transport, first, last): &(Transport, u16, u16)| PortRange {
        transport: *transport,
        first: *first,
        last: *last,
    };
    Allowance {
        policy: "n/p".into(),
        peers,
        ports: (!ports.is_empty()).then(|| ports.iter().map(range).collect()),
    }
}

fn ingress(address: Ipv4Addr, list: Vec<Allowance>) -> PodPolicy {
    PodPolicy {
        address: address.into(),
        ingress: Some(list),
        egress: None,
    }
}

fn egress(address: Ipv4Addr, list: Vec<Allowance>) -> PodPolicy {
    PodPolicy {
        address: address.into(),
        ingress: None,
        egress: Some(list),
    }
}

#[test]
fn who_may_reach_a_pod() {
    let cluster = Cluster::new();
    let [a, b, c] = &cluster.pods;
    let [a_at, b_at, c_at] = cluster.at;
    let (host, outside) = (&cluster.machine.host, &cluster.machine.outside);
    let to = |port| SocketAddrV4::new(a_at, port);
    let node_port = SocketAddrV4::new(HOST_ADDRESS, 30080);

    cluster.police(vec![ingress(a_at, vec![])]);
    assert!(!cluster.reaches(b, to(8080)) && !cluster.reaches(b, SERVICE));
    assert!(!cluster.reaches(outside, node_port));
    // Its own machine always may (probes), it may reach itself by any way and others, and nobody else is meant.
    assert!(cluster.reaches(host, to(8080)) && cluster.reaches(host, SERVICE));
    assert!(cluster.reaches(host, SocketAddrV4::new(Ipv4Addr::LOCALHOST, 30080)));
    assert!(cluster.reaches(a, to(8080)) && cluster.reaches(a, SERVICE));
    assert!(cluster.reaches(a, SocketAddrV4::new(b_at, 8080)));
    assert!(cluster.reaches(b, SocketAddrV4::new(c_at, 8080)));

    cluster.police(vec![ingress(
        a_at,
        vec![allow(peers(&[b_at]), &[(Transport::Tcp, 8080, 8080)])],
    )]);
    assert!(cluster.reaches(b, to(8080)) && cluster.reaches(b, SERVICE));
    assert!(!cluster.reaches(b, to(8081)) && !cluster.reaches(c, to(8080)));
    assert!(!cluster.reaches(c, SERVICE) && !cluster.reaches(outside, node_port));

    // By the port after translation, and by the address that a client outside has.
    let list = vec![
        allow(peers(&[OUTSIDE_ADDRESS]), &[]),
        allow(
            peers(&[c_at]),
            &[
                (Transport::Udp, 1, 65535),
                (Transport::Tcp, 8000, 8080),
                (Transport::Tcp, 8080, 8090),
            ],
        ),
    ];
    cluster.police(vec![ingress(a_at, list)]);
    assert!(cluster.reaches(outside, node_port) && cluster.reaches(c, to(8081)));
    assert!(!cluster.reaches(b, SERVICE));

    cluster.police(vec![ingress(a_at, vec![allow(None, &[])])]);
    assert!(cluster.reaches(b, to(8081)) && cluster.reaches(outside, node_port));
    cluster.police(vec![]);
    assert!(cluster.reaches(b, to(8081)));
    let rules = host.text(&["nft", "list", "ruleset"]);
    assert!(
        !rules.contains("chain in-") && !rules.contains("chain out-"),
        "{rules}"
    );
}

#[test]
fn whom_a_pod_may_reach_and_whether_it_may_ask_dns() {
    let cluster = Cluster::new();
    let [_, b, c] = &cluster.pods;
    let [a_at, b_at, _] = cluster.at;
    cluster.machine.outside.serve(9000, "outside");
    let outside = SocketAddrV4::new(OUTSIDE_ADDRESS, 9000);
    let dns = SocketAddrV4::new(Ipv4Addr::new(10, 64, 1, 1), 53);
    let dns_service = SocketAddrV4::new(Ipv4Addr::new(10, 112, 1, 10), 53);
    cluster.machine.host.serve(9001, "host");
    let on_host = SocketAddrV4::new(HOST_ADDRESS, 9001);
    let (at, name) = (cluster.at, b.name.clone());
    let c_name = c.name.clone();
    // In one process: its DNS server has to answer.
    cluster.with(move |network| async move {
        let of = |name: &str| {
            std::mem::ManuallyDrop::new(Namespace {
                name: name.to_owned(),
            })
        };
        let set = async |policies: Vec<PodPolicy>| {
            let applied = network
                .set_traffic(Some(services(a_at)), Some(policies))
                .await;
            applied.expect("applied");
        };
        let connects = async |name: &str, to: SocketAddrV4| {
            let from = of(name);
            let work = move || {
                from.within(move || {
                    let patience = Duration::from_secs(3);
                    std::net::TcpStream::connect_timeout(&to.into(), patience).map(drop)
                })
            };
            match tokio::task::spawn_blocking(work).await.expect("no panic") {
                Ok(()) => true,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TimedOut, "{to}");
                    false
                }
            }
        };
        set(vec![egress(b_at, vec![])]).await;
        for to in [
            SocketAddrV4::new(a_at, 8080),
            SERVICE,
            outside,
            dns,
            dns_service,
        ] {
            assert!(!connects(&name, to).await, "{to}");
            assert!(connects(&c_name, to).await, "{to}");
        }
        assert!(
            connects(&name, on_host).await,
            "its machine is always reached"
        );
        assert!(
            connects(&c_name, SocketAddrV4::new(b_at, 8080)).await,
            "answers come back"
        );

        set(vec![egress(
            b_at,
            vec![allow(peers(&[at[0]]), &[(Transport::Tcp, 8080, 8080)])],
        )])
        .await;
        assert!(
            connects(&name, SERVICE).await,
            "by the endpoint's address and port"
        );
        assert!(!connects(&name, SocketAddrV4::new(at[2], 8080)).await);
        assert!(!connects(&name, dns).await, "DNS is not implied");

        let server = peers(&[*dns.ip(), *dns_service.ip()]);
        let ports = [(Transport::Tcp, 53, 53), (Transport::Udp, 53, 53)];
        set(vec![egress(b_at, vec![allow(server, &ports)])]).await;
        assert!(connects(&name, dns).await && connects(&name, dns_service).await);
        assert!(!connects(&name, SERVICE).await);
        let pod = of(&name);
        let asked = tokio::task::spawn_blocking(move || {
            pod.text(&[
                "busybox",
                "nslookup",
                "-type=a",
                "web.default.svc.cluster.local",
                "10.112.1.10",
            ])
        });
        let text = asked.await.expect("no panic");
        assert!(text.contains("10.112.1.20"), "{text}");
        // Both sides have to agree.
        set(vec![
            egress(b_at, vec![allow(None, &[])]),
            ingress(a_at, vec![]),
        ])
        .await;
        assert!(!connects(&name, SERVICE).await && connects(&name, outside).await);
    });
}

#[test]
fn connections_that_are_there_go_on() {
    let cluster = Cluster::new();
    let [a, b, _] = &cluster.pods;
    let [a_at, ..] = cluster.at;
    a.serve_udp(5000, "a");
    cluster.police(vec![]);
    let socket = move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(3)))
            .unwrap();
        socket.connect((a_at, 5000)).unwrap();
        socket
    };
    fn asked(socket: &UdpSocket) -> bool {
        socket.send(b"?").unwrap();
        socket.recv(&mut [0; 16]).is_ok()
    }
    let old = b.within(socket);
    assert!(asked(&old));
    cluster.police(vec![ingress(a_at, vec![])]);
    assert!(asked(&old));
    assert!(!asked(&b.within(socket)), "a new one is not");
}

/// A pod under a policy in every version of the rules, while those change as fast as they can, and while a new process takes
/// over: not one packet arrives.
#[test]
fn there_is_no_moment_without_protection() {
    let cluster = Cluster::new();
    let [a, b, _] = &cluster.pods;
    let [a_at, b_at, c_at] = cluster.at;
    let arrived = Arc::new(AtomicU64::new(0));
    let (count, stop) = (arrived.clone(), Arc::new(AtomicBool::new(false)));
    let receiver = a.within(|| UdpSocket::bind("0.0.0.0:6000")).unwrap();
    std::thread::spawn(move || {
        while receiver.recv(&mut [0; 16]).is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let closed = move |more: Option<Ipv4Addr>| {
        let list = more
            .map(|peer| allow(peers(&[peer]), &[]))
            .into_iter()
            .collect();
        vec![ingress(a_at, list), ingress(b_at, vec![])]
    };
    cluster.police(closed(None));
    let (halt, sent) = (stop.clone(), Arc::new(AtomicU64::new(0)));
    let sending = sent.clone();
    let sender = b.spawn(move || {
        while !halt.load(Ordering::SeqCst) {
            // A new socket each time: a new connection for whoever tracks them.
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            let _ = socket.send_to(b"!", (a_at, 6000));
            sending.fetch_add(1, Ordering::SeqCst);
        }
    });
    // The chains that packets come by stay the same ones: nothing is deleted and made anew around a packet.
    let table = || cluster.machine.host.text(&["nft", "-a", "list", "tables"]);
    let before = table();
    for round in 0..4 {
        // A new process each time: it adopts the table, then brings what it found up to date.
        let services = services(a_at);
        cluster.with(move |network| async move {
            let first = network
                .set_traffic(Some(services.clone()), Some(closed(None)))
                .await;
            first.expect("applied");
            for step in 0..6 {
                let policies = closed((step % 2 == 0).then_some(c_at));
                network.set_policies(policies).await.expect("applied");
                let with = if step % 3 == 0 {
                    Vec::new()
                } else {
                    services.clone()
                };
                network.set_services(with).await.expect("applied");
            }
        });
        assert_eq!(arrived.load(Ordering::SeqCst), 0, "round {round}");
        assert_eq!(table(), before, "round {round}");
    }
    assert!(sent.load(Ordering::SeqCst) > 100);
    // The same packets arrive when they may.
    cluster.police(vec![]);
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while arrived.load(Ordering::SeqCst) == 0 {
        assert!(
            std::time::Instant::now() < deadline,
            "nothing arrives at all"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    stop.store(true, Ordering::SeqCst);
    sender.join().unwrap();
}

/// Whoever gets an address next is not reached by the connections of who had it: they are established, and policies let those pass.
#[test]
fn connections_end_with_the_address_that_they_are_to() {
    let machine = Machine::new();
    let [client, first, second] = std::array::from_fn(|_| Namespace::new());
    let mut config = machine.config(1);
    config.pod_cidr = "10.64.1.0/28".parse().expect("a range");
    let (config, options) = (single(config), machine.options());
    let paths = [client.path(), first.path(), second.path()];
    first.serve_udp(5000, "first");
    second.serve_udp(5000, "second");
    let client_name = client.name.clone();
    machine.run(move || async move {
        let network = open(config, options).await;
        network.attach(&paths[0], "client").await.expect("attached");
        let address = network.attach(&paths[1], "first").await;
        let address = address.expect("attached").address;
        let from = std::mem::ManuallyDrop::new(Namespace { name: client_name });
        let socket = from.within(move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            let patience = Some(Duration::from_secs(2));
            socket.set_read_timeout(patience).unwrap();
            socket.connect((address, 5000)).unwrap();
            socket
        });
        let asked = |socket: &UdpSocket| {
            socket.send(b"?").unwrap();
            let mut answer = [0; 16];
            let length = socket.recv(&mut answer).ok()?;
            Some(String::from_utf8_lossy(&answer[..length]).into_owned())
        };
        assert_eq!(asked(&socket).as_deref(), Some("first"));
        network.detach("first").await.expect("detached");
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let mut rounds = 0..40;
        loop {
            rounds.next().expect("the address comes round");
            let made = network.attach(&paths[2], "second").await.expect("attached");
            if made.address == address {
                break;
            }
            network.detach("second").await.expect("detached");
        }
        let closed = vec![ingress(address, vec![])];
        network
            .set_traffic(Some(vec![]), Some(closed))
            .await
            .expect("applied");
        assert_eq!(asked(&socket), None);
        network.set_policies(vec![]).await.expect("applied");
        assert_eq!(asked(&socket).as_deref(), Some("second"));
    });
}

/// An address that is no pod's has no policy, and would be let out by none.
#[test]
fn nothing_leaves_under_an_address_that_is_no_pods() {
    let cluster = Cluster::new();
    let [_, b, _] = &cluster.pods;
    let host = &cluster.machine.host;
    for interface in ["all", "default", "plim-000001"] {
        let setting = format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter");
        host.text(&["sh", "-c", &format!("echo 0 > {setting}")]);
    }
    cluster.police(vec![]);
    // one of elsewhere, one that nobody has, and another pod's
    let strange = [
        Ipv4Addr::new(192, 0, 2, 77),
        Ipv4Addr::new(10, 64, 1, 200),
        cluster.at[0],
    ];
    for address in strange {
        b.text(&["ip", "addr", "add", &format!("{address}/32"), "dev", "eth0"]);
    }
    let ear = cluster
        .machine
        .outside
        .within(|| UdpSocket::bind("0.0.0.0:9002"))
        .unwrap();
    ear.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let own = [(cluster.at[1], true)];
    for (from, heard) in own.into_iter().chain(strange.map(|one| (one, false))) {
        b.within(move || {
            let mouth = UdpSocket::bind((from, 0)).unwrap();
            mouth.send_to(b"out", (OUTSIDE_ADDRESS, 9002)).unwrap();
        });
        assert_eq!(ear.recv(&mut [0; 16]).is_ok(), heard, "{from}");
    }
    // what answers for another's address is not believed, and its own is answered for
    let at = cluster.at[0].to_string();
    b.text(&["busybox", "arping", "-A", "-c", "3", "-I", "eth0", &at]);
    let a = SocketAddrV4::new(cluster.at[0], 8080);
    assert!(host.fetch(a).expect("still itself").starts_with('a'));
    let known = host.text(&["ip", "neigh", "show", &cluster.at[0].to_string()]);
    let its = names_mac(cluster.at[0]);
    assert!(known.contains(&its), "{known} for {its}");
}

/// The hardware address of a pod with this one: see `names::mac`.
fn names_mac(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Who publishes a port is told of Services that have it: on every address a node port, on one of the machine's a load balancer.
#[test]
fn ports_of_services_are_known() {
    let cluster = Cluster::new();
    let mut balanced = services(cluster.at[0]);
    let elsewhere = Ipv4Addr::new(203, 0, 113, 77);
    balanced[0].external_ips = vec![HOST_ADDRESS.into(), elsewhere.into()];
    cluster.with(move |network| async move {
        network.set_services(balanced).await.expect("applied");
        for (at, port, taken) in [
            (None, 30080, true),
            (Some(OUTSIDE_ADDRESS), 30080, true),
            (None, 30081, false),
            (None, 80, true),
            (Some(HOST_ADDRESS), 80, true),
            (Some(Ipv4Addr::UNSPECIFIED), 80, true),
            (Some(elsewhere), 80, false),
            (Some(Ipv4Addr::LOCALHOST), 80, false),
            (None, 8080, false),
        ] {
            let at = at.map(Into::into);
            let found = network.is_of_a_service(at, Protocol::Tcp, port).await;
            assert_eq!(found, taken, "{at:?} {port}");
            assert!(!network.is_of_a_service(at, Protocol::Udp, port).await);
        }
    });
}
