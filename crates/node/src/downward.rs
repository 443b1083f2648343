//! What a container may learn of its own pod: fields and resource figures (the downward API).
//!
//! Follows the kubelet's `pkg/fieldpath` and `resource.ExtractContainerResourceValue`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use crate::environment::ConfigError;
use crate::resources;

/// What is known beside the pod's object.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The first one first.
    pub pod_ips: Vec<String>,
    pub host_ips: Vec<String>,
    pub node_name: String,
    pub node_cpu_milli: i64,
    pub node_memory_bytes: i64,
    pub node_disk_bytes: i64,
}

/// The text at a `fieldPath`.
pub fn field(pod: &Pod, path: &str, facts: &Facts) -> Result<String, ConfigError> {
    let spec = pod.spec.as_ref();
    let metadata = &pod.metadata;
    let subscript = |map: &Option<BTreeMap<String, String>>, prefix: &str| {
        let key = path.strip_prefix(prefix)?.strip_suffix("']")?;
        Some(
            map.as_ref()
                .and_then(|map| map.get(key))
                .cloned()
                .unwrap_or_default(),
        )
    };
    Ok(match path {
        "metadata.name" => metadata.name.clone().unwrap_or_default(),
        "metadata.namespace" => metadata.namespace.clone().unwrap_or_default(),
        "metadata.uid" => metadata.uid.clone().unwrap_or_default(),
        "metadata.labels" => lines(&metadata.labels),
        "metadata.annotations" => lines(&metadata.annotations),
        "spec.nodeName" => facts.node_name.clone(),
        "spec.serviceAccountName" => spec
            .and_then(|s| s.service_account_name.clone())
            .unwrap_or_default(),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        "status.hostIP" => facts.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => facts.host_ips.join(","),
        _ => subscript(&metadata.labels, "metadata.labels['")
            .or_else(|| subscript(&metadata.annotations, "metadata.annotations['"))
            .ok_or_else(|| ConfigError::FieldPath(path.to_owned()))?,
    })
}

/// `key="value"` a line, by key.
fn lines(map: &Option<BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", quote(value)))
        .collect();
    lines.join("\n")
}

/// As Go's `strconv.Quote`, by which upstream's are read: what can be printed stands for itself, marks that combine among it.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\0'..='\u{1f}' | '\u{7f}' => quoted.push_str(&format!("\\x{:02x}", c as u32)),
            _ if can_be_printed(c) => quoted.push(c),
            _ if (c as u32) < 0x1_0000 => quoted.push_str(&format!("\\u{:04x}", c as u32)),
            _ => quoted.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    quoted.push('"');
    quoted
}

fn can_be_printed(c: char) -> bool {
    // alone, marks that combine with what is before them would be escaped
    c == '\'' || format!("a{c}").escape_debug().count() == 2
}

/// A request or limit of `container`, counted in its divisor and rounded up; what the node has stands in for a missing limit.
pub fn resource(
    container: &Container,
    selector: &ResourceFieldSelector,
    facts: &Facts,
) -> Result<String, ConfigError> {
    let divisor = selector
        .divisor
        .as_ref()
        .and_then(resources::milli_value)
        .filter(|d| *d > 0)
        .unwrap_or(1000);
    let (of, name) = selector.resource.split_once('.').unwrap_or(("", ""));
    let node = |name: &str| match name {
        "cpu" => facts.node_cpu_milli,
        "memory" => facts.node_memory_bytes,
        _ => facts.node_disk_bytes,
    };
    let amount = match (of, name) {
        ("limits", "cpu" | "memory" | "ephemeral-storage") => {
            resources::limit(container, name).unwrap_or_else(|| node(name))
        }
        ("requests", "cpu" | "memory" | "ephemeral-storage") => {
            resources::request(container, name).unwrap_or(0)
        }
        _ => return Err(ConfigError::Resource(selector.resource.clone())),
    };
    let milli = if name == "cpu" {
        i128::from(amount)
    } else {
        i128::from(amount) * 1000
    };
    let divisor = i128::from(divisor);
    Ok(((milli + divisor - 1) / divisor).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let pod: Pod = serde_json::from_value(serde_json::json!({ "metadata": { "name": "web", "labels": { "b": "2", "a": "x\"y" } } })).expect("pod");
        let facts = Facts {
            node_name: "n".into(),
            pod_ips: ["10.0.0.2", "fd00::2"].map(str::to_owned).into(),
            host_ips: vec!["10.0.0.1".into()],
            ..Facts::default()
        };
        for (path, want) in [
            ("metadata.name", Some("web")),
            ("metadata.labels", Some("a=\"x\\\"y\"\nb=\"2\"")),
            ("metadata.labels['b']", Some("2")),
            ("metadata.labels['none']", Some("")),
            ("metadata.annotations['none']", Some("")),
            ("spec.nodeName", Some("n")),
            ("status.podIP", Some("10.0.0.2")),
            ("status.podIPs", Some("10.0.0.2,fd00::2")),
            ("status.hostIP", Some("10.0.0.1")),
            ("status.hostIPs", Some("10.0.0.1")),
            ("metadata.labels['b'", None),
            ("spec.containers", None),
            ("", None),
        ] {
            assert_eq!(field(&pod, path, &facts).ok().as_deref(), want, "{path}");
        }
    }

    #[test]
    fn texts_are_quoted_as_go_quotes_them() {
        for (text, quoted) in [
            ("it's \"so\" \\", r#""it's \"so\" \\""#),
            ("a\tb\r\nc\u{7}\u{b}", r#""a\tb\r\nc\a\v""#),
            ("\u{1b}[0m\u{7f}", r#""\x1b[0m\x7f""#),
            ("e\u{301} ก็ ❤\u{fe0f}", "\"e\u{301} ก็ ❤\u{fe0f}\""),
            ("\u{a0}\u{200b}\u{feff}", r#""\u00a0\u200b\ufeff""#),
            ("\u{e0001}", r#""\U000e0001""#),
        ] {
            assert_eq!(quote(text), quoted);
        }
    }

    #[test]
    fn resources_of_a_container_or_of_the_node() {
        let container: Container =
            serde_json::from_value(serde_json::json!({"name": "a", "resources": {
            "requests": {"cpu": "250m", "ephemeral-storage": "1Mi"}, "limits": {"memory": "3Ki"}}}))
            .expect("a container");
        let facts = Facts {
            node_cpu_milli: 1500,
            node_memory_bytes: 7,
            node_disk_bytes: 9,
            ..Facts::default()
        };
        for (name, divisor, want) in [
            ("requests.cpu", "1", Some("1")),
            ("requests.cpu", "1m", Some("250")),
            ("limits.cpu", "1m", Some("1500")),
            ("limits.memory", "1Ki", Some("3")),
            ("requests.ephemeral-storage", "1", Some("1048576")),
            ("limits.ephemeral-storage", "1", Some("9")),
            ("limits.other", "1", None),
        ] {
            let selector = serde_json::json!({"resource": name, "divisor": divisor});
            let selector = serde_json::from_value(selector).expect("a selector");
            let found = resource(&container, &selector, &facts).ok();
            assert_eq!(found.as_deref(), want, "{name} {divisor}");
        }
    }
}
