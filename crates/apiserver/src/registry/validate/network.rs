//! Validation of Services and EndpointSlices.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::{Problems, endpoints, labels, names, one_of, port_number};
use crate::object::{items, text};

mod families;
mod traffic;

pub use traffic::{is_asked_for_its_health, is_reached_from_outside};

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
/// Upstream's limits on an EndpointSlice.
const ENDPOINTS_MAX: usize = 1000;
const PORTS_MAX: usize = 20_000;

/// What a Service says of its address families, as far as it makes sense by itself.
pub fn service_families(object: &Value, problems: &mut Problems) {
    families::fields(object, problems);
}

pub fn service(object: &Value, problems: &mut Problems) {
    service_families(object, problems);
    traffic::fields(object, problems);
    let spec = &object["spec"];
    one_of(spec, "type", TYPES, "spec", problems);
    one_of(
        spec,
        "sessionAffinity",
        &["ClientIP", "None"],
        "spec",
        problems,
    );
    one_of(
        spec,
        "internalTrafficPolicy",
        &["Cluster", "Local"],
        "spec",
        problems,
    );
    one_of(
        spec,
        "externalTrafficPolicy",
        &["Cluster", "Local"],
        "spec",
        problems,
    );
    labels(spec.get("selector"), "spec.selector", problems);
    let kind = text(spec, &["type"]);
    let headless = spec["clusterIP"] == "None";
    let ports = items(spec, &["ports"]);
    if ports.is_empty() && !headless && kind != "ExternalName" {
        problems.required("spec.ports", "");
    }
    if kind == "ExternalName" {
        let name = text(spec, &["externalName"]);
        if name.is_empty() {
            problems.required("spec.externalName", "");
        }
        for why in names::dns1123_subdomain(name.trim_end_matches('.'))
            .into_iter()
            .filter(|_| !name.is_empty())
        {
            problems.invalid("spec.externalName", &name.into(), &why);
        }
        if !matches!(text(spec, &["clusterIP"]), "" | "None") {
            problems.forbidden(
                "spec.clusterIPs[0]",
                "may not be set when `type` is 'ExternalName'",
            );
        }
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            let set = spec[key]
                .as_array()
                .map_or(spec[key].is_string(), |list| !list.is_empty());
            if set {
                let why = "may not be set when `type` is 'ExternalName'";
                problems.forbidden(&format!("spec.{key}"), why);
            }
        }
    }
    if headless && matches!(kind, "NodePort" | "LoadBalancer") {
        problems.invalid(
            "spec.clusterIPs[0]",
            &"None".into(),
            &format!("may not be set to 'None' for {kind} services"),
        );
    }
    let (mut port_names, mut numbers) = (HashSet::new(), HashSet::new());
    let mut node_ports = HashSet::new();
    for (n, port) in ports.iter().enumerate() {
        let field = format!("spec.ports[{n}]");
        let name = text(port, &["name"]);
        if name.is_empty() {
            if ports.len() > 1 {
                problems.required(&format!("{field}.name"), "");
            }
        } else {
            for why in names::dns1123_label(name) {
                problems.invalid(&format!("{field}.name"), &name.into(), &why);
            }
            if !port_names.insert(name) {
                problems.duplicate(&format!("{field}.name"), &name.into());
            }
        }
        let number = port["port"].as_i64().unwrap_or(0);
        port_number(number, &format!("{field}.port"), problems);
        one_of(port, "protocol", PROTOCOLS, &field, problems);
        if port["protocol"] == "SCTP" {
            problems.invalid(
                &format!("{field}.protocol"),
                &port["protocol"],
                "services forward TCP and UDP here, not SCTP",
            );
        }
        let node_port = port["nodePort"].as_u64().unwrap_or(0);
        if node_port != 0 && matches!(kind, "ClusterIP" | "ExternalName") {
            problems.forbidden(
                &format!("{field}.nodePort"),
                &format!("may not be used when `type` is '{kind}'"),
            );
        }
        if node_port != 0 && !node_ports.insert((node_port, text(port, &["protocol"]))) {
            problems.duplicate(&format!("{field}.nodePort"), &node_port.into());
        }
        match &port["targetPort"] {
            Value::Number(target) => port_number(
                target.as_i64().unwrap_or(0),
                &format!("{field}.targetPort"),
                problems,
            ),
            Value::String(target) => {
                for why in names::port_name(target) {
                    problems.invalid(
                        &format!("{field}.targetPort"),
                        &target.as_str().into(),
                        &why,
                    );
                }
            }
            _ => {}
        }
        if !numbers.insert((number, text(port, &["protocol"]))) {
            problems.duplicate(&field, port);
        }
    }
    for (n, address) in items(spec, &["externalIPs"]).iter().enumerate() {
        let field = format!("spec.externalIPs[{n}]");
        match address.as_str().and_then(|a| a.parse::<IpAddr>().ok()) {
            Some(parsed) => ordinary(parsed, &field, address, problems),
            None => problems.invalid(
                &field,
                address,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
        }
    }
    for (n, range) in items(spec, &["loadBalancerSourceRanges"])
        .iter()
        .enumerate()
    {
        let field = format!("spec.loadBalancerSourceRanges[{n}]");
        if kind != "LoadBalancer" {
            let why = "may only be used when `type` is 'LoadBalancer'";
            problems.forbidden("spec.loadBalancerSourceRanges", why);
            break;
        }
        let parsed = range.as_str().and_then(|r| r.trim().parse::<IpNet>().ok());
        if parsed.is_none() {
            problems.invalid(
                &field,
                range,
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            );
        }
    }
    if let Some(seconds) = spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].as_i64()
        && !(1..=86400).contains(&seconds)
    {
        problems.invalid(
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            &seconds.into(),
            "must be greater than 0 and less than 86400",
        );
    }
}

