//! Changes as the kernel's own messages (linux/netfilter/nf_tables.h).
//!
//! The same instructions that nft makes of the same text, down to the order in which a prefix or a single value is
//! compared, so that nft shows them as what they are and either may follow the other.

use std::net::IpAddr;

use ipnet::IpNet;

use super::change::{Change, Datum, Element, Value};
use super::plan::Direction;
use super::rule::{Ports, Rule};
use super::text::{CLIENTS_MAX, Layout};
use crate::netfilter::Writer;
use crate::{Family, Protocol, Transport};

/// NFT_MSG_*
const NEW_CHAIN: u16 = 3;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const DELETE_SET: u16 = 11;
const NEW_ELEMENTS: u16 = 12;
const DELETE_ELEMENTS: u16 = 14;

/// NLM_F_CREATE, and with NLM_F_EXCL: what is there already is not what we believe, and the kernel shall refuse.
const CREATE: u16 = 0x400;
const CREATE_NEW: u16 = CREATE | 0x200;
/// NLM_F_CREATE | NLM_F_APPEND
const APPEND: u16 = CREATE | 0x800;

/// NFT_SET_*
const SET_ANONYMOUS: u32 = 0x1;
const SET_CONSTANT: u32 = 0x2;
const SET_INTERVAL: u32 = 0x4;
const SET_MAP: u32 = 0x8;
const SET_TIMEOUT: u32 = 0x10;
const SET_DYNAMIC: u32 = 0x20;

/// NFT_REG_*, and the first register of four bytes (NFT_REG32_00).
const VERDICT: u32 = 0;
const REGISTER_1: u32 = 1;
const REGISTER_2: u32 = 2;
const FIRST_WORD: u32 = 8;

const NF_DROP: i32 = 0;
const NFT_JUMP: i32 = -3;
const NFT_GOTO: i32 = -4;
const NFT_RETURN: i32 = -5;

/// NFT_CMP_*
const EQUAL: u32 = 0;
const UNEQUAL: u32 = 1;
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;

/// How nft numbers types of data; a concatenation is its parts, six bits each.
const TYPE_VERDICT: u32 = 0xffff_ff00;
const TYPE_INTEGER: u32 = 4;
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_PORT: u32 = 13;
const TYPE_BITS: u32 = 6;

/// How nft notes, for itself, in which order the bytes of a set's keys or values are, and that an interval has no end.
const NOTE_KEY_ORDER: u8 = 0;
const NOTE_VALUE_ORDER: u8 = 1;
const NOTE_MERGE: u8 = 2;
const NOTE_OPEN: u8 = 1;
const NOTE_COMMENT: u8 = 0;
const ORDER_INVALID: u32 = 0;
const ORDER_HOST: u32 = 1;
const ORDER_NETWORK: u32 = 2;

/// Elements in one message: its length is a number of 16 bits, and no element has more than 250 bytes.
const ELEMENTS_MAX: usize = 200;

/// Gives out one message: type, flags, and its attributes.
pub(super) trait Sink {
    fn message(&mut self, kind: u16, flags: u16, attributes: &[u8]);
    /// A number for a set that has no name yet, different within a transaction.
    fn set_id(&mut self) -> u32;
}

/// The messages of one change.
pub(super) fn encode(layout: &Layout, change: &Change, out: &mut impl Sink) {
    let of = Encoder { layout, out };
    match change {
        Change::AddClients { set, seconds } => of.clients(set, *seconds),
        Change::AddChain(chain) => of.chain(NEW_CHAIN, CREATE_NEW, chain),
        Change::DeleteChain(chain) => of.chain(DELETE_CHAIN, 0, chain),
        Change::FlushChain(chain) => of.flush(chain),
        Change::AddRule { chain, rule } => of.rule(chain, rule),
        Change::DeleteSet(set) => of.delete_set(set),
        Change::FlushMap { kind: _, map } => of.flush_map(map),
        Change::AddElements { map, elements } => {
            of.elements(NEW_ELEMENTS, CREATE_NEW, map, elements);
        }
        Change::DeleteElements { map, elements } => {
            of.elements(DELETE_ELEMENTS, 0, map, elements);
        }
    }
}

