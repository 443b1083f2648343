//! Tests of [`super::decide`]: what each name answers, and that no packet does harm.

use std::net::Ipv4Addr;

use hickory_proto::op::Query;
use proptest::prelude::*;

use super::super::zone::{Renewal, renewal};
use super::*;
use crate::{Protocol, Service, ServiceHost, ServicePort};

fn port(name: &str, protocol: Protocol, port: u16, endpoints: &[&str]) -> ServicePort {
    let endpoints: Vec<std::net::SocketAddr> =
        endpoints.iter().map(|e| e.parse().unwrap()).collect();
    ServicePort::new(name, protocol, port, &endpoints)
}

fn range(text: &str) -> ipnet::IpNet {
    text.parse().unwrap()
}

fn host(name: Option<&str>, address: &str) -> ServiceHost {
    ServiceHost {
        hostname: name.map(str::to_owned),
        address: address.parse().unwrap(),
    }
}

fn zone() -> Zone {
    let service = |namespace: &str, name: &str| Service {
        namespace: namespace.into(),
        name: name.into(),
        ..Service::default()
    };
    let services = [
        Service {
            cluster_ips: vec!["10.112.0.20".parse().unwrap()],
            ports: vec![
                port("http", Protocol::Tcp, 80, &["10.64.0.2:8080"]),
                port("", Protocol::Udp, 81, &[]),
            ],
            hosts: vec![host(Some("web-0"), "10.64.0.2"), host(None, "10.64.0.7")],
            ..service("default", "web")
        },
        Service {
            cluster_ips: vec!["10.112.0.22".parse().unwrap()],
            ports: vec![port("", Protocol::Tcp, 80, &[])],
            ..service("default", "plain")
        },
        // A port by a name that one of the pods does not have.
        Service {
            ports: vec![
                port("all", Protocol::Tcp, 70, &["10.64.0.8:70", "10.64.0.9:71"]),
                port("some", Protocol::Tcp, 80, &["10.64.0.9:81"]),
            ],
            hosts: vec![host(None, "10.64.0.8"), host(Some("s-1"), "10.64.0.9")],
            ..service("data", "some")
        },
        Service {
            ports: vec![port(
                "peer",
                Protocol::Tcp,
                7000,
                &["10.64.0.3:7001", "10.64.0.4:7001"],
            )],
            hosts: vec![
                ServiceHost {
                    hostname: Some("db-0".into()),
                    address: "10.64.0.3".parse().unwrap(),
                },
                ServiceHost {
                    hostname: None,
                    address: "10.64.0.4".parse().unwrap(),
                },
            ],
            ..service("data", "db")
        },
        Service {
            ..service("data", "nobody")
        },
        Service {
            cluster_ips: ["fd00:2::21", "10.112.0.31"]
                .map(|ip| ip.parse().unwrap())
                .into(),
            ports: vec![port("http", Protocol::Tcp, 80, &[])],
            ..service("both", "web")
        },
        Service {
            ports: vec![port(
                "peer",
                Protocol::Tcp,
                7000,
                &["10.64.0.5:7001", "[fd00:1::5]:7001", "[fd00:1::6]:7001"],
            )],
            hosts: [
                (Some("db-0"), "10.64.0.5"),
                (Some("db-0"), "fd00:1::5"),
                (None, "fd00:1::6"),
            ]
            .map(|(name, address)| ServiceHost {
                hostname: name.map(str::to_owned),
                address: address.parse().unwrap(),
            })
            .into(),
            ..service("both", "db")
        },
        Service {
            external_name: Some("web.default.svc.cluster.local".into()),
            ..service("data", "inner")
        },
        Service {
            external_name: Some("www.example.org".into()),
            ..service("data", "outer")
        },
        Service {
            external_name: Some("outer.data.svc.cluster.local".into()),
            ..service("data", "far")
        },
        Service {
            external_name: Some("lost.data.svc.cluster.local".into()),
            ..service("data", "dangling")
        },
        Service {
            external_name: Some("circle.data.svc.cluster.local".into()),
            ..service("data", "circle")
        },
    ];
    Zone::new(
        "cluster.local",
        Ipv4Addr::new(10, 112, 0, 10),
        services.into(),
        ["10.64.0.0/24", "fd00:1::/64"].map(range).into(),
        ["10.112.0.0/20", "fd00:2::/112"].map(range).into(),
    )
}

fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = 0;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

/// `CODE record record ...`, or what else is done.
fn ask(name: &str, kind: RecordType) -> String {
    let message = match decide(&zone(), &query(name, kind)) {
        Outcome::Reply(message) => message,
        Outcome::Follow(_, target, _) => return format!("follow {target}"),
        Outcome::Forward => return "forward".into(),
        Outcome::Drop => return "drop".into(),
    };
    assert!(
        message.answers.is_empty() != message.authorities.is_empty(),
        "SOA when empty"
    );
    let mut text = format!("{:?}", message.metadata.response_code);
    for record in &message.answers {
        assert!(record.ttl <= 5);
        text.push_str(&format!(" {}", record.data));
    }
    text
}

#[test]
fn names_answer_as_the_specification_says() {
    use RecordType::{A, AAAA, ANY, CNAME, MX, NS, PTR, SRV, TXT};
    let table = [
        ("web.default.svc.cluster.local.", A, "NoError 10.112.0.20"),
        ("WEB.Default.svc.CLUSTER.local.", A, "NoError 10.112.0.20"),
        ("web.default.svc.cluster.local.", AAAA, "NoError"),
        ("web.default.svc.cluster.local.", MX, "NoError"),
        ("web.other.svc.cluster.local.", A, "NXDomain"),
        ("default.svc.cluster.local.", A, "NoError"),
        ("svc.cluster.local.", A, "NoError"),
        ("cluster.local.", A, "NoError"),
        ("cluster.local.", NS, "NoError ns.dns.cluster.local."),
        ("ns.dns.cluster.local.", A, "NoError 10.112.0.10"),
        ("dns-version.cluster.local.", TXT, "NoError 1.1.0"),
        (
            "_http._tcp.web.default.svc.cluster.local.",
            SRV,
            "NoError 0 100 80 web.default.svc.cluster.local.",
        ),
        ("_tcp.web.default.svc.cluster.local.", SRV, "NoError"),
        (
            "web.default.svc.cluster.local.",
            SRV,
            "NoError 0 50 80 web.default.svc.cluster.local. 0 50 81 web.default.svc.cluster.local.",
        ),
        (
            "plain.default.svc.cluster.local.",
            SRV,
            "NoError 0 100 80 plain.default.svc.cluster.local.",
        ),
        (
            "web-0.web.default.svc.cluster.local.",
            A,
            "NoError 10.64.0.2",
        ),
        ("web-0.web.default.svc.cluster.local.", AAAA, "NoError"),
        (
            "web-0.web.default.svc.cluster.local.",
            SRV,
            "NoError 0 100 8080 web-0.web.default.svc.cluster.local.",
        ),
        (
            "10-64-0-7.web.default.svc.cluster.local.",
            A,
            "NoError 10.64.0.7",
        ),
        ("10-64-0-2.web.default.svc.cluster.local.", A, "NXDomain"),
        (
            "2.0.64.10.in-addr.arpa.",
            PTR,
            "NoError web-0.web.default.svc.cluster.local.",
        ),
        (
            "some.data.svc.cluster.local.",
            A,
            "NoError 10.64.0.8 10.64.0.9",
        ),
        (
            "_some._tcp.some.data.svc.cluster.local.",
            SRV,
            "NoError 0 100 81 s-1.some.data.svc.cluster.local.",
        ),
        (
            "some.data.svc.cluster.local.",
            SRV,
            "NoError 0 33 70 10-64-0-8.some.data.svc.cluster.local. 0 33 71 s-1.some.data.svc.cluster.local. 0 33 81 s-1.some.data.svc.cluster.local.",
        ),
        (
            "kube-dns.kube-system.svc.cluster.local.",
            A,
            "NoError 10.112.0.10",
        ),
        (
            "_dns._udp.kube-dns.kube-system.svc.cluster.local.",
            SRV,
            "NoError 0 100 53 kube-dns.kube-system.svc.cluster.local.",
        ),
        (
            "_dns-tcp._tcp.kube-dns.kube-system.svc.cluster.local.",
            SRV,
            "NoError 0 100 53 kube-dns.kube-system.svc.cluster.local.",
        ),
        (
            "10.0.112.10.in-addr.arpa.",
            PTR,
            "NoError kube-dns.kube-system.svc.cluster.local.",
        ),
        ("_http._udp.web.default.svc.cluster.local.", SRV, "NXDomain"),
        ("__._udp.web.default.svc.cluster.local.", ANY, "NXDomain"),
        (
            "20.0.112.10.in-addr.arpa.",
            PTR,
            "NoError web.default.svc.cluster.local.",
        ),
        ("20.0.112.10.in-addr.arpa.", A, "NoError"),
        ("21.0.112.10.in-addr.arpa.", PTR, "NXDomain"),
        ("1.0.0.127.in-addr.arpa.", PTR, "forward"),
        (
            "db.data.svc.cluster.local.",
            A,
            "NoError 10.64.0.3 10.64.0.4",
        ),
        ("db-0.db.data.svc.cluster.local.", A, "NoError 10.64.0.3"),
        (
            "10-64-0-4.db.data.svc.cluster.local.",
            A,
            "NoError 10.64.0.4",
        ),
        (
            "_peer._tcp.db.data.svc.cluster.local.",
            SRV,
            "NoError 0 50 7001 db-0.db.data.svc.cluster.local. 0 50 7001 10-64-0-4.db.data.svc.cluster.local.",
        ),
        (
            "3.0.64.10.in-addr.arpa.",
            PTR,
            "NoError db-0.db.data.svc.cluster.local.",
        ),
        ("web.both.svc.cluster.local.", A, "NoError 10.112.0.31"),
        ("web.both.svc.cluster.local.", AAAA, "NoError fd00:2::21"),
        (
            "_http._tcp.web.both.svc.cluster.local.",
            SRV,
            "NoError 0 100 80 web.both.svc.cluster.local.",
        ),
        (
            "1.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.0.0.d.f.ip6.arpa.",
            PTR,
            "NoError web.both.svc.cluster.local.",
        ),
        (
            "2.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.0.0.d.f.ip6.arpa.",
            PTR,
            "NXDomain",
        ),
        ("0.0.d.f.ip6.arpa.", PTR, "forward"),
        (
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa.",
            PTR,
            "forward",
        ),
        ("db.both.svc.cluster.local.", A, "NoError 10.64.0.5"),
        (
            "db.both.svc.cluster.local.",
            AAAA,
            "NoError fd00:1::5 fd00:1::6",
        ),
        ("db-0.db.both.svc.cluster.local.", AAAA, "NoError fd00:1::5"),
        (
            "fd00-1--6.db.both.svc.cluster.local.",
            AAAA,
            "NoError fd00:1::6",
        ),
        (
            "_peer._tcp.db.both.svc.cluster.local.",
            SRV,
            "NoError 0 50 7001 db-0.db.both.svc.cluster.local. 0 50 7001 fd00-1--6.db.both.svc.cluster.local.",
        ),
        (
            "fd00-1--9.default.pod.cluster.local.",
            AAAA,
            "NoError fd00:1::9",
        ),
        ("fd00-1--9.default.pod.cluster.local.", A, "NoError"),
        ("fd00-3--9.default.pod.cluster.local.", AAAA, "NXDomain"),
        ("nobody.data.svc.cluster.local.", A, "NXDomain"),
        (
            "inner.data.svc.cluster.local.",
            A,
            "NoError web.default.svc.cluster.local. 10.112.0.20",
        ),
        (
            "outer.data.svc.cluster.local.",
            CNAME,
            "NoError www.example.org.",
        ),
        (
            "outer.data.svc.cluster.local.",
            A,
            "follow www.example.org.",
        ),
        ("far.data.svc.cluster.local.", A, "follow www.example.org."),
        (
            "dangling.data.svc.cluster.local.",
            A,
            "NXDomain lost.data.svc.cluster.local.",
        ),
        (
            "10-64-0-9.default.pod.cluster.local.",
            A,
            "NoError 10.64.0.9",
        ),
        ("10-65-0-9.default.pod.cluster.local.", A, "NXDomain"),
        ("www.example.org.", A, "forward"),
        ("notcluster.local.", A, "forward"),
        (".", NS, "forward"),
    ];
    for (name, kind, expected) in table {
        assert_eq!(ask(name, kind), expected, "{name} {kind}");
    }
}

