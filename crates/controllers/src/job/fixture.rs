//! Jobs and pods for the tables of this module's tests.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::pod::{FINALIZER, INDEX};

/// The time of all tables.
pub fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().unwrap()
}

pub fn merge(object: &mut Value, change: &Value) {
    match change {
        Value::Object(change) if object.is_object() => {
            for (key, value) in change {
                merge(&mut object[key.as_str()], value);
            }
        }
        change => *object = change.clone(),
    }
}

/// One completion, one at a time, unless `spec` says otherwise; it began ten minutes ago, unless `status` does.
pub fn job(spec: Value, status: Value) -> Job {
    let mut job = json!({
        "metadata": {"name": "work", "namespace": "n", "uid": "job"},
        "spec": {"completions": 1, "parallelism": 1, "backoffLimit": 6, "template": {"spec": {"restartPolicy": "Never", "containers": []}}},
        "status": {"startTime": "2026-01-01T00:00:00Z"},
    });
    merge(&mut job["spec"], &spec);
    merge(&mut job["status"], &status);
    serde_json::from_value(job).unwrap()
}

/// A pod of the Job that has not been counted: `a=Running`, of an index: `a@3=Failed`. Behind it may stand `deleted`,
/// `counted` (it has no finalizer) and `ready`.
pub fn pod(text: &str) -> Arc<Pod> {
    pod_with(text, json!({}))
}

pub fn pod_with(text: &str, change: Value) -> Arc<Pod> {
    let mut words = text.split_whitespace();
    let (name, phase) = words.next().unwrap().split_once('=').unwrap();
    let (name, index) = match name.split_once('@') {
        Some((name, index)) => (name, Some(index)),
        None => (name, None),
    };
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "n", "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {}, "finalizers": [FINALIZER]},
        "spec": {"containers": [], "nodeName": "one"},
        "status": {"phase": phase},
    });
    if let Some(index) = index {
        pod["metadata"]["annotations"][INDEX] = index.into();
    }
    for word in words {
        match word {
            "deleted" => pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:09:00Z".into(),
            "counted" => pod["metadata"]["finalizers"] = json!([]),
            "ready" => {
                pod["status"]["conditions"] = json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:01:00Z"}]);
            }
            other => panic!("{other}"),
        }
    }
    merge(&mut pod, &change);
    Arc::new(serde_json::from_value(pod).unwrap())
}

pub fn pods(texts: &[&str]) -> Vec<Arc<Pod>> {
    texts.iter().map(|text| pod(text)).collect()
}

/// That a container ended with a code, at a second of the hour.
pub fn exited(code: i32, second: u32) -> Value {
    let at = format!("2026-01-01T00:{:02}:{:02}Z", second / 60, second % 60);
    json!({"status": {"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": code, "finishedAt": at}}}]}})
}
