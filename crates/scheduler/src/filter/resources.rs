//! Host ports, and what nodes have an amount of.

use super::Rejection;
use crate::cluster::{Footprint, NodeRoom};
use crate::sums::BUILT_IN;

/// No pod of the node has the ports.
pub fn host_ports(footprint: &Footprint, room: &NodeRoom) -> Result<(), Rejection> {
    let taken = footprint
        .ports
        .iter()
        .any(|port| room.ports.iter().any(|known| known.conflicts(port)));
    if !taken {
        return Ok(());
    }
    Err(Rejection::passing(
        "node(s) didn't have free ports for the requested pod ports",
    ))
}

/// The node has as much left as is asked for.
pub fn fit(footprint: &Footprint, room: &NodeRoom) -> Result<(), Rejection> {
    let mut reasons = Vec::new();
    let mut resolvable = true;
    let allowed = room.allocatable.pods;
    if i64::try_from(room.residents.len()).unwrap_or(i64::MAX) >= allowed {
        reasons.push("Too many pods".to_owned());
    }
    let mut check = |name: &str, wanted: i64, allocatable: i64, taken: i64| {
        if wanted != 0 && wanted > allocatable.saturating_sub(taken) {
            reasons.push(format!("Insufficient {name}"));
            // Even an empty node would not do.
            resolvable &= wanted <= allocatable;
        }
    };
    let (wanted, allocatable, taken) = (&footprint.requests, &room.allocatable, &room.taken);
    // the built-in resources first, as upstream lists them
    for (at, name) in BUILT_IN.iter().enumerate() {
        check(
            name,
            wanted.built_in[at],
            allocatable.built_in[at],
            taken.built_in[at],
        );
    }
    for (name, amount) in &wanted.others {
        check(name, *amount, allocatable.get(name), taken.get(name));
    }
    if reasons.is_empty() {
        return Ok(());
    }
    Err(Rejection {
        reasons,
        resolvable,
    })
}
