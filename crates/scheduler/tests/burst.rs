//! The scheduler against the real API server in this process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use apiserver::{ApiServer, Identity};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn start(cpus: &str) -> (Client, Guard) {
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
    (client, Guard(stop.drop_guard(), data))
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
