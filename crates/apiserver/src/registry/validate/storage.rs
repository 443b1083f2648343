//! Validation of PersistentVolumes, PersistentVolumeClaims and StorageClasses.

use serde_json::Value;

use super::{Problems, names, one_of};
use crate::object::{at, items, text};
use crate::quantity::Quantity;

const ACCESS_MODES: [&str; 4] = [
    "ReadWriteOnce",
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOncePod",
];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
const RECLAIM: [&str; 3] = ["Delete", "Recycle", "Retain"];
/// Members of a PersistentVolume's spec that are no source.
const NO_SOURCE: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

fn access_modes(spec: &Value, problems: &mut Problems) {
    let modes = items(spec, &["accessModes"]);
    if modes.is_empty() {
        problems.required("spec.accessModes", "at least 1 access mode is required");
    }
    for mode in modes {
        if !ACCESS_MODES.iter().any(|known| mode == known) {
            problems.not_supported("spec.accessModes", mode, &ACCESS_MODES);
        }
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        problems.forbidden(
            "spec.accessModes",
            "may not use ReadWriteOncePod with other access modes",
        );
    }
}

fn storage(amounts: &Value, field: &str, problems: &mut Problems) {
    let Some(amount) = at(amounts, &["storage"]) else {
        return problems.required(&format!("{field}[storage]"), "");
    };
    match quantity(amount) {
        Some(found) if found.sign() > 0 => {}
        Some(_) => problems.invalid(
            &format!("{field}[storage]"),
            amount,
            "must be greater than zero",
        ),
        None => problems.invalid(
            &format!("{field}[storage]"),
            amount,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
    }
}

fn class_name(spec: &Value, problems: &mut Problems) {
    let name = text(spec, &["storageClassName"]);
    for why in names::dns1123_subdomain(name)
        .into_iter()
        .filter(|_| !name.is_empty())
    {
        problems.invalid("spec.storageClassName", &name.into(), &why);
    }
}

fn path(source: &Value, field: &str, problems: &mut Problems) {
    let path = text(source, &["path"]);
    if path.is_empty() {
        problems.required(&format!("{field}.path"), "");
    }
    if path.split('/').any(|part| part == "..") {
        problems.invalid(
            &format!("{field}.path"),
            &path.into(),
            "must not contain '..'",
        );
    }
}

pub fn volume(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    access_modes(spec, problems);
    match spec["capacity"].as_object() {
        Some(capacity) if !capacity.is_empty() => {
            storage(&spec["capacity"], "spec.capacity", problems);
        }
        _ => problems.required("spec.capacity", ""),
    }
    let sources: Vec<&String> = spec
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key)
        .filter(|key| !NO_SOURCE.contains(&key.as_str()))
        .collect();
    match sources.as_slice() {
        [] => problems.required("spec", "must specify a volume type"),
        [_] => {}
        [_, more @ ..] => {
            for source in more {
                problems.forbidden(
                    &format!("spec.{source}"),
                    "may not specify more than 1 volume type",
                );
            }
        }
    }
    if let Some(source) = at(spec, &["hostPath"]) {
        path(source, "spec.hostPath", problems);
    }
    if let Some(source) = at(spec, &["local"]) {
        path(source, "spec.local", problems);
        if at(spec, &["nodeAffinity", "required"]).is_none() {
            problems.required("spec.nodeAffinity", "Local volume requires node affinity");
        }
    }
    one_of(
        spec,
        "persistentVolumeReclaimPolicy",
        &RECLAIM,
        "spec",
        problems,
    );
    one_of(spec, "volumeMode", &VOLUME_MODES, "spec", problems);
    if text(spec, &["hostPath", "path"]) == "/"
        && spec["persistentVolumeReclaimPolicy"] == "Recycle"
    {
        problems.forbidden(
            "spec.persistentVolumeReclaimPolicy",
            "may not be 'recycle' for a hostPath mount of '/'",
        );
    }
    class_name(spec, problems);
}

pub fn volume_update(new: &Value, old: &Value, problems: &mut Problems) {
    let source = |object: &Value| {
        let mut spec = object["spec"].as_object().cloned().unwrap_or_default();
        spec.retain(|key, _| !NO_SOURCE.contains(&key.as_str()));
        spec
    };
    if source(new) != source(old) {
        problems.forbidden(
            "spec.persistentvolumesource",
            "spec.persistentvolumesource is immutable after creation",
        );
    }
    let (after, before) = (&new["spec"], &old["spec"]);
    if after["volumeMode"] != before["volumeMode"] {
        problems.invalid(
            "spec.volumeMode",
            &after["volumeMode"],
            "field is immutable",
        );
    }
    // once it is known where the volume is, that stays true
    if at(before, &["nodeAffinity"]).is_some() && after["nodeAffinity"] != before["nodeAffinity"] {
        problems.invalid(
            "spec.nodeAffinity",
            &after["nodeAffinity"],
            "field is immutable",
        );
    }
}

pub fn claim(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    access_modes(spec, problems);
    storage(&spec["resources"]["requests"], "spec.resources", problems);
    one_of(spec, "volumeMode", &VOLUME_MODES, "spec", problems);
    class_name(spec, problems);
}

