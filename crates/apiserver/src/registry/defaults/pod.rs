//! Defaults of pods and pod templates.

use serde_json::{Map, Value, json};

use super::{child, each, set};
use crate::object::{items, text};
use crate::quantity::Quantity;

pub fn pod(object: &mut Value) {
    let spec = child(object, "spec");
    // Only pods themselves, not templates.
    set(spec, "enableServiceLinks", true);
    for list in ["initContainers", "containers"] {
        each(spec, list, requests_from_limits);
    }
    requests_as_a_whole(spec);
    pod_spec(spec);
    if spec["hostNetwork"] == true {
        host_ports(spec);
    }
}

/// What is limited and not requested is requested to the limit.
fn requests_from_limits(container: &mut Value) {
    let Some(limits) = container["resources"]
        .get("limits")
        .and_then(Value::as_object)
        .cloned()
    else {
        return;
    };
    let requests = child(child(container, "resources"), "requests");
    for (resource, amount) in limits {
        set(requests, &resource, amount);
    }
}

/// A pod that asks for something as a whole asks for what its containers ask for, else up to its own limits (upstream
/// `defaultPodRequests`).
fn requests_as_a_whole(spec: &mut Value) {
    let whole = &spec["resources"];
    let limits = whole["limits"].as_object().cloned().unwrap_or_default();
    let asked = whole["requests"].as_object().map_or(0, Map::len);
    if limits.is_empty() && asked == 0 {
        return;
    }
    for name in ["cpu", "memory"] {
        if spec["resources"]["requests"].get(name).is_some() {
            continue;
        }
        let amount = |container: &Value| -> Option<Quantity> {
            let text = container["resources"]["requests"].get(name)?.as_str()?;
            text.parse().ok()
        };
        let mut sum: Option<Quantity> = None;
        for amount in items(spec, &["containers"]).iter().filter_map(amount) {
            sum = Some(sum.map_or(amount, |sum| sum + amount));
        }
        let sum = sum.map(|sum| Value::from(sum.to_string()));
        if let Some(amount) = sum.or_else(|| limits.get(name).cloned()) {
            let requests = child(child(spec, "resources"), "requests");
            set(requests, name, amount);
        }
    }
}

pub(super) fn host_ports(spec: &mut Value) {
    for list in ["initContainers", "containers"] {
        each(spec, list, |container| {
            each(container, "ports", |port| {
                if port["hostPort"].as_i64().unwrap_or(0) == 0 {
                    port["hostPort"] = port["containerPort"].clone();
                }
            });
        });
    }
}

/// Defaults of a pod's spec, also in templates.
pub fn pod_spec(spec: &mut Value) {
    set(spec, "restartPolicy", "Always");
    set(spec, "terminationGracePeriodSeconds", 30);
    set(spec, "dnsPolicy", "ClusterFirst");
    set(spec, "schedulerName", "default-scheduler");
    child(spec, "securityContext");
    if let Some(account) = spec.get("serviceAccountName").cloned() {
        set(spec, "serviceAccount", account);
    } else if let Some(account) = spec.get("serviceAccount").cloned() {
        set(spec, "serviceAccountName", account);
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        each(spec, list, container);
    }
    each(spec, "volumes", volume);
    each(spec, "topologySpreadConstraints", |constraint| {
        set(constraint, "nodeAffinityPolicy", "Honor");
        set(constraint, "nodeTaintsPolicy", "Ignore");
    });
}

fn container(container: &mut Value) {
    let image = text(container, &["image"]).to_owned();
    let policy = if tag(&image) == "latest" {
        "Always"
    } else {
        "IfNotPresent"
    };
    set(container, "imagePullPolicy", policy);
    set(container, "terminationMessagePath", "/dev/termination-log");
    set(container, "terminationMessagePolicy", "File");
    child(container, "resources");
    each(container, "ports", |port| set(port, "protocol", "TCP"));
    each(container, "env", |env| {
        if let Some(reference) = env.get_mut("valueFrom").and_then(|v| v.get_mut("fieldRef")) {
            set(reference, "apiVersion", "v1");
        }
    });
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(settings) = container.get_mut(probe).filter(|p| p.is_object()) {
            set(settings, "timeoutSeconds", 1);
            set(settings, "periodSeconds", 10);
            set(settings, "successThreshold", 1);
            set(settings, "failureThreshold", 3);
            handler(settings);
        }
    }
    if let Some(lifecycle) = container.get_mut("lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(hook) = lifecycle.get_mut(hook) {
                handler(hook);
            }
        }
    }
}

fn handler(handler: &mut Value) {
    if let Some(http) = handler.get_mut("httpGet").filter(|h| h.is_object()) {
        set(http, "path", "/");
        set(http, "scheme", "HTTP");
    }
    if let Some(grpc) = handler.get_mut("grpc").filter(|h| h.is_object()) {
        set(grpc, "service", "");
    }
}

/// The tag of an image reference; `latest` when there is neither tag nor digest.
fn tag(image: &str) -> &str {
    if image.contains('@') {
        return "";
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    last.split_once(':').map_or("latest", |(_, tag)| tag)
}

fn volume(volume: &mut Value) {
    let sources = volume
        .as_object()
        .map_or(0, |v| v.keys().filter(|k| *k != "name").count());
    if sources == 0 {
        volume["emptyDir"] = json!({});
    }
    for (source, key) in [
        ("secret", "defaultMode"),
        ("configMap", "defaultMode"),
        ("downwardAPI", "defaultMode"),
        ("projected", "defaultMode"),
    ] {
        if let Some(source) = volume.get_mut(source).filter(|s| s.is_object()) {
            set(source, key, 420);
        }
    }
    if let Some(path) = volume.get_mut("hostPath").filter(|s| s.is_object()) {
        set(path, "type", "");
    }
    let field_ref = |item: &mut Value| {
        if let Some(reference) = item.get_mut("fieldRef") {
            set(reference, "apiVersion", "v1");
        }
    };
    if let Some(downward) = volume.get_mut("downwardAPI") {
        each(downward, "items", field_ref);
    }
    if let Some(projected) = volume.get_mut("projected") {
        each(projected, "sources", |source| {
            if let Some(token) = source
                .get_mut("serviceAccountToken")
                .filter(|t| t.is_object())
            {
                set(token, "expirationSeconds", 3600);
            }
            if let Some(downward) = source.get_mut("downwardAPI") {
                each(downward, "items", field_ref);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policy_follows_the_tag() {
        let cases = [
            ("a", "latest"),
            ("a:1", "1"),
            ("host:5000/a", "latest"),
            ("host:5000/a:1", "1"),
            ("a:latest", "latest"),
            ("a@sha256:00", ""),
            ("a:latest@sha256:00", ""),
        ];
        for (image, expected) in cases {
            assert_eq!(tag(image), expected, "{image}");
        }
    }
}
