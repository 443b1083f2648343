//! What leads from one plan to another, as data: what differs, in the order in which it has to come.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use super::fixed::{POLICED_EGRESS, POLICED_INGRESS};
use super::plan::Plan;
use super::render::{CLIENTS_PREFIX, Rendered, render};
use super::rule::Rule;
use super::text::{CLIENTS_MAX, Found, Layout, fixed_chains};
use crate::Protocol;

/// One step. What is added is not there before, and what is deleted or flushed is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// A set of clients who were given an endpoint, and the seconds that they are remembered.
    AddClients {
        set: String,
        seconds: u32,
    },
    AddChain(String),
    /// Removes its rules.
    FlushChain(String),
    /// At the end of the chain.
    AddRule {
        chain: String,
        rule: Rule,
    },
    AddElements {
        map: &'static str,
        elements: Vec<Element>,
    },
    DeleteElements {
        map: &'static str,
        elements: Vec<Element>,
    },
    /// Removes the elements of a map or set.
    FlushMap {
        kind: &'static str,
        map: &'static str,
    },
    DeleteChain(String),
    DeleteSet(String),
}

/// An element of a map, or of a set.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Element {
    pub key: Vec<Datum>,
    pub value: Option<Value>,
}

/// A part of a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Datum {
    Address(IpAddr),
    Protocol(Protocol),
    Port(u16),
}

/// What a key leads to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Goto(String),
    Jump(String),
    To(SocketAddr),
}

impl Change {
    /// As a line of an nft script.
    pub fn text(&self, out: &mut String, layout: &Layout) {
        let t = layout.path();
        let _ = match self {
            Change::AddClients { set, seconds } => writeln!(
                out,
                "add set {t} {set} {{ type {}; flags dynamic,timeout; timeout {seconds}s; size {CLIENTS_MAX}; }}",
                layout.family.address_type()
            ),
            Change::AddChain(chain) => writeln!(out, "add chain {t} {chain}"),
            Change::FlushChain(chain) => writeln!(out, "flush chain {t} {chain}"),
            Change::DeleteChain(chain) => writeln!(out, "delete chain {t} {chain}"),
            Change::AddRule { chain, rule } => {
                writeln!(out, "add rule {t} {chain} {}", rule.text(layout.family))
            }
            Change::DeleteSet(set) => writeln!(out, "delete set {t} {set}"),
            Change::FlushMap { kind, map } => writeln!(out, "flush {kind} {t} {map}"),
            Change::AddElements { map, elements } => {
                writeln!(out, "add element {t} {map} {{ {} }}", listed(elements))
            }
            Change::DeleteElements { map, elements } => {
                writeln!(out, "delete element {t} {map} {{ {} }}", listed(elements))
            }
        };
    }
}

fn listed(elements: &[Element]) -> String {
    let elements: Vec<String> = elements.iter().map(Element::text).collect();
    elements.join(", ")
}

impl Element {
    fn text(&self) -> String {
        let mut text = String::new();
        for (number, datum) in self.key.iter().enumerate() {
            let dot = if number == 0 { "" } else { " . " };
            let _ = match datum {
                Datum::Address(address) => write!(text, "{dot}{address}"),
                Datum::Protocol(protocol) => write!(text, "{dot}{protocol}"),
                Datum::Port(port) => write!(text, "{dot}{port}"),
            };
        }
        let _ = match &self.value {
            None => Ok(()),
            Some(Value::Goto(chain)) => write!(text, " : goto {chain}"),
            Some(Value::Jump(chain)) => write!(text, " : jump {chain}"),
            Some(Value::To(target)) => write!(text, " : {} . {}", target.ip(), target.port()),
        };
        text
    }
}

