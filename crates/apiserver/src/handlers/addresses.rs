//! Cluster addresses and node ports of Services: handed out once, taken back when the Service goes.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::Rng as _;
use serde_json::{Value, json};

use crate::object::{self, text};
use crate::registry::{Kind, Problems, validate};
use crate::server::State;
use crate::status::ApiError;
use crate::{Config, Error};

mod families;
mod range;
pub(crate) mod records;

use range::Range;

/// What is in use, as far as this server knows: rebuilt from the stored Services at start, and kept current by [`records`],
/// which also settle who has what when several servers share a store.
pub(crate) struct Addresses {
    /// The first one is the usual one.
    ranges: Vec<Range>,
    ports: (u16, u16),
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    addresses: HashSet<IpAddr>,
    ports: HashSet<(u16, String)>,
}

/// Addresses and ports taken for a write that has not happened yet; dropping it gives them back.
pub(crate) struct Claim {
    taken: Arc<Mutex<Taken>>,
    addresses: Vec<IpAddr>,
    ports: Vec<(u16, String)>,
    /// Given back when the write has happened.
    dropped_addresses: Vec<IpAddr>,
    dropped_ports: Vec<(u16, String)>,
}

impl Claim {
    /// The write has happened.
    pub fn keep(mut self) {
        self.addresses.clear();
        self.ports.clear();
        let mut taken = self.taken.lock();
        for address in std::mem::take(&mut self.dropped_addresses) {
            taken.addresses.remove(&address);
        }
        for port in std::mem::take(&mut self.dropped_ports) {
            taken.ports.remove(&port);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let addresses = std::mem::take(&mut self.addresses);
        let ports = std::mem::take(&mut self.ports);
        if addresses.is_empty() && ports.is_empty() {
            return;
        }
        let mut taken = self.taken.lock();
        for address in addresses {
            taken.addresses.remove(&address);
        }
        for port in ports {
            taken.ports.remove(&port);
        }
    }
}

impl Addresses {
    /// Checks the ranges of the configuration.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let mut ranges = vec![Range::new(&config.service_cidr, false)?];
        if let Some(range) = &config.service_cidr6 {
            ranges.push(Range::new(range, true)?);
        }
        Ok(Self {
            ranges,
            ports: config.node_ports,
            taken: Arc::default(),
        })
    }

    /// The first address: that of `default/kubernetes`.
    pub fn first(&self) -> IpAddr {
        self.ranges[0].at(1)
    }

    /// Completes which families a Service has; to be called before it is validated.
    pub fn settle_families(
        &self,
        service: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), ApiError> {
        // What makes no sense by itself would be told of in other words.
        let mut problems = Problems::default();
        validate::service_families(service, &mut problems);
        if !problems.is_empty() {
            return Err(refused(service, problems));
        }
        let offered: Vec<&str> = self.ranges.iter().map(Range::family).collect();
        families::settle(service, old, &offered).map_err(|problems| refused(service, problems))
    }

    /// Learns what the stored Services use.
    pub async fn load(&self, state: &State) -> Result<(), Error> {
        let page = state
            .store
            .range("/registry/services/specs/", None, 0, None)
            .await
            .map_err(|source| Error::Store {
                attempt: "read the services".into(),
                source,
            })?;
        let mut taken = self.taken.lock();
        for kv in page.items {
            let service = object::parse(&kv.value, kv.mod_revision);
            taken.addresses.extend(addresses_of(&service));
            taken.ports.extend(ports_of(&service));
        }
        Ok(())
    }

    /// Gives back what a deleted Service used.
    pub fn release(&self, kind: &Kind, service: &Value) {
        if !kind.is("", "services") {
            return;
        }
        let mut taken = self.taken.lock();
        for address in addresses_of(service) {
            taken.addresses.remove(&address);
        }
        for port in ports_of(service) {
            taken.ports.remove(&port);
        }
    }

    /// Fills in the address and the node ports a Service needs, and takes them.
    pub fn claim(&self, service: &mut Value, old: Option<&Value>) -> Result<Claim, ApiError> {
        let mut claim = Claim {
            taken: self.taken.clone(),
            addresses: Vec::new(),
            ports: Vec::new(),
            dropped_addresses: Vec::new(),
            dropped_ports: Vec::new(),
        };
        let mut taken = self.taken.lock();
        let result = self
            .claim_addresses(service, old, &mut taken, &mut claim)
            .and_then(|()| self.claim_ports(service, old, &mut taken, &mut claim));
        // A failed claim is given back when it is dropped, which takes the lock.
        drop(taken);
        if let Err(problems) = result {
            return Err(refused(service, problems));
        }
        Ok(claim)
    }

