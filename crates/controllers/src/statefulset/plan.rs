//! What to do next for a StatefulSet: which pods are made, deleted, corrected, in which order, and where that order stops.
//!
//! Pure. Follows `updateStatefulSet` of `pkg/controller/statefulset/stateful_set_control.go`: pods are made in the order of
//! their ordinals and deleted in the opposite one; with OrderedReady each waits until those before it are available.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;

use super::identity::{self, claims, is_labelled, ordinal, pod_name, revision};
use super::retention;
use super::status::{Revisions, is_rolling, is_running_and_ready};
use crate::deployment::arithmetic::resolve;
use crate::objects::{self, Availability};

/// A claim in the way of a new pod is looked at again after this long: nothing tells when it is gone.
const CLAIM_WAIT: Duration = Duration::from_secs(1);

/// So many pods are made at once, as upstream.
const CREATES_MAX: usize = 500;

/// What a decision is made from.
pub struct View<'a> {
    /// The set.
    pub set: &'a StatefulSet,
    /// All its pods.
    pub pods: &'a [Arc<Pod>],
    /// The revisions between which they are.
    pub revisions: Revisions<'a>,
    /// A claim of the set's namespace by its name.
    pub claim: &'a dyn Fn(&str) -> Option<Arc<PersistentVolumeClaim>>,
    /// The time.
    pub now: Timestamp,
}

/// One step; each is done when those before it have succeeded.
#[derive(Debug)]
pub enum Step {
    /// Makes a claim for this pod.
    Claim(String, Box<PersistentVolumeClaim>),
    /// Gives a claim these owners.
    Own(Arc<PersistentVolumeClaim>, Vec<OwnerReference>),
    /// Makes the pod with this ordinal; from the template of the update revision, or from that of the current one.
    Create { ordinal: i32, updated: bool },
    /// The pod with this name cannot be made yet.
    Refuse(String, String),
    /// Gives a pod the labels of its identity.
    Label(Arc<Pod>, i32),
    /// Deletes a pod.
    Delete(Arc<Pod>),
}

/// What to do.
#[derive(Debug, Default)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// How many pods of the current revision are deleted to be updated.
    pub leaving: i32,
    /// Something changes by the passing of time alone.
    pub look_again: Option<Duration>,
}

/// The pods that are there and should be, by ordinal.
type Replicas<'a> = BTreeMap<i32, &'a Arc<Pod>>;

/// Whether the order allows to go on.
#[derive(PartialEq, Eq)]
enum Flow {
    GoOn,
    Stop,
}

/// Decides.
pub fn plan(view: &View) -> Plan {
    let mut plan = Plan::default();
    let (start, end) = identity::range(view.set);
    let (mut replicas, mut condemned) = (Replicas::new(), Vec::new());
    for pod in view.pods {
        match ordinal(objects::name(view.set), objects::name(&**pod)) {
            Some(ordinal) if (start..end).contains(&ordinal) => {
                replicas.insert(ordinal, pod);
            }
            Some(ordinal) => condemned.push((ordinal, pod)),
            None => {}
        }
    }
    condemned.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
    plan.look_again = view.next_available();
    let mut missing = 0;
    for ordinal in start..end {
        let flow = match replicas.get(&ordinal) {
            Some(pod) => view.living(&mut plan, pod, ordinal),
            None if missing == CREATES_MAX => return plan,
            None => {
                missing += 1;
                view.missing(&mut plan, ordinal)
            }
        };
        if flow == Flow::Stop && view.ordered() {
            return plan;
        }
    }
    for (ordinal, pod) in &condemned {
        view.own(&mut plan, pod, *ordinal, true);
    }
    if view.condemned(&mut plan, &replicas, &condemned) == Flow::Stop {
        return plan;
    }
    if is_rolling(view.set) {
        view.update(&mut plan, &replicas);
    }
    plan
}

