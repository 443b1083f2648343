//! From a packet to what is to be done with it: a pure function, so that every packet can be tried on it.

use std::collections::HashSet;
use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::zone::{Found, Node, Zone};

/// How long an answer may be kept: changes of a service shall be seen soon (CoreDNS' default).
const TTL_SECONDS: u32 = 5;

/// What a UDP answer may have without EDNS (RFC 1035), and at most with it (the DNS flag day's safe size).
const UDP_BYTES_PLAIN: usize = 512;
const UDP_BYTES_MAX: u16 = 1232;

/// Aliases of aliases that are followed.
const ALIASES_MAX: usize = 8;

/// More records than any honest query carries beside its question.
const QUERY_RECORDS_MAX: u32 = 16;

/// What to do with a packet.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Answer with this.
    Reply(Box<Message>),
    /// Answer with this once the records of its last alias are known from elsewhere.
    Follow(Box<Message>, Name, RecordType),
    /// Ask elsewhere.
    Forward,
    /// Say nothing: not a query.
    Drop,
}

/// Decides about a packet.
pub(crate) fn decide(zone: &Zone, packet: &[u8]) -> Outcome {
    let Some(header) = RawHeader::read(packet) else {
        return Outcome::Drop;
    };
    if header.is_response {
        return Outcome::Drop;
    }
    let refuse = |code| {
        let mut message = Message::error_msg(header.id, OpCode::Query, code);
        message.metadata.recursion_desired = header.recursion_desired;
        Outcome::Reply(Box::new(message))
    };
    // Before the parser, which makes room for as many records as the header announces.
    if header.queries != 1 || header.other_records > QUERY_RECORDS_MAX {
        return refuse(ResponseCode::FormErr);
    }
    if header.op_code != 0 {
        return refuse(ResponseCode::NotImp);
    }
    let Ok(query) = Message::from_vec(packet) else {
        return refuse(ResponseCode::FormErr);
    };
    answer(zone, &query)
}

/// `message` as bytes for UDP: with as many of its records as fit, and marked so if that is not the whole answer.
pub(crate) fn udp_bytes(message: &Message, query: &[u8]) -> Option<Vec<u8>> {
    let limit = Message::from_vec(query)
        .ok()
        .and_then(|query| query.edns)
        .map_or(UDP_BYTES_PLAIN, |edns| {
            usize::from(edns.max_payload().clamp(512, UDP_BYTES_MAX))
        });
    let bytes = message.to_vec().ok()?;
    if bytes.len() <= limit {
        return Some(bytes);
    }
    shortened(message, limit)
}

/// `message` with the most of its first records that `limit` bytes have room for, beside what extensions say.
fn shortened(message: &Message, limit: usize) -> Option<Vec<u8>> {
    let all = message.answers.len() + message.authorities.len() + message.additionals.len();
    let (mut fits, mut fails) = (0, all);
    let mut best = cut(message, 0);
    while fits + 1 < fails {
        let middle = fits.midpoint(fails);
        match cut(message, middle) {
            Some(bytes) if bytes.len() <= limit => (fits, best) = (middle, Some(bytes)),
            _ => fails = middle,
        }
    }
    best
}

/// `message` with its first `count` records.
fn cut(message: &Message, count: usize) -> Option<Vec<u8>> {
    let mut short = message.truncate();
    let mut left = count;
    let mut take = |records: &[Record]| {
        let taken = records.len().min(left);
        left -= taken;
        records[..taken].to_vec()
    };
    short.add_answers(take(&message.answers));
    short.add_authorities(take(&message.authorities));
    short.add_additionals(take(&message.additionals));
    // RFC 2181, 9: the mark is not for what is merely helpful.
    short.metadata.truncation = count < message.answers.len() + message.authorities.len();
    short.to_vec().ok()
}

/// An error answer to a packet that [`decide`] has taken for a query.
pub(crate) fn failure(packet: &[u8], code: ResponseCode) -> Option<Message> {
    let query = Message::from_vec(packet).ok()?;
    Some(start(&query, code))
}

fn answer(zone: &Zone, query: &Message) -> Outcome {
    let Some(question) = query.queries.first() else {
        return Outcome::Drop;
    };
    if !matches!(question.query_class, DNSClass::IN | DNSClass::ANY) {
        return Outcome::Reply(Box::new(start(query, ResponseCode::Refused)));
    }
    // RFC 6891, 6.1.3: we speak version 0, and say so.
    if query.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return Outcome::Reply(Box::new(start(query, ResponseCode::BADVERS)));
    }
    let asked = &question.name;
    let text = asked.to_ascii().trim_end_matches('.').to_ascii_lowercase();
    let mut reply = start(query, ResponseCode::NoError);
    reply.metadata.authoritative = true;
    let kind = question.query_type;
    match zone.find(&text) {
        Found::Outside => return Outcome::Forward,
        // Clients ask again after a failure; they would believe a denial.
        Found::Missing if !zone.is_known() => {
            return Outcome::Reply(Box::new(start(query, ResponseCode::ServFail)));
        }
        Found::Missing => reply.metadata.response_code = ResponseCode::NXDomain,
        Found::Address(address) => {
            if wants(kind, type_of(address)) {
                reply.add_answer(record(asked, data_of(address)));
            }
        }
        Found::Reverse(names) => {
            if wants(kind, RecordType::PTR) {
                for name in names.iter().filter_map(|name| absolute(name)) {
                    reply.add_answer(record(asked, RData::PTR(PTR(name))));
                }
            }
        }
        Found::Node(node) => {
            if let Some(target) = node.alias.as_deref().and_then(absolute) {
                reply.add_answer(record(asked, RData::CNAME(CNAME(target.clone()))));
                if kind != RecordType::CNAME {
                    return follow(zone, reply, &target, kind);
                }
            } else {
                add_node(zone, &mut reply, asked, &node, kind);
            }
            if text == zone.apex() {
                add_apex(zone, &mut reply, asked, kind);
            }
        }
    }
    if reply.answers.is_empty()
        && let Some(soa) = soa(zone)
    {
        reply.add_authority(soa);
    }
    Outcome::Reply(Box::new(reply))
}

