//! Validation of IPAddresses and ServiceCIDRs (upstream `pkg/apis/networking/validation`).

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::{Problems, names};
use crate::object::{at, items, text};

const ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const RANGE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

pub fn ip_address(object: &Value, problems: &mut Problems) {
    let name = text(object, &["metadata", "name"]);
    match name.parse::<IpAddr>() {
        Err(_) => problems.invalid("metadata.name", &name.into(), ADDRESS),
        Ok(address) if address.to_string() != name => {
            let why = format!("must be in canonical form (\"{address}\")");
            problems.invalid("metadata.name", &name.into(), &why);
        }
        Ok(_) => {}
    }
    let field = "spec.parentRef";
    let Some(parent) = at(object, &["spec", "parentRef"]) else {
        problems.required(field, "");
        return;
    };
    for key in ["resource", "name"] {
        if text(parent, &[key]).is_empty() {
            problems.required(&format!("{field}.{key}"), "");
        }
    }
    let group = text(parent, &["group"]);
    if !group.is_empty() {
        for why in names::dns1123_subdomain(group) {
            problems.invalid(&format!("{field}.group"), &group.into(), &why);
        }
    }
    let namespace = text(parent, &["namespace"]);
    if !namespace.is_empty() {
        for why in names::path_segment(namespace) {
            problems.invalid(&format!("{field}.namespace"), &namespace.into(), &why);
        }
    }
}

pub fn ip_address_update(new: &Value, old: &Value, problems: &mut Problems) {
    if new["spec"]["parentRef"] != old["spec"]["parentRef"] {
        let given = &new["spec"]["parentRef"];
        problems.invalid("spec.parentRef", given, "field is immutable");
    }
}

pub fn service_cidr(object: &Value, problems: &mut Problems) {
    let field = "spec.cidrs";
    let given = items(object, &["spec", "cidrs"]);
    if given.is_empty() {
        problems.required(field, "at least one CIDR required");
        return;
    }
    if given.len() > 2 {
        problems.invalid(field, &json!(given), "may only hold up to 2 values");
        return;
    }
    let mut families = Vec::new();
    for (n, range) in given.iter().enumerate() {
        let parsed = range.as_str().and_then(|text| text.parse::<IpNet>().ok());
        match parsed {
            Some(net) if net.trunc() == net => families.push(net.addr().is_ipv6()),
            _ => problems.invalid(&format!("{field}[{n}]"), range, RANGE),
        }
    }
    if matches!(families[..], [a, b] if a == b) {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        problems.invalid(field, &json!(given), why);
    }
}

pub fn service_cidr_update(new: &Value, old: &Value, problems: &mut Problems) {
    let (new, old) = (
        items(new, &["spec", "cidrs"]),
        items(old, &["spec", "cidrs"]),
    );
    // a second family may be added
    let grows = old.len() == 1 && new.len() == 2 && new[0] == old[0];
    if new != old && !grows {
        problems.invalid("spec.cidrs", &json!(new), "field is immutable");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::validate::said;

    #[test]
    fn addresses() {
        let object = |name: &str, parent: Value| json!({"metadata": {"name": name}, "spec": {"parentRef": parent}});
        let parent = json!({"resource": "services", "name": "s", "namespace": "n"});
        assert_eq!(
            said(|p| ip_address(&object("2001:db8::1", parent.clone()), p)),
            [""; 0]
        );
        assert_eq!(
            said(|p| ip_address(&object("2001:DB8::1", json!({"name": "s"})), p)),
            [
                "metadata.name: Invalid value: \"2001:DB8::1\": must be in canonical form (\"2001:db8::1\")",
                "spec.parentRef.resource: Required value"
            ]
        );
        assert_eq!(said(|p| ip_address(&object("x", Value::Null), p)).len(), 2);
    }

    #[test]
    fn ranges() {
        let object = |ranges: &[&str]| json!({"spec": {"cidrs": ranges}});
        for (ranges, problems) in [
            (&["10.0.0.0/24"][..], 0),
            (&["10.0.0.0/24", "fd00::/112"], 0),
            (&["10.0.0.0/24", "10.1.0.0/24"], 1),
            (&["10.0.0.1/24"], 1),
            (&["a", "b", "c"], 1),
            (&[], 1),
        ] {
            let said = said(|p| service_cidr(&object(ranges), p));
            assert_eq!(said.len(), problems, "{said:?}");
        }
        let (one, two) = (
            object(&["10.0.0.0/24"]),
            object(&["10.0.0.0/24", "fd00::/112"]),
        );
        assert_eq!(said(|p| service_cidr_update(&two, &one, p)), [""; 0]);
        assert_eq!(said(|p| service_cidr_update(&one, &two, p)).len(), 1);
    }
}
