//! Validation of what a pod's volumes are made of, beside their paths and modes: names, keys, files of the downward API,
//! a file server (upstream `validateVolumeSource`).

use std::collections::HashSet;

use serde_json::Value;

use super::references::{self, OF_FILES};
use super::{Problems, workload};
use crate::object::{at, items, text};

/// One volume.
pub(super) fn volume(volume: &Value, field: &str, problems: &mut Problems) {
    if let Some(source) = at(volume, &["emptyDir"]) {
        let limit = quota::parse(&source["sizeLimit"]);
        if limit.is_some_and(|limit| limit.sign() < 0) {
            problems.forbidden(
                &format!("{field}.emptyDir.sizeLimit"),
                "SizeLimit field must be a valid resource quantity",
            );
        }
    }
    if let Some(source) = at(volume, &["nfs"]) {
        nfs(source, &format!("{field}.nfs"), problems);
    }
    for (kind, name) in [("secret", "secretName"), ("configMap", "name")] {
        if let Some(source) = at(volume, &[kind]) {
            keys(source, name, &format!("{field}.{kind}"), problems);
        }
    }
    if let Some(source) = at(volume, &["downwardAPI"]) {
        files(source, &format!("{field}.downwardAPI"), problems);
    }
    if let Some(source) = at(volume, &["projected"]) {
        projected(source, &format!("{field}.projected"), problems);
    }
}

fn nfs(source: &Value, field: &str, problems: &mut Problems) {
    if text(source, &["server"]).is_empty() {
        problems.required(&format!("{field}.server"), "");
    }
    let path = text(source, &["path"]);
    let field = format!("{field}.path");
    if path.is_empty() {
        problems.required(&field, "");
    }
    if !path.starts_with('/') {
        problems.invalid(&field, &path.into(), "must be an absolute path");
    }
}

/// What a ConfigMap or Secret is called, and which of its keys are wanted.
fn keys(source: &Value, name: &str, field: &str, problems: &mut Problems) {
    if text(source, &[name]).is_empty() {
        problems.required(&format!("{field}.{name}"), "");
    }
    for (n, item) in items(source, &["items"]).iter().enumerate() {
        if text(item, &["key"]).is_empty() {
            problems.required(&format!("{field}.items[{n}].key"), "");
        }
    }
}

/// Files with what is known of the pod; upstream names them all by the volume.
fn files(source: &Value, field: &str, problems: &mut Problems) {
    for item in items(source, &["items"]) {
        let resource = at(item, &["resourceFieldRef"]);
        if let Some(reference) = at(item, &["fieldRef"]) {
            let field_ref = format!("{field}.fieldRef");
            references::field_of_pod(reference, OF_FILES, &field_ref, problems);
            if resource.is_some() {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                problems.invalid(field, &"resource".into(), why);
            }
        } else if let Some(reference) = resource {
            let field = format!("{field}.resourceFieldRef");
            references::resource_of_container(reference, true, &field, problems);
        } else {
            problems.required(field, "one of fieldRef and resourceFieldRef is required");
        }
    }
}

fn projected(source: &Value, field: &str, problems: &mut Problems) {
    let mut taken = HashSet::new();
    for (n, projection) in items(source, &["sources"]).iter().enumerate() {
        let at_source = format!("{field}.sources[{n}]");
        let kinds = projection.as_object().into_iter().flatten();
        if kinds.filter(|(_, value)| !value.is_null()).count() > 1 {
            let why = "may not specify more than 1 volume type per source";
            problems.forbidden(&at_source, why);
        }
        for kind in ["secret", "configMap", "downwardAPI"] {
            let Some(one) = at(projection, &[kind]) else {
                continue;
            };
            let at_kind = format!("{at_source}.{kind}");
            match kind {
                "downwardAPI" => files(one, &at_kind, problems),
                _ => keys(one, "name", &at_kind, problems),
            }
            for item in items(one, &["items"]) {
                let path = text(item, &["path"]);
                if !path.is_empty() && !taken.insert(path) {
                    let shown = if kind == "downwardAPI" {
                        path
                    } else {
                        text(one, &["name"])
                    };
                    problems.invalid(field, &shown.into(), "conflicting duplicate paths");
                }
            }
        }
        if let Some(bundle) = at(projection, &["clusterTrustBundle"]) {
            let field = format!("{at_source}.clusterTrustBundle.labelSelector");
            workload::label_selector(&bundle["labelSelector"], &field, problems);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(source: Value) -> Vec<String> {
        crate::registry::validate::said(|problems| volume(&source, "v", problems))
    }

    #[test]
    fn ordinary_volumes_are_taken() {
        let name =
            json!({"path": "name", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}});
        for source in [
            json!({"emptyDir": {}}),
            json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}),
            json!({"nfs": {"server": "files.example", "path": "/a"}}),
            json!({"secret": {"secretName": "s", "items": [{"key": "k", "path": "p"}]}}),
            json!({"configMap": {"name": "c", "optional": true}}),
            json!({"downwardAPI": {"items": [name, {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}}]}}),
            json!({"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "c", "items": [{"key": "k", "path": "ca.crt"}]}}, {"downwardAPI": {"items": [name]}}]}}),
        ] {
            assert_eq!(said(source.clone()), Vec::<String>::new(), "{source}");
        }
    }

    #[test]
    fn volumes_of_nothing_are_refused() {
        let item = json!({"key": "k", "path": "p"});
        for (source, expected) in [
            (
                json!({"emptyDir": {"sizeLimit": "-1"}}),
                "v.emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity",
            ),
            (
                json!({"nfs": {"path": "/a"}}),
                "v.nfs.server: Required value",
            ),
            (
                json!({"nfs": {"server": "s", "path": "a"}}),
                "v.nfs.path: Invalid value: \"a\": must be an absolute path",
            ),
            (json!({"secret": {}}), "v.secret.secretName: Required value"),
            (json!({"configMap": {}}), "v.configMap.name: Required value"),
            (
                json!({"configMap": {"name": "c", "items": [{"path": "p"}]}}),
                "v.configMap.items[0].key: Required value",
            ),
            (
                json!({"downwardAPI": {"items": [{"path": "p"}]}}),
                "v.downwardAPI: Required value: one of fieldRef and resourceFieldRef is required",
            ),
            (
                json!({"downwardAPI": {"items": [{"path": "p", "fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}]}}),
                "v.downwardAPI.fieldRef.fieldPath: Unsupported value: \"status.podIP\": supported values: \"metadata.annotations\", \"metadata.labels\", \"metadata.name\", \"metadata.namespace\", \"metadata.uid\"",
            ),
            (
                json!({"downwardAPI": {"items": [{"path": "p", "resourceFieldRef": {"resource": "limits.cpu"}}]}}),
                "v.downwardAPI.resourceFieldRef.containerName: Required value",
            ),
            (
                json!({"projected": {"sources": [{"secret": {"items": [item]}}]}}),
                "v.projected.sources[0].secret.name: Required value",
            ),
            (
                json!({"projected": {"sources": [{"secret": {"name": "a"}, "configMap": {"name": "b"}}]}}),
                "v.projected.sources[0]: Forbidden: may not specify more than 1 volume type per source",
            ),
            (
                json!({"projected": {"sources": [{"secret": {"name": "a", "items": [item]}}, {"configMap": {"name": "b", "items": [item]}}]}}),
                "v.projected: Invalid value: \"b\": conflicting duplicate paths",
            ),
        ] {
            assert_eq!(said(source), [expected]);
        }
    }
}
