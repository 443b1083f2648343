//! Strategies of Jobs and CronJobs: selectors that are made here, and alpha fields that are off.

use serde_json::{Value, json};

use super::drop_status;
use crate::object::text;

/// Labels of a Job's pods that hold the Job's name, and those that hold its uid. The first of each is upstream's old one.
pub(crate) const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
pub(crate) const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];

pub fn job_create(object: &mut Value) {
    drop_status(object);
    // The gate WorkloadWithJob is off.
    if let Some(spec) = object["spec"].as_object_mut() {
        spec.remove("scheduling");
    }
}

/// Pods are found by the Job's uid unless the Job says how. Needs the name, which may be generated.
pub fn job_named(object: &mut Value) {
    if object["spec"]["manualSelector"] != true {
        let name = text(object, &["metadata", "name"]).to_owned();
        let uid = text(object, &["metadata", "uid"]).to_owned();
        let template = &mut object["spec"]["template"]["metadata"];
        for (keys, value) in [(NAME_LABELS, &name), (UID_LABELS, &uid)] {
            for key in keys {
                // Others are a mistake to be told.
                add(template, "labels", key, value);
            }
        }
        let spec = &mut object["spec"];
        if !spec["selector"].is_object() {
            spec["selector"] = json!({});
        }
        add(&mut spec["selector"], "matchLabels", UID_LABELS[1], &uid);
    }
    labels_of_template(object);
}

pub fn job_update(new: &mut Value, _: &Value) {
    labels_of_template(new);
}

pub fn cron_job_create(object: &mut Value) {
    drop_status(object);
    if let Some(spec) = object["spec"]["jobTemplate"]["spec"].as_object_mut() {
        spec.remove("scheduling");
    }
}

fn add(object: &mut Value, map: &str, key: &str, value: &str) {
    if !object[map].is_object() {
        object[map] = json!({});
    }
    if object[map].get(key).is_none() {
        object[map][key] = value.into();
    }
}

/// A Job without labels has those of its pods.
fn labels_of_template(object: &mut Value) {
    let none = object["metadata"]["labels"]
        .as_object()
        .is_none_or(serde_json::Map::is_empty);
    let given = object["spec"]["template"]["metadata"].get("labels");
    if let (true, Some(labels)) = (none, given.cloned()) {
        object["metadata"]["labels"] = labels;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_and_labels_are_made_unless_they_are_given() {
        let job = |spec: Value, labels: Value| {
            let mut object = json!({"metadata": {"name": "a", "uid": "u"}, "spec": spec});
            if !labels.is_null() {
                object["metadata"]["labels"] = labels;
            }
            job_named(&mut object);
            object
        };
        let all = json!({"job-name": "a", "batch.kubernetes.io/job-name": "a",
            "controller-uid": "u", "batch.kubernetes.io/controller-uid": "u"});
        let made = job(json!({"template": {"metadata": {}}}), Value::Null);
        assert_eq!(
            made["spec"]["selector"],
            json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}})
        );
        assert_eq!(made["spec"]["template"]["metadata"]["labels"], all);
        assert_eq!(made["metadata"]["labels"], all);
        let kept = job(
            json!({"template": {"metadata": {"labels": {"job-name": "other", "x": "y"}}}}),
            json!({"mine": "1"}),
        );
        assert_eq!(
            kept["spec"]["template"]["metadata"]["labels"]["job-name"],
            "other"
        );
        assert_eq!(kept["metadata"]["labels"], json!({"mine": "1"}));
        let manual = json!({"manualSelector": true, "selector": {"matchLabels": {"x": "y"}}, "template": {"metadata": {"labels": {"x": "y"}}}});
        let given = job(manual.clone(), Value::Null);
        assert_eq!(given["spec"], manual);
        assert_eq!(given["metadata"]["labels"], json!({"x": "y"}));
    }
}
