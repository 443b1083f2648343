//! Real packets by every way into a service: affinity, node ports on each address, local policies, external addresses.

mod common;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use common::{HOST_ADDRESS, Machine, NOWHERE, Namespace, OUTSIDE_ADDRESS, open, service};
use network::{Attachment, Network, Protocol, Service, ServicePort};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 112, 1, 20), 80);

/// Pods that serve their names on 8080, on a machine with another one outside.
struct Cluster {
    machine: Machine,
    pods: Vec<Namespace>,
    at: Vec<Attachment>,
}

impl Cluster {
    fn new(count: usize) -> Self {
        let machine = Machine::new();
        let pods: Vec<Namespace> = (0..count).map(|_| Namespace::new()).collect();
        let (config, options) = (machine.config(1), machine.options());
        let paths: Vec<_> = pods.iter().map(Namespace::path).collect();
        let at = machine.run(move || async move {
            let network = open(config, options).await;
            let mut at = Vec::new();
            for (n, path) in paths.iter().enumerate() {
                at.push(
                    network
                        .attach(path, &n.to_string())
                        .await
                        .expect("attached"),
                );
            }
            at
        });
        for (n, pod) in pods.iter().enumerate() {
            pod.serve(8080, &n.to_string());
        }
        Self { machine, pods, at }
    }

    fn end(&self, pod: usize) -> SocketAddrV4 {
        SocketAddrV4::new(self.at[pod].address, 8080)
    }

    /// Does `work` in one process of the instance.
    fn with<F, Fut>(&self, work: F)
    where
        F: FnOnce(Network) -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        let (config, options) = (self.machine.config(1), self.machine.options());
        self.machine
            .run(move || async move { work(open(config, options).await).await });
    }

    fn set(&self, services: Vec<Service>) {
        self.with(|network| async move { network.set_services(services).await.expect("applied") });
    }
}

