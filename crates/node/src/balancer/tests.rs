//! Tests of the decision: who is given the address, who is refused and why, and when nothing is written.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const ADDRESS6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));
const ALL: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

fn service(name: &str, created: &str, ports: &[&str], more: serde_json::Value) -> Service {
    let ports: Vec<_> = ports
        .iter()
        .map(|port| {
            let (number, protocol) = port.split_once('/').expect("PORT/PROTOCOL");
            json!({ "port": number.parse::<u16>().expect("a port"), "protocol": protocol })
        })
        .collect();
    let mut object = json!({
        "metadata": { "namespace": "n", "name": name, "uid": name, "creationTimestamp": format!("2026-01-01T00:00:{created}Z") },
        "spec": { "type": "LoadBalancer", "ports": ports } });
    for key in ["spec", "status"] {
        for (name, value) in more[key].as_object().into_iter().flatten() {
            object[key][name] = value.clone();
        }
    }
    serde_json::from_value(object).expect("a service")
}

fn has(ip: &str) -> serde_json::Value {
    json!({ "status": { "loadBalancer": { "ingress": [{ "ip": ip }] } } })
}

fn told(services: &[Service], addresses: &[IpAddr], held: &[Held]) -> Vec<String> {
    let mut all: Vec<String> = judge(services, addresses, held)
        .into_iter()
        .map(|(service, outcome)| match outcome {
            Outcome::Given(all) => format!("{} {}", service.name_any(), texts(&all).join(" ")),
            Outcome::Refused { reason, message } => {
                format!("{} {reason}: {message}", service.name_any())
            }
            Outcome::Cleared => format!("{} cleared", service.name_any()),
        })
        .collect();
    all.sort();
    all
}

#[test]
fn ports_belong_to_one() {
    let held = |protocol, port, address: IpAddr| Held {
        protocol,
        port,
        address,
        by: "sshd".into(),
    };
    let none = json!({});
    let both = [
        service("young", "09", &["80/TCP"], none.clone()),
        service("old", "01", &["80/TCP", "443/TCP"], none.clone()),
        service("udp", "05", &["80/UDP"], none.clone()),
    ];
    assert_eq!(
        told(&both, &[ADDRESS], &[]),
        [
            "old 192.0.2.2",
            "udp 192.0.2.2",
            "young PortInUse: port 80/TCP of 192.0.2.2 is held by the service n/old",
        ]
    );
    let kept = [
        service("young", "09", &["80/TCP"], has("192.0.2.2")),
        service("old", "01", &["80/TCP"], none.clone()),
    ];
    assert_eq!(told(&kept, &[ADDRESS], &[])[1], "young 192.0.2.2");
    let one = [service("ssh", "01", &["22/TCP"], none.clone())];
    for (held, free) in [
        (held(Protocol::Tcp, 22, ALL), false),
        (held(Protocol::Tcp, 22, ADDRESS), false),
        (held(Protocol::Tcp, 22, Ipv4Addr::LOCALHOST.into()), true),
        (held(Protocol::Udp, 22, ALL), true),
        (held(Protocol::Tcp, 23, ALL), true),
    ] {
        let expected = if free {
            "ssh 192.0.2.2"
        } else {
            "ssh PortInUse: port 22/TCP of 192.0.2.2 is held by sshd"
        };
        assert_eq!(
            told(&one, &[ADDRESS], std::slice::from_ref(&held)),
            [expected],
            "{held:?}"
        );
    }
    // What was given stays given: our own rules, or who came later, are no reason to take it away.
    let given = [service("ssh", "01", &["22/TCP"], has("192.0.2.2"))];
    let all = [held(Protocol::Tcp, 22, ALL)];
    assert_eq!(told(&given, &[ADDRESS], &all), ["ssh 192.0.2.2"]);
    // The machine has moved: the old address does not count.
    let moved = [service("ssh", "01", &["22/TCP"], has("192.0.2.77"))];
    assert_eq!(told(&moved, &[ADDRESS], &[]), ["ssh 192.0.2.2"]);
    assert!(told(&one, &[], &[])[0].starts_with("ssh NoAddress: "));
}

#[test]
fn only_what_is_ours() {
    let class = service(
        "class",
        "01",
        &["80/TCP"],
        json!({ "spec": { "loadBalancerClass": "example.com/other" } }),
    );
    let plain = service(
        "plain",
        "01",
        &["80/TCP"],
        json!({ "spec": { "type": "ClusterIP" } }),
    );
    let mut was = has("192.0.2.2");
    was["spec"] = json!({ "type": "NodePort" });
    let was = service("was", "01", &["80/TCP"], was);
    assert_eq!(told(&[class, plain, was], &[ADDRESS], &[]), ["was cleared"]);
}

