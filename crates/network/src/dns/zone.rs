//! What the cluster's names mean, as an immutable index. Follows the Kubernetes DNS-Based Service Discovery
//! specification, version 1.1.0 (kubernetes/dns, docs/specification.md).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::RwLock;

use crate::{Service, ServiceHost, ServicePort};

/// The zone that is being served; replaced whole.
#[derive(Clone)]
pub(crate) struct SharedZone(Arc<RwLock<Arc<Zone>>>);

impl SharedZone {
    pub fn new(zone: Zone) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(zone))))
    }

    pub fn set(&self, zone: Zone) {
        *self.0.write() = Arc::new(zone);
    }

    pub fn get(&self) -> Arc<Zone> {
        self.0.read().clone()
    }
}

/// All names of the cluster at one moment.
#[derive(Debug)]
pub(crate) struct Zone {
    apex: String,
    /// Lower-case names without the final dot. A name that only has names below it is here too, with nothing in it.
    names: HashMap<String, Node>,
    reverse: HashMap<IpAddr, Vec<String>>,
    /// Ranges of pods.
    pods: Vec<IpNet>,
    /// Ranges of services. Reverse names of both are ours to answer.
    services: Vec<IpNet>,
    /// Whether services are known; until then "no such name" would be a lie that clients remember.
    known: bool,
}

/// What one name has.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Node {
    pub addresses: Vec<IpAddr>,
    /// (port, target)
    pub services: Vec<(u16, String)>,
    pub alias: Option<String>,
    pub text: Option<String>,
}

/// The answer to "is this ours".
#[derive(Debug, PartialEq)]
pub(crate) enum Found<'a> {
    Node(&'a Node),
    /// Addresses that follow from the name itself (`10-64-0-2.NAMESPACE.pod`).
    Address(IpAddr),
    Reverse(&'a [String]),
    /// Ours, and there is no such name.
    Missing,
    /// Somebody else's.
    Outside,
}

impl Zone {
    /// Indexes services.
    pub fn new(
        domain: &str,
        dns_ip: Ipv4Addr,
        services: &[Service],
        pods: Vec<IpNet>,
        service_ranges: Vec<IpNet>,
    ) -> Self {
        let mut zone = Self {
            apex: domain.trim_end_matches('.').to_ascii_lowercase(),
            names: HashMap::new(),
            reverse: HashMap::new(),
            pods,
            services: service_ranges,
            known: true,
        };
        let apex = zone.apex.clone();
        zone.names.insert(apex.clone(), Node::default());
        zone.at(&format!("svc.{apex}"));
        zone.at(&format!("pod.{apex}"));
        if let Some(node) = zone.at(&format!("dns-version.{apex}")) {
            node.text = Some("1.1.0".into());
        }
        let server = format!("ns.dns.{apex}");
        if let Some(node) = zone.at(&server) {
            node.addresses.push(dns_ip.into());
        }
        for service in services {
            zone.add(service);
        }
        zone
    }

    /// The zone of a server that has not been told of services yet.
    pub fn unknown(
        domain: &str,
        dns_ip: Ipv4Addr,
        pods: Vec<IpNet>,
        service_ranges: Vec<IpNet>,
    ) -> Self {
        Self {
            known: false,
            ..Self::new(domain, dns_ip, &[], pods, service_ranges)
        }
    }

    /// Whether a name that is missing here does not exist.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// The domain itself, lower-case, without the final dot.
    pub fn apex(&self) -> &str {
        &self.apex
    }

    /// Looks a lower-case name without its final dot up.
    pub fn find(&self, name: &str) -> Found<'_> {
        if let Some(node) = self.names.get(name) {
            return Found::Node(node);
        }
        if let Some(address) = reverse_address(name) {
            let mut ranges = self.pods.iter().chain(&self.services);
            if !ranges.any(|range| range.contains(&address)) {
                return Found::Outside;
            }
            return match self.reverse.get(&address) {
                Some(names) => Found::Reverse(names),
                None => Found::Missing,
            };
        }
        let Some(below) = name.strip_suffix(self.apex.as_str()) else {
            return Found::Outside;
        };
        if !below.is_empty() && !below.ends_with('.') {
            return Found::Outside;
        }
        match self.pod_address(below) {
            Some(address) => Found::Address(address),
            None => Found::Missing,
        }
    }

    /// `10-64-0-2.NAMESPACE.pod.`, or `fd00--2.NAMESPACE.pod.`, when the address is a pod's.
    fn pod_address(&self, below: &str) -> Option<IpAddr> {
        let mut labels = below.strip_suffix(".pod.")?.split('.');
        let (address, _namespace) = (labels.next()?, labels.next()?);
        let v4 = address
            .replace('-', ".")
            .parse::<Ipv4Addr>()
            .map(IpAddr::V4);
        let v6 = || {
            address
                .replace('-', ":")
                .parse::<Ipv6Addr>()
                .map(IpAddr::V6)
        };
        let address = v4.or_else(|_| v6()).ok()?;
        let a_pods = self.pods.iter().any(|range| range.contains(&address));
        (labels.next().is_none() && a_pods).then_some(address)
    }

    fn add(&mut self, service: &Service) {
        let base = format!("{}.{}.svc.{}", service.name, service.namespace, self.apex)
            .to_ascii_lowercase();
        if let Some(target) = &service.external_name {
            let target = target.trim_end_matches('.').to_ascii_lowercase();
            if let (Some(node), true) = (self.at(&base), is_name(&target)) {
                node.alias = Some(target);
            }
            return;
        }
        if !service.cluster_ips.is_empty() {
            let Some(node) = self.at(&base) else { return };
            node.addresses = service.cluster_ips.clone();
            for port in &service.ports {
                self.add_srv(&base, port, port.port, &base);
            }
            for address in &service.cluster_ips {
                self.reverse.entry(*address).or_default().push(base.clone());
            }
            return;
        }
        for host in headless_hosts(service) {
            let label = host
                .hostname
                .clone()
                .unwrap_or_else(|| host.address.to_string().replace(['.', ':'], "-"))
                .to_ascii_lowercase();
            let full = format!("{label}.{base}");
            for at in [&base, &full] {
                if let Some(node) = self.at(at)
                    && !node.addresses.contains(&host.address)
                {
                    node.addresses.push(host.address);
                }
            }
            for port in &service.ports {
                // The endpoint's own port: a headless service translates nothing.
                let of_host = port.endpoints.iter().find(|e| e.ip() == host.address);
                let number = of_host.map_or(port.port, |endpoint| endpoint.port());
                self.add_srv(&base, port, number, &full);
            }
            self.reverse.entry(host.address).or_default().push(full);
        }
    }

    fn add_srv(&mut self, base: &str, port: &ServicePort, number: u16, target: &str) {
        if port.name.is_empty() {
            return;
        }
        let label = port.name.to_ascii_lowercase();
        if let Some(node) = self.at(&format!("_{label}._{}.{base}", port.protocol)) {
            let service = (number, target.to_owned());
            // Of a host with both families there is one.
            if !node.services.contains(&service) {
                node.services.push(service);
            }
        }
    }

    /// The node of a name, made with all that lie between it and the apex; `None` for what DNS cannot carry.
    fn at(&mut self, full: &str) -> Option<&mut Node> {
        if !is_name(full) {
            return None;
        }
        let mut rest = full;
        while rest.len() > self.apex.len() && !self.names.contains_key(rest) {
            self.names.insert(rest.to_owned(), Node::default());
            rest = rest.split_once('.')?.1;
        }
        self.names.get_mut(full)
    }
}