/// The message that adds an element to a set of a table, or takes it away, by its key.
pub(super) fn element(table: &str, (add, set, key): (bool, &str, &[u8]), out: &mut impl Sink) {
    let mut writer = Writer::default();
    writer.text(1, table);
    writer.text(2, set);
    writer.nest(3, |list| {
        list.nest(1, |one| one.nest(1, |data| data.value(1, key)));
    });
    let (kind, flags) = match add {
        true => (NEW_ELEMENTS, CREATE),
        false => (DELETE_ELEMENTS, 0),
    };
    out.message(kind, flags, writer.bytes());
}

struct Encoder<'a, S> {
    layout: &'a Layout,
    out: &'a mut S,
}

impl<S: Sink> Encoder<'_, S> {
    /// Attributes that begin with the table's name, as all do.
    fn begin(&self) -> Writer {
        let mut writer = Writer::default();
        writer.text(1, &self.layout.table);
        writer
    }

    fn chain(self, kind: u16, flags: u16, chain: &str) {
        let mut writer = self.begin();
        writer.text(3, chain);
        self.out.message(kind, flags, writer.bytes());
    }

    /// To delete rules without saying which deletes all.
    fn flush(self, chain: &str) {
        let mut writer = self.begin();
        writer.text(2, chain);
        self.out.message(DELETE_RULE, 0, writer.bytes());
    }

    fn clients(self, set: &str, seconds: u32) {
        let id = self.out.set_id();
        let mut writer = self.begin();
        writer.text(2, set);
        writer.number(3, SET_TIMEOUT | SET_DYNAMIC);
        writer.number(4, address_type(self.layout.family));
        writer.number(5, address_bytes(self.layout.family));
        writer.number(10, id);
        writer.nest(9, |size| size.number(1, CLIENTS_MAX));
        writer.value(11, &(u64::from(seconds) * 1000).to_be_bytes());
        writer.value(13, &notes(&[(NOTE_KEY_ORDER, ORDER_NETWORK)]));
        self.out.message(NEW_SET, CREATE_NEW, writer.bytes());
    }

    fn delete_set(self, set: &str) {
        let mut writer = self.begin();
        writer.text(2, set);
        self.out.message(DELETE_SET, 0, writer.bytes());
    }

    /// To delete elements without saying which deletes all.
    fn flush_map(self, map: &str) {
        let mut writer = self.begin();
        writer.text(2, map);
        self.out.message(DELETE_ELEMENTS, 0, writer.bytes());
    }

    fn elements(self, kind: u16, flags: u16, map: &str, elements: &[Element]) {
        for part in elements.chunks(ELEMENTS_MAX) {
            let mut writer = self.begin();
            writer.text(2, map);
            writer.nest(3, |list| {
                for (number, element) in (1..).zip(part) {
                    list.nest(number, |one| encode_element(one, element));
                }
            });
            self.out.message(kind, flags, writer.bytes());
        }
    }

    fn rule(mut self, chain: &str, rule: &Rule) {
        let mut expressions = Writer::default();
        self.expressions(&mut expressions, rule);
        let mut writer = self.begin();
        writer.text(2, chain);
        writer.value(4 | Writer::NESTED, expressions.bytes());
        if let Rule::Return { comment, .. } = rule
            && !comment.is_empty()
        {
            let mut note = vec![NOTE_COMMENT, (comment.len() + 1) as u8];
            note.extend(comment.as_bytes());
            note.push(0);
            writer.value(7, &note);
        }
        self.out.message(NEW_RULE, APPEND, writer.bytes());
    }

    fn expressions(&mut self, to: &mut Writer, rule: &Rule) {
        let family = self.layout.family;
        match rule {
            Rule::Drop => verdict(to, NF_DROP, None),
            Rule::Goto(chain) => verdict(to, NFT_GOTO, Some(chain)),
            Rule::Translate {
                protocol,
                to: target,
            } => {
                load_protocol(to);
                compare(to, EQUAL, &[number_of(*protocol)]);
                immediate(to, REGISTER_1, &octets(target.ip()));
                immediate(to, REGISTER_2, &target.port().to_be_bytes());
                translate(to, family, REGISTER_2, true);
            }
            Rule::Balance {
                protocol,
                endpoints,
            } => {
                load_protocol(to);
                compare(to, EQUAL, &[number_of(*protocol)]);
                let values = endpoints.iter().map(|end| Value::To(*end));
                let value_bytes = address_bytes(family) + 4;
                let value_type = address_type(family) << TYPE_BITS | TYPE_PORT;
                let map = self.choices(values, (value_type, value_bytes), ORDER_INVALID);
                random(to, endpoints.len());
                look_up(to, &map, Some(REGISTER_1), false);
                // The port comes after the address in what was found.
                let port = match family {
                    Family::V4 => FIRST_WORD + 1,
                    Family::V6 => REGISTER_2,
                };
                translate(to, family, port, false);
            }
            Rule::Choose(chains) => {
                let values = chains.iter().cloned().map(Value::Goto);
                let map = self.choices(values, (TYPE_VERDICT, 0), ORDER_INVALID);
                random(to, chains.len());
                look_up(to, &map, Some(VERDICT), false);
            }
            Rule::Remember(set) => {
                load_address(to, family, Side::Source, None);
                expression(to, "dynset", |data| {
                    data.number(4, REGISTER_1);
                    // NFT_DYNSET_OP_UPDATE
                    data.number(3, 1);
                    data.text(1, set);
                });
            }
            Rule::Known { set, chain } => {
                load_address(to, family, Side::Source, None);
                look_up(to, &Set::named(set), None, false);
                verdict(to, NFT_GOTO, Some(chain));
            }
            Rule::Exclude { sources } => {
                load_origin(to);
                compare(to, UNEQUAL, &RTN_LOCAL.to_ne_bytes());
                if !sources.is_empty() {
                    load_address(to, family, Side::Source, None);
                    self.among(to, &bounds(sources), address_type(family), true);
                }
                verdict(to, NF_DROP, None);
            }
            Rule::From { range, chain } => {
                within(to, family, range);
                verdict(to, NFT_GOTO, Some(chain));
            }
            Rule::Own { chain } => {
                load_origin(to);
                compare(to, EQUAL, &RTN_LOCAL.to_ne_bytes());
                verdict(to, NFT_GOTO, Some(chain));
            }
            Rule::Return {
                direction,
                peers,
                ports,
                comment: _,
            } => {
                if let Some(peers) = peers {
                    let side = match direction {
                        Direction::Ingress => Side::Source,
                        Direction::Egress => Side::Destination,
                    };
                    load_address(to, family, side, None);
                    self.among(to, &bounds(peers), address_type(family), false);
                }
                if let Some(ports) = ports {
                    self.ports(to, ports);
                }
                verdict(to, NFT_RETURN, None);
            }
        }
    }

    fn ports(&mut self, to: &mut Writer, ports: &Ports) {
        load_protocol(to);
        compare(to, EQUAL, &[transport_number(ports.transport)]);
        if ports.ranges.is_empty() {
            return;
        }
        // NFT_PAYLOAD_TRANSPORT_HEADER: the destination's port follows the source's.
        load_payload(to, 2, 2, 2);
        let bound = |port: u16| port.to_be_bytes().to_vec();
        let ranges = ports.ranges.iter();
        let ranges: Vec<Range> = ranges.map(|(a, b)| (bound(*a), bound(*b))).collect();
        self.among(to, &ranges, TYPE_PORT, false);
    }

    /// Goes on when register 1 is in one of the ranges, or in none of them.
    fn among(&mut self, to: &mut Writer, ranges: &[Range], key_type: u32, none: bool) {
        let single = |(first, last): &Range| first == last;
        match ranges {
            [one] if single(one) => compare(to, if none { UNEQUAL } else { EQUAL }, &one.0),
            [(first, last)] if none => expression(to, "range", |data| {
                data.number(1, REGISTER_1);
                data.number(2, UNEQUAL);
                data.nest(3, |value| value.value(1, first));
                data.nest(4, |value| value.value(1, last));
            }),
            [(first, last)] => {
                compare(to, AT_LEAST, first);
                compare(to, AT_MOST, last);
            }
            _ => {
                let set = if ranges.iter().all(single) {
                    self.values(ranges, key_type)
                } else {
                    self.intervals(ranges, key_type)
                };
                look_up(to, &set, None, none);
            }
        }
    }

    /// A set of single values.
    fn values(&mut self, values: &[Range], key_type: u32) -> Set {
        let elements = values
            .iter()
            .map(|(value, _)| move |one: &mut Writer| one.nest(1, |key| key.value(1, value)));
        let key_bytes = values.first().map_or(0, |(value, _)| value.len());
        let about = About {
            flags: 0,
            key: (key_type, key_bytes as u32),
            value: None,
            notes: notes(&[(NOTE_KEY_ORDER, ORDER_NETWORK)]),
        };
        self.anonymous(&about, elements.collect())
    }

    /// A set of ranges, each as its first value and the first one after it, which may not exist. Ascending, apart.
    fn intervals(&mut self, ranges: &[Range], key_type: u32) -> Set {
        let mut elements = Vec::new();
        let mut add = |value: Vec<u8>, end: bool, open: bool| {
            elements.push(move |one: &mut Writer| {
                if end {
                    // NFT_SET_ELEM_INTERVAL_END
                    one.number(3, 1);
                }
                one.nest(1, |key| key.value(1, &value));
                if open {
                    one.value(6, &notes(&[(NOTE_OPEN, 1)]));
                }
            });
        };
        let key_bytes = ranges.first().map_or(0, |(first, _)| first.len());
        if ranges
            .first()
            .is_some_and(|(first, _)| first.iter().any(|byte| *byte != 0))
        {
            add(vec![0; key_bytes], true, false);
        }
        for (first, last) in ranges {
            let after = successor(last);
            add(first.clone(), false, after.is_none());
            if let Some(after) = after {
                add(after, true, false);
            }
        }
        let about = About {
            flags: SET_INTERVAL,
            key: (key_type, key_bytes as u32),
            value: None,
            notes: notes(&[(NOTE_KEY_ORDER, ORDER_NETWORK), (NOTE_MERGE, 1)]),
        };
        self.anonymous(&about, elements)
    }

    /// A map from 0, 1, 2... to `values`.
    fn choices(
        &mut self,
        values: impl Iterator<Item = Value>,
        value_type: (u32, u32),
        value_order: u32,
    ) -> Set {
        let elements = (0u32..).zip(values).map(|(number, value)| {
            move |one: &mut Writer| {
                one.nest(1, |key| key.value(1, &number.to_ne_bytes()));
                encode_value(one, &value);
            }
        });
        let about = About {
            flags: SET_MAP,
            key: (TYPE_INTEGER, 4),
            value: Some(value_type),
            notes: notes(&[
                (NOTE_KEY_ORDER, ORDER_HOST),
                (NOTE_VALUE_ORDER, value_order),
            ]),
        };
        self.anonymous(&about, elements.collect())
    }

    /// A set or map that lives in one rule.
    fn anonymous<E: Fn(&mut Writer)>(&mut self, about: &About, elements: Vec<E>) -> Set {
        let set = Set {
            // The kernel puts a number there.
            name: if about.value.is_some() {
                "__map%d"
            } else {
                "__set%d"
            }
            .into(),
            id: Some(self.out.set_id()),
        };
        let mut writer = self.begin();
        writer.text(2, &set.name);
        writer.number(3, SET_ANONYMOUS | SET_CONSTANT | about.flags);
        writer.number(4, about.key.0);
        writer.number(5, about.key.1);
        if let Some((value_type, value_bytes)) = about.value {
            writer.number(6, value_type);
            writer.number(7, value_bytes);
        }
        set.write_id(&mut writer, 10);
        writer.nest(9, |size| size.number(1, elements.len() as u32));
        writer.value(13, &about.notes);
        self.out.message(NEW_SET, CREATE_NEW, writer.bytes());
        for part in elements.chunks(ELEMENTS_MAX) {
            let mut writer = self.begin();
            writer.text(2, &set.name);
            set.write_id(&mut writer, 4);
            writer.nest(3, |list| {
                for (number, element) in (1..).zip(part) {
                    list.nest(number, element);
                }
            });
            self.out.message(NEW_ELEMENTS, CREATE_NEW, writer.bytes());
        }
        set
    }
}

