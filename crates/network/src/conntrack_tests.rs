//! Tests of which flows are forgotten.

use super::*;
use crate::{Published, Service, ServicePort};
use proptest::prelude::*;

const UNRESERVED: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    padded(&bytes).collect()
}

fn tuple(kind: u16, protocol: u8, source: &str, destination: &str) -> Vec<u8> {
    let source: SocketAddr = source.parse().unwrap();
    let destination: SocketAddr = destination.parse().unwrap();
    let ip = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => [
            nested(CTA_IP_V4_SRC, &source.octets()),
            nested(CTA_IP_V4_DST, &destination.octets()),
        ],
        (IpAddr::V6(source), IpAddr::V6(destination)) => [
            nested(CTA_IP_V6_SRC, &source.octets()),
            nested(CTA_IP_V6_DST, &destination.octets()),
        ],
        mixed => panic!("{mixed:?}"),
    }
    .concat();
    let protocol = [
        nested(CTA_PROTO_NUM, &[protocol]),
        nested(CTA_PROTO_SRC_PORT, &source.port().to_be_bytes()),
        nested(CTA_PROTO_DST_PORT, &destination.port().to_be_bytes()),
    ]
    .concat();
    let both = [
        nested(CTA_TUPLE_IP, &ip),
        nested(CTA_TUPLE_PROTO, &protocol),
    ]
    .concat();
    nested(kind | 0x8000, &both)
}

/// Service 10.112.0.9:53 with 10.64.0.2:5353, external addresses and node port 30053 of it, and 8053 of all addresses to 10.64.0.4:53; until
/// now the service had an endpoint outside.
fn judge() -> Judge {
    let mut plan = Plans::default();
    let mut service = Service {
        namespace: "n".into(),
        name: "s".into(),
        cluster_ips: ["10.112.0.9", "fd00:2::9"]
            .map(|ip| ip.parse().unwrap())
            .into(),
        external_ips: vec!["203.0.113.77".parse().unwrap()],
        balancer_ips: vec!["203.0.113.78".parse().unwrap()],
        ports: vec![ServicePort {
            name: String::new(),
            protocol: Protocol::Udp,
            port: 53,
            node_port: Some(30053),
            balanced: true,
            endpoints: ["10.64.0.2:5353", "[fd00:1::2]:5353"]
                .map(|end| end.parse().unwrap())
                .into(),
            local_endpoints: Vec::new(),
        }],
        ..Service::default()
    };
    plan.set_services(std::slice::from_ref(&service), UNRESERVED);
    let mut before = Plans::default();
    service.ports[0].endpoints = vec!["203.0.113.5:53".parse().unwrap()];
    before.set_services(&[service], UNRESERVED);
    let published = Published {
        host_ip: None,
        host_port: 8053,
        target: "10.64.0.4:53".parse().unwrap(),
        protocol: Protocol::Udp,
    };
    plan.set_published([&published].into_iter());
    let ranges = |list: [&str; 2]| list.map(|range| range.parse().unwrap()).to_vec();
    let ranges = (
        ranges(["10.64.0.0/23", "fd00:1::/64"]),
        ranges(["10.112.0.0/20", "fd00:2::/112"]),
    );
    let addresses = |list: [&str; 2]| list.map(|address| address.parse().unwrap());
    let local = addresses(["127.0.0.1", "192.0.2.7"]);
    let gateways = addresses(["10.64.0.1", "fd00:1::1"]);
    let plans = (Some(&before), &plan);
    Judge::new(ranges, gateways.into(), local.into(), plans)
}

#[test]
fn flows_that_go_astray_are_selected_and_no_others() {
    const UDP: u8 = 17;
    const TCP: u8 = 6;
    let cases = [
        (
            "to its endpoint",
            UDP,
            "10.112.0.9:53",
            "10.64.0.2:5353",
            false,
        ),
        (
            "to one that has gone",
            UDP,
            "10.112.0.9:53",
            "10.64.0.3:5353",
            true,
        ),
        (
            "the same, TCP",
            TCP,
            "10.112.0.9:53",
            "10.64.0.3:5353",
            false,
        ),
        (
            "of a service that has gone",
            UDP,
            "10.112.0.8:53",
            "10.64.0.2:5353",
            true,
        ),
        (
            "of a port that has gone",
            UDP,
            "10.112.0.9:54",
            "10.64.0.2:5353",
            true,
        ),
        (
            "endpoint outside the cluster",
            UDP,
            "10.112.0.9:53",
            "203.0.113.5:53",
            true,
        ),
        (
            "node port to an endpoint outside that has gone",
            UDP,
            "192.0.2.7:30053",
            "203.0.113.5:53",
            true,
        ),
        ("by IPv6", UDP, "[fd00:2::9]:53", "[fd00:1::2]:5353", false),
        (
            "by IPv6 to one that has gone",
            UDP,
            "[fd00:2::9]:53",
            "[fd00:1::3]:5353",
            true,
        ),
        ("our DNS", UDP, "10.112.0.10:53", "10.64.0.1:53", false),
        ("node port", UDP, "192.0.2.7:30053", "10.64.0.2:5353", false),
        (
            "node port, endpoint gone",
            UDP,
            "192.0.2.7:30053",
            "10.64.0.3:5353",
            true,
        ),
        ("published", UDP, "192.0.2.7:8053", "10.64.0.4:53", false),
        (
            "published, container gone",
            UDP,
            "192.0.2.7:8053",
            "10.64.0.5:53",
            true,
        ),
        (
            "published no more",
            UDP,
            "192.0.2.7:8054",
            "10.64.0.4:53",
            true,
        ),
        (
            "begun before it was published",
            UDP,
            "192.0.2.7:8053",
            "192.0.2.7:8053",
            true,
        ),
        (
            "this machine's own",
            UDP,
            "192.0.2.7:123",
            "192.0.2.7:123",
            false,
        ),
        (
            "loopback, the supervisor's",
            UDP,
            "127.0.0.1:8053",
            "127.0.0.1:8053",
            false,
        ),
        (
            "through us to elsewhere",
            UDP,
            "203.0.113.9:8053",
            "203.0.113.9:8053",
            false,
        ),
        (
            "to an external address of the service, untranslated",
            UDP,
            "203.0.113.77:53",
            "203.0.113.77:53",
            true,
        ),
        (
            "to its load balancer's, untranslated",
            UDP,
            "203.0.113.78:53",
            "203.0.113.78:53",
            true,
        ),
        (
            "to another port of that address",
            UDP,
            "203.0.113.77:54",
            "203.0.113.77:54",
            false,
        ),
        (
            "by the node port's number to another machine",
            UDP,
            "203.0.113.77:30053",
            "203.0.113.77:30053",
            false,
        ),
        (
            "between pods",
            UDP,
            "10.64.0.2:5353",
            "10.64.0.2:5353",
            false,
        ),
        (
            "somebody else's translation",
            UDP,
            "192.0.2.7:9999",
            "172.17.0.2:53",
            false,
        ),
    ];
    for (name, protocol, to, endpoint, expected) in cases {
        let client = if to.starts_with('[') {
            "[fd00:1::3]:999"
        } else {
            "10.64.0.3:999"
        };
        let original = tuple(CTA_TUPLE_ORIG, protocol, client, to);
        let reply = tuple(CTA_TUPLE_REPLY, protocol, endpoint, client);
        let selected = selector_of(&[original.clone(), reply].concat(), &judge());
        assert_eq!(selected, expected.then_some(original), "{name}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = selector_of(&bytes, &judge());
    }
}