/// A bound claim may ask for more; everything else stays, except what the binder fills in.
pub fn claim_update(new: &Value, old: &Value, problems: &mut Problems) {
    let (mut after, before) = (new["spec"].clone(), &old["spec"]);
    let bound = text(old, &["status", "phase"]) == "Bound";
    if text(before, &["volumeName"]).is_empty() {
        copy(&mut after, before, "volumeName");
    }
    if at(before, &["storageClassName"]).is_none() {
        copy(&mut after, before, "storageClassName");
    }
    if bound {
        copy(&mut after, before, "volumeAttributesClassName");
        let request = |spec: &Value| quantity(&spec["resources"]["requests"]["storage"]);
        let (wanted, had) = (request(&new["spec"]), request(before));
        let has = quantity(&old["status"]["capacity"]["storage"]);
        if wanted < had && wanted < has {
            problems.forbidden(
                "spec.resources.requests.storage",
                "field can not be less than status.capacity",
            );
        }
        if at(&after, &["resources", "requests", "storage"]).is_some() {
            after["resources"]["requests"]["storage"] =
                before["resources"]["requests"]["storage"].clone();
        }
    }
    if after != *before {
        problems.forbidden(
            "spec",
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        );
    }
}

fn copy(to: &mut Value, from: &Value, key: &str) {
    match (at(from, &[key]), to.as_object_mut()) {
        (Some(value), Some(to)) => drop(to.insert(key.to_owned(), value.clone())),
        (None, Some(to)) => drop(to.remove(key)),
        _ => {}
    }
}

pub fn class(object: &Value, problems: &mut Problems) {
    let provisioner = text(object, &["provisioner"]);
    if provisioner.is_empty() {
        problems.required("provisioner", "");
    } else {
        for why in names::label_key(&provisioner.to_lowercase()) {
            problems.invalid("provisioner", &provisioner.into(), &why);
        }
    }
    for (key, supported) in [
        ("reclaimPolicy", &["Delete", "Retain"]),
        ("volumeBindingMode", &["Immediate", "WaitForFirstConsumer"]),
    ] {
        if let Some(value) = at(object, &[key])
            && !supported.iter().any(|known| value == known)
        {
            problems.not_supported(key, value, supported);
        }
    }
}

pub fn class_update(new: &Value, old: &Value, problems: &mut Problems) {
    for (key, what) in [
        ("parameters", "updates to parameters are forbidden."),
        ("provisioner", "updates to provisioner are forbidden."),
        ("reclaimPolicy", "updates to reclaimPolicy are forbidden."),
    ] {
        if new.get(key) != old.get(key) {
            problems.forbidden(key, what);
        }
    }
    if new["volumeBindingMode"] != old["volumeBindingMode"] {
        problems.invalid(
            "volumeBindingMode",
            &new["volumeBindingMode"],
            "field is immutable",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::validate::said;
    use serde_json::json;

    #[test]
    fn claims() {
        let good = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        assert_eq!(said(|p| claim(&good, p)), [""; 0]);
        let bad = json!({"spec": {"accessModes": ["ReadWriteOncePod", "Once"], "resources": {"requests": {"storage": "0"}}}});
        let words = said(|p| claim(&bad, p));
        assert_eq!(words.len(), 3, "{words:?}");
        assert!(words[2].ends_with("must be greater than zero"), "{words:?}");
        assert_eq!(
            said(|p| claim(&json!({"spec": {}}), p)),
            [
                "spec.accessModes: Required value: at least 1 access mode is required",
                "spec.resources[storage]: Required value"
            ]
        );
    }

    #[test]
    fn what_of_a_claim_may_change() {
        let old = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}},
            "status": {"phase": "Bound", "capacity": {"storage": "2Gi"}}});
        let with = |change: &dyn Fn(&mut Value)| {
            let mut new = old.clone();
            change(&mut new);
            said(|p| claim_update(&new, &old, p))
        };
        assert_eq!(with(&|new| new["spec"]["volumeName"] = "v".into()), [""; 0]);
        assert_eq!(
            with(&|new| new["spec"]["resources"]["requests"]["storage"] = "3Gi".into()),
            [""; 0]
        );
        assert_eq!(
            with(&|new| new["spec"]["resources"]["requests"]["storage"] = "1Gi".into()),
            [
                "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"
            ]
        );
        assert!(
            with(&|new| new["spec"]["accessModes"] = json!(["ReadOnlyMany"]))[0]
                .contains("spec is immutable after creation except resources.requests")
        );
    }

    #[test]
    fn volumes() {
        let good = json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}}});
        assert_eq!(said(|p| volume(&good, p)), [""; 0]);
        let mut two = good.clone();
        two["spec"]["local"] = json!({"path": "/a/../b"});
        assert_eq!(
            said(|p| volume(&two, p)),
            [
                "spec.local: Forbidden: may not specify more than 1 volume type",
                "spec.local.path: Invalid value: \"/a/../b\": must not contain '..'",
                "spec.nodeAffinity: Required value: Local volume requires node affinity"
            ]
        );
        let mut moved = good.clone();
        moved["spec"]["hostPath"]["path"] = "/y".into();
        assert_eq!(said(|p| volume_update(&moved, &good, p)).len(), 1);
    }

    #[test]
    fn classes() {
        let good = json!({"provisioner": "a.b/c", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"});
        assert_eq!(said(|p| class(&good, p)), [""; 0]);
        let bad = json!({"reclaimPolicy": "Recycle"});
        assert_eq!(said(|p| class(&bad, p)).len(), 2);
        assert_eq!(said(|p| class_update(&bad, &good, p)).len(), 3);
    }
}