#[test]
fn the_status_is_written_once() {
    let now = Timestamp::from_second(1_800_000_000).expect("a time");
    let mut one = service(
        "web",
        "01",
        &["80/TCP"],
        json!({ "status": { "conditions": [
        { "type": "Other", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" }] } }),
    );
    let refused = Outcome::Refused {
        reason: "PortInUse",
        message: "held".into(),
    };
    let mut apply = |outcome: &Outcome| -> Option<serde_json::Value> {
        let patch = status(&one, outcome, now)?;
        let before = patch.clone();
        one.status = serde_json::from_value(patch).expect("a status");
        Some(before)
    };
    let patch = apply(&refused).expect("news");
    assert_eq!(
        patch["conditions"].as_array().map(Vec::len),
        Some(2),
        "{patch}"
    );
    assert_eq!(patch["conditions"][1]["reason"], "PortInUse");
    assert!(patch["loadBalancer"]["ingress"].is_null());
    assert_eq!(apply(&refused), None);
    let patch = apply(&Outcome::Given(vec![ADDRESS])).expect("news");
    assert_eq!(patch["loadBalancer"]["ingress"][0]["ip"], "192.0.2.2");
    assert_eq!(
        patch["conditions"].as_array().map(Vec::len),
        Some(1),
        "{patch}"
    );
    assert_eq!(apply(&Outcome::Given(vec![ADDRESS])), None);
    let patch = apply(&Outcome::Cleared).expect("news");
    assert!(patch["loadBalancer"]["ingress"].is_null());
}

#[test]
fn families_of_the_service_choose_among_the_machines_addresses() {
    let of = |families: &[&str]| {
        let more = json!({ "spec": { "ipFamilies": families } });
        [service("web", "01", &["80/TCP"], more)]
    };
    let both = [ADDRESS, ADDRESS6];
    for (families, addresses, expected) in [
        (
            &["IPv4", "IPv6"][..],
            &both[..],
            "web 192.0.2.2 2001:db8::2",
        ),
        (&["IPv6", "IPv4"], &both, "web 2001:db8::2 192.0.2.2"),
        (&["IPv6"], &both, "web 2001:db8::2"),
        (&["IPv4"], &both, "web 192.0.2.2"),
        (&["IPv4", "IPv6"], &both[..1], "web 192.0.2.2"),
    ] {
        assert_eq!(told(&of(families), addresses, &[]), [expected]);
    }
    assert!(told(&of(&["IPv6"]), &both[..1], &[])[0].starts_with("web NoAddress: "));
    // Held in one family is held for the service; a program of IPv4 does not hold IPv6.
    let held = |address| {
        [Held {
            protocol: Protocol::Tcp,
            port: 80,
            address,
            by: "httpd".into(),
        }]
    };
    let six = "web PortInUse: port 80/TCP of 2001:db8::2 is held by httpd";
    assert_eq!(told(&of(&["IPv4", "IPv6"]), &both, &held(ADDRESS6)), [six]);
    assert_eq!(told(&of(&["IPv6"]), &both, &held(ALL)), ["web 2001:db8::2"]);
    let any = Ipv6Addr::UNSPECIFIED.into();
    assert_eq!(told(&of(&["IPv6"]), &both, &held(any)), [six]);
}

#[test]
fn a_port_that_comes_later_has_to_be_free() {
    let held = [Held {
        protocol: Protocol::Tcp,
        port: 22,
        address: ALL,
        by: "sshd".into(),
    }];
    let given = |ports: serde_json::Value| json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.2", "ports": ports }] } } });
    let first = json!([{ "port": 80, "protocol": "TCP" }]);
    let grown = service("grown", "01", &["80/TCP", "22/TCP"], given(first.clone()));
    let why = "grown PortInUse: port 22/TCP of 192.0.2.2 is held by sshd";
    assert_eq!(told(std::slice::from_ref(&grown), &[ADDRESS], &held), [why]);
    // until that is decided the port is not opened
    let opened = balanced_ports(&grown).expect("ports");
    assert!(opened.contains(&(Protocol::Tcp, 80)) && !opened.contains(&(Protocol::Tcp, 22)));
    // the older one does not take what the younger has
    let old = service("old", "01", &["80/TCP", "443/TCP"], given(first));
    let has = json!([{ "port": 443, "protocol": "TCP" }]);
    let young = service("young", "09", &["443/TCP"], given(has));
    let why = "old PortInUse: port 443/TCP of 192.0.2.2 is held by the service n/young";
    assert_eq!(
        told(&[old, young.clone()], &[ADDRESS], &held),
        [why, "young 192.0.2.2"]
    );
    // what is told already is not told again, and a port that is new is
    let now = Timestamp::UNIX_EPOCH;
    let outcome = Outcome::Given(vec![ADDRESS]);
    assert_eq!(status(&young, &outcome, now), None);
    let more = status(&grown, &outcome, now).expect("to be written");
    let ports = &more["loadBalancer"]["ingress"][0]["ports"];
    assert_eq!(ports[1], json!({ "port": 22, "protocol": "TCP" }));
}
