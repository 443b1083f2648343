//! What the cluster's names mean, as an immutable index. Follows the Kubernetes DNS-Based Service Discovery
//! specification, version 1.1.0 (kubernetes/dns, docs/specification.md).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::RwLock;

use crate::{Protocol, Service, ServiceHost, ServicePort};

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
    names: Arc<Names>,
    /// Where names of endpoints below services with an address are looked up: they change often, and are few that are
    /// asked for.
    services: Vec<Service>,
    /// Services and hosts of those that an address is one of.
    endpoints: HashMap<IpAddr, Vec<(usize, usize)>>,
}

/// Names that stay when endpoints of services with an address come and go.
#[derive(Debug)]
struct Names {
    apex: String,
    /// Lower-case names without the final dot. A name that only has names below it is here too, with nothing in it.
    names: HashMap<String, Node>,
    reverse: HashMap<IpAddr, Vec<String>>,
    /// Services with an address, by their names: which of all they are.
    services: HashMap<String, usize>,
    /// Ranges of pods.
    pods: Vec<IpNet>,
    /// Ranges of services. Reverse names of both are ours to answer.
    ranges: Vec<IpNet>,
    /// Whether services are known; until then "no such name" would be a lie that clients remember.
    known: bool,
}

/// What one name has.
#[derive(Clone, Debug, Default, PartialEq)]
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
    Node(Cow<'a, Node>),
    /// Addresses that follow from the name itself (`10-64-0-2.NAMESPACE.pod`).
    Address(IpAddr),
    Reverse(Vec<String>),
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
        services: Vec<Service>,
        pods: Vec<IpNet>,
        service_ranges: Vec<IpNet>,
    ) -> Self {
        let mut names = Names {
            apex: domain.trim_end_matches('.').to_ascii_lowercase(),
            names: HashMap::new(),
            reverse: HashMap::new(),
            services: HashMap::new(),
            pods,
            ranges: service_ranges,
            known: true,
        };
        let apex = names.apex.clone();
        names.names.insert(apex.clone(), Node::default());
        names.at(&format!("svc.{apex}"));
        names.at(&format!("pod.{apex}"));
        if let Some(node) = names.at(&format!("dns-version.{apex}")) {
            node.text = Some("1.1.0".into());
        }
        let server = format!("ns.dns.{apex}");
        if let Some(node) = names.at(&server) {
            node.addresses.push(dns_ip.into());
        }
        for (number, service) in services.iter().enumerate() {
            let base = names.add(service);
            if !service.cluster_ips.is_empty() {
                names.services.insert(base, number);
            }
        }
        let of_dns = name_server(dns_ip);
        let is_it =
            |other: &Service| (&other.namespace, &other.name) == (&of_dns.namespace, &of_dns.name);
        if !services.iter().any(is_it) {
            names.add(&of_dns);
        }
        Self::of(Arc::new(names), services)
    }

    /// The same with other endpoints: of services between which and those before only [`Renewal::Endpoints`] is due.
    pub fn with_endpoints(&self, services: Vec<Service>) -> Self {
        Self::of(self.names.clone(), services)
    }

    fn of(names: Arc<Names>, services: Vec<Service>) -> Self {
        let mut endpoints: HashMap<IpAddr, Vec<(usize, usize)>> = HashMap::new();
        for number in names.services.values().copied() {
            let hosts = services.get(number).map_or(&[][..], |s| &s.hosts);
            for (host, of) in hosts.iter().enumerate() {
                endpoints
                    .entry(of.address)
                    .or_default()
                    .push((number, host));
            }
        }
        Self {
            names,
            services,
            endpoints,
        }
    }

    /// The zone of a server that has not been told of services yet.
    pub fn unknown(
        domain: &str,
        dns_ip: Ipv4Addr,
        pods: Vec<IpNet>,
        service_ranges: Vec<IpNet>,
    ) -> Self {
        let mut zone = Self::new(domain, dns_ip, Vec::new(), pods, service_ranges);
        // Nobody else has it yet.
        if let Some(names) = Arc::get_mut(&mut zone.names) {
            names.known = false;
        }
        zone
    }

    /// Whether a name that is missing here does not exist.
    pub fn is_known(&self) -> bool {
        self.names.known
    }

    /// The domain itself, lower-case, without the final dot.
    pub fn apex(&self) -> &str {
        &self.names.apex
    }

    /// Looks a lower-case name without its final dot up.
    pub fn find(&self, name: &str) -> Found<'_> {
        if let Some(node) = self.names.names.get(name) {
            return Found::Node(Cow::Borrowed(node));
        }
        if let Some(address) = reverse_address(name) {
            return self.reverse(address);
        }
        let Some(below) = name.strip_suffix(self.apex()) else {
            return Found::Outside;
        };
        if !below.is_empty() && !below.ends_with('.') {
            return Found::Outside;
        }
        if let Some(node) = self.endpoint(name) {
            return Found::Node(Cow::Owned(node));
        }
        match self.names.pod_address(below) {
            Some(address) => Found::Address(address),
            None => Found::Missing,
        }
    }

    fn reverse(&self, address: IpAddr) -> Found<'_> {
        let mut ranges = self.names.pods.iter().chain(&self.names.ranges);
        if !ranges.any(|range| range.contains(&address)) {
            return Found::Outside;
        }
        let known = self.names.reverse.get(&address);
        let mut all = known.cloned().unwrap_or_default();
        let mut of_services: Vec<String> = self
            .endpoints
            .get(&address)
            .into_iter()
            .flatten()
            .map(|(service, host)| {
                let service = &self.services[*service];
                let label = host_label(&service.hosts[*host]);
                format!("{label}.{}", self.names.base(service))
            })
            .collect();
        of_services.sort_unstable();
        all.append(&mut of_services);
        match all.is_empty() {
            true => Found::Missing,
            false => Found::Reverse(all),
        }
    }

    /// What `LABEL.NAME.NAMESPACE.svc` has, where the service has an address of its own.
    fn endpoint(&self, name: &str) -> Option<Node> {
        let (label, base) = name.split_once('.')?;
        let service = self.services.get(*self.names.services.get(base)?)?;
        let mut node = Node::default();
        for host in service
            .hosts
            .iter()
            .filter(|host| host_label(host) == label)
        {
            node.addresses.push(host.address);
            for port in &service.ports {
                // The endpoint's own port: nothing is translated.
                let mut ends = port.endpoints.iter();
                if let Some(end) = ends.find(|end| end.ip() == host.address) {
                    node.serve(end.port(), name);
                }
            }
        }
        (!node.addresses.is_empty()).then_some(node)
    }
}

