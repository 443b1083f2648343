//! Whether a node can give a pod its volumes: the claims that are bound, and those that wait for the pod's node.
//!
//! Pure. Follows kube-scheduler's VolumeBinding plugin, in its words.

use std::cmp::Ordering;
use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};

use crate::filter::selects_node;
use crate::requests;

const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// What the API has of storage.
#[derive(Debug, Default)]
pub struct Storage {
    /// By namespace and name.
    pub claims: HashMap<(String, String), PersistentVolumeClaim>,
    pub volumes: HashMap<String, PersistentVolume>,
    pub classes: HashMap<String, StorageClass>,
}

/// What a pod needs of storage.
#[derive(Debug, Default)]
pub struct Needs<'a> {
    bound: Vec<Option<&'a PersistentVolume>>,
    waiting: Vec<&'a PersistentVolumeClaim>,
}

/// How a claim that waited gets its volume once its pod has a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This volume is there already.
    Static {
        namespace: String,
        claim: String,
        volume: String,
    },
    /// Its provisioner shall make one on the node.
    Provision {
        namespace: String,
        claim: String,
        /// It has been told.
        told: bool,
    },
}

impl Storage {
    /// What the pod needs; the error is a sentence about the pod, whatever the node.
    pub fn needs(&self, pod: &Pod) -> Result<Needs<'_>, String> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let volumes = pod
            .spec
            .iter()
            .flat_map(|spec| spec.volumes.iter().flatten());
        let mut needs = Needs::default();
        let mut immediate = false;
        for volume in volumes {
            let Some(source) = &volume.persistent_volume_claim else {
                continue;
            };
            let name = &source.claim_name;
            let key = (namespace.to_owned(), name.clone());
            let claim = self
                .claims
                .get(&key)
                .ok_or_else(|| format!("persistentvolumeclaim {name:?} not found"))?;
            if claim.metadata.deletion_timestamp.is_some() {
                return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
            }
            let status = claim.status.as_ref();
            if status.and_then(|status| status.phase.as_deref()) == Some("Lost") {
                return Err(format!(
                    "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {:?}",
                    named(claim).unwrap_or_default()
                ));
            }
            match named(claim) {
                Some(bound) if annotation(claim, BIND_COMPLETED).is_some() => {
                    needs.bound.push(self.volumes.get(bound));
                }
                None if self.waits(claim) => needs.waiting.push(claim),
                _ => immediate = true,
            }
        }
        if immediate {
            return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
        }
        // the largest first would find more, the smallest first takes less: upstream's order
        needs
            .waiting
            .sort_by(|a, b| compare(requested(a), requested(b)));
        Ok(needs)
    }

    fn waits(&self, claim: &PersistentVolumeClaim) -> bool {
        let class = class_of(claim).and_then(|name| self.classes.get(name));
        class.is_some_and(|class| {
            class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
        })
    }

    /// Whether the node can give it, and how; the errors are upstream's reasons.
    pub fn check(&self, needs: &Needs, node: &Node) -> Result<Vec<Choice>, &'static str> {
        for bound in &needs.bound {
            let Some(volume) = bound else {
                return Err(
                    "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
                );
            };
            if !reachable(volume, node) {
                return Err("node(s) didn't match PersistentVolume's node affinity");
            }
        }
        if !needs
            .bound
            .iter()
            .flatten()
            .all(|volume| in_zone(volume, node))
        {
            return Err("node(s) had no available volume zone");
        }
        let nothing = "node(s) didn't find available persistent volumes to bind";
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let mut choices: Vec<Choice> = Vec::new();
        for claim in &needs.waiting {
            let selected = annotation(claim, SELECTED_NODE);
            if selected.is_some_and(|selected| selected != name) {
                return Err(nothing);
            }
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            let (namespace, of) = (text(&claim.metadata.namespace), text(&claim.metadata.name));
            let taken: Vec<&str> = choices
                .iter()
                .filter_map(|choice| match choice {
                    Choice::Static { volume, .. } => Some(volume.as_str()),
                    Choice::Provision { .. } => None,
                })
                .collect();
            let found = self
                .matching(claim, node, &taken)
                .filter(|_| selected.is_none());
            choices.push(match found {
                Some(volume) => Choice::Static {
                    namespace,
                    claim: of,
                    volume: text(&volume.metadata.name),
                },
                None => {
                    let class = class_of(claim).and_then(|name| self.classes.get(name));
                    if class.is_none_or(|class| {
                        class.provisioner == NO_PROVISIONER || !provides_for(class, node)
                    }) {
                        return Err(nothing);
                    }
                    Choice::Provision {
                        namespace,
                        claim: of,
                        told: selected.is_some(),
                    }
                }
            });
        }
        Ok(choices)
    }

    /// The smallest volume for the claim that the node reaches, or the one that is kept for it.
    fn matching(
        &self,
        claim: &PersistentVolumeClaim,
        node: &Node,
        taken: &[&str],
    ) -> Option<&PersistentVolume> {
        let uid = claim.metadata.uid.as_deref();
        let suits = |volume: &&PersistentVolume| {
            let spec = volume.spec.as_ref();
            let owner = spec.and_then(|spec| spec.claim_ref.as_ref());
            let free = match owner {
                None => {
                    let phase = volume
                        .status
                        .as_ref()
                        .and_then(|status| status.phase.as_deref());
                    phase == Some("Available")
                }
                Some(owner) => {
                    owner.uid.as_deref().is_none_or(|of| Some(of) == uid)
                        && owner.name == claim.metadata.name
                        && owner.namespace == claim.metadata.namespace
                }
            };
            let name = volume.metadata.name.as_deref().unwrap_or_default();
            free && !taken.contains(&name) && fits(claim, volume) && reachable(volume, node)
        };
        let reserved = |volume: &PersistentVolume| {
            volume
                .spec
                .as_ref()
                .is_some_and(|spec| spec.claim_ref.is_some())
        };
        self.volumes.values().filter(suits).min_by(|a, b| {
            reserved(b)
                .cmp(&reserved(a))
                .then_with(|| compare(capacity(a), capacity(b)))
                .then_with(|| a.metadata.name.cmp(&b.metadata.name))
        })
    }
}

