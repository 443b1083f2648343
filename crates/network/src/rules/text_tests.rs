//! Tests of the scripts: that a change says what differs and nothing else.

use proptest::prelude::*;

use std::net::SocketAddr;

use super::super::fixed::POLICED_INGRESS;
use super::*;
use crate::{Protocol, Service, ServicePort};

fn difference(layout: &Layout, from: &Plan, to: &Plan) -> String {
    script(layout, &change::difference(layout, from, to))
}

fn layout() -> Layout {
    Layout {
        family: Family::V4,
        table: "plim_0a1b2c".into(),
        bridge: "plim-0a1b2c".into(),
        pod_cidr: "10.64.0.0/23".parse().unwrap(),
        service_cidr: "10.112.0.0/20".parse().unwrap(),
        gateway: "10.64.0.1".parse().unwrap(),
        dns: Some((Ipv4Addr::new(10, 112, 0, 10), 53)),
    }
}

/// `NAME ENDPOINT...`, each on port 80 of 10.112.0.NAME.
fn plan(services: &[&str]) -> Plan {
    let services: Vec<Service> = services
        .iter()
        .map(|line| {
            let mut words = line.split(' ');
            let name = words.next().unwrap();
            Service {
                namespace: "n".into(),
                name: name.into(),
                cluster_ips: vec![format!("10.112.0.{name}").parse().unwrap()],
                ports: vec![ServicePort::new(
                    "",
                    Protocol::Tcp,
                    80,
                    &words
                        .map(|end| format!("10.64.0.{end}").parse().unwrap())
                        .collect::<Vec<SocketAddr>>(),
                )],
                ..Service::default()
            }
        })
        .collect();
    let mut plan = Plan::default();
    plan.set_services(&services, Ipv4Addr::UNSPECIFIED.into(), Family::V4);
    plan
}

/// The script that leads from one set of services to another, with chain names and the table cut short.
fn change(from: &[&str], to: &[&str]) -> String {
    let script = difference(&layout(), &plan(from), &plan(to));
    let mut out = String::new();
    for word in script.split_inclusive([' ', '\n']) {
        match word.strip_prefix("svc-") {
            Some(rest) => out.push_str(&rest[17..]),
            None => out.push_str(word),
        }
    }
    out.replace(" ip plim_0a1b2c", "")
}

#[test]
fn a_change_touches_what_differs() {
    let cases: [(&[&str], &[&str], &str); 6] = [
        (&["1 2:80"], &["1 2:80"], ""),
        (
            &[],
            &["1 2:80"],
            "add chain n/1/tcp/80
add rule n/1/tcp/80 meta l4proto tcp dnat to 10.64.0.2:80
add element service_addresses { 10.112.0.1 . tcp . 80 : goto n/1/tcp/80 }
add element hairpin { 10.64.0.2 . 10.64.0.2 }
",
        ),
        (
            &["1 2:80", "2 9:80"],
            &["1 2:80 3:81", "2 9:80"],
            "flush chain n/1/tcp/80
add rule n/1/tcp/80 meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.64.0.2 . 80, 1 : 10.64.0.3 . 81 }
add element hairpin { 10.64.0.3 . 10.64.0.3 }
",
        ),
        (
            &["1 2:80 3:81"],
            &["1 3:81 2:80"],
            "",
        ),
        (
            &["1 2:80", "2 2:80"],
            &["2 2:80"],
            "delete element service_addresses { 10.112.0.1 . tcp . 80 : goto n/1/tcp/80 }
flush chain n/1/tcp/80
delete chain n/1/tcp/80
",
        ),
        (
            &["1 2:80"],
            &["1"],
            "delete element service_addresses { 10.112.0.1 . tcp . 80 : goto n/1/tcp/80 }
delete element hairpin { 10.64.0.2 . 10.64.0.2 }
flush chain n/1/tcp/80
delete chain n/1/tcp/80
",
        ),
    ];
    for (from, to, expected) in cases {
        assert_eq!(change(from, to), expected, "{from:?} to {to:?}");
    }
}

