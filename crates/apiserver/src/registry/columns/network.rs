//! Columns of Services, EndpointSlices, Endpoints and NetworkPolicies.

use serde_json::Value;

use super::{AGE, Column, NAME, age, name, or, string, wide};
use crate::object::{items, text};

pub const SERVICE: &[Column] = &[
    NAME,
    string("Type"),
    string("Cluster-IP"),
    string("External-IP"),
    string("Port(s)"),
    AGE,
    wide("Selector"),
];

pub const ENDPOINT_SLICE: &[Column] = &[
    NAME,
    string("AddressType"),
    string("Ports"),
    string("Endpoints"),
    AGE,
];

pub const NETWORK_POLICY: &[Column] = &[NAME, string("Pod-Selector"), AGE];

pub const ENDPOINTS: &[Column] = &[NAME, string("Endpoints"), AGE];

/// How many addresses a cell shows.
const SHOWN_MAX: usize = 3;

pub fn service(object: &Value) -> Vec<Value> {
    let spec = &object["spec"];
    let cluster_ip = items(spec, &["clusterIPs"])
        .first()
        .and_then(Value::as_str)
        .unwrap_or_else(|| text(spec, &["clusterIP"]));
    let ports: Vec<String> = items(spec, &["ports"])
        .iter()
        .map(|port| {
            let (number, protocol) = (
                port["port"].as_i64().unwrap_or(0),
                text(port, &["protocol"]),
            );
            match port["nodePort"].as_i64() {
                Some(node) if node > 0 => format!("{number}:{node}/{protocol}"),
                _ => format!("{number}/{protocol}"),
            }
        })
        .collect();
    let selector = spec["selector"]
        .as_object()
        .map_or(String::new(), |labels| {
            labels
                .iter()
                .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
                .collect::<Vec<_>>()
                .join(",")
        });
    vec![
        name(object),
        text(spec, &["type"]).into(),
        or(cluster_ip, "<none>"),
        external_ip(object).into(),
        or(&ports.join(","), "<none>"),
        age(object),
        or(&selector, "<none>"),
    ]
}

fn external_ip(object: &Value) -> String {
    let spec = &object["spec"];
    let external: Vec<&str> = items(spec, &["externalIPs"])
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let none_or = |list: &[&str]| {
        if list.is_empty() {
            "<none>".to_owned()
        } else {
            list.join(",")
        }
    };
    match text(spec, &["type"]) {
        "ExternalName" => text(spec, &["externalName"]).to_owned(),
        "LoadBalancer" => {
            let mut all: Vec<&str> = items(object, &["status", "loadBalancer", "ingress"])
                .iter()
                .map(|i| {
                    if text(i, &["ip"]).is_empty() {
                        text(i, &["hostname"])
                    } else {
                        text(i, &["ip"])
                    }
                })
                .collect();
            all.extend(&external);
            if all.is_empty() {
                "<pending>".into()
            } else {
                all.join(",")
            }
        }
        _ => none_or(&external),
    }
}

pub fn endpoint_slice(object: &Value) -> Vec<Value> {
    let ports = items(object, &["ports"])
        .iter()
        .map(|p| p["port"].as_i64().map_or("*".into(), |n| n.to_string()));
    let addresses = items(object, &["endpoints"])
        .iter()
        .flat_map(|e| items(e, &["addresses"]))
        .map(|a| a.as_str().unwrap_or_default().to_owned());
    vec![
        name(object),
        text(object, &["addressType"]).into(),
        shorten(ports.collect(), "<unset>").into(),
        shorten(addresses.collect(), "<unset>").into(),
        age(object),
    ]
}

pub fn endpoints(object: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in items(object, &["subsets"]) {
        for address in items(subset, &["addresses"]) {
            let ip = text(address, &["ip"]);
            let ports = items(subset, &["ports"]);
            if ports.is_empty() {
                all.push(ip.to_owned());
            }
            all.extend(
                ports
                    .iter()
                    .map(|p| format!("{ip}:{}", p["port"].as_i64().unwrap_or(0))),
            );
        }
    }
    vec![name(object), shorten(all, "<none>").into(), age(object)]
}

pub fn network_policy(object: &Value) -> Vec<Value> {
    let selector = crate::handlers::selector_text(&object["spec"]["podSelector"]);
    vec![name(object), or(&selector, "<none>"), age(object)]
}

fn shorten(all: Vec<String>, empty: &str) -> String {
    if all.is_empty() {
        return empty.to_owned();
    }
    let more = all.len().saturating_sub(SHOWN_MAX);
    let shown = all[..all.len().min(SHOWN_MAX)].join(",");
    if more > 0 {
        format!("{shown} + {more} more...")
    } else {
        shown
    }
}
