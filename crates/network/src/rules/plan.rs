//! What the rules should be: sets and maps as plain data, worked out from services, policies and published ports.

use std::cmp::Ordering;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::{Allowance, Family, PodPolicy, Protocol, Published, Service, ServicePort, names};

/// Longest chain name used; nft takes 127 bytes.
const CHAIN_NAME_BYTES_MAX: usize = 120;

/// The variable parts of an instance's tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plans {
    v4: Plan,
    v6: Plan,
}

impl Plans {
    /// That of one family.
    pub fn of(&self, family: Family) -> &Plan {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    fn each(&mut self, mut change: impl FnMut(&mut Plan, Family)) {
        change(&mut self.v4, Family::V4);
        change(&mut self.v6, Family::V6);
    }

    /// Both at once.
    pub fn iter(&self) -> impl Iterator<Item = &Plan> {
        [&self.v4, &self.v6].into_iter()
    }

    /// New ones of both families; `None` when there is none of either, and the old one for the other else.
    pub fn map_some(&self, make: impl Fn(&Plan, Family) -> Option<Plan>) -> Option<Self> {
        match (make(&self.v4, Family::V4), make(&self.v6, Family::V6)) {
            (None, None) => None,
            (v4, v6) => Some(Self {
                v4: v4.unwrap_or_else(|| self.v4.clone()),
                v6: v6.unwrap_or_else(|| self.v6.clone()),
            }),
        }
    }

    /// [`Plan::set_services`] of both families.
    pub fn set_services(&mut self, services: &[Service], reserved: IpAddr) {
        self.each(|plan, family| plan.set_services(services, reserved, family));
    }

    /// [`Plan::parts`] of both families, where both have them.
    pub fn parts(
        &self,
        before: &[Service],
        after: &[Service],
        reserved: IpAddr,
    ) -> Option<(Self, Self)> {
        let of = |family| self.of(family).parts(before, after, reserved, family);
        let (v4, v6) = (of(Family::V4)?, of(Family::V6)?);
        let old = Self { v4: v4.0, v6: v6.0 };
        Some((old, Self { v4: v4.1, v6: v6.1 }))
    }

    /// Puts parts in the place of others.
    pub fn replace(&mut self, old: &Self, new: &Self) {
        self.each(|plan, family| plan.replace(old.of(family), new.of(family)));
    }

    /// [`Plan::set_policies`] of both families.
    pub fn set_policies(&mut self, policies: &[PodPolicy]) {
        self.each(|plan, family| plan.set_policies(policies, family));
    }

    /// [`Plan::set_published`] of both families.
    pub fn set_published<'a>(&mut self, published: impl Iterator<Item = &'a Published> + Clone) {
        self.each(|plan, family| plan.set_published(published.clone(), family));
    }
}

/// The variable part of one table: addresses are of its family alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// Chains of service ports, each with its endpoints.
    pub chains: BTreeMap<String, Chain>,
    /// Chains that choose among those by where a connection comes from.
    pub doors: BTreeMap<String, Door>,
    /// (service or external address, protocol, port) → chain or door.
    pub addresses: BTreeMap<(IpAddr, Protocol, u16), String>,
    /// (protocol, port of this machine) → chain or door.
    pub node_ports: BTreeMap<(Protocol, u16), String>,
    /// (protocol, port of this machine) → container, on every address.
    pub published_any: BTreeMap<(Protocol, u16), SocketAddr>,
    /// (address of this machine, protocol, port) → container.
    pub published_at: BTreeMap<(IpAddr, Protocol, u16), SocketAddr>,
    /// Pod → chain of what may reach it.
    pub ingress: BTreeMap<IpAddr, String>,
    /// Pod → chain of what it may reach.
    pub egress: BTreeMap<IpAddr, String>,
    /// The chains of both, named by their content: pods under the same policies share one.
    pub permits: BTreeMap<String, Permits>,
    /// In a part of a plan: the targets of the rest, as far as they are this part's too, or its successor's.
    pub others: BTreeSet<IpAddr>,
    /// Whether services claim the same address or node port: who has it depends on all of them.
    pub contested: bool,
}

/// The chain of one service port.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chain {
    pub protocol: Protocol,
    /// None: a local policy found none here, packets are dropped.
    pub endpoints: BTreeSet<SocketAddr>,
    /// Seconds for which a client stays with its endpoint.
    pub affinity_seconds: Option<u32>,
}

