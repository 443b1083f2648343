//! What the rules should be: sets and maps as plain data, worked out from services, policies and published ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;

use crate::{Allowance, PodPolicy, Protocol, Published, Service, ServicePort, names};

/// Longest chain name used; nft takes 127 bytes.
const CHAIN_NAME_BYTES_MAX: usize = 120;

/// The variable part of an instance's table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// Chains of service ports, each with its endpoints.
    pub chains: BTreeMap<String, Chain>,
    /// Chains that choose among those by where a connection comes from.
    pub doors: BTreeMap<String, Door>,
    /// (service or external address, protocol, port) → chain or door.
    pub addresses: BTreeMap<(Ipv4Addr, Protocol, u16), String>,
    /// (protocol, port of this machine) → chain or door.
    pub node_ports: BTreeMap<(Protocol, u16), String>,
    /// (protocol, port of this machine) → container, on every address.
    pub published_any: BTreeMap<(Protocol, u16), SocketAddrV4>,
    /// (address of this machine, protocol, port) → container.
    pub published_at: BTreeMap<(Ipv4Addr, Protocol, u16), SocketAddrV4>,
    /// Pod → chain of what may reach it.
    pub ingress: BTreeMap<Ipv4Addr, String>,
    /// Pod → chain of what it may reach.
    pub egress: BTreeMap<Ipv4Addr, String>,
    /// The chains of both, named by their content: pods under the same policies share one.
    pub permits: BTreeMap<String, Permits>,
}

/// The chain of one service port.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chain {
    pub protocol: Protocol,
    /// None: a local policy found none here, packets are dropped.
    pub endpoints: BTreeSet<SocketAddrV4>,
    /// Seconds for which a client stays with its endpoint.
    pub affinity_seconds: Option<u32>,
}

/// The way in from outside, where it is not the same for everybody.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Door {
    /// Who may come in, beside this machine; empty: everybody.
    pub sources: BTreeSet<Ipv4Net>,
    /// Chain for pods and this machine.
    pub inside: String,
    /// Chain for the others.
    pub outside: String,
}

/// A chain of permissions; what none of them covers is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Permits {
    pub direction: Direction,
    pub allowances: Vec<Allowance>,
}

/// Which side of a connection the peers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    Ingress,
    Egress,
}

impl Plan {
    /// Replaces everything that services determine. A port without endpoints gets no element: what is sent to it falls
    /// through to the rule that refuses the rest of the service range. `reserved` belongs to the DNS server.
    pub fn set_services(&mut self, services: &[Service], reserved: Ipv4Addr) {
        self.chains.clear();
        self.doors.clear();
        self.addresses.clear();
        self.node_ports.clear();
        for service in services.iter().filter(|s| s.external_name.is_none()) {
            for port in service.ports.iter().filter(|p| !p.endpoints.is_empty()) {
                self.add_port(service, port, reserved);
            }
        }
    }

    fn add_port(&mut self, service: &Service, port: &ServicePort, reserved: Ipv4Addr) {
        let key = |address: Ipv4Addr| (address, port.protocol, port.port);
        if let Some(address) = service
            .cluster_ip
            .filter(|address| (*address, port.port) != (reserved, 53))
        {
            let chain = self.chain(service, port, service.internal_local);
            self.addresses.insert(key(address), chain);
        }
        if let Some(node_port) = port.node_port {
            let way = self.way_in(service, port, &[]);
            self.node_ports.insert((port.protocol, node_port), way);
        }
        for (addresses, sources) in [
            (&service.external_ips, &[][..]),
            (&service.balancer_ips, &service.source_ranges[..]),
        ] {
            for address in addresses {
                let way = self.way_in(service, port, sources);
                // Of two services that claim an address's port the first keeps it.
                self.addresses.entry(key(*address)).or_insert(way);
            }
        }
    }

    /// The chain that balances over a port's endpoints, or over those of this machine.
    fn chain(&mut self, service: &Service, port: &ServicePort, local: bool) -> String {
        let (endpoints, suffix) = if local {
            (&port.local_endpoints, "/local")
        } else {
            (&port.endpoints, "")
        };
        let name = name("svc", service, port, suffix);
        self.chains.entry(name.clone()).or_insert_with(|| Chain {
            protocol: port.protocol,
            endpoints: endpoints.iter().copied().collect(),
            affinity_seconds: service.affinity_seconds,
        });
        name
    }

