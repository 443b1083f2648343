//! Validation of what CSI keeps in the API (upstream `pkg/apis/storage/validation`), and of RuntimeClasses
//! (`pkg/apis/node/validation`).

use std::collections::HashSet;

use serde_json::Value;

use super::workload::label_selector;
use super::{Problems, labels, names, one_of};
use crate::object::{at, items, text};

const MODES: [&str; 2] = ["Ephemeral", "Persistent"];
const GROUPS: [&str; 3] = ["File", "None", "ReadWriteOnceWithFSType"];
const PARAMETERS_MAX: usize = 512;
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;

fn driver_name(name: &str, field: &str, problems: &mut Problems) {
    if name.is_empty() {
        return problems.required(field, "");
    }
    if name.len() > 63 {
        problems.too_long(field, 63);
    }
    for why in names::dns1123_subdomain(&name.to_lowercase()) {
        problems.invalid(field, &name.into(), &why);
    }
}

fn immutable(new: &Value, old: &Value, path: &[&str], problems: &mut Problems) {
    let given = at(new, path);
    if given != at(old, path) {
        let given = given.unwrap_or(&Value::Null);
        problems.invalid(&path.join("."), given, "field is immutable");
    }
}

pub fn csi_driver(object: &Value, problems: &mut Problems) {
    driver_name(
        text(object, &["metadata", "name"]),
        "metadata.name",
        problems,
    );
    let spec = &object["spec"];
    for (n, mode) in items(spec, &["volumeLifecycleModes"]).iter().enumerate() {
        if !MODES.contains(&mode.as_str().unwrap_or_default()) {
            let field = format!("spec.volumeLifecycleModes[{n}]");
            problems.not_supported(&field, mode, &MODES);
        }
    }
    one_of(spec, "fsGroupPolicy", &GROUPS, "spec", problems);
    let mut audiences = HashSet::new();
    for (n, request) in items(spec, &["tokenRequests"]).iter().enumerate() {
        let field = format!("spec.tokenRequests[{n}]");
        let audience = text(request, &["audience"]);
        if !audiences.insert(audience) {
            problems.duplicate(&format!("{field}.audience"), &audience.into());
        }
        if let Some(seconds) = request["expirationSeconds"].as_i64() {
            let of_seconds = format!("{field}.expirationSeconds");
            let given = seconds.into();
            if seconds < 600 {
                let why = "may not specify a duration less than 10 minutes";
                problems.invalid(&of_seconds, &given, why);
            } else if seconds > 1 << 32 {
                let why = "may not specify a duration larger than 2^32 seconds";
                problems.invalid(&of_seconds, &given, why);
            }
        }
    }
}

pub fn csi_driver_update(new: &Value, old: &Value, problems: &mut Problems) {
    for key in ["attachRequired", "volumeLifecycleModes"] {
        immutable(new, old, &["spec", key], problems);
    }
}

pub fn csi_node(object: &Value, problems: &mut Problems) {
    let mut seen = HashSet::new();
    for (n, driver) in items(object, &["spec", "drivers"]).iter().enumerate() {
        let field = format!("spec.drivers[{n}]");
        let name = text(driver, &["name"]);
        driver_name(name, &format!("{field}.name"), problems);
        if !seen.insert(name) {
            problems.duplicate(&format!("{field}.name"), &name.into());
        }
        let id = text(driver, &["nodeID"]);
        if id.is_empty() {
            problems.required(&format!("{field}.nodeID"), "");
        } else if id.len() > 192 {
            problems.invalid(
                &format!("{field}.nodeID"),
                &id.into(),
                "must be 192 characters or less",
            );
        }
        for key in items(driver, &["topologyKeys"]) {
            for why in names::label_key(key.as_str().unwrap_or_default()) {
                problems.invalid(&format!("{field}.topologyKeys"), key, &why);
            }
        }
        if at(driver, &["allocatable", "count"])
            .and_then(Value::as_i64)
            .is_some_and(|count| count < 0)
        {
            let why = "must be greater than or equal to 0";
            let field = format!("{field}.allocatable.count");
            problems.invalid(&field, &driver["allocatable"]["count"], why);
        }
    }
}