fn words(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

/// The same namespace, whose removal is another's.
fn borrowed(namespace: &Namespace) -> std::mem::ManuallyDrop<Namespace> {
    std::mem::ManuallyDrop::new(Namespace {
        name: namespace.name.clone(),
    })
}

#[test]
fn a_client_stays_with_its_endpoint_through_changes_of_rules() {
    let cluster = Cluster::new(4);
    let ends: Vec<SocketAddrV4> = (0..3).map(|pod| cluster.end(pod)).collect();
    let client = borrowed(&cluster.pods[3]);
    let host = borrowed(&cluster.machine.host);
    cluster.with(move |network| async move {
        let sticky = |ends: &[SocketAddrV4]| Service {
            affinity_seconds: Some(10_800),
            ..service("web", *SERVICE.ip(), 80, ends)
        };
        let other =
            |ends: &[SocketAddrV4]| service("other", Ipv4Addr::new(10, 112, 1, 21), 80, ends);
        let set =
            async |services: Vec<Service>| network.set_services(services).await.expect("applied");
        set(vec![sticky(&ends)]).await;
        let first = client.answers(SERVICE, 20);
        assert_eq!(first.len(), 1, "{first:?}");
        let mine: usize = first.first().unwrap().parse().unwrap();
        let from_host = host.answers(SERVICE, 20);
        assert_eq!(from_host.len(), 1, "{from_host:?}");
        // Another service comes and goes; another endpoint of this one goes and comes.
        set(vec![sticky(&ends), other(&ends)]).await;
        assert_eq!(client.answers(SERVICE, 10), first);
        let fewer: Vec<_> = (0..3)
            .filter(|n| *n != (mine + 1) % 3)
            .map(|n| ends[n])
            .collect();
        set(vec![sticky(&fewer)]).await;
        assert_eq!(client.answers(SERVICE, 10), first);
        set(vec![sticky(&ends)]).await;
        assert_eq!(client.answers(SERVICE, 10), first);
        // Its own endpoint goes: another takes over, for good.
        let without: Vec<_> = (0..3).filter(|n| *n != mine).map(|n| ends[n]).collect();
        set(vec![sticky(&without)]).await;
        let second = client.answers(SERVICE, 20);
        assert!(second.len() == 1 && second != first, "{second:?}");
        set(vec![sticky(&ends)]).await;
        assert_eq!(client.answers(SERVICE, 10), second);
        // None left: refused. No affinity: all of them.
        set(vec![sticky(&[])]).await;
        assert_eq!(
            client.fetch(SERVICE).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        set(vec![service("web", *SERVICE.ip(), 80, &ends)]).await;
        assert_eq!(client.answers(SERVICE, 60).len(), 3);
        set(Vec::new()).await;
        let rules = host.text(&["nft", "list", "ruleset"]);
        for left in ["svc-", "ep-", "clients-"] {
            assert!(!rules.contains(left), "{left} in {rules}");
        }
    });
}

#[test]
fn a_client_that_stays_away_long_enough_is_balanced_anew() {
    let cluster = Cluster::new(3);
    cluster.set(vec![Service {
        affinity_seconds: Some(1),
        ..service("web", *SERVICE.ip(), 80, &[cluster.end(0), cluster.end(1)])
    }]);
    let first = cluster.pods[2].answers(SERVICE, 1);
    let deadline = Instant::now() + Duration::from_secs(120);
    while cluster.pods[2].answers(SERVICE, 1) == first {
        assert!(Instant::now() < deadline, "it never changes");
        std::thread::sleep(Duration::from_millis(1500));
    }
}

#[test]
fn node_ports_answer_on_every_address_of_the_machine() {
    let cluster = Cluster::new(2);
    let mut web = service("web", *SERVICE.ip(), 80, &[cluster.end(0)]);
    web.ports[0].node_port = Some(30080);
    let mut dns = service("dns", Ipv4Addr::new(10, 112, 1, 21), 53, NOWHERE);
    let end = SocketAddrV4::new(cluster.at[0].address, 5353);
    cluster.pods[0].serve_udp(5353, "udp");
    let mut udp = ServicePort::new("dns", Protocol::Udp, 53, &[end]);
    udp.node_port = Some(30080);
    dns.ports = vec![udp];
    cluster.set(vec![web, dns]);
    let (host, outside) = (&cluster.machine.host, &cluster.machine.outside);
    let port = |address: Ipv4Addr| SocketAddrV4::new(address, 30080);
    assert_eq!(
        outside.fetch(port(HOST_ADDRESS)).unwrap(),
        format!("0 {OUTSIDE_ADDRESS}")
    );
    let gateway = cluster.at[0].gateway;
    for address in [
        HOST_ADDRESS,
        gateway,
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(127, 0, 0, 9),
    ] {
        let text = host.fetch(port(address)).unwrap();
        assert!(text.starts_with("0 "), "{address}: {text}");
        let text = host.within(move || {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            socket.connect(port(address)).unwrap();
            socket.send(b"?").unwrap();
            let mut buffer = [0; 16];
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        });
        assert_eq!(text, "udp", "{address}");
    }
    // Pods: by the machine's addresses; the second one, and the endpoint itself.
    for pod in &cluster.pods {
        assert!(pod.fetch(port(HOST_ADDRESS)).unwrap().starts_with("0 "));
    }
    assert!(
        host.fetch(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 30081))
            .is_err()
    );
    cluster.set(Vec::new());
    assert!(host.fetch(port(Ipv4Addr::LOCALHOST)).is_err());
}

/// What the setting for 127.0.0.1's node ports would allow: a pod that sends to its node's loopback (CVE-2020-8558).
#[test]
fn loopback_of_the_machine_stays_closed_to_pods() {
    let cluster = Cluster::new(1);
    let mut web = service("web", *SERVICE.ip(), 80, &[cluster.end(0)]);
    web.ports[0].node_port = Some(30080);
    cluster.set(vec![web]);
    cluster.machine.host.serve(9999, "private");
    let pod = &cluster.pods[0];
    let gateway = cluster.at[0].gateway.to_string();
    for argv in [
        &["sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1"][..],
        &["ip", "addr", "flush", "dev", "lo"],
        &[
            "ip",
            "route",
            "replace",
            "127.0.0.1/32",
            "via",
            &gateway,
            "dev",
            "eth0",
        ],
    ] {
        pod.text(argv);
    }
    let route = pod.text(&["ip", "route", "get", "127.0.0.1"]);
    assert!(route.contains(&gateway), "the attack is set up: {route}");
    for port in [9999, 30080] {
        let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        assert_eq!(pod.fetch(to).unwrap_err().kind(), ErrorKind::TimedOut);
    }
}

#[test]
fn local_policies_use_local_endpoints_and_others_are_reached_through_this_machine() {
    let cluster = Cluster::new(2);
    let (host, outside) = (&cluster.machine.host, &cluster.machine.outside);
    outside.serve(8080, "far");
    let far = SocketAddrV4::new(OUTSIDE_ADDRESS, 8080);
    // Clients there have another address than the endpoint there: neither knows a way to the other but by itself.
    let client = Ipv4Addr::new(198, 51, 100, 3);
    outside.text(&["ip", "addr", "add", "198.51.100.3/24", "dev", "up0"]);
    outside.text(&[
        "ip",
        "route",
        "add",
        "198.51.100.1/32",
        "dev",
        "up0",
        "src",
        "198.51.100.3",
    ]);
    let near = cluster.end(0);
    let balanced =
        |local: &[SocketAddrV4], all: &[SocketAddrV4], internal: bool, external: bool| {
            let mut web = service("web", *SERVICE.ip(), 80, all);
            web.ports[0].local_endpoints = local.iter().map(|end| (*end).into()).collect();
            web.ports[0].node_port = Some(30080);
            web.internal_local = internal;
            web.external_local = external;
            cluster.set(vec![web]);
        };
    let node_port = SocketAddrV4::new(HOST_ADDRESS, 30080);
    let timed_out = |from: &Namespace, to: SocketAddrV4| {
        assert_eq!(from.fetch(to).unwrap_err().kind(), ErrorKind::TimedOut);
    };

    balanced(&[near], &[near, far], false, false);
    for (from, to) in [
        (&cluster.pods[1], SERVICE),
        (host, SERVICE),
        (outside, node_port),
        (host, node_port),
        (&cluster.pods[1], node_port),
    ] {
        assert_eq!(from.answers(to, 40), words(&["0", "far"]), "{to}");
    }
    balanced(&[near], &[near, far], true, true);
    assert_eq!(cluster.pods[1].answers(SERVICE, 20), words(&["0"]));
    assert_eq!(outside.answers(node_port, 20), words(&["0"]));
    assert_eq!(
        host.answers(node_port, 40),
        words(&["0", "far"]),
        "the short way"
    );
    assert_eq!(outside.fetch(node_port).unwrap(), format!("0 {client}"));

    balanced(&[], &[far], true, true);
    timed_out(&cluster.pods[1], SERVICE);
    timed_out(outside, node_port);
    assert_eq!(host.answers(node_port, 5), words(&["far"]));
    balanced(&[], &[], true, true);
    for (from, to) in [(&cluster.pods[1], SERVICE), (outside, node_port)] {
        assert_eq!(
            from.fetch(to).unwrap_err().kind(),
            ErrorKind::ConnectionRefused,
            "{to}"
        );
    }
}

#[test]
fn external_addresses_and_load_balancers() {
    let cluster = Cluster::new(2);
    let (host, outside) = (&cluster.machine.host, &cluster.machine.outside);
    let external = Ipv4Addr::new(203, 0, 113, 50);
    outside.text(&["ip", "route", "add", "203.0.113.50", "via", "198.51.100.1"]);
    let web = |ranges: &[&str]| Service {
        external_ips: vec![external.into()],
        balancer_ips: vec![HOST_ADDRESS.into()],
        source_ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        ..service("web", *SERVICE.ip(), 80, &[cluster.end(0)])
    };
    let port = |address: Ipv4Addr| SocketAddrV4::new(address, 80);
    cluster.set(vec![web(&[])]);
    for from in [outside, host, &cluster.pods[0], &cluster.pods[1]] {
        for address in [external, HOST_ADDRESS] {
            assert!(
                from.fetch(port(address)).unwrap().starts_with("0 "),
                "{address}"
            );
        }
    }
    assert_eq!(
        outside.fetch(port(HOST_ADDRESS)).unwrap(),
        format!("0 {OUTSIDE_ADDRESS}")
    );
    assert!(outside.fetch(SocketAddrV4::new(HOST_ADDRESS, 81)).is_err());
    cluster.set(vec![web(&["192.0.2.0/24"])]);
    assert_eq!(
        outside.fetch(port(HOST_ADDRESS)).unwrap_err().kind(),
        ErrorKind::TimedOut
    );
    assert!(outside.fetch(port(external)).is_ok() && host.fetch(port(HOST_ADDRESS)).is_ok());
    cluster.set(vec![web(&["192.0.2.0/24", "198.51.100.0/24"])]);
    assert!(outside.fetch(port(HOST_ADDRESS)).is_ok());
    cluster.set(Vec::new());
    let refused = outside.fetch(port(HOST_ADDRESS)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}
