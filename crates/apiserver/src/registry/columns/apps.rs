//! Columns of StatefulSets, DaemonSets, ControllerRevisions, ReplicationControllers and PodTemplates.

use serde_json::Value;

use super::workloads::{number, template};
use super::{AGE, Column, NAME, age, integer, name, string, wide};
use crate::object::{items, text};

pub const STATEFUL_SET: &[Column] = &[
    NAME,
    string("Ready"),
    AGE,
    wide("Containers"),
    wide("Images"),
];

pub const DAEMON_SET: &[Column] = &[
    NAME,
    integer("Desired"),
    integer("Current"),
    integer("Ready"),
    integer("Up-to-date"),
    integer("Available"),
    string("Node Selector"),
    AGE,
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

pub const CONTROLLER_REVISION: &[Column] = &[NAME, string("Controller"), integer("Revision"), AGE];

pub const REPLICATION_CONTROLLER: &[Column] = &[
    NAME,
    integer("Desired"),
    integer("Current"),
    integer("Ready"),
    AGE,
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

pub const POD_TEMPLATE: &[Column] = &[
    NAME,
    string("Containers"),
    string("Images"),
    string("Pod Labels"),
];

pub fn stateful_set(object: &Value) -> Vec<Value> {
    let ready = number(object, "status", "readyReplicas");
    let [containers, images, _] = template(object);
    vec![
        name(object),
        format!("{ready}/{}", number(object, "spec", "replicas")).into(),
        age(object),
        containers,
        images,
    ]
}

pub fn daemon_set(object: &Value) -> Vec<Value> {
    let status = |key: &str| number(object, "status", key).into();
    let mut cells = vec![
        name(object),
        status("desiredNumberScheduled"),
        status("currentNumberScheduled"),
        status("numberReady"),
        status("updatedNumberScheduled"),
        status("numberAvailable"),
        pairs(&object["spec"]["template"]["spec"]["nodeSelector"]),
        age(object),
    ];
    cells.extend(template(object));
    cells
}

pub fn controller_revision(object: &Value) -> Vec<Value> {
    let owners = items(object, &["metadata", "ownerReferences"]);
    let controller = owners.iter().find(|owner| owner["controller"] == true);
    let shown = controller.map_or_else(
        || "<none>".to_owned(),
        |owner| {
            let kind = text(owner, &["kind"]).to_lowercase();
            let name = text(owner, &["name"]);
            match text(owner, &["apiVersion"]).split_once('/') {
                Some((group, _)) => format!("{kind}.{group}/{name}"),
                None => format!("{kind}/{name}"),
            }
        },
    );
    let revision = object["revision"].as_i64().unwrap_or(0);
    vec![name(object), shown.into(), revision.into(), age(object)]
}

pub fn replication_controller(object: &Value) -> Vec<Value> {
    let [containers, images, _] = template(object);
    vec![
        name(object),
        number(object, "spec", "replicas").into(),
        number(object, "status", "replicas").into(),
        number(object, "status", "readyReplicas").into(),
        age(object),
        containers,
        images,
        pairs(&object["spec"]["selector"]),
    ]
}

pub fn pod_template(object: &Value) -> Vec<Value> {
    let of = serde_json::json!({"spec": {"template": object["template"]}});
    let [containers, images, _] = template(&of);
    let labels = pairs(&object["template"]["metadata"]["labels"]);
    vec![name(object), containers, images, labels]
}

/// Labels as `a=b,c=d`.
fn pairs(labels: &Value) -> Value {
    super::or(&crate::handlers::labels_text(labels), "<none>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_are_upstreams() {
        let template = json!({"metadata": {"labels": {"b": "2", "a": "1"}},
            "spec": {"nodeSelector": {"disk": "ssd"}, "containers": [{"name": "x", "image": "x:1"}, {"name": "y", "image": "y:1"}]}});
        let selector = json!({"matchLabels": {"a": "1"}});
        let set = json!({"metadata": {"name": "web"}, "spec": {"replicas": 3, "selector": selector, "template": template}, "status": {"readyReplicas": 2}});
        let cells = stateful_set(&set);
        assert_eq!(cells[0..2], [json!("web"), json!("2/3")]);
        assert_eq!(cells[3..], [json!("x,y"), json!("x:1,y:1")]);
        assert_eq!(cells.len(), STATEFUL_SET.len());
        let set = json!({"metadata": {"name": "agent"}, "spec": {"selector": selector, "template": template},
            "status": {"desiredNumberScheduled": 5, "currentNumberScheduled": 4, "numberReady": 3, "updatedNumberScheduled": 2, "numberAvailable": 1}});
        let cells = daemon_set(&set);
        assert_eq!(
            cells[1..7],
            [
                json!(5),
                json!(4),
                json!(3),
                json!(2),
                json!(1),
                json!("disk=ssd")
            ]
        );
        assert_eq!(cells[8..], [json!("x,y"), json!("x:1,y:1"), json!("a=1")]);
        let old = json!({"metadata": {"name": "rc"}, "spec": {"replicas": 3, "selector": {"b": "2", "a": "1"}, "template": template}, "status": {"replicas": 2, "readyReplicas": 1}});
        let cells = replication_controller(&old);
        assert_eq!(cells[1..4], [json!(3), json!(2), json!(1)]);
        assert_eq!(cells[7], "a=1,b=2");
        let kept = json!({"metadata": {"name": "t"}, "template": template});
        assert_eq!(
            pod_template(&kept),
            [json!("t"), json!("x,y"), json!("x:1,y:1"), json!("a=1,b=2")]
        );
    }

    #[test]
    fn a_revision_names_its_controller() {
        let owner = |version: &str, kind: &str| json!([{"apiVersion": version, "kind": kind, "name": "web", "controller": true}]);
        let cases = [
            (owner("apps/v1", "StatefulSet"), "statefulset.apps/web"),
            (owner("v1", "Pod"), "pod/web"),
            (json!([]), "<none>"),
        ];
        for (owners, expected) in cases {
            let revision =
                json!({"metadata": {"name": "r", "ownerReferences": owners}, "revision": 4});
            let cells = controller_revision(&revision);
            assert_eq!(cells[1..3], [json!(expected), json!(4)]);
        }
    }
}