impl Node {
    fn serve(&mut self, number: u16, target: &str) {
        let service = (number, target.to_owned());
        // Of a host with both families there is one, and of a number that two protocols have.
        if !self.services.contains(&service) {
            self.services.push(service);
        }
    }
}

impl Names {
    fn base(&self, service: &Service) -> String {
        format!("{}.{}.svc.{}", service.name, service.namespace, self.apex).to_ascii_lowercase()
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

    /// Adds what stays of a service, and returns its name.
    fn add(&mut self, service: &Service) -> String {
        let base = self.base(service);
        if let Some(target) = &service.external_name {
            let target = target.trim_end_matches('.').to_ascii_lowercase();
            if let (Some(node), true) = (self.at(&base), is_name(&target)) {
                node.alias = Some(target);
            }
        } else if service.cluster_ips.is_empty() {
            self.add_headless(&base, service);
        } else if let Some(node) = self.at(&base) {
            node.addresses = service.cluster_ips.clone();
            for port in &service.ports {
                self.add_port(&base, port, port.port, &base);
            }
            for address in &service.cluster_ips {
                self.reverse.entry(*address).or_default().push(base.clone());
            }
        }
        base
    }

    fn add_headless(&mut self, base: &str, service: &Service) {
        let ends: Vec<BTreeMap<IpAddr, u16>> = service.ports.iter().map(numbers).collect();
        for host in headless_hosts(service) {
            let full = format!("{}.{base}", host_label(&host));
            for at in [base, &full] {
                if let Some(node) = self.at(at)
                    && !node.addresses.contains(&host.address)
                {
                    node.addresses.push(host.address);
                }
            }
            for (port, ends) in service.ports.iter().zip(&ends) {
                // A port by a name is not there in every pod.
                if let Some(number) = ends.get(&host.address) {
                    self.add_port(base, port, *number, &full);
                    self.add_service(&full, *number, &full);
                }
            }
            self.reverse.entry(host.address).or_default().push(full);
        }
    }

    /// A port of a service, under its own name if it has one, and under the service's.
    fn add_port(&mut self, base: &str, port: &ServicePort, number: u16, target: &str) {
        self.add_service(base, number, target);
        if !port.name.is_empty() {
            let label = port.name.to_ascii_lowercase();
            let named = format!("_{label}._{}.{base}", port.protocol);
            self.add_service(&named, number, target);
        }
    }

    fn add_service(&mut self, at: &str, number: u16, target: &str) {
        if let Some(node) = self.at(at) {
            node.serve(number, target);
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

/// What of a zone changes with services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Renewal {
    Nothing,
    /// What [`Zone::with_endpoints`] takes.
    Endpoints,
    All,
}

/// What changes from services to others.
pub(crate) fn renewal(before: &[Service], after: &[Service]) -> Renewal {
    if before.len() != after.len() {
        return Renewal::All;
    }
    let each = before.iter().zip(after).map(|(a, b)| match a == b {
        true => Renewal::Nothing,
        false => renewal_of(a, b),
    });
    each.max().unwrap_or(Renewal::Nothing)
}

fn renewal_of(a: &Service, b: &Service) -> Renewal {
    let same_port = |(a, b): (&ServicePort, &ServicePort)| {
        (&a.name, a.protocol, a.port) == (&b.name, b.protocol, b.port)
    };
    let alike = !a.cluster_ips.is_empty()
        && (&a.namespace, &a.name) == (&b.namespace, &b.name)
        && (&a.cluster_ips, &a.external_name) == (&b.cluster_ips, &b.external_name)
        && a.ports.len() == b.ports.len()
        && a.ports.iter().zip(&b.ports).all(same_port);
    let same_end = |(a, b): (&ServicePort, &ServicePort)| a.endpoints == b.endpoints;
    match alike {
        false => Renewal::All,
        true if a.hosts == b.hosts && a.ports.iter().zip(&b.ports).all(same_end) => {
            Renewal::Nothing
        }
        true => Renewal::Endpoints,
    }
}

/// The port that each endpoint has behind a port of its service.
fn numbers(port: &ServicePort) -> BTreeMap<IpAddr, u16> {
    let ends = port.endpoints.iter();
    ends.map(|end| (end.ip(), end.port())).collect()
}

/// What an endpoint is called below its service: its hostname, or its address with dashes.
fn host_label(host: &ServiceHost) -> String {
    if let Some(name) = &host.hostname {
        return name.to_ascii_lowercase();
    }
    let label = host.address.to_string().replace(['.', ':'], "-");
    // As in CoreDNS: no label ends with a dash.
    let zero = if label.ends_with('-') { "0" } else { "" };
    label + zero
}

/// The addresses behind a headless service: those given, or those of its ports.
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

/// The DNS server as the Service that other clusters have for it: `resolver` lines of nginx name it.
fn name_server(dns_ip: Ipv4Addr) -> Service {
    let port = |name, protocol| ServicePort::new::<SocketAddr>(name, protocol, 53, &[]);
    Service {
        namespace: "kube-system".into(),
        name: "kube-dns".into(),
        cluster_ips: vec![dns_ip.into()],
        ports: vec![port("dns", Protocol::Udp), port("dns-tcp", Protocol::Tcp)],
        ..Service::default()
    }
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
