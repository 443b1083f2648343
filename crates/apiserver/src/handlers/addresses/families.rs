//! Which address families a Service has: what it asks for, what it had, and what the cluster offers, as a pure function.
//!
//! Follows KEP-563 and upstream's `pkg/registry/core/service/storage/alloc.go` (`initIPFamilyFields`): nothing is added to or
//! taken from a Service unless it says so by its policy.

use serde_json::{Value, json};

use crate::object::{items, text};
use crate::registry::Problems;

pub const IPV4: &str = "IPv4";
pub const IPV6: &str = "IPv6";

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// Completes `ipFamilyPolicy` and `ipFamilies` of a Service that is about to be written, and cuts a second address that it
/// gives up. `offered`: the cluster's families, the usual one first.
pub fn settle(service: &mut Value, old: Option<&Value>, offered: &[&str]) -> Result<(), Problems> {
    if text(service, &["spec", "type"]) == "ExternalName" {
        return Ok(());
    }
    let old = old.filter(|old| text(old, &["spec", "type"]) != "ExternalName");
    if old.is_some_and(|old| is_as_before(service, old)) {
        return Ok(());
    }
    let headless = service["spec"]["clusterIP"] == "None";
    let chosen = service["spec"]["selector"]
        .as_object()
        .is_some_and(|selector| !selector.is_empty());
    if text(service, &["spec", "ipFamilyPolicy"]).is_empty() {
        let before = old.map(|old| text(old, &["spec", "ipFamilyPolicy"]));
        let policy = match before {
            Some(before) if !before.is_empty() => before,
            // Whoever lists its endpoints may list any.
            _ if headless && !chosen => REQUIRE,
            _ => SINGLE,
        };
        service["spec"]["ipFamilyPolicy"] = policy.into();
    }
    let policy = text(service, &["spec", "ipFamilyPolicy"]).to_owned();
    let mut problems = Problems::default();
    if let Some(old) = old {
        give_up(service, old, &policy, &mut problems);
    }
    for (key, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
        if policy == SINGLE && items(service, &["spec", key]).len() == 2 {
            let why = format!(
                "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
            );
            problems.invalid("spec.ipFamilyPolicy", &policy.as_str().into(), &why);
        }
    }
    let mut families: Vec<Value> = items(service, &["spec", "ipFamilies"]).to_vec();
    let addresses = items(service, &["spec", "clusterIPs"]).to_vec();
    for (n, address) in addresses.iter().enumerate().skip(families.len()) {
        let address = address.as_str().unwrap_or_default();
        if address == "None" {
            break;
        }
        let family = if address.contains(':') { IPV6 } else { IPV4 };
        if offered.contains(&family) {
            families.push(family.into());
        } else {
            let field = format!("spec.clusterIPs[{n}]");
            let why = format!("{family} is not configured on this cluster");
            problems.invalid(&field, &json!(addresses), &why);
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let free = headless && !chosen;
    if !free {
        if policy == REQUIRE && offered.len() < 2 {
            let why = "this cluster is not configured for dual-stack services";
            problems.invalid("spec.ipFamilyPolicy", &policy.as_str().into(), why);
        }
        for (n, family) in families.iter().enumerate() {
            if !offered.iter().any(|offered| family == offered) {
                let field = format!("spec.ipFamilies[{n}]");
                problems.invalid(&field, family, "not configured on this cluster");
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
    }
    if families.is_empty() {
        families.push(offered.first().copied().unwrap_or(IPV4).into());
    }
    if policy != SINGLE && families.len() == 1 && (free || offered.len() == 2) {
        families.push(if families[0] == IPV4 { IPV6 } else { IPV4 }.into());
    }
    service["spec"]["ipFamilies"] = families.into();
    Ok(())
}

/// A Service that prefers both families keeps those that it has when the cluster gains or loses one.
fn is_as_before(service: &Value, old: &Value) -> bool {
    let same = |key: &str| service["spec"][key] == old["spec"][key];
    text(service, &["spec", "ipFamilyPolicy"]) == PREFER
        && same("ipFamilyPolicy")
        && same("ipFamilies")
        && same("clusterIPs")
}

/// An update to one family lets the second one go, when nothing else is said; with any other policy that is an error.
fn give_up(service: &mut Value, old: &Value, policy: &str, problems: &mut Problems) {
    for (key, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let before = items(old, &["spec", key]).to_vec();
        let now = items(service, &["spec", key]).to_vec();
        if policy == SINGLE {
            if now == before && now.len() > 1 {
                service["spec"][key] = json!([now[0]]);
            }
        } else if !now.is_empty() && now.len() < before.len() && now[..] == before[..now.len()] {
            let why = format!("must be 'SingleStack' to release the secondary {what}");
            problems.invalid("spec.ipFamilyPolicy", &policy.into(), &why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [&str; 2] = [IPV4, IPV6];

    /// `POLICY FAMILY FAMILY | ADDRESS ADDRESS`, or the complaints.
    fn settled(spec: Value, old: Option<Value>, offered: &[&str]) -> String {
        let wrapped = |spec: Value| json!({ "spec": spec });
        let mut service = wrapped(spec);
        let old = old.map(wrapped);
        match settle(&mut service, old.as_ref(), offered) {
            Err(problems) => problems
                .0
                .iter()
                .map(|cause| format!("{}: {}", cause.field, cause.message))
                .collect::<Vec<_>>()
                .join("; "),
            Ok(()) => {
                let list = |key: &str| {
                    let all = items(&service, &["spec", key]).iter();
                    all.filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
                };
                let policy = text(&service, &["spec", "ipFamilyPolicy"]);
                let line = format!("{policy} {} | {}", list("ipFamilies"), list("clusterIPs"));
                line.trim().to_owned()
            }
        }
    }

    #[test]
    fn a_new_service_gets_what_it_asks_for_and_the_cluster_has() {
        let web = |more: Value| {
            let mut spec = json!({ "type": "ClusterIP", "selector": { "app": "web" } });
            for (key, value) in more.as_object().expect("fields") {
                spec[key] = value.clone();
            }
            spec
        };
        let cases = [
            (json!({}), &BOTH[..], "SingleStack IPv4 |"),
            (json!({}), &BOTH[..1], "SingleStack IPv4 |"),
            (
                json!({ "ipFamilies": ["IPv6"] }),
                &BOTH,
                "SingleStack IPv6 |",
            ),
            (
                json!({ "ipFamilyPolicy": "PreferDualStack" }),
                &BOTH,
                "PreferDualStack IPv4 IPv6 |",
            ),
            (
                json!({ "ipFamilyPolicy": "PreferDualStack" }),
                &BOTH[..1],
                "PreferDualStack IPv4 |",
            ),
            (
                json!({ "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"] }),
                &BOTH,
                "RequireDualStack IPv6 IPv4 |",
            ),
            (
                json!({ "ipFamilyPolicy": "RequireDualStack" }),
                &BOTH[..1],
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
            ),
            (
                json!({ "ipFamilies": ["IPv6"] }),
                &BOTH[..1],
                "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
            ),
            (
                json!({ "ipFamilies": ["IPv6", "IPv4"] }),
                &BOTH,
                "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
            ),
            (
                json!({ "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"] }),
                &BOTH,
                "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified",
            ),
            (
                json!({ "clusterIP": "fd00::1", "clusterIPs": ["fd00::1"] }),
                &BOTH,
                "SingleStack IPv6 | fd00::1",
            ),
            (
                json!({ "clusterIP": "fd00::1", "clusterIPs": ["fd00::1"] }),
                &BOTH[..1],
                "spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this cluster",
            ),
            (
                json!({ "clusterIP": "None", "clusterIPs": ["None"] }),
                &BOTH,
                "SingleStack IPv4 | None",
            ),
            // Nobody but its maker knows the endpoints: any family may come.
            (
                json!({ "clusterIP": "None", "clusterIPs": ["None"], "selector": {} }),
                &BOTH[..1],
                "RequireDualStack IPv4 IPv6 | None",
            ),
            (
                json!({ "clusterIP": "None", "clusterIPs": ["None"], "selector": {}, "ipFamilyPolicy": "SingleStack" }),
                &BOTH,
                "SingleStack IPv4 | None",
            ),
            (json!({ "type": "ExternalName" }), &BOTH, "|"),
        ];
        for (more, offered, expected) in cases {
            assert_eq!(
                settled(web(more.clone()), None, offered),
                expected,
                "{more}"
            );
        }
    }

    #[test]
    fn an_update_moves_between_one_and_two_only_when_it_says_so() {
        let spec = |policy: &str, families: &[&str], ips: &[&str]| {
            let mut spec = json!({ "type": "ClusterIP", "selector": { "app": "web" } });
            if !policy.is_empty() {
                spec["ipFamilyPolicy"] = policy.into();
            }
            if !families.is_empty() {
                spec["ipFamilies"] = json!(families);
            }
            if let Some(first) = ips.first() {
                spec["clusterIP"] = json!(first);
                spec["clusterIPs"] = json!(ips);
            }
            spec
        };
        let (one, two) = (["10.0.0.1"], ["10.0.0.1", "fd00::1"]);
        let single = spec(SINGLE, &[IPV4], &one);
        let dual = spec(PREFER, &BOTH, &two);
        let cases = [
            (
                &single,
                spec(PREFER, &[IPV4], &one),
                "PreferDualStack IPv4 IPv6 | 10.0.0.1",
            ),
            (&single, spec("", &[], &one), "SingleStack IPv4 | 10.0.0.1"),
            (
                &dual,
                spec("", &[], &two),
                "PreferDualStack IPv4 IPv6 | 10.0.0.1 fd00::1",
            ),
            (
                &dual,
                spec(SINGLE, &BOTH, &two),
                "SingleStack IPv4 | 10.0.0.1",
            ),
            (
                &dual,
                spec(SINGLE, &[IPV4], &one),
                "SingleStack IPv4 | 10.0.0.1",
            ),
            (
                &dual,
                spec(PREFER, &BOTH, &one),
                "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary cluster IP",
            ),
            (
                &dual,
                spec(REQUIRE, &[IPV4], &two),
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary IP family",
            ),
            // One that prefers both and has one stays so until it is asked to move.
            (
                &spec(PREFER, &[IPV4], &one),
                spec(PREFER, &[IPV4], &one),
                "PreferDualStack IPv4 | 10.0.0.1",
            ),
            (
                &json!({ "type": "ExternalName" }),
                spec("", &[], &[]),
                "SingleStack IPv4 |",
            ),
        ];
        for (old, new, expected) in cases {
            assert_eq!(
                settled(new.clone(), Some(old.clone()), &BOTH),
                expected,
                "{old} {new}"
            );
        }
        // The cluster has lost a family: who had both keeps both as long as nothing is changed.
        let kept = settled(dual.clone(), Some(dual.clone()), &BOTH[..1]);
        assert_eq!(kept, "PreferDualStack IPv4 IPv6 | 10.0.0.1 fd00::1");
    }
}
