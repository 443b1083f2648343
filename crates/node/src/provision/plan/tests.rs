//! Tables of what is due.

use super::*;
use serde_json::{Value, json};

const BASE: &str = "/data/claims";

fn claim(change: impl FnOnce(&mut Value)) -> PersistentVolumeClaim {
    let mut value = json!({
        "metadata": {"name": "c", "namespace": "n", "uid": "u", "annotations": {WANTED_OF[0]: PROVISIONER, SELECTED_NODE: "here"}},
        "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Pending"}});
    change(&mut value);
    serde_json::from_value(value).expect("a claim")
}

fn class(mode: &str) -> StorageClass {
    serde_json::from_value(json!({"metadata": {"name": "local"}, "provisioner": PROVISIONER, "volumeBindingMode": mode})).expect("a class")
}

fn made(change: impl FnOnce(&mut Value)) -> PersistentVolume {
    let volume =
        volume(&claim(|_| {}), &class("Immediate"), "here", Path::new(BASE)).expect("made");
    let mut value = serde_json::to_value(volume).expect("JSON");
    value["status"] = json!({"phase": "Bound"});
    change(&mut value);
    serde_json::from_value(value).expect("a volume")
}

fn steps(claims: &[PersistentVolumeClaim], volumes: &[PersistentVolume]) -> Vec<String> {
    let shown = |step: Step| match step {
        Step::Provision(claim) => format!("provision {}", claim.name_any()),
        Step::Delete(volume) => format!("delete {}", volume.name_any()),
        Step::Finish { directory, .. } => format!("finish {directory:?}"),
        Step::Grow { size, .. } => format!("grow {size}"),
    };
    plan(claims.iter(), volumes.iter(), "here", Path::new(BASE))
        .into_iter()
        .map(shown)
        .collect()
}

#[test]
fn which_claims_get_a_volume() {
    assert_eq!(steps(&[claim(|_| {})], &[]), ["provision c"]);
    assert_eq!(
        steps(&[claim(|_| {})], &[made(|_| {})]),
        [""; 0],
        "it has one"
    );
    for (why, change) in [
        (
            "another node",
            (|c| c["metadata"]["annotations"][SELECTED_NODE] = "there".into()) as fn(&mut Value),
        ),
        ("another provisioner", |c| {
            c["metadata"]["annotations"][WANTED_OF[0]] = "other".into()
        }),
        ("named by hand", |c| c["spec"]["volumeName"] = "mine".into()),
        ("going", |c| {
            c["metadata"]["deletionTimestamp"] = "2020-01-01T00:00:00Z".into()
        }),
    ] {
        assert_eq!(steps(&[claim(change)], &[]), [""; 0], "{why}");
    }
    let unselected = claim(|c| c["metadata"]["annotations"] = json!({WANTED_OF[1]: PROVISIONER}));
    assert!(is_ours(&unselected, &class("Immediate"), "here"));
    assert!(!is_ours(
        &unselected,
        &class("WaitForFirstConsumer"),
        "here"
    ));
    assert!(is_ours(
        &claim(|_| {}),
        &class("WaitForFirstConsumer"),
        "here"
    ));
}

#[test]
fn what_a_volume_looks_like_and_what_cannot_be_had() {
    let spec = made(|_| {}).spec.expect("a spec");
    assert_eq!(spec.local.expect("local").path, "/data/claims/pvc-u");
    assert_eq!(
        spec.persistent_volume_reclaim_policy.as_deref(),
        Some("Delete")
    );
    assert_eq!(spec.claim_ref.expect("bound").uid.as_deref(), Some("u"));
    for change in [
        (|c| c["spec"]["volumeMode"] = "Block".into()) as fn(&mut Value),
        |c| c["spec"]["selector"] = json!({}),
        |c| c["spec"]["accessModes"] = json!(["ReadOnlyMany"]),
        |c| c["spec"]["dataSource"] = json!({"kind": "x", "name": "y"}),
    ] {
        assert!(volume(&claim(change), &class("Immediate"), "here", Path::new(BASE)).is_err());
    }
}

#[test]
fn how_volumes_end() {
    let going = |phase: &str, policy: &str| {
        made(|v| {
            v["metadata"]["deletionTimestamp"] = "2020-01-01T00:00:00Z".into();
            v["status"]["phase"] = phase.into();
            v["spec"]["persistentVolumeReclaimPolicy"] = policy.into();
        })
    };
    let there = r#"finish Some("/data/claims/pvc-u")"#;
    assert_eq!(
        steps(&[], &[made(|v| v["status"]["phase"] = "Released".into())]),
        ["delete pvc-u"]
    );
    assert_eq!(steps(&[], &[going("Released", "Delete")]), [there]);
    assert_eq!(
        steps(&[], &[going("Released", "Retain")]),
        ["finish None"],
        "the data stays"
    );
    assert_eq!(
        steps(&[], &[going("Bound", "Delete")]),
        [""; 0],
        "a claim has it"
    );
    assert_eq!(steps(&[], &[made(|_| {})]), [""; 0]);
    let retained = made(|v| {
        v["status"]["phase"] = "Released".into();
        v["spec"]["persistentVolumeReclaimPolicy"] = "Retain".into();
    });
    assert_eq!(steps(&[], &[retained]), [""; 0]);
    for path in [
        "/etc",
        "/data/claims/../x",
        "/data/claims/other",
        "/data/claims",
    ] {
        let mut foreign = going("Released", "Delete");
        foreign
            .spec
            .as_mut()
            .expect("spec")
            .local
            .as_mut()
            .expect("local")
            .path = path.into();
        assert_eq!(
            steps(&[], &[foreign]),
            ["finish None"],
            "{path} is never removed"
        );
    }
    let mut elsewhere = going("Released", "Delete");
    elsewhere.metadata.annotations = None;
    assert_eq!(steps(&[], &[elsewhere]), [""; 0], "not ours");
}

#[test]
fn growth() {
    let asking = |size: &str| {
        let size = size.to_owned();
        claim(move |c| {
            c["spec"]["volumeName"] = "pvc-u".into();
            c["spec"]["resources"]["requests"]["storage"] = size.into();
            c["status"] = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
        })
    };
    assert_eq!(steps(&[asking("2Gi")], &[made(|_| {})]), ["grow 2Gi"]);
    assert_eq!(steps(&[asking("1024Mi")], &[made(|_| {})]), [""; 0]);
}
