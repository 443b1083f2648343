//! Tables: a set and its pods, and what is done.

use super::*;
use serde_json::{Value, json};

/// A set of three pods, changed.
fn set(change: impl FnOnce(&mut Value)) -> StatefulSet {
    let mut value = json!({
        "metadata": {"name": "db", "namespace": "shop", "uid": "set"},
        "spec": {
            "replicas": 3, "podManagementPolicy": "OrderedReady", "selector": {}, "template": {},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}},
        },
    });
    change(&mut value["spec"]);
    serde_json::from_value(value).unwrap()
}

fn parallel(spec: &mut Value) {
    spec["podManagementPolicy"] = "Parallel".into();
}

/// `0b!`: ordinal, revision, state: nothing for ready, `p` pending, `!` not ready, `f` failed, `s` succeeded, `-` ready
/// and terminating.
fn pod(text: &str) -> Arc<Pod> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap();
    let (ordinal, rest) = text.split_at(digits);
    let (revision, state) = rest.split_at(1);
    let (phase, ready) = match state {
        "" | "-" => ("Running", "True"),
        "p" => ("Pending", "False"),
        "!" => ("Running", "False"),
        "f" => ("Failed", "False"),
        "s" => ("Succeeded", "False"),
        _ => panic!("{text}"),
    };
    let name = format!("db-{ordinal}");
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "shop", "uid": format!("uid-{text}"),
                "labels": {identity::POD_NAME: name, identity::POD_INDEX: ordinal, identity::REVISION: revision},
                "deletionTimestamp": (state == "-").then_some("2026-01-01T00:00:00Z"),
            },
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .unwrap(),
    )
}

fn said(step: &Step) -> String {
    match step {
        Step::Claim(pod, claim) => format!("claim {} for {pod}", objects::name(&**claim)),
        Step::Own(claim, owners) => {
            let names: Vec<&str> = owners.iter().map(|owner| owner.name.as_str()).collect();
            format!("own {} {}", objects::name(&**claim), names.join(","))
        }
        Step::Create { ordinal, updated } => {
            format!("create {ordinal}{}", if *updated { "b" } else { "a" })
        }
        Step::Refuse(pod, why) => format!("refuse {pod}: {why}"),
        Step::Label(pod, _) => format!("label {}", objects::name(&**pod)),
        Step::Delete(pod) => format!("delete {}", objects::name(&**pod).trim_start_matches("db-")),
    }
}

fn decide(set: &StatefulSet, pods: &[Arc<Pod>], claims: &[PersistentVolumeClaim]) -> Plan {
    let find = |name: &str| {
        let mut claims = claims.iter();
        claims
            .find(|claim| objects::name(*claim) == name)
            .cloned()
            .map(Arc::new)
    };
    plan(&View {
        set,
        pods,
        revisions: Revisions {
            current: "a",
            update: "b",
        },
        claim: &find,
        now: "2026-01-01T00:01:00Z".parse().unwrap(),
    })
}

fn steps(set: &StatefulSet, pods: &str) -> String {
    let pods: Vec<_> = pods.split_whitespace().map(pod).collect();
    let plan = decide(set, &pods, &[]);
    plan.steps.iter().map(said).collect::<Vec<_>>().join(", ")
}

#[test]
fn pods_come_and_go_in_order() {
    let cases = [
        ("", "create 0b"),
        ("0b", "create 1b"),
        ("0b!", ""),
        ("0bp", ""),
        ("0b-", ""),
        ("0b 1b", "create 2b"),
        ("0b 1b! 2b", ""),
        ("0b 2b", "create 1b"),
        ("0b 1b 2b", ""),
        // failed and succeeded ones are made anew
        ("0b 1bf 2b", "delete 1"),
        ("0b 1bs 2b", "delete 1"),
        // scaled away from the top, one at a time
        ("0b 1b 2b 3b 4b", "delete 4"),
        ("0b 1b 2b 3b 4b-", ""),
        ("0b 1b 2b 3b! 4b", "delete 4"),
        // the one that is down may go, one that waits for another to come up may not
        ("0b 1b 2b 3b 4b!", "delete 4"),
        ("0b 1b 2b 3b! 4b!", ""),
        // nothing is scaled away while one is down
        ("0b 1b! 2b 3b", ""),
    ];
    for (pods, expected) in cases {
        assert_eq!(steps(&set(|_| {}), pods), expected, "{pods}");
    }
}

