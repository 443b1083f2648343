//! Readable clusters for tests.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::decide::{Placement, Refusal, decide};
use crate::incoming::Incoming;
use crate::labels::Labels;
use crate::resident::Resident;
use crate::storage::Storage;

/// Puts `change` over `into`; lists are replaced.
pub fn merge(into: &mut Value, change: &Value) {
    for (key, value) in change.as_object().into_iter().flatten() {
        match value.is_object() && into[key].is_object() {
            true => merge(&mut into[key], value),
            false => into[key] = value.clone(),
        }
    }
}

/// A pod `default/NAME` whose uid is its name.
pub fn pod(name: &str, change: Value) -> Pod {
    let mut value = json!({"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": {"containers": []}});
    merge(&mut value, &change);
    serde_json::from_value(value).unwrap()
}

/// One container that asks for this.
pub fn asking(cpu: &str, memory: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]}})
}

/// Nodes of 4 processors and 4 GiB, each with a host name, changed so.
pub fn cluster(nodes: &[(&str, Value)]) -> Cluster {
    let mut cluster = Cluster::default();
    for (name, change) in nodes {
        let mut node = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {},
            "status": {"allocatable": {"cpu": "4", "memory": "4Gi", "pods": "20"}},
        });
        merge(&mut node, change);
        cluster.set_node(serde_json::from_value(node).unwrap());
    }
    cluster
        .namespaces
        .insert("default".to_owned(), Labels::new());
    cluster
}

/// A node's change: its zone.
pub fn zone(zone: &str) -> Value {
    json!({"metadata": {"labels": {"zone": zone}}})
}

/// The pod runs there.
pub fn place(cluster: &mut Cluster, node: &str, name: &str, change: Value) {
    cluster.place(node, Arc::new(Resident::of(&pod(name, change))));
}

pub fn ask(pod: &Pod, cluster: &Cluster) -> Result<Placement, Refusal> {
    decide(&Incoming::of(pod), cluster, &Storage::default(), "")
}

/// The node, or the message.
pub fn answer(pod: &Pod, cluster: &Cluster) -> Result<String, String> {
    let answer = ask(pod, cluster);
    answer
        .map(|placed| placed.node)
        .map_err(|refused| refused.message)
}
