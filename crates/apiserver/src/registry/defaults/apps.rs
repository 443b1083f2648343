//! Defaults of StatefulSets, DaemonSets, ReplicationControllers and PodTemplates.

use serde_json::Value;

use super::{child, claim, each, set, template};
use crate::object::text;

const ROLLING: &str = "RollingUpdate";

pub fn stateful_set(object: &mut Value) {
    let spec = child(object, "spec");
    set(spec, "podManagementPolicy", "OrderedReady");
    let strategy = child(spec, "updateStrategy");
    if text(strategy, &["type"]).is_empty() {
        strategy["type"] = ROLLING.into();
        child(strategy, "rollingUpdate");
    }
    // unlike a Deployment's, one that names the type and says no more has no numbers
    if strategy["type"] == ROLLING && strategy["rollingUpdate"].is_object() {
        let rolling = &mut strategy["rollingUpdate"];
        set(rolling, "partition", 0);
        set(rolling, "maxUnavailable", 1);
    }
    let retention = child(spec, "persistentVolumeClaimRetentionPolicy");
    set(retention, "whenDeleted", "Retain");
    set(retention, "whenScaled", "Retain");
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    each(spec, "volumeClaimTemplates", |one| {
        one["apiVersion"] = "v1".into();
        one["kind"] = "PersistentVolumeClaim".into();
        claim(one);
    });
    template(spec);
}

pub fn daemon_set(object: &mut Value) {
    let spec = child(object, "spec");
    let strategy = child(spec, "updateStrategy");
    if text(strategy, &["type"]).is_empty() {
        strategy["type"] = ROLLING.into();
    }
    if strategy["type"] == ROLLING {
        let rolling = child(strategy, "rollingUpdate");
        set(rolling, "maxUnavailable", 1);
        set(rolling, "maxSurge", 0);
    }
    set(spec, "revisionHistoryLimit", 10);
    template(spec);
}

/// Without a selector it takes its template's labels, and without labels of its own too.
pub fn replication_controller(object: &mut Value) {
    let labels = object["spec"]["template"]["metadata"]["labels"].clone();
    let empty = |value: &Value| value.as_object().is_none_or(serde_json::Map::is_empty);
    if !empty(&labels) {
        if empty(&object["spec"]["selector"]) {
            object["spec"]["selector"] = labels.clone();
        }
        if empty(&object["metadata"]["labels"]) {
            object["metadata"]["labels"] = labels;
        }
    }
    let spec = child(object, "spec");
    set(spec, "replicas", 1);
    if spec["template"].is_object() {
        template(spec);
    }
}

pub fn pod_template(object: &mut Value) {
    template(object);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(spec: Value) -> Value {
        let mut object = json!({"spec": spec});
        let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}});
        object["spec"]["template"] = template;
        object
    }

    #[test]
    fn stateful_sets_get_upstreams_defaults() {
        let mut object =
            of(json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}));
        stateful_set(&mut object);
        let spec = &object["spec"];
        assert_eq!(spec["podManagementPolicy"], "OrderedReady");
        assert_eq!(
            spec["updateStrategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}})
        );
        assert_eq!(
            spec["persistentVolumeClaimRetentionPolicy"],
            json!({"whenDeleted": "Retain", "whenScaled": "Retain"})
        );
        assert_eq!(
            (&spec["replicas"], &spec["revisionHistoryLimit"]),
            (&json!(1), &json!(10))
        );
        assert_eq!(
            spec["volumeClaimTemplates"],
            json!([{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
                "spec": {"volumeMode": "Filesystem"}, "status": {"phase": "Pending"}}])
        );
        assert_eq!(spec["template"]["spec"]["restartPolicy"], "Always");
        let before = object.clone();
        stateful_set(&mut object);
        assert_eq!(object, before, "defaulting twice changes nothing");
        for strategy in [
            json!({"type": "RollingUpdate"}),
            json!({"type": "OnDelete"}),
        ] {
            let mut object = of(json!({"updateStrategy": strategy.clone()}));
            stateful_set(&mut object);
            assert_eq!(object["spec"]["updateStrategy"], strategy);
        }
    }

    #[test]
    fn daemon_sets_get_upstreams_defaults() {
        let mut object = of(json!({}));
        daemon_set(&mut object);
        assert_eq!(
            object["spec"]["updateStrategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}})
        );
        assert_eq!(object["spec"]["revisionHistoryLimit"], 10);
        assert!(object["spec"].get("replicas").is_none());
        let mut object = of(json!({"updateStrategy": {"type": "OnDelete"}}));
        daemon_set(&mut object);
        assert_eq!(
            object["spec"]["updateStrategy"],
            json!({"type": "OnDelete"})
        );
    }

    #[test]
    fn a_replication_controller_takes_its_templates_labels() {
        let mut object = of(json!({}));
        replication_controller(&mut object);
        assert_eq!(object["spec"]["selector"], json!({"app": "a"}));
        assert_eq!(object["metadata"]["labels"], json!({"app": "a"}));
        assert_eq!(object["spec"]["replicas"], 1);
        let mut object = of(json!({"selector": {"b": "c"}}));
        object["metadata"] = json!({"labels": {"d": "e"}});
        replication_controller(&mut object);
        assert_eq!(object["spec"]["selector"], json!({"b": "c"}));
        assert_eq!(object["metadata"]["labels"], json!({"d": "e"}));
    }
}
