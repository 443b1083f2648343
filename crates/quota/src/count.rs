//! What all objects of a namespace use of a quota: what its status should say.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::usage::{concerns, count_name, of};
use crate::{Amounts, Quantity, add, amounts, scope, to_value};

/// Kinds whose objects have to be looked at, because their number alone does not tell.
pub const LOOKED_AT: [&str; 3] = ["persistentvolumeclaims", "pods", "services"];
/// Kinds that are counted by a name of their own.
const COUNTED: [&str; 4] = [
    "configmaps",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
];

/// A kind that a quota needs to know about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Needed {
    /// API group; empty for the core group.
    pub group: String,
    /// `pods`.
    pub plural: String,
    /// Whether the objects are needed, or just how many there are.
    pub objects: bool,
}

/// What was found of a kind.
#[derive(Clone, Debug)]
pub enum Found {
    /// All objects.
    Objects(Vec<Value>),
    /// Their number.
    Number(i64),
}

/// The kinds that a quota counts, by what its spec limits.
pub fn needed(quota: &Value) -> BTreeSet<Needed> {
    let hard = amounts(&quota["spec"]["hard"]);
    let mut needed = BTreeSet::new();
    for name in hard.keys() {
        for plural in LOOKED_AT {
            if concerns("", plural, name) {
                needed.insert(Needed {
                    group: String::new(),
                    plural: plural.to_owned(),
                    objects: true,
                });
            }
        }
        let by_number = match name.strip_prefix("count/") {
            Some(counted) => counted.split_once('.').unwrap_or((counted, "")),
            None if COUNTED.contains(&name.as_str()) => (name.as_str(), ""),
            None => continue,
        };
        let (plural, group) = by_number;
        if !(group.is_empty() && LOOKED_AT.contains(&plural)) {
            needed.insert(Needed {
                group: group.to_owned(),
                plural: plural.to_owned(),
                objects: false,
            });
        }
    }
    needed
}

/// The status that a quota should have: everything its spec limits, and what of it is used. A kind that is not in `found`
/// does not exist.
pub fn status(quota: &Value, found: &[(Needed, Found)], now: Timestamp) -> Value {
    let hard = amounts(&quota["spec"]["hard"]);
    let wanted = scope::of_quota(quota);
    let mut total: Amounts = hard
        .keys()
        .map(|name| (name.clone(), Quantity::ZERO))
        .collect();
    for (kind, found) in found {
        match found {
            Found::Objects(objects) => {
                for object in objects {
                    if wanted.is_empty() || scope::contain(&wanted, &kind.plural, object) {
                        add(&mut total, &of(&kind.group, &kind.plural, object, now));
                    }
                }
            }
            // scopes contain none of them
            Found::Number(_) if !wanted.is_empty() => {}
            Found::Number(number) => {
                let number = Quantity::from_value(*number, crate::quantity::Format::Decimal);
                for name in [count_name(&kind.group, &kind.plural), kind.plural.clone()] {
                    if kind.group.is_empty() || name.starts_with("count/") {
                        total.insert(name, number);
                    }
                }
            }
        }
    }
    total.retain(|name, _| hard.contains_key(name));
    json!({"hard": quota["spec"].get("hard").cloned().unwrap_or_else(|| json!({})), "used": to_value(&total)})
}

/// Whether both say the same; `1` and `1000m` are the same.
pub fn same(old: &Value, new: &Value) -> bool {
    ["hard", "used"]
        .iter()
        .all(|part| amounts(&old[part]) == amounts(&new[part]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_from_what_is_limited() {
        let quota = json!({"spec": {"hard": {"pods": "1", "count/deployments.apps": "1", "count/services": "1", "secrets": "1",
            "requests.storage": "1Gi", "count/widgets.example.com": "1"}}});
        let needed: Vec<String> = needed(&quota)
            .into_iter()
            .map(|kind| format!("{}/{} {}", kind.group, kind.plural, kind.objects))
            .collect();
        assert_eq!(
            needed,
            [
                "/persistentvolumeclaims true",
                "/pods true",
                "/secrets false",
                "/services true",
                "apps/deployments false",
                "example.com/widgets false"
            ]
        );
    }

    #[test]
    fn everything_limited_is_told() {
        let quota = json!({"spec": {"hard": {"pods": "5", "cpu": "2", "secrets": "9", "count/jobs.batch": "3", "count/nothings.x": "1"}}});
        let pod = |cpu: &str, phase: &str| json!({"spec": {"containers": [{"resources": {"requests": {"cpu": cpu}}}]}, "status": {"phase": phase}});
        let kind = |group: &str, plural: &str, objects| Needed {
            group: group.into(),
            plural: plural.into(),
            objects,
        };
        let found = [
            (
                kind("", "pods", true),
                Found::Objects(vec![
                    pod("500m", "Running"),
                    pod("1", "Pending"),
                    pod("1", "Succeeded"),
                ]),
            ),
            (kind("", "secrets", false), Found::Number(4)),
            (kind("batch", "jobs", false), Found::Number(2)),
        ];
        let status = status(&quota, &found, Timestamp::UNIX_EPOCH);
        assert_eq!(
            status["used"],
            json!({"pods": "2", "cpu": "1500m", "secrets": "4", "count/jobs.batch": "2", "count/nothings.x": "0"})
        );
        assert_eq!(status["hard"], quota["spec"]["hard"]);
    }

    #[test]
    fn comparing() {
        let used = |cpu: &str| json!({"hard": {"cpu": "1"}, "used": {"cpu": cpu}});
        assert!(same(&used("1"), &used("1000m")) && !same(&used("1"), &used("2")));
    }
}
