//! Tests of the decision: who is given the address, who is refused and why, and when nothing is written.

use super::*;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

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

fn told(services: &[Service], address: Option<Ipv4Addr>, held: &[Held]) -> Vec<String> {
    let mut all: Vec<String> = judge(services, address, held)
        .into_iter()
        .map(|(service, outcome)| match outcome {
            Outcome::Given(address) => format!("{} {address}", service.name_any()),
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
    let held = |protocol, port, address: Option<Ipv4Addr>| Held {
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
        told(&both, Some(ADDRESS), &[]),
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
    assert_eq!(told(&kept, Some(ADDRESS), &[])[1], "young 192.0.2.2");
    let one = [service("ssh", "01", &["22/TCP"], none.clone())];
    for (held, free) in [
        (held(Protocol::Tcp, 22, None), false),
        (held(Protocol::Tcp, 22, Some(ADDRESS)), false),
        (held(Protocol::Tcp, 22, Some(Ipv4Addr::LOCALHOST)), true),
        (held(Protocol::Udp, 22, None), true),
        (held(Protocol::Tcp, 23, None), true),
    ] {
        let expected = if free {
            "ssh 192.0.2.2"
        } else {
            "ssh PortInUse: port 22/TCP of 192.0.2.2 is held by sshd"
        };
        assert_eq!(
            told(&one, Some(ADDRESS), std::slice::from_ref(&held)),
            [expected],
            "{held:?}"
        );
    }
    // What was given stays given: our own rules, or who came later, are no reason to take it away.
    let given = [service("ssh", "01", &["22/TCP"], has("192.0.2.2"))];
    let all = [held(Protocol::Tcp, 22, None)];
    assert_eq!(told(&given, Some(ADDRESS), &all), ["ssh 192.0.2.2"]);
    // The machine has moved: the old address does not count.
    let moved = [service("ssh", "01", &["22/TCP"], has("192.0.2.77"))];
    assert_eq!(told(&moved, Some(ADDRESS), &[]), ["ssh 192.0.2.2"]);
    assert!(told(&one, None, &[])[0].starts_with("ssh NoAddress: "));
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
    assert_eq!(
        told(&[class, plain, was], Some(ADDRESS), &[]),
        ["was cleared"]
    );
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
    let patch = apply(&Outcome::Given(ADDRESS)).expect("news");
    assert_eq!(patch["loadBalancer"]["ingress"][0]["ip"], "192.0.2.2");
    assert_eq!(
        patch["conditions"].as_array().map(Vec::len),
        Some(1),
        "{patch}"
    );
    assert_eq!(apply(&Outcome::Given(ADDRESS)), None);
    let patch = apply(&Outcome::Cleared).expect("news");
    assert!(patch["loadBalancer"]["ingress"].is_null());
}
