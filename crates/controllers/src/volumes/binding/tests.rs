//! The tables of binding.

use super::*;
use serde_json::{Value, json};

fn merge(into: &mut Value, change: &Value) {
    for (key, value) in change.as_object().into_iter().flatten() {
        match value.is_object() && into[key].is_object() {
            true => merge(&mut into[key], value),
            false => into[key] = value.clone(),
        }
    }
}

fn claim(change: Value) -> PersistentVolumeClaim {
    let mut value = json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"},
        "spec": {"storageClassName": "", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}},
        "status": {"phase": "Pending"}});
    merge(&mut value, &change);
    serde_json::from_value(value).expect("a claim")
}

fn volume(name: &str, size: &str, change: Value) -> Arc<PersistentVolume> {
    let mut value = json!({"metadata": {"name": name}, "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/x"}}, "status": {"phase": "Available"}});
    merge(&mut value, &change);
    Arc::new(serde_json::from_value(value).expect("a volume"))
}

fn class(name: &str, mode: &str, provisioner: &str, default: bool) -> Arc<StorageClass> {
    let annotations = if default {
        json!({DEFAULT_CLASS[0]: "true"})
    } else {
        json!({})
    };
    let value = json!({"metadata": {"name": name, "annotations": annotations}, "provisioner": provisioner, "volumeBindingMode": mode});
    Arc::new(serde_json::from_value(value).expect("a class"))
}

fn bind(name: &str) -> ClaimStep {
    ClaimStep::Bind(name.to_owned())
}

fn waits(step: &ClaimStep) -> &str {
    match step {
        ClaimStep::Wait { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_smallest_that_suits() {
    let volumes = [
        volume("large", "100Gi", json!({})),
        volume("small", "1Gi", json!({})),
        volume("fits", "6Gi", json!({})),
        volume("class", "5Gi", json!({"spec": {"storageClassName": "x"}})),
        volume(
            "mode",
            "5Gi",
            json!({"spec": {"accessModes": ["ReadOnlyMany"]}}),
        ),
        volume("block", "5Gi", json!({"spec": {"volumeMode": "Block"}})),
        volume(
            "taken",
            "5Gi",
            json!({"spec": {"claimRef": {"namespace": "n", "name": "other"}}}),
        ),
        volume(
            "used",
            "5Gi",
            json!({"spec": {"claimRef": {"namespace": "n", "name": "c", "uid": "earlier"}}, "status": {"phase": "Released"}}),
        ),
        volume(
            "going",
            "5Gi",
            json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}}),
        ),
        volume("new", "5Gi", json!({"status": {"phase": "Pending"}})),
    ];
    let step = |change| claim_step(&claim(change), &volumes, &[]);
    assert_eq!(step(json!({})), bind("fits"));
    assert_eq!(
        step(json!({"spec": {"resources": {"requests": {"storage": "7Gi"}}}})),
        bind("large")
    );
    assert_eq!(
        waits(&step(
            json!({"spec": {"resources": {"requests": {"storage": "1Ti"}}}})
        )),
        "FailedBinding"
    );
    let labelled = [
        volume("plain", "5Gi", json!({})),
        volume(
            "gold",
            "9Gi",
            json!({"metadata": {"labels": {"tier": "gold"}}}),
        ),
    ];
    let selecting = claim(json!({"spec": {"selector": {"matchLabels": {"tier": "gold"}}}}));
    assert_eq!(claim_step(&selecting, &labelled, &[]), bind("gold"));
}

#[test]
fn what_is_kept_for_the_claim_comes_first() {
    let kept = volume(
        "kept",
        "9Gi",
        json!({"spec": {"claimRef": {"namespace": "n", "name": "c"}}}),
    );
    let volumes = [volume("fits", "5Gi", json!({})), kept];
    assert_eq!(claim_step(&claim(json!({})), &volumes, &[]), bind("kept"));
    let delayed = [class("s", "WaitForFirstConsumer", "p", false)];
    let own = claim(json!({"spec": {"storageClassName": "s"}}));
    assert_eq!(
        claim_step(&own, &volumes, &delayed),
        bind("kept"),
        "even if it waits for a pod"
    );
    let begun = volume(
        "begun",
        "1Gi",
        json!({"spec": {"claimRef": {"namespace": "n", "name": "c", "uid": "u"}}}),
    );
    assert_eq!(
        claim_step(&claim(json!({})), &[begun], &[]),
        bind("begun"),
        "a crash came in between"
    );
}

