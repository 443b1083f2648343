//! What an object is warned of though it is taken: old ways of saying things, and what will not do what it seems to.
//!
//! Follows upstream's `WarningsOnCreate` and `WarningsOnUpdate` (`pkg/registry/*/strategy.go`, `pkg/api/*/warnings.go`), words included.

mod pod;
mod service;

use serde_json::Value;

use super::names;
use crate::object::{items, text};

const INGRESS_CLASS: &str = "kubernetes.io/ingress.class";
const STORAGE_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// The warning for every use of a kind that is deprecated as a whole.
pub fn of_kind(group: &str, kind: &str) -> Option<&'static str> {
    match (group, kind) {
        ("", "Endpoints") => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        }
        _ => None,
    }
}

/// What a valid object is warned of when it is made, or changed from what it was `before`.
pub fn of_object(group: &str, kind: &str, object: &Value, before: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    if before.is_none() {
        name(group, kind, object, &mut warnings);
    }
    if before.is_some_and(|before| same(before, object)) {
        return warnings;
    }
    let template = |warnings: &mut Vec<String>, path: &[&str]| {
        let template = path.iter().fold(object, |at, part| &at[*part]);
        pod::warnings(template, &path.join("."), warnings);
    };
    match (group, kind) {
        ("", "Pod") => pod::warnings(object, "", &mut warnings),
        ("", "PodTemplate") => template(&mut warnings, &["template"]),
        ("", "ReplicationController")
        | ("apps", "Deployment" | "ReplicaSet" | "DaemonSet")
        | ("batch", "Job") => template(&mut warnings, &["spec", "template"]),
        ("apps", "StatefulSet") => {
            template(&mut warnings, &["spec", "template"]);
            if object["spec"]["revisionHistoryLimit"].as_i64() < Some(0)
                && !object["spec"]["revisionHistoryLimit"].is_null()
            {
                warnings.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".into());
            }
        }
        ("batch", "CronJob") => {
            template(&mut warnings, &["spec", "jobTemplate", "spec", "template"]);
        }
        ("", "Service") => service::warnings(object, &mut warnings),
        ("", "PersistentVolume") => volume(object, &mut warnings),
        ("", "PersistentVolumeClaim") => claim(object, &mut warnings),
        ("networking.k8s.io", "Ingress") if before.is_none() => ingress(object, &mut warnings),
        _ => {}
    }
    warnings
}

/// Whether nothing that is warned of can have changed.
fn same(before: &Value, after: &Value) -> bool {
    before["spec"] == after["spec"]
        && before["template"] == after["template"]
        && before["metadata"]["annotations"] == after["metadata"]["annotations"]
}

fn name(group: &str, kind: &str, object: &Value, warnings: &mut Vec<String>) {
    let used = match (group, kind) {
        ("", "Pod") => "in the Pod's hostname",
        ("", "ReplicationController")
        | ("apps", "Deployment" | "ReplicaSet")
        | ("batch", "Job" | "CronJob") => "in Pod names and hostnames",
        _ => return,
    };
    let problems = names::dns1123_label(text(object, &["metadata", "name"]));
    if !problems.is_empty() {
        let problems = problems.join(" ");
        warnings.push(format!("metadata.name: this is used {used}, which can result in surprising behavior; a DNS label is recommended: [{problems}]"));
    }
}

fn ingress(object: &Value, warnings: &mut Vec<String>) {
    let named = &object["metadata"]["annotations"][INGRESS_CLASS];
    if named.is_string() && object["spec"]["ingressClassName"].is_null() {
        warnings.push(format!(
            "annotation {INGRESS_CLASS:?} is deprecated, please use 'spec.ingressClassName' instead"
        ));
    }
}

fn volume(object: &Value, warnings: &mut Vec<String>) {
    storage_class(object, warnings);
    let spec = &object["spec"];
    if spec["persistentVolumeReclaimPolicy"] == "Recycle" {
        warnings.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".into());
    }
    let terms = items(spec, &["nodeAffinity", "required", "nodeSelectorTerms"]);
    for (i, term) in terms.iter().enumerate() {
        let path = format!("spec.nodeAffinity.required.nodeSelectorTerms[{i}]");
        pod::node_term(term, &path, warnings);
    }
}

fn claim(object: &Value, warnings: &mut Vec<String>) {
    storage_class(object, warnings);
    claim_spec(&object["spec"], "spec", warnings);
}

/// Of the specification of a claim, also of one within a pod.
fn claim_spec(spec: &Value, path: &str, warnings: &mut Vec<String>) {
    for list in ["requests", "limits"] {
        let amount = &spec["resources"][list]["storage"];
        pod::fraction(
            amount,
            &format!("{path}.resources.{list}[storage]"),
            warnings,
        );
    }
}

fn storage_class(object: &Value, warnings: &mut Vec<String>) {
    if object["metadata"]["annotations"][STORAGE_CLASS].is_string() {
        warnings.push(format!("metadata.annotations[{STORAGE_CLASS}]: deprecated since v1.8; use \"storageClassName\" attribute instead"));
    }
}

#[cfg(test)]
mod tests;