/// The addresses behind a headless service: those given, or those of its ports.
/// Whether services, in the same order, have the same names: endpoints of those with an address of their own have none.
pub(crate) fn same_names(before: &[Service], after: &[Service]) -> bool {
    let ports = |service: &Service| -> Vec<_> {
        let ports = service.ports.iter();
        ports
            .map(|p| (p.name.clone(), p.protocol, p.port))
            .collect()
    };
    let same = |(a, b): (&Service, &Service)| {
        let named = |service: &Service| {
            (
                service.namespace.clone(),
                service.name.clone(),
                service.cluster_ips.clone(),
                service.external_name.clone(),
            )
        };
        a == b || !a.cluster_ips.is_empty() && named(a) == named(b) && ports(a) == ports(b)
    };
    before.len() == after.len() && before.iter().zip(after).all(same)
}

fn headless_hosts(service: &Service) -> Vec<ServiceHost> {
    if !service.hosts.is_empty() {
        return service.hosts.clone();
    }
    let mut addresses: Vec<IpAddr> = service
        .ports
        .iter()
        .flat_map(|port| port.endpoints.iter().map(|endpoint| endpoint.ip()))
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
        .into_iter()
        .map(|address| ServiceHost {
            hostname: None,
            address,
        })
        .collect()
}

/// The address of a complete reverse name.
fn reverse_address(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let forward: Vec<&str> = digits.rsplit('.').collect();
        return forward.join(".").parse().ok().map(IpAddr::V4);
    }
    // RFC 3596, 2.5: thirty-two hexadecimal digits.
    let digits = name.strip_suffix(".ip6.arpa")?;
    let (mut number, mut count) = (0u128, 0);
    for digit in digits.rsplit('.') {
        let one = u128::from_str_radix(digit, 16).ok()?;
        count += 1;
        if digit.len() != 1 || count > 32 {
            return None;
        }
        number = (number << 4) | one;
    }
    (count == 32).then(|| Ipv6Addr::from(number).into())
}

/// Whether DNS can carry it (RFC 1035, 2.3.4).
fn is_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|label| (1..=63).contains(&label.len()))
}
