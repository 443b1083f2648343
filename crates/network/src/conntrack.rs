//! Forgetting UDP flows to endpoints that have gone: UDP has no end, so the kernel would keep sending a busy client's
//! packets to the old place. Speaks ctnetlink (linux/netfilter/nfnetlink_conntrack.h).

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use rtnetlink::sys::{Socket, SocketAddr};

use crate::Protocol;
use crate::rules::plan::Plan;

/// A translation: what the client sends to (`None`: any address of this machine), and the endpoint it came to.
pub(crate) type Flow = (Option<Ipv4Addr>, u16, SocketAddrV4);

/// UDP flows that one plan allowed and the next does not.
pub(crate) fn stale_flows(before: &Plan, after: &Plan) -> BTreeSet<Flow> {
    &flows(before) - &flows(after)
}

/// Deletes the kernel's entries of these flows. Best effort: what remains expires by itself.
pub(crate) async fn forget(flows: BTreeSet<Flow>) {
    if flows.is_empty() {
        return;
    }
    let forgotten = tokio::task::spawn_blocking(move || forget_blocking(&flows)).await;
    match forgotten {
        Ok(Ok(count)) => tracing::debug!(count, "forgot UDP flows to endpoints that have gone"),
        Ok(Err(error)) => {
            tracing::warn!(%error, "cannot forget UDP flows to endpoints that have gone")
        }
        Err(error) => tracing::warn!(%error, "forgetting UDP flows was cut short"),
    }
}

fn flows(plan: &Plan) -> BTreeSet<Flow> {
    let of_chain = |address: Option<Ipv4Addr>, port: u16, chain: &String| -> Vec<Flow> {
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

const NETLINK_NETFILTER: isize = 12;
const NETLINK_HEADER_BYTES: usize = 16;
/// nfgenmsg: family, version, resource.
const FAMILY_HEADER_BYTES: usize = 4;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const CT_GET: u16 = 0x0101;
const CT_DELETE: u16 = 0x0102;
const FLAGS_DUMP: u16 = 0x0301;
const FLAGS_ACKNOWLEDGE: u16 = 0x0005;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

fn forget_blocking(flows: &BTreeSet<Flow>) -> io::Result<usize> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&message(CT_GET, FLAGS_DUMP, &[]), 0)?;
    let mut doomed = Vec::new();
    'dump: loop {
        let (bytes, _) = socket.recv_from_full()?;
        for (kind, body) in Messages(&bytes) {
            match kind {
                NLMSG_DONE => break 'dump,
                NLMSG_ERROR => return Err(error_of(body)),
                _ => doomed.extend(selector_of(body, flows)),
            }
        }
    }
    for selector in &doomed {
        socket.send(&message(CT_DELETE, FLAGS_ACKNOWLEDGE, selector), 0)?;
        // The acknowledgement; that an entry has expired meanwhile is no error of ours.
        socket.recv_from_full()?;
    }
    Ok(doomed.len())
}

/// The attributes that name an entry, if it is one of the flows.
fn selector_of(body: &[u8], flows: &BTreeSet<Flow>) -> Option<Vec<u8>> {
    let attributes = body.get(FAMILY_HEADER_BYTES..)?;
    let original = Tuple::read(attribute(attributes, CTA_TUPLE_ORIG)?)?;
    let reply = Tuple::read(attribute(attributes, CTA_TUPLE_REPLY)?)?;
    if original.protocol != libc::IPPROTO_UDP as u8 {
        return None;
    }
    let endpoint = SocketAddrV4::new(reply.source, reply.source_port);
    let port = original.destination_port;
    let ours = flows.contains(&(Some(original.destination), port, endpoint))
        || flows.contains(&(None, port, endpoint));
    if !ours {
        return None;
    }
    Some(
        Attributes(attributes)
            .filter(|(kind, _, _)| matches!(*kind, CTA_TUPLE_ORIG | CTA_ZONE))
            .flat_map(|(_, _, whole)| padded(whole))
            .collect(),
    )
}

struct Tuple {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
}

impl Tuple {
    fn read(tuple: &[u8]) -> Option<Self> {
        let ip = attribute(tuple, CTA_TUPLE_IP)?;
        let protocol = attribute(tuple, CTA_TUPLE_PROTO)?;
        let address = |kind| -> Option<Ipv4Addr> {
            let octets: [u8; 4] = attribute(ip, kind)?.try_into().ok()?;
            Some(octets.into())
        };
        let port = |kind| -> Option<u16> {
            Some(u16::from_be_bytes(
                attribute(protocol, kind)?.try_into().ok()?,
            ))
        };
        Some(Self {
            source: address(CTA_IP_V4_SRC)?,
            destination: address(CTA_IP_V4_DST)?,
            protocol: *attribute(protocol, CTA_PROTO_NUM)?.first()?,
            source_port: port(CTA_PROTO_SRC_PORT)?,
            destination_port: port(CTA_PROTO_DST_PORT)?,
        })
    }
}