    /// Where connections from other machines go.
    fn way_in(&mut self, service: &Service, port: &ServicePort, sources: &[Ipv4Net]) -> String {
        // Pods and this machine take the short way to any endpoint, whatever the policy says of the others.
        let inside = self.chain(service, port, false);
        if !service.external_local && sources.is_empty() {
            return inside;
        }
        let outside = self.chain(service, port, service.external_local);
        let suffix = if sources.is_empty() { "" } else { "/balancer" };
        let name = name("door", service, port, suffix);
        self.doors.insert(
            name.clone(),
            Door {
                sources: sources.iter().copied().collect(),
                inside,
                outside,
            },
        );
        name
    }

    /// Replaces everything that policies determine. Of two entries for an address the last counts.
    pub fn set_policies(&mut self, policies: &[PodPolicy]) {
        self.ingress.clear();
        self.egress.clear();
        self.permits.clear();
        for pod in policies {
            if let Some(allowances) = &pod.ingress {
                let chain = self.permit(Direction::Ingress, allowances);
                self.ingress.insert(pod.address, chain);
            }
            if let Some(allowances) = &pod.egress {
                let chain = self.permit(Direction::Egress, allowances);
                self.egress.insert(pod.address, chain);
            }
        }
    }

    /// The chain with these permissions.
    fn permit(&mut self, direction: Direction, allowances: &[Allowance]) -> String {
        let wanted = Permits {
            direction,
            allowances: allowances.to_vec(),
        };
        let prefix = match direction {
            Direction::Ingress => "in",
            Direction::Egress => "out",
        };
        let text = format!("{:?}", wanted.allowances);
        // Whoever writes a policy must not be able to land in another one's chain by a hash that meets.
        for salt in 0.. {
            let hash = names::fnv(format!("{salt}{text}").as_bytes());
            let name = format!("{prefix}-{hash:016x}");
            match self.permits.get(&name) {
                Some(there) if *there != wanted => continue,
                Some(_) => return name,
                None => {
                    self.permits.insert(name.clone(), wanted);
                    return name;
                }
            }
        }
        unreachable!("there are fewer chains than salts")
    }

    /// Replaces all published ports. Loopback and IPv6 addresses are the supervising process's. Of two that claim the
    /// same port the first keeps it.
    pub fn set_published<'a>(&mut self, published: impl Iterator<Item = &'a Published>) {
        self.published_any.clear();
        self.published_at.clear();
        for port in published {
            let key = (port.protocol, port.host_port);
            match port.host_ip {
                None => {
                    self.published_any.entry(key).or_insert(port.target);
                }
                Some(IpAddr::V4(address)) if address.is_unspecified() => {
                    self.published_any.entry(key).or_insert(port.target);
                }
                Some(IpAddr::V4(address)) if !address.is_loopback() => {
                    self.published_at
                        .entry((address, key.0, key.1))
                        .or_insert(port.target);
                }
                Some(_) => {}
            }
        }
    }

    /// Every address that connections are translated to. A connection that such an address makes to itself has to be
    /// masqueraded, or its answers would never come by here to be translated back.
    pub fn targets(&self) -> BTreeSet<Ipv4Addr> {
        self.chains
            .values()
            .flat_map(|chain| chain.endpoints.iter())
            .chain(self.published_any.values())
            .chain(self.published_at.values())
            .map(|target| *target.ip())
            .collect()
    }

    /// The endpoints to which a chain or a door can lead.
    pub fn endpoints_behind(&self, name: &str) -> BTreeSet<SocketAddrV4> {
        let of_chain = |name: &str| {
            let endpoints = self.chains.get(name).map(|chain| chain.endpoints.clone());
            endpoints.unwrap_or_default()
        };
        match self.doors.get(name) {
            Some(door) => &of_chain(&door.inside) | &of_chain(&door.outside),
            None => of_chain(name),
        }
    }
}

/// `KIND-HASH-NAMESPACE/NAME/PROTOCOL/PORT`: the hash keeps cut or altered names apart, the rest is for people.
fn name(kind: &str, service: &Service, port: &ServicePort, suffix: &str) -> String {
    let (protocol, number) = (port.protocol, port.port);
    readable_name(
        kind,
        &format!(
            "{}/{}/{protocol}/{number}{suffix}",
            service.namespace, service.name
        ),
    )
}

/// `KIND-HASH-TEXT`, with nothing in it that nft's parser could take for anything but a name.
pub(crate) fn readable_name(kind: &str, text: &str) -> String {
    let hash = names::fnv(text.as_bytes());
    // Names come from the API, which has checked them; nothing else may ever reach nft's parser.
    let safe: String = text
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '/' | '.'))
        .collect();
    let mut name = format!("{kind}-{hash:016x}-{safe}");
    name.truncate(CHAIN_NAME_BYTES_MAX);
    name
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
