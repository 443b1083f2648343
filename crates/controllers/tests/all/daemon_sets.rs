//! DaemonSets on nodes that come, change and go, against the real API server in this process.

use crate::cluster::Cluster;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch};
use serde_json::{Value, json};

fn set(change: impl FnOnce(&mut Value)) -> Value {
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "agent"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {
                "metadata": {"labels": {"app": "agent"}},
                "spec": {"containers": [{"name": "c", "image": "v1"}]},
            },
        },
    });
    change(&mut set["spec"]);
    set
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

/// One more node; the pretended kubelet is of all nodes.
async fn node(cluster: &Cluster, name: &str, labels: Value) {
    let api: Api<Node> = Api::all(cluster.client.clone());
    let status = json!({"allocatable": {"cpu": "4", "memory": "4Gi", "pods": "20"}, "conditions": [{"type": "Ready", "status": "True"}]});
    let node = json!({"metadata": {"name": name, "labels": labels}, "status": status});
    let node = serde_json::from_value(node).unwrap();
    api.create(&Default::default(), &node).await.unwrap();
    let status = Patch::Merge(json!({"status": status}));
    api.patch_status(name, &Default::default(), &status)
        .await
        .unwrap();
}

/// Node and image of every pod that is not going.
async fn pods(cluster: &Cluster) -> Vec<String> {
    let pods: Vec<Pod> = cluster.list().await;
    let staying = pods
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let mut found: Vec<String> = staying
        .map(|pod| {
            let spec = pod.spec.unwrap();
            let image = spec.containers[0].image.clone().unwrap();
            format!("{}={image}", spec.node_name.unwrap_or_default())
        })
        .collect();
    found.sort();
    found
}

async fn complete(cluster: &Cluster, nodes: i32) {
    cluster
        .until("a pod on every node", || async {
            let live: DaemonSet = cluster.api().get("agent").await.unwrap();
            let status = live.status.unwrap_or_default();
            status.observed_generation == live.metadata.generation
                && status.desired_number_scheduled == nodes
                && status.updated_number_scheduled.unwrap_or(0) == nodes
                && status.number_available.unwrap_or(0) == nodes
                && status.number_misscheduled == 0
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_that_should_have_a_pod_has_one() {
    let cluster = Cluster::start(Some(64)).await;
    let _: DaemonSet = cluster.create(set(|_| {})).await;
    complete(&cluster, 1).await;
    assert_eq!(pods(&cluster).await, ["one=v1"]);
    node(&cluster, "two", json!({"disk": "ssd"})).await;
    complete(&cluster, 2).await;
    assert_eq!(pods(&cluster).await, ["one=v1", "two=v1"]);

    // a cordoned node keeps its pod, also when it is made anew; one with a taint of somebody's gets none
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let cordon = Patch::Merge(json!({"spec": {"unschedulable": true}}));
    nodes
        .patch("two", &Default::default(), &cordon)
        .await
        .unwrap();
    let api: Api<Pod> = cluster.api();
    api.delete_collection(&DeleteParams::default(), &Default::default())
        .await
        .unwrap();
    complete(&cluster, 2).await;
    cluster
        .until("both again", || async {
            pods(&cluster).await == ["one=v1", "two=v1"]
        })
        .await;
    let taint = Patch::Merge(
        json!({"spec": {"unschedulable": null, "taints": [{"key": "own", "effect": "NoExecute"}]}}),
    );
    nodes
        .patch("two", &Default::default(), &taint)
        .await
        .unwrap();
    complete(&cluster, 1).await;
    let clean = Patch::Merge(json!({"spec": {"taints": null}}));
    nodes
        .patch("two", &Default::default(), &clean)
        .await
        .unwrap();
    complete(&cluster, 2).await;

    // chosen by label
    let chosen = json!({"spec": {"template": {"spec": {"nodeSelector": {"disk": "ssd"}}}}});
    let _: DaemonSet = cluster.patch("agent", chosen).await;
    complete(&cluster, 1).await;
    cluster
        .until("one pod", || async { pods(&cluster).await == ["two=v1"] })
        .await;
    cluster
        .told("SuccessfulCreate", |told| {
            told.iter()
                .any(|line| line.starts_with("Created pod: agent-"))
        })
        .await;

    // a pod that failed is made anew
    let pod: Pod = cluster.list().await.remove(0);
    let failed = Patch::Merge(json!({"status": {"phase": "Failed"}}));
    let name = pod.metadata.name.unwrap();
    api.patch_status(&name, &Default::default(), &failed)
        .await
        .unwrap();
    cluster
        .until("another pod", || async {
            api.get_opt(&name).await.unwrap().is_none() && pods(&cluster).await == ["two=v1"]
        })
        .await;
    let found = format!("Found failed daemon pod default/{name} on node two, will try to kill it");
    cluster
        .told("FailedDaemonPod", |told| told == [found.clone()])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn templates_roll_out_and_are_remembered() {
    let cluster = Cluster::start(Some(64)).await;
    node(&cluster, "two", json!({})).await;
    let _: DaemonSet = cluster
        .create(set(|spec| spec["revisionHistoryLimit"] = json!(1)))
        .await;
    complete(&cluster, 2).await;
    // one at a time: a broken one stops it
    let _: DaemonSet = cluster.patch("agent", image("broken")).await;
    cluster
        .until("half an update", || async {
            let live: DaemonSet = cluster.api().get("agent").await.unwrap();
            let status = live.status.unwrap();
            status.updated_number_scheduled == Some(1)
                && status.number_unavailable == Some(1)
                && status.current_number_scheduled == 2
        })
        .await;
    // the first is remembered longer than the broken one: a pod had it until the end
    for (next, known) in [("v2", vec![1, 3]), ("v3", vec![3, 4]), ("v2", vec![4, 5])] {
        let _: DaemonSet = cluster.patch("agent", image(next)).await;
        complete(&cluster, 2).await;
        let expected = ["one", "two"].map(|node| format!("{node}={next}"));
        assert_eq!(pods(&cluster).await, expected);
        cluster
            .until("the history", || async {
                let all: Vec<ControllerRevision> = cluster.list().await;
                let mut numbers: Vec<i64> =
                    all.into_iter().filter_map(|one| one.revision).collect();
                numbers.sort_unstable();
                numbers == known
            })
            .await;
    }
    // the new pod beside the old one
    let surge = json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}});
    let _: DaemonSet = cluster.patch("agent", surge).await;
    let _: DaemonSet = cluster.patch("agent", image("broken")).await;
    cluster
        .until("three pods", || async {
            let found = pods(&cluster).await;
            let old = found.iter().filter(|pod| pod.ends_with("=v2")).count();
            (found.len(), old) == (3, 2)
        })
        .await;
    let _: DaemonSet = cluster.patch("agent", image("v4")).await;
    complete(&cluster, 2).await;
    cluster
        .until("two pods", || async {
            pods(&cluster).await == ["one=v4", "two=v4"]
        })
        .await;
}
