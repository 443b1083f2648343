//! Columns of Nodes, Namespaces, Events, Leases, ConfigMaps, Secrets and ServiceAccounts.

use serde_json::Value;

use super::{AGE, Column, NAME, age, name, or, string, wide};
use crate::object::{items, text};

pub const CONFIG_MAP: &[Column] = &[NAME, string("Data"), AGE];
pub const SECRET: &[Column] = &[NAME, string("Type"), string("Data"), AGE];
pub const SERVICE_ACCOUNT: &[Column] = &[NAME, string("Secrets"), AGE];
pub const NAMESPACE: &[Column] = &[NAME, string("Status"), AGE];
pub const LEASE: &[Column] = &[NAME, string("Holder"), AGE];
pub const NODE: &[Column] = &[
    NAME,
    string("Status"),
    string("Roles"),
    AGE,
    string("Version"),
    wide("Internal-IP"),
    wide("External-IP"),
    wide("OS-Image"),
    wide("Kernel-Version"),
    wide("Container-Runtime"),
];
pub const EVENT: &[Column] = &[
    string("Last Seen"),
    string("Type"),
    string("Reason"),
    string("Object"),
    wide("Subobject"),
    wide("Source"),
    string("Message"),
    wide("First Seen"),
    wide("Count"),
    Column {
        name: "Name",
        kind: "string",
        format: "name",
        priority: 1,
    },
];

fn count(object: &Value, key: &str) -> usize {
    object[key].as_object().map_or(0, serde_json::Map::len)
}

pub fn config_map(object: &Value) -> Vec<Value> {
    vec![
        name(object),
        (count(object, "data") + count(object, "binaryData")).into(),
        age(object),
    ]
}

pub fn secret(object: &Value) -> Vec<Value> {
    vec![
        name(object),
        text(object, &["type"]).into(),
        count(object, "data").into(),
        age(object),
    ]
}

pub fn service_account(object: &Value) -> Vec<Value> {
    vec![
        name(object),
        items(object, &["secrets"]).len().into(),
        age(object),
    ]
}

pub fn namespace(object: &Value) -> Vec<Value> {
    vec![
        name(object),
        text(object, &["status", "phase"]).into(),
        age(object),
    ]
}

pub fn lease(object: &Value) -> Vec<Value> {
    vec![
        name(object),
        text(object, &["spec", "holderIdentity"]).into(),
        age(object),
    ]
}

pub fn node(object: &Value) -> Vec<Value> {
    let ready = items(object, &["status", "conditions"])
        .iter()
        .find(|c| c["type"] == "Ready");
    let mut status = match ready.map(|c| text(c, &["status"])) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if object["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    let mut roles: Vec<&str> = Vec::new();
    if let Some(labels) = object["metadata"]["labels"].as_object() {
        for (key, value) in labels {
            match key.strip_prefix("node-role.kubernetes.io/") {
                Some(role) if !role.is_empty() => roles.push(role),
                _ if key == "kubernetes.io/role" => {
                    roles.extend(value.as_str().filter(|v| !v.is_empty()))
                }
                _ => {}
            }
        }
    }
    roles.sort_unstable();
    roles.dedup();
    let address = |kind: &str| {
        let found = items(object, &["status", "addresses"])
            .iter()
            .find(|a| a["type"] == kind);
        or(found.map_or("", |a| text(a, &["address"])), "<none>")
    };
    let info = |key: &str| text(object, &["status", "nodeInfo", key]);
    vec![
        name(object),
        status.into(),
        or(&roles.join(","), "<none>"),
        age(object),
        info("kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        or(info("osImage"), "<unknown>"),
        or(info("kernelVersion"), "<unknown>"),
        or(info("containerRuntimeVersion"), "<unknown>"),
    ]
}

pub fn event(object: &Value) -> Vec<Value> {
    let series = &object["series"];
    let moment = |path: &[&str]| Some(text(object, path)).filter(|t| !t.is_empty());
    let first = moment(&["firstTimestamp"]).or_else(|| moment(&["eventTime"]));
    let last = series["lastObservedTime"]
        .as_str()
        .or_else(|| moment(&["lastTimestamp"]))
        .or(first);
    let count = series["count"]
        .as_i64()
        .or_else(|| object["count"].as_i64())
        .filter(|n| *n > 0)
        .unwrap_or(1);
    let about = &object["involvedObject"];
    let kind = text(about, &["kind"]).to_lowercase();
    let target = match text(about, &["name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let mut source = text(object, &["source", "component"]).to_owned();
    if source.is_empty() {
        source = text(object, &["reportingComponent"]).to_owned();
    }
    let host = text(object, &["source", "host"]);
    if !host.is_empty() {
        source = format!("{source}, {host}");
    } else if !text(object, &["reportingInstance"]).is_empty()
        && text(object, &["source", "component"]).is_empty()
    {
        source = format!("{source}, {}", text(object, &["reportingInstance"]));
    }
    vec![
        crate::time::age(last).into(),
        text(object, &["type"]).into(),
        text(object, &["reason"]).into(),
        target.into(),
        text(about, &["fieldPath"]).into(),
        source.into(),
        text(object, &["message"]).trim().into(),
        crate::time::age(first).into(),
        count.to_string().into(),
        name(object),
    ]
}

/// The same for `events.k8s.io`.
pub fn new_event(object: &Value) -> Vec<Value> {
    let mut core = object.clone();
    crate::registry::convert::event_to_core(&mut core);
    event(&core)
}
