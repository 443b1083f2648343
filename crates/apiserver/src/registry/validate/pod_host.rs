//! Validation of what a pod has of its host: addresses in /etc/hosts, ports, the operating system.

use std::net::IpAddr;

use serde_json::Value;

use super::{Problems, names};
use crate::object::{at, items, text};

const IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// A pod's or template's spec.
pub(super) fn pod(spec: &Value, field: &str, problems: &mut Problems) {
    aliases(spec, field, problems);
    system(spec, field, problems);
    let host_network = spec["hostNetwork"] == true;
    for list in ["containers", "initContainers"] {
        for (n, container) in items(spec, &[list]).iter().enumerate() {
            // Upstream looks at those that run all the time.
            let same = host_network && list == "containers";
            ports(container, same, &format!("{field}.{list}[{n}]"), problems);
        }
    }
}

/// An address by itself.
pub(super) fn address(value: &Value, field: &str, problems: &mut Problems) {
    let text = value.as_str().unwrap_or_default();
    if text.parse::<IpAddr>().is_err() {
        problems.invalid(field, &text.into(), IP);
    }
}

fn aliases(spec: &Value, field: &str, problems: &mut Problems) {
    for (n, alias) in items(spec, &["hostAliases"]).iter().enumerate() {
        let field = format!("{field}.hostAliases[{n}]");
        address(&alias["ip"], &format!("{field}.ip"), problems);
        for (m, name) in items(alias, &["hostnames"]).iter().enumerate() {
            for why in names::dns1123_subdomain(name.as_str().unwrap_or_default()) {
                problems.invalid(&format!("{field}.hostnames[{m}]"), name, &why);
            }
        }
    }
}

fn ports(container: &Value, same: bool, field: &str, problems: &mut Problems) {
    for (n, port) in items(container, &["ports"]).iter().enumerate() {
        let field = format!("{field}.ports[{n}]");
        if !text(port, &["hostIP"]).is_empty() {
            address(&port["hostIP"], &format!("{field}.hostIP"), problems);
        }
        let number = port["hostPort"].as_i64().unwrap_or(0);
        // What a template leaves out its pods are given.
        if same && number != 0 && Some(number) != port["containerPort"].as_i64() {
            let why = "must match `containerPort` when `hostNetwork` is true";
            problems.invalid(&format!("{field}.hostPort"), &number.into(), why);
        }
    }
}

/// What only Linux has.
const LINUX_POD: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
];
const LINUX_CONTAINER: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

fn system(spec: &Value, field: &str, problems: &mut Problems) {
    let Some(system) = at(spec, &["os"]) else {
        return;
    };
    let mut refuse = |owner: &Value, keys: &[&str], field: &str, why: &str| {
        for key in keys {
            if at(owner, &["securityContext", key]).is_some() {
                problems.forbidden(&format!("{field}.securityContext.{key}"), why);
            }
        }
    };
    let (for_pod, for_container, why): (&[&str], &[&str], &str) = match text(system, &["name"]) {
        "" => return problems.required(&format!("{field}.os.name"), "cannot be empty"),
        "linux" => (
            &["windowsOptions"],
            &["windowsOptions"],
            "windows options cannot be set for a linux pod",
        ),
        "windows" => (
            &LINUX_POD,
            &LINUX_CONTAINER,
            "cannot be set for a windows pod",
        ),
        other => {
            return problems.not_supported(
                &format!("{field}.os"),
                &other.into(),
                &["linux", "windows"],
            );
        }
    };
    refuse(spec, for_pod, field, why);
    for list in ["initContainers", "containers"] {
        for (n, container) in items(spec, &[list]).iter().enumerate() {
            refuse(
                container,
                for_container,
                &format!("{field}.{list}[{n}]"),
                why,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(spec: Value) -> Vec<String> {
        crate::registry::validate::said(|problems| pod(&spec, "spec", problems))
    }

    #[test]
    fn what_hosts_have_is_taken() {
        for spec in [
            json!({"hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a", "b.example"]}, {"ip": "::1"}]}),
            json!({"hostNetwork": true, "containers": [{"ports": [{"containerPort": 1, "hostPort": 1}, {"containerPort": 2}]}]}),
            json!({"containers": [{"ports": [{"containerPort": 1, "hostPort": 2, "hostIP": "127.0.0.1"}, {"hostIP": ""}]}]}),
            json!({"os": {"name": "linux"}, "securityContext": {"runAsUser": 1}}),
            json!({"os": {"name": "windows"}, "securityContext": {"windowsOptions": {}}}),
        ] {
            assert_eq!(said(spec.clone()), Vec::<String>::new(), "{spec}");
        }
    }

    #[test]
    fn what_would_break_hosts_is_refused() {
        for (spec, expected) in [
            (
                json!({"hostAliases": [{"ip": "1.1.1.1 evil\n2.2.2.2", "hostnames": ["a"]}]}),
                format!("spec.hostAliases[0].ip: Invalid value: \"1.1.1.1 evil\\n2.2.2.2\": {IP}"),
            ),
            (
                json!({"hostAliases": [{"hostnames": ["a"]}]}),
                format!("spec.hostAliases[0].ip: Invalid value: \"\": {IP}"),
            ),
            (
                json!({"containers": [{"ports": [{"hostIP": "any"}]}]}),
                format!("spec.containers[0].ports[0].hostIP: Invalid value: \"any\": {IP}"),
            ),
            (
                json!({"hostNetwork": true, "containers": [{"ports": [{"containerPort": 1, "hostPort": 2}]}]}),
                "spec.containers[0].ports[0].hostPort: Invalid value: 2: must match `containerPort` when `hostNetwork` is true".to_owned(),
            ),
            (
                json!({"os": {"name": "plan9"}}),
                "spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\"".to_owned(),
            ),
            (
                json!({"os": {}}),
                "spec.os.name: Required value: cannot be empty".to_owned(),
            ),
            (
                json!({"os": {"name": "windows"}, "containers": [{"securityContext": {"privileged": false}}]}),
                "spec.containers[0].securityContext.privileged: Forbidden: cannot be set for a windows pod".to_owned(),
            ),
            (
                json!({"os": {"name": "linux"}, "securityContext": {"windowsOptions": {}}}),
                "spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod".to_owned(),
            ),
        ] {
            assert_eq!(said(spec.clone()), [expected], "{spec}");
        }
        let said = said(json!({"hostAliases": [{"ip": "1.1.1.1", "hostnames": ["a\n6.6.6.6 b"]}]}));
        assert!(
            said.len() == 1
                && said[0].starts_with("spec.hostAliases[0].hostnames[0]: Invalid value"),
            "{said:?}"
        );
    }
}