proptest! {
    /// Elements of a map, followed through a change as nft would: what was there, less what is deleted, and what is added.
    #[test]
    fn a_change_leads_where_it_should(
        from in prop::collection::btree_map(0..20u8, 1..9u16, 0..12),
        to in prop::collection::btree_map(0..20u8, 1..9u16, 0..12),
    ) {
        let published = |ports: &BTreeMap<u8, u16>| Plan {
            published_any: ports
                .iter()
                .map(|(port, to)| {
                    let target = SocketAddr::from(([10, 64, 0, *to as u8], *to));
                    ((Protocol::Tcp, u16::from(*port)), target)
                })
                .collect(),
            ..Plan::default()
        };
        let script = difference(&layout(), &published(&from), &published(&to));
        let mut held: BTreeMap<String, ()> = elements_of(&from);
        for line in script.lines().filter(|line| line.contains("published_any")) {
            let list = line.split_once('{').unwrap().1.trim_end_matches('}').trim();
            for element in list.split(", ") {
                if line.starts_with("delete") {
                    prop_assert!(held.remove(element).is_some(), "{element} was not there");
                } else {
                    prop_assert!(held.insert(element.to_owned(), ()).is_none());
                }
            }
        }
        prop_assert_eq!(held, elements_of(&to));
    }
}

fn elements_of(ports: &BTreeMap<u8, u16>) -> BTreeMap<String, ()> {
    ports
        .iter()
        .map(|(port, to)| (format!("tcp . {port} : 10.64.0.{to} . {to}"), ()))
        .collect()
}

/// The script from one plan to another, with hashes and the table cut out.
fn readable(from: &Plan, to: &Plan) -> String {
    let script = difference(&layout(), from, to).replace(" ip plim_0a1b2c", "");
    let mut out = String::new();
    let mut rest = script.as_str();
    while let Some(at) = rest.find('-') {
        let (before, after) = rest.split_at(at + 1);
        out.push_str(before);
        let hash = after.len() >= 16 && after.as_bytes()[..16].iter().all(u8::is_ascii_hexdigit);
        rest = if hash { &after[16..] } else { after };
    }
    out + rest
}

#[test]
fn affinity_keeps_its_sets_when_endpoints_come_and_go() {
    let sticky = |ends: &[&str]| {
        let mut plan = plan(&[&format!("1 {}", ends.join(" "))]);
        plan.chains
            .values_mut()
            .for_each(|chain| chain.affinity_seconds = Some(60));
        plan
    };
    let made = difference(&layout(), &Plan::default(), &sticky(&["2:80"]));
    let set = "{ type ipv4_addr; flags dynamic,timeout; timeout 60s; size 65536; }";
    assert!(made.contains(set), "{made}");
    assert!(made.contains(" update @clients-"), "{made}");
    let grown = difference(&layout(), &sticky(&["2:80"]), &sticky(&["2:80", "3:80"]));
    assert_eq!(grown.matches("add set").count(), 1, "{grown}");
    assert!(
        !grown.contains("delete set") && !grown.contains("10.64.0.2:80\n"),
        "{grown}"
    );
    assert!(
        grown.contains("numgen random mod 2 vmap { 0 : goto ep-"),
        "{grown}"
    );
    let shrunk = difference(&layout(), &sticky(&["2:80", "3:80"]), &sticky(&["3:80"]));
    assert_eq!(shrunk.matches("delete set").count(), 1, "{shrunk}");
    assert_eq!(shrunk.matches("delete chain").count(), 1, "{shrunk}");
    assert!(!shrunk.contains("add set"), "{shrunk}");
}

