//! Columns of PersistentVolumes, PersistentVolumeClaims and StorageClasses.

use serde_json::Value;

use super::{AGE, Column, NAME, age, string, wide};
use crate::object::{at, items, text};

pub const VOLUME: &[Column] = &[
    NAME,
    string("Capacity"),
    string("Access Modes"),
    string("Reclaim Policy"),
    string("Status"),
    string("Claim"),
    string("StorageClass"),
    string("VolumeAttributesClass"),
    string("Reason"),
    AGE,
    wide("VolumeMode"),
];
pub const CLAIM: &[Column] = &[
    NAME,
    string("Status"),
    string("Volume"),
    string("Capacity"),
    string("Access Modes"),
    string("StorageClass"),
    string("VolumeAttributesClass"),
    AGE,
    wide("VolumeMode"),
];
pub const CLASS: &[Column] = &[
    NAME,
    string("Provisioner"),
    string("ReclaimPolicy"),
    string("VolumeBindingMode"),
    string("AllowVolumeExpansion"),
    AGE,
];

/// The annotations that make a StorageClass the one of claims that name none.
const DEFAULT_CLASS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

/// Whether a StorageClass is that of claims that name none.
pub fn is_default_class(class: &Value) -> bool {
    let annotations = &class["metadata"]["annotations"];
    DEFAULT_CLASS.iter().any(|key| annotations[*key] == "true")
}

/// `RWO,ROX`, in upstream's order.
fn access_modes(list: &[Value]) -> String {
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let shown: Vec<&str> = short
        .iter()
        .filter(|(long, _)| list.iter().any(|mode| mode == long))
        .map(|(_, short)| *short)
        .collect();
    shown.join(",")
}

fn phase(object: &Value) -> Value {
    if text(object, &["metadata", "deletionTimestamp"]).is_empty() {
        text(object, &["status", "phase"]).into()
    } else {
        "Terminating".into()
    }
}

fn attributes_class(object: &Value) -> Value {
    match text(object, &["spec", "volumeAttributesClassName"]) {
        "" => "<unset>".into(),
        name => name.into(),
    }
}

fn mode(object: &Value) -> Value {
    match text(object, &["spec", "volumeMode"]) {
        "" => "<unset>".into(),
        mode => mode.into(),
    }
}

/// The class of a claim or volume, as the older annotation or the field tells it.
pub fn class_of(object: &Value) -> &str {
    let old = object["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str();
    old.unwrap_or(text(object, &["spec", "storageClassName"]))
}

fn class(object: &Value) -> Value {
    class_of(object).into()
}

pub fn volume(object: &Value) -> Vec<Value> {
    let claim = at(object, &["spec", "claimRef"]).map_or(String::new(), |claim| {
        format!("{}/{}", text(claim, &["namespace"]), text(claim, &["name"]))
    });
    vec![
        super::name(object),
        text(object, &["spec", "capacity", "storage"]).into(),
        access_modes(items(object, &["spec", "accessModes"])).into(),
        text(object, &["spec", "persistentVolumeReclaimPolicy"]).into(),
        phase(object),
        claim.into(),
        class(object),
        attributes_class(object),
        text(object, &["status", "reason"]).into(),
        age(object),
        mode(object),
    ]
}

pub fn claim(object: &Value) -> Vec<Value> {
    let volume = text(object, &["spec", "volumeName"]);
    let (capacity, modes) = if volume.is_empty() {
        (String::new(), String::new())
    } else {
        (
            text(object, &["status", "capacity", "storage"]).to_owned(),
            access_modes(items(object, &["status", "accessModes"])),
        )
    };
    vec![
        super::name(object),
        phase(object),
        volume.into(),
        capacity.into(),
        modes.into(),
        class(object),
        attributes_class(object),
        age(object),
        mode(object),
    ]
}

pub fn storage_class(object: &Value) -> Vec<Value> {
    let mut name = text(object, &["metadata", "name"]).to_owned();
    if is_default_class(object) {
        name.push_str(" (default)");
    }
    let or = |key: &str, otherwise: &str| match text(object, &[key]) {
        "" => otherwise.to_owned(),
        text => text.to_owned(),
    };
    vec![
        name.into(),
        text(object, &["provisioner"]).into(),
        or("reclaimPolicy", "Delete").into(),
        or("volumeBindingMode", "Immediate").into(),
        (object["allowVolumeExpansion"] == true).into(),
        age(object),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_kubectl_get_shows() {
        let claim_object = json!({"metadata": {"name": "c"}, "spec": {"volumeName": "v", "storageClassName": "s", "volumeMode": "Filesystem"},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"]}});
        assert_eq!(
            claim(&claim_object)[..7],
            ["c", "Bound", "v", "1Gi", "RWO,RWX", "s", "<unset>"].map(Value::from)
        );
        let volume_object = json!({"metadata": {"name": "v", "deletionTimestamp": "x"}, "spec": {"capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOncePod"], "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "n", "name": "c"}},
            "status": {"phase": "Bound"}});
        assert_eq!(
            volume(&volume_object)[..6],
            ["v", "1Gi", "RWOP", "Retain", "Terminating", "n/c"].map(Value::from)
        );
        let class_object = json!({"metadata": {"name": "s", "annotations": {DEFAULT_CLASS[1]: "true"}}, "provisioner": "p"});
        assert_eq!(
            storage_class(&class_object)[..5],
            [
                json!("s (default)"),
                json!("p"),
                json!("Delete"),
                json!("Immediate"),
                json!(false)
            ]
        );
    }
}
