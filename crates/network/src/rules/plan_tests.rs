//! Tests of the plan: which chain each way into a service leads to, and what pods are allowed.

use super::*;
use crate::{AddressSet, PortRange, Transport};

fn at(address: [u8; 4]) -> IpAddr {
    address.into()
}

fn service(name: &str, port: ServicePort) -> Service {
    Service {
        namespace: "default".into(),
        name: name.into(),
        cluster_ips: vec![at([10, 112, 0, 9])],
        ports: vec![port],
        ..Service::default()
    }
}

fn port(endpoints: &[&str]) -> ServicePort {
    let endpoints: Vec<SocketAddr> = endpoints.iter().map(|e| e.parse().unwrap()).collect();
    ServicePort::new("", Protocol::Tcp, 80, &endpoints)
}

fn plan(services: &[Service]) -> Plan {
    let mut plan = Plan::default();
    plan.set_services(services, at([0; 4]), Family::V4);
    plan
}

#[test]
fn a_port_without_endpoints_has_no_element() {
    let plan = plan(&[
        service("web", port(&[])),
        service("api", port(&["10.64.0.2:80"])),
    ]);
    assert_eq!(plan.addresses.len(), 1);
    assert_eq!(plan.chains.len(), 1);
    assert_eq!(plan.targets(), BTreeSet::from([at([10, 64, 0, 2])]));
}

#[test]
fn the_dns_servers_own_port_cannot_be_taken() {
    let mut dns = port(&["10.64.0.2:53"]);
    dns.port = 53;
    let mut plan = Plan::default();
    plan.set_services(&[service("kube-dns", dns)], at([10, 112, 0, 9]), Family::V4);
    assert_eq!(plan, Plan::default());
}

#[test]
fn names_never_carry_syntax() {
    let hostile = service("a; flush ruleset; \"{}\n", port(&["10.64.0.2:80"]));
    let named = name("svc", &hostile, &hostile.ports[0], "");
    assert!(named.ends_with("-default/aflushruleset/tcp/80"), "{named}");
    let long = service(&"x".repeat(300), port(&[]));
    let other = service(&"x".repeat(301), port(&[]));
    let named = name("svc", &long, &long.ports[0], "");
    assert_eq!(named.len(), CHAIN_NAME_BYTES_MAX);
    assert_ne!(named, name("svc", &other, &other.ports[0], ""));
}