/// An alias into the cluster is followed here; one that leads outside has to be asked for.
fn follow(zone: &Zone, mut reply: Message, target: &Name, kind: RecordType) -> Outcome {
    let mut target = target.clone();
    for _ in 0..ALIASES_MAX {
        let text = target.to_ascii().trim_end_matches('.').to_ascii_lowercase();
        match zone.find(&text) {
            Found::Outside => return Outcome::Follow(Box::new(reply), target, kind),
            Found::Node(node) => {
                let Some(next) = node.alias.as_deref().and_then(absolute) else {
                    add_node(zone, &mut reply, &target, &node, kind);
                    return Outcome::Reply(Box::new(reply));
                };
                reply.add_answer(record(&target, RData::CNAME(CNAME(next.clone()))));
                target = next;
            }
            Found::Missing => {
                // RFC 6604: the code is that of the last name.
                reply.metadata.response_code = ResponseCode::NXDomain;
                return Outcome::Reply(Box::new(reply));
            }
            Found::Address(address) => {
                if wants(kind, type_of(address)) {
                    reply.add_answer(record(&target, data_of(address)));
                }
                return Outcome::Reply(Box::new(reply));
            }
            Found::Reverse(_) => return Outcome::Reply(Box::new(reply)),
        }
    }
    // Aliases that lead in a circle, or too far.
    reply.metadata.response_code = ResponseCode::ServFail;
    Outcome::Reply(Box::new(reply))
}

/// Adds what another resolver said of an alias's target.
pub(crate) fn complete(reply: &mut Message, found: Message) {
    reply.metadata.response_code = found.metadata.response_code;
    reply.metadata.authoritative = false;
    if found.answers.is_empty() {
        reply.add_authorities(found.authorities);
    }
    reply.add_answers(found.answers);
}

fn add_node(zone: &Zone, reply: &mut Message, asked: &Name, node: &Node, kind: RecordType) {
    let wanted = node.addresses.iter().copied();
    let wanted: Vec<IpAddr> = wanted
        .filter(|address| wants(kind, type_of(*address)))
        .collect();
    if !wanted.is_empty() {
        // Clients take the first: let it be another one each time.
        let start = usize::from(reply.metadata.id) % wanted.len();
        for address in wanted[start..].iter().chain(&wanted[..start]) {
            reply.add_answer(record(asked, data_of(*address)));
        }
    }
    if wants(kind, RecordType::SRV) {
        let weight = 100
            / u16::try_from(node.services.len().max(1))
                .unwrap_or(100)
                .min(100);
        let mut told = HashSet::new();
        for (port, text) in &node.services {
            let Some(target) = absolute(text) else {
                continue;
            };
            let srv = SRV::new(0, weight, *port, target.clone());
            reply.add_answer(record(asked, RData::SRV(srv)));
            if told.insert(text)
                && let Found::Node(node) = zone.find(text)
            {
                for address in &node.addresses {
                    reply.add_additional(record(&target, data_of(*address)));
                }
            }
        }
    }
    if wants(kind, RecordType::TXT)
        && let Some(text) = &node.text
    {
        reply.add_answer(record(asked, RData::TXT(TXT::new(vec![text.clone()]))));
    }
}

fn add_apex(zone: &Zone, reply: &mut Message, asked: &Name, kind: RecordType) {
    if wants(kind, RecordType::SOA)
        && let Some(soa) = soa(zone)
    {
        reply.add_answer(soa);
    }
    if wants(kind, RecordType::NS)
        && let Some(server) = absolute(&format!("ns.dns.{}", zone.apex()))
    {
        reply.add_answer(record(asked, RData::NS(NS(server))));
    }
}

fn soa(zone: &Zone) -> Option<Record> {
    let apex = absolute(zone.apex())?;
    let server = absolute(&format!("ns.dns.{}", zone.apex()))?;
    let person = absolute(&format!("hostmaster.{}", zone.apex()))?;
    let soa = SOA::new(server, person, 1, 7200, 1800, 86400, TTL_SECONDS);
    Some(record(&apex, RData::SOA(soa)))
}

fn start(query: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = code;
    reply.add_queries(query.queries.iter().cloned());
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_BYTES_MAX);
        reply.set_edns(edns);
    }
    reply
}

fn absolute(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn type_of(address: IpAddr) -> RecordType {
    match address {
        IpAddr::V4(_) => RecordType::A,
        IpAddr::V6(_) => RecordType::AAAA,
    }
}

fn data_of(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

fn wants(asked: RecordType, kind: RecordType) -> bool {
    asked == kind || asked == RecordType::ANY
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL_SECONDS, data)
}

/// The twelve bytes that every message starts with (RFC 1035, 4.1.1), as far as they are looked at before parsing.
struct RawHeader {
    id: u16,
    is_response: bool,
    op_code: u8,
    recursion_desired: bool,
    queries: u16,
    other_records: u32,
}

impl RawHeader {
    fn read(packet: &[u8]) -> Option<Self> {
        let header: &[u8; 12] = packet.get(..12)?.try_into().ok()?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        Some(Self {
            id: word(0),
            is_response: header[2] & 0x80 != 0,
            op_code: (header[2] >> 3) & 0x0f,
            recursion_desired: header[2] & 1 != 0,
            queries: word(4),
            other_records: [6, 8, 10].iter().map(|at| u32::from(word(*at))).sum(),
        })
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
