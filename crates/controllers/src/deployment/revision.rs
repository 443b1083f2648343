//! A Deployment's revisions: which ReplicaSet belongs to which template, names, and the annotations that carry history.
//!
//! Pure. Follows `pkg/controller/deployment/util/deployment_util.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ObjectMeta;
use sha2::{Digest, Sha256};

use super::arithmetic::Goal;
use crate::objects;

/// Annotations and the label, by upstream's names.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
pub const HASH_LABEL: &str = "pod-template-hash";

/// Not copied between a Deployment and its ReplicaSets.
const OWN_ANNOTATIONS: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
];
/// Characters of history kept on a ReplicaSet.
const HISTORY_LENGTH_MAX: usize = 2000;
/// Without vowels and look-alikes, as Kubernetes names things.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Whether two templates differ at most in the hash label.
pub fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    a.spec == b.spec && without_hash(a) == without_hash(b)
}

fn without_hash(template: &PodTemplateSpec) -> ObjectMeta {
    let mut meta = template.metadata.clone().unwrap_or_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH_LABEL);
    }
    meta.labels = meta.labels.filter(|labels| !labels.is_empty());
    meta.annotations = meta
        .annotations
        .filter(|annotations| !annotations.is_empty());
    meta.creation_timestamp = None;
    meta
}

/// The set whose template is the Deployment's: the oldest, should there be several.
pub fn newest<'a>(
    deployment: &Deployment,
    sets: &'a [Arc<ReplicaSet>],
) -> Option<&'a Arc<ReplicaSet>> {
    sets.iter()
        .filter(|set| {
            set.spec
                .template
                .as_ref()
                .is_some_and(|template| same_template(template, &deployment.spec.template))
        })
        .min_by(|a, b| {
            (objects::created(&***a), objects::name(&***a))
                .cmp(&(objects::created(&***b), objects::name(&***b)))
        })
}

/// The revision annotation as a number, 0 without one.
pub fn of<K: kube::Resource>(object: &K) -> i64 {
    objects::annotation(object, REVISION)
        .and_then(|revision| revision.parse().ok())
        .unwrap_or(0)
}

/// A short name for the template; `collisions` gives another one when the first is taken by a different template.
pub fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let mut hasher = Sha256::new();
    // A template is maps and lists of plain values, which always serialise.
    hasher.update(serde_json::to_vec(template).unwrap_or_default());
    if let Some(collisions) = collisions {
        hasher.update(collisions.to_be_bytes());
    }
    hasher
        .finalize()
        .iter()
        .take(10)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect()
}

/// The ReplicaSet for the Deployment's present template, without pods yet.
pub fn new_set(deployment: &Deployment, revision: i64, replicas: i32) -> ReplicaSet {
    let collisions = deployment
        .status
        .as_ref()
        .and_then(|status| status.collision_count);
    let hash = template_hash(&deployment.spec.template, collisions);
    let mut template = deployment.spec.template.clone();
    let meta = template.metadata.get_or_insert_default();
    meta.labels
        .get_or_insert_default()
        .insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = meta.labels.clone();
    let mut selector: LabelSelector = deployment.spec.selector.clone();
    selector
        .match_labels
        .get_or_insert_default()
        .insert(HASH_LABEL.to_owned(), hash.clone());
    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(set_name(objects::name(deployment), &hash)),
            namespace: deployment.metadata.namespace.clone(),
            labels,
            owner_references: Some(vec![objects::controller_reference(deployment)]),
            ..Default::default()
        },
        ..Default::default()
    };
    set.spec.replicas = Some(replicas);
    set.spec.min_ready_seconds = deployment.spec.min_ready_seconds;
    set.spec.selector = selector;
    set.spec.template = Some(template);
    let mut annotations = annotations_for(deployment, &set, revision);
    annotations.extend(size_annotations(&Goal::of(deployment)));
    set.metadata.annotations = Some(annotations);
    set
}

/// Pod names are this, a dash and five characters more; they must stay valid host names' labels.
fn set_name(deployment: &str, hash: &str) -> String {
    let room = 253 - hash.len() - 1;
    let mut end = deployment.len().min(room);
    while !deployment.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}-{hash}", &deployment[..end])
}

