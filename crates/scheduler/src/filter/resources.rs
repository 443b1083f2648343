//! Host ports, and what nodes have an amount of.

use super::Rejection;
use crate::cluster::{Footprint, NodeRoom};

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
    let allowed = room.allocatable.get("pods").copied().unwrap_or(0);
    if i64::try_from(room.residents.len()).unwrap_or(i64::MAX) >= allowed {
        reasons.push("Too many pods".to_owned());
    }
    for name in ordered(footprint) {
        let wanted = footprint.requests.get(name).copied().unwrap_or(0);
        if wanted == 0 {
            continue;
        }
        let allocatable = room.allocatable.get(name).copied().unwrap_or(0);
        let taken = room.taken.get(name).copied().unwrap_or(0);
        if wanted > allocatable.saturating_sub(taken) {
            reasons.push(format!("Insufficient {name}"));
            // Even an empty node would not do.
            resolvable &= wanted <= allocatable;
        }
    }
    if reasons.is_empty() {
        return Ok(());
    }
    Err(Rejection {
        reasons,
        resolvable,
    })
}

/// The built-in resources first, as upstream lists them.
fn ordered(footprint: &Footprint) -> impl Iterator<Item = &str> {
    const FIRST: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
    FIRST.into_iter().chain(
        footprint
            .requests
            .keys()
            .map(String::as_str)
            .filter(|name| !FIRST.contains(name)),
    )
}
