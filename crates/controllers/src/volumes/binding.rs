//! Which volume a claim gets, and what phase a volume is in: pure functions of the objects, after upstream's
//! persistentvolume controller (`pkg/controller/volume/persistentvolume`).

use std::cmp::Ordering;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::objects;

pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const DEFAULT_CLASS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// The provisioner of classes whose volumes are made by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// What a claim needs next.
#[derive(Clone, Debug, PartialEq)]
pub enum ClaimStep {
    /// It has what it needs, or somebody else's move is next.
    Nothing,
    /// It and this volume belong together.
    Bind(String),
    /// Nothing suits; this provisioner shall make a volume.
    Provision(String),
    /// It takes the default class, which appeared after it.
    Class(String),
    /// Its volume is gone.
    Lost {
        reason: &'static str,
        message: &'static str,
    },
    /// Nothing can be done now; the user is told why.
    Wait {
        warning: bool,
        reason: &'static str,
        message: String,
    },
}

/// The next step of a claim that is not being deleted.
pub fn claim_step(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    classes: &[Arc<StorageClass>],
) -> ClaimStep {
    match volume_name(claim) {
        Some(name) => named_step(claim, name, volumes),
        None => unbound_step(claim, volumes, classes),
    }
}

/// The claim names its volume.
fn named_step(
    claim: &PersistentVolumeClaim,
    name: &str,
    volumes: &[Arc<PersistentVolume>],
) -> ClaimStep {
    let completed = objects::annotation(claim, BIND_COMPLETED).is_some();
    let lost = |reason, message| match phase(claim) {
        "Lost" => ClaimStep::Nothing,
        _ => ClaimStep::Lost { reason, message },
    };
    let Some(volume) = volumes
        .iter()
        .find(|volume| objects::name(&***volume) == name)
    else {
        return if completed {
            lost(
                "ClaimLost",
                "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
            )
        } else {
            ClaimStep::Nothing
        };
    };
    match owner(volume) {
        Owner::Claim(uid) if uid == objects::uid(claim) => match phase(claim) {
            "Bound" if completed => ClaimStep::Nothing,
            _ => ClaimStep::Bind(name.to_owned()),
        },
        // the volume has forgotten (somebody replaced it by what a file says): it was the claim's, and still is
        Owner::Nobody if completed => ClaimStep::Bind(name.to_owned()),
        _ if completed => lost(
            "ClaimMisbound",
            "Two claims are bound to the same volume, this one is bound incorrectly",
        ),
        Owner::Name(namespace, of)
            if namespace == objects::namespace(claim) && of == objects::name(claim) =>
        {
            ClaimStep::Bind(name.to_owned())
        }
        Owner::Nobody => match unfit(claim, volume) {
            None => ClaimStep::Bind(name.to_owned()),
            Some(why) => ClaimStep::Wait {
                warning: true,
                reason: "VolumeMismatch",
                message: format!("Cannot bind to requested volume {name:?}: {why}"),
            },
        },
        _ => ClaimStep::Wait {
            warning: true,
            reason: "FailedBinding",
            message: format!("volume {name:?} already bound to a different claim."),
        },
    }
}

fn unbound_step(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    classes: &[Arc<StorageClass>],
) -> ClaimStep {
    let name = class_of(claim);
    let class = name.filter(|name| !name.is_empty()).and_then(|name| {
        classes
            .iter()
            .find(|class| objects::name(&***class) == name)
    });
    let delayed = class
        .is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
    let selected = objects::annotation(claim, SELECTED_NODE).is_some();
    // where the first pod goes is the scheduler's to say, and with it which of several volumes
    if let Some(found) = matching(claim, volumes, delayed) {
        return ClaimStep::Bind(objects::name(&*found).to_owned());
    }
    match (name, class) {
        (None, _) => match default_class(classes) {
            Some(class) => ClaimStep::Class(objects::name(class).to_owned()),
            None => none_available(),
        },
        (Some(""), _) => none_available(),
        (Some(name), None) => ClaimStep::Wait {
            warning: true,
            reason: "ProvisioningFailed",
            message: format!("storageclass.storage.k8s.io {name:?} not found"),
        },
        (Some(_), Some(_)) if delayed && !selected => ClaimStep::Wait {
            warning: false,
            reason: "WaitForFirstConsumer",
            message: "waiting for first consumer to be created before binding".into(),
        },
        (Some(name), Some(class)) if class.provisioner == NO_PROVISIONER => ClaimStep::Wait {
            warning: false,
            reason: "FailedBinding",
            message: format!(
                "no persistent volumes available for this claim, and storage class {name:?} has no provisioner that makes one"
            ),
        },
        (Some(_), Some(class)) => ClaimStep::Provision(class.provisioner.clone()),
    }
}

