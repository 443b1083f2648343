//! Topology spread constraints that must hold (upstream's plugin PodTopologySpread).

use std::collections::HashMap;

use super::{Rejection, View};
use crate::cluster::NodeRoom;
use crate::resident::Resident;
use crate::spread::has_keys;

const SKEWED: &str = "node(s) didn't match pod topology spread constraints";
const NO_DOMAIN: &str =
    "node(s) didn't match pod topology spread constraints (missing required label)";

/// The domains of one constraint, with how many pods each has.
#[derive(Clone, Debug, Default)]
pub struct Domains {
    counts: HashMap<String, i64>,
    least: i64,
}

/// Of every constraint of the pod.
pub fn count(view: &View) -> Vec<Domains> {
    let (incoming, spreads) = (view.incoming, &view.incoming.spread);
    let mut all: Vec<Domains> = spreads.iter().map(|_| Domains::default()).collect();
    if spreads.is_empty() {
        return all;
    }
    for room in view.cluster.rooms().values() {
        if !has_keys(spreads, room) {
            continue;
        }
        for (spread, domains) in spreads.iter().zip(&mut all) {
            if let Some(value) = room.label(&spread.key)
                && spread.counts_node(incoming.pod, room)
            {
                let found = spread.count(&incoming.resident.namespace, room);
                *domains.counts.entry(value.to_owned()).or_insert(0) += found;
            }
        }
    }
    for (spread, domains) in spreads.iter().zip(&mut all) {
        domains.settle(spread.min_domains);
    }
    all
}

impl Domains {
    fn settle(&mut self, min_domains: usize) {
        self.least = match self.counts.len() < min_domains {
            true => 0,
            false => self.counts.values().copied().min().unwrap_or(0),
        };
    }
}

/// A pod came to the node or went from there.
pub fn shift(all: &mut [Domains], view: &View, resident: &Resident, room: &NodeRoom, by: i64) {
    let spreads = &view.incoming.spread;
    if resident.terminating
        || resident.namespace != view.incoming.resident.namespace
        || !has_keys(spreads, room)
    {
        return;
    }
    for (spread, domains) in spreads.iter().zip(all) {
        if let Some(value) = room.label(&spread.key)
            && spread.counts_pod(resident)
            && spread.counts_node(view.incoming.pod, room)
        {
            *domains.counts.entry(value.to_owned()).or_insert(0) += by;
            domains.settle(spread.min_domains);
        }
    }
}

/// The pod would not make the domains differ by more than they may.
pub fn check(all: &[Domains], view: &View, room: &NodeRoom) -> Result<(), Rejection> {
    let incoming = view.incoming;
    for (spread, domains) in incoming.spread.iter().zip(all) {
        let Some(value) = room.label(&spread.key) else {
            return Err(Rejection::fixed(NO_DOMAIN));
        };
        let here = domains.counts.get(value).copied().unwrap_or(0);
        let own = i64::from(spread.counts_pod(&incoming.resident));
        if here + own - domains.least > spread.max_skew {
            return Err(Rejection::passing(SKEWED));
        }
    }
    Ok(())
}
