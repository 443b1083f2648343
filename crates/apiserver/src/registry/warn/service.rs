//! What a Service is warned of.

use std::net::IpAddr;

use serde_json::Value;

use crate::object::{items, text};

pub(super) fn warnings(object: &Value, warnings: &mut Vec<String>) {
    let spec = &object["spec"];
    let kind = text(spec, &["type"]);
    let external_name = kind == "ExternalName";
    let headless = kind == "ClusterIP" && spec["clusterIP"] == "None";
    let external = items(spec, &["externalIPs"]);
    let hints = "service.kubernetes.io/topology-aware-hints";
    if object["metadata"]["annotations"][hints].is_string() {
        warnings.push(format!("annotation {hints} is deprecated, please use service.kubernetes.io/topology-mode instead"));
    }
    if !headless {
        addresses(spec, "clusterIPs", warnings);
    }
    if headless {
        let said = [
            (
                "loadBalancerIP",
                !text(spec, &["loadBalancerIP"]).is_empty(),
            ),
            ("externalIPs", !external.is_empty()),
            ("SessionAffinity", spec["sessionAffinity"] != "None"),
        ];
        for (field, _) in said.iter().filter(|(_, said)| *said) {
            warnings.push(format!("spec.{field} is ignored for headless services"));
        }
    }
    addresses(spec, "externalIPs", warnings);
    if !external.is_empty() && !headless && !external_name {
        warnings.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
                .into(),
        );
    }
    let balancer = text(spec, &["loadBalancerIP"]);
    warnings.extend(address(balancer, "spec.loadBalancerIP"));
    if external_name && !external.is_empty() {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if !external_name && !text(spec, &["externalName"]).is_empty() {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    if spec["trafficDistribution"] == "PreferClose" {
        warnings.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\""
                .into(),
        );
    }
}

fn addresses(spec: &Value, field: &str, warnings: &mut Vec<String>) {
    for (i, one) in items(spec, &[field]).iter().enumerate() {
        let one = one.as_str().unwrap_or_default();
        warnings.extend(address(one, &format!("spec.{field}[{i}]")));
    }
}

/// Of an address that is written in another way than is usual.
fn address(given: &str, path: &str) -> Option<String> {
    match given.parse::<IpAddr>().ok()? {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => {
            let usual = address.to_ipv4_mapped()?;
            Some(format!(
                "{path}: non-standard IP address {given:?} will be considered invalid in a future Kubernetes release: use \"{usual}\""
            ))
        }
        IpAddr::V6(address) if address.to_string() != given => Some(format!(
            "{path}: IPv6 address {given:?} should be in RFC 5952 canonical format (\"{address}\")"
        )),
        _ => None,
    }
}