/// What leads from one plan to another; nothing when they are the same.
pub(super) fn difference(layout: &Layout, from: &Plan, to: &Plan) -> Vec<Change> {
    let mut changes = Vec::new();
    // Of thousands of chains few differ: the others need not be spelled out.
    let (before, after) = (
        render(layout, &beside(from, to)),
        render(layout, &beside(to, from)),
    );
    add_chains(&mut changes, &before, after.clone());
    all_elements(&mut changes, layout, from, to);
    remove_chains(&mut changes, &before, &after);
    changes
}

/// What makes services, policies and published ports those of a plan, whatever they are: `found` is what the table has. The
/// fixed chains are not touched.
pub(super) fn renewal(layout: &Layout, plan: &Plan, found: &Found) -> Vec<Change> {
    let after = render(layout, plan);
    let mut before = Rendered::default();
    let fixed: Vec<&str> = fixed_chains().collect();
    for chain in &found.chains {
        if !fixed.contains(&chain.as_str()) {
            // Not the rules that it shall have: it is filled anew.
            before.chains.insert(chain.clone(), Vec::new());
        }
    }
    for set in &found.sets {
        if set.starts_with(CLIENTS_PREFIX) {
            before.clients.insert(set.clone(), 0);
        }
    }
    let mut there = Plan::default();
    for (map, policed) in [
        (POLICED_INGRESS, &mut there.ingress),
        (POLICED_EGRESS, &mut there.egress),
    ] {
        if let Some(found) = found.policed.get(map) {
            policed.clone_from(found);
        }
    }
    let mut changes = Vec::new();
    add_chains(&mut changes, &before, after.clone());
    for (kind, map, _) in super::fixed::containers(layout.family) {
        // An element that goes and comes again is for a moment neither here nor there: of those that protect pods, only
        // the ones that differ are touched.
        if !found.policed.contains_key(map) {
            changes.push(Change::FlushMap { kind, map });
        }
    }
    all_elements(&mut changes, layout, &there, plan);
    remove_chains(&mut changes, &before, &after);
    changes
}

/// The elements of all maps and sets.
fn all_elements(out: &mut Vec<Change>, layout: &Layout, from: &Plan, to: &Plan) {
    let at = |key: &(IpAddr, Protocol, u16)| {
        vec![
            Datum::Address(key.0),
            Datum::Protocol(key.1),
            Datum::Port(key.2),
        ]
    };
    let anywhere = |key: &(Protocol, u16)| vec![Datum::Protocol(key.0), Datum::Port(key.1)];
    let goto = |chain: &String| Some(Value::Goto(chain.clone()));
    let target = |target: &SocketAddr| Some(Value::To(*target));
    elements(
        out,
        "service_addresses",
        &from.addresses,
        &to.addresses,
        at,
        goto,
    );
    elements(
        out,
        "node_ports",
        &from.node_ports,
        &to.node_ports,
        anywhere,
        goto,
    );
    elements(
        out,
        "published_any",
        &from.published_any,
        &to.published_any,
        anywhere,
        target,
    );
    elements(
        out,
        "published_at",
        &from.published_at,
        &to.published_at,
        at,
        target,
    );
    let alone = |address: &IpAddr| vec![Datum::Address(*address)];
    let jump = |chain: &String| Some(Value::Jump(chain.clone()));
    elements(
        out,
        POLICED_INGRESS,
        &from.ingress,
        &to.ingress,
        alone,
        jump,
    );
    elements(out, POLICED_EGRESS, &from.egress, &to.egress, alone, jump);
    let (from, to) = (unit(from.targets()), unit(to.targets()));
    let twice = |address: &IpAddr| vec![Datum::Address(*address); 2];
    elements(out, "hairpin", &from, &to, twice, |()| None);
    let far = |targets: &BTreeMap<IpAddr, ()>| {
        let far = targets.keys().filter(|a| !layout.pod_cidr.contains(*a));
        unit(far.copied())
    };
    elements(out, "far", &far(&from), &far(&to), alone, |()| None);
}

