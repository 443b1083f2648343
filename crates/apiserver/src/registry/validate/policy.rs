//! Validation of NetworkPolicies (upstream `pkg/apis/networking/validation`).

use ipnet::IpNet;
use serde_json::{Value, json};

use super::workload::label_selector;
use super::{Problems, names, one_of, port_number};
use crate::object::{items, text};

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const TYPES: &[&str] = &["Egress", "Ingress"];

pub fn network_policy(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    label_selector(&spec["podSelector"], "spec.podSelector", problems);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (n, rule) in items(spec, &[direction]).iter().enumerate() {
            let field = format!("spec.{direction}[{n}]");
            for (m, given) in items(rule, &["ports"]).iter().enumerate() {
                port(given, &format!("{field}.ports[{m}]"), problems);
            }
            for (m, given) in items(rule, &[peers]).iter().enumerate() {
                peer(given, &format!("{field}.{peers}[{m}]"), problems);
            }
        }
    }
    let types = items(spec, &["policyTypes"]);
    if types.len() > TYPES.len() {
        let why = "may not specify more than two policyTypes";
        problems.invalid("spec.policyTypes", &json!(types), why);
        return;
    }
    for (n, given) in types.iter().enumerate() {
        if !TYPES.contains(&given.as_str().unwrap_or_default()) {
            problems.not_supported(&format!("spec.policyTypes[{n}]"), given, TYPES);
        }
    }
}

fn port(port: &Value, field: &str, problems: &mut Problems) {
    one_of(port, "protocol", PROTOCOLS, field, problems);
    let (first, last) = (&port["port"], &port["endPort"]);
    let last_field = format!("{field}.endPort");
    match first {
        Value::Number(_) => {
            let number = first.as_i64().unwrap_or(0);
            port_number(number, &format!("{field}.port"), problems);
            if let Some(end) = last.as_i64() {
                if end < number {
                    let why = "must be greater than or equal to `port`";
                    problems.invalid(&last_field, first, why);
                }
                port_number(end, &last_field, problems);
            }
        }
        Value::String(name) => {
            if !last.is_null() {
                let why = "may not be specified when `port` is non-numeric";
                problems.invalid(&last_field, last, why);
            }
            for why in names::port_name(name) {
                problems.invalid(&format!("{field}.port"), first, &why);
            }
        }
        _ if !last.is_null() => {
            let why = "may not be specified when `port` is not specified";
            problems.invalid(&last_field, last, why);
        }
        _ => {}
    }
}

fn peer(peer: &Value, field: &str, problems: &mut Problems) {
    let mut given = 0;
    for key in ["podSelector", "namespaceSelector"] {
        if peer[key].is_object() {
            given += 1;
            label_selector(&peer[key], &format!("{field}.{key}"), problems);
        }
    }
    let block = &peer["ipBlock"];
    if block.is_object() {
        given += 1;
        ip_block(block, &format!("{field}.ipBlock"), problems);
    }
    if given == 0 {
        problems.required(field, "must specify a peer");
    } else if given > 1 && block.is_object() {
        problems.forbidden(field, "may not specify both ipBlock and another peer");
    }
}

fn ip_block(block: &Value, field: &str, problems: &mut Problems) {
    const WHY: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let cidr = text(block, &["cidr"]);
    if cidr.is_empty() {
        problems.required(&format!("{field}.cidr"), "");
        return;
    }
    let whole: Option<IpNet> = cidr.parse().ok();
    if whole.is_none() {
        problems.invalid(&format!("{field}.cidr"), &cidr.into(), WHY);
    }
    for (n, given) in items(block, &["except"]).iter().enumerate() {
        let field = format!("{field}.except[{n}]");
        let except: Option<IpNet> = given.as_str().and_then(|text| text.parse().ok());
        match (whole, except) {
            (_, None) => problems.invalid(&field, given, WHY),
            (Some(whole), Some(except))
                if !whole.contains(&except.addr()) || whole.prefix_len() >= except.prefix_len() =>
            {
                problems.invalid(&field, given, "must be a strict subset of `cidr`");
            }
            _ => {}
        }
    }
}
