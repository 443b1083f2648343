//! Real packets between namespaces: attachments, service addresses, published ports, egress.

mod common;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4};

use common::{HOST_ADDRESS, Machine, Namespace, OUTSIDE_ADDRESS, open, service};
use network::{Attachment, Network, Protocol, Published, Service, ServicePort};

/// Two pods on one bridge, each serving its name on 8080, and a service over both.
struct Pair {
    machine: Machine,
    a: Namespace,
    b: Namespace,
}

const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 112, 1, 20), 80);

fn at(attachment: &Attachment, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(attachment.address, port)
}

fn words(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

impl Pair {
    fn new() -> Self {
        Self {
            machine: Machine::new(),
            a: Namespace::new(),
            b: Namespace::new(),
        }
    }

    /// Opens the network and attaches both; the handle goes, all else stays, as after a crash.
    fn attach(&self) -> (Attachment, Attachment) {
        let (config, options) = (self.machine.config(1), self.machine.options());
        let (a_path, b_path) = (self.a.path(), self.b.path());
        let pair = self.machine.run(move || async move {
            let network = open(config, options).await;
            let a = network.attach(&a_path, "a").await.expect("attached");
            let b = network.attach(&b_path, "b").await.expect("attached");
            (a, b)
        });
        self.a.serve(8080, "a");
        self.b.serve(8080, "b");
        pair
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

    fn set(&self, services: Vec<Service>) {
        self.with(|network| async move { network.set_services(services).await.expect("applied") });
    }
}

#[test]
fn pods_on_one_bridge_talk_to_each_other_and_to_the_host() {
    let pair = Pair::new();
    let (a, b) = pair.attach();
    assert_eq!(a.gateway, Ipv4Addr::new(10, 64, 1, 1));
    assert_eq!(
        pair.a.fetch(at(&b, 8080)).unwrap(),
        format!("b {}", a.address)
    );
    assert_eq!(
        pair.b.fetch(at(&a, 8080)).unwrap(),
        format!("a {}", b.address)
    );
    assert_eq!(
        pair.a.fetch(at(&a, 8080)).unwrap(),
        format!("a {}", a.address)
    );
    assert_eq!(
        pair.machine.host.fetch(at(&a, 8080)).unwrap(),
        format!("a {}", a.gateway)
    );
    let link = pair.a.text(&["ip", "link", "show", "eth0"]);
    assert!(link.contains(&a.mac), "{link}");
}

#[test]
fn a_service_balances_over_its_endpoints_from_pods_and_host() {
    for (bridge_nf, rp_filter) in [("1", "0"), ("0", "1")] {
        let pair = Pair::new();
        // Both settings of br_netfilter, where the kernel has it, and strict reverse-path filtering must do.
        let setting = format!("net.bridge.bridge-nf-call-iptables={bridge_nf}");
        let _ = pair.machine.host.command(&["sysctl", "-qw", &setting]);
        for interface in ["all", "default"] {
            let setting = format!("net.ipv4.conf.{interface}.rp_filter={rp_filter}");
            pair.machine.host.text(&["sysctl", "-qw", &setting]);
        }
        let (a, b) = pair.attach();
        pair.set(vec![service(
            "web",
            *SERVICE.ip(),
            80,
            &[at(&a, 8080), at(&b, 8080)],
        )]);
        assert_eq!(pair.machine.host.answers(SERVICE, 40), words(&["a", "b"]));
        // From a pod: the other one, and itself through the bridge (hairpin).
        assert_eq!(pair.a.answers(SERVICE, 40), words(&["a", "b"]));
        assert_eq!(pair.b.answers(SERVICE, 40), words(&["a", "b"]));
        // The client's address is kept where it can be.
        let seen: BTreeSet<String> = (0..40).map(|_| pair.a.fetch(SERVICE).unwrap()).collect();
        let expected = [format!("a {}", a.gateway), format!("b {}", a.address)];
        assert_eq!(seen, BTreeSet::from(expected));
    }
}

#[test]
fn a_service_follows_its_endpoints_and_refuses_without_any() {
    let pair = Pair::new();
    let (a, b) = pair.attach();
    let (a_end, b_end) = (at(&a, 8080), at(&b, 8080));
    let host = Namespace {
        name: pair.machine.host.name.clone(),
    };
    let client = Namespace {
        name: pair.a.name.clone(),
    };
    pair.with(move |network| async move {
        let ip = *SERVICE.ip();
        let steps: [(&[SocketAddrV4], &[&str]); 4] = [
            (&[a_end, b_end], &["a", "b"]),
            (&[b_end], &["b"]),
            (&[], &[]),
            (&[a_end], &["a"]),
        ];
        for (endpoints, expected) in steps {
            network
                .set_services(vec![service("web", ip, 80, endpoints)])
                .await
                .expect("applied");
            for from in [&host, &client] {
                if expected.is_empty() {
                    let error = from.fetch(SERVICE).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                } else {
                    assert_eq!(from.answers(SERVICE, 30), words(expected));
                }
            }
        }
        // Another port of the address, and an address that no service has.
        for to in ["10.112.1.20:81", "10.112.1.99:80"] {
            let to: SocketAddrV4 = to.parse().unwrap();
            for from in [&host, &client] {
                let error = from.fetch(to).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
            }
        }
        network.set_services(Vec::new()).await.expect("applied");
        assert!(client.fetch(SERVICE).is_err());
        let rules = host.text(&["nft", "list", "ruleset"]);
        assert!(!rules.contains("svc-"), "{rules}");
        // The names belong to the guards of `pair`.
        std::mem::forget((host, client));
    });
}

#[test]
fn published_and_node_ports_lead_into_pods_from_outside_and_within() {
    let pair = Pair::new();
    let (a, b) = pair.attach();
    let (a_end, b_end) = (at(&a, 8080), at(&b, 8080));
    pair.with(move |network| async move {
        let publish = |host_ip: Option<&str>, host_port| Published {
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port,
            target: a_end.into(),
            protocol: Protocol::Tcp,
        };
        let ports = vec![
            publish(None, 8000),
            publish(Some("198.51.100.1"), 8001),
            publish(Some("198.51.100.77"), 8002),
        ];
        network.set_published("a", ports).await.expect("published");
        let mut node_port = service("web", *SERVICE.ip(), 80, &[b_end]);
        node_port.ports[0].node_port = Some(30080);
        network
            .set_services(vec![node_port])
            .await
            .expect("applied");
    });
    let host = |port| SocketAddrV4::new(HOST_ADDRESS, port);
    let outside = &pair.machine.outside;
    assert_eq!(
        outside.fetch(host(8000)).unwrap(),
        format!("a {OUTSIDE_ADDRESS}")
    );
    assert_eq!(
        outside.fetch(host(8001)).unwrap(),
        format!("a {OUTSIDE_ADDRESS}")
    );
    assert_eq!(
        outside.fetch(host(30080)).unwrap(),
        format!("b {OUTSIDE_ADDRESS}")
    );
    assert!(outside.fetch(host(8002)).is_err());
    for from in [&pair.machine.host, &pair.b] {
        assert!(from.fetch(host(8000)).unwrap().starts_with("a "));
        assert!(from.fetch(host(30080)).unwrap().starts_with("b "));
    }
    assert_eq!(
        pair.a.fetch(host(8000)).unwrap(),
        format!("a {}", a.gateway),
        "hairpin"
    );
    // Loopback is left to whoever listens there.
    let loopback = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8000);
    assert!(pair.machine.host.fetch(loopback).is_err());
    pair.machine.host.serve(8000, "supervisor");
    assert!(
        pair.machine
            .host
            .fetch(loopback)
            .unwrap()
            .starts_with("supervisor")
    );

    pair.with(|network| async move { network.set_published("a", Vec::new()).await.expect("gone") });
    assert!(outside.fetch(host(8000)).unwrap().starts_with("supervisor"));
}

#[test]
fn egress_is_masqueraded_and_pods_are_not_reached_by_routing() {
    let pair = Pair::new();
    let (a, _) = pair.attach();
    pair.machine.outside.serve(9000, "outside");
    let out = SocketAddrV4::new(OUTSIDE_ADDRESS, 9000);
    assert_eq!(
        pair.a.fetch(out).unwrap(),
        format!("outside {HOST_ADDRESS}")
    );
    let outside = &pair.machine.outside;
    outside.text(&["ip", "route", "add", "10.64.1.0/24", "via", "198.51.100.1"]);
    assert!(outside.fetch(at(&a, 8080)).is_err());
}

#[test]
fn udp_services_follow_their_endpoints_too() {
    let pair = Pair::new();
    let (a, b) = pair.attach();
    pair.a.serve_udp(5000, "a");
    pair.b.serve_udp(5000, "b");
    let (a_end, b_end) = (at(&a, 5000), at(&b, 5000));
    let udp = move |endpoint: SocketAddrV4| Service {
        namespace: "default".into(),
        name: "udp".into(),
        cluster_ips: vec![(*SERVICE.ip()).into()],
        ports: vec![ServicePort::new("", Protocol::Udp, 5000, &[endpoint])],
        ..Service::default()
    };
    pair.with(move |network| async move {
        network
            .set_services(vec![udp(a_end)])
            .await
            .expect("applied");
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket
            .set_read_timeout(Some(std::time::Duration::from_secs(5)))
            .unwrap();
        socket
            .connect(SocketAddrV4::new(*SERVICE.ip(), 5000))
            .unwrap();
        let ask = || {
            socket.send(b"?").unwrap();
            let mut buffer = [0; 16];
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        assert_eq!(ask(), "a");
        network
            .set_services(vec![udp(b_end)])
            .await
            .expect("applied");
        assert_eq!(
            ask(),
            "b",
            "the same socket: its flow must have been forgotten"
        );
    });
}
