//! Which revision is the present one, and what a new one looks like.

use k8s_openapi::api::apps::v1::StatefulSet;

use super::*;

const LABEL: &str = "controller.kubernetes.io/hash";

fn set(image: &str) -> StatefulSet {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u", "annotations": {"kubernetes.io/change-cause": "why"}},
        "spec": {"selector": {}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": image, "resources": {}}]}}},
    }))
    .unwrap()
}

fn revision(image: &str, number: i64) -> Arc<ControllerRevision> {
    let set = set(image);
    Arc::new(new(&set, &set.spec.template, LABEL, number, 0))
}

fn said(step: &Step) -> String {
    match step {
        Step::Keep(one) => format!("keep {}", number(one)),
        Step::Renumber(one, next) => format!("renumber {} {next}", number(one)),
        Step::Create(next) => format!("create {next}"),
    }
}

#[test]
fn the_present_revision_is_kept_renumbered_or_made() {
    let cases: [(&[(&str, i64)], &str, &str); 5] = [
        (&[], "a", "create 1"),
        (&[("a", 1)], "a", "keep 1"),
        (&[("a", 1)], "b", "create 2"),
        (&[("a", 1), ("b", 2), ("c", 5)], "a", "renumber 1 6"),
        // two of the same template: the newer counts
        (&[("a", 1), ("b", 2), ("a", 3)], "a", "keep 3"),
    ];
    for (kept, image, expected) in cases {
        let mut revisions: Vec<_> = kept.iter().rev().map(|(i, n)| revision(i, *n)).collect();
        sort(&mut revisions);
        let found = step(&set(image).spec.template, &revisions);
        assert_eq!(said(&found), expected, "{kept:?} {image}");
    }
}

#[test]
fn a_new_revision_is_what_kubectl_reads() {
    let made = revision("a", 3);
    let hash = &made.metadata.labels.as_ref().unwrap()[LABEL];
    assert_eq!(objects::name(&*made), format!("web-{hash}"));
    assert_eq!(made.metadata.labels.as_ref().unwrap()["app"], "web");
    assert_eq!(
        objects::annotation(&*made, "kubernetes.io/change-cause"),
        Some("why")
    );
    assert_eq!(objects::controller_of(&*made).unwrap().uid, "u");
    assert_eq!(
        made.data.0,
        json!({"spec": {"template": {"$patch": "replace",
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "a", "resources": {}}]}}}})
    );
    assert_eq!(template_of(&made), Some(set("a").spec.template));
    let other = new(&set("a"), &set("a").spec.template, LABEL, 3, 1);
    assert_ne!(objects::name(&*made), objects::name(&other), "a collision");
}

#[test]
fn long_names_are_cut() {
    let mut long = set("a");
    long.metadata.name = Some("n".repeat(253));
    let made = new(&long, &long.spec.template, LABEL, 1, 0);
    assert!(objects::name(&made).len() <= 253);
}

#[test]
fn the_oldest_that_nobody_needs_go() {
    let revisions: Vec<_> = (1..=5).map(|n| revision("a", n)).collect();
    let gone = surplus(&revisions, |one| number(one) == 2, 2);
    assert_eq!(
        gone.iter().map(|one| number(one)).collect::<Vec<_>>(),
        [1, 3]
    );
    assert!(surplus(&revisions, |_| true, 5).is_empty());
}
