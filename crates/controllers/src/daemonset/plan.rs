//! What to do next for a DaemonSet: on which nodes a pod is made, and which pods are deleted.
//!
//! Pure. Follows `podsShouldBeOnNode` of `pkg/controller/daemon/daemon_controller.go` and `rollingUpdate` of `update.go`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;

use super::pod::{HASH, Place};
use crate::deployment::arithmetic::resolve;
use crate::objects::{self, Availability};

/// A node, and the set's pods there.
#[derive(Debug, Default)]
pub struct Spot {
    /// Whether the set's pods belong there; nothing for a node that does not exist.
    pub place: Option<Place>,
    /// The pods that are there, or were made for it.
    pub pods: Vec<Arc<Pod>>,
}

impl Spot {
    fn should_run(&self) -> bool {
        self.place.is_some_and(|place| place.should_run)
    }
}

/// By node name.
pub type Spots = BTreeMap<String, Spot>;

/// What a decision is made from.
pub struct View<'a> {
    /// The set.
    pub set: &'a DaemonSet,
    /// The nodes and pods.
    pub spots: &'a Spots,
    /// The hash of the present revision.
    pub hash: &'a str,
    /// The time.
    pub now: Timestamp,
    /// Whether a pod that has ended on a node may be made anew now.
    pub due: &'a dyn Fn(&str, &Pod) -> bool,
}

/// What to do.
#[derive(Debug, Default)]
pub struct Plan {
    /// Nodes that get a pod.
    pub create: Vec<String>,
    /// Pods that go.
    pub delete: Vec<Arc<Pod>>,
    /// Pods that have ended on a node, to be told of and deleted; those that failed not too often.
    pub ended: Vec<(String, Arc<Pod>)>,
}

/// Decides. An update goes on only when every node has what it should have, but for those where the pod failed too often to be
/// made anew already.
pub fn plan(view: &View) -> Plan {
    let mut plan = Plan::default();
    for (node, spot) in view.spots {
        view.manage(&mut plan, node, spot);
    }
    let due = plan.ended.iter().any(|(node, pod)| (view.due)(node, pod));
    let settled = plan.create.is_empty() && plan.delete.is_empty() && !due;
    if settled && view.is_rolling() {
        let (surge, unavailable) = view.limits();
        if surge == 0 {
            view.replace(&mut plan, unavailable);
        } else {
            view.surge(&mut plan, surge);
        }
    }
    plan
}

/// Which pod of a node counts: scheduled ones first, then the oldest.
pub fn by_age(a: &Pod, b: &Pod) -> Ordering {
    let waits = |pod: &Pod| {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        node.unwrap_or_default().is_empty()
    };
    (waits(a), objects::created(a), objects::name(a)).cmp(&(
        waits(b),
        objects::created(b),
        objects::name(b),
    ))
}

/// Whether the pod is of the revision with this hash.
pub fn is_updated(pod: &Pod, hash: &str) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(HASH))
        .map(String::as_str)
        == Some(hash)
}

/// The pod has been ready for as long as the set wants.
pub fn is_available(set: &DaemonSet, pod: &Pod, now: Timestamp) -> bool {
    let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
    objects::availability(pod, min_ready, now) == Availability::Yes
}

