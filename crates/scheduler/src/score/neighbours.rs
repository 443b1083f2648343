//! The node whose pods are wanted near, or want this one near; and away from those that are not.

use std::collections::HashMap;

use super::MAX;
use crate::cluster::NodeRoom;
use crate::filter::View;
use crate::resident::Term;

/// What a requirement of a pod that is there counts, when it is about the new one.
const REQUIRED: i64 = 1;

type Weights = HashMap<String, HashMap<String, i64>>;

pub fn scores(view: &View, rooms: &[&NodeRoom]) -> Vec<i64> {
    let weights = weights(view);
    let raw: Vec<i64> = rooms
        .iter()
        .map(|room| {
            let parts = weights.iter();
            parts
                .filter_map(|(key, values)| values.get(room.label(key)?))
                .sum()
        })
        .collect();
    let least = raw.iter().copied().min().unwrap_or(0);
    let most = raw.iter().copied().max().unwrap_or(0);
    raw.into_iter()
        .map(|score| match most - least {
            0 => 0,
            range => MAX * (score - least) / range,
        })
        .collect()
}

/// What a node gets for each of its labels.
fn weights(view: &View) -> Weights {
    let (incoming, namespaces) = (&view.incoming.resident, &view.cluster.namespaces);
    let own = &incoming.neighbours.preferred;
    let mut weights = Weights::new();
    if own.is_empty() && !view.cluster.has_choosy_pods() {
        return weights;
    }
    let mut add = |term: &Term, room: &NodeRoom, weight: i64| {
        if let Some(value) = room.label(&term.topology_key) {
            let values = weights.entry(term.topology_key.clone()).or_default();
            *values.entry(value.to_owned()).or_insert(0) += weight;
        }
    };
    for room in view.cluster.rooms().values() {
        // without wishes of its own, only those of others count
        let residents = match own.is_empty() {
            true => &room.choosy,
            false => &room.residents,
        };
        for resident in residents {
            for (weight, term) in own {
                if term.means(resident, namespaces) {
                    add(term, room, *weight);
                }
            }
            let theirs = &resident.neighbours;
            for term in &theirs.near {
                if term.means(incoming, namespaces) {
                    add(term, room, REQUIRED);
                }
            }
            for (weight, term) in &theirs.preferred {
                if term.means(incoming, namespaces) {
                    add(term, room, *weight);
                }
            }
        }
    }
    weights
}
