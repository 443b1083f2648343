//! Plans as nft scripts: whole, or only what differs.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use super::fixed::{self, CHAINS, POLICED_EGRESS, POLICED_INGRESS};
use super::plan::Plan;
use super::render::{CLIENTS_PREFIX, Rendered, render};
use crate::Family;

/// The fixed part of an instance's table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    pub family: Family,
    pub table: String,
    pub bridge: String,
    pub pod_cidr: IpNet,
    pub service_cidr: IpNet,
    pub gateway: IpAddr,
    /// The DNS server's service address, and where it listens on the gateway: 53 unless something else had it.
    pub dns: Option<(Ipv4Addr, u16)>,
}

impl Layout {
    /// Family and name of the table.
    pub fn path(&self) -> String {
        format!("{} {}", self.family.ip(), self.table)
    }
}

/// How many clients of one endpoint are remembered; more are balanced anew each time.
const CLIENTS_MAX: u32 = 65_536;

/// Brings fixed rules and published ports up to date and leaves services and policies alone. Makes the table if there is
/// none.
pub(crate) fn adopt(layout: &Layout, plan: &Plan) -> String {
    let t = &layout.path();
    let mut out = format!("add table {t}\n");
    for (kind, name, types) in fixed::containers(layout.family) {
        let _ = writeln!(out, "add {kind} {t} {name} {{ type {types}; }}");
    }
    for (chain, hook) in CHAINS {
        let _ = writeln!(out, "add chain {t} {chain} {{ {hook} }}");
        let _ = writeln!(out, "flush chain {t} {chain}");
    }
    fixed::rules(&mut out, layout);
    for map in ["published_any", "published_at"] {
        let _ = writeln!(out, "flush map {t} {map}");
    }
    let published = Plan {
        published_any: plan.published_any.clone(),
        published_at: plan.published_at.clone(),
        ..Plan::default()
    };
    difference_into(&mut out, layout, &Plan::default(), &published);
    out
}

/// The whole table, by changing the one that is there: `found` are its chains and sets. The chains that packets come by stay
/// where they are. To delete and make them anew is one transaction too, but a packet that is on its way at that moment has
/// passed the new chain while it was empty, and meets the old one when it has been emptied.
pub(crate) fn renew(layout: &Layout, plan: &Plan, found: &Found) -> String {
    let t = &layout.path();
    let mut out = format!("add table {t}\nflush table {t}\n");
    let rendered = render(layout, plan);
    for (kind, name, types) in fixed::containers(layout.family) {
        let _ = writeln!(out, "add {kind} {t} {name} {{ type {types}; }}");
        // An element that goes and comes again is for a moment neither here nor there: of those that protect pods, only
        // the ones that differ are touched.
        if !found.policed.contains_key(name) {
            let _ = writeln!(out, "flush {kind} {t} {name}");
        }
    }
    for (map, wanted) in [
        (POLICED_INGRESS, &plan.ingress),
        (POLICED_EGRESS, &plan.egress),
    ] {
        if let Some(there) = found.policed.get(map) {
            elements(&mut out, t, map, there, wanted, IpAddr::to_string, jump);
        }
    }
    let fixed: Vec<&str> = fixed_chains().collect();
    for chain in &found.chains {
        if !fixed.contains(&chain.as_str()) && !plan.permits.contains_key(chain) {
            let _ = writeln!(out, "delete chain {t} {chain}");
        }
    }
    // The clients that are remembered stay where their endpoint does.
    let clients = |set: &&String| {
        set.starts_with(CLIENTS_PREFIX) && !rendered.clients.contains_key(set.as_str())
    };
    for set in found.sets.iter().filter(clients) {
        let _ = writeln!(out, "delete set {t} {set}");
    }
    let mut rest = plan.clone();
    if found.policed.contains_key(POLICED_INGRESS) {
        rest.ingress.clear();
    }
    if found.policed.contains_key(POLICED_EGRESS) {
        rest.egress.clear();
    }
    out.push_str(&whole(layout, &rest));
    out
}

fn jump(chain: &String) -> String {
    format!("jump {chain}")
}

/// What the kernel has of a table.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub chains: Vec<String>,
    pub sets: Vec<String>,
    /// The maps that lead pods to their permissions, as far as they hold nothing else than that.
    pub policed: BTreeMap<&'static str, BTreeMap<IpAddr, String>>,
}

/// The whole table, in place of whatever is there.
pub(crate) fn replace(layout: &Layout, plan: &Plan) -> String {
    remove(&layout.path()) + &whole(layout, plan)
}

fn whole(layout: &Layout, plan: &Plan) -> String {
    let mut out = adopt(layout, plan);
    let services = Plan {
        published_any: BTreeMap::new(),
        published_at: BTreeMap::new(),
        ..plan.clone()
    };
    difference_into(&mut out, layout, &Plan::default(), &services);
    out
}

/// What leads from one plan to another; empty when they are the same.
pub(crate) fn difference(layout: &Layout, from: &Plan, to: &Plan) -> String {
    let mut out = String::new();
    difference_into(&mut out, layout, from, to);
    out
}

