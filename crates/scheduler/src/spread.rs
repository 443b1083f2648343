//! Topology spread constraints as data: what both the filter and the score count.

use k8s_openapi::api::core::v1::{Pod, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::cluster::NodeRoom;
use crate::filter::{admits_node, tolerates_node};
use crate::labels::Selects;
use crate::resident::Resident;

/// The label that every node has to itself.
pub const HOSTNAME: &str = "kubernetes.io/hostname";

/// One constraint.
#[derive(Clone, Debug)]
pub struct Spread {
    /// The label whose values are the domains.
    pub key: String,
    pub max_skew: i64,
    /// With fewer domains the least count is taken to be zero.
    pub min_domains: usize,
    counted: Counted,
    honor_affinity: bool,
    honor_taints: bool,
}

/// Which pods are counted.
#[derive(Clone, Debug)]
enum Counted {
    Selected(Selects),
    /// Those of this controller.
    OwnedBy(String),
}

impl Spread {
    /// The pod's constraints that must hold, or those that should.
    pub fn of(pod: &Pod, hard: bool) -> Vec<Self> {
        let given = pod
            .spec
            .iter()
            .flat_map(|spec| spec.topology_spread_constraints.iter().flatten());
        given
            .filter(|given| (given.when_unsatisfiable == "DoNotSchedule") == hard)
            .map(|given| Self::read(given, pod))
            .collect()
    }

    fn read(given: &TopologySpreadConstraint, pod: &Pod) -> Self {
        let labels = pod.metadata.labels.as_ref();
        let mut selector: Option<LabelSelector> = given.label_selector.clone();
        // the API server has merged them already; another one may not
        for key in given.match_label_keys.iter().flatten() {
            if let Some(value) = labels.and_then(|labels| labels.get(key))
                && let Some(selector) = &mut selector
            {
                let wanted = selector.match_labels.get_or_insert_default();
                wanted.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        let policy = |policy: &Option<String>, default: &str| {
            policy.as_deref().unwrap_or(default) == "Honor"
        };
        Self {
            key: given.topology_key.clone(),
            max_skew: i64::from(given.max_skew),
            min_domains: given
                .min_domains
                .and_then(|least| usize::try_from(least).ok())
                .unwrap_or(1),
            counted: Counted::Selected(Selects::of(selector.as_ref())),
            honor_affinity: policy(&given.node_affinity_policy, "Honor"),
            honor_taints: policy(&given.node_taints_policy, "Ignore"),
        }
    }

    /// What should hold of pods that have no constraints: a controller's pods are spread over zones and nodes.
    pub fn default_of(resident: &Resident) -> Vec<Self> {
        let Some(owner) = &resident.owner else {
            return Vec::new();
        };
        let one = |key: &str, max_skew| Self {
            key: key.to_owned(),
            max_skew,
            min_domains: 1,
            counted: Counted::OwnedBy(owner.clone()),
            honor_affinity: true,
            honor_taints: false,
        };
        vec![one(HOSTNAME, 3), one("topology.kubernetes.io/zone", 5)]
    }

    /// The controller whose pods are counted, if it is by that.
    pub fn owner(&self) -> Option<&str> {
        match &self.counted {
            Counted::Selected(_) => None,
            Counted::OwnedBy(owner) => Some(owner),
        }
    }

    /// Pods on the node count.
    pub fn counts_node(&self, pod: &Pod, room: &NodeRoom) -> bool {
        (!self.honor_affinity || admits_node(pod, &room.node))
            && (!self.honor_taints || tolerates_node(pod, &room.node))
    }

    /// The pod is one of those whose number matters.
    pub fn counts_pod(&self, pod: &Resident) -> bool {
        match &self.counted {
            Counted::Selected(selects) => selects.matches(&pod.labels),
            Counted::OwnedBy(owner) => pod.owner.as_ref() == Some(owner),
        }
    }

    /// How many pods on the node count, for a pod of this namespace.
    pub fn count(&self, namespace: &str, room: &NodeRoom) -> i64 {
        let counted = room
            .residents
            .iter()
            .filter(|one| !one.terminating && one.namespace == namespace && self.counts_pod(one));
        i64::try_from(counted.count()).unwrap_or(i64::MAX)
    }
}

/// The node has all the labels that the constraints are about.
pub fn has_keys(spreads: &[Spread], room: &NodeRoom) -> bool {
    spreads
        .iter()
        .all(|spread| room.label(&spread.key).is_some())
}
