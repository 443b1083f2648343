//! Whether a pod can run on a node, and if not, why: upstream's words, which people search for.
//!
//! Pure. Follows the default plugins of kube-scheduler in their order; the first that objects gives the reasons.

mod affinity;
mod claims;
mod domains;
mod neighbours;
mod resources;
mod taints;

use std::sync::Arc;

use crate::cluster::{Cluster, NodeRoom};
use crate::incoming::Incoming;
use crate::resident::Resident;
use crate::storage::{Choice, Needs, Storage};

pub use affinity::{matches as admits_node, named, preferred_weight, selects as selects_node};
pub use taints::{
    counts_against as untolerated_preferences, tolerates as tolerates_node, tolerates_unschedulable,
};

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

    /// For this reason, as long as the pods are there that are.
    fn passing(reason: &str) -> Self {
        Self {
            reasons: vec![reason.to_owned()],
            resolvable: true,
        }
    }
}

/// What a decision knows besides the node it looks at.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub incoming: &'a Incoming<'a>,
    pub cluster: &'a Cluster,
    pub storage: &'a Storage,
    pub needs: &'a Needs<'a>,
}

/// What is counted over all nodes, once a decision.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    domains: Vec<domains::Domains>,
    neighbours: neighbours::Pairs,
    claims_taken: i64,
}

impl Counts {
    /// Of the cluster as it is. Costs nothing for a pod that has no constraints among pods that have none.
    pub fn of(view: &View) -> Self {
        Self {
            domains: domains::count(view),
            neighbours: neighbours::Pairs::count(view),
            claims_taken: claims::count(view),
        }
    }

    /// The pod came to the node (1), or went from there (-1).
    pub fn shift(&mut self, view: &View, resident: &Resident, room: &NodeRoom, by: i64) {
        domains::shift(&mut self.domains, view, resident, room, by);
        self.neighbours.shift(view, resident, room, by);
        self.claims_taken += by * claims::of(view, resident);
    }
}

/// Checks everything; what is found besides is how the pod's claims get their volumes there.
pub fn check(view: &View, counts: &Counts, room: &NodeRoom) -> Result<Vec<Choice>, Rejection> {
    let (pod, footprint) = (view.incoming.pod, &view.incoming.resident.footprint);
    let closed = room.node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    if closed && !tolerates_unschedulable(pod) {
        return Err(Rejection::fixed("node(s) were unschedulable"));
    }
    if !taints::tolerates(pod, &room.node) {
        return Err(Rejection::fixed("node(s) had untolerated taint(s)"));
    }
    if !affinity::matches(pod, &room.node) {
        return Err(Rejection::fixed(
            "node(s) didn't match Pod's node affinity/selector",
        ));
    }
    resources::host_ports(footprint, room)?;
    resources::fit(footprint, room)?;
    claims::check(counts.claims_taken)?;
    let choices = view
        .storage
        .check(view.needs, &room.node)
        .map_err(Rejection::fixed)?;
    domains::check(&counts.domains, view, room)?;
    counts.neighbours.check(view, room)?;
    Ok(choices)
}

/// Checks the node as it will be when the pods are there for which room is being made, and as it is: a pod must not
/// count on those that are still to come, nor take their room.
pub fn check_with_nominated(
    view: &View,
    counts: &Counts,
    room: &NodeRoom,
) -> Result<Vec<Choice>, Rejection> {
    let (name, own) = (room.node.metadata.name.as_deref(), &view.incoming.resident);
    let coming: Vec<&Arc<Resident>> = view
        .cluster
        .nominated(name.unwrap_or_default())
        .filter(|one| one.priority >= own.priority && one.uid != own.uid)
        .collect();
    if !coming.is_empty() {
        let (mut counts, mut room) = (counts.clone(), room.clone());
        for one in coming {
            room.take(one);
            counts.shift(view, one, &room, 1);
        }
        check(view, &counts, &room)?;
    }
    check(view, counts, room)
}

#[cfg(test)]
mod tests;
