//! Plans as nft scripts: whole, or only what differs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::change::{self, Change};
use super::fixed::{self, CHAINS};
use super::plan::Plan;
use super::render::render;
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
pub(super) const CLIENTS_MAX: u32 = 65_536;

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
    out + &script(
        layout,
        &change::difference(layout, &Plan::default(), &published),
    )
}

/// The whole table, by changing the one that is there: `found` are its chains and sets. The chains that packets come by stay
/// where they are. To delete and make them anew is one transaction too, but a packet that is on its way at that moment has
/// passed the new chain while it was empty, and meets the old one when it has been emptied.
pub(crate) fn renew(layout: &Layout, plan: &Plan, found: &Found) -> String {
    let t = &layout.path();
    let mut out = format!("add table {t}\nflush table {t}\n");
    for (kind, name, types) in fixed::containers(layout.family) {
        let _ = writeln!(out, "add {kind} {t} {name} {{ type {types}; }}");
    }
    for (chain, hook) in CHAINS {
        let _ = writeln!(out, "add chain {t} {chain} {{ {hook} }}");
    }
    fixed::rules(&mut out, layout);
    out + &script(layout, &change::renewal(layout, plan, found))
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
    let services = Plan {
        published_any: BTreeMap::new(),
        published_at: BTreeMap::new(),
        ..plan.clone()
    };
    let changes = change::difference(layout, &Plan::default(), &services);
    adopt(layout, plan) + &script(layout, &changes)
}

/// Changes, line by line.
pub(super) fn script(layout: &Layout, changes: &[Change]) -> String {
    let mut out = String::new();
    for change in changes {
        change.text(&mut out, layout);
    }
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

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
