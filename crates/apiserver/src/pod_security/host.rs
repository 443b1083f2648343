//! What of the node a pod may share: namespaces, ports, addresses that the node asks for it, `/proc`, settings of the kernel.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Violation;
use super::pod::{Pod, containers, name, plural, quoted, secured, setters};
use crate::object::{at, items, text};

/// The settings that are a pod's own, with the first minor version that says so.
const SAFE_SYSCTLS: &[(u64, &str)] = &[
    (0, "kernel.shm_rmid_forced"),
    (0, "net.ipv4.ip_local_port_range"),
    (0, "net.ipv4.tcp_syncookies"),
    (0, "net.ipv4.ping_group_range"),
    (0, "net.ipv4.ip_unprivileged_port_start"),
    (27, "net.ipv4.ip_local_reserved_ports"),
    (29, "net.ipv4.tcp_keepalive_time"),
    (29, "net.ipv4.tcp_fin_timeout"),
    (29, "net.ipv4.tcp_keepalive_intvl"),
    (29, "net.ipv4.tcp_keepalive_probes"),
    (32, "net.ipv4.tcp_rmem"),
    (32, "net.ipv4.tcp_wmem"),
    (37, "net.ipv4.tcp_slow_start_after_idle"),
    (37, "net.ipv4.tcp_notsent_lowat"),
];

/// Where a container names addresses that the node asks.
const HANDLERS: [&[&str]; 5] = [
    &["livenessProbe"],
    &["readinessProbe"],
    &["startupProbe"],
    &["lifecycle", "postStart"],
    &["lifecycle", "preStop"],
];

/// No namespace of the node.
pub(super) fn namespaces(pod: &Pod) -> Option<Violation> {
    let shared: Vec<_> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| pod.spec[*field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    if shared.is_empty() {
        return None;
    }
    Violation::new("host namespaces", shared.join(", "))
}

/// No port of the node.
pub(super) fn ports(pod: &Pod) -> Option<Violation> {
    let taken = |container| {
        let ports = items(container, &["ports"]).iter();
        ports.filter_map(|port| port["hostPort"].as_i64().filter(|port| *port != 0))
    };
    let bad = pod.named(|container| taken(container).next().is_some());
    // in the order of their digits, as upstream sorts them
    let ports: BTreeSet<_> = pod
        .containers()
        .flat_map(taken)
        .map(|port| port.to_string())
        .collect();
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {}",
        containers(&bad),
        plural(bad.len(), "uses", "use"),
        plural(ports.len(), "hostPort", "hostPorts"),
        ports.into_iter().collect::<Vec<_>>().join(", ")
    );
    Violation::new("hostPort", detail)
}

/// Probes and handlers ask the pod, no other address.
pub(super) fn probes(pod: &Pod) -> Option<Violation> {
    let hosts = |container| {
        HANDLERS
            .into_iter()
            .filter_map(move |path| at(container, path))
            .flat_map(|handler| {
                ["httpGet", "tcpSocket"].map(|action| text(handler, &[action, "host"]))
            })
            .filter(|host| !host.is_empty())
    };
    let bad: BTreeSet<_> = pod
        .named(|container| hosts(container).next().is_some())
        .into_iter()
        .collect();
    if bad.is_empty() {
        return None;
    }
    let hosts: BTreeSet<_> = pod.containers().flat_map(hosts).collect();
    let bad: Vec<_> = bad.into_iter().collect();
    let detail = format!(
        "{} {} {} {}",
        containers(&bad),
        plural(bad.len(), "uses", "use"),
        plural(
            hosts.len(),
            "probe or lifecycle host",
            "probe or lifecycle hosts"
        ),
        quoted(hosts)
    );
    Violation::new("probe or lifecycle host", detail)
}

/// `/proc` stays masked, unless root in the pod is nobody outside.
pub(super) fn proc_mount(pod: &Pod) -> Option<Violation> {
    if pod.has_own_users() {
        return None;
    }
    any_proc_mount(pod)
}

/// `/proc` stays masked.
pub(super) fn any_proc_mount(pod: &Pod) -> Option<Violation> {
    let other = |container| {
        secured(container, "procMount")
            .and_then(Value::as_str)
            .filter(|mount| *mount != "Default")
    };
    let bad = pod.named(|container| other(container).is_some());
    if bad.is_empty() {
        return None;
    }
    let mounts: BTreeSet<_> = pod.containers().filter_map(other).collect();
    let detail = format!(
        "{} must not set securityContext.procMount to {}",
        containers(&bad),
        quoted(mounts)
    );
    Violation::new("procMount", detail)
}

/// Only settings of the kernel that are the pod's own.
pub(super) fn sysctls(pod: &Pod) -> Option<Violation> {
    let safe = |setting: &str| {
        let mut known = SAFE_SYSCTLS.iter();
        known.any(|(since, safe)| *since <= pod.minor && *safe == setting)
    };
    let bad: Vec<_> = items(pod.spec, &["securityContext", "sysctls"])
        .iter()
        .map(name)
        .filter(|setting| !safe(setting))
        .collect();
    if bad.is_empty() {
        return None;
    }
    Violation::new("forbidden sysctls", bad.join(", "))
}

/// No process of the node itself, on Windows.
pub(super) fn windows_process(pod: &Pod) -> Option<Violation> {
    let asks = |of: &Value| of["securityContext"]["windowsOptions"]["hostProcess"] == true;
    let by = pod.named(asks);
    let setters = setters(asks(pod.spec), &by)?;
    let detail = format!("{setters} must not set securityContext.windowsOptions.hostProcess=true");
    Violation::new("hostProcess", detail)
}