fn none_available() -> ClaimStep {
    ClaimStep::Wait {
        warning: false,
        reason: "FailedBinding",
        message: "no persistent volumes available for this claim and no storage class is set"
            .into(),
    }
}

/// The class that claims get which name none: of several the newest.
pub fn default_class(classes: &[Arc<StorageClass>]) -> Option<&StorageClass> {
    classes
        .iter()
        .filter(|class| {
            let says = |key| objects::annotation(&***class, key) == Some("true");
            DEFAULT_CLASS.into_iter().any(says)
        })
        .min_by_key(|class| {
            let created = objects::created(&***class);
            (
                std::cmp::Reverse(created),
                objects::name(&***class).to_owned(),
            )
        })
        .map(|class| &**class)
}

/// The claim's class; `Some("")` asks for volumes without one.
pub fn class_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    objects::annotation(claim, OLD_CLASS)
        .or_else(|| claim.spec.as_ref()?.storage_class_name.as_deref())
}

fn phase(claim: &PersistentVolumeClaim) -> &str {
    claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// Whom a volume is kept for.
enum Owner<'a> {
    Nobody,
    /// A claim of this namespace and name, whichever that will be.
    Name(&'a str, &'a str),
    /// The claim with this uid.
    Claim(&'a str),
}

fn owner(volume: &PersistentVolume) -> Owner<'_> {
    let Some(of) = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.claim_ref.as_ref())
    else {
        return Owner::Nobody;
    };
    match of.uid.as_deref().filter(|uid| !uid.is_empty()) {
        Some(uid) => Owner::Claim(uid),
        None => Owner::Name(
            of.namespace.as_deref().unwrap_or_default(),
            of.name.as_deref().unwrap_or_default(),
        ),
    }
}

/// The smallest volume that suits, or the one that is kept for the claim. `reserved_only`: the latter alone.
pub fn matching(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    reserved_only: bool,
) -> Option<Arc<PersistentVolume>> {
    let mut best: Option<&Arc<PersistentVolume>> = None;
    for volume in volumes {
        match owner(volume) {
            Owner::Claim(uid) if uid == objects::uid(claim) => return Some(volume.clone()),
            Owner::Name(namespace, name)
                if namespace == objects::namespace(claim)
                    && name == objects::name(claim)
                    && mismatch(claim, volume).is_none() =>
            {
                return Some(volume.clone());
            }
            Owner::Nobody if !reserved_only => {
                let phase = volume
                    .status
                    .as_ref()
                    .and_then(|status| status.phase.as_deref());
                let selected = claim
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.selector.as_ref())
                    .is_none_or(|selector| {
                        objects::selects(selector, volume.metadata.labels.as_ref())
                    });
                let fits = phase == Some("Available") && selected && unfit(claim, volume).is_none();
                let smaller = best.is_none_or(|best| {
                    compare(capacity(volume), capacity(best)) == Some(Ordering::Less)
                });
                if fits && smaller {
                    best = Some(volume);
                }
            }
            _ => {}
        }
    }
    best.cloned()
}

/// Why the volume does not suit the claim: what [`mismatch`] says, or its class.
fn unfit(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<&'static str> {
    let class = objects::annotation(volume, OLD_CLASS)
        .or_else(|| volume.spec.as_ref()?.storage_class_name.as_deref())
        .unwrap_or_default();
    if class_of(claim).unwrap_or_default() != class {
        return Some("storageClassName does not match");
    }
    mismatch(claim, volume)
}

