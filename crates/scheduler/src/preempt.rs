//! Making room: which less important pods go, and where, so that a pod gets a node.
//!
//! Pure. Follows kube-scheduler's plugin DefaultPreemption: on each node as few pods as possible, and rather those that no
//! disruption budget protects; of the nodes the one where it hurts least. Every node is looked at that could help, up to
//! upstream's bounds, from the first name on (upstream begins anywhere).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::budget;
use crate::cluster::NodeRoom;
use crate::filter::{Counts, Rejection, View, check_with_nominated};
use crate::resident::Resident;

/// So many nodes are tried at least, or a tenth of them if that is more.
const CANDIDATES_MIN: usize = 100;

/// Room that can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preemption {
    pub node: String,
    /// The most important first.
    pub victims: Vec<Arc<Resident>>,
    /// Less important pods for which room was being made there: they shall look elsewhere.
    pub displaced: Vec<Arc<Resident>>,
}

/// Why no room is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The pod may not, or waits for room that is being made.
    NotEligible(&'static str),
    /// What stands against it on each node that was looked at; elsewhere it would not help.
    Hopeless(BTreeMap<String, Rejection>),
}

#[derive(Debug)]
struct Candidate<'a> {
    node: &'a str,
    victims: Vec<Arc<Resident>>,
    violations: usize,
}

/// Looks for room that can be made, given why each node was refused.
pub fn preempt(
    view: &View,
    counts: &Counts,
    rejections: &BTreeMap<&str, Rejection>,
) -> Result<Preemption, Refused> {
    if let Some(why) = not_eligible(view, rejections) {
        return Err(Refused::NotEligible(why));
    }
    let helpful = rejections.iter().filter(|(_, why)| why.resolvable);
    let rooms: Vec<(&str, &NodeRoom)> = helpful
        .filter_map(|(name, _)| Some((*name, view.cluster.rooms().get(*name)?)))
        .collect();
    let enough = (rooms.len() / 10).max(CANDIDATES_MIN);
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut hopeless = BTreeMap::new();
    for (name, room) in rooms {
        match victims(view, counts, room) {
            Ok((victims, violations)) => candidates.push(Candidate {
                node: name,
                victims,
                violations,
            }),
            Err(why) => drop(hopeless.insert(name.to_owned(), why)),
        }
        let gentle = candidates.iter().any(|one| one.violations == 0);
        if gentle && candidates.len() >= enough {
            break;
        }
    }
    let Some(best) = gentlest(candidates) else {
        return Err(Refused::Hopeless(hopeless));
    };
    let priority = view.incoming.resident.priority;
    let nominated = view.cluster.nominated(best.node);
    Ok(Preemption {
        node: best.node.to_owned(),
        victims: best.victims,
        displaced: nominated
            .filter(|one| one.priority < priority)
            .cloned()
            .collect(),
    })
}

fn not_eligible(view: &View, rejections: &BTreeMap<&str, Rejection>) -> Option<&'static str> {
    let spec = view.incoming.pod.spec.as_ref();
    if spec.and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never") {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let node = view.incoming.nominated()?;
    // room on a node that is out of the question helps nobody
    if rejections.get(node).is_none_or(|why| !why.resolvable) {
        return None;
    }
    let mut residents = view.cluster.rooms().get(node)?.residents.iter();
    residents
        .any(|one| one.preempted && one.priority < view.incoming.resident.priority)
        .then_some("not eligible due to a terminating pod on the nominated node.")
}

/// The pods that would have to go from the node, the most important first, and how many of them a budget protects.
fn victims(
    view: &View,
    counts: &Counts,
    room: &NodeRoom,
) -> Result<(Vec<Arc<Resident>>, usize), Rejection> {
    let (mut counts, mut room) = (counts.clone(), room.clone());
    let priority = view.incoming.resident.priority;
    let lesser = room.residents.iter().filter(|one| one.priority < priority);
    let mut lesser: Vec<Arc<Resident>> = lesser.cloned().collect();
    if lesser.is_empty() {
        return Err(Rejection::fixed(
            "No preemption victims found for incoming pod",
        ));
    }
    for one in &lesser {
        room.give_back(&one.uid);
        counts.shift(view, one, &room, -1);
    }
    check_with_nominated(view, &counts, &room)?;
    lesser.sort_by_key(|one| importance(one));
    let pods = lesser.iter().map(|one| &**one);
    let violating = budget::violations(pods, &view.cluster.budgets);
    let mut victims = Vec::new();
    let mut violations = 0;
    // those that a budget protects are spared first
    for protected in [true, false] {
        for (one, violates) in lesser.iter().zip(&violating) {
            if *violates != protected {
                continue;
            }
            room.take(one);
            counts.shift(view, one, &room, 1);
            if check_with_nominated(view, &counts, &room).is_err() {
                room.give_back(&one.uid);
                counts.shift(view, one, &room, -1);
                violations += usize::from(protected);
                victims.push(one.clone());
            }
        }
    }
    victims.sort_by_key(|one| importance(one));
    match victims.is_empty() {
        // it would fit as it is: another pod's coming stood against it
        true => Err(Rejection::fixed(
            "No preemption victims found for incoming pod",
        )),
        false => Ok((victims, violations)),
    }
}

/// The most important first: by priority, then the one that runs longest.
fn importance(one: &Resident) -> (Reverse<i32>, Timestamp, String) {
    let started = one.started.unwrap_or(Timestamp::MAX);
    (Reverse(one.priority), started, one.uid.clone())
}

/// The candidate that hurts least; the first of equal ones.
fn gentlest(candidates: Vec<Candidate>) -> Option<Candidate> {
    candidates.into_iter().min_by_key(|one| {
        let highest = one
            .victims
            .first()
            .map_or(i32::MIN, |victim| victim.priority);
        // as upstream, so that few pods of a negative priority are not dearer than many
        let sum: i64 = one
            .victims
            .iter()
            .map(|victim| i64::from(victim.priority) + i64::from(i32::MAX) + 1)
            .sum();
        let important = one
            .victims
            .iter()
            .filter(|victim| victim.priority == highest);
        let started = important
            .map(|victim| victim.started.unwrap_or(Timestamp::MAX))
            .min();
        (
            one.violations,
            highest,
            sum,
            one.victims.len(),
            Reverse(started),
        )
    })
}

#[cfg(test)]
mod tests;
