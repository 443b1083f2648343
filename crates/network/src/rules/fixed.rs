//! What every instance's table has, whatever services and policies there are: its maps, its chains and where they hook in.

use std::fmt::Write;

use super::text::Layout;

/// Maps by name, with the types of their elements.
pub(super) const MAPS: [(&str, &str); 6] = [
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
    ("policed_ingress", "ipv4_addr : verdict"),
    ("policed_egress", "ipv4_addr : verdict"),
];

/// Sets by name, likewise: pairs of an address with itself, and endpoints that are not on the bridge.
pub(super) const SETS: [(&str, &str); 2] =
    [("hairpin", "ipv4_addr . ipv4_addr"), ("far", "ipv4_addr")];

/// Chains by name, with where they hook in.
pub(super) const CHAINS: [(&str, &str); 11] = [
    ("translate", ""),
    ("local_dns", ""),
    ("police", ""),
    (
        "guard",
        "type filter hook prerouting priority -150; policy accept;",
    ),
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

/// The rules of [`CHAINS`].
pub(super) fn rules(out: &mut String, layout: &Layout) {
    let table = &layout.table;
    let mut rule = |chain: &str, text: String| {
        let _ = writeln!(out, "add rule ip {table} {chain} {text}");
    };
    guarding(layout, &mut rule);
    translation(layout, &mut rule);
    masquerading(layout, &mut rule);
    filtering(layout, &mut rule);
}

/// Before anything is translated.
fn guarding(layout: &Layout, rule: &mut impl FnMut(&str, String)) {
    let Layout {
        bridge,
        gateway,
        dns_ip,
        dns_port,
        ..
    } = layout;
    // The bridge lets packets of loopback through for the sake of node ports; pods have no business there.
    for side in ["saddr", "daddr"] {
        rule(
            "guard",
            format!("iifname \"{bridge}\" ip {side} 127.0.0.0/8 drop"),
        );
    }
    // Questions to the DNS server go to this machine, which policies leave alone; they count as traffic to a pod. Here
    // they still have the address and port that was asked.
    let ports = if *dns_port == 53 {
        "53".to_owned()
    } else {
        format!("{{ 53, {dns_port} }}")
    };
    rule(
        "guard",
        format!(
            "iifname \"{bridge}\" ip daddr {{ {dns_ip}, {gateway} }} meta l4proto {{ tcp, udp }} th dport {ports} ct state new ip saddr vmap @policed_egress"
        ),
    );
}

fn translation(layout: &Layout, rule: &mut impl FnMut(&str, String)) {
    let Layout {
        gateway,
        dns_ip,
        dns_port,
        ..
    } = layout;
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
    // Published ports on loopback are the supervising process's: only node ports are translated there.
    rule(
        "translate",
        "ip daddr 127.0.0.0/8 meta l4proto . th dport vmap @node_ports".into(),
    );
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
}

fn masquerading(layout: &Layout, rule: &mut impl FnMut(&str, String)) {
    let Layout {
        bridge, pod_cidr, ..
    } = layout;
    rule(
        "postrouting",
        "ct status dnat ip saddr . ip daddr @hairpin masquerade fully-random".into(),
    );
    rule(
        "postrouting",
        format!("ct status dnat ip saddr 127.0.0.0/8 oifname \"{bridge}\" masquerade fully-random"),
    );
    // Somebody else's machine, who knows no way back through this one.
    rule(
        "postrouting",
        "ct status dnat ip daddr @far masquerade fully-random".into(),
    );
    rule(
        "postrouting",
        format!("ip saddr {pod_cidr} oifname != \"{bridge}\" masquerade fully-random"),
    );
}

fn filtering(layout: &Layout, rule: &mut impl FnMut(&str, String)) {
    let Layout {
        bridge,
        service_cidr,
        gateway,
        dns_port,
        ..
    } = layout;
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
    // Policies: what this machine sends to its pods does not come by here. Both sides have to agree; a chain that
    // permits returns.
    rule("forward", "jump police".into());
    rule("police", "ct state established,related return".into());
    // Nothing keeps a pod from itself, by whatever way it takes.
    rule("police", "ip saddr . ip daddr @hairpin return".into());
    // Asked twice: the kernel looks an element up as of the moment of the look, and one that is being replaced at that very
    // moment may be found neither old nor new. The second look comes after that moment.
    for _ in 0..2 {
        rule("police", "ip saddr vmap @policed_egress".into());
        rule("police", "ip daddr vmap @policed_ingress".into());
    }
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
