//! Defaults of PersistentVolumes, PersistentVolumeClaims and StorageClasses.

use serde_json::Value;

use super::{child, set};

pub fn volume(object: &mut Value) {
    let spec = child(object, "spec");
    set(spec, "persistentVolumeReclaimPolicy", "Retain");
    set(spec, "volumeMode", "Filesystem");
    if let Some(path) = spec.get_mut("hostPath").filter(|path| path.is_object()) {
        set(path, "type", "");
    }
    set(child(object, "status"), "phase", "Pending");
}

pub fn claim(object: &mut Value) {
    set(child(object, "spec"), "volumeMode", "Filesystem");
    set(child(object, "status"), "phase", "Pending");
}

pub fn class(object: &mut Value) {
    set(object, "reclaimPolicy", "Delete");
    set(object, "volumeBindingMode", "Immediate");
}
