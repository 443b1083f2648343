//! Validation of references from a container to its pod and to itself: `fieldRef` and `resourceFieldRef`, in variables
//! and in files.

use serde_json::Value;

use super::{Problems, names};
use crate::object::text;

/// What a variable may hold of its pod.
pub(super) const OF_VARIABLES: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// What a file may hold of its pod.
pub(super) const OF_FILES: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
/// Fields of pods that have a name at all.
const LABELS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const HUGE_PAGES: [&str; 2] = ["limits.hugepages-", "requests.hugepages-"];
const SIZES: &[&str] = &[
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];

/// A `fieldRef`, of which only some fields make sense (upstream `validateObjectFieldSelector`).
pub(super) fn field_of_pod(
    reference: &Value,
    supported: &[&str],
    field: &str,
    problems: &mut Problems,
) {
    let version = text(reference, &["apiVersion"]);
    let path = text(reference, &["fieldPath"]);
    let at_path = format!("{field}.fieldPath");
    if path.is_empty() {
        return problems.required(&at_path, "");
    }
    let mut unknown = |why: String| {
        let why = format!("error converting fieldPath: {why}");
        problems.invalid(&at_path, &path.into(), &why);
    };
    // An empty one is the default.
    if !matches!(version, "" | "v1") {
        return unknown(format!("unsupported pod version: {version}"));
    }
    if let Some((map, key)) = subscripted(path) {
        let key = match map {
            "metadata.annotations" => key.to_lowercase(),
            "metadata.labels" => key.to_owned(),
            _ => return unknown(format!("field label does not support subscript: {path}")),
        };
        for why in names::label_key(&key) {
            problems.invalid(field, &key.as_str().into(), &why);
        }
        return;
    }
    // An old name that upstream still reads.
    let path = if path == "spec.host" {
        "spec.nodeName"
    } else {
        path
    };
    if !LABELS.contains(&path) {
        unknown(format!("field label not supported: {path}"));
    } else if !supported.contains(&path) {
        problems.not_supported(&at_path, &path.into(), supported);
    }
}

/// `path['key']`, taken apart.
fn subscripted(path: &str) -> Option<(&str, &str)> {
    let (map, key) = path.strip_suffix("']")?.split_once("['")?;
    (!map.is_empty()).then_some((map, key))
}

/// A `resourceFieldRef`; in a file it names the container (upstream `validateContainerResourceFieldSelector`).
pub(super) fn resource_of_container(
    reference: &Value,
    in_file: bool,
    field: &str,
    problems: &mut Problems,
) {
    let resource = text(reference, &["resource"]);
    let huge = HUGE_PAGES.iter().any(|start| resource.starts_with(start));
    if in_file && text(reference, &["containerName"]).is_empty() {
        problems.required(&format!("{field}.containerName"), "");
    } else if resource.is_empty() {
        problems.required(&format!("{field}.resource"), "");
    } else if !RESOURCES.contains(&resource) && !huge {
        problems.not_supported(&format!("{field}.resource"), &resource.into(), RESOURCES);
    }
    let Some(divisor) = quota::parse(&reference["divisor"]).filter(|amount| !amount.is_zero())
    else {
        return;
    };
    let (allowed, shown, of) = match resource.split_once('.').map_or("", |(_, name)| name) {
        "cpu" => (&["1m", "1"][..], "1m and 1", "cpu"),
        "memory" => (SIZES, "", "memory"),
        "ephemeral-storage" => (SIZES, "", "local ephemeral storage"),
        _ if huge => (SIZES, "", "hugepages"),
        _ => return,
    };
    if !allowed.contains(&divisor.to_string().as_str()) {
        let shown = if shown.is_empty() {
            SIZES.join(", ")
        } else {
            shown.to_owned()
        };
        let why = format!("only divisor's values {shown} are supported with the {of} resource");
        problems.invalid(&format!("{field}.divisor"), &resource.into(), &why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of_pod(path: &str, supported: &[&str]) -> Vec<String> {
        let reference = json!({"apiVersion": "v1", "fieldPath": path});
        crate::registry::validate::said(|problems| {
            field_of_pod(&reference, supported, "r", problems)
        })
    }

    fn of_container(reference: Value, in_file: bool) -> Vec<String> {
        crate::registry::validate::said(|problems| {
            resource_of_container(&reference, in_file, "r", problems)
        })
    }

    #[test]
    fn fields_that_pods_have() {
        for path in [
            "metadata.name",
            "status.podIPs",
            "spec.host",
            "metadata.labels['app.kubernetes.io/name']",
            "metadata.annotations['Example.com/Text']",
        ] {
            assert_eq!(of_pod(path, OF_VARIABLES), Vec::<String>::new(), "{path}");
        }
        assert!(of_pod("metadata.labels", OF_FILES).is_empty());
        for (path, expected) in [
            ("", "r.fieldPath: Required value"),
            (
                "status.phase",
                "r.fieldPath: Unsupported value: \"status.phase\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
            ),
            (
                "spec.containers",
                "r.fieldPath: Invalid value: \"spec.containers\": error converting fieldPath: field label not supported: spec.containers",
            ),
            (
                "spec.nodeSelector['a']",
                "r.fieldPath: Invalid value: \"spec.nodeSelector['a']\": error converting fieldPath: field label does not support subscript: spec.nodeSelector['a']",
            ),
        ] {
            assert_eq!(of_pod(path, OF_VARIABLES), [expected]);
        }
        let said = of_pod("metadata.labels['not a key']", OF_VARIABLES);
        assert!(
            said[0].starts_with("r: Invalid value: \"not a key\""),
            "{said:?}"
        );
    }

    #[test]
    fn amounts_that_containers_have() {
        for reference in [
            json!({"resource": "limits.cpu"}),
            json!({"resource": "requests.cpu", "divisor": "1m"}),
            json!({"resource": "limits.memory", "divisor": "1Mi"}),
            json!({"resource": "limits.memory", "divisor": 0}),
            json!({"resource": "limits.hugepages-2Mi", "divisor": "1"}),
        ] {
            assert_eq!(
                of_container(reference.clone(), false),
                Vec::<String>::new(),
                "{reference}"
            );
        }
        for (reference, in_file, expected) in [
            (json!({}), false, "r.resource: Required value"),
            (
                json!({"resource": "limits.cpu"}),
                true,
                "r.containerName: Required value",
            ),
            (
                json!({"resource": "limits.gpu"}),
                false,
                "r.resource: Unsupported value: \"limits.gpu\": supported values: \"limits.cpu\", \"limits.ephemeral-storage\", \"limits.memory\", \"requests.cpu\", \"requests.ephemeral-storage\", \"requests.memory\"",
            ),
            (
                json!({"resource": "limits.cpu", "divisor": "2"}),
                false,
                "r.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource",
            ),
            (
                json!({"resource": "requests.memory", "divisor": "3Mi"}),
                false,
                "r.divisor: Invalid value: \"requests.memory\": only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource",
            ),
        ] {
            assert_eq!(of_container(reference, in_file), [expected]);
        }
    }
}
