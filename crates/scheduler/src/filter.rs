//! Whether a pod can run on a node, and if not, why: upstream's words, which people search for.
//!
//! Pure. Follows the default plugins of kube-scheduler in their order; the first that objects gives the reasons.

mod affinity;
mod taints;

use k8s_openapi::api::core::v1::Pod;

use crate::cluster::{Footprint, NodeRoom};

pub use affinity::selects as selects_node;
pub use taints::{counts_against as untolerated_preferences, tolerates_unschedulable};

/// Why a pod cannot run on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// One or more reasons.
    pub reasons: Vec<String>,
    /// Removing pods from the node could help.
    pub resolvable: bool,
}

impl Rejection {
    /// For this reason, and no pod's removal would change it.
    pub fn fixed(reason: &str) -> Self {
        Self {
            reasons: vec![reason.to_owned()],
            resolvable: false,
        }
    }
}

/// Checks everything.
pub fn check(pod: &Pod, footprint: &Footprint, room: &NodeRoom) -> Result<(), Rejection> {
    unschedulable(pod, room)?;
    if !taints::tolerates(pod, &room.node) {
        return Err(Rejection::fixed("node(s) had untolerated taint(s)"));
    }
    if !affinity::matches(pod, &room.node) {
        return Err(Rejection::fixed(
            "node(s) didn't match Pod's node affinity/selector",
        ));
    }
    host_ports(footprint, room)?;
    resources(footprint, room)
}

fn unschedulable(pod: &Pod, room: &NodeRoom) -> Result<(), Rejection> {
    let closed = room.node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    if closed && !tolerates_unschedulable(pod) {
        return Err(Rejection::fixed("node(s) were unschedulable"));
    }
    Ok(())
}

fn host_ports(footprint: &Footprint, room: &NodeRoom) -> Result<(), Rejection> {
    let taken = footprint
        .ports
        .iter()
        .any(|port| room.ports.iter().any(|known| known.conflicts(port)));
    if !taken {
        return Ok(());
    }
    Err(Rejection {
        reasons: vec!["node(s) didn't have free ports for the requested pod ports".to_owned()],
        resolvable: true,
    })
}

fn resources(footprint: &Footprint, room: &NodeRoom) -> Result<(), Rejection> {
    let mut reasons = Vec::new();
    let mut resolvable = true;
    let allowed = room.allocatable.get("pods").copied().unwrap_or(0);
    if room.pods + 1 > allowed {
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

#[cfg(test)]
mod tests;
