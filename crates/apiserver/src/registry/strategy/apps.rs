//! Strategies of StatefulSets, DaemonSets, ReplicationControllers and PodTemplates.

use serde_json::{Value, json};

use crate::object::{metadata, text};

/// Counts a DaemonSet's templates, as its group's first versions did in the spec.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub fn stateful_set_create(object: &mut Value) {
    object["status"] = json!({"replicas": 0, "availableReplicas": 0});
}

pub fn replication_controller_create(object: &mut Value) {
    object["status"] = json!({"replicas": 0});
}

pub fn daemon_set_create(object: &mut Value) {
    object["status"] = json!({
        "currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0,
    });
    let given = template_generation(object).max(1);
    set_template_generation(object, given);
}

/// The template's generation is the server's to count, whatever the writer says.
pub fn daemon_set_update(new: &mut Value, old: &Value) {
    let changed = new["spec"]["template"] != old["spec"]["template"];
    let before = template_generation(old);
    set_template_generation(new, before + i64::from(changed));
}

fn template_generation(object: &Value) -> i64 {
    text(object, &["metadata", "annotations", TEMPLATE_GENERATION])
        .parse()
        .unwrap_or(0)
}

fn set_template_generation(object: &mut Value, generation: i64) {
    let annotations = metadata(object)
        .entry("annotations")
        .or_insert_with(|| json!({}));
    annotations[TEMPLATE_GENERATION] = generation.to_string().into();
}

/// A PodTemplate has no spec: its template is what is wanted.
pub fn pod_template_update(new: &mut Value, old: &Value) {
    if new["template"] != old["template"] {
        let generation = new["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        new["metadata"]["generation"] = generation.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_sets_templates_are_counted_by_the_server() {
        let mut first = json!({"metadata": {}, "spec": {"template": {"a": 1}}});
        daemon_set_create(&mut first);
        assert_eq!(template_generation(&first), 1);
        let cases = [
            // what the writer says of the number, the template, the number afterwards
            (json!({}), json!({"a": 1}), 1),
            (json!({TEMPLATE_GENERATION: "7"}), json!({"a": 1}), 1),
            (json!({}), json!({"a": 2}), 2),
        ];
        for (annotations, template, expected) in cases {
            let mut new =
                json!({"metadata": {"annotations": annotations}, "spec": {"template": template}});
            daemon_set_update(&mut new, &first);
            assert_eq!(template_generation(&new), expected, "{new}");
        }
    }

    #[test]
    fn a_pod_templates_changes_are_counted() {
        let old = json!({"metadata": {"generation": 3}, "template": {"a": 1}});
        let mut same = old.clone();
        pod_template_update(&mut same, &old);
        assert_eq!(same, old);
        let mut other = json!({"metadata": {"generation": 3}, "template": {"a": 2}});
        pod_template_update(&mut other, &old);
        assert_eq!(other["metadata"]["generation"], 4);
    }
}
