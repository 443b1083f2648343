//! Forgetting UDP flows that no longer go where they should: UDP has no end, so the kernel would keep sending a busy
//! client's packets to the old place. Speaks ctnetlink (linux/netfilter/nfnetlink_conntrack.h).

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use parking_lot::Mutex;

use crate::netfilter::{Attributes, Requests, attribute, padded};
use crate::rules::plan::{Plan, Plans};
use crate::{Family, Protocol};

/// A translation: what the client sends to (`None`: any address of this machine), and the endpoint it came to.
type Flow = (Option<IpAddr>, u16, SocketAddr);

/// What UDP flows are judged by.
#[derive(Clone, Debug)]
pub(crate) struct Judge {
    pods: Vec<IpNet>,
    services: Vec<IpNet>,
    gateways: Vec<IpAddr>,
    local: BTreeSet<IpAddr>,
    allowed: BTreeSet<Flow>,
    /// Allowed until now.
    gone: BTreeSet<Flow>,
}

impl Judge {
    /// Judges by what `after` translates, and `before` did if that is known. `local`: the addresses of this machine, on
    /// which ports are published; what goes to a gateway is the DNS server's.
    pub fn new(
        (pods, services): (Vec<IpNet>, Vec<IpNet>),
        gateways: Vec<IpAddr>,
        local: BTreeSet<IpAddr>,
        (before, after): (Option<&Plans>, &Plans),
    ) -> Self {
        let allowed = flows(after);
        Self {
            pods,
            services,
            gateways,
            local,
            gone: &before.map(flows).unwrap_or_default() - &allowed,
            allowed,
        }
    }

    /// Whether a flow goes elsewhere than a new one from the same client would: to an endpoint that has gone, or, begun
    /// before its port was published or its address was a service's, to whom the client named.
    fn condemns(&self, original: &Tuple, reply: &Tuple) -> bool {
        let (address, port) = (original.destination, original.destination_port);
        let endpoint = SocketAddr::new(reply.source, reply.source_port);
        if (address, port) == (endpoint.ip(), endpoint.port()) {
            // Ports of all addresses are this machine's; those of one address are translated whosever it is.
            let translated = |at: &Option<IpAddr>| match at {
                Some(at) => *at == address,
                None => self.local.contains(&address),
            };
            let mut allowed = self.allowed.iter();
            return !address.is_loopback()
                && allowed.any(|(at, to, _)| *to == port && translated(at));
        }
        let within = |flows: &BTreeSet<Flow>| {
            let ways = [Some(address), None].map(|at| (at, port, endpoint));
            ways.iter().any(|way| flows.contains(way))
        };
        let in_any =
            |ranges: &[IpNet], address| ranges.iter().any(|range| range.contains(&address));
        let ours = in_any(&self.services, address) || in_any(&self.pods, endpoint.ip());
        let astray = ours && !self.gateways.contains(&endpoint.ip()) || within(&self.gone);
        astray && !within(&self.allowed)
    }
}

/// Whether a change from one plan to another can leave flows that go astray.
pub(crate) fn concerned(before: Option<&Plans>, after: &Plans) -> bool {
    before.is_none_or(|before| flows(before) != flows(after))
}

/// How long freed addresses are gathered.
const GATHER: Duration = Duration::from_secs(1);

/// Deletes the kernel's entries of condemned flows. Best effort: what remains expires by itself.
pub(crate) async fn forget(judge: Judge) {
    let forgotten = tokio::task::spawn_blocking(move || forget_blocking(&judge)).await;
    match forgotten {
        Ok(Ok(count)) => tracing::debug!(count, "forgot UDP flows to endpoints that have gone"),
        Ok(Err(error)) => {
            tracing::warn!(%error, "cannot forget UDP flows to endpoints that have gone")
        }
        Err(error) => tracing::warn!(%error, "forgetting UDP flows was cut short"),
    }
}

/// Addresses that nobody has any more. What the kernel still holds of their connections would count as established for whoever gets them
/// next, whatever policies say.
#[derive(Clone, Default)]
pub(crate) struct Freed(Arc<Mutex<BTreeSet<IpAddr>>>);

impl Freed {
    /// Forgets their connections, in a moment: many often go together. An address is seldom given again so soon; one that was
    /// (`in_use`) keeps the connections of both.
    pub fn add(
        &self,
        addresses: impl Iterator<Item = IpAddr>,
        in_use: impl FnOnce() -> BTreeSet<IpAddr> + Send + 'static,
    ) {
        let mut waiting = self.0.lock();
        let first = waiting.is_empty();
        waiting.extend(addresses);
        drop(waiting);
        if !first {
            return;
        }
        let freed = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(GATHER).await;
            let mut gone = std::mem::take(&mut *freed.0.lock());
            let in_use = in_use();
            gone.retain(|address| !in_use.contains(address));
            let forgotten = tokio::task::spawn_blocking(move || {
                forget_all(&gone, |entry| of_addresses(entry, &gone))
            });
            match forgotten.await {
                Ok(Ok(count)) => tracing::debug!(count, "forgot connections of freed addresses"),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "cannot forget connections of freed addresses");
                }
                Err(error) => tracing::warn!(%error, "forgetting connections was cut short"),
            }
        });
    }
}

