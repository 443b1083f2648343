//! Who owns the claims of a StatefulSet's pods, so that they go when the set's retention policy says so.
//!
//! Pure. Follows `isClaimOwnerUpToDate` and `updateClaimOwnerRefForSetAndPod` of `stateful_set_utils.go`.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::objects;

/// Whether claims are deleted with the set, and with pods that are scaled away.
fn policy(set: &StatefulSet) -> (bool, bool) {
    let policy = set.spec.persistent_volume_claim_retention_policy.as_ref();
    let deletes = |said: Option<&String>| said.is_some_and(|said| said == "Delete");
    (
        deletes(policy.and_then(|policy| policy.when_deleted.as_ref())),
        deletes(policy.and_then(|policy| policy.when_scaled.as_ref())),
    )
}

fn names_set(owner: &OwnerReference, set: &StatefulSet) -> bool {
    owner.api_version == "apps/v1"
        && owner.kind == "StatefulSet"
        && owner.name == objects::name(set)
}

fn names_pod(owner: &OwnerReference, pod: &Pod) -> bool {
    owner.api_version == "v1" && owner.kind == "Pod" && owner.name == objects::name(pod)
}

/// A claim that goes away with an earlier pod of the same name: a new pod must not get it.
pub fn is_stale(claim: &PersistentVolumeClaim, set: &StatefulSet, pod: &Pod) -> bool {
    policy(set).1 && of_another_pod(claim, pod)
}

fn of_another_pod(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    let mut owners = claim.metadata.owner_references.iter().flatten();
    owners
        .find(|owner| names_pod(owner, pod))
        .is_some_and(|owner| owner.uid != objects::uid(pod))
}

/// The owners that the claim of `pod` should have, if they are not those that it has. `scaled_away`: the pod's ordinal is
/// beyond the set's. A pod that is yet to be made has no uid.
pub fn owners(
    claim: &PersistentVolumeClaim,
    set: &StatefulSet,
    pod: &Pod,
    scaled_away: bool,
) -> Option<Vec<OwnerReference>> {
    let owners: &[OwnerReference] = claim
        .metadata
        .owner_references
        .as_deref()
        .unwrap_or_default();
    let (set_uid, pod_uid) = (objects::uid(set), objects::uid(pod));
    let of_another_set = owners
        .iter()
        .find(|owner| names_set(owner, set))
        .is_some_and(|owner| owner.uid != set_uid);
    if of_another_set || of_another_pod(claim, pod) {
        // left to the garbage collector
        return None;
    }
    let ours = |owner: &OwnerReference| owner.uid == set_uid || owner.uid == pod_uid;
    let (with_set, with_pod) = policy(set);
    let foreign = (with_set || with_pod)
        && owners
            .iter()
            .any(|owner| !ours(owner) && owner.controller == Some(true));
    let mut wanted: Vec<OwnerReference> = owners
        .iter()
        .filter(|owner| !names_set(owner, set) && !names_pod(owner, pod))
        .cloned()
        .collect();
    if !foreign {
        if with_pod && scaled_away {
            wanted.push(objects::controller_reference(pod));
        } else if with_set {
            wanted.push(objects::controller_reference(set));
        }
    }
    let uids = |owners: &[OwnerReference]| {
        let mut uids: Vec<(String, bool)> = owners
            .iter()
            .map(|owner| {
                (
                    owner.uid.clone(),
                    !ours(owner) || owner.controller == Some(true),
                )
            })
            .collect();
        uids.sort();
        uids
    };
    (uids(&wanted) != uids(owners)).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn set(deleted: &str, scaled: &str) -> StatefulSet {
        serde_json::from_value(json!({"metadata": {"name": "db", "uid": "set"}, "spec": {
            "selector": {}, "template": {},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}}}))
        .unwrap()
    }

    fn pod(uid: Option<&str>) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "db-0", "uid": uid}})).unwrap()
    }

    fn claim(owners: &[Value]) -> PersistentVolumeClaim {
        serde_json::from_value(
            json!({"metadata": {"name": "data-db-0", "ownerReferences": owners}}),
        )
        .unwrap()
    }

    fn owner(kind: &str, name: &str, uid: &str, controls: bool) -> Value {
        let version = if kind == "Pod" { "v1" } else { "apps/v1" };
        json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": controls})
    }

    #[test]
    fn owners_follow_the_policy() {
        let of_set = || owner("StatefulSet", "db", "set", true);
        let of_pod = || owner("Pod", "db-0", "pod", true);
        let other = || owner("Other", "x", "other", true);
        let friend = || owner("Other", "x", "friend", false);
        type Case<'a> = (&'a str, &'a str, bool, Vec<Value>, Option<Vec<&'a str>>);
        let cases: Vec<Case> = vec![
            ("Retain", "Retain", false, vec![], None),
            ("Retain", "Retain", true, vec![], None),
            ("Retain", "Retain", false, vec![of_set()], Some(vec![])),
            ("Retain", "Retain", false, vec![other()], None),
            ("Delete", "Retain", false, vec![], Some(vec!["set"])),
            ("Delete", "Retain", true, vec![], Some(vec!["set"])),
            ("Delete", "Retain", false, vec![of_set()], None),
            ("Delete", "Retain", false, vec![of_pod()], Some(vec!["set"])),
            (
                "Delete",
                "Retain",
                false,
                vec![friend()],
                Some(vec!["friend", "set"]),
            ),
            // somebody else manages it
            ("Delete", "Retain", false, vec![other()], None),
            (
                "Delete",
                "Retain",
                false,
                vec![other(), of_set()],
                Some(vec!["other"]),
            ),
            // owned and not managed
            (
                "Delete",
                "Retain",
                false,
                vec![owner("StatefulSet", "db", "set", false)],
                Some(vec!["set"]),
            ),
            // of a set that had the same name
            (
                "Delete",
                "Retain",
                false,
                vec![owner("StatefulSet", "db", "old", true)],
                None,
            ),
            ("Retain", "Delete", false, vec![], None),
            ("Retain", "Delete", true, vec![], Some(vec!["pod"])),
            ("Retain", "Delete", false, vec![of_pod()], Some(vec![])),
            ("Delete", "Delete", false, vec![], Some(vec!["set"])),
            ("Delete", "Delete", true, vec![of_set()], Some(vec!["pod"])),
            ("Delete", "Delete", true, vec![of_pod()], None),
        ];
        for (deleted, scaled, away, has, expected) in cases {
            let found = owners(&claim(&has), &set(deleted, scaled), &pod(Some("pod")), away);
            let found = found.map(|owners| {
                owners
                    .into_iter()
                    .map(|owner| owner.uid)
                    .collect::<Vec<_>>()
            });
            let expected =
                expected.map(|uids| uids.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(found, expected, "{deleted} {scaled} {away} {has:?}");
        }
    }

    #[test]
    fn a_claim_of_an_earlier_pod_is_stale_where_claims_go_with_pods() {
        let old = claim(&[owner("Pod", "db-0", "old", true)]);
        assert!(is_stale(&old, &set("Retain", "Delete"), &pod(None)));
        assert!(is_stale(&old, &set("Retain", "Delete"), &pod(Some("new"))));
        assert!(!is_stale(&old, &set("Retain", "Delete"), &pod(Some("old"))));
        assert!(!is_stale(&old, &set("Delete", "Retain"), &pod(None)));
        assert!(!is_stale(&claim(&[]), &set("Retain", "Delete"), &pod(None)));
    }
}
