//! What the rules should be: sets and maps as plain data, worked out from services and published ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use crate::{Protocol, Published, Service, names};

/// Longest chain name used; nft takes 127 bytes.
const CHAIN_NAME_BYTES_MAX: usize = 120;

/// The variable part of an instance's table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// Chains of service ports, each with its endpoints (never empty).
    pub chains: BTreeMap<String, Chain>,
    /// (service address, protocol, port) → chain.
    pub addresses: BTreeMap<(Ipv4Addr, Protocol, u16), String>,
    /// (protocol, port of this machine) → chain.
    pub node_ports: BTreeMap<(Protocol, u16), String>,
    /// (protocol, port of this machine) → container, on every address.
    pub published_any: BTreeMap<(Protocol, u16), SocketAddrV4>,
    /// (address of this machine, protocol, port) → container.
    pub published_at: BTreeMap<(Ipv4Addr, Protocol, u16), SocketAddrV4>,
}

/// The chain of one service port.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chain {
    pub protocol: Protocol,
    pub endpoints: BTreeSet<SocketAddrV4>,
}

impl Plan {
    /// Replaces everything that services determine. A port without endpoints gets no element: what is sent to it falls
    /// through to the rule that refuses the rest of the service range. `reserved` belongs to the DNS server.
    pub fn set_services(&mut self, services: &[Service], reserved: Ipv4Addr) {
        self.chains.clear();
        self.addresses.clear();
        self.node_ports.clear();
        for service in services.iter().filter(|s| s.external_name.is_none()) {
            for port in service.ports.iter().filter(|p| !p.endpoints.is_empty()) {
                let own_address = service
                    .cluster_ip
                    .filter(|address| (*address, port.port) != (reserved, 53));
                if own_address.is_none() && port.node_port.is_none() {
                    continue;
                }
                let name = chain_name(service, port.protocol, port.port);
                if let Some(address) = own_address {
                    self.addresses
                        .insert((address, port.protocol, port.port), name.clone());
                }
                if let Some(node_port) = port.node_port {
                    self.node_ports
                        .insert((port.protocol, node_port), name.clone());
                }
                self.chains.insert(
                    name,
                    Chain {
                        protocol: port.protocol,
                        endpoints: port.endpoints.iter().copied().collect(),
                    },
                );
            }
        }
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
}

/// `svc-HASH-NAMESPACE/NAME/PROTOCOL/PORT`: the hash keeps cut or altered names apart, the rest is for people.
fn chain_name(service: &Service, protocol: Protocol, port: u16) -> String {
    let readable = format!("{}/{}/{protocol}/{port}", service.namespace, service.name);
    let hash = names::fnv(readable.as_bytes());
    // Names come from the API, which has checked them; nothing else may ever reach nft's parser.
    let safe: String = readable
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '/' | '.'))
        .collect();
    let mut name = format!("svc-{hash:016x}-{safe}");
    name.truncate(CHAIN_NAME_BYTES_MAX);
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServicePort;

    fn service(name: &str, port: ServicePort) -> Service {
        Service {
            namespace: "default".into(),
            name: name.into(),
            cluster_ip: Some(Ipv4Addr::new(10, 112, 0, 9)),
            ports: vec![port],
            ..Service::default()
        }
    }

    fn port(endpoints: &[&str]) -> ServicePort {
        ServicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
            endpoints: endpoints.iter().map(|e| e.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn a_port_without_endpoints_has_no_element() {
        let mut plan = Plan::default();
        plan.set_services(
            &[
                service("web", port(&[])),
                service("api", port(&["10.64.0.2:80"])),
            ],
            Ipv4Addr::UNSPECIFIED,
        );
        assert_eq!(plan.addresses.len(), 1);
        assert_eq!(plan.chains.len(), 1);
        assert_eq!(
            plan.targets(),
            BTreeSet::from([Ipv4Addr::new(10, 64, 0, 2)])
        );
    }

    #[test]
    fn the_dns_servers_own_port_cannot_be_taken() {
        let mut dns = port(&["10.64.0.2:53"]);
        dns.port = 53;
        let mut plan = Plan::default();
        plan.set_services(&[service("kube-dns", dns)], Ipv4Addr::new(10, 112, 0, 9));
        assert_eq!(plan, Plan::default());
    }

    #[test]
    fn names_never_carry_syntax() {
        let hostile = service("a; flush ruleset; \"{}\n", port(&["10.64.0.2:80"]));
        let name = chain_name(&hostile, Protocol::Tcp, 80);
        assert!(name.ends_with("-default/aflushruleset/tcp/80"), "{name}");
        let long = service(&"x".repeat(300), port(&[]));
        let other = service(&"x".repeat(301), port(&[]));
        let name = chain_name(&long, Protocol::Tcp, 80);
        assert_eq!(name.len(), CHAIN_NAME_BYTES_MAX);
        assert_ne!(name, chain_name(&other, Protocol::Tcp, 80));
    }

    #[test]
    fn published_ports_leave_loopback_and_v6_to_the_supervisor() {
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
        ];
        let mut plan = Plan::default();
        plan.set_published(list.iter());
        let any: Vec<u16> = plan.published_any.keys().map(|key| key.1).collect();
        assert_eq!(any, [1, 2]);
        let at: Vec<u16> = plan.published_at.keys().map(|key| key.2).collect();
        assert_eq!(at, [6]);
    }
}
