//! Validation of containers wherever they are in a pod: names, images, ports, variables, resources, mounts.

use std::collections::HashSet;

use serde_json::Value;

use super::{Problems, env, names, one_of, port_number, resources, volume};
use crate::object::{items, text};

pub(super) fn container(
    container: &Value,
    field: &str,
    volumes: &HashSet<&str>,
    problems: &mut Problems,
) {
    let name = text(container, &["name"]);
    if name.is_empty() {
        problems.required(&format!("{field}.name"), "");
    } else {
        for why in names::dns1123_label(name) {
            problems.invalid(&format!("{field}.name"), &name.into(), &why);
        }
    }
    let image = text(container, &["image"]);
    if image.is_empty() {
        problems.required(&format!("{field}.image"), "");
    } else if image.trim() != image {
        problems.invalid(
            &format!("{field}.image"),
            &image.into(),
            "must not have leading or trailing whitespace",
        );
    }
    one_of(
        container,
        "imagePullPolicy",
        &["Always", "IfNotPresent", "Never"],
        field,
        problems,
    );
    one_of(
        container,
        "terminationMessagePolicy",
        &["File", "FallbackToLogsOnError"],
        field,
        problems,
    );
    ports(container, field, problems);
    env::variables(container, field, problems);
    let mut mounted = HashSet::new();
    for (n, mount) in items(container, &["volumeMounts"]).iter().enumerate() {
        let field = format!("{field}.volumeMounts[{n}]");
        let name = text(mount, &["name"]);
        if name.is_empty() {
            problems.required(&format!("{field}.name"), "");
        } else if !volumes.contains(name) {
            problems.0.push(crate::status::Cause {
                reason: "FieldValueNotFound",
                message: format!("Not found: {name:?}"),
                field: format!("{field}.name"),
            });
        }
        let path = text(mount, &["mountPath"]);
        if path.is_empty() {
            problems.required(&format!("{field}.mountPath"), "");
        } else if !mounted.insert(path) {
            problems.invalid(
                &format!("{field}.mountPath"),
                &path.into(),
                "must be unique",
            );
        }
        let sub_path = text(mount, &["subPath"]);
        if sub_path.starts_with('/') {
            problems.invalid(
                &format!("{field}.subPath"),
                &sub_path.into(),
                "must be a relative path",
            );
        } else if sub_path.split('/').any(|s| s == "..") {
            problems.invalid(
                &format!("{field}.subPath"),
                &sub_path.into(),
                "must not contain '..'",
            );
        }
        let privileged = container["securityContext"]["privileged"] == true;
        volume::mount(mount, privileged, &field, problems);
    }
    let field = format!("{field}.resources");
    resources::container(&container["resources"], &field, problems);
}

fn ports(container: &Value, field: &str, problems: &mut Problems) {
    let mut seen = HashSet::new();
    for (n, port) in items(container, &["ports"]).iter().enumerate() {
        let field = format!("{field}.ports[{n}]");
        let name = text(port, &["name"]);
        if !name.is_empty() {
            for why in names::port_name(name) {
                problems.invalid(&format!("{field}.name"), &name.into(), &why);
            }
            if !seen.insert(name) {
                problems.duplicate(&format!("{field}.name"), &name.into());
            }
        }
        match port["containerPort"].as_i64().unwrap_or(0) {
            0 => problems.required(&format!("{field}.containerPort"), ""),
            number => port_number(number, &format!("{field}.containerPort"), problems),
        }
        if let Some(number) = port["hostPort"].as_i64().filter(|n| *n != 0) {
            port_number(number, &format!("{field}.hostPort"), problems);
        }
        one_of(port, "protocol", &["TCP", "UDP", "SCTP"], &field, problems);
    }
}