/// `from` with the permissions of `to` that it lacks, where there are any: what has to be there before anything leads to it. A
/// packet that is on its way at the moment of a change may follow a new element of a map into a chain that came with it, and
/// finds that chain as it was before: empty.
pub(crate) fn ahead(from: &Plan, to: &Plan) -> Option<Plan> {
    let missing = |name: &&String| !from.permits.contains_key(*name);
    to.permits.keys().find(missing)?;
    let mut ahead = from.clone();
    for (name, permits) in &to.permits {
        ahead
            .permits
            .entry(name.clone())
            .or_insert_with(|| permits.clone());
    }
    Some(ahead)
}

/// Removes the table, whether it is there or not.
pub(crate) fn remove(path: &str) -> String {
    // "add" makes "delete" work when there is none.
    format!("add table {path}\ndelete table {path}\n")
}

/// The chains that a table has whatever the services are.
pub(crate) fn fixed_chains() -> impl Iterator<Item = &'static str> {
    CHAINS.into_iter().map(|(name, _)| name)
}

/// The chains that a plan adds to them.
pub(crate) fn chains(layout: &Layout, plan: &Plan) -> impl Iterator<Item = String> {
    render(layout, plan).chains.into_keys()
}

fn difference_into(out: &mut String, layout: &Layout, from: &Plan, to: &Plan) {
    let t = &layout.path();
    // Of thousands of chains few differ: the others need not be spelled out.
    let (before, after) = (
        render(layout, &beside(from, to)),
        render(layout, &beside(to, from)),
    );
    add_chains(out, layout, &before, &after);
    let verdict = |chain: &String| format!("goto {chain}");
    elements(
        out,
        t,
        "service_addresses",
        &from.addresses,
        &to.addresses,
        |k| format!("{} . {} . {}", k.0, k.1, k.2),
        verdict,
    );
    elements(
        out,
        t,
        "node_ports",
        &from.node_ports,
        &to.node_ports,
        |k| format!("{} . {}", k.0, k.1),
        verdict,
    );
    let target = |target: &SocketAddr| format!("{} . {}", target.ip(), target.port());
    elements(
        out,
        t,
        "published_any",
        &from.published_any,
        &to.published_any,
        |k| format!("{} . {}", k.0, k.1),
        target,
    );
    elements(
        out,
        t,
        "published_at",
        &from.published_at,
        &to.published_at,
        |k| format!("{} . {} . {}", k.0, k.1, k.2),
        target,
    );
    for (map, from, to) in [
        (POLICED_INGRESS, &from.ingress, &to.ingress),
        (POLICED_EGRESS, &from.egress, &to.egress),
    ] {
        elements(out, t, map, from, to, IpAddr::to_string, jump);
    }
    let (from, to) = (unit(from.targets()), unit(to.targets()));
    elements(
        out,
        t,
        "hairpin",
        &from,
        &to,
        |a| format!("{a} . {a}"),
        |()| String::new(),
    );
    let far = |targets: &BTreeMap<IpAddr, ()>| {
        let far = targets.keys().filter(|a| !layout.pod_cidr.contains(*a));
        unit(far.copied())
    };
    elements(
        out,
        t,
        "far",
        &far(&from),
        &far(&to),
        IpAddr::to_string,
        |()| String::new(),
    );
    remove_chains(out, t, &before, &after);
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
fn add_chains(out: &mut String, layout: &Layout, before: &Rendered, after: &Rendered) {
    let (t, address) = (&layout.path(), layout.family.address_type());
    for (set, seconds) in &after.clients {
        if !before.clients.contains_key(set) {
            let _ = writeln!(
                out,
                "add set {t} {set} {{ type {address}; flags dynamic,timeout; timeout {seconds}s; size {CLIENTS_MAX}; }}"
            );
        }
    }
    let changed = after
        .chains
        .iter()
        .filter(|(name, rules)| before.chains.get(*name) != Some(rules));
    for (name, _) in changed.clone() {
        let verb = if before.chains.contains_key(name) {
            "flush"
        } else {
            "add"
        };
        let _ = writeln!(out, "{verb} chain {t} {name}");
    }
    for (name, rules) in changed {
        for rule in rules {
            let _ = writeln!(out, "add rule {t} {name} {rule}");
        }
    }
}

/// What nothing leads to any more: emptied first, because they may lead to each other.
fn remove_chains(out: &mut String, t: &str, before: &Rendered, after: &Rendered) {
    let gone = |name: &&String| !after.chains.contains_key(*name);
    for verb in ["flush", "delete"] {
        for name in before.chains.keys().filter(gone) {
            let _ = writeln!(out, "{verb} chain {t} {name}");
        }
    }
    for set in before.clients.keys() {
        if !after.clients.contains_key(set) {
            let _ = writeln!(out, "delete set {t} {set}");
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
    out: &mut String,
    table: &str,
    map: &str,
    from: &BTreeMap<K, V>,
    to: &BTreeMap<K, V>,
    key_text: impl Fn(&K) -> String,
    value_text: impl Fn(&V) -> String,
) {
    let element = |(key, value): (&K, &V)| match value_text(value) {
        value if value.is_empty() => key_text(key),
        value => format!("{} : {value}", key_text(key)),
    };
    let (gone, new) = differing(from, to);
    let gone: Vec<String> = gone.into_iter().map(element).collect();
    let new: Vec<String> = new.into_iter().map(element).collect();
    for (verb, list) in [("delete", gone), ("add", new)] {
        if !list.is_empty() {
            let _ = writeln!(
                out,
                "{verb} element {table} {map} {{ {} }}",
                list.join(", ")
            );
        }
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
