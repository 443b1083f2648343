//! One scheduling decision: the node for a pod, or the sentence that says why there is none.
//!
//! Pure. The sentence is that of kube-scheduler's `FitError`, with what its post-filter plugins add: since dynamic
//! resource allocation is always on (1.34), first that one's words for a pod without claims, then preemption's.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};

use crate::cluster::{Cluster, NodeRoom};
use crate::filter::{self, Counts, Rejection, View, check_with_nominated};
use crate::incoming::Incoming;
use crate::preempt::{Preemption, Refused, preempt};
use crate::score;
use crate::storage::{Choice, Needs, Storage};

/// Nodes that are all looked at for every pod; of more, upstream's share is.
const NODES_MIN: usize = 100;

/// Where the pod goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub node: String,
    /// The last node that was looked at: the next decision begins behind it.
    pub last: String,
    /// How claims that waited for the pod get their volumes there; the pod is bound when they have them.
    pub choices: Vec<Choice>,
}

/// Why the pod has to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For people.
    pub message: String,
    /// Room that should be made for it.
    pub preemption: Option<Preemption>,
    /// No room is being made any more on the node that its status names.
    pub hopeless: bool,
}

/// How many nodes that fit are enough to choose among: a tenth of 5 000, as upstream's adaptive
/// `percentageOfNodesToScore` has it.
fn enough(nodes: usize) -> usize {
    let percent = 50usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(NODES_MIN)
}

/// Where the pod goes, or why nowhere. Nodes are looked at in the order of their names from the one behind `last` on, around, until
/// enough of them fit.
pub fn decide(
    incoming: &Incoming,
    cluster: &Cluster,
    storage: &Storage,
    last: &str,
) -> Result<Placement, Refusal> {
    let nodes = cluster.rooms().len();
    if nodes == 0 {
        return Err(Refusal {
            message: "no nodes available to schedule pods".to_owned(),
            preemption: None,
            hopeless: false,
        });
    }
    let none = Needs::default();
    let view = View {
        incoming,
        cluster,
        storage,
        needs: &none,
    };
    let beforehand = |why: &str| Err(refuse(&view, &Counts::default(), why, &BTreeMap::new()));
    let named = match filter::named(incoming.pod) {
        Ok(named) => named,
        Err(why) => return beforehand(why),
    };
    let needs = match storage.needs(incoming.pod) {
        Ok(needs) => needs,
        Err(why) => return beforehand(&why),
    };
    let view = View {
        needs: &needs,
        ..view
    };
    let counts = Counts::of(&view);
    // room was made there for this pod
    if let Some(node) = incoming.nominated()
        && named.as_ref().is_none_or(|names| names.contains(node))
        && let Some(room) = cluster.rooms().get(node)
        && let Ok(choices) = check_with_nominated(&view, &counts, room)
    {
        return Ok(Placement {
            node: node.to_owned(),
            last: last.to_owned(),
            choices,
        });
    }
    let named = named.as_ref();
    let by_name = named.into_iter().flatten();
    let by_name = by_name.filter_map(|name| Some((*name, cluster.rooms().get(*name)?)));
    let rooms = cluster.rooms();
    let behind = rooms.range::<str, _>((Excluded(last), Unbounded));
    let around = behind.chain(rooms.range::<str, _>((Unbounded, Included(last))));
    let around = around
        .filter(|_| named.is_none())
        .map(|(name, room)| (name.as_str(), room));
    let mut seen = last;
    let mut choices = BTreeMap::new();
    let mut fitting: Vec<(&str, &NodeRoom)> = Vec::new();
    let mut rejections = BTreeMap::new();
    let enough = enough(nodes);
    for (name, room) in by_name.chain(around) {
        if fitting.len() == enough {
            break;
        }
        seen = name;
        match check_with_nominated(&view, &counts, room) {
            Ok(found) => {
                if !found.is_empty() {
                    choices.insert(name, found);
                }
                fitting.push((name, room));
            }
            Err(rejection) => drop(rejections.insert(name, rejection)),
        }
    }
    // a tie goes to the first name, wherever the look began
    fitting.sort_unstable_by_key(|(name, _)| *name);
    match score::best(&view, &fitting) {
        Some(name) => Ok(Placement {
            last: seen.to_owned(),
            choices: choices.remove(name).unwrap_or_default(),
            node: name.to_owned(),
        }),
        None => {
            let absent = nodes - rejections.len();
            let why = histogram(
                &rejections,
                absent,
                "node(s) didn't satisfy plugin(s) [NodeAffinity]",
            );
            Err(refuse(&view, &counts, &why, &rejections))
        }
    }
}

fn refuse(
    view: &View,
    counts: &Counts,
    why: &str,
    rejections: &BTreeMap<&str, Rejection>,
) -> Refusal {
    let nodes = view.cluster.rooms().len();
    let mut message = format!("0/{nodes} nodes are available: {why}.");
    match preempt(view, counts, rejections) {
        Ok(preemption) => Refusal {
            message,
            preemption: Some(preemption),
            hopeless: false,
        },
        Err(refused) => {
            let (why, hopeless) = match refused {
                Refused::NotEligible(why) => (why.to_owned(), false),
                Refused::Hopeless(why) => {
                    let absent = nodes - why.len();
                    let why = histogram(&why, absent, "Preemption is not helpful for scheduling");
                    (format!("0/{nodes} nodes are available: {why}."), true)
                }
            };
            message.push_str(&format!(" no new claims to deallocate, preemption: {why}"));
            Refusal {
                message,
                preemption: None,
                hopeless,
            }
        }
    }
}

/// `2 Insufficient cpu, 1 node(s) were unschedulable`, sorted as text, as upstream sorts it; `absent` nodes have the reason
/// `otherwise`.
fn histogram<N>(rejections: &BTreeMap<N, Rejection>, absent: usize, otherwise: &str) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in rejections.values().flat_map(|rejection| &rejection.reasons) {
        *counts.entry(reason).or_insert(0) += 1;
    }
    if absent > 0 {
        *counts.entry(otherwise).or_insert(0) += absent;
    }
    let mut lines: Vec<String> = counts
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    lines.sort();
    lines.join(", ")
}

#[cfg(test)]
mod tests;
