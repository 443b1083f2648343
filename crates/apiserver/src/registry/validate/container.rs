//! Validation of containers: names, images, ports, environment, resources, mounts, probes.

use std::collections::HashSet;

use serde_json::Value;

use super::{Problems, at_least, names, one_of, port_number, volume};
use crate::object::{at, items, text};
use crate::quantity::Quantity;

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
    for (n, variable) in items(container, &["env"]).iter().enumerate() {
        let field = format!("{field}.env[{n}]");
        let name = text(variable, &["name"]);
        if name.is_empty() {
            problems.required(&format!("{field}.name"), "");
        } else if name.contains('=') || name.chars().any(|c| !(' '..='~').contains(&c)) {
            problems.invalid(&format!("{field}.name"), &name.into(), "a valid environment variable name must consist only of printable ASCII characters other than '='");
        }
        if !text(variable, &["value"]).is_empty() && at(variable, &["valueFrom"]).is_some() {
            problems.invalid(
                &format!("{field}.valueFrom"),
                &"".into(),
                "may not be specified when `value` is not empty",
            );
        }
    }
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
    resources(
        &container["resources"],
        &format!("{field}.resources"),
        problems,
    );
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(settings) = at(container, &[kind]) {
            probe(
                settings,
                &format!("{field}.{kind}"),
                kind != "readinessProbe",
                problems,
            );
        }
    }
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

fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

fn resources(resources: &Value, field: &str, problems: &mut Problems) {
    for part in ["limits", "requests"] {
        let Some(amounts) = resources[part].as_object() else {
            continue;
        };
        for (resource, amount) in amounts {
            let field = format!("{field}.{part}.{resource}");
            let field = if resource.contains('.') {
                format!(
                    "{}[{resource}]",
                    field
                        .trim_end_matches(resource.as_str())
                        .trim_end_matches('.')
                )
            } else {
                field
            };
            for why in names::label_key(resource) {
                problems.invalid(&field, &resource.as_str().into(), &why);
            }
            match quantity(amount) {
                None => problems.invalid(&field, amount, "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
                Some(q) if q.sign() < 0 => problems.invalid(&field, amount, "must be greater than or equal to 0"),
                Some(_) => {}
            }
        }
    }
    let (Some(requests), Some(limits)) = (
        resources["requests"].as_object(),
        resources["limits"].as_object(),
    ) else {
        return;
    };
    for (resource, request) in requests {
        let Some(limit) = limits.get(resource) else {
            continue;
        };
        let (Some(asked), Some(most)) = (quantity(request), quantity(limit)) else {
            continue;
        };
        if asked.nano_value() > most.nano_value() {
            let shown = limit
                .as_str()
                .map_or_else(|| limit.to_string(), str::to_owned);
            problems.invalid(
                &format!("{field}.requests"),
                request,
                &format!("must be less than or equal to {resource} limit of {shown}"),
            );
        }
    }
}

fn probe(probe: &Value, field: &str, one_success: bool, problems: &mut Problems) {
    let handlers: Vec<_> = ["exec", "httpGet", "tcpSocket", "grpc"]
        .into_iter()
        .filter(|h| at(probe, &[h]).is_some())
        .collect();
    match handlers.len() {
        0 => problems.required(field, "must specify a handler type"),
        1 => {}
        _ => problems.forbidden(
            &format!("{field}.{}", handlers[1]),
            "may not specify more than 1 handler type",
        ),
    }
    for key in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        at_least(probe, key, 0, field, problems);
    }
    if one_success && probe["successThreshold"].as_i64().is_some_and(|n| n > 1) {
        problems.invalid(
            &format!("{field}.successThreshold"),
            &probe["successThreshold"],
            "must be 1",
        );
    }
    for handler in ["httpGet", "tcpSocket", "grpc"] {
        let Some(settings) = at(probe, &[handler]) else {
            continue;
        };
        let field = format!("{field}.{handler}.port");
        match &settings["port"] {
            Value::Number(number) => port_number(number.as_i64().unwrap_or(0), &field, problems),
            Value::String(name) => {
                for why in names::port_name(name) {
                    problems.invalid(&field, &name.as_str().into(), &why);
                }
            }
            _ => problems.required(&field, ""),
        }
    }
}
