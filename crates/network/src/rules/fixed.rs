//! What every instance's table has, whatever services and policies there are: its maps, its chains and where they hook in.

use std::fmt::Write;

use super::text::Layout;
use crate::Family;

/// Maps by name, with the types of their elements; `address` is the family's.
const MAPS: [(&str, &str); 6] = [
    (
        "service_addresses",
        "address . inet_proto . inet_service : verdict",
    ),
    ("node_ports", "inet_proto . inet_service : verdict"),
    (
        "published_any",
        "inet_proto . inet_service : address . inet_service",
    ),
    (
        "published_at",
        "address . inet_proto . inet_service : address . inet_service",
    ),
    (POLICED_INGRESS, "address : verdict"),
    (POLICED_EGRESS, "address : verdict"),
];

/// The maps from pods to what policies permit them.
pub(crate) const POLICED_INGRESS: &str = "policed_ingress";
pub(crate) const POLICED_EGRESS: &str = "policed_egress";

/// Sets by name, likewise: pairs of an address with itself, and endpoints that are not on the bridge.
const SETS: [(&str, &str); 2] = [("hairpin", "address . address"), ("far", "address")];

/// Maps and sets: what each is, its name, and the types of its elements in this family.
pub(super) fn containers(
    family: Family,
) -> impl Iterator<Item = (&'static str, &'static str, String)> {
    let types = move |types: &str| types.replace("address", family.address_type());
    let maps = MAPS
        .into_iter()
        .map(move |(name, of)| ("map", name, types(of)));
    maps.chain(
        SETS.into_iter()
            .map(move |(name, of)| ("set", name, types(of))),
    )
}

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
    let table = layout.path();
    let mut rule = |chain: &str, text: String| {
        let _ = writeln!(out, "add rule {table} {chain} {text}");
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
        pod_cidr,
        gateway,
        ..
    } = layout;
    if layout.family == Family::V6 {
        // No other filter of the kernel looks at where a packet claims to be from.
        rule(
            "guard",
            format!("iifname \"{bridge}\" ip6 saddr != {{ {pod_cidr}, fe80::/10, :: }} drop"),
        );
    } else {
        rule(
            "guard",
            format!("iifname \"{bridge}\" ip saddr != {pod_cidr} drop"),
        );
        // The bridge lets packets of loopback through for the sake of node ports; pods have no business there.
        rule(
            "guard",
            format!("iifname \"{bridge}\" ip daddr 127.0.0.0/8 drop"),
        );
    }
    let Some((dns_ip, dns_port)) = &layout.dns else {
        return;
    };
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
            "iifname \"{bridge}\" ip daddr {{ {dns_ip}, {gateway} }} meta l4proto {{ tcp, udp }} th dport {ports} ct state new ip saddr vmap @{POLICED_EGRESS}"
        ),
    );
}