fn fits(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let (Some(wanted), Some(has)) = (&claim.spec, &volume.spec) else {
        return false;
    };
    let modes = has.access_modes.as_deref().unwrap_or_default();
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".into());
    volume.metadata.deletion_timestamp.is_none()
        && class_of(claim).unwrap_or_default() == class_of_volume(volume)
        && mode(&wanted.volume_mode) == mode(&has.volume_mode)
        && wanted
            .access_modes
            .iter()
            .flatten()
            .all(|mode| modes.contains(mode))
        && compare(capacity(volume), requested(claim)) != Ordering::Less
        && wanted
            .selector
            .as_ref()
            .is_none_or(|selector| selects(selector, volume))
}

fn selects(selector: &LabelSelector, volume: &PersistentVolume) -> bool {
    let labels = volume.metadata.labels.clone().unwrap_or_default();
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(&labels))
}

fn reachable(volume: &PersistentVolume, node: &Node) -> bool {
    let required = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.node_affinity.as_ref()?.required.as_ref());
    required.is_none_or(|required| selects_node(required, node))
}

/// Where a volume is, as labels say that were there before volumes had an affinity; and what they are called today (upstream's
/// plugin VolumeZone).
const ZONES: [(&str, &str); 4] = [
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    (
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/region",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "topology.kubernetes.io/zone",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/region",
    ),
];

/// The node is in one of the volume's zones and regions. One that says nothing of where it is may have it.
fn in_zone(volume: &PersistentVolume, node: &Node) -> bool {
    let of_node = |key: &str| node.metadata.labels.as_ref()?.get(key);
    if ZONES.iter().all(|(key, _)| of_node(key).is_none()) {
        return true;
    }
    let of_volume = |key: &str| volume.metadata.labels.as_ref()?.get(key);
    ZONES.iter().all(|(key, today)| {
        of_volume(key).is_none_or(|zones| {
            let own = of_node(key).or_else(|| of_node(today));
            own.is_some_and(|own| zones.split("__").any(|zone| zone == own))
        })
    })
}

/// The class may make a volume that the node reaches.
fn provides_for(class: &StorageClass, node: &Node) -> bool {
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    let label = |key: &str| node.metadata.labels.as_ref()?.get(key);
    terms.is_empty()
        || terms.iter().any(|term| {
            let wanted = term.match_label_expressions.as_deref().unwrap_or_default();
            let holds = |key: &str, values: &[String]| {
                label(key).is_some_and(|value| values.contains(value))
            };
            !wanted.is_empty() && wanted.iter().all(|one| holds(&one.key, &one.values))
        })
}

fn named(claim: &PersistentVolumeClaim) -> Option<&str> {
    let name = claim.spec.as_ref()?.volume_name.as_deref();
    name.filter(|name| !name.is_empty())
}

fn annotation<'a>(claim: &'a PersistentVolumeClaim, key: &str) -> Option<&'a str> {
    claim
        .metadata
        .annotations
        .as_ref()?
        .get(key)
        .map(String::as_str)
}

fn class_of_volume(volume: &PersistentVolume) -> &str {
    let annotations = volume.metadata.annotations.as_ref();
    let old = annotations.and_then(|all| all.get(OLD_CLASS).map(String::as_str));
    let named = || volume.spec.as_ref()?.storage_class_name.as_deref();
    old.or_else(named).unwrap_or_default()
}

fn class_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    annotation(claim, OLD_CLASS).or_else(|| claim.spec.as_ref()?.storage_class_name.as_deref())
}

fn capacity(volume: &PersistentVolume) -> Option<&Quantity> {
    volume.spec.as_ref()?.capacity.as_ref()?.get("storage")
}

fn requested(claim: &PersistentVolumeClaim) -> Option<&Quantity> {
    claim
        .spec
        .as_ref()?
        .resources
        .as_ref()?
        .requests
        .as_ref()?
        .get("storage")
}

fn compare(a: Option<&Quantity>, b: Option<&Quantity>) -> Ordering {
    let read = |quantity: Option<&Quantity>| {
        let amounts = std::collections::BTreeMap::from([("storage".to_owned(), quantity?.clone())]);
        requests::amounts(&amounts).get("storage").copied()
    };
    read(a).cmp(&read(b))
}

#[cfg(test)]
mod tests;
