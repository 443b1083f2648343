//! What volumes may show: nothing of the node, and at `restricted` only what the cluster manages.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Violation;
use super::pod::{Pod, name, plural, quoted};
use crate::object::{at, items};

/// The types that `restricted` allows.
const ALLOWED: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// The others, in the order in which upstream looks for them.
const RESTRICTED: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

fn is_of(volume: &Value, kind: &str) -> bool {
    at(volume, &[kind]).is_some()
}

/// No directory of the node.
pub(super) fn host_paths(pod: &Pod) -> Option<Violation> {
    let volumes = items(pod.spec, &["volumes"]).iter();
    let bad: Vec<_> = volumes
        .filter(|volume| is_of(volume, "hostPath"))
        .map(name)
        .collect();
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {}",
        plural(bad.len(), "volume", "volumes"),
        quoted(&bad)
    );
    Violation::new("hostPath volumes", detail)
}

/// Only the types that hold nothing of the node or of a server that the pod itself names.
pub(super) fn restricted(pod: &Pod) -> Option<Violation> {
    let bad: Vec<_> = items(pod.spec, &["volumes"])
        .iter()
        .filter(|volume| !ALLOWED.iter().any(|kind| is_of(volume, kind)))
        .collect();
    if bad.is_empty() {
        return None;
    }
    let kinds: BTreeSet<_> = bad
        .iter()
        .map(|volume| {
            let mut known = RESTRICTED.iter();
            known
                .find(|kind| is_of(volume, kind))
                .map_or("unknown", |kind| *kind)
        })
        .collect();
    let detail = format!(
        "{} {} {} {} {}",
        plural(bad.len(), "volume", "volumes"),
        quoted(bad.iter().map(|volume| name(volume))),
        plural(bad.len(), "uses", "use"),
        plural(
            kinds.len(),
            "restricted volume type",
            "restricted volume types"
        ),
        quoted(kinds)
    );
    Violation::new("restricted volume types", detail)
}
