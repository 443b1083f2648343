//! The pods that a Job makes.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use kube::api::ObjectMeta;

use super::look::Indexed;
use super::pod::{self, FAILURES, FINALIZER, IGNORED_FAILURES, INDEX};
use super::policy::{self, Ruling};
use crate::objects;

/// Tells a container its index.
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// Longer prefixes of generated names are cut.
const PREFIX_MAX: usize = 58;

/// The pod of an index, or of no index.
pub fn pod_of(job: &Job, index: Option<i32>, indexed: Option<&Indexed>) -> Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone());
    let template = template.unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    let mut finalizers = meta.finalizers.unwrap_or_default();
    if !finalizers.iter().any(|known| known == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
    let mut made = Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", objects::name(job))),
            namespace: job.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: Some(finalizers),
            owner_references: Some(vec![objects::controller_reference(job)]),
            ..Default::default()
        },
        spec: template.spec,
        status: None,
    };
    if let (Some(index), Some(seen)) = (index, indexed) {
        give_index(&mut made, job, index, seen);
    }
    made
}

fn give_index(made: &mut Pod, job: &Job, index: i32, seen: &Indexed) {
    let name = objects::name(job);
    let suffix = format!("-{index}-");
    let room = PREFIX_MAX.saturating_sub(suffix.len());
    let prefix = name.get(..room).unwrap_or(name);
    made.metadata.generate_name = Some(format!("{prefix}{suffix}"));
    let labels = made.metadata.labels.get_or_insert_default();
    labels.insert(INDEX.to_owned(), index.to_string());
    let annotations = made.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), index.to_string());
    if seen.failed.is_some() {
        let (counted, ignored) = failures(job, seen.kept.get(&index).map(|pod| &**pod));
        annotations.insert(FAILURES.to_owned(), counted.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED_FAILURES.to_owned(), ignored.to_string());
        }
    }
    if let Some(spec) = &mut made.spec {
        spec.hostname = Some(format!("{name}-{index}"));
        let containers = spec.containers.iter_mut();
        let inits = spec.init_containers.iter_mut().flatten();
        containers.chain(inits).for_each(tell_index);
    }
}

/// Failures of an index, counted and not, after its last pod.
fn failures(job: &Job, last: Option<&Pod>) -> (i32, i32) {
    let Some(last) = last else {
        return (0, 0);
    };
    let (counted, ignored) = (pod::failures(last), pod::ignored_failures(last));
    match policy::of_failed(last, job) {
        Ruling::Ignore => (counted, ignored.saturating_add(1)),
        _ => (counted.saturating_add(1), ignored),
    }
}

fn tell_index(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|known| known.name == INDEX_VARIABLE) {
        return;
    }
    variables.push(EnvVar {
        name: INDEX_VARIABLE.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: None,
                field_path: format!("metadata.labels['{INDEX}']"),
            }),
            ..Default::default()
        }),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::indexes::Indexes;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn job(spec: Value) -> Job {
        let mut job = json!({"metadata": {"name": "work", "namespace": "n", "uid": "u"}, "spec": {"template": {
            "metadata": {"labels": {"a": "b"}, "finalizers": ["mine/own"]},
            "spec": {"containers": [{"name": "c"}], "initContainers": [{"name": "i", "env": [{"name": "JOB_COMPLETION_INDEX", "value": "x"}]}]}}}});
        for (key, value) in spec.as_object().unwrap() {
            job["spec"][key] = value.clone();
        }
        serde_json::from_value(job).unwrap()
    }

    #[test]
    fn a_pod_belongs_to_its_job_and_waits_to_be_counted() {
        let made = json!(pod_of(&job(json!({})), None, None));
        assert_eq!(
            made["metadata"],
            json!({
                "generateName": "work-", "namespace": "n", "labels": {"a": "b"},
                "finalizers": ["mine/own", "batch.kubernetes.io/job-tracking"],
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "work", "uid": "u",
                    "controller": true, "blockOwnerDeletion": true}],
            })
        );
        assert_eq!(made["spec"]["containers"], json!([{"name": "c"}]));
    }

    #[test]
    fn an_index_is_told_everywhere() {
        let seen = Indexed {
            completions: 5,
            ..Default::default()
        };
        let made = json!(pod_of(&job(json!({})), Some(3), Some(&seen)));
        assert_eq!(made["metadata"]["generateName"], "work-3-");
        assert_eq!(made["metadata"]["labels"], json!({"a": "b", INDEX: "3"}));
        assert_eq!(made["metadata"]["annotations"], json!({INDEX: "3"}));
        assert_eq!(made["spec"]["hostname"], "work-3");
        assert_eq!(
            made["spec"]["containers"][0]["env"],
            json!([{"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {
                "fieldPath": "metadata.labels['batch.kubernetes.io/job-completion-index']"}}}])
        );
        assert_eq!(made["spec"]["initContainers"][0]["env"][0]["value"], "x");

        let mut long = job(json!({}));
        long.metadata.name = Some("a".repeat(60));
        let made = pod_of(&long, Some(12), Some(&seen));
        let prefix = made.metadata.generate_name.unwrap();
        assert_eq!(prefix, format!("{}-12-", "a".repeat(54)));
    }

    #[test]
    fn failures_of_an_index_are_handed_on() {
        let rules = json!({"podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "Gone", "status": "True"}]}]}});
        for (condition, expected) in [
            (None, (Value::Null, json!("0"))),
            (Some("Bad"), (json!("1"), json!("3"))),
            (Some("Gone"), (json!("2"), json!("2"))),
        ] {
            let mut seen = Indexed {
                completions: 5,
                failed: Some(Indexes::default()),
                ..Default::default()
            };
            if let Some(type_) = condition {
                let last: Pod = serde_json::from_value(json!({
                    "metadata": {"annotations": {FAILURES: "2", IGNORED_FAILURES: "1"}},
                    "status": {"phase": "Failed", "conditions": [{"type": type_, "status": "True"}]}}))
                .unwrap();
                seen.kept.insert(3, Arc::new(last));
            }
            let made = json!(pod_of(&job(rules.clone()), Some(3), Some(&seen)));
            let annotations = &made["metadata"]["annotations"];
            let found = (
                annotations[IGNORED_FAILURES].clone(),
                annotations[FAILURES].clone(),
            );
            assert_eq!(found, expected, "{condition:?}");
        }
    }
}