fn flows(plans: &Plans) -> BTreeSet<Flow> {
    plans.iter().flat_map(flows_of).collect()
}

fn flows_of(plan: &Plan) -> BTreeSet<Flow> {
    let of_chain = |address: Option<IpAddr>, port: u16, chain: &String| -> Vec<Flow> {
        let endpoints = plan.endpoints_behind(chain).into_iter();
        endpoints
            .map(|endpoint| (address, port, endpoint))
            .collect()
    };
    let mut flows = BTreeSet::new();
    for ((address, protocol, port), chain) in &plan.addresses {
        if *protocol == Protocol::Udp {
            flows.extend(of_chain(Some(*address), *port, chain));
        }
    }
    for ((protocol, port), chain) in &plan.node_ports {
        if *protocol == Protocol::Udp {
            flows.extend(of_chain(None, *port, chain));
        }
    }
    for ((protocol, port), target) in &plan.published_any {
        if *protocol == Protocol::Udp {
            flows.insert((None, *port, *target));
        }
    }
    for ((address, protocol, port), target) in &plan.published_at {
        if *protocol == Protocol::Udp {
            flows.insert((Some(*address), *port, *target));
        }
    }
    flows
}

const CT_GET: u16 = 0x0101;
const CT_DELETE: u16 = 0x0102;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

fn forget_blocking(judge: &Judge) -> io::Result<usize> {
    let of_pods = judge.pods.iter().map(IpNet::addr).collect();
    forget_all(&of_pods, |entry| selector_of(entry, judge))
}

/// Deletes the entries that are condemned, of the families of `addresses`.
fn forget_all(
    addresses: &BTreeSet<IpAddr>,
    condemned: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> io::Result<usize> {
    let requests = Requests::open()?;
    let mut count = 0;
    for family in Family::ALL {
        if !addresses
            .iter()
            .any(|address| Family::of(*address) == family)
        {
            continue;
        }
        // AF_INET and AF_INET6 are the same numbers as netfilter's.
        let number = family.number();
        let doomed = requests.dump(CT_GET, number, &[], |entry| condemned(entry.attributes()))?;
        for selector in &doomed {
            // That an entry has expired meanwhile is no error of ours.
            requests.tell(CT_DELETE, number, selector)?;
        }
        count += doomed.len();
    }
    Ok(count)
}

/// The attributes that name an entry, if it is condemned.
fn selector_of(attributes: &[u8], judge: &Judge) -> Option<Vec<u8>> {
    let (original, reply) = tuples(attributes)?;
    let is_udp = original.protocol == libc::IPPROTO_UDP as u8;
    (is_udp && judge.condemns(&original, &reply)).then(|| selector(attributes))
}

/// The same of an entry that is from or to one of these.
fn of_addresses(attributes: &[u8], gone: &BTreeSet<IpAddr>) -> Option<Vec<u8>> {
    let (original, reply) = tuples(attributes)?;
    let sides = [original.source, original.destination, reply.source];
    let is_gone = sides.iter().any(|side| gone.contains(side));
    is_gone.then(|| selector(attributes))
}

fn tuples(attributes: &[u8]) -> Option<(Tuple, Tuple)> {
    let original = Tuple::read(attribute(attributes, CTA_TUPLE_ORIG)?)?;
    let reply = Tuple::read(attribute(attributes, CTA_TUPLE_REPLY)?)?;
    Some((original, reply))
}

fn selector(attributes: &[u8]) -> Vec<u8> {
    Attributes(attributes)
        .filter(|(kind, _, _)| matches!(*kind, CTA_TUPLE_ORIG | CTA_ZONE))
        .flat_map(|(_, _, whole)| padded(whole))
        .collect()
}

struct Tuple {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
}

impl Tuple {
    fn read(tuple: &[u8]) -> Option<Self> {
        let ip = attribute(tuple, CTA_TUPLE_IP)?;
        let protocol = attribute(tuple, CTA_TUPLE_PROTO)?;
        let address = |v4, v6| -> Option<IpAddr> {
            match attribute(ip, v4) {
                Some(octets) => Some(<[u8; 4]>::try_from(octets).ok()?.into()),
                None => Some(<[u8; 16]>::try_from(attribute(ip, v6)?).ok()?.into()),
            }
        };
        let port = |kind| -> Option<u16> {
            Some(u16::from_be_bytes(
                attribute(protocol, kind)?.try_into().ok()?,
            ))
        };
        Some(Self {
            source: address(CTA_IP_V4_SRC, CTA_IP_V6_SRC)?,
            destination: address(CTA_IP_V4_DST, CTA_IP_V6_DST)?,
            protocol: *attribute(protocol, CTA_PROTO_NUM)?.first()?,
            // ICMP has none
            source_port: port(CTA_PROTO_SRC_PORT).unwrap_or(0),
            destination_port: port(CTA_PROTO_DST_PORT).unwrap_or(0),
        })
    }
}

#[cfg(test)]
#[path = "conntrack_tests.rs"]
mod tests;