impl View<'_> {
    /// One at a time, in order.
    fn ordered(&self) -> bool {
        self.set.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    fn available(&self, pod: &Pod) -> bool {
        let min_ready = self.set.spec.min_ready_seconds.unwrap_or(0);
        objects::availability(pod, min_ready, self.now) == Availability::Yes
    }

    fn unavailable(&self, pod: &Pod) -> bool {
        !self.available(pod) || objects::is_terminating(pod)
    }

    /// When the next pod becomes available by the passing of time.
    fn next_available(&self) -> Option<Duration> {
        let min_ready = self.set.spec.min_ready_seconds.unwrap_or(0);
        let waits = self.pods.iter().filter_map(|pod| {
            match objects::availability(pod, min_ready, self.now) {
                Availability::In(wait) => Some(wait),
                _ => None,
            }
        });
        let wait: Option<SignedDuration> = waits.min();
        wait.map(|wait| wait.unsigned_abs() + Duration::from_millis(1))
    }

    /// How many of the lowest ordinals keep the current revision.
    fn partition(&self) -> i32 {
        let strategy = self.set.spec.update_strategy.as_ref();
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        rolling.and_then(|rolling| rolling.partition).unwrap_or(0)
    }

    /// A pod whose ordinal is missing is made, of the revision that its ordinal should have.
    fn missing(&self, plan: &mut Plan, ordinal: i32) -> Flow {
        let pod = Pod {
            metadata: ObjectMeta {
                name: Some(pod_name(self.set, ordinal)),
                ..Default::default()
            },
            ..Default::default()
        };
        let known = |claim: &PersistentVolumeClaim| (self.claim)(objects::name(claim));
        for claim in claims(self.set, ordinal)
            .iter()
            .filter_map(|(_, claim)| known(claim))
        {
            if retention::is_stale(&claim, self.set, &pod) {
                plan.look_again = Some(plan.look_again.unwrap_or(CLAIM_WAIT).min(CLAIM_WAIT));
                return Flow::Stop;
            }
            if objects::is_terminating(&*claim) {
                let why = format!("pvc {} is being deleted", objects::name(&*claim));
                let name = objects::name(&pod).to_owned();
                plan.steps.push(Step::Refuse(name, why));
                plan.look_again = Some(plan.look_again.unwrap_or(CLAIM_WAIT).min(CLAIM_WAIT));
                return Flow::Stop;
            }
        }
        self.own(plan, &pod, ordinal, false);
        let updated = !self.keeps_current(ordinal);
        plan.steps.push(Step::Create { ordinal, updated });
        Flow::Stop
    }

    fn keeps_current(&self, ordinal: i32) -> bool {
        let (start, _) = identity::range(self.set);
        let strategy = self.set.spec.update_strategy.as_ref();
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        match rolling {
            Some(_) => ordinal < start.saturating_add(self.partition()),
            None if is_rolling(self.set) => {
                let status = self.set.status.as_ref();
                let current = status.and_then(|status| status.current_replicas);
                ordinal < start.saturating_add(current.unwrap_or(0))
            }
            None => false,
        }
    }

    fn living(&self, plan: &mut Plan, pod: &Arc<Pod>, ordinal: i32) -> Flow {
        let terminating = objects::is_terminating(&**pod);
        if objects::is_finished(pod) {
            // made anew when it is gone
            if !terminating {
                plan.steps.push(Step::Delete(pod.clone()));
            }
            return Flow::Stop;
        }
        let pending = objects::phase(pod) == "Pending";
        if pending && !terminating {
            self.own(plan, pod, ordinal, false);
        }
        let settled = !terminating && is_running_and_ready(pod) && self.available(pod);
        if self.ordered() && !settled {
            return Flow::Stop;
        }
        if !terminating && !is_labelled(pod, ordinal) {
            plan.steps.push(Step::Label(pod.clone(), ordinal));
        }
        if !terminating && !pending {
            self.own(plan, pod, ordinal, false);
        }
        Flow::GoOn
    }

    /// Makes the claims that are missing, and gives those that are there the owners that the set's policy wants.
    fn own(&self, plan: &mut Plan, pod: &Pod, ordinal: i32, scaled_away: bool) {
        for (_, mut claim) in claims(self.set, ordinal) {
            match (self.claim)(objects::name(&claim)) {
                Some(known) => {
                    let owners = retention::owners(&known, self.set, pod, scaled_away);
                    if let Some(owners) = owners.filter(|_| !objects::is_terminating(&*known)) {
                        plan.steps.push(Step::Own(known, owners));
                    }
                }
                // a pod that goes needs none any more
                None if scaled_away => {}
                None => {
                    claim.metadata.owner_references =
                        retention::owners(&claim, self.set, pod, false);
                    let name = objects::name(pod).to_owned();
                    plan.steps.push(Step::Claim(name, Box::new(claim)));
                }
            }
        }
    }

    /// Pods beyond the set's size go, highest ordinal first.
    fn condemned(
        &self,
        plan: &mut Plan,
        replicas: &Replicas,
        condemned: &[(i32, &Arc<Pod>)],
    ) -> Flow {
        // condemned ones come after the others
        let mut in_order = replicas
            .values()
            .copied()
            .chain(condemned.iter().rev().map(|(_, pod)| *pod));
        let first_unavailable = in_order.find(|pod| self.unavailable(pod));
        for (_, pod) in condemned {
            if objects::is_terminating(&***pod) {
                if self.ordered() {
                    return Flow::Stop;
                }
                continue;
            }
            let is_first = first_unavailable.is_some_and(|first| Arc::ptr_eq(first, pod));
            let settled = is_running_and_ready(pod) && self.available(pod);
            if self.ordered() && !settled && !is_first {
                return Flow::Stop;
            }
            plan.steps.push(Step::Delete((*pod).clone()));
            if self.ordered() {
                return Flow::Stop;
            }
        }
        Flow::GoOn
    }

    /// Pods of another revision are deleted from the highest ordinal down to the partition, as many as may be unavailable.
    /// Where order does not matter, those that are unavailable anyway go first and cost nothing.
    fn update(&self, plan: &mut Plan, replicas: &Replicas) {
        let (start, end) = identity::range(self.set);
        let there = i32::try_from(replicas.len()).unwrap_or(i32::MAX);
        let unavailable = replicas.values().filter(|pod| self.unavailable(pod));
        let unavailable = i32::try_from(unavailable.count()).unwrap_or(i32::MAX);
        // a pod that is made just now is unavailable, and of the right revision
        let down = (end - start - there).saturating_add(unavailable);
        let mut budget = self.max_unavailable().saturating_sub(down);
        let outdated: Vec<&Arc<Pod>> = replicas
            .range(start.saturating_add(self.partition())..)
            .rev()
            .map(|(_, pod)| *pod)
            .filter(|pod| {
                revision(pod) != self.revisions.update && !objects::is_terminating(&***pod)
            })
            .collect();
        let (free, costly): (Vec<_>, Vec<_>) = outdated
            .into_iter()
            .partition(|pod| !self.ordered() && self.unavailable(pod));
        for pod in free {
            self.replace(plan, pod);
        }
        for pod in costly {
            if budget <= 0 {
                return;
            }
            self.replace(plan, pod);
            budget -= 1;
        }
    }

    fn replace(&self, plan: &mut Plan, pod: &Arc<Pod>) {
        plan.leaving += i32::from(revision(pod) == self.revisions.current);
        plan.steps.push(Step::Delete(pod.clone()));
    }

    /// A percentage rounds down; at least one.
    fn max_unavailable(&self) -> i32 {
        let strategy = self.set.spec.update_strategy.as_ref();
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let replicas = self.set.spec.replicas.unwrap_or(1);
        let one = IntOrString::Int(1);
        let said = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        resolve(said.unwrap_or(&one), replicas, false).max(1)
    }
}

#[cfg(test)]
mod tests;
