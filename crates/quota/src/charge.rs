//! Whether a namespace's quotas leave room for an object, and what each is charged for it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use crate::usage::{concerns, of, of_resources};
use crate::{Amounts, Quantity, add, amounts, at, items, scope, text};

/// Which object is written.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// API group; empty for the core group.
    pub group: &'a str,
    /// `pods`.
    pub plural: &'a str,
    /// As it will be.
    pub object: &'a Value,
    /// As it was; nothing for a new one.
    pub old: Option<&'a Value>,
    /// Tells whether pods that are being deleted still count.
    pub now: Timestamp,
}

/// A quota's number in the list, and what it is charged.
pub type Charge = (usize, Amounts);

/// Pods that a quota limits in these must say how much of them each container takes.
const MUST_SAY: [&str; 6] = [
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];

/// What each quota (whole objects; what their status says holds) is charged for the request. An error is why it is refused,
/// in upstream's words.
pub fn charges(quotas: &[Value], request: &Request<'_>) -> Result<Vec<Charge>, String> {
    let Request { group, plural, .. } = *request;
    if let Some(old) = request.old
        && !is_charged(request, old)
    {
        return Ok(Vec::new());
    }
    let mut interested = Vec::new();
    for (n, quota) in quotas.iter().enumerate() {
        if !covers(quota, request, request.object) {
            continue;
        }
        let name = text(quota, &["metadata", "name"]);
        let limited = limited(quota, group, plural);
        if group.is_empty() && plural == "pods" {
            must_say(&limited, request.object)
                .map_err(|why| format!("failed quota: {name}: {why}"))?;
        }
        let used = &quota["status"]["used"];
        if limited
            .iter()
            .any(|resource| at(used, &[resource]).is_none())
        {
            let resources: Vec<&str> = limited.iter().map(String::as_str).collect();
            return Err(format!(
                "status unknown for quota: {name}, resources: {}",
                resources.join(",")
            ));
        }
        interested.push((n, quota, name));
    }
    if interested.is_empty() {
        return Ok(Vec::new());
    }
    let usage = of(group, plural, request.object, request.now);
    let negative: Vec<&str> = usage
        .iter()
        .filter(|(_, amount)| amount.sign() < 0)
        .map(|(name, _)| name.as_str())
        .collect();
    if !negative.is_empty() {
        return Err(format!(
            "quota usage is negative for resource(s): {}",
            negative.join(",")
        ));
    }
    let mut charges = Vec::new();
    for (n, quota, name) in interested {
        let before = request.old.filter(|old| covers(quota, request, old));
        let before = before.map(|old| of(group, plural, old, request.now));
        let hard = amounts(&quota["status"]["hard"]);
        let mut delta = usage.clone();
        delta.retain(|resource, amount| {
            let had = before.as_ref().and_then(|before| before.get(resource));
            *amount -= had.copied().unwrap_or(Quantity::ZERO);
            amount.sign() > 0 && hard.contains_key(resource)
        });
        if delta.is_empty() {
            continue;
        }
        fits(name, &delta, &amounts(&quota["status"]["used"]), &hard)?;
        charges.push((n, delta));
    }
    Ok(charges)
}

/// Whether a change of an object is charged: of pods only a resize, and what makes one count for other quotas.
fn is_charged(request: &Request<'_>, old: &Value) -> bool {
    let Request {
        group,
        plural,
        object,
        now,
        ..
    } = *request;
    match (group, plural) {
        ("", "services" | "persistentvolumeclaims") => true,
        ("", "pods") => {
            let ends = |pod: &Value| pod["spec"]["activeDeadlineSeconds"].is_i64();
            ends(object) != ends(old)
                || of(group, plural, object, now) != of(group, plural, old, now)
        }
        _ => false,
    }
}

/// Adds a charge to what the quota says is used.
pub fn apply(quota: &mut Value, charge: &Amounts) {
    let mut used = amounts(&quota["status"]["used"]);
    add(&mut used, charge);
    quota["status"]["used"] = crate::to_value(&used);
}

