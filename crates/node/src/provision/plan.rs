//! What is due for the local provisioner: a pure function of claims and volumes.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{
    LocalVolumeSource, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference,
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use kube::api::ObjectMeta;

use crate::resources;

/// Its name in StorageClasses.
pub const PROVISIONER: &str = "plimsoll.dev/local";
/// Keeps a volume until its directory is gone.
pub const FINALIZER: &str = "plimsoll.dev/local-volume";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const WANTED_OF: [&str; 2] = [
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
];
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const HOSTNAME: &str = "kubernetes.io/hostname";

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make a volume for the claim, if its class and node say so.
    Provision(Box<PersistentVolumeClaim>),
    /// Ask for the volume's end.
    Delete(Box<PersistentVolume>),
    /// Remove the directory, if one is named, and let the volume go.
    Finish {
        volume: Box<PersistentVolume>,
        directory: Option<PathBuf>,
    },
    /// Write down the claim's new size.
    Grow {
        claim: Box<PersistentVolumeClaim>,
        volume: Box<PersistentVolume>,
        size: String,
    },
}

impl Step {
    /// Of the object that it is about.
    pub fn uid(&self) -> String {
        match self {
            Self::Provision(claim) | Self::Grow { claim, .. } => claim.uid(),
            Self::Delete(volume) | Self::Finish { volume, .. } => volume.uid(),
        }
        .unwrap_or_default()
    }
}

/// Everything that is due. `node`: this one; `base`: where its volumes lie.
pub fn plan<'a>(
    claims: impl Iterator<Item = &'a PersistentVolumeClaim> + Clone,
    volumes: impl Iterator<Item = &'a PersistentVolume> + Clone,
    node: &str,
    base: &Path,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for claim in claims.clone().filter(|claim| wants_volume(claim, node)) {
        let name = volume_name(claim);
        if !volumes.clone().any(|volume| volume.name_any() == name) {
            steps.push(Step::Provision(Box::new(claim.clone())));
        }
    }
    for volume in volumes.filter(|volume| is_here(volume, node)) {
        let phase = volume
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        let policy = volume
            .spec
            .as_ref()
            .and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
        let doomed = policy == Some("Delete");
        if volume.metadata.deletion_timestamp.is_some() {
            let held = volume
                .finalizers()
                .iter()
                .any(|finalizer| finalizer == FINALIZER);
            if held && phase != Some("Bound") {
                let directory = directory(volume, base).filter(|_| doomed);
                let volume = Box::new(volume.clone());
                steps.push(Step::Finish { volume, directory });
            }
        } else if doomed && matches!(phase, Some("Released" | "Failed")) {
            steps.push(Step::Delete(Box::new(volume.clone())));
        } else if let Some((claim, size)) = grown(claims.clone(), volume) {
            let (claim, volume) = (Box::new(claim.clone()), Box::new(volume.clone()));
            steps.push(Step::Grow {
                claim,
                volume,
                size,
            });
        }
    }
    steps
}

fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The claim's class, as the older annotation or the field tells it.
pub fn class_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    annotation(&claim.metadata, OLD_CLASS)
        .or_else(|| claim.spec.as_ref()?.storage_class_name.as_deref())
}

fn wants_volume(claim: &PersistentVolumeClaim, node: &str) -> bool {
    let metadata = &claim.metadata;
    let named = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.as_deref())
        .is_some_and(|name| !name.is_empty());
    let ours = WANTED_OF
        .iter()
        .any(|key| annotation(metadata, key) == Some(PROVISIONER));
    let here = annotation(metadata, SELECTED_NODE).is_none_or(|selected| selected == node);
    ours && here && !named && metadata.deletion_timestamp.is_none() && metadata.uid.is_some()
}

/// Whether the class is this provisioner's, and the node is chosen if the class waits for that.
pub fn is_ours(claim: &PersistentVolumeClaim, class: &StorageClass, node: &str) -> bool {
    let waits = class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer");
    let selected = annotation(&claim.metadata, SELECTED_NODE);
    class.provisioner == PROVISIONER && (!waits || selected == Some(node))
}

fn volume_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default())
}

