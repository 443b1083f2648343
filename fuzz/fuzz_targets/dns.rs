//! Packets to the cluster's DNS server: an answer that belongs to the question and fits, or none.
#![no_main]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use network::{Config, Protocol, Service, ServiceHost, ServicePort};

static CONFIG: LazyLock<Config> = LazyLock::new(|| Config {
    instance: "plim-000000".into(),
    bridge: "plim-000000".into(),
    pod_cidr: "10.64.0.0/24".parse().expect("a range"),
    service_cidr: "10.112.0.0/24".parse().expect("a range"),
    ipv6: Some(network::Ipv6Ranges {
        pod_cidr: "fd00:1::/64".parse().expect("a range"),
        service_cidr: "fd00:2::/112".parse().expect("a range"),
    }),
    cluster_domain: "cluster.local".into(),
    dns_ip: Ipv4Addr::new(10, 112, 0, 10),
    state_dir: "/nonexistent".into(),
});

static SERVICES: LazyLock<Vec<Service>> = LazyLock::new(|| {
    let ends: Vec<SocketAddrV4> = (2..200)
        .map(|n| SocketAddrV4::new(Ipv4Addr::new(10, 64, 0, n), 8080))
        .collect();
    let named = |name: &str| Service {
        namespace: "n".into(),
        name: name.into(),
        ..Service::default()
    };
    vec![
        Service {
            cluster_ips: vec![Ipv4Addr::new(10, 112, 0, 20).into(), "fd00:2::20".parse().expect("an address")],
            ports: vec![ServicePort::new("http", Protocol::Tcp, 80, &ends[..2])],
            ..named("web")
        },
        Service {
            ports: vec![ServicePort::new("http", Protocol::Tcp, 80, &ends)],
            hosts: ends
                .iter()
                .map(|end| ServiceHost {
                    hostname: Some(format!("h{}", end.ip().octets()[3])),
                    address: (*end.ip()).into(),
                })
                .collect(),
            ..named("many")
        },
        Service {
            external_name: Some("web.n.svc.cluster.local".into()),
            ..named("alias")
        },
        Service {
            external_name: Some("circle.n.svc.cluster.local".into()),
            ..named("circle")
        },
    ]
});

fuzz_target!(|packet: &[u8]| {
    if let Some(reply) = network::dns_reply(&CONFIG, &SERVICES, packet) {
        assert!(reply.len() <= 1232, "{} bytes", reply.len());
        assert_eq!(reply[..2], packet[..2], "another question's");
        assert_eq!(reply[2] & 0x80, 0x80, "not an answer");
    }
});