/// First and last value, in network byte order.
type Range = (Vec<u8>, Vec<u8>);

/// What an anonymous set is made of: types with their sizes in bytes.
struct About {
    flags: u32,
    key: (u32, u32),
    value: Option<(u32, u32)>,
    notes: Vec<u8>,
}

/// How a rule names a set.
struct Set {
    name: String,
    id: Option<u32>,
}

impl Set {
    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            id: None,
        }
    }

    fn write_id(&self, to: &mut Writer, kind: u16) {
        if let Some(id) = self.id {
            to.number(kind, id);
        }
    }
}

fn encode_element(to: &mut Writer, element: &Element) {
    let mut key = Vec::new();
    for datum in &element.key {
        match datum {
            Datum::Address(address) => key.extend(octets(*address)),
            Datum::Protocol(protocol) => key.extend([number_of(*protocol), 0, 0, 0]),
            Datum::Port(port) => {
                key.extend(port.to_be_bytes());
                key.extend([0; 2]);
            }
        }
    }
    to.nest(1, |data| data.value(1, &key));
    if let Some(value) = &element.value {
        encode_value(to, value);
    }
}

fn encode_value(to: &mut Writer, value: &Value) {
    to.nest(2, |data| match value {
        Value::Goto(chain) => encode_verdict(data, NFT_GOTO, Some(chain)),
        Value::Jump(chain) => encode_verdict(data, NFT_JUMP, Some(chain)),
        Value::To(target) => {
            let mut bytes = octets(target.ip());
            bytes.extend(target.port().to_be_bytes());
            bytes.extend([0; 2]);
            data.value(1, &bytes);
        }
    });
}