#[test]
fn aliases_in_a_circle_end() {
    let text = ask("circle.data.svc.cluster.local.", RecordType::A);
    assert!(text.starts_with("ServFail"), "{text}");
    assert_eq!(text.split(' ').count(), ALIASES_MAX + 2, "{text}");
}

#[test]
fn extensions_are_answered_in_kind() {
    let asked = |version: u8, payload: u16| {
        let packet = query("web.default.svc.cluster.local.", RecordType::A);
        let mut message = Message::from_vec(&packet).unwrap();
        let mut edns = Edns::new();
        edns.set_version(version).set_max_payload(payload);
        message.set_edns(edns);
        let packet = message.to_vec().unwrap();
        match decide(&zone(), &packet) {
            Outcome::Reply(reply) => {
                Message::from_vec(&udp_bytes(&reply, &packet).unwrap()).unwrap()
            }
            other => panic!("{other:?}"),
        }
    };
    let reply = asked(0, 4096);
    assert_eq!(reply.answers.len(), 1);
    let edns = reply.edns.expect("an OPT record for an OPT record");
    assert_eq!((edns.version(), edns.max_payload()), (0, UDP_BYTES_MAX));
    let reply = asked(1, 4096);
    assert!(reply.answers.is_empty());
    let edns = reply
        .edns
        .expect("an OPT record says which version is spoken");
    assert_eq!((edns.version(), edns.rcode_high()), (0, 1), "BADVERS");
    assert_eq!(asked(0, 0).answers.len(), 1, "less than 512 counts as 512");
}