#[test]
fn a_claim_that_names_its_volume() {
    let own = |change: Value| {
        let mut wanted = json!({"spec": {"volumeName": "v"}});
        merge(&mut wanted, &change);
        claim(wanted)
    };
    let bound =
        json!({"metadata": {"annotations": {BIND_COMPLETED: "yes"}}, "status": {"phase": "Bound"}});
    let of = |owner: Value| volume("v", "9Gi", json!({"spec": {"claimRef": owner}}));
    let ours = json!({"namespace": "n", "name": "c", "uid": "u"});
    let table = [
        (json!({}), vec![], ClaimStep::Nothing),
        (json!({}), vec![volume("v", "9Gi", json!({}))], bind("v")),
        (
            json!({}),
            vec![of(json!({"namespace": "n", "name": "c"}))],
            bind("v"),
        ),
        (json!({}), vec![of(ours.clone())], bind("v")),
        (bound.clone(), vec![of(ours)], ClaimStep::Nothing),
    ];
    for (change, volumes, want) in table {
        assert_eq!(
            claim_step(&own(change.clone()), &volumes, &[]),
            want,
            "{change} {volumes:?}"
        );
    }
    let step = |change: &Value, volume| claim_step(&own(change.clone()), &[volume], &[]);
    assert_eq!(
        waits(&step(&json!({}), volume("v", "1Gi", json!({})))),
        "VolumeMismatch"
    );
    assert_eq!(
        waits(&step(&json!({}), of(json!({"uid": "other"})))),
        "FailedBinding"
    );
    assert_eq!(
        step(&bound, volume("v", "1Gi", json!({}))),
        bind("v"),
        "a volume that has forgotten its claim, whatever its size"
    );
    assert!(matches!(
        step(&bound, of(json!({"uid": "other"}))),
        ClaimStep::Lost {
            reason: "ClaimMisbound",
            ..
        }
    ));
    assert!(matches!(
        claim_step(&own(bound), &[], &[]),
        ClaimStep::Lost {
            reason: "ClaimLost",
            ..
        }
    ));
}

#[test]
fn classes_decide_what_comes_next() {
    let classes = [
        class("now", "Immediate", "example.com/p", false),
        class("later", "WaitForFirstConsumer", "example.com/p", true),
        class("hand", "Immediate", NO_PROVISIONER, false),
    ];
    let step = |change| claim_step(&claim(change), &[], &classes);
    let of = |name: &str| json!({"spec": {"storageClassName": name}});
    assert_eq!(
        step(of("now")),
        ClaimStep::Provision("example.com/p".into())
    );
    assert_eq!(waits(&step(of("later"))), "WaitForFirstConsumer");
    assert_eq!(waits(&step(of("hand"))), "FailedBinding");
    assert_eq!(waits(&step(of("none"))), "ProvisioningFailed");
    assert_eq!(waits(&step(of(""))), "FailedBinding");
    assert_eq!(
        step(json!({"spec": {"storageClassName": null}})),
        ClaimStep::Class("later".into())
    );
    let mut chosen = of("later");
    chosen["metadata"] = json!({"annotations": {SELECTED_NODE: "a"}});
    assert_eq!(step(chosen), ClaimStep::Provision("example.com/p".into()));
}

#[test]
fn volumes_of_claims_that_have_others_are_given_back() {
    let of = |annotations: Value, policy: &str| {
        let change = json!({"metadata": {"annotations": annotations}, "spec": {"persistentVolumeReclaimPolicy": policy, "claimRef": {"namespace": "n", "name": "c", "uid": "u"}}});
        volume("v", "9Gi", change)
    };
    let bound = |volume: &str, uid: &str| {
        claim(
            json!({"metadata": {"uid": uid, "annotations": {BIND_COMPLETED: "yes"}}, "spec": {"volumeName": volume}}),
        )
    };
    let (made, ours) = (
        json!({PROVISIONED_BY: "p"}),
        json!({BOUND_BY_CONTROLLER: "yes"}),
    );
    for (volume, claim, becomes) in [
        (
            of(json!({}), "Delete"),
            bound("w", "u"),
            Some(Spare::Reserved),
        ),
        (
            of(ours.clone(), "Retain"),
            bound("w", "u"),
            Some(Spare::Unbound),
        ),
        (
            of(made.clone(), "Delete"),
            bound("w", "u"),
            Some(Spare::Released),
        ),
        (of(made, "Retain"), bound("w", "u"), Some(Spare::Reserved)),
        // its own, another's, and a claim that is on its way
        (of(ours.clone(), "Retain"), bound("v", "u"), None),
        (of(ours.clone(), "Retain"), bound("w", "other"), None),
        (
            of(ours, "Retain"),
            claim(json!({"spec": {"volumeName": "w"}})),
            None,
        ),
    ] {
        assert_eq!(spare(&volume, &claim), becomes, "{volume:?} {claim:?}");
    }
}

#[test]
fn phases_of_volumes() {
    let of = |change: Value| {
        let mut all = json!({"spec": {"claimRef": {"namespace": "n", "name": "c", "uid": "u"}}});
        merge(&mut all, &change);
        volume("v", "9Gi", all)
    };
    let phase = |volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>| {
        volume_phase(volume, claim).map(|found| found.phase)
    };
    let bound = claim(json!({"spec": {"volumeName": "v"}}));
    let other = claim(json!({"metadata": {"uid": "another"}}));
    assert_eq!(
        phase(&volume("v", "9Gi", json!({})), None),
        Some("Available")
    );
    assert_eq!(phase(&of(json!({})), Some(&bound)), Some("Bound"));
    assert_eq!(
        phase(&of(json!({})), Some(&claim(json!({})))),
        None,
        "on its way"
    );
    for gone in [None, Some(&other)] {
        assert_eq!(phase(&of(json!({})), gone), Some("Released"));
        let policy = |policy: &str| of(json!({"spec": {"persistentVolumeReclaimPolicy": policy}}));
        assert_eq!(phase(&policy("Delete"), gone), Some("Failed"));
        assert_eq!(phase(&policy("Recycle"), gone), Some("Failed"));
        let provisioned = of(
            json!({"metadata": {"annotations": {PROVISIONED_BY: "p"}}, "spec": {"persistentVolumeReclaimPolicy": "Delete"}}),
        );
        assert_eq!(phase(&provisioned, gone), Some("Released"));
    }
}