/// Made by this provisioner, on this node.
fn is_here(volume: &PersistentVolume, node: &str) -> bool {
    let terms = volume
        .spec
        .iter()
        .filter_map(|spec| spec.node_affinity.as_ref()?.required.as_ref())
        .flat_map(|required| &required.node_selector_terms);
    let here = { terms }
        .flat_map(|term| term.match_expressions.iter().flatten())
        .any(|one| one.key == HOSTNAME && one.values.iter().flatten().any(|value| value == node));
    annotation(&volume.metadata, PROVISIONED_BY) == Some(PROVISIONER) && here
}

/// The volume's directory, if it is the one that this provisioner gave a volume of that name.
fn directory(volume: &PersistentVolume, base: &Path) -> Option<PathBuf> {
    let name = volume.name_any();
    let plain = name.starts_with("pvc-") && !name.contains(['/', '\0']);
    let own = base.join(&name);
    let path = volume
        .spec
        .as_ref()?
        .local
        .as_ref()
        .map(|local| Path::new(&local.path))?;
    (plain && path == own).then_some(own)
}

/// The claim of a volume that asks for more than is written down for it.
fn grown<'a>(
    mut claims: impl Iterator<Item = &'a PersistentVolumeClaim>,
    volume: &PersistentVolume,
) -> Option<(&'a PersistentVolumeClaim, String)> {
    let owner = volume.spec.as_ref()?.claim_ref.as_ref()?.uid.as_deref()?;
    let claim = claims.find(|claim| claim.metadata.uid.as_deref() == Some(owner))?;
    let status = claim.status.as_ref()?;
    let has = status.capacity.as_ref()?.get("storage")?;
    let wanted = requested(claim)?;
    let bound = status.phase.as_deref() == Some("Bound");
    (bound && resources::value(wanted)? > resources::value(has)?).then(|| (claim, wanted.0.clone()))
}

fn requested(claim: &PersistentVolumeClaim) -> Option<&Quantity> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    resources.requests.as_ref()?.get("storage")
}

/// The volume for a claim, bound to it from the beginning. The error is for the user.
pub fn volume(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    node: &str,
    base: &Path,
) -> Result<PersistentVolume, String> {
    let spec = claim.spec.clone().unwrap_or_default();
    if spec.volume_mode.as_deref() == Some("Block") {
        return Err("volume mode Block is not supported; a local volume is a directory".into());
    }
    if spec.selector.is_some() {
        return Err("claim.Spec.Selector is not supported for dynamic provisioning".into());
    }
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return Err("a local volume cannot be filled from a data source".into());
    }
    if spec
        .access_modes
        .iter()
        .flatten()
        .any(|mode| mode == "ReadOnlyMany")
    {
        return Err("access mode ReadOnlyMany is not supported: a new volume is empty".into());
    }
    let size = requested(claim)
        .cloned()
        .ok_or("the claim asks for no size")?;
    let name = volume_name(claim);
    let requirement = NodeSelectorRequirement {
        key: HOSTNAME.into(),
        operator: "In".into(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm {
        match_expressions: Some(vec![requirement]),
        ..NodeSelectorTerm::default()
    };
    Ok(PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            annotations: Some([(PROVISIONED_BY.to_owned(), PROVISIONER.to_owned())].into()),
            finalizers: Some(vec![FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes,
            capacity: Some([("storage".to_owned(), size)].into()),
            claim_ref: Some(ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("PersistentVolumeClaim".into()),
                name: claim.metadata.name.clone(),
                namespace: claim.metadata.namespace.clone(),
                uid: claim.metadata.uid.clone(),
                resource_version: claim.metadata.resource_version.clone(),
                ..ObjectReference::default()
            }),
            local: Some(LocalVolumeSource {
                path: base.join(&name).display().to_string(),
                ..LocalVolumeSource::default()
            }),
            node_affinity: Some(VolumeNodeAffinity {
                required: Some(NodeSelector {
                    node_selector_terms: vec![term],
                }),
            }),
            mount_options: class.mount_options.clone(),
            persistent_volume_reclaim_policy: Some(
                class
                    .reclaim_policy
                    .clone()
                    .unwrap_or_else(|| "Delete".into()),
            ),
            storage_class_name: class.metadata.name.clone(),
            volume_mode: Some("Filesystem".into()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    })
}

#[cfg(test)]
mod tests;