#[test]
fn nothing_is_denied_before_services_are_known() {
    let zone = Zone::unknown(
        "cluster.local",
        Ipv4Addr::new(10, 112, 0, 10),
        vec![],
        vec![],
    );
    for (name, expected) in [
        ("web.default.svc.cluster.local.", ResponseCode::ServFail),
        ("ns.dns.cluster.local.", ResponseCode::NoError),
    ] {
        match decide(&zone, &query(name, RecordType::A)) {
            Outcome::Reply(message) => {
                assert_eq!(message.metadata.response_code, expected, "{name}")
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn many_addresses_take_turns_and_truncate() {
    let hosts = (0..200).map(|n| ServiceHost {
        hostname: None,
        address: Ipv4Addr::new(10, 64, 0, n).into(),
    });
    let service = Service {
        namespace: "n".into(),
        name: "many".into(),
        hosts: hosts.collect(),
        ..Service::default()
    };
    let zone = Zone::new(
        "cluster.local",
        Ipv4Addr::new(10, 112, 0, 10),
        vec![service],
        Vec::new(),
        Vec::new(),
    );
    let mut packet = query("many.n.svc.cluster.local.", RecordType::A);
    let first = |packet: &[u8]| match decide(&zone, packet) {
        Outcome::Reply(message) => message,
        other => panic!("{other:?}"),
    };
    let whole = first(&packet);
    assert_eq!(whole.answers.len(), 200);
    let sent = udp_bytes(&whole, &packet).unwrap();
    let short = Message::from_vec(&sent).unwrap();
    assert!(short.metadata.truncation);
    // RFC 1035: a header, a question, and sixteen bytes for each address whose name is named again.
    let beside = 12 + packet.len() - 12;
    assert_eq!(short.answers.len(), (UDP_BYTES_PLAIN - beside) / 16);
    assert_eq!(short.answers[..], whole.answers[..short.answers.len()]);
    assert!(sent.len() <= UDP_BYTES_PLAIN);
    // What extensions say has its room.
    let mut query = Message::from_vec(&packet).unwrap();
    query.set_edns(Edns::new());
    let with_edns = query.to_vec().unwrap();
    let sent = udp_bytes(&first(&with_edns), &with_edns).unwrap();
    let short = Message::from_vec(&sent).unwrap();
    assert!(short.metadata.truncation && short.edns.is_some() && sent.len() <= 512);
    assert!(short.answers.len() > 25);
    packet[1] = 7;
    assert_ne!(first(&packet).answers[0], whole.answers[0]);
}

#[test]
fn what_is_merely_helpful_is_left_out_first_and_without_a_mark() {
    // Eighteen targets fit; all of their addresses do not.
    let ends: Vec<String> = (0..18).map(|n| format!("10.64.0.{n}:70")).collect();
    let ends: Vec<&str> = ends.iter().map(String::as_str).collect();
    let hosts = (0..18).map(|n| host(None, &format!("10.64.0.{n}")));
    let service = Service {
        namespace: "n".into(),
        name: "many".into(),
        ports: vec![port("", Protocol::Tcp, 70, &ends)],
        hosts: hosts.collect(),
        ..Service::default()
    };
    let dns_ip = Ipv4Addr::new(10, 112, 0, 10);
    let zone = Zone::new(
        "cluster.local",
        dns_ip,
        vec![service],
        Vec::new(),
        Vec::new(),
    );
    let mut query =
        Message::from_vec(&query("many.n.svc.cluster.local.", RecordType::SRV)).unwrap();
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_BYTES_MAX);
    query.set_edns(edns);
    let packet = query.to_vec().unwrap();
    let Outcome::Reply(whole) = decide(&zone, &packet) else {
        panic!("not answered");
    };
    assert_eq!((whole.answers.len(), whole.additionals.len()), (18, 18));
    let short = Message::from_vec(&udp_bytes(&whole, &packet).unwrap()).unwrap();
    assert_eq!(short.answers.len(), 18);
    assert!(!short.metadata.truncation && short.additionals.len() < 18);
}

#[test]
fn a_service_of_the_api_is_the_name_server_if_it_is_called_so() {
    let service = Service {
        namespace: "kube-system".into(),
        name: "kube-dns".into(),
        cluster_ips: vec!["10.112.0.77".parse().unwrap()],
        ..Service::default()
    };
    let dns_ip = Ipv4Addr::new(10, 112, 0, 10);
    let zone = Zone::new(
        "cluster.local",
        dns_ip,
        vec![service],
        Vec::new(),
        Vec::new(),
    );
    let Found::Node(node) = zone.find("kube-dns.kube-system.svc.cluster.local") else {
        panic!("missing");
    };
    assert_eq!(node.addresses, ["10.112.0.77".parse::<IpAddr>().unwrap()]);
    assert_eq!(node.services, []);
}

#[test]
fn names_are_made_anew_as_far_as_they_change() {
    let service = |hosts: Vec<ServiceHost>, ends: &[&str]| Service {
        namespace: "n".into(),
        name: "s".into(),
        cluster_ips: vec!["10.112.0.77".parse().unwrap()],
        ports: vec![port("http", Protocol::Tcp, 80, ends)],
        hosts,
        ..Service::default()
    };
    let one = || vec![host(Some("a"), "10.64.0.2")];
    let before = service(one(), &["10.64.0.2:80"]);
    let policy = Service {
        internal_local: true,
        ..before.clone()
    };
    let other = Service {
        cluster_ips: vec!["10.112.0.78".parse().unwrap()],
        ..before.clone()
    };
    let dns_ip = Ipv4Addr::new(10, 112, 0, 10);
    let pods = vec![range("10.64.0.0/24")];
    let zone = Zone::new(
        "cluster.local",
        dns_ip,
        vec![before.clone()],
        pods,
        Vec::new(),
    );
    for (after, expected, name) in [
        (before.clone(), Renewal::Nothing, "a"),
        (policy, Renewal::Nothing, "a"),
        (service(one(), &["10.64.0.2:81"]), Renewal::Endpoints, "a"),
        (
            service(vec![host(Some("b"), "10.64.0.2")], &["10.64.0.2:80"]),
            Renewal::Endpoints,
            "b",
        ),
        (
            service(Vec::new(), &["10.64.0.2:80"]),
            Renewal::Endpoints,
            "",
        ),
        (other, Renewal::All, "a"),
    ] {
        let due = renewal(std::slice::from_ref(&before), std::slice::from_ref(&after));
        assert_eq!(due, expected, "{after:?}");
        // What the endpoints are renewed to is what a new zone has.
        let renewed = zone.with_endpoints(vec![after]);
        for label in ["a", "b"] {
            let found = renewed.find(&format!("{label}.s.n.svc.cluster.local"));
            assert_eq!(matches!(found, Found::Node(_)), label == name, "{label}");
        }
        let reverse = match name {
            "" => Found::Missing,
            name => Found::Reverse(vec![format!("{name}.s.n.svc.cluster.local")]),
        };
        assert_eq!(renewed.find("2.0.64.10.in-addr.arpa"), reverse);
    }
    assert_eq!(renewal(&[], std::slice::from_ref(&before)), Renewal::All);
    let headless = |ends: &[&str]| Service {
        cluster_ips: Vec::new(),
        ..service(one(), ends)
    };
    let (a, b) = (headless(&["10.64.0.2:80"]), headless(&["10.64.0.2:81"]));
    assert_eq!(renewal(&[a], &[b]), Renewal::All);
}

#[test]
fn hostile_packets_get_an_error_or_silence() {
    let good = query("web.default.svc.cluster.local.", RecordType::A);
    let with = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        edit(&mut bytes);
        match decide(&zone(), &bytes) {
            Outcome::Reply(message) => format!("{:?}", message.metadata.response_code),
            Outcome::Forward => "forward".into(),
            Outcome::Follow(..) => "follow".into(),
            Outcome::Drop => "drop".into(),
        }
    };
    assert_eq!(with(&|_| {}), "NoError");
    assert_eq!(with(&|b| b.clear()), "drop");
    assert_eq!(with(&|b| b.truncate(11)), "drop");
    assert_eq!(
        with(&|b| b[2] |= 0x80),
        "drop",
        "a response: answering could loop"
    );
    for length in 12..good.len() {
        assert_eq!(with(&|b| b.truncate(length)), "FormErr", "cut at {length}");
    }
    assert_eq!(
        with(&|b| b[12..14].copy_from_slice(&[0xc0, 12])),
        "FormErr",
        "a name that points to itself"
    );
    assert_eq!(
        with(&|b| b[12..14].copy_from_slice(&[0xc0, 0xff])),
        "FormErr",
        "a name that points outside"
    );
    assert_eq!(with(&|b| b[5] = 2), "FormErr", "two questions announced");
    assert_eq!(with(&|b| b[5] = 0), "FormErr", "none");
    assert_eq!(
        with(&|b| b[10..12].copy_from_slice(&[0xff, 0xff])),
        "FormErr",
        "65535 records announced"
    );
    assert_eq!(with(&|b| b[2] |= 5 << 3), "NotImp", "an update");
    let class = good.len() - 1;
    assert_eq!(with(&|b| b[class] = 3), "Refused", "class CHAOS");
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let outcome = decide(&zone(), &bytes);
        if let Outcome::Reply(message) = outcome {
            prop_assert!(udp_bytes(&message, &bytes).is_some());
        }
    }

    #[test]
    fn any_damage_is_survived(at in 0..47usize, value: u8, cut in 0..60usize) {
        let mut bytes = query("web.default.svc.cluster.local.", RecordType::A);
        if let Some(byte) = bytes.get_mut(at) { *byte = value; }
        bytes.truncate(cut);
        if let Outcome::Reply(message) = decide(&zone(), &bytes) {
            let sent = udp_bytes(&message, &bytes);
            prop_assert!(sent.is_some_and(|sent| sent.len() <= usize::from(UDP_BYTES_MAX) && sent[..2] == bytes[..2]));
        }
    }
}
