//! Plans as nft scripts: whole, or only what differs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;

use super::plan::{Chain, Plan};

/// The fixed part of an instance's table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    pub table: String,
    pub bridge: String,
    pub pod_cidr: Ipv4Net,
    pub service_cidr: Ipv4Net,
    pub gateway: Ipv4Addr,
    pub dns_ip: Ipv4Addr,
    /// Where the DNS server listens on the gateway; 53 unless something else had it.
    pub dns_port: u16,
}

/// Brings fixed rules and published ports up to date and leaves services alone. Makes the table if there is none.
pub(crate) fn adopt(layout: &Layout, plan: &Plan) -> String {
    let t = &layout.table;
    let mut out = format!("add table ip {t}\n");
    for (map, types) in MAPS {
        let _ = writeln!(out, "add map ip {t} {map} {{ type {types}; }}");
    }
    let _ = writeln!(
        out,
        "add set ip {t} hairpin {{ type ipv4_addr . ipv4_addr; }}"
    );
    for (chain, hook) in CHAINS {
        let _ = writeln!(out, "add chain ip {t} {chain} {{ {hook} }}");
        let _ = writeln!(out, "flush chain ip {t} {chain}");
    }
    fixed_rules(&mut out, layout);
    for map in ["published_any", "published_at"] {
        let _ = writeln!(out, "flush map ip {t} {map}");
    }
    let published = Plan {
        published_any: plan.published_any.clone(),
        published_at: plan.published_at.clone(),
        ..Plan::default()
    };
    difference_into(&mut out, layout, &Plan::default(), &published);
    out
}

/// The whole table, in place of whatever is there.
pub(crate) fn replace(layout: &Layout, plan: &Plan) -> String {
    let mut out = remove(&layout.table);
    out.push_str(&adopt(layout, plan));
    let services = Plan {
        published_any: BTreeMap::new(),
        published_at: BTreeMap::new(),
        ..plan.clone()
    };
    difference_into(&mut out, layout, &Plan::default(), &services);
    out
}

/// What leads from one plan to another; empty when they are the same.
pub(crate) fn difference(layout: &Layout, from: &Plan, to: &Plan) -> String {
    let mut out = String::new();
    difference_into(&mut out, layout, from, to);
    out
}

/// Removes the table, whether it is there or not.
pub(crate) fn remove(table: &str) -> String {
    // "add" makes "delete" work when there is none.
    format!("add table ip {table}\ndelete table ip {table}\n")
}

/// The chains that a table has whatever the services are.
pub(crate) fn fixed_chains() -> impl Iterator<Item = &'static str> {
    CHAINS.into_iter().map(|(name, _)| name)
}

const MAPS: [(&str, &str); 4] = [
    (
        "service_addresses",
        "ipv4_addr . inet_proto . inet_service : verdict",
    ),
    ("node_ports", "inet_proto . inet_service : verdict"),
    (
        "published_any",
        "inet_proto . inet_service : ipv4_addr . inet_service",
    ),
    (
        "published_at",
        "ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service",
    ),
];

const CHAINS: [(&str, &str); 9] = [
    ("translate", ""),
    ("local_dns", ""),
    (
        "prerouting",
        "type nat hook prerouting priority -100; policy accept;",
    ),
    (
        "output",
        "type nat hook output priority -100; policy accept;",
    ),
    (
        "postrouting",
        "type nat hook postrouting priority 100; policy accept;",
    ),
    (
        "refuse",
        "type filter hook prerouting priority -90; policy accept;",
    ),
    (
        "forward",
        "type filter hook forward priority 0; policy accept;",
    ),
    (
        "output_filter",
        "type filter hook output priority 0; policy accept;",
    ),
    (
        "input_filter",
        "type filter hook input priority 0; policy accept;",
    ),
];

fn fixed_rules(out: &mut String, layout: &Layout) {
    let Layout {
        table: t,
        bridge,
        pod_cidr,
        service_cidr,
        gateway,
        dns_ip,
        dns_port,
    } = layout;
    let mut rule = |chain: &str, text: String| {
        let _ = writeln!(out, "add rule ip {t} {chain} {text}");
    };
    rule("prerouting", "jump translate".into());
    rule("output", "jump translate".into());

    let dns_addresses = if *dns_port == 53 {
        format!("{{ {dns_ip} }}")
    } else {
        format!("{{ {dns_ip}, {gateway} }}")
    };
    rule(
        "translate",
        format!("ip daddr {dns_addresses} meta l4proto {{ tcp, udp }} th dport 53 goto local_dns"),
    );
    for protocol in ["tcp", "udp"] {
        rule(
            "local_dns",
            format!("meta l4proto {protocol} dnat to {gateway}:{dns_port}"),
        );
    }
    rule(
        "translate",
        "ip daddr . meta l4proto . th dport vmap @service_addresses".into(),
    );
    // Loopback is the supervising process's: a translated packet from 127.0.0.1 could not leave the machine.
    rule("translate", "ip daddr 127.0.0.0/8 return".into());
    rule(
        "translate",
        "fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @published_at"
            .into(),
    );
    rule(
        "translate",
        "fib daddr type local dnat ip to meta l4proto . th dport map @published_any".into(),
    );
    rule(
        "translate",
        "fib daddr type local meta l4proto . th dport vmap @node_ports".into(),
    );

    rule(
        "postrouting",
        "ct status dnat ip saddr . ip daddr @hairpin masquerade fully-random".into(),
    );
    rule(
        "postrouting",
        format!("ip saddr {pod_cidr} oifname != \"{bridge}\" masquerade fully-random"),
    );

    // Nothing but translated connections belongs to a service address: refuse at once rather than time out. TCP by a
    // reset, because ICMP errors are limited to about one a second for each client. Before routing, where a packet
    // that would go back to the bridge makes the kernel spend that allowance on a redirect.
    for chain in ["refuse", "output_filter"] {
        rule(
            chain,
            format!("ip daddr {service_cidr} meta l4proto tcp reject with tcp reset"),
        );
        rule(
            chain,
            format!("ip daddr {service_cidr} reject with icmp port-unreachable"),
        );
    }
    // Others on the machine's networks reach containers by published ports and services, not by routing to them.
    rule(
        "forward",
        format!(
            "iifname != \"{bridge}\" oifname \"{bridge}\" ct state new ct status ! dnat reject with icmp admin-prohibited"
        ),
    );
    // Containers reach each other through the gateway on purpose: telling them of a shorter way would undo translation.
    rule(
        "output_filter",
        format!("oifname \"{bridge}\" icmp type redirect drop"),
    );
    // The cluster's DNS is for this machine and its containers.
    rule(
        "input_filter",
        format!(
            "iifname != {{ \"{bridge}\", \"lo\" }} ip daddr {gateway} meta l4proto {{ tcp, udp }} th dport {dns_port} reject with icmp port-unreachable"
        ),
    );
}