    fn claim_addresses(
        &self,
        service: &mut Value,
        old: Option<&Value>,
        taken: &mut Taken,
        claim: &mut Claim,
    ) -> Result<(), Problems> {
        let had: Vec<_> = old.map(addresses_of).unwrap_or_default();
        if text(service, &["spec", "type"]) == "ExternalName" {
            claim.dropped_addresses = had;
            return Ok(());
        }
        if text(service, &["spec", "clusterIP"]) == "None" {
            service["spec"]["clusterIPs"] = json!(["None"]);
            return Ok(());
        }
        let shown = service["spec"]["clusterIPs"].clone();
        let mut addresses: Vec<IpAddr> = Vec::new();
        let families = object::items(service, &["spec", "ipFamilies"]).to_vec();
        for (n, family) in families.iter().enumerate() {
            let wanted = match object::items(service, &["spec", "clusterIPs"]).get(n) {
                Some(wanted) => wanted.as_str(),
                None => Some(text(service, &["spec", "clusterIP"])).filter(|_| n == 0),
            };
            let wanted = wanted.filter(|wanted| !wanted.is_empty());
            let range = self.ranges.iter().find(|range| family == range.family());
            let address = match (wanted, range) {
                (Some(wanted), _) => {
                    let parsed = wanted.parse::<IpAddr>().ok();
                    match parsed.filter(|address| had.contains(address)) {
                        Some(kept) => kept,
                        None => Self::choose(wanted, range, &shown, taken, claim)?,
                    }
                }
                (None, Some(range)) => {
                    let Some(free) = range.free(&taken.addresses) else {
                        return Err(invalid(
                            "spec.clusterIPs",
                            &json!([""]),
                            "failed to allocate IP: range is full",
                        ));
                    };
                    taken.addresses.insert(free);
                    claim.addresses.push(free);
                    free
                }
                // A family that the cluster has lost: the Service keeps what it has of it, which is nothing.
                (None, None) => continue,
            };
            addresses.push(address);
        }
        claim.dropped_addresses = had;
        claim
            .dropped_addresses
            .retain(|had| !addresses.contains(had));
        if let Some(first) = addresses.first() {
            service["spec"]["clusterIP"] = first.to_string().into();
        }
        let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        service["spec"]["clusterIPs"] = json!(texts);
        Ok(())
    }

    /// An address that somebody has asked for.
    fn choose(
        wanted: &str,
        range: Option<&Range>,
        shown: &Value,
        taken: &mut Taken,
        claim: &mut Claim,
    ) -> Result<IpAddr, Problems> {
        let Ok(address) = wanted.parse::<IpAddr>() else {
            return Err(invalid(
                "spec.clusterIPs[0]",
                &wanted.into(),
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ));
        };
        if !range.is_some_and(|range| range.may_have(address)) {
            let valid = range.map_or(String::new(), |range| range.net.to_string());
            let why = format!(
                "failed to allocate IP {address}: the provided IP ({address}) is not in the valid range. The range of valid IPs is {valid}"
            );
            return Err(invalid("spec.clusterIPs", shown, &why));
        }
        if !taken.addresses.insert(address) {
            let why = format!("failed to allocate IP {address}: provided IP is already allocated");
            return Err(invalid("spec.clusterIPs", shown, &why));
        }
        claim.addresses.push(address);
        Ok(address)
    }

