//! The chains and dynamic sets of a plan, each as its rules.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::plan::{Chain, Direction, Door, Permits, Plan, readable_name};
use super::text::Layout;
use crate::{AddressSet, Family, PortRange, Transport, addresses, names};

/// Longest comment that nft takes, less a margin.
const COMMENT_BYTES_MAX: usize = 120;

/// What the names of sets of clients begin with.
pub(super) const CLIENTS_PREFIX: &str = "clients-";

/// What a plan's chains are made of.
#[derive(Debug, Default)]
pub(super) struct Rendered {
    /// Sets of clients who were given an endpoint, with the seconds that they are remembered.
    pub clients: BTreeMap<String, u32>,
    /// Chains with their rules.
    pub chains: BTreeMap<String, Vec<String>>,
}

/// Renders every chain of a plan.
pub(super) fn render(layout: &Layout, plan: &Plan) -> Rendered {
    let mut all = Rendered::default();
    for (name, chain) in &plan.chains {
        match chain.affinity_seconds {
            _ if chain.endpoints.is_empty() => {
                all.chains.insert(name.clone(), vec!["drop".into()]);
            }
            Some(seconds) => sticky(&mut all, layout.family, name, chain, seconds),
            None => {
                all.chains
                    .insert(name.clone(), vec![balance(layout.family, chain)]);
            }
        }
    }
    for (name, door) in &plan.doors {
        all.chains.insert(name.clone(), enter(layout, door));
    }
    for (name, permits) in &plan.permits {
        all.chains
            .insert(name.clone(), permit(layout.family, permits));
    }
    all
}

/// One rule that sends a connection to one of the endpoints, each equally likely.
fn balance(family: Family, chain: &Chain) -> String {
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
                "meta l4proto {protocol} dnat {} to numgen random mod {count} map {{ {} }}",
                family.ip(),
                choices.join(", ")
            )
        }
    }
}

/// Session affinity as upstream's nftables mode has it: each endpoint has a chain of its own, which notes the client in
/// the endpoint's set with a timeout; clients found in a set go where they went before. The set is named by service
/// port, endpoint and timeout, so it stays when other endpoints come and go, and goes with its own.
fn sticky(all: &mut Rendered, family: Family, name: &str, chain: &Chain, seconds: u32) {
    let ip = family.ip();
    let (mut known, mut choices) = (Vec::new(), Vec::new());
    for (index, endpoint) in chain.endpoints.iter().enumerate() {
        let hash = names::fnv(format!("{name} {endpoint} {seconds}").as_bytes());
        let set = format!("{CLIENTS_PREFIX}{hash:016x}");
        let own = endpoint_chain(name, endpoint);
        all.chains.insert(
            own.clone(),
            vec![
                format!("update @{set} {{ {ip} saddr }}"),
                format!("meta l4proto {} dnat to {endpoint}", chain.protocol),
            ],
        );
        known.push(format!("{ip} saddr @{set} goto {own}"));
        choices.push(format!("{index} : goto {own}"));
        all.clients.insert(set, seconds);
    }
    known.push(format!(
        "numgen random mod {} vmap {{ {} }}",
        choices.len(),
        choices.join(", ")
    ));
    all.chains.insert(name.to_owned(), known);
}

fn endpoint_chain(chain: &str, endpoint: &SocketAddr) -> String {
    let hash = names::fnv(chain.as_bytes());
    readable_name(
        "ep",
        &format!(
            "{hash:016x}/{}/{}",
            endpoint.ip().to_string().replace(':', "."),
            endpoint.port()
        ),
    )
}

fn enter(layout: &Layout, door: &Door) -> Vec<String> {
    let mut rules = Vec::new();
    let (family, ip) = (layout.family, layout.family.ip());
    if let Some(blocks) = &door.sources {
        let mut sources = AddressSet::default();
        blocks.iter().for_each(|block| sources.add(*block));
        if sources.has_none(family) {
            rules.push("fib saddr type != local drop".into());
        } else if let Some(sources) = address_list(family, &sources) {
            rules.push(format!(
                "fib saddr type != local {ip} saddr != {{ {sources} }} drop"
            ));
        }
    }
    rules.push(format!(
        "{ip} saddr {} goto {}",
        layout.pod_cidr, door.inside
    ));
    rules.push(format!("fib saddr type local goto {}", door.inside));
    rules.push(format!("goto {}", door.outside));
    rules
}

/// Permissions return to the chain that asked; whatever is left is dropped.
fn permit(family: Family, permits: &Permits) -> Vec<String> {
    let side = match permits.direction {
        Direction::Ingress => "saddr",
        Direction::Egress => "daddr",
    };
    let mut rules = Vec::new();
    for allowance in &permits.allowances {
        let peers = match &allowance.peers {
            Some(peers) if peers.has_none(family) => continue,
            Some(peers) => address_list(family, peers),
            None => None,
        };
        let peers = peers.map_or_else(String::new, |list| {
            format!("{} {side} {{ {list} }} ", family.ip())
        });
        let comment = comment(&allowance.policy);
        let ports = match &allowance.ports {
            None => vec![String::new()],
            Some(ports) => port_matches(ports),
        };
        for ports in ports {
            rules.push(format!("{peers}{ports}return{comment}"));
        }
    }
    rules.push("drop".into());
    rules
}

/// The elements of an anonymous set; `None` when every address of the family is in it.
fn address_list(family: Family, set: &AddressSet) -> Option<String> {
    if set.has_all(family) {
        return None;
    }
    let range = |(first, last): (IpAddr, IpAddr)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    let ranges = set.ranges(family).into_iter();
    Some(ranges.map(range).collect::<Vec<_>>().join(", "))
}

/// One match for each protocol, with a space at the end.
fn port_matches(ports: &[PortRange]) -> Vec<String> {
    let mut matches = Vec::new();
    for transport in [Transport::Tcp, Transport::Udp, Transport::Sctp] {
        let of_this = ports.iter().filter(|range| range.transport == transport);
        let mut ranges: Vec<(u16, u16)> = of_this.map(|range| (range.first, range.last)).collect();
        addresses::merge(&mut ranges, |last| last.checked_add(1));
        let transport = transport.as_str();
        match ranges[..] {
            [] => continue,
            [(0 | 1, u16::MAX)] => matches.push(format!("meta l4proto {transport} ")),
            _ => {
                let list: Vec<String> = ranges
                    .iter()
                    .map(|(first, last)| {
                        if first == last {
                            first.to_string()
                        } else {
                            format!("{first}-{last}")
                        }
                    })
                    .collect();
                matches.push(format!("{transport} dport {{ {} }} ", list.join(", ")));
            }
        }
    }
    matches
}

fn comment(policy: &str) -> String {
    let safe: String = policy
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '/' | '.'))
        .take(COMMENT_BYTES_MAX)
        .collect();
    if safe.is_empty() {
        String::new()
    } else {
        format!(" comment \"{safe}\"")
    }
}