/// For each way in: the endpoints for pods and this machine, then those for others, `drop` for none, `-` for no way.
#[test]
fn traffic_policies_choose_endpoints() {
    let (here, there) = ("10.64.0.2:80", "192.0.2.9:80");
    // endpoints, local ones, internal Local, external Local: service address, node port and external address
    type Case<'a> = (&'a [&'a str], &'a [&'a str], bool, bool, &'a str, &'a str);
    let cases: [Case; 7] = [
        (&[here, there], &[here], false, false, "both", "both both"),
        (&[here, there], &[here], true, false, "here", "both both"),
        (&[here, there], &[here], false, true, "both", "both here"),
        (&[here, there], &[here], true, true, "here", "both here"),
        (&[there], &[], true, false, "drop", "there there"),
        (&[there], &[], false, true, "there", "there drop"),
        (&[], &[], true, true, "-", "-"),
    ];
    for (all, local, internal_local, external_local, by_service, from_outside) in cases {
        let mut port = port(all);
        port.local_endpoints = local.iter().map(|e| e.parse().unwrap()).collect();
        port.node_port = Some(30080);
        let plan = plan(&[Service {
            internal_local,
            external_local,
            external_ips: vec![at([192, 0, 2, 1])],
            balancer_ips: vec![at([198, 51, 100, 1])],
            ..service("web", port)
        }]);
        let show = |chain: &String| {
            let endpoints = &plan.chains[chain].endpoints;
            let has = |e: &str| endpoints.contains(&e.parse().unwrap());
            match (has(here), has(there)) {
                (true, true) => "both",
                (true, false) => "here",
                (false, true) => "there",
                (false, false) => "drop",
            }
        };
        let both = |way: &String| match plan.doors.get(way) {
            Some(door) => format!("{} {}", show(&door.inside), show(&door.outside)),
            None => format!("{0} {0}", show(way)),
        };
        let case = format!("{all:?} {local:?} {internal_local} {external_local}");
        let way = |address: [u8; 4]| plan.addresses.get(&(at(address), Protocol::Tcp, 80));
        assert_eq!(way([10, 112, 0, 9]).map_or("-", show), by_service, "{case}");
        let no_way = || "-".to_owned();
        let node_port = plan.node_ports.get(&(Protocol::Tcp, 30080));
        for way in [node_port, way([192, 0, 2, 1]), way([198, 51, 100, 1])] {
            assert_eq!(way.map_or_else(no_way, both), from_outside, "{case}");
        }
    }
}

#[test]
fn source_ranges_guard_the_load_balancer_alone() {
    let mut port = port(&["10.64.0.2:80"]);
    port.node_port = Some(30080);
    let plan = plan(&[Service {
        balancer_ips: vec![at([198, 51, 100, 1])],
        source_ranges: vec!["203.0.113.0/24".parse().unwrap()],
        ..service("web", port)
    }]);
    let of = |address: [u8; 4]| &plan.addresses[&(address.into(), Protocol::Tcp, 80)];
    let door = &plan.doors[of([198, 51, 100, 1])];
    assert_eq!(door.sources.as_ref().map(BTreeSet::len), Some(1));
    assert!(!plan.doors.contains_key(of([10, 112, 0, 9])));
    assert!(
        !plan
            .doors
            .contains_key(&plan.node_ports[&(Protocol::Tcp, 30080)])
    );
}

#[test]
fn pods_under_the_same_policies_share_a_chain() {
    let mut peers = AddressSet::default();
    peers.add_address(at([10, 64, 0, 9]));
    let allowance = Allowance {
        policy: "shop/web".into(),
        peers: Some(peers),
        ports: Some(vec![PortRange {
            transport: Transport::Tcp,
            first: 80,
            last: 80,
        }]),
    };
    let pod =
        |last: u8, ingress: Option<Vec<Allowance>>, egress: Option<Vec<Allowance>>| PodPolicy {
            address: at([10, 64, 0, last]),
            ingress,
            egress,
        };
    let mut plan = Plan::default();
    plan.set_policies(
        &[
            pod(2, Some(vec![allowance.clone()]), None),
            pod(3, Some(vec![allowance.clone()]), Some(vec![])),
            pod(4, Some(vec![]), Some(vec![allowance])),
        ],
        Family::V4,
    );
    assert_eq!(plan.permits.len(), 4);
    let ingress: Vec<&String> = plan.ingress.values().collect();
    assert_eq!(ingress[0], ingress[1]);
    assert_ne!(ingress[1], ingress[2]);
    assert_eq!(plan.egress.len(), 2);
    assert!(plan.permits[ingress[2]].allowances.is_empty());
    plan.set_policies(&[], Family::V4);
    assert_eq!(plan, Plan::default());
}

#[test]
fn published_ports_leave_loopback_and_the_other_family_to_the_supervisor() {
    let publish = |ip: Option<&str>, port: u16| Published {
        host_ip: ip.map(|ip| ip.parse().unwrap()),
        host_port: port,
        target: "10.64.0.2:80".parse().unwrap(),
        protocol: Protocol::Tcp,
    };
    let list = [
        publish(None, 1),
        publish(Some("0.0.0.0"), 2),
        publish(Some("::"), 3),
        publish(Some("127.0.0.1"), 4),
        publish(Some("::1"), 5),
        publish(Some("192.0.2.7"), 6),
        publish(Some("2001:db8::7"), 7),
    ];
    let with = |target: &str, family| {
        let list = list.clone().map(|port| Published {
            target: target.parse().unwrap(),
            ..port
        });
        let mut plan = Plan::default();
        plan.set_published(list.iter(), family);
        let any: Vec<u16> = plan.published_any.keys().map(|key| key.1).collect();
        let at: Vec<u16> = plan.published_at.keys().map(|key| key.2).collect();
        (any, at)
    };
    assert_eq!(with("10.64.0.2:80", Family::V4), (vec![1, 2], vec![6]));
    assert_eq!(with("[fd00::2]:80", Family::V6), (vec![1, 3], vec![7]));
    assert_eq!(with("10.64.0.2:80", Family::V6), (vec![], vec![]));
}

#[test]
fn each_family_has_its_addresses_and_endpoints() {
    let mut both = service("web", port(&["10.64.0.2:80", "[fd00:1::2]:80"]));
    both.cluster_ips.push("fd00:2::9".parse().unwrap());
    both.ports[0].node_port = Some(30080);
    both.balancer_ips = vec![at([192, 0, 2, 1]), "2001:db8::1".parse().unwrap()];
    both.source_ranges = vec!["198.51.100.0/24".parse().unwrap()];
    let mut single = service("old", port(&["10.64.0.3:80"]));
    single.ports[0].node_port = Some(30081);
    single.cluster_ips = vec![at([10, 112, 0, 8])];
    let mut plans = Plans::default();
    plans.set_services(&[both, single], at([0; 4]));
    let shown = |family: Family| {
        let plan = plans.of(family);
        let addresses = plan.addresses.keys().map(|key| key.0.to_string());
        let ports: Vec<u16> = plan.node_ports.keys().map(|key| key.1).collect();
        let targets: Vec<String> = plan.targets().iter().map(IpAddr::to_string).collect();
        (
            addresses.collect::<Vec<_>>().join(" "),
            ports,
            targets.join(" "),
        )
    };
    assert_eq!(
        shown(Family::V4),
        (
            "10.112.0.8 10.112.0.9 192.0.2.1".into(),
            vec![30080, 30081],
            "10.64.0.2 10.64.0.3".into()
        )
    );
    assert_eq!(
        shown(Family::V6),
        (
            "2001:db8::1 fd00:2::9".into(),
            vec![30080],
            "fd00:1::2".into()
        )
    );
    // Who may come by IPv4 says that nobody may by IPv6.
    let v6 = plans.of(Family::V6);
    let key = ("2001:db8::1".parse().unwrap(), Protocol::Tcp, 80);
    let sources = v6.doors[&v6.addresses[&key]].sources.as_ref();
    assert_eq!(sources.map(BTreeSet::len), Some(1));
}
