//! Validation of the fields that say which address families a Service has.

use std::net::IpAddr;

use serde_json::Value;

use super::Problems;
use crate::object::{items, text};

const FAMILIES: &[&str] = &["IPv4", "IPv6"];
const POLICIES: &[&str] = &["PreferDualStack", "RequireDualStack", "SingleStack"];

/// What the fields say by themselves (upstream `ValidateServiceClusterIPsRelatedFields`).
pub fn fields(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    if spec["type"] == "ExternalName" {
        return;
    }
    let first = text(spec, &["clusterIP"]);
    let addresses = items(spec, &["clusterIPs"]);
    let families = items(spec, &["ipFamilies"]);
    let mut wrong = |field: &str, value: &Value, why: &str| problems.invalid(field, value, why);
    if first.is_empty() && !addresses.is_empty() {
        let why = "must be empty when `clusterIP` is not specified";
        wrong("spec.clusterIPs", &spec["clusterIPs"], why);
    }
    if !first.is_empty() && addresses.first().is_some_and(|one| one != first) {
        let why = "first value must match `clusterIP`";
        wrong("spec.clusterIPs", &spec["clusterIPs"], why);
    }
    super::one_of(spec, "ipFamilyPolicy", POLICIES, "spec", problems);
    for (n, family) in families.iter().enumerate() {
        let field = format!("spec.ipFamilies[{n}]");
        if !FAMILIES.iter().any(|known| family == known) {
            problems.not_supported(&field, family, FAMILIES);
        }
        if families[..n].contains(family) {
            problems.duplicate(&field, family);
        }
    }
    let mut parsed = Vec::new();
    for (n, address) in addresses.iter().enumerate() {
        if address == "None" && n == 0 {
            if addresses.len() > 1 {
                let why = "'None' must be the first and only value";
                problems.invalid("spec.clusterIPs", &spec["clusterIPs"], why);
                return;
            }
            continue;
        }
        match address
            .as_str()
            .and_then(|text| text.parse::<IpAddr>().ok())
        {
            Some(address) => parsed.push(address),
            None => problems.invalid(
                &format!("spec.clusterIPs[{n}]"),
                address,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
        }
    }
    if addresses.len() > 2 {
        let why = "may only hold up to 2 values";
        problems.invalid("spec.clusterIPs", &spec["clusterIPs"], why);
    }
    if parsed.len() != addresses.len() {
        return;
    }
    if let [one, other, ..] = parsed[..]
        && one.is_ipv4() == other.is_ipv4()
    {
        let why = "may specify no more than one IP for each IP family";
        problems.invalid("spec.clusterIPs", &spec["clusterIPs"], why);
    }
    for (n, (address, family)) in parsed.iter().zip(families).enumerate() {
        let own = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        if let Some(family) = family.as_str().filter(|family| FAMILIES.contains(family))
            && family != own
        {
            let why = format!("expected an {family} value as indicated by `ipFamilies[{n}]`");
            problems.invalid(&format!("spec.clusterIPs[{n}]"), &addresses[n], &why);
        }
    }
}

/// The first address and family stay; the second may be released by a policy that says so, or added.
pub fn update(new: &Value, old: &Value, problems: &mut Problems) {
    let headless = |service: &Value| service["spec"]["clusterIP"] == "None";
    let (before, after) = (headless(old), headless(new));
    if !(before && after) {
        list(new, old, "clusterIPs", "clusterIP", problems);
    }
    if !before && !after {
        list(new, old, "ipFamilies", "ipFamily", problems);
    }
}

fn list(new: &Value, old: &Value, key: &str, one: &str, problems: &mut Problems) {
    let (now, before) = (items(new, &["spec", key]), items(old, &["spec", key]));
    let shown = &new["spec"][key];
    let mut changed = |n: usize| {
        problems.invalid(
            &format!("spec.{key}[{n}]"),
            shown,
            "may not change once set",
        );
    };
    if now.len() == before.len() {
        (0..now.len())
            .filter(|n| now[*n] != before[*n])
            .for_each(changed);
        return;
    }
    if let (Some(now), Some(before)) = (now.first(), before.first())
        && now != before
    {
        changed(0);
    }
    if now.len() < before.len() {
        if now.is_empty() {
            let why = format!("primary {one} can not be unset");
            problems.invalid(&format!("spec.{key}[0]"), shown, &why);
        } else if new["spec"]["ipFamilyPolicy"] != "SingleStack" {
            let why = format!("must be set to 'SingleStack' when releasing the secondary {one}");
            problems.invalid("spec.ipFamilyPolicy", &new["spec"]["ipFamilyPolicy"], &why);
        }
    }
}