fn message(kind: u16, flags: u16, attributes: &[u8]) -> Vec<u8> {
    let length = NETLINK_HEADER_BYTES + FAMILY_HEADER_BYTES + attributes.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([libc::AF_INET as u8, 0, 0, 0]);
    bytes.extend(attributes);
    bytes
}

fn error_of(body: &[u8]) -> io::Error {
    let code = body.get(..4).and_then(|code| code.try_into().ok());
    io::Error::from_raw_os_error(code.map_or(libc::EPROTO, |code| -i32::from_ne_bytes(code)))
}

fn attribute(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(attributes)
        .find(|(kind, _, _)| *kind == wanted)
        .map(|(_, value, _)| value)
}

fn padded(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let padding = bytes.len().next_multiple_of(4) - bytes.len();
    bytes.iter().copied().chain(std::iter::repeat_n(0, padding))
}

/// The messages of a datagram: (type, what follows the header). Ends at the first that is cut.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = u32::from_ne_bytes(self.0.get(..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(self.0.get(4..6)?.try_into().ok()?);
        let body = self.0.get(NETLINK_HEADER_BYTES..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    }
}

/// Attributes: (type, value, header and value). Ends at the first that is cut.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        const HEADER_BYTES: usize = 4;
        /// "nested" and "network byte order" share the word with the type.
        const TYPE_MASK: u16 = 0x3fff;
        let length = usize::from(u16::from_ne_bytes(self.0.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let whole = self.0.get(..length)?;
        let value = whole.get(HEADER_BYTES..)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value, whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        padded(&bytes).collect()
    }

    fn tuple(kind: u16, source: &str, destination: &str) -> Vec<u8> {
        let source: SocketAddrV4 = source.parse().unwrap();
        let destination: SocketAddrV4 = destination.parse().unwrap();
        let ip = [
            nested(CTA_IP_V4_SRC, &source.ip().octets()),
            nested(CTA_IP_V4_DST, &destination.ip().octets()),
        ]
        .concat();
        let protocol = [
            nested(CTA_PROTO_NUM, &[17]),
            nested(CTA_PROTO_SRC_PORT, &source.port().to_be_bytes()),
            nested(CTA_PROTO_DST_PORT, &destination.port().to_be_bytes()),
        ]
        .concat();
        let both = [
            nested(CTA_TUPLE_IP, &ip),
            nested(CTA_TUPLE_PROTO, &protocol),
        ]
        .concat();
        nested(kind | 0x8000, &both)
    }

    #[test]
    fn only_the_flows_that_were_translated_are_selected() {
        let original = tuple(CTA_TUPLE_ORIG, "10.64.0.3:999", "10.112.0.9:53");
        let reply = tuple(CTA_TUPLE_REPLY, "10.64.0.2:5353", "10.64.0.3:999");
        let body = [vec![2, 0, 0, 0], original.clone(), reply].concat();
        let flow = |address: Option<&str>, port, endpoint: &str| -> BTreeSet<Flow> {
            let address = address.map(|address| address.parse().unwrap());
            BTreeSet::from([(address, port, endpoint.parse().unwrap())])
        };
        for (flows, expected) in [
            (flow(Some("10.112.0.9"), 53, "10.64.0.2:5353"), true),
            (flow(None, 53, "10.64.0.2:5353"), true),
            (flow(Some("10.112.0.8"), 53, "10.64.0.2:5353"), false),
            (flow(None, 54, "10.64.0.2:5353"), false),
            (flow(None, 53, "10.64.0.2:5354"), false),
        ] {
            let selected = selector_of(&body, &flows);
            assert_eq!(selected, expected.then(|| original.clone()), "{flows:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for (_, body) in Messages(&bytes) {
                let _ = selector_of(body, &BTreeSet::new());
            }
            let _ = selector_of(&bytes, &BTreeSet::new());
        }

        #[test]
        fn lengths_that_lie_end_the_walk(lengths in prop::collection::vec(any::<u16>(), 0..40)) {
            let bytes: Vec<u8> = lengths.iter().flat_map(|word| word.to_ne_bytes()).collect();
            prop_assert!(Attributes(&bytes).count() <= bytes.len() / 4);
        }
    }
}