#[test]
fn parallel_pods_come_and_go_at_once() {
    let cases = [
        ("", "create 0b, create 1b, create 2b"),
        ("1bp", "create 0b, create 2b"),
        ("0b! 1b- 2bf", "delete 2"),
        ("0b 1b! 2b 3b 4b- 5b!", "delete 5, delete 3"),
    ];
    for (pods, expected) in cases {
        assert_eq!(steps(&set(parallel), pods), expected, "{pods}");
    }
    let many = set(|spec| {
        parallel(spec);
        spec["replicas"] = i32::MAX.into();
    });
    assert_eq!(decide(&many, &[], &[]).steps.len(), CREATES_MAX);
}

#[test]
fn ordinals_may_begin_anywhere() {
    let set = set(|spec| spec["ordinals"] = json!({"start": 4}));
    for (pods, expected) in [
        ("", "create 4b"),
        ("4b 5b 6b", ""),
        ("3b 4b 5b 6b", "delete 3"),
        ("4b 5b 6b 7b", "delete 7"),
    ] {
        assert_eq!(steps(&set, pods), expected, "{pods}");
    }
}

#[test]
fn an_update_goes_from_the_top_to_the_partition() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str, &str); 14] = [
        (|_| {}, "0a 1a 2a", "delete 2"),
        (|_| {}, "0a 1a 2b!", ""),
        (|_| {}, "0a 1a 2b", "delete 1"),
        (|_| {}, "0a 1a-", ""),
        (
            |s| s["updateStrategy"]["rollingUpdate"]["partition"] = 2.into(),
            "0a 1a 2b",
            "",
        ),
        // one that is lost keeps its side of the partition
        (
            |s| s["updateStrategy"]["rollingUpdate"]["partition"] = 2.into(),
            "0a 2b",
            "create 1a",
        ),
        (
            |s| s["updateStrategy"]["rollingUpdate"]["partition"] = 2.into(),
            "0a 1a",
            "create 2b",
        ),
        (
            |s| s["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = 2.into(),
            "0a 1a 2a",
            "delete 2, delete 1",
        ),
        (
            |s| s["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = "70%".into(),
            "0a 1a 2a",
            "delete 2, delete 1",
        ),
        // rounds down, to one at least
        (
            |s| s["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = "10%".into(),
            "0a 1a 2a",
            "delete 2",
        ),
        (
            |s| s["updateStrategy"] = json!({"type": "OnDelete"}),
            "0a 1a 2a",
            "",
        ),
        (
            |s| s["updateStrategy"] = json!({"type": "OnDelete"}),
            "0a 1a",
            "create 2b",
        ),
        // scaling comes first
        (|_| {}, "0a 1a 2a 3a", "delete 3"),
        // a strategy without numbers
        (
            |s| s["updateStrategy"] = json!({"type": "RollingUpdate"}),
            "0a 1a 2a",
            "delete 2",
        ),
    ];
    for (change, pods, expected) in cases {
        assert_eq!(steps(&set(change), pods), expected, "{pods} {expected}");
    }
}

#[test]
fn a_parallel_update_replaces_what_is_down_first() {
    let two = |spec: &mut Value| {
        parallel(spec);
        spec["replicas"] = 4.into();
        spec["updateStrategy"]["rollingUpdate"]["maxUnavailable"] = 2.into();
    };
    let cases = [
        ("0a 1a 2a 3a", "delete 3, delete 2"),
        ("0a! 1a 2a 3a", "delete 0, delete 3"),
        ("0a! 1a! 2a! 3a", "delete 2, delete 1, delete 0"),
        ("0a 1a 2b! 3b!", ""),
        ("0a 1a! 2b! 3b!", "delete 1"),
        ("0a 1a 2a 3a-", "delete 2"),
    ];
    for (pods, expected) in cases {
        assert_eq!(steps(&set(two), pods), expected, "{pods}");
    }
}

#[test]
fn what_leaves_is_counted() {
    let pods: Vec<_> = ["0a", "1a", "2a"].into_iter().map(pod).collect();
    assert_eq!(decide(&set(|_| {}), &pods, &[]).leaving, 1);
    let pods: Vec<_> = ["0b", "1b", "2c"].into_iter().map(pod).collect();
    let plan = decide(&set(|_| {}), &pods, &[]);
    assert_eq!((plan.steps.len(), plan.leaving), (1, 0), "of a third one");
}

#[test]
fn a_pod_is_looked_at_again_when_it_becomes_available() {
    let slow = set(|spec| spec["minReadySeconds"] = 90.into());
    let plan = decide(&slow, &[pod("0b")], &[]);
    assert!(plan.steps.is_empty(), "the next one waits");
    assert_eq!(plan.look_again, Some(Duration::from_millis(30_001)));
}

#[test]
fn a_pod_without_its_labels_gets_them() {
    let mut bare = Pod::clone(&pod("0b"));
    bare.metadata.labels = Some([("controller-revision-hash".into(), "b".into())].into());
    let plan = decide(
        &set(|spec| spec["replicas"] = 1.into()),
        &[Arc::new(bare)],
        &[],
    );
    assert_eq!(
        plan.steps.iter().map(said).collect::<Vec<_>>(),
        ["label db-0"]
    );
}

fn claim(name: &str, owner: Option<(&str, &str)>, deleted: bool) -> PersistentVolumeClaim {
    let owners = owner.map(|(kind, uid)| {
        let (version, name) = if kind == "Pod" {
            ("v1", "db-0")
        } else {
            ("apps/v1", "db")
        };
        json!([{"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": true}])
    });
    serde_json::from_value(json!({"metadata": {
        "name": name, "ownerReferences": owners, "deletionTimestamp": deleted.then_some("2026-01-01T00:00:00Z")}}))
    .unwrap()
}

#[test]
fn claims_come_before_their_pods_and_follow_the_policy() {
    let with = |deleted: &str, scaled: &str, replicas: i32| {
        set(|spec| {
            spec["replicas"] = replicas.into();
            spec["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {}}]);
            spec["persistentVolumeClaimRetentionPolicy"] =
                json!({"whenDeleted": deleted, "whenScaled": scaled});
        })
    };
    let retain = with("Retain", "Retain", 1);
    let made = "claim data-db-0 for db-0, create 0b";
    type Case<'a> = (StatefulSet, &'a str, Vec<PersistentVolumeClaim>, &'a str);
    let cases: Vec<Case> = vec![
        (retain.clone(), "", vec![], made),
        (
            retain.clone(),
            "",
            vec![claim("data-db-0", None, false)],
            "create 0b",
        ),
        // that a pod waits for
        (retain.clone(), "0bp", vec![], "claim data-db-0 for db-0"),
        (
            retain,
            "",
            vec![claim("data-db-0", None, true)],
            "refuse db-0: pvc data-db-0 is being deleted",
        ),
        (
            with("Delete", "Retain", 1),
            "0b",
            vec![claim("data-db-0", None, false)],
            "own data-db-0 db",
        ),
        (
            with("Delete", "Retain", 1),
            "",
            vec![claim("data-db-0", None, false)],
            "own data-db-0 db, create 0b",
        ),
        // a pod that is scaled away takes its claim along
        (
            with("Retain", "Delete", 0),
            "0b",
            vec![claim("data-db-0", None, false)],
            "own data-db-0 db-0, delete 0",
        ),
        (with("Retain", "Delete", 0), "0b", vec![], "delete 0"),
        // the claim of an earlier pod of this name has to be gone first
        (
            with("Retain", "Delete", 1),
            "",
            vec![claim("data-db-0", Some(("Pod", "old")), false)],
            "",
        ),
    ];
    for (set, pods, claims, expected) in cases {
        let pods: Vec<_> = pods.split_whitespace().map(pod).collect();
        let plan = decide(&set, &pods, &claims);
        let found = plan.steps.iter().map(said).collect::<Vec<_>>().join(", ");
        assert_eq!(found, expected, "{claims:?}");
        let waits = expected.is_empty() || expected.starts_with("refuse");
        assert_eq!(plan.look_again.is_some(), waits, "{expected}");
    }
    let fresh = decide(&with("Delete", "Retain", 1), &[], &[]);
    let Some(Step::Claim(_, claim)) = fresh.steps.first() else {
        panic!("{fresh:?}");
    };
    assert_eq!(
        claim.metadata.owner_references.as_ref().unwrap()[0].uid,
        "set"
    );
}