fn encode_verdict(data: &mut Writer, code: i32, chain: Option<&str>) {
    data.nest(2, |verdict| {
        verdict.number(1, code as u32);
        if let Some(chain) = chain {
            verdict.text(2, chain);
        }
    });
}

fn expression(to: &mut Writer, name: &str, data: impl FnOnce(&mut Writer)) {
    to.nest(1, |expression| {
        expression.text(1, name);
        expression.nest(2, data);
    });
}

fn verdict(to: &mut Writer, code: i32, chain: Option<&str>) {
    expression(to, "immediate", |data| {
        data.number(1, VERDICT);
        data.nest(2, |data| encode_verdict(data, code, chain));
    });
}

fn immediate(to: &mut Writer, register: u32, value: &[u8]) {
    expression(to, "immediate", |data| {
        data.number(1, register);
        data.nest(2, |data| data.value(1, value));
    });
}

/// Goes on when register 1 is so.
fn compare(to: &mut Writer, how: u32, with: &[u8]) {
    expression(to, "cmp", |data| {
        data.number(1, REGISTER_1);
        data.number(2, how);
        data.nest(3, |value| value.value(1, with));
    });
}

fn load_protocol(to: &mut Writer) {
    expression(to, "meta", |data| {
        // NFT_META_L4PROTO
        data.number(2, 16);
        data.number(1, REGISTER_1);
    });
}