/// The first cluster address and family of a Service stay what they were; a second one may come and go.
pub fn service_update(new: &Value, old: &Value, problems: &mut Problems) {
    traffic::update(new, old, problems);
    if text(new, &["spec", "type"]) == "ExternalName"
        || text(old, &["spec", "type"]) == "ExternalName"
    {
        return;
    }
    families::update(new, old, problems);
}

pub fn endpoint_slice(object: &Value, problems: &mut Problems) {
    let kind = text(object, &["addressType"]);
    if kind.is_empty() {
        problems.required("addressType", "");
    } else {
        one_of(
            object,
            "addressType",
            &["FQDN", "IPv4", "IPv6"],
            "",
            problems,
        );
    }
    let all = items(object, &["endpoints"]);
    if all.len() > ENDPOINTS_MAX {
        problems
            .0
            .push(too_many("endpoints", all.len(), ENDPOINTS_MAX));
    }
    for (n, endpoint) in all.iter().enumerate() {
        endpoints::place(endpoint, &format!("endpoints[{n}]"), problems);
        let addresses = items(endpoint, &["addresses"]);
        if addresses.is_empty() {
            problems.required(
                &format!("endpoints[{n}].addresses"),
                "must contain at least 1 address",
            );
        }
        for (m, address) in addresses.iter().enumerate() {
            let field = format!("endpoints[{n}].addresses[{m}]");
            let parsed = address.as_str().and_then(|a| a.parse::<IpAddr>().ok());
            match kind {
                "IPv4" if !parsed.is_some_and(|a| a.is_ipv4()) => {
                    problems.invalid(&field, address, "must be a valid IPv4 address")
                }
                "IPv6" if !parsed.is_some_and(|a| a.is_ipv6()) => {
                    problems.invalid(&field, address, "must be a valid IPv6 address")
                }
                _ => {}
            }
            if let Some(parsed) = parsed {
                ordinary(parsed, &field, address, problems);
            }
        }
    }
    let ports = items(object, &["ports"]);
    if ports.len() > PORTS_MAX {
        problems.0.push(too_many("ports", ports.len(), PORTS_MAX));
    }
    let mut seen = HashSet::new();
    for (n, port) in ports.iter().enumerate() {
        let name = text(port, &["name"]);
        if !seen.insert(name) {
            problems.duplicate(&format!("ports[{n}].name"), &name.into());
        }
        let field = format!("ports[{n}]");
        endpoints::name_of_port(name, &field, problems);
        endpoints::app_protocol(port, &field, problems);
        one_of(port, "protocol", PROTOCOLS, &field, problems);
    }
}

/// Addresses that mean something else on every machine lead nowhere good (upstream `ValidateNonSpecialIP`): a service
/// to 127.0.0.1 would open what listens on loopback only.
pub(super) fn ordinary(address: IpAddr, field: &str, shown: &Value, problems: &mut Problems) {
    // An IPv4 address in IPv6's clothes leads where the IPv4 address leads.
    let address = address.to_canonical();
    let (link_local, local_multicast) = match address {
        IpAddr::V4(a) => (a.is_link_local(), a.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(a) => (
            a.segments()[0] & 0xffc0 == 0xfe80,
            a.segments()[0] & 0xff0f == 0xff02,
        ),
    };
    let mut wrong = |why: &str| problems.invalid(field, shown, why);
    if address.is_unspecified() {
        wrong("may not be unspecified (0.0.0.0 or ::)");
    }
    if address.is_loopback() {
        wrong("may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    if link_local {
        wrong("may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if local_multicast {
        wrong("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

fn too_many(field: &str, count: usize, limit: usize) -> crate::status::Cause {
    crate::status::Cause {
        reason: "FieldValueTooMany",
        message: format!("Too many: {count}: must have at most {limit} items"),
        field: field.into(),
    }
}

pub fn endpoint_slice_update(new: &Value, old: &Value, problems: &mut Problems) {
    if new["addressType"] != old["addressType"] {
        problems.invalid("addressType", &new["addressType"], "field is immutable");
    }
}