/// The annotations that the newest set should have: the Deployment's, and the revision with its history.
pub fn annotations_for(
    deployment: &Deployment,
    set: &ReplicaSet,
    revision: i64,
) -> BTreeMap<String, String> {
    let mut annotations = set.metadata.annotations.clone().unwrap_or_default();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !OWN_ANNOTATIONS.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let previous = of(set);
    if previous < revision {
        annotations.insert(REVISION.to_owned(), revision.to_string());
        if previous > 0 {
            let history = annotations.remove(REVISION_HISTORY).unwrap_or_default();
            annotations.insert(
                REVISION_HISTORY.to_owned(),
                extend_history(&history, previous),
            );
        }
    }
    annotations
}

fn extend_history(history: &str, revision: i64) -> String {
    let mut revisions: Vec<&str> = history.split(',').filter(|part| !part.is_empty()).collect();
    let newest = revision.to_string();
    revisions.push(&newest);
    let mut joined = revisions.join(",");
    while joined.len() > HISTORY_LENGTH_MAX && revisions.len() > 1 {
        revisions.remove(0);
        joined = revisions.join(",");
    }
    joined
}

/// The annotations from which the next change of size is spread in proportion.
pub fn size_annotations(goal: &Goal) -> BTreeMap<String, String> {
    BTreeMap::from([
        (DESIRED_REPLICAS.to_owned(), goal.replicas.to_string()),
        (MAX_REPLICAS.to_owned(), goal.max_total().to_string()),
    ])
}

/// An integer annotation of a set.
pub fn number(set: &ReplicaSet, annotation: &str) -> Option<i32> {
    objects::annotation(set, annotation)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn deployment(annotations: Value) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "annotations": annotations},
            "spec": {
                "replicas": 4,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_new_set_carries_hash_owner_and_annotations() {
        let set = new_set(
            &deployment(
                json!({"team": "a", "kubectl.kubernetes.io/last-applied-configuration": "x", REVISION: "6"}),
            ),
            7,
            2,
        );
        let hash = set.metadata.labels.as_ref().unwrap()[HASH_LABEL].clone();
        assert!((5..=10).contains(&hash.len()));
        assert_eq!(
            set.metadata.name.as_deref(),
            Some(format!("web-{hash}").as_str())
        );
        assert_eq!(
            set.spec.selector.match_labels.as_ref().unwrap()[HASH_LABEL],
            hash
        );
        let annotations = set.metadata.annotations.unwrap();
        let expected = [
            ("team", "a"),
            (REVISION, "7"),
            (DESIRED_REPLICAS, "4"),
            (MAX_REPLICAS, "5"),
        ];
        assert_eq!(
            annotations,
            expected
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into()
        );
        assert_eq!(set.metadata.owner_references.unwrap()[0].uid, "u");
    }

    #[test]
    fn a_template_is_found_again_whatever_its_hash_label() {
        let first = deployment(json!({}));
        let set = Arc::new(new_set(&first, 1, 0));
        let mut changed = first.clone();
        changed.spec.template.spec.as_mut().unwrap().containers[0].image = Some("other".into());
        let sets = [set, Arc::new(new_set(&changed, 2, 0))];
        assert_eq!(
            newest(&first, &sets).unwrap().metadata.name,
            sets[0].metadata.name
        );
        assert_eq!(
            newest(&changed, &sets).unwrap().metadata.name,
            sets[1].metadata.name
        );
        assert_ne!(sets[0].metadata.name, sets[1].metadata.name);
    }

    #[test]
    fn a_collision_gives_another_name() {
        let template = deployment(json!({})).spec.template;
        assert_ne!(
            template_hash(&template, None),
            template_hash(&template, Some(1))
        );
        assert_eq!(
            template_hash(&template, Some(1)),
            template_hash(&template, Some(1))
        );
    }

    #[test]
    fn a_set_that_is_used_again_keeps_its_history() {
        let first = deployment(json!({}));
        let mut set = new_set(&first, 1, 0);
        for revision in [3, 5] {
            set.metadata.annotations = Some(annotations_for(&first, &set, revision));
        }
        assert_eq!(of(&set), 5);
        assert_eq!(objects::annotation(&set, REVISION_HISTORY), Some("1,3"));
        // An older revision changes nothing.
        assert_eq!(
            annotations_for(&first, &set, 2),
            set.metadata.annotations.unwrap()
        );
        let long: Vec<String> = (0..2000).map(|n| n.to_string()).collect();
        let kept = extend_history(&long.join(","), 9999);
        assert!(kept.len() <= HISTORY_LENGTH_MAX && kept.ends_with(",9999"));
    }
}