const RTN_LOCAL: u32 = 2;

/// What kind of address a packet comes from.
fn load_origin(to: &mut Writer) {
    expression(to, "fib", |data| {
        // NFTA_FIB_F_SADDR, NFT_FIB_RESULT_ADDRTYPE
        data.number(3, 1);
        data.number(2, 3);
        data.number(1, REGISTER_1);
    });
}

fn load_payload(to: &mut Writer, base: u32, offset: u32, bytes: u32) {
    expression(to, "payload", |data| {
        data.number(1, REGISTER_1);
        data.number(2, base);
        data.number(3, offset);
        data.number(4, bytes);
    });
}

#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

/// An address of the packet, or only so many bytes of it.
fn load_address(to: &mut Writer, family: Family, side: Side, bytes: Option<u32>) {
    // NFT_PAYLOAD_NETWORK_HEADER
    let source = match family {
        Family::V4 => 12,
        Family::V6 => 8,
    };
    let all = address_bytes(family);
    let offset = match side {
        Side::Source => source,
        Side::Destination => source + all,
    };
    load_payload(to, 1, offset, bytes.unwrap_or(all));
}

/// Goes on when the source is in a range: whole bytes are compared as they are.
fn within(to: &mut Writer, family: Family, range: &IpNet) {
    let network = octets(range.network());
    let prefix = usize::from(range.prefix_len());
    if prefix > 0 && prefix.is_multiple_of(8) {
        let bytes = prefix / 8;
        load_address(to, family, Side::Source, Some(bytes as u32));
        compare(to, EQUAL, &network[..bytes]);
        return;
    }
    load_address(to, family, Side::Source, None);
    expression(to, "bitwise", |data| {
        data.number(1, REGISTER_1);
        data.number(2, REGISTER_1);
        data.number(3, network.len() as u32);
        data.nest(4, |mask| mask.value(1, &octets(range.netmask())));
        data.nest(5, |xor| xor.value(1, &vec![0; network.len()]));
    });
    compare(to, EQUAL, &network);
}

