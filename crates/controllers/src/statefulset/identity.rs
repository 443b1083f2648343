//! Who the pods of a StatefulSet are: their ordinals, names, labels and claims.
//!
//! Pure. Follows `pkg/controller/statefulset/stateful_set_utils.go`.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};
use kube::api::ObjectMeta;

use crate::objects;
use crate::pod_control::from_template;

/// Labels of pods, by upstream's names.
pub const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
pub const POD_INDEX: &str = "apps.kubernetes.io/pod-index";
pub const REVISION: &str = "controller-revision-hash";

/// The ordinal in the name of one of the set's pods; nothing for other names.
pub fn ordinal(set: &str, pod: &str) -> Option<i32> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    let ordinal: i32 = digits.parse().ok()?;
    // neither "01" nor "+1"
    (ordinal >= 0 && ordinal.to_string() == digits).then_some(ordinal)
}

/// The name of the pod with an ordinal.
pub fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", objects::name(set))
}

/// The first ordinal and the one after the last.
pub fn range(set: &StatefulSet) -> (i32, i32) {
    let start = set.spec.ordinals.as_ref().and_then(|one| one.start);
    let start = start.unwrap_or(0);
    let replicas = set.spec.replicas.unwrap_or(1).max(0);
    (start, start.saturating_add(replicas))
}

/// The revision that a pod was made from; nothing if it does not say.
pub fn revision(pod: &Pod) -> &str {
    let labels = pod.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(REVISION))
        .map(String::as_str)
        .unwrap_or_default()
}

/// The pod with an ordinal, from a template that is kept in `revision`.
pub fn pod(set: &StatefulSet, template: PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let mut pod = from_template(template, set);
    let name = pod_name(set, ordinal);
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.extend(labels_of(&name, ordinal));
    labels.insert(REVISION.to_owned(), revision.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set.spec.service_name.clone();
    let mut volumes: Vec<Volume> = claims(set, ordinal)
        .into_iter()
        .map(|(volume, claim)| Volume {
            name: volume,
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: objects::name(&claim).to_owned(),
                read_only: None,
            }),
            ..Default::default()
        })
        .collect();
    for own in spec.volumes.take().into_iter().flatten() {
        if !volumes.iter().any(|volume| volume.name == own.name) {
            volumes.push(own);
        }
    }
    spec.volumes = (!volumes.is_empty()).then_some(volumes);
    pod
}

/// The labels that every pod of a set has.
pub fn labels_of(name: &str, ordinal: i32) -> [(String, String); 2] {
    [
        (POD_NAME.to_owned(), name.to_owned()),
        (POD_INDEX.to_owned(), ordinal.to_string()),
    ]
}

/// Whether a pod has those labels.
pub fn is_labelled(pod: &Pod, ordinal: i32) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels_of(objects::name(pod), ordinal)
        .iter()
        .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

/// The claims of the pod with an ordinal, each with the name of its volume.
pub fn claims(set: &StatefulSet, ordinal: i32) -> Vec<(String, PersistentVolumeClaim)> {
    let templates = set.spec.volume_claim_templates.iter().flatten();
    templates
        .map(|template| {
            let volume = objects::name(template).to_owned();
            let mut labels = template.metadata.labels.clone().unwrap_or_default();
            labels.extend(set.spec.selector.match_labels.clone().unwrap_or_default());
            let claim = PersistentVolumeClaim {
                metadata: ObjectMeta {
                    name: Some(format!("{volume}-{}-{ordinal}", objects::name(set))),
                    namespace: set.metadata.namespace.clone(),
                    labels: (!labels.is_empty()).then_some(labels),
                    annotations: template.metadata.annotations.clone(),
                    ..Default::default()
                },
                spec: template.spec.clone(),
                status: None,
            };
            (volume, claim)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_tell_ordinals() {
        let cases = [
            ("web-0", Some(0)),
            ("web-12", Some(12)),
            ("web-01", None),
            ("web--1", None),
            ("web-", None),
            ("web", None),
            ("web-a", None),
            ("web-2-3", None),
            ("webs-1", None),
            ("web-99999999999", None),
        ];
        for (name, expected) in cases {
            assert_eq!(ordinal("web", name), expected, "{name}");
        }
        assert_eq!(ordinal("web-2", "web-2-3"), Some(3));
    }

    #[test]
    fn a_pod_has_its_names_labels_and_claims() {
        let set: StatefulSet = serde_json::from_value(json!({
            "metadata": {"name": "db", "namespace": "shop", "uid": "u"},
            "spec": {
                "replicas": 2, "serviceName": "dbs", "ordinals": {"start": 5},
                "selector": {"matchLabels": {"app": "db"}},
                "template": {"metadata": {"labels": {"app": "db"}, "annotations": {"a": "b"}}, "spec": {
                    "containers": [{"name": "c"}],
                    "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]}},
                "volumeClaimTemplates": [{"metadata": {"name": "data", "labels": {"tier": "x"}}, "spec": {"accessModes": ["ReadWriteOnce"]}}],
            },
        }))
        .unwrap();
        assert_eq!(range(&set), (5, 7));
        let pod = pod(&set, set.spec.template.clone(), "db-1a", 6);
        assert_eq!(
            json!(pod),
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": "db-6", "namespace": "shop", "annotations": {"a": "b"},
                    "labels": {"app": "db", POD_NAME: "db-6", POD_INDEX: "6", REVISION: "db-1a"},
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "u", "controller": true, "blockOwnerDeletion": true}],
                },
                "spec": {
                    "hostname": "db-6", "subdomain": "dbs", "containers": [{"name": "c"}],
                    "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-6"}}, {"name": "tmp", "emptyDir": {}}],
                },
            })
        );
        assert!(is_labelled(&pod, 6) && !is_labelled(&pod, 5));
        assert_eq!(revision(&pod), "db-1a");
        let (volume, claim) = claims(&set, 6).remove(0);
        assert_eq!(volume, "data");
        assert_eq!(
            json!(claim),
            json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": "data-db-6", "namespace": "shop", "labels": {"app": "db", "tier": "x"}},
                "spec": {"accessModes": ["ReadWriteOnce"]},
            })
        );
    }
}