#[test]
fn permissions_as_rules() {
    use crate::{AddressSet, Allowance, PodPolicy, PortRange, Transport};
    let mut peers = AddressSet::default();
    peers.add("10.64.0.8/31".parse().unwrap());
    peers.add_address("10.64.0.20".parse().unwrap());
    peers.add("fd00::8/127".parse().unwrap());
    let mut everybody = AddressSet::default();
    everybody.add("0.0.0.0/0".parse().unwrap());
    let port = |transport, first, last| PortRange {
        transport,
        first,
        last,
    };
    let allow = |peers, ports: Option<Vec<PortRange>>| Allowance {
        policy: "n/p\"; flush".into(),
        peers,
        ports,
    };
    let mut to = Plan::default();
    let pod = |address: &str| PodPolicy {
        address: address.parse().unwrap(),
        ingress: Some(vec![
            allow(
                Some(peers.clone()),
                Some(vec![
                    port(Transport::Tcp, 90, 100),
                    port(Transport::Tcp, 80, 80),
                    port(Transport::Tcp, 95, 120),
                    port(Transport::Udp, 0, 65535),
                ]),
            ),
            allow(
                Some(everybody.clone()),
                Some(vec![port(Transport::Sctp, 7, 7)]),
            ),
            allow(Some(AddressSet::default()), None),
            allow(None, Some(vec![])),
        ]),
        egress: Some(vec![]),
    };
    let pods = [pod("10.64.0.2"), pod("fd00::2")];
    to.set_policies(&pods, Family::V4);
    let expected = "add chain in-
add chain out-
add rule in- ip saddr { 10.64.0.8-10.64.0.9, 10.64.0.20 } tcp dport { 80, 90-120 } return comment \"n/pflush\"
add rule in- ip saddr { 10.64.0.8-10.64.0.9, 10.64.0.20 } meta l4proto udp return comment \"n/pflush\"
add rule in- sctp dport { 7 } return comment \"n/pflush\"
add rule in- drop
add rule out- drop
add element policed_ingress { 10.64.0.2 : jump in- }
add element policed_egress { 10.64.0.2 : jump out- }
";
    assert_eq!(readable(&Plan::default(), &to), expected);
    assert_eq!(readable(&to, &to), "");
    let gone = readable(&to, &Plan::default());
    let end = "flush chain in-\nflush chain out-\ndelete chain in-\ndelete chain out-\n";
    assert!(gone.ends_with(end), "{gone}");
    // The other table has the same permissions for its addresses; everybody of IPv4 is nobody of it.
    let mut to = Plan::default();
    to.set_policies(&pods, Family::V6);
    let v6 = Layout {
        family: Family::V6,
        ..layout()
    };
    let script = difference(&v6, &Plan::default(), &to);
    let rule = "ip6 saddr { fd00::8-fd00::9 } meta l4proto udp return";
    assert!(
        script.contains(rule) && !script.contains("sctp"),
        "{script}"
    );
    assert!(script.contains("add element ip6 plim_0a1b2c policed_ingress { fd00::2 : jump in-"));
}

#[test]
fn what_protects_pods_is_touched_only_where_it_differs() {
    use crate::PodPolicy;
    let pod = |n: u8, closed: bool| PodPolicy {
        address: format!("10.64.0.{n}").parse().unwrap(),
        ingress: Some(if closed {
            vec![]
        } else {
            vec![crate::Allowance {
                policy: "n/p".into(),
                peers: None,
                ports: None,
            }]
        }),
        egress: None,
    };
    let of = |pods: &[PodPolicy]| {
        let mut plan = Plan::default();
        plan.set_policies(pods, Family::V4);
        plan
    };
    let before = of(&[pod(2, true), pod(3, true), pod(4, false)]);
    let after = of(&[pod(2, true), pod(3, false), pod(5, true)]);
    let mut chains: Vec<String> = fixed_chains().map(str::to_owned).collect();
    chains.extend(before.permits.keys().cloned());
    chains.push("in-0000000000000000".into());
    let found = |policed: &[&'static str]| Found {
        chains: chains.clone(),
        sets: Vec::new(),
        policed: policed
            .iter()
            .map(|map| (*map, before.ingress.clone()))
            .collect(),
    };
    let script = renew(&layout(), &after, &found(&[POLICED_INGRESS]));
    let elements: Vec<&str> = script
        .lines()
        .filter(|line| line.contains("policed_ingress {") && line.contains("element"))
        .map(|line| line.split_once('{').unwrap().1)
        .collect();
    assert_eq!(elements.len(), 2, "{script}");
    for (line, words) in [
        (elements[0], ["10.64.0.3 ", "10.64.0.4 "]),
        (elements[1], ["10.64.0.3 ", "10.64.0.5 "]),
    ] {
        assert!(
            words.iter().all(|word| line.contains(word)) && !line.contains("10.64.0.2 "),
            "{line}"
        );
    }
    assert!(
        !script.contains("flush map ip plim_0a1b2c policed_ingress"),
        "{script}"
    );
    assert!(
        script.contains("flush map ip plim_0a1b2c policed_egress"),
        "{script}"
    );
    assert_eq!(script.matches("delete chain").count(), 1, "{script}");
    // One that cannot be read is made anew.
    let script = renew(&layout(), &after, &found(&[]));
    assert!(
        script.contains("flush map ip plim_0a1b2c policed_ingress"),
        "{script}"
    );
}