fn mismatch(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<&'static str> {
    let (Some(wanted), Some(has)) = (&claim.spec, &volume.spec) else {
        return Some("one of them has no spec");
    };
    if objects::is_terminating(volume) {
        return Some("the volume is being deleted");
    }
    let request = wanted
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref()?.get("storage"));
    if compare(capacity(volume), request) == Some(Ordering::Less) {
        return Some("requested PV is too small");
    }
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".into());
    if mode(&wanted.volume_mode) != mode(&has.volume_mode) {
        return Some("incompatible volumeMode");
    }
    let modes = has.access_modes.as_deref().unwrap_or_default();
    if !wanted
        .access_modes
        .iter()
        .flatten()
        .all(|mode| modes.contains(mode))
    {
        return Some("incompatible accessMode");
    }
    None
}

fn capacity(volume: &PersistentVolume) -> Option<&Quantity> {
    volume.spec.as_ref()?.capacity.as_ref()?.get("storage")
}

/// Amounts that cannot be read are not compared.
fn compare(a: Option<&Quantity>, b: Option<&Quantity>) -> Option<Ordering> {
    let read = |quantity: Option<&Quantity>| -> Option<autoscale::quantity::Quantity> {
        autoscale::quantity::Quantity::parse(&quantity?.0).ok()
    };
    Some(read(a)?.value().cmp(&read(b)?.value()))
}

/// A volume's phase, and why it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumePhase {
    pub phase: &'static str,
    pub reason: Option<&'static str>,
    pub message: Option<String>,
}

/// The phase of a volume whose claim, if that still exists, is `claim`. `None` leaves it as it is: whoever binds is about to
/// say.
pub fn volume_phase(
    volume: &PersistentVolume,
    claim: Option<&PersistentVolumeClaim>,
) -> Option<VolumePhase> {
    let plain = |phase| {
        Some(VolumePhase {
            phase,
            reason: None,
            message: None,
        })
    };
    let uid = match owner(volume) {
        Owner::Nobody | Owner::Name(..) => return plain("Available"),
        Owner::Claim(uid) => uid,
    };
    match claim.filter(|claim| objects::uid(*claim) == uid) {
        Some(claim) => {
            let named = volume_name(claim);
            (named == volume.metadata.name.as_deref()).then(|| plain("Bound"))?
        }
        None => released(volume),
    }
}

/// What becomes of a volume that is kept for a claim which has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spare {
    /// It was made for that claim: whoever provisioned it removes it.
    Released,
    /// It may be anybody's again.
    Unbound,
    /// Whoever made it meant it for a claim of that name; it may be the next of that name's.
    Reserved,
}

/// Whether `claim`, for which the volume is kept, has another one.
pub fn spare(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<Spare> {
    let elsewhere = matches!(owner(volume), Owner::Claim(uid) if uid == objects::uid(claim))
        && objects::annotation(claim, BIND_COMPLETED).is_some()
        && volume_name(claim).is_some_and(|name| name != objects::name(volume));
    let policy = volume.spec.as_ref();
    let policy = policy.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let has = |key| objects::annotation(volume, key).is_some();
    elsewhere.then(|| match has(BOUND_BY_CONTROLLER) {
        _ if has(PROVISIONED_BY) && policy == Some("Delete") => Spare::Released,
        true => Spare::Unbound,
        false => Spare::Reserved,
    })
}

/// Whether the claim has this volume, whatever the volume says.
pub fn has(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    objects::annotation(claim, BIND_COMPLETED).is_some()
        && volume_name(claim) == volume.metadata.name.as_deref()
}

fn volume_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    let name = claim.spec.as_ref()?.volume_name.as_deref();
    name.filter(|name| !name.is_empty())
}

/// Nobody has the volume any more: its policy says what becomes of it.
fn released(volume: &PersistentVolume) -> Option<VolumePhase> {
    let policy = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let failed = |reason, message: String| {
        Some(VolumePhase {
            phase: "Failed",
            reason: Some(reason),
            message: Some(message),
        })
    };
    match policy {
        // whoever provisioned it removes it
        Some("Delete") if objects::annotation(volume, PROVISIONED_BY).is_none() => failed(
            "VolumeFailedDelete",
            format!(
                "error getting deleter volume plugin for volume {:?}: no deletable volume plugin matched",
                objects::name(volume)
            ),
        ),
        Some("Recycle") => failed(
            "VolumeFailedRecycle",
            "No recycler plugin found for the volume!".into(),
        ),
        _ => Some(VolumePhase {
            phase: "Released",
            reason: None,
            message: None,
        }),
    }
}

#[cfg(test)]
mod tests;
