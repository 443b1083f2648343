//! The chains and dynamic sets of a plan, each as its rules.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::plan::{Chain, Door, Permits, Plan, readable_name};
use super::rule::{Ports, Rule};
use super::text::Layout;
use crate::{AddressSet, Family, PortRange, Transport, addresses, names};

/// Longest comment that nft takes, less a margin.
const COMMENT_BYTES_MAX: usize = 120;

/// What the names of sets of clients begin with.
pub(super) const CLIENTS_PREFIX: &str = "clients-";

/// What a plan's chains are made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Rendered {
    /// Sets of clients who were given an endpoint, with the seconds that they are remembered.
    pub clients: BTreeMap<String, u32>,
    /// Chains with their rules.
    pub chains: BTreeMap<String, Vec<Rule>>,
}

/// Renders every chain of a plan.
pub(super) fn render(layout: &Layout, plan: &Plan) -> Rendered {
    let mut all = Rendered::default();
    for (name, chain) in &plan.chains {
        match chain.affinity_seconds {
            _ if chain.endpoints.is_empty() => {
                all.chains.insert(name.clone(), vec![Rule::Drop]);
            }
            Some(seconds) => sticky(&mut all, name, chain, seconds),
            None => {
                all.chains.insert(name.clone(), vec![balance(chain)]);
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
fn balance(chain: &Chain) -> Rule {
    let protocol = chain.protocol;
    let endpoints: Vec<SocketAddr> = chain.endpoints.iter().copied().collect();
    match endpoints[..] {
        [to] => Rule::Translate { protocol, to },
        _ => Rule::Balance {
            protocol,
            endpoints,
        },
    }
}

/// Session affinity as upstream's nftables mode has it: each endpoint has a chain of its own, which notes the client in
/// the endpoint's set with a timeout; clients found in a set go where they went before. The set is named by service
/// port, endpoint and timeout, so it stays when other endpoints come and go, and goes with its own.
fn sticky(all: &mut Rendered, name: &str, chain: &Chain, seconds: u32) {
    let (mut known, mut choices) = (Vec::new(), Vec::new());
    for endpoint in &chain.endpoints {
        let hash = names::fnv(format!("{name} {endpoint} {seconds}").as_bytes());
        let set = format!("{CLIENTS_PREFIX}{hash:016x}");
        let own = endpoint_chain(name, endpoint);
        let to_it = Rule::Translate {
            protocol: chain.protocol,
            to: *endpoint,
        };
        let rules = vec![Rule::Remember(set.clone()), to_it];
        all.chains.insert(own.clone(), rules);
        all.clients.insert(set.clone(), seconds);
        choices.push(own.clone());
        known.push(Rule::Known { set, chain: own });
    }
    known.push(Rule::Choose(choices));
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

fn enter(layout: &Layout, door: &Door) -> Vec<Rule> {
    let mut rules = Vec::new();
    if let Some(blocks) = &door.sources {
        let mut sources = AddressSet::default();
        blocks.iter().for_each(|block| sources.add(*block));
        if !sources.has_all(layout.family) {
            rules.push(Rule::Exclude {
                sources: sources.ranges(layout.family),
            });
        }
    }
    rules.push(Rule::From {
        range: layout.pod_cidr,
        chain: door.inside.clone(),
    });
    rules.push(Rule::Own {
        chain: door.inside.clone(),
    });
    rules.push(Rule::Goto(door.outside.clone()));
    rules
}

/// Permissions return to the chain that asked; whatever is left is dropped.
fn permit(family: Family, permits: &Permits) -> Vec<Rule> {
    let mut rules = Vec::new();
    for allowance in &permits.allowances {
        let peers = match &allowance.peers {
            Some(peers) if peers.has_none(family) => continue,
            Some(peers) if peers.has_all(family) => None,
            Some(peers) => Some(peers.ranges(family)),
            None => None,
        };
        let ports = match &allowance.ports {
            None => vec![None],
            Some(ports) => by_protocol(ports).map(Some).collect(),
        };
        rules.extend(ports.into_iter().map(|ports| Rule::Return {
            direction: permits.direction,
            peers: peers.clone(),
            ports,
            comment: comment(&allowance.policy),
        }));
    }
    rules.push(Rule::Drop);
    rules
}

/// The ports of each protocol that has any.
fn by_protocol(ports: &[PortRange]) -> impl Iterator<Item = Ports> {
    let of = |transport: Transport| {
        let of_this = ports.iter().filter(|range| range.transport == transport);
        let mut ranges: Vec<(u16, u16)> = of_this.map(|range| (range.first, range.last)).collect();
        addresses::merge(&mut ranges, |last| last.checked_add(1));
        match ranges[..] {
            [] => None,
            [(0 | 1, u16::MAX)] => Some(Ports {
                transport,
                ranges: Vec::new(),
            }),
            _ => Some(Ports { transport, ranges }),
        }
    };
    let all = [Transport::Tcp, Transport::Udp, Transport::Sctp].map(of);
    all.into_iter().flatten()
}

fn comment(policy: &str) -> String {
    policy
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '/' | '.'))
        .take(COMMENT_BYTES_MAX)
        .collect()
}
