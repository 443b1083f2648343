//! What the scheduler remembers of a pod that takes room on a node, and what a pod wants of its neighbours.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, WeightedPodAffinityTerm};

use crate::cluster::Footprint;
use crate::labels::{Labels, Selects};

/// The labels of every namespace.
pub type Namespaces = HashMap<String, Labels>;

/// A pod as others see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub labels: Labels,
    /// The uid of its controller.
    pub owner: Option<String>,
    pub priority: i32,
    pub footprint: Footprint,
    /// When its node took it.
    pub started: Option<Timestamp>,
    /// It is being deleted.
    pub terminating: bool,
    /// It goes because a more important pod needs its room.
    pub preempted: bool,
    pub neighbours: Neighbours,
    /// The names of its claims.
    pub claims: Vec<String>,
}

/// The pods that a pod wants near, and those that it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbours {
    pub near: Vec<Term>,
    pub apart: Vec<Term>,
    /// By weight; negative where they should be apart.
    pub preferred: Vec<(i64, Term)>,
}

/// Some pods, and what "near" means: the value of a node's label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Term {
    pub topology_key: String,
    namespaces: BTreeSet<String>,
    of_namespaces: Selects,
    selects: Selects,
}

impl Resident {
    /// Of this pod.
    pub fn of(pod: &Pod) -> Self {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let (meta, spec, status) = (&pod.metadata, pod.spec.as_ref(), pod.status.as_ref());
        let owner = meta
            .owner_references
            .iter()
            .flatten()
            .find(|owner| owner.controller == Some(true));
        let terminating = meta.deletion_timestamp.is_some();
        let mut conditions = status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        let disrupted = conditions.find(|condition| condition.type_ == "DisruptionTarget");
        Self {
            uid: text(&meta.uid),
            namespace: text(&meta.namespace),
            name: text(&meta.name),
            labels: meta.labels.clone().unwrap_or_default(),
            owner: owner.map(|owner| owner.uid.clone()),
            priority: spec.and_then(|spec| spec.priority).unwrap_or(0),
            footprint: Footprint::of(pod),
            started: status
                .and_then(|status| status.start_time.as_ref())
                .map(|time| time.0),
            terminating,
            preempted: terminating
                && disrupted.is_some_and(|condition| {
                    condition.status == "True"
                        && condition.reason.as_deref() == Some("PreemptionByScheduler")
                }),
            neighbours: Neighbours::of(pod),
            claims: spec
                .iter()
                .flat_map(|spec| spec.volumes.iter().flatten())
                .filter_map(|volume| volume.persistent_volume_claim.as_ref())
                .map(|claim| claim.claim_name.clone())
                .collect(),
        }
    }

    /// All of the terms are about this pod.
    pub fn is_meant_by_all(&self, terms: &[Term], namespaces: &Namespaces) -> bool {
        terms.iter().all(|term| term.means(self, namespaces))
    }
}

impl Neighbours {
    fn of(pod: &Pod) -> Self {
        let Some(affinity) = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()) else {
            return Self::default();
        };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let required = |terms: Option<&Vec<PodAffinityTerm>>| {
            let terms = terms.into_iter().flatten();
            terms.map(|term| Term::of(term, namespace)).collect()
        };
        let preferred = |terms: Option<&Vec<WeightedPodAffinityTerm>>, sign: i64| {
            let terms = terms.into_iter().flatten();
            let one = |given: &WeightedPodAffinityTerm| {
                let weight = sign * i64::from(given.weight);
                (weight, Term::of(&given.pod_affinity_term, namespace))
            };
            terms.map(one).collect::<Vec<_>>()
        };
        let (near, apart) = (&affinity.pod_affinity, &affinity.pod_anti_affinity);
        let mut wishes = preferred(
            near.as_ref().and_then(|near| {
                near.preferred_during_scheduling_ignored_during_execution
                    .as_ref()
            }),
            1,
        );
        wishes.extend(preferred(
            apart.as_ref().and_then(|apart| {
                apart
                    .preferred_during_scheduling_ignored_during_execution
                    .as_ref()
            }),
            -1,
        ));
        Self {
            near: required(near.as_ref().and_then(|near| {
                near.required_during_scheduling_ignored_during_execution
                    .as_ref()
            })),
            apart: required(apart.as_ref().and_then(|apart| {
                apart
                    .required_during_scheduling_ignored_during_execution
                    .as_ref()
            })),
            preferred: wishes,
        }
    }

    /// It wants nothing.
    pub fn is_empty(&self) -> bool {
        self.near.is_empty() && self.apart.is_empty() && self.preferred.is_empty()
    }
}

impl Term {
    fn of(term: &PodAffinityTerm, namespace: &str) -> Self {
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(namespace.to_owned());
        }
        Self {
            topology_key: term.topology_key.clone(),
            namespaces,
            of_namespaces: Selects::of(term.namespace_selector.as_ref()),
            selects: Selects::of(term.label_selector.as_ref()),
        }
    }

    /// It is about this pod.
    pub fn means(&self, pod: &Resident, namespaces: &Namespaces) -> bool {
        let here = self.namespaces.contains(&pod.namespace)
            || match namespaces.get(&pod.namespace) {
                Some(labels) => self.of_namespaces.matches(labels),
                None => self.of_namespaces.matches(&Labels::new()),
            };
        here && self.selects.matches(&pod.labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn term(change: Value) -> Term {
        let mut value =
            json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}});
        for (key, given) in change.as_object().unwrap() {
            value[key] = given.clone();
        }
        let pod = json!({"metadata": {"namespace": "own"}, "spec": {"containers": [], "affinity": {
            "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [value]}}}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        Resident::of(&pod).neighbours.near.remove(0)
    }

    #[test]
    fn a_term_is_about_pods_of_its_namespaces() {
        let namespaces = Namespaces::from([(
            "other".to_owned(),
            Labels::from([("team".to_owned(), "a".to_owned())]),
        )]);
        // the term, about a pod of "own", about one of "other"
        let table = [
            (json!({}), true, false),
            (json!({"namespaces": ["other"]}), false, true),
            (json!({"namespaceSelector": {}}), true, true),
            (
                json!({"namespaceSelector": {"matchLabels": {"team": "a"}}}),
                false,
                true,
            ),
            (
                json!({"namespaces": ["own"], "namespaceSelector": {"matchLabels": {"team": "a"}}}),
                true,
                true,
            ),
            (json!({"labelSelector": null}), false, false),
        ];
        for (change, own, other) in table {
            let term = term(change.clone());
            for (namespace, expected) in [("own", own), ("other", other)] {
                let pod = Resident {
                    namespace: namespace.to_owned(),
                    labels: Labels::from([("app".to_owned(), "db".to_owned())]),
                    ..Resident::default()
                };
                assert_eq!(
                    term.means(&pod, &namespaces),
                    expected,
                    "{change} {namespace}"
                );
            }
        }
    }

    #[test]
    fn only_pods_that_go_for_another_are_preempted() {
        let read = |reason: &str, status: &str, going: bool| {
            let deleted = going.then_some("2026-01-01T00:00:00Z");
            let pod = json!({"metadata": {"deletionTimestamp": deleted}, "spec": {"containers": []},
                "status": {"conditions": [{"type": "DisruptionTarget", "status": status, "reason": reason}]}});
            Resident::of(&serde_json::from_value(pod).unwrap()).preempted
        };
        assert!(read("PreemptionByScheduler", "True", true));
        assert!(!read("PreemptionByScheduler", "True", false));
        assert!(!read("PreemptionByScheduler", "False", true));
        assert!(!read("EvictionByEvictionAPI", "True", true));
    }
}