/// Takes a charge back, down to nothing.
pub fn take_back(quota: &mut Value, charge: &Amounts) {
    let mut used = amounts(&quota["status"]["used"]);
    for (name, amount) in charge {
        if let Some(have) = used.get_mut(name) {
            let left = *have - *amount;
            *have = if left.sign() < 0 {
                Quantity::ZERO
            } else {
                left
            };
        }
    }
    quota["status"]["used"] = crate::to_value(&used);
}

/// What the quota's status limits of what such objects may use.
fn limited(quota: &Value, group: &str, plural: &str) -> BTreeSet<String> {
    let hard = quota["status"]["hard"].as_object();
    let names = hard.into_iter().flat_map(|hard| hard.keys());
    names
        .filter(|name| concerns(group, plural, name))
        .cloned()
        .collect()
}

fn covers(quota: &Value, request: &Request<'_>, object: &Value) -> bool {
    let Request { group, plural, .. } = *request;
    if limited(quota, group, plural).is_empty() {
        return false;
    }
    let wanted = scope::of_quota(quota);
    wanted.is_empty() || group.is_empty() && scope::contain(&wanted, plural, object)
}

fn must_say(limited: &BTreeSet<String>, pod: &Value) -> Result<(), String> {
    let spec = &pod["spec"];
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let said = |resources: &Value| {
        of_resources(
            &amounts(&resources["requests"]),
            &amounts(&resources["limits"]),
        )
    };
    let of_pod = said(&spec["resources"]);
    let containers = items(spec, &["containers"]).iter();
    for container in containers.chain(items(spec, &["initContainers"])) {
        let said = said(&container["resources"]);
        for resource in MUST_SAY {
            if limited.contains(resource)
                && !said.contains_key(resource)
                && !of_pod.contains_key(resource)
            {
                let names = missing.entry(resource).or_default();
                names.insert(text(container, &["name"]));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = missing
        .iter()
        .map(|(resource, containers)| {
            let containers: Vec<&str> = containers.iter().copied().collect();
            format!("{resource} for: {}", containers.join(","))
        })
        .collect();
    Err(format!("must specify {}", list.join("; ")))
}

fn fits(name: &str, delta: &Amounts, used: &Amounts, hard: &Amounts) -> Result<(), String> {
    let of = |amounts: &Amounts, resource: &str| {
        amounts.get(resource).copied().unwrap_or(Quantity::ZERO)
    };
    let exceeded: Vec<&String> = delta
        .iter()
        .filter(|(resource, amount)| of(used, resource) + **amount > of(hard, resource))
        .map(|(resource, _)| resource)
        .collect();
    if exceeded.is_empty() {
        return Ok(());
    }
    let show = |amounts: &Amounts| {
        let list = exceeded.iter();
        list.map(|resource| format!("{resource}={}", of(amounts, resource)))
            .collect::<Vec<_>>()
            .join(",")
    };
    Err(format!(
        "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
        show(delta),
        show(used),
        show(hard)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn quota(hard: Value, used: Value) -> Value {
        json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}})
    }

    fn pod(requests: Value) -> Value {
        json!({"spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}})
    }

    fn ask(
        quota: &Value,
        plural: &str,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<Vec<String>, String> {
        let request = Request {
            group: "",
            plural,
            object,
            old,
            now: Timestamp::UNIX_EPOCH,
        };
        let charges = charges(std::slice::from_ref(quota), &request)?;
        let all = charges.iter().flat_map(|(_, charge)| charge);
        Ok(all.map(|(name, n)| format!("{name}={n}")).collect())
    }

    #[test]
    fn what_fits_is_charged() {
        let roomy = quota(
            json!({"pods": "2", "requests.memory": "1Gi", "services": "1"}),
            json!({"pods": "1", "requests.memory": "512Mi", "services": "0"}),
        );
        let charged = ask(&roomy, "pods", &pod(json!({"memory": "512Mi"})), None);
        assert_eq!(charged.expect("room"), ["pods=1", "requests.memory=512Mi"]);
        assert_eq!(
            ask(&roomy, "pods", &pod(json!({"memory": "513Mi"})), None),
            Err("exceeded quota: q, requested: requests.memory=513Mi, used: requests.memory=512Mi, limited: requests.memory=1Gi".into())
        );
        assert_eq!(
            ask(&roomy, "pods", &pod(json!({"cpu": "1"})), None),
            Err("failed quota: q: must specify requests.memory for: c".into())
        );
        let none: [String; 0] = [];
        assert_eq!(
            ask(&roomy, "secrets", &json!({}), None).expect("not limited"),
            none
        );
        let mut charged = roomy.clone();
        apply(
            &mut charged,
            &Amounts::from([("pods".into(), "1".parse().expect("one"))]),
        );
        assert_eq!(charged["status"]["used"]["pods"], "2");
        take_back(
            &mut charged,
            &Amounts::from([("pods".into(), "5".parse().expect("five"))]),
        );
        assert_eq!(charged["status"]["used"]["pods"], "0");
    }

    #[test]
    fn nothing_is_limited_before_it_was_counted() {
        let mut fresh = quota(json!({"pods": "0"}), json!({}));
        fresh["status"] = json!({});
        assert_eq!(ask(&fresh, "pods", &pod(json!({})), None), Ok(Vec::new()));
        let half = quota(
            json!({"pods": "1", "count/pods": "1"}),
            json!({"pods": "0"}),
        );
        assert_eq!(
            ask(&half, "pods", &pod(json!({})), None),
            Err("status unknown for quota: q, resources: count/pods,pods".into())
        );
    }

    #[test]
    fn updates_are_charged_for_what_they_add() {
        let full = quota(
            json!({"services": "1", "services.nodeports": "1", "requests.storage": "2Gi"}),
            json!({"services": "1", "services.nodeports": "0", "requests.storage": "1Gi"}),
        );
        let service = |kind: &str, ports: usize| json!({"spec": {"type": kind, "ports": vec![json!({"port": 1}); ports]}});
        let old = service("ClusterIP", 1);
        assert_eq!(
            ask(&full, "services", &service("NodePort", 1), Some(&old)).expect("room"),
            ["services.nodeports=1"]
        );
        assert!(ask(&full, "services", &service("NodePort", 2), Some(&old)).is_err());
        assert_eq!(
            ask(&full, "services", &old, Some(&service("NodePort", 2))),
            Ok(Vec::new())
        );
        let claim = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
        assert_eq!(
            ask(
                &full,
                "persistentvolumeclaims",
                &claim("2Gi"),
                Some(&claim("1Gi"))
            )
            .expect("room"),
            ["requests.storage=1Gi"]
        );
        assert_eq!(
            ask(&full, "pods", &pod(json!({})), Some(&pod(json!({})))),
            Ok(Vec::new())
        );
    }

    #[test]
    fn scopes_leave_others_alone() {
        let mut scoped = quota(json!({"pods": "0"}), json!({"pods": "0"}));
        scoped["spec"]["scopes"] = json!(["BestEffort"]);
        assert!(ask(&scoped, "pods", &pod(json!({})), None).is_err());
        assert_eq!(
            ask(&scoped, "pods", &pod(json!({"cpu": "1"})), None),
            Ok(Vec::new())
        );
    }

    #[test]
    fn negative_requests_are_no_way_around() {
        let any = quota(json!({"pods": "1"}), json!({"pods": "0"}));
        let refused = ask(&any, "pods", &pod(json!({"memory": "-1"})), None);
        assert_eq!(
            refused,
            Err("quota usage is negative for resource(s): memory,requests.memory".into())
        );
    }
}
