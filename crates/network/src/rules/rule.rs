//! The rules of the chains that a plan adds, as data, and how nft spells them.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::plan::Direction;
use crate::{Family, Protocol, Transport};

/// One rule. Addresses are of the table's family.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rule {
    /// Drops what comes here.
    Drop,
    /// Goes on in another chain.
    Goto(String),
    /// Sends a connection to the only endpoint.
    Translate { protocol: Protocol, to: SocketAddr },
    /// Sends a connection to one of the endpoints, each equally likely.
    Balance {
        protocol: Protocol,
        endpoints: Vec<SocketAddr>,
    },
    /// Goes on in one of the chains, each equally likely.
    Choose(Vec<String>),
    /// Notes the client in a set, for as long as the set remembers.
    Remember(String),
    /// A client that is noted in `set` goes on in `chain`.
    Known { set: String, chain: String },
    /// Drops what comes from elsewhere than this machine and `sources`; without any, from elsewhere than this machine.
    Exclude { sources: Vec<(IpAddr, IpAddr)> },
    /// What comes from a range goes on in a chain.
    From { range: IpNet, chain: String },
    /// What comes from this machine goes on in a chain.
    Own { chain: String },
    /// Permits.
    Return {
        direction: Direction,
        /// `None`: everybody.
        peers: Option<Vec<(IpAddr, IpAddr)>>,
        /// `None`: any protocol.
        ports: Option<Ports>,
        /// For people; empty: none.
        comment: String,
    },
}

/// Ports of one protocol.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ports {
    pub transport: Transport,
    /// None: all of them.
    pub ranges: Vec<(u16, u16)>,
}

impl Rule {
    /// As nft takes it.
    pub fn text(&self, family: Family) -> String {
        let ip = family.ip();
        match self {
            Rule::Drop => "drop".into(),
            Rule::Goto(chain) => format!("goto {chain}"),
            Rule::Translate { protocol, to } => format!("meta l4proto {protocol} dnat to {to}"),
            Rule::Balance {
                protocol,
                endpoints,
            } => {
                let to = |to: &SocketAddr| format!("{} . {}", to.ip(), to.port());
                format!(
                    "meta l4proto {protocol} dnat {ip} to numgen random mod {} map {{ {} }}",
                    endpoints.len(),
                    numbered(endpoints.iter().map(to))
                )
            }
            Rule::Choose(chains) => format!(
                "numgen random mod {} vmap {{ {} }}",
                chains.len(),
                numbered(chains.iter().map(|chain| format!("goto {chain}")))
            ),
            Rule::Remember(set) => format!("update @{set} {{ {ip} saddr }}"),
            Rule::Known { set, chain } => format!("{ip} saddr @{set} goto {chain}"),
            Rule::Exclude { sources } if sources.is_empty() => {
                "fib saddr type != local drop".into()
            }
            Rule::Exclude { sources } => format!(
                "fib saddr type != local {ip} saddr != {} drop",
                listed(sources)
            ),
            Rule::From { range, chain } => format!("{ip} saddr {range} goto {chain}"),
            Rule::Own { chain } => format!("fib saddr type local goto {chain}"),
            Rule::Return {
                direction,
                peers,
                ports,
                comment,
            } => {
                let side = match direction {
                    Direction::Ingress => "saddr",
                    Direction::Egress => "daddr",
                };
                let mut text = String::new();
                if let Some(peers) = peers {
                    text += &format!("{ip} {side} {} ", listed(peers));
                }
                if let Some(ports) = ports {
                    text += &ports.text();
                }
                text += "return";
                if !comment.is_empty() {
                    text += &format!(" comment \"{comment}\"");
                }
                text
            }
        }
    }
}

impl Ports {
    /// The match, with a space at the end.
    fn text(&self) -> String {
        let transport = self.transport.as_str();
        if self.ranges.is_empty() {
            format!("meta l4proto {transport} ")
        } else {
            format!("{transport} dport {} ", listed(&self.ranges))
        }
    }
}

/// `0 : A, 1 : B`
fn numbered(choices: impl Iterator<Item = String>) -> String {
    let choices: Vec<String> = choices
        .enumerate()
        .map(|(index, choice)| format!("{index} : {choice}"))
        .collect();
    choices.join(", ")
}

/// An anonymous set.
fn listed<T: PartialEq + std::fmt::Display>(ranges: &[(T, T)]) -> String {
    let range = |(first, last): &(T, T)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    let ranges: Vec<String> = ranges.iter().map(range).collect();
    format!("{{ {} }}", ranges.join(", "))
}
