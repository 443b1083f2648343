//! Validation of a pod's volumes.

use serde_json::Value;

use super::{Problems, one_of};
use crate::object::{at, items, text};

const HOST_PATH_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

pub(super) fn volume(volume: &Value, field: &str, problems: &mut Problems) {
    if let Some(source) = at(volume, &["hostPath"]) {
        let field = format!("{field}.hostPath");
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
        one_of(source, "type", &HOST_PATH_TYPES, &field, problems);
    }
    if let Some(source) = at(volume, &["persistentVolumeClaim"])
        && text(source, &["claimName"]).is_empty()
    {
        problems.required(&format!("{field}.persistentVolumeClaim.claimName"), "");
    }
    for kind in ["configMap", "secret", "downwardAPI", "projected"] {
        let Some(source) = at(volume, &[kind]) else {
            continue;
        };
        let field = format!("{field}.{kind}");
        mode(source, "defaultMode", &field, problems);
        files(source, &field, problems);
        for (n, projection) in items(source, &["sources"]).iter().enumerate() {
            for (kind, source) in projection.as_object().into_iter().flatten() {
                let field = format!("{field}.sources[{n}].{kind}");
                files(source, &field, problems);
                if kind == "serviceAccountToken" {
                    token(source, &field, problems);
                }
            }
        }
    }
}

/// What a container may say of a volume's mount, beside its paths.
pub(super) fn mount(mount: &Value, privileged: bool, field: &str, problems: &mut Problems) {
    one_of(
        mount,
        "mountPropagation",
        &["Bidirectional", "HostToContainer", "None"],
        field,
        problems,
    );
    let propagation = text(mount, &["mountPropagation"]);
    if propagation == "Bidirectional" && !privileged {
        problems.forbidden(
            &format!("{field}.mountPropagation"),
            "Bidirectional mount propagation is available only to privileged containers",
        );
    }
    one_of(
        mount,
        "recursiveReadOnly",
        &["Disabled", "Enabled", "IfPossible"],
        field,
        problems,
    );
    if matches!(
        text(mount, &["recursiveReadOnly"]),
        "Enabled" | "IfPossible"
    ) {
        let at = format!("{field}.recursiveReadOnly");
        if mount["readOnly"] != true {
            problems.forbidden(&at, "may only be specified when readOnly is true");
        }
        if !matches!(propagation, "" | "None") {
            problems.forbidden(
                &at,
                "may only be specified when mountPropagation is None or not specified",
            );
        }
    }
    let expression = text(mount, &["subPathExpr"]);
    let at = format!("{field}.subPathExpr");
    if !expression.is_empty() && !text(mount, &["subPath"]).is_empty() {
        problems.invalid(
            &at,
            &expression.into(),
            "subPathExpr and subPath are mutually exclusive",
        );
    }
    if expression.starts_with('/') {
        problems.invalid(&at, &expression.into(), "must be a relative path");
    } else if expression.split('/').any(|part| part == "..") {
        problems.invalid(&at, &expression.into(), "must not contain '..'");
    }
}

fn token(source: &Value, field: &str, problems: &mut Problems) {
    let seconds = source["expirationSeconds"].as_i64().unwrap_or(3600);
    let at = format!("{field}.expirationSeconds");
    if seconds < 600 {
        problems.invalid(
            &at,
            &seconds.into(),
            "may not specify a duration less than 10 minutes",
        );
    } else if seconds > 1 << 32 {
        problems.invalid(
            &at,
            &seconds.into(),
            "may not specify a duration larger than 2^32 seconds",
        );
    }
    let path = text(source, &["path"]);
    if path.is_empty() {
        problems.required(&format!("{field}.path"), "");
    } else {
        inside(path, &format!("{field}.path"), problems);
    }
}

fn mode(source: &Value, key: &str, field: &str, problems: &mut Problems) {
    if let Some(mode) = source[key].as_i64()
        && !(0..=0o777).contains(&mode)
    {
        problems.invalid(
            &format!("{field}.{key}"),
            &mode.into(),
            "must be a number between 0 and 0777 (octal), both inclusive",
        );
    }
}

fn files(source: &Value, field: &str, problems: &mut Problems) {
    for (n, item) in items(source, &["items"]).iter().enumerate() {
        let field = format!("{field}.items[{n}]");
        mode(item, "mode", &field, problems);
        let path = text(item, &["path"]);
        if path.is_empty() {
            problems.required(&format!("{field}.path"), "");
        } else {
            inside(path, &format!("{field}.path"), problems);
        }
    }
}

/// A path that stays in the volume and does not meet the names that the volume is updated by.
fn inside(path: &str, field: &str, problems: &mut Problems) {
    if path.starts_with('/') {
        problems.invalid(field, &path.into(), "must be a relative path");
    }
    if path.split('/').any(|part| part == "..") {
        problems.invalid(field, &path.into(), "must not contain '..'");
    } else if path.starts_with("..") {
        problems.invalid(field, &path.into(), "must not start with '..'");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn mounts() {
        for (mounted, privileged, wrong) in [
            (json!({}), false, 0),
            (json!({"mountPropagation": "Bidirectional"}), true, 0),
            (json!({"mountPropagation": "Bidirectional"}), false, 1),
            (json!({"mountPropagation": "Both"}), true, 1),
            (
                json!({"recursiveReadOnly": "Enabled", "readOnly": true}),
                false,
                0,
            ),
            (json!({"recursiveReadOnly": "Enabled"}), false, 1),
            (
                json!({"recursiveReadOnly": "IfPossible", "readOnly": true, "mountPropagation": "HostToContainer"}),
                false,
                1,
            ),
            (json!({"subPathExpr": "$(A)/x"}), false, 0),
            (json!({"subPathExpr": "../x", "subPath": "y"}), false, 2),
        ] {
            let mut problems = Problems::default();
            mount(&mounted, privileged, "m", &mut problems);
            assert_eq!(problems.0.len(), wrong, "{mounted} {:?}", problems.0);
        }
    }

    #[test]
    fn sources() {
        for (source, wrong) in [
            (json!({"hostPath": {"path": "/x", "type": "Socket"}}), 0),
            (json!({"hostPath": {"path": "/x/../y", "type": "Pipe"}}), 2),
            (json!({"hostPath": {}}), 1),
            (json!({"persistentVolumeClaim": {}}), 1),
            (
                json!({"configMap": {"defaultMode": 0o1777, "items": [{"key": "a", "path": "..data/x"}]}}),
                2,
            ),
            (
                json!({"secret": {"items": [{"key": "a", "path": "/etc/x", "mode": -1}]}}),
                2,
            ),
            (
                json!({"projected": {"sources": [{"serviceAccountToken": {"path": "../t", "expirationSeconds": 5}}]}}),
                2,
            ),
            (
                json!({"projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}]}}),
                0,
            ),
        ] {
            let mut problems = Problems::default();
            volume(&source, "v", &mut problems);
            let said: Vec<_> = problems.0.iter().map(|cause| &cause.message).collect();
            assert_eq!(said.len(), wrong, "{source} {said:?}");
        }
    }
}
