//! Tests of the scripts: that a change says what differs and nothing else.

use proptest::prelude::*;

use super::*;
use crate::{Protocol, Service, ServicePort};

fn layout() -> Layout {
    Layout {
        table: "plim_0a1b2c".into(),
        bridge: "plim-0a1b2c".into(),
        pod_cidr: "10.64.0.0/23".parse().unwrap(),
        service_cidr: "10.112.0.0/20".parse().unwrap(),
        gateway: Ipv4Addr::new(10, 64, 0, 1),
        dns_ip: Ipv4Addr::new(10, 112, 0, 10),
        dns_port: 53,
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
                cluster_ip: Some(format!("10.112.0.{name}").parse().unwrap()),
                ports: vec![ServicePort {
                    name: String::new(),
                    protocol: Protocol::Tcp,
                    port: 80,
                    node_port: None,
                    endpoints: words
                        .map(|end| format!("10.64.0.{end}").parse().unwrap())
                        .collect(),
                }],
                ..Service::default()
            }
        })
        .collect();
    let mut plan = Plan::default();
    plan.set_services(&services, Ipv4Addr::UNSPECIFIED);
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
                    let target = SocketAddrV4::new(Ipv4Addr::new(10, 64, 0, *to as u8), *to);
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