/// A random number below `count`.
fn random(to: &mut Writer, count: usize) {
    expression(to, "numgen", |data| {
        data.number(1, REGISTER_1);
        data.number(2, count as u32);
        // NFT_NG_RANDOM
        data.number(3, 1);
        data.number(4, 0);
    });
}

/// Looks register 1 up: goes on when it is there, or is not; the map's value comes into `value`.
fn look_up(to: &mut Writer, set: &Set, value: Option<u32>, inverted: bool) {
    expression(to, "lookup", |data| {
        data.number(2, REGISTER_1);
        if let Some(register) = value {
            data.number(3, register);
        }
        data.text(1, &set.name);
        set.write_id(data, 4);
        if inverted {
            // NFT_LOOKUP_F_INV
            data.number(5, 1);
        }
    });
}

/// To the address in register 1 and the port in another one.
fn translate(to: &mut Writer, family: Family, port: u32, whole: bool) {
    expression(to, "nat", |data| {
        // NFT_NAT_DNAT
        data.number(1, 1);
        data.number(2, u32::from(family.number()));
        data.number(3, REGISTER_1);
        data.number(5, port);
        if whole {
            // NF_NAT_RANGE_PROTO_SPECIFIED
            data.number(7, 2);
        }
    });
}

fn bounds(ranges: &[(IpAddr, IpAddr)]) -> Vec<Range> {
    let ranges = ranges.iter();
    ranges.map(|(a, b)| (octets(*a), octets(*b))).collect()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The next value; `None` after the last.
fn successor(value: &[u8]) -> Option<Vec<u8>> {
    let mut next = value.to_vec();
    for byte in next.iter_mut().rev() {
        let (sum, carried) = byte.overflowing_add(1);
        *byte = sum;
        if !carried {
            return Some(next);
        }
    }
    None
}

/// nft's notes: type, length, a number in this machine's order.
fn notes(list: &[(u8, u32)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, number) in list {
        bytes.extend([*kind, 4]);
        bytes.extend(number.to_ne_bytes());
    }
    bytes
}

fn address_type(family: Family) -> u32 {
    match family {
        Family::V4 => TYPE_IPV4,
        Family::V6 => TYPE_IPV6,
    }
}

fn address_bytes(family: Family) -> u32 {
    match family {
        Family::V4 => 4,
        Family::V6 => 16,
    }
}

fn number_of(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => libc::IPPROTO_TCP as u8,
        Protocol::Udp => libc::IPPROTO_UDP as u8,
    }
}

fn transport_number(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => libc::IPPROTO_TCP as u8,
        Transport::Udp => libc::IPPROTO_UDP as u8,
        Transport::Sctp => libc::IPPROTO_SCTP as u8,
    }
}