/// The way in from outside, where it is not the same for everybody.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Door {
    /// Who may come in, beside this machine; `None`: everybody.
    pub sources: Option<BTreeSet<IpNet>>,
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
    pub fn set_services(&mut self, services: &[Service], reserved: IpAddr, family: Family) {
        self.chains.clear();
        self.doors.clear();
        self.addresses.clear();
        self.node_ports.clear();
        self.contested = false;
        self.add_services(services, reserved, family);
    }

    fn add_services<'a>(
        &mut self,
        services: impl IntoIterator<Item = &'a Service>,
        reserved: IpAddr,
        family: Family,
    ) {
        let services = services.into_iter();
        for service in services.filter(|s| s.external_name.is_none()) {
            for port in &service.ports {
                if port.endpoints.iter().any(|end| is_of(end, family)) {
                    self.add_port(service, port, reserved, family);
                }
            }
        }
    }

    fn add_port(
        &mut self,
        service: &Service,
        port: &ServicePort,
        reserved: IpAddr,
        family: Family,
    ) {
        let key = |address: IpAddr| (address, port.protocol, port.port);
        let of_family = |address: &&IpAddr| Family::of(**address) == family;
        let own = service.cluster_ips.iter().filter(of_family);
        for address in own.filter(|address| (**address, port.port) != (reserved, 53)) {
            let chain = self.chain(service, port, service.internal_local, family);
            self.contested |= self.addresses.insert(key(*address), chain).is_some();
        }
        if let Some(node_port) = port.node_port {
            let way = self.way_in(service, port, None, family);
            let key = (port.protocol, node_port);
            self.contested |= self.node_ports.insert(key, way).is_some();
        }
        let balanced: &[IpAddr] = match port.balanced {
            true => &service.balancer_ips,
            false => &[],
        };
        for (addresses, sources) in [
            (&service.external_ips[..], None),
            (
                balanced,
                (!service.source_ranges.is_empty()).then_some(&service.source_ranges[..]),
            ),
        ] {
            for address in addresses.iter().filter(of_family) {
                let way = self.way_in(service, port, sources, family);
                // Of two services that claim an address's port the first keeps it.
                match self.addresses.entry(key(*address)) {
                    Entry::Vacant(free) => drop(free.insert(way)),
                    Entry::Occupied(_) => self.contested = true,
                }
            }
        }
    }

    /// The parts in which what was made of the services `before` differs from what [`Plan::set_services`] makes of those
    /// `after`. `None` where it takes more than a look at the services that differ: they are not sorted by namespace and
    /// name, or claim each other's addresses.
    fn parts(
        &self,
        before: &[Service],
        after: &[Service],
        reserved: IpAddr,
        family: Family,
    ) -> Option<(Self, Self)> {
        let (gone, come) = differing_services(before, after)?;
        let (mut old, mut new) = (Self::default(), Self::default());
        old.add_services(gone, reserved, family);
        new.add_services(come, reserved, family);
        let taken = |key| self.addresses.contains_key(key) && !old.addresses.contains_key(key);
        let port = |key| self.node_ports.contains_key(key) && !old.node_ports.contains_key(key);
        if [self, &old, &new].iter().any(|plan| plan.contested)
            || new.addresses.keys().any(taken)
            || new.node_ports.keys().any(port)
        {
            return None;
        }
        let concerned = &old.targets() | &new.targets();
        let rest = self.chains.iter();
        let rest = rest.filter(|(name, _)| !old.chains.contains_key(*name));
        let others: BTreeSet<IpAddr> = rest
            .flat_map(|(_, chain)| &chain.endpoints)
            .chain(self.published_any.values())
            .chain(self.published_at.values())
            .map(SocketAddr::ip)
            .filter(|target| concerned.contains(target))
            .collect();
        (old.others, new.others) = (others.clone(), others);
        Some((old, new))
    }

    fn replace(&mut self, old: &Self, new: &Self) {
        fn swap<K: Ord + Clone, V: Clone>(
            all: &mut BTreeMap<K, V>,
            old: &BTreeMap<K, V>,
            new: &BTreeMap<K, V>,
        ) {
            for key in old.keys() {
                all.remove(key);
            }
            let new = new.iter();
            all.extend(new.map(|(key, value)| (key.clone(), value.clone())));
        }
        swap(&mut self.chains, &old.chains, &new.chains);
        swap(&mut self.doors, &old.doors, &new.doors);
        swap(&mut self.addresses, &old.addresses, &new.addresses);
        swap(&mut self.node_ports, &old.node_ports, &new.node_ports);
    }

    /// The chain that balances over a port's endpoints, or over those of this machine.
    fn chain(
        &mut self,
        service: &Service,
        port: &ServicePort,
        local: bool,
        family: Family,
    ) -> String {
        let (endpoints, suffix) = if local {
            (&port.local_endpoints, "/local")
        } else {
            (&port.endpoints, "")
        };
        let name = name("svc", service, port, suffix);
        self.chains.entry(name.clone()).or_insert_with(|| Chain {
            protocol: port.protocol,
            endpoints: endpoints
                .iter()
                .filter(|end| is_of(end, family))
                .copied()
                .collect(),
            affinity_seconds: service.affinity_seconds,
        });
        name
    }

    /// Where connections from other machines go.
    fn way_in(
        &mut self,
        service: &Service,
        port: &ServicePort,
        sources: Option<&[IpNet]>,
        family: Family,
    ) -> String {
        // Pods and this machine take the short way to any endpoint, whatever the policy says of the others.
        let inside = self.chain(service, port, false, family);
        if !service.external_local && sources.is_none() {
            return inside;
        }
        let outside = self.chain(service, port, service.external_local, family);
        let suffix = if sources.is_none() { "" } else { "/balancer" };
        let name = name("door", service, port, suffix);
        self.doors.insert(
            name.clone(),
            Door {
                sources: sources.map(|sources| sources.iter().copied().collect()),
                inside,
                outside,
            },
        );
        name
    }

    /// Replaces everything that policies determine. Of two entries for an address the last counts.
    pub fn set_policies(&mut self, policies: &[PodPolicy], family: Family) {
        self.ingress.clear();
        self.egress.clear();
        self.permits.clear();
        for pod in policies
            .iter()
            .filter(|pod| Family::of(pod.address) == family)
        {
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

    /// Replaces all published ports. Loopback is the supervising process's. Of two that claim the same port the first keeps
    /// it.
    pub fn set_published<'a>(
        &mut self,
        published: impl Iterator<Item = &'a Published>,
        family: Family,
    ) {
        self.published_any.clear();
        self.published_at.clear();
        for port in published.filter(|port| Family::of(port.target.ip()) == family) {
            let key = (port.protocol, port.host_port);
            match port.host_ip {
                None => {
                    self.published_any.entry(key).or_insert(port.target);
                }
                // The other family is carried by the supervising process.
                Some(address) if Family::of(address) != family => {}
                Some(address) if address.is_unspecified() => {
                    self.published_any.entry(key).or_insert(port.target);
                }
                Some(address) if !address.is_loopback() => {
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
    pub fn targets(&self) -> BTreeSet<IpAddr> {
        self.chains
            .values()
            .flat_map(|chain| chain.endpoints.iter())
            .chain(self.published_any.values())
            .chain(self.published_at.values())
            .map(|target| target.ip())
            .chain(self.others.iter().copied())
            .collect()
    }

    /// The endpoints to which a chain or a door can lead.
    pub fn endpoints_behind(&self, name: &str) -> BTreeSet<SocketAddr> {
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

/// The services of each list that the other has not, or has otherwise; `None` when they are not sorted by their names.
fn differing_services<'a>(
    before: &'a [Service],
    after: &'a [Service],
) -> Option<(Vec<&'a Service>, Vec<&'a Service>)> {
    fn id(service: &Service) -> (&str, &str) {
        (&service.namespace, &service.name)
    }
    let sorted = |list: &[Service]| list.is_sorted_by(|a, b| id(a) < id(b));
    if !sorted(before) || !sorted(after) {
        return None;
    }
    let (mut gone, mut new) = (Vec::new(), Vec::new());
    let (mut left, mut right) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return Some((gone, new)),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => id(a).cmp(&id(b)),
        };
        let a = if order.is_le() { left.next() } else { None };
        let b = if order.is_ge() { right.next() } else { None };
        if a != b {
            gone.extend(a);
            new.extend(b);
        }
    }
}

fn is_of(end: &SocketAddr, family: Family) -> bool {
    Family::of(end.ip()) == family
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