/// The chains of a plan that another one has not, or has with other content.
fn beside(plan: &Plan, other: &Plan) -> Plan {
    fn alone<V: Clone + PartialEq>(
        of: &BTreeMap<String, V>,
        other: &BTreeMap<String, V>,
    ) -> BTreeMap<String, V> {
        let (own, _) = differing(of, other);
        own.into_iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
    Plan {
        chains: alone(&plan.chains, &other.chains),
        doors: alone(&plan.doors, &other.doors),
        permits: alone(&plan.permits, &other.permits),
        ..Plan::default()
    }
}

fn unit(addresses: impl IntoIterator<Item = IpAddr>) -> BTreeMap<IpAddr, ()> {
    addresses.into_iter().map(|address| (address, ())).collect()
}

/// Sets and chains that are new or have changed. All exist before the first rule that may lead to them.
fn add_chains(out: &mut Vec<Change>, before: &Rendered, after: Rendered) {
    for (set, seconds) in after.clients {
        if !before.clients.contains_key(&set) {
            out.push(Change::AddClients { set, seconds });
        }
    }
    let changed: Vec<(String, Vec<Rule>)> = after
        .chains
        .into_iter()
        .filter(|(name, rules)| before.chains.get(name) != Some(rules))
        .collect();
    for (name, _) in &changed {
        out.push(if before.chains.contains_key(name) {
            Change::FlushChain(name.clone())
        } else {
            Change::AddChain(name.clone())
        });
    }
    for (chain, rules) in changed {
        out.extend(rules.into_iter().map(|rule| Change::AddRule {
            chain: chain.clone(),
            rule,
        }));
    }
}

/// What nothing leads to any more: emptied first, because they may lead to each other.
fn remove_chains(out: &mut Vec<Change>, before: &Rendered, after: &Rendered) {
    let gone = |name: &&String| !after.chains.contains_key(*name);
    for step in [Change::FlushChain, Change::DeleteChain] {
        let gone = before.chains.keys().filter(gone);
        out.extend(gone.map(|name| step(name.clone())));
    }
    for set in before.clients.keys() {
        if !after.clients.contains_key(set) {
            out.push(Change::DeleteSet(set.clone()));
        }
    }
}

/// The entries of each of two maps that the other has not, or has with another value: one walk along both, for there may be
/// thousands, and few of them differ.
fn differing<'a, K: Ord, V: PartialEq>(
    one: &'a BTreeMap<K, V>,
    other: &'a BTreeMap<K, V>,
) -> (Vec<(&'a K, &'a V)>, Vec<(&'a K, &'a V)>) {
    let (mut alone, mut besides) = (Vec::new(), Vec::new());
    let (mut left, mut right) = (one.iter().peekable(), other.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return (alone, besides),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.0.cmp(b.0),
        };
        let a = if order.is_le() { left.next() } else { None };
        let b = if order.is_ge() { right.next() } else { None };
        if let (Some(a), Some(b)) = (a, b)
            && a.1 == b.1
        {
            continue;
        }
        alone.extend(a);
        besides.extend(b);
    }
}

/// Deletes and adds the elements that differ. A changed value is both: a map has no "replace".
fn elements<K: Ord, V: PartialEq>(
    out: &mut Vec<Change>,
    map: &'static str,
    from: &BTreeMap<K, V>,
    to: &BTreeMap<K, V>,
    key: impl Fn(&K) -> Vec<Datum>,
    value: impl Fn(&V) -> Option<Value>,
) {
    let element = |(of, to): (&K, &V)| Element {
        key: key(of),
        value: value(to),
    };
    let (gone, new) = differing(from, to);
    let gone: Vec<Element> = gone.into_iter().map(element).collect();
    let new: Vec<Element> = new.into_iter().map(element).collect();
    if !gone.is_empty() {
        out.push(Change::DeleteElements {
            map,
            elements: gone,
        });
    }
    if !new.is_empty() {
        out.push(Change::AddElements { map, elements: new });
    }
}