/// A driver that stays stays as it is.
pub fn csi_node_update(new: &Value, old: &Value, problems: &mut Problems) {
    for (n, driver) in items(new, &["spec", "drivers"]).iter().enumerate() {
        let before = items(old, &["spec", "drivers"])
            .iter()
            .find(|before| before["name"] == driver["name"]);
        for key in ["nodeID", "topologyKeys"] {
            if before.is_some_and(|before| before.get(key) != driver.get(key)) {
                let field = format!("spec.drivers[{n}].{key}");
                problems.invalid(&field, &driver[key], "field is immutable");
            }
        }
    }
}

pub fn volume_attachment(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    driver_name(text(spec, &["attacher"]), "spec.attacher", problems);
    let source = &spec["source"];
    let (inline, named) = (
        at(source, &["inlineVolumeSpec"]),
        text(source, &["persistentVolumeName"]),
    );
    match (inline, named) {
        (None, "") => {
            let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
            problems.required("spec.source", why);
        }
        (Some(_), "") => {}
        (Some(_), _) => {
            let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
            problems.invalid("spec.source", source, why);
        }
        (None, name) => {
            for why in names::dns1123_subdomain(name) {
                problems.invalid("spec.source.persistentVolumeName", &name.into(), &why);
            }
        }
    }
    let node = text(spec, &["nodeName"]);
    for why in names::dns1123_subdomain(node) {
        problems.invalid("spec.nodeName", &node.into(), &why);
    }
}

pub fn volume_attachment_update(new: &Value, old: &Value, problems: &mut Problems) {
    immutable(new, old, &["spec"], problems);
}

pub fn csi_capacity(object: &Value, problems: &mut Problems) {
    label_selector(&object["nodeTopology"], "nodeTopology", problems);
    let class = text(object, &["storageClassName"]);
    for why in names::dns1123_subdomain(class) {
        problems.invalid("storageClassName", &class.into(), &why);
    }
    for key in ["capacity", "maximumVolumeSize"] {
        if quota::parse(&object[key]).is_some_and(|amount| amount.sign() < 0) {
            let why = "must be greater than or equal to 0";
            problems.invalid(key, &object[key], why);
        }
    }
}

pub fn csi_capacity_update(new: &Value, old: &Value, problems: &mut Problems) {
    for key in ["nodeTopology", "storageClassName"] {
        immutable(new, old, &[key], problems);
    }
}