fn translation(layout: &Layout, rule: &mut impl FnMut(&str, String)) {
    let gateway = layout.gateway;
    let ip = layout.family.ip();
    rule("prerouting", "jump translate".into());
    rule("output", "jump translate".into());

    if let Some((dns_ip, dns_port)) = layout.dns {
        let dns_addresses = if dns_port == 53 {
            format!("{{ {dns_ip} }}")
        } else {
            format!("{{ {dns_ip}, {gateway} }}")
        };
        rule(
            "translate",
            format!(
                "ip daddr {dns_addresses} meta l4proto {{ tcp, udp }} th dport 53 goto local_dns"
            ),
        );
        for protocol in ["tcp", "udp"] {
            rule(
                "local_dns",
                format!("meta l4proto {protocol} dnat to {gateway}:{dns_port}"),
            );
        }
    }
    rule(
        "translate",
        format!("{ip} daddr . meta l4proto . th dport vmap @service_addresses"),
    );
    match layout.family {
        // Published ports on loopback are the supervising process's: only node ports are translated there.
        Family::V4 => {
            rule(
                "translate",
                "ip daddr 127.0.0.0/8 meta l4proto . th dport vmap @node_ports".into(),
            );
            rule("translate", "ip daddr 127.0.0.0/8 return".into());
        }
        // The kernel lets nothing from ::1 leave by another interface, nor anything for an address of a link by another
        // link.
        Family::V6 => rule("translate", "ip6 daddr { ::1, fe80::/10 } return".into()),
    }
    rule(
        "translate",
        format!(
            "fib daddr type local dnat {ip} to {ip} daddr . meta l4proto . th dport map @published_at"
        ),
    );
    rule(
        "translate",
        format!("fib daddr type local dnat {ip} to meta l4proto . th dport map @published_any"),
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
    let ip = layout.family.ip();
    rule(
        "postrouting",
        format!("ct status dnat {ip} saddr . {ip} daddr @hairpin masquerade fully-random"),
    );
    if layout.family == Family::V4 {
        rule(
            "postrouting",
            format!(
                "ct status dnat ip saddr 127.0.0.0/8 oifname \"{bridge}\" masquerade fully-random"
            ),
        );
    }
    // Somebody else's machine, who knows no way back through this one.
    rule(
        "postrouting",
        format!("ct status dnat {ip} daddr @far masquerade fully-random"),
    );
    rule(
        "postrouting",
        format!("{ip} saddr {pod_cidr} oifname != \"{bridge}\" masquerade fully-random"),
    );
}

fn filtering(layout: &Layout, rule: &mut impl FnMut(&str, String)) {
    let Layout {
        bridge,
        service_cidr,
        gateway,
        ..
    } = layout;
    let (ip, icmp) = (layout.family.ip(), layout.family.icmp());
    // Nothing but translated connections belongs to a service address: refuse at once rather than time out. TCP by a
    // reset, because ICMP errors are limited to about one a second for each client. Before routing, where a packet
    // that would go back to the bridge makes the kernel spend that allowance on a redirect.
    for chain in ["refuse", "output_filter"] {
        rule(
            chain,
            format!("{ip} daddr {service_cidr} meta l4proto tcp reject with tcp reset"),
        );
        rule(
            chain,
            format!("{ip} daddr {service_cidr} reject with {icmp} port-unreachable"),
        );
    }
    // Others on the machine's networks reach containers by published ports and services, not by routing to them.
    rule(
        "forward",
        format!(
            "iifname != \"{bridge}\" oifname \"{bridge}\" ct state new ct status ! dnat reject with {icmp} admin-prohibited"
        ),
    );
    // Policies: what this machine sends to its pods does not come by here. Both sides have to agree; a chain that
    // permits returns.
    rule("forward", "jump police".into());
    rule("police", "ct state established,related return".into());
    // Nothing keeps a pod from itself, by whatever way it takes.
    rule("police", format!("{ip} saddr . {ip} daddr @hairpin return"));
    // Asked twice: the kernel looks an element up as of the moment of the look, and one that is being replaced at that very
    // moment may be found neither old nor new. The second look comes after that moment.
    for _ in 0..2 {
        rule("police", format!("{ip} saddr vmap @{POLICED_EGRESS}"));
        rule("police", format!("{ip} daddr vmap @{POLICED_INGRESS}"));
    }
    // Containers reach each other through the gateway on purpose: telling them of a shorter way would undo translation.
    let redirect = match layout.family {
        Family::V4 => "redirect",
        Family::V6 => "nd-redirect",
    };
    rule(
        "output_filter",
        format!("oifname \"{bridge}\" {icmp} type {redirect} drop"),
    );
    let Some((_, dns_port)) = layout.dns else {
        return;
    };
    // The cluster's DNS is for this machine and its containers.
    rule(
        "input_filter",
        format!(
            "iifname != {{ \"{bridge}\", \"lo\" }} ip daddr {gateway} meta l4proto {{ tcp, udp }} th dport {dns_port} reject with icmp port-unreachable"
        ),
    );
}