fn difference_into(out: &mut String, layout: &Layout, from: &Plan, to: &Plan) {
    let t = &layout.table;
    for (name, chain) in &to.chains {
        match from.chains.get(name) {
            Some(before) if before == chain => continue,
            Some(_) => {
                let _ = writeln!(out, "flush chain ip {t} {name}");
            }
            None => {
                let _ = writeln!(out, "add chain ip {t} {name}");
            }
        }
        let _ = writeln!(out, "add rule ip {t} {name} {}", balance(chain));
    }
    let verdict = |chain: &String| format!("goto {chain}");
    elements(
        out,
        t,
        "service_addresses",
        &from.addresses,
        &to.addresses,
        |k| format!("{} . {} . {}", k.0, k.1, k.2),
        verdict,
    );
    elements(
        out,
        t,
        "node_ports",
        &from.node_ports,
        &to.node_ports,
        |k| format!("{} . {}", k.0, k.1),
        verdict,
    );
    let target = |target: &SocketAddrV4| format!("{} . {}", target.ip(), target.port());
    elements(
        out,
        t,
        "published_any",
        &from.published_any,
        &to.published_any,
        |k| format!("{} . {}", k.0, k.1),
        target,
    );
    elements(
        out,
        t,
        "published_at",
        &from.published_at,
        &to.published_at,
        |k| format!("{} . {} . {}", k.0, k.1, k.2),
        target,
    );
    let unit = |plan: &Plan| -> BTreeMap<Ipv4Addr, ()> {
        plan.targets()
            .into_iter()
            .map(|address| (address, ()))
            .collect()
    };
    elements(
        out,
        t,
        "hairpin",
        &unit(from),
        &unit(to),
        |a| format!("{a} . {a}"),
        |()| String::new(),
    );
    for name in from
        .chains
        .keys()
        .filter(|name| !to.chains.contains_key(*name))
    {
        let _ = writeln!(out, "flush chain ip {t} {name}\ndelete chain ip {t} {name}");
    }
}

/// One rule that sends a connection to one of the endpoints, each equally likely.
fn balance(chain: &Chain) -> String {
    let protocol = chain.protocol;
    let mut endpoints = chain.endpoints.iter();
    match (endpoints.next(), chain.endpoints.len()) {
        (Some(only), 1) => format!("meta l4proto {protocol} dnat to {only}"),
        (_, count) => {
            let choices: Vec<String> = chain
                .endpoints
                .iter()
                .enumerate()
                .map(|(index, endpoint)| {
                    format!("{index} : {} . {}", endpoint.ip(), endpoint.port())
                })
                .collect();
            format!(
                "meta l4proto {protocol} dnat ip to numgen random mod {count} map {{ {} }}",
                choices.join(", ")
            )
        }
    }
}

/// Deletes and adds the elements that differ. A changed value is both: a map has no "replace".
fn elements<K: Ord, V: PartialEq>(
    out: &mut String,
    table: &str,
    map: &str,
    from: &BTreeMap<K, V>,
    to: &BTreeMap<K, V>,
    key_text: impl Fn(&K) -> String,
    value_text: impl Fn(&V) -> String,
) {
    let element = |(key, value): (&K, &V)| match value_text(value) {
        value if value.is_empty() => key_text(key),
        value => format!("{} : {value}", key_text(key)),
    };
    let differs = |a: &BTreeMap<K, V>, (key, value): &(&K, &V)| a.get(key) != Some(value);
    let gone: Vec<String> = from
        .iter()
        .filter(|e| differs(to, e))
        .map(element)
        .collect();
    let new: Vec<String> = to
        .iter()
        .filter(|e| differs(from, e))
        .map(element)
        .collect();
    for (verb, list) in [("delete", gone), ("add", new)] {
        if !list.is_empty() {
            let _ = writeln!(
                out,
                "{verb} element ip {table} {map} {{ {} }}",
                list.join(", ")
            );
        }
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
