//! Validation of Endpoints (upstream `ValidateEndpoints`).

use std::net::IpAddr;

use serde_json::Value;

use super::network::ordinary;
use super::{Problems, names, one_of, pod_host, port_number};
use crate::object::{at, items, text};

pub fn endpoints(object: &Value, problems: &mut Problems) {
    for (n, subset) in items(object, &["subsets"]).iter().enumerate() {
        let field = format!("subsets[{n}]");
        let lists = ["addresses", "notReadyAddresses"];
        if lists.iter().all(|list| items(subset, &[list]).is_empty()) {
            let why = "must specify `addresses` or `notReadyAddresses`";
            problems.required(&field, why);
        }
        for list in lists {
            for (m, one) in items(subset, &[list]).iter().enumerate() {
                address(one, &format!("{field}.{list}[{m}]"), problems);
            }
        }
        let ports = items(subset, &["ports"]);
        for (m, one) in ports.iter().enumerate() {
            port(
                one,
                ports.len() > 1,
                &format!("{field}.ports[{m}]"),
                problems,
            );
        }
    }
}

fn address(address: &Value, field: &str, problems: &mut Problems) {
    let ip = format!("{field}.ip");
    match text(address, &["ip"]).parse::<IpAddr>() {
        Ok(parsed) => ordinary(parsed, &ip, &address["ip"], problems),
        Err(_) => pod_host::address(&address["ip"], &ip, problems),
    }
    place(address, field, problems);
}

/// The name and the node of an address, here and in EndpointSlices.
pub(super) fn place(address: &Value, field: &str, problems: &mut Problems) {
    let hostname = text(address, &["hostname"]);
    if !hostname.is_empty() {
        for why in names::dns1123_label(hostname) {
            problems.invalid(&format!("{field}.hostname"), &hostname.into(), &why);
        }
    }
    if let Some(node) = at(address, &["nodeName"]).and_then(Value::as_str) {
        for why in names::dns1123_subdomain(node) {
            problems.invalid(&format!("{field}.nodeName"), &node.into(), &why);
        }
    }
}

fn port(port: &Value, named: bool, field: &str, problems: &mut Problems) {
    let name = text(port, &["name"]);
    if name.is_empty() && named {
        problems.required(&format!("{field}.name"), "");
    }
    name_of_port(name, field, problems);
    let number = port["port"].as_i64().unwrap_or(0);
    port_number(number, &format!("{field}.port"), problems);
    // An empty one is the default.
    if !text(port, &["protocol"]).is_empty() {
        one_of(port, "protocol", &["SCTP", "TCP", "UDP"], field, problems);
    }
    app_protocol(port, field, problems);
}

/// The name of a port, when it has one.
pub(super) fn name_of_port(name: &str, field: &str, problems: &mut Problems) {
    let whys = names::dns1123_label(name);
    for why in whys.iter().filter(|_| !name.is_empty()) {
        problems.invalid(&format!("{field}.name"), &name.into(), why);
    }
}

/// `appProtocol` of a port, here and in Services.
pub(super) fn app_protocol(port: &Value, field: &str, problems: &mut Problems) {
    if let Some(protocol) = at(port, &["appProtocol"]).and_then(Value::as_str) {
        for why in names::label_key(protocol) {
            problems.invalid(&format!("{field}.appProtocol"), &protocol.into(), &why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn slices_have_names_as_endpoints_have() {
        let slice = json!({"addressType": "IPv4",
            "endpoints": [{"addresses": ["192.0.2.1"], "hostname": "a.b", "nodeName": "N"}],
            "ports": [{"name": "A", "port": 1, "appProtocol": "a b"}]});
        let all = crate::registry::validate::said(|problems| {
            crate::registry::validate::endpoint_slice(&slice, problems);
        });
        let fields: Vec<_> = all
            .iter()
            .filter_map(|told| told.split_once(": "))
            .map(|(field, _)| field)
            .collect();
        assert_eq!(
            fields,
            [
                "endpoints[0].hostname",
                "endpoints[0].nodeName",
                "ports[0].name",
                "ports[0].appProtocol",
            ]
        );
    }

    #[test]
    fn addresses_and_ports() {
        let said = |subset: Value| {
            let object = json!({"subsets": [subset]});
            crate::registry::validate::said(|problems| endpoints(&object, problems))
        };
        let one = json!([{"ip": "192.0.2.1"}]);
        for subset in [
            json!({"addresses": one}),
            json!({"notReadyAddresses": [{"ip": "2001:db8::1", "hostname": "a-0", "nodeName": "n.example"}], "ports": [{"port": 80, "protocol": "TCP"}]}),
            json!({"addresses": one, "ports": [{"name": "a", "port": 1, "appProtocol": "kubernetes.io/h2c"}, {"name": "b", "port": 1}]}),
        ] {
            assert_eq!(said(subset.clone()), Vec::<String>::new(), "{subset}");
        }
        for (subset, expected) in [
            (
                json!({"ports": [{"port": 80}]}),
                "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
            ),
            (
                json!({"addresses": [{"ip": "name.example"}]}),
                "subsets[0].addresses[0].ip: Invalid value: \"name.example\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
            (
                json!({"addresses": [{"ip": "127.0.0.1"}]}),
                "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ),
            (
                json!({"addresses": [{"ip": "::ffff:169.254.169.254"}]}),
                "subsets[0].addresses[0].ip: Invalid value: \"::ffff:169.254.169.254\": may not be in the link-local range (169.254.0.0/16, fe80::/10)",
            ),
            (
                json!({"addresses": one, "ports": [{"port": 0}]}),
                "subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ),
            (
                json!({"addresses": one, "ports": [{"name": "a", "port": 1}, {"port": 2}]}),
                "subsets[0].ports[1].name: Required value",
            ),
            (
                json!({"addresses": one, "ports": [{"port": 1, "protocol": "ICMP"}]}),
                "subsets[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ),
        ] {
            assert_eq!(said(subset), [expected]);
        }
    }
}