    fn claim_ports(
        &self,
        service: &mut Value,
        old: Option<&Value>,
        taken: &mut Taken,
        claim: &mut Claim,
    ) -> Result<(), Problems> {
        let had = old.map(ports_of).unwrap_or_default();
        let kind = text(service, &["spec", "type"]).to_owned();
        let needs = matches!(kind.as_str(), "NodePort" | "LoadBalancer")
            && service["spec"]["allocateLoadBalancerNodePorts"].as_bool() != Some(false);
        let mut kept = Vec::new();
        let named = ports_of(service);
        let ports = service["spec"]["ports"]
            .as_array_mut()
            .map(std::mem::take)
            .unwrap_or_default();
        let several = ports.len() > 1;
        let mut done = Vec::with_capacity(ports.len());
        let mut problems = Problems::default();
        for (n, mut port) in ports.into_iter().enumerate() {
            let protocol = text(&port, &["protocol"]).to_owned();
            let wanted = port["nodePort"].as_u64().unwrap_or(0);
            if !matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
                // A type that has no node ports loses those of the type it had.
                if let Some(port) = port.as_object_mut() {
                    port.remove("nodePort");
                }
                done.push(port);
                continue;
            }
            let field = format!("spec.ports[{n}].nodePort");
            if wanted != 0 {
                let number = u16::try_from(wanted).unwrap_or(0);
                let entry = (number, protocol);
                if !had.contains(&entry) {
                    if number < self.ports.0 || number > self.ports.1 {
                        problems.invalid(&field, &wanted.into(), &format!("provided port is not in the valid range. The range of valid ports is {}-{}", self.ports.0, self.ports.1));
                    } else if !taken.ports.insert(entry.clone()) {
                        problems.invalid(
                            &field,
                            &wanted.into(),
                            "provided port is already allocated",
                        );
                    } else {
                        claim.ports.push(entry.clone());
                    }
                }
                kept.push(entry);
            } else if needs {
                // A port of the same name keeps its node port without naming it, unless another one has it now.
                let is_same = |before: &&Value| match several {
                    // without names there is one port
                    true if port["name"].is_null() => {
                        before["port"] == port["port"] && before["protocol"] == port["protocol"]
                    }
                    _ => before["name"] == port["name"],
                };
                let before = old.and_then(|old| {
                    let mut ports = object::items(old, &["spec", "ports"]).iter();
                    u16::try_from(ports.find(is_same)?["nodePort"].as_u64()?).ok()
                });
                let elsewhere = |number: &u16| {
                    let entry = (*number, protocol.clone());
                    named.contains(&entry) || kept.contains(&entry)
                };
                let before = before.filter(|number| *number > 0 && !elsewhere(number));
                let before = before.filter(|number| had.contains(&(*number, protocol.clone())));
                let number = match before {
                    Some(number) => Some(number),
                    None => {
                        // One port by two protocols is one node port, as people expect of DNS.
                        let shared = done.iter().find(|p: &&Value| p["port"] == port["port"]);
                        let shared = shared.and_then(|p| p["nodePort"].as_u64());
                        let shared = shared
                            .and_then(|n| u16::try_from(n).ok())
                            .filter(|n| !taken.ports.contains(&(*n, protocol.clone())));
                        let free = shared.or_else(|| self.free_port(taken, &protocol));
                        if let Some(free) = free {
                            taken.ports.insert((free, protocol.clone()));
                            claim.ports.push((free, protocol.clone()));
                        }
                        free
                    }
                };
                match number {
                    Some(number) => {
                        port["nodePort"] = number.into();
                        kept.push((number, protocol));
                    }
                    None => problems.invalid(
                        &field,
                        &0.into(),
                        "failed to allocate a nodePort: range is full",
                    ),
                }
            }
            done.push(port);
        }
        if !done.is_empty() {
            service["spec"]["ports"] = done.into();
        }
        claim.dropped_ports = had.into_iter().filter(|p| !kept.contains(p)).collect();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }

    fn free_port(&self, taken: &Taken, protocol: &str) -> Option<u16> {
        let count = u32::from(self.ports.1.saturating_sub(self.ports.0)) + 1;
        // the lower part is left to those who choose, until the rest is full (KEP-3668)
        let band = (count / 32).clamp(16, 128);
        let band = if count > band { band } else { 0 };
        let among = |first: u32, count: u32| {
            let start = rand::rng().random_range(0..count.max(1));
            (0..count)
                .map(|n| self.ports.0 + (first + (start + n) % count) as u16)
                .find(|port| !taken.ports.contains(&(*port, protocol.to_owned())))
        };
        among(band, count - band).or_else(|| among(0, band))
    }
}

fn refused(service: &Value, problems: Problems) -> ApiError {
    let name = text(service, &["metadata", "name"]);
    ApiError::invalid("", "Service", name, problems.0)
}

fn invalid(field: &str, value: &Value, why: &str) -> Problems {
    let mut problems = Problems::default();
    problems.invalid(field, value, why);
    problems
}

fn addresses_of(service: &Value) -> Vec<IpAddr> {
    let listed = object::items(service, &["spec", "clusterIPs"]).iter();
    let mut found: Vec<IpAddr> = listed
        .filter_map(Value::as_str)
        .chain([text(service, &["spec", "clusterIP"])])
        .filter_map(|text| text.parse().ok())
        .collect();
    let mut seen = HashSet::new();
    found.retain(|address| seen.insert(*address));
    found
}

fn ports_of(service: &Value) -> Vec<(u16, String)> {
    object::items(service, &["spec", "ports"])
        .iter()
        .filter_map(|p| {
            let number = u16::try_from(p["nodePort"].as_u64()?)
                .ok()
                .filter(|n| *n > 0)?;
            Some((number, text(p, &["protocol"]).to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests;
