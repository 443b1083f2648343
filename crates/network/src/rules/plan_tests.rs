//! Tests of the plan: which chain each way into a service leads to, and what pods are allowed.

use proptest::prelude::*;

use super::*;
use crate::rules::change::difference;
use crate::rules::text::Layout;
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
fn source_ranges_guard_the_load_balancer_shaped() {
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

/// Services by numbers, with ports, ways in and endpoints as the bits of `shapes` have it.
fn shaped(shapes: &BTreeMap<u8, u16>) -> Vec<Service> {
    let shaped = |(number, shape): (&u8, &u16)| {
        let has = |bit: u16| shape & 1 << bit != 0;
        let ends: Vec<&str> = [
            "10.64.0.2:80",
            "10.64.0.3:80",
            "192.0.2.9:81",
            "[fd00::2]:80",
        ]
        .into_iter()
        .zip(0..)
        .filter(|(_, bit)| has(*bit))
        .map(|(end, _)| end)
        .collect();
        let mut port = port(&ends);
        port.local_endpoints.truncate(usize::from(has(4)));
        // Every now and then one that another has too.
        let node_port = if has(5) {
            30080
        } else {
            30000 + u16::from(*number)
        };
        port.node_port = has(6).then_some(node_port);
        Service {
            cluster_ips: vec![
                at([10, 112, 0, *number]),
                format!("fd00:1::{number}").parse().unwrap(),
            ],
            external_local: has(7),
            affinity_seconds: has(8).then_some(60),
            external_ips: if has(9) {
                vec![at([203, 0, 113, 7])]
            } else {
                vec![]
            },
            ..service(&format!("s{number}"), port)
        }
    };
    let mut services: Vec<Service> = shapes.iter().map(shaped).collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    services
}

proptest! {
    /// Parts put in the place of others make the plan that all services make, and say all that differs.
    #[test]
    fn parts_lead_where_the_whole_does(
        from in prop::collection::btree_map(0..6u8, 0..1024u16, 0..6),
        to in prop::collection::btree_map(0..6u8, 0..1024u16, 0..6),
    ) {
        let (from, to) = (shaped(&from), shaped(&to));
        let reserved = at([0; 4]);
        let of = |services: &[Service]| {
            let mut plans = Plans::default();
            plans.set_services(services, reserved);
            let published = Published {
                host_ip: None,
                host_port: 8000,
                target: "10.64.0.3:80".parse().unwrap(),
                protocol: Protocol::Tcp,
            };
            plans.set_published([published].iter());
            plans
        };
        let (mut plans, wanted) = (of(&from), of(&to));
        let layout = Layout {
            family: Family::V4,
            table: "t".into(),
            bridge: "b".into(),
            pod_cidr: "10.64.0.0/24".parse().unwrap(),
            service_cidr: "10.112.0.0/24".parse().unwrap(),
            gateway: at([10, 64, 0, 1]),
            dns: None,
        };
        if let Some((old, new)) = plans.parts(&from, &to, reserved) {
            let says = |from: &Plans, to: &Plans| {
                Family::ALL.map(|family| difference(&layout, from.of(family), to.of(family)))
            };
            prop_assert_eq!(says(&old, &new), says(&plans, &wanted));
            plans.replace(&old, &new);
            prop_assert_eq!(plans, wanted);
        }
    }
}

#[test]
fn a_change_of_one_among_many_is_a_part_and_a_claim_of_anothers_is_not() {
    let many: BTreeMap<u8, u16> = (0..100).map(|number| (number, 0b100_0011)).collect();
    let plans = |shapes: &BTreeMap<u8, u16>| {
        let mut plans = Plans::default();
        plans.set_services(&shaped(shapes), at([0; 4]));
        plans
    };
    let mut other = many.clone();
    other.insert(7, 0b100_0001);
    other.remove(&8);
    other.insert(200, 0b100_0001);
    let (old, new) = plans(&many)
        .parts(&shaped(&many), &shaped(&other), at([0; 4]))
        .expect("a part");
    assert_eq!(old.of(Family::V4).chains.len(), 2);
    assert_eq!(new.of(Family::V4).chains.len(), 2);
    other.insert(7, 0b110_0001);
    other.insert(9, 0b110_0001);
    let parts = plans(&many).parts(&shaped(&many), &shaped(&other), at([0; 4]));
    assert_eq!(parts, None);
}
