//! The scheduler against the real API server in this process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use apiserver::{ApiServer, Identity};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn start(cpus: &str) -> (Client, Guard) {
    let started = start_without_nodes().await;
    add_nodes(&started.0, cpus).await;
    started
}

async fn start_without_nodes() -> (Client, Guard) {
    let data = tempfile::Builder::new()
        .prefix("plimsoll-scheduler-")
        .tempdir()
        .unwrap();
    let store = Arc::new(store::EmbeddedStore::in_memory().unwrap());
    let server = ApiServer::open(apiserver::Config::new(data.path()), store)
        .await
        .unwrap();
    let client = server.in_process_client(Identity::admin());
    let own = server.in_process_client(Identity::new("system:kube-scheduler", &[]));
    let stop = CancellationToken::new();
    tokio::spawn(scheduler::run(
        own,
        scheduler::Config::default(),
        stop.clone(),
    ));
    (client, Guard(stop.drop_guard(), data))
}

async fn add_nodes(client: &Client, cpus: &str) {
    for name in ["one", "two"] {
        let mut node: Node = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        let nodes: Api<Node> = Api::all(client.clone());
        let status = json!({"allocatable": {"cpu": cpus, "memory": "64Gi", "pods": "1000"}});
        node = nodes.create(&PostParams::default(), &node).await.unwrap();
        node.status = Some(serde_json::from_value(status).unwrap());
        nodes
            .replace_status(name, &PostParams::default(), &node)
            .await
            .unwrap();
    }
}

#[allow(dead_code, reason = "held for their Drop")]
struct Guard(tokio_util::sync::DropGuard, tempfile::TempDir);

async fn create(client: &Client, count: usize, cpu: &str) {
    let api: Api<Pod> = Api::namespaced(client.clone(), "default");
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"generateName": "p-"},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]},
    }))
    .unwrap();
    let parameters = PostParams::default();
    let requests = (0..count).map(|_| api.create(&parameters, &pod));
    futures::future::try_join_all(requests).await.unwrap();
}

async fn add(client: &Client, pod: serde_json::Value) {
    let api: Api<Pod> = Api::namespaced(client.clone(), "default");
    let pod: Pod = serde_json::from_value(pod).unwrap();
    api.create(&PostParams::default(), &pod).await.unwrap();
}

async fn bound(client: &Client) -> Vec<(String, String)> {
    let api: Api<Pod> = Api::namespaced(client.clone(), "default");
    let pods = api.list(&ListParams::default()).await.unwrap();
    pods.items
        .into_iter()
        .filter_map(|pod| Some((pod.metadata.name?, pod.spec?.node_name?)))
        .collect()
}

async fn until_bound(client: &Client, count: usize) -> Duration {
    let start = Instant::now();
    while bound(client).await.len() < count {
        assert!(
            start.elapsed() < PATIENCE,
            "{} of {count} bound",
            bound(client).await.len()
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_is_bound_without_overcommitting() {
    let (client, _guard) = start("3").await;
    create(&client, 100, "100m").await;
    let took = until_bound(&client, 60).await;
    println!("60 pods bound {took:?} after the last was created");
    // What is left cannot fit; it would have been bound together with the others.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let placed = bound(&client).await;
    for node in ["one", "two"] {
        assert_eq!(
            placed.iter().filter(|(_, on)| on == node).count(),
            30,
            "on {node}"
        );
    }
    // Ten pods end: ten others take their room.
    let api: Api<Pod> = Api::namespaced(client.clone(), "default");
    for (name, _) in placed.iter().take(10) {
        api.delete(name, &DeleteParams::default().grace_period(0))
            .await
            .unwrap();
    }
    until_bound(&client, 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_pods_are_bound() {
    let (client, _guard) = start("64").await;
    create(&client, 100, "100m").await;
    let took = until_bound(&client, 100).await;
    println!("100 pods bound {took:?} after the last was created");
}

/// Each of a pair waits for its neighbour, which is placed in the same moment: what it was told before does not come after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bound_pods_are_not_told_that_they_wait() {
    const PAIRS: usize = 40;
    let (client, _guard) = start_without_nodes().await;
    for n in 0..PAIRS {
        let (guest, host) = (format!("guest-{n:02}"), format!("host-{n:02}"));
        let term = json!({"labelSelector": {"matchLabels": {"name": host}}, "topologyKey": "kubernetes.io/hostname"});
        add(&client, json!({
            "metadata": {"name": guest},
            "spec": {
                "containers": [{"name": "c", "image": "i"}],
                "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}},
            },
        }))
        .await;
        add(
            &client,
            json!({
                "metadata": {"name": host, "labels": {"name": host}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            }),
        )
        .await;
    }
    add_nodes(&client, "64").await;
    let nodes: Api<Node> = Api::all(client.clone());
    for name in ["one", "two"] {
        let labels = json!({"metadata": {"labels": {"kubernetes.io/hostname": name}}});
        nodes
            .patch(name, &PatchParams::default(), &Patch::Merge(&labels))
            .await
            .unwrap();
    }
    until_bound(&client, 2 * PAIRS).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let api: Api<Pod> = Api::namespaced(client.clone(), "default");
    for pod in api.list(&ListParams::default()).await.unwrap() {
        let conditions = pod.status.and_then(|status| status.conditions);
        let mut conditions = conditions.into_iter().flatten();
        let scheduled = conditions.find(|one| one.type_ == "PodScheduled").unwrap();
        assert_eq!(
            scheduled.status, "True",
            "{:?}: {scheduled:?}",
            pod.metadata.name
        );
    }
}

/// A volume is made where its pod goes, and the pod goes nowhere else then: until it is there, its place is taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_whose_volumes_are_being_made_have_their_places() {
    let (client, _guard) = start("4").await;
    let class: StorageClass = serde_json::from_value(json!({
        "metadata": {"name": "slow"}, "provisioner": "example.com/nobody", "volumeBindingMode": "WaitForFirstConsumer",
    }))
    .unwrap();
    let classes: Api<StorageClass> = Api::all(client.clone());
    classes
        .create(&PostParams::default(), &class)
        .await
        .unwrap();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), "default");
    for name in ["a", "b"] {
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"storageClassName": "slow", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }))
        .unwrap();
        claims.create(&PostParams::default(), &claim).await.unwrap();
    }
    for name in ["a", "b"] {
        add(&client, json!({
            "metadata": {"name": name},
            "spec": {
                "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "3"}}}],
                "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}],
            },
        }))
        .await;
    }
    let told = async || {
        let mut nodes = Vec::new();
        for claim in claims.list(&ListParams::default()).await.unwrap() {
            let annotations = claim.metadata.annotations.unwrap_or_default();
            nodes.extend(
                annotations
                    .get("volume.kubernetes.io/selected-node")
                    .cloned(),
            );
        }
        nodes.sort();
        nodes
    };
    let start = Instant::now();
    while told().await.len() < 2 {
        assert!(start.elapsed() < PATIENCE, "{:?}", told().await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(told().await, ["one", "two"]);
}