pub fn attributes_class(object: &Value, problems: &mut Problems) {
    driver_name(text(object, &["driverName"]), "driverName", problems);
    let parameters = object["parameters"].as_object();
    let all = parameters.into_iter().flatten();
    if parameters.is_none_or(serde_json::Map::is_empty) {
        problems.required("parameters", "must contain at least one key/value pair");
    }
    if parameters.is_some_and(|map| map.len() > PARAMETERS_MAX) {
        problems.too_long("parameters", PARAMETERS_MAX);
    }
    let mut bytes = 0;
    for (key, value) in all {
        if key.is_empty() {
            problems.invalid("parameters", &"".into(), "field can not be empty.");
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > PARAMETERS_BYTES_MAX {
        problems.too_long("parameters", PARAMETERS_BYTES_MAX);
    }
}

pub fn attributes_class_update(new: &Value, old: &Value, problems: &mut Problems) {
    for key in ["driverName", "parameters"] {
        if new.get(key) != old.get(key) {
            let why = format!("updates to {key} are forbidden.");
            problems.forbidden(key, &why);
        }
    }
}

pub fn runtime_class(object: &Value, problems: &mut Problems) {
    let handler = text(object, &["handler"]);
    for why in names::dns1123_label(handler) {
        problems.invalid("handler", &handler.into(), &why);
    }
    let fixed = object["overhead"]["podFixed"].as_object();
    for (name, value) in fixed.into_iter().flatten() {
        let field = format!("overhead.podFixed[{name}]");
        for why in names::label_key(name) {
            problems.invalid(&field, &name.as_str().into(), &why);
        }
        if quota::parse(value).is_none_or(|amount| amount.sign() < 0) {
            problems.invalid(&field, value, "must be greater than or equal to 0");
        }
    }
    let scheduling = &object["scheduling"];
    labels(
        scheduling.get("nodeSelector"),
        "scheduling.nodeSelector",
        problems,
    );
    let tolerations = items(scheduling, &["tolerations"]);
    for (n, toleration) in tolerations.iter().enumerate() {
        let field = format!("scheduling.tolerations[{n}]");
        one_of(
            toleration,
            "operator",
            &["Equal", "Exists"],
            &field,
            problems,
        );
        if tolerations[..n].contains(toleration) {
            problems.duplicate(&field, toleration);
        }
    }
}

pub fn runtime_class_update(new: &Value, old: &Value, problems: &mut Problems) {
    immutable(new, old, &["handler"], problems);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::validate::said;
    use serde_json::json;

    #[test]
    fn drivers_and_their_nodes() {
        let driver = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
        let good = driver(
            "csi.example.com",
            json!({"attachRequired": true, "volumeLifecycleModes": ["Persistent"]}),
        );
        assert_eq!(said(|p| csi_driver(&good, p)), [""; 0]);
        let bad = driver(
            "-",
            json!({"volumeLifecycleModes": ["Other"], "fsGroupPolicy": "X", "tokenRequests": [{"audience": "a"}, {"audience": "a"}]}),
        );
        assert_eq!(said(|p| csi_driver(&bad, p)).len(), 4);
        assert_eq!(said(|p| csi_driver_update(&bad, &good, p)).len(), 2);
        let node = |id: &str| json!({"spec": {"drivers": [{"name": "a", "nodeID": id}]}});
        assert_eq!(said(|p| csi_node(&node("x"), p)), [""; 0]);
        assert_eq!(
            said(|p| csi_node(&node(""), p)),
            ["spec.drivers[0].nodeID: Required value"]
        );
        assert_eq!(
            said(|p| csi_node_update(&node("y"), &node("x"), p)).len(),
            1
        );
    }

    #[test]
    fn attachments_capacities_and_classes() {
        let good = json!({"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}}});
        assert_eq!(said(|p| volume_attachment(&good, p)), [""; 0]);
        let bad = json!({"spec": {"attacher": "a", "nodeName": "n", "source": {}}});
        assert_eq!(
            said(|p| volume_attachment(&bad, p)),
            [
                "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"
            ]
        );
        let capacity =
            |class: &str, size: &str| json!({"storageClassName": class, "capacity": size});
        assert_eq!(said(|p| csi_capacity(&capacity("c", "1Gi"), p)), [""; 0]);
        assert_eq!(said(|p| csi_capacity(&capacity("", "-1"), p)).len(), 2);
        let class = json!({"driverName": "d", "parameters": {"a": "b"}});
        assert_eq!(said(|p| attributes_class(&class, p)), [""; 0]);
        let other = json!({"driverName": "d", "parameters": {}});
        assert_eq!(
            said(|p| attributes_class_update(&other, &class, p)),
            ["parameters: Forbidden: updates to parameters are forbidden."]
        );
    }

    #[test]
    fn runtime_classes() {
        let good = json!({"handler": "runc", "overhead": {"podFixed": {"cpu": "10m"}}});
        assert_eq!(said(|p| runtime_class(&good, p)), [""; 0]);
        let bad = json!({"handler": "A B", "overhead": {"podFixed": {"cpu": "-1"}}});
        assert_eq!(said(|p| runtime_class(&bad, p)).len(), 2);
        assert_eq!(
            said(|p| runtime_class_update(&bad, &good, p)),
            ["handler: Invalid value: \"A B\": field is immutable"]
        );
    }
}