impl View<'_> {
    fn is_rolling(&self) -> bool {
        let strategy = self.set.spec.update_strategy.as_ref();
        strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
    }

    /// How many pods may be there twice, and how many may be unavailable, on so many nodes; percentages round up.
    fn limits_of(&self, nodes: i32) -> (i32, i32) {
        let strategy = self.set.spec.update_strategy.as_ref();
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let of = |value| resolve(value, nodes, true);
        let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref());
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        (surge.map_or(0, of), unavailable.map_or(0, of))
    }

    fn limits(&self) -> (i32, i32) {
        match self.limits_of(self.desired()) {
            (0, 0) => (0, 1),
            limits => limits,
        }
    }

    fn allows_surge(&self) -> bool {
        self.is_rolling() && self.limits_of(1).0 > 0
    }

    fn desired(&self) -> i32 {
        let wanted = self.spots.values().filter(|spot| spot.should_run());
        i32::try_from(wanted.count()).unwrap_or(i32::MAX)
    }

    /// Every node has one pod, or none if it should have none; two while one takes over from another.
    fn manage(&self, plan: &mut Plan, node: &str, spot: &Spot) {
        let Some(place) = spot.place else {
            // the scheduler will never place them; those that were placed go with their node
            let waiting = spot.pods.iter().filter(|pod| {
                let spec = pod.spec.as_ref();
                let on = spec.and_then(|spec| spec.node_name.as_deref());
                on.unwrap_or_default().is_empty() && !objects::is_terminating(&***pod)
            });
            plan.delete.extend(waiting.cloned());
            return;
        };
        if !place.may_stay {
            let staying = spot.pods.iter();
            let staying = staying.filter(|pod| !objects::is_terminating(&***pod));
            plan.delete.extend(staying.cloned());
            return;
        }
        if spot.pods.is_empty() {
            if place.should_run {
                plan.create.push(node.to_owned());
            }
            return;
        }
        let mut running = Vec::new();
        for pod in &spot.pods {
            if objects::is_terminating(&**pod) {
                continue;
            }
            if objects::is_finished(pod) {
                plan.ended.push((node.to_owned(), pod.clone()));
            } else {
                running.push(pod);
            }
        }
        running.sort_by(|a, b| by_age(a, b));
        if !self.allows_surge() {
            plan.delete.extend(running.into_iter().skip(1).cloned());
        } else if running.is_empty() {
            if place.should_run {
                plan.create.push(node.to_owned());
            }
        } else if running.len() > 1 {
            self.take_over(plan, &running);
        }
    }

    /// Of several pods on a node the oldest new one and the oldest old one stay, and the latter until the former is
    /// available or it is itself not ready.
    fn take_over(&self, plan: &mut Plan, running: &[&Arc<Pod>]) {
        let (new, old): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) = running
            .iter()
            .copied()
            .partition(|pod| is_updated(pod, self.hash));
        for pods in [&new, &old] {
            plan.delete.extend(pods.iter().skip(1).copied().cloned());
        }
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!objects::is_ready(old) || is_available(self.set, new, self.now))
        {
            plan.delete.push((*old).clone());
        }
    }

    /// The pods of a node that are not going: the new one and the old one. Nothing if there are more.
    fn pair<'a>(&self, spot: &'a Spot) -> Option<(Option<&'a Arc<Pod>>, Option<&'a Arc<Pod>>)> {
        let (mut new, mut old) = (None, None);
        for pod in &spot.pods {
            if objects::is_terminating(&**pod) {
                continue;
            }
            let place = if is_updated(pod, self.hash) {
                &mut new
            } else {
                &mut old
            };
            if place.replace(pod).is_some() {
                return None;
            }
        }
        Some((new, old))
    }

    /// Without surge: old pods that are unavailable go, and as many others as may be unavailable.
    fn replace(&self, plan: &mut Plan, most: i32) {
        let (mut down, mut candidates) = (0, Vec::new());
        for spot in self.spots.values() {
            if spot.pods.is_empty() && !spot.should_run() {
                continue;
            }
            match self.pair(spot) {
                None | Some((None, None) | (Some(_), Some(_))) => down += 1,
                Some((Some(new), None)) => {
                    down += i32::from(!is_available(self.set, new, self.now));
                }
                Some((None, Some(old))) if is_available(self.set, old, self.now) => {
                    candidates.push(old.clone());
                }
                Some((None, Some(old))) => {
                    plan.delete.push(old.clone());
                    down += 1;
                }
            }
        }
        let room = usize::try_from(most - down).unwrap_or(0);
        plan.delete.extend(candidates.into_iter().take(room));
    }

    /// With surge: a new pod beside each old one that is unavailable, and beside as many others as may be there twice.
    fn surge(&self, plan: &mut Plan, most: i32) {
        let (mut surging, mut available) = (0, 0);
        let (mut candidates, mut misplaced) = (Vec::new(), Vec::new());
        for (node, spot) in self.spots {
            let Some((new, old)) = self.pair(spot) else {
                surging += 1;
                continue;
            };
            let up = |pod: &Arc<Pod>| is_available(self.set, pod, self.now);
            available += i32::from(old.or(new).is_some_and(up));
            match (new, old) {
                (_, None) => {}
                (None, Some(old)) => match (up(old), spot.should_run()) {
                    (false, true) => plan.create.push(node.clone()),
                    (false, false) => plan.delete.push(old.clone()),
                    (true, true) => candidates.push(node.clone()),
                    (true, false) => misplaced.push(old.clone()),
                },
                (Some(new), Some(old)) if up(new) => plan.delete.push(old.clone()),
                (Some(_), Some(_)) => surging += 1,
            }
        }
        let room = usize::try_from(most - surging).unwrap_or(0);
        plan.create.extend(candidates.into_iter().take(room));
        let spare = usize::try_from(available - self.desired()).unwrap_or(0);
        plan.delete.extend(misplaced.into_iter().take(spare));
    }
}

#[cfg(test)]
mod tests;
