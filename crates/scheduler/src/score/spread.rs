//! Topology spread constraints that should hold, or upstream's default ones for a controller's pods.

use std::collections::HashMap;

use super::MAX;
use crate::cluster::NodeRoom;
use crate::filter::View;
use crate::spread::{HOSTNAME, Spread, has_keys};

pub fn scores(view: &View, rooms: &[&NodeRoom]) -> Vec<i64> {
    let (pod, resident) = (view.incoming.pod, &view.incoming.resident);
    let own = pod.spec.as_ref().is_some_and(|spec| {
        let given = spec.topology_spread_constraints.as_deref();
        !given.unwrap_or_default().is_empty()
    });
    let spreads = match own {
        true => Spread::of(pod, false),
        false => Spread::default_of(resident),
    };
    if spreads.is_empty() {
        return vec![0; rooms.len()];
    }
    // the default ones are for nodes without zones too
    let scored: Vec<bool> = rooms
        .iter()
        .map(|room| !own || has_keys(&spreads, room))
        .collect();
    let parts: Vec<(&Spread, HashMap<&str, i64>, f64)> = spreads
        .iter()
        .map(|spread| {
            let counts = counts(spread, &spreads, own, view, rooms, &scored);
            let domains = match spread.key == HOSTNAME {
                true => scored.iter().filter(|scored| **scored).count(),
                false => counts.len(),
            };
            (spread, counts, (domains as f64 + 2.0).ln())
        })
        .collect();
    let raw = |room: &NodeRoom| {
        let mut score = 0.0;
        for (spread, counts, weight) in &parts {
            let Some(value) = room.label(&spread.key) else {
                continue;
            };
            let count = match spread.key == HOSTNAME {
                true => match spread.owner() {
                    Some(owner) => view.cluster.of_owner_on(owner, room),
                    None => spread.count(&resident.namespace, room),
                },
                false => counts.get(value).copied().unwrap_or(0),
            };
            score += count as f64 * weight + (spread.max_skew - 1) as f64;
        }
        score.round() as i64
    };
    let raw: Vec<Option<i64>> = rooms
        .iter()
        .zip(&scored)
        .map(|(room, scored)| scored.then(|| raw(room)))
        .collect();
    let least = raw.iter().flatten().copied().min().unwrap_or(0);
    let most = raw.iter().flatten().copied().max().unwrap_or(0);
    raw.into_iter()
        .map(|score| match score {
            None => 0,
            Some(_) if most == 0 => MAX,
            Some(score) => MAX * (most + least - score) / most,
        })
        .collect()
}

/// How many pods count in each of the domains of the rooms, over all nodes.
fn counts<'a>(
    spread: &Spread,
    spreads: &[Spread],
    own: bool,
    view: &View,
    rooms: &[&'a NodeRoom],
    scored: &[bool],
) -> HashMap<&'a str, i64> {
    let mut counts = HashMap::new();
    if spread.key == HOSTNAME {
        return counts;
    }
    for (room, _) in rooms.iter().zip(scored).filter(|(_, scored)| **scored) {
        counts
            .entry(room.label(&spread.key).unwrap_or_default())
            .or_insert(0);
    }
    let mut add = |room: &NodeRoom, pods: &dyn Fn() -> i64| {
        if own && !has_keys(spreads, room) || !spread.counts_node(view.incoming.pod, room) {
            return;
        }
        if let Some(count) = counts.get_mut(room.label(&spread.key).unwrap_or_default()) {
            *count += pods();
        }
    };
    match spread.owner() {
        Some(owner) => {
            let found = view.cluster.nodes_of_owner(owner);
            found.for_each(|(room, pods)| add(room, &|| pods));
        }
        None => {
            let namespace = &view.incoming.resident.namespace;
            let rooms = view.cluster.rooms().values();
            rooms.for_each(|room| add(room, &|| spread.count(namespace, room)));
        }
    }
    counts
}
