//! Many nodes and pods through the scheduler: `scheduler_load [NODES] [PODS]`.
//!
//! The API server, on a store file, and the scheduler run in this process. The nodes and the pods are there before the
//! scheduler starts; then it is timed until the last pod has a node, as a watch sees it. Prints one line of JSON.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use apiserver::{ApiServer, Identity};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{PostParams, WatchEvent, WatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use serde_json::json;
use store::embedded::{EmbeddedStore, Options};
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn Error + Send + Sync>;

/// Requests in flight while the objects are made.
const TASKS: usize = 64;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).map(|word| word.parse::<usize>());
    let nodes = arguments.next().transpose()?.unwrap_or(5000);
    let pods = arguments.next().transpose()?.unwrap_or(50_000);
    let data = tempfile::Builder::new()
        .prefix("plimsoll-scheduler-load-")
        .tempdir()?;
    let store = EmbeddedStore::open(&data.path().join("state.redb"), Options::default())?;
    let config = apiserver::Config::new(data.path());
    let server = ApiServer::open(config, Arc::new(store)).await?;
    let client = server.in_process_client(Identity::admin());
    each(nodes, |n| node(&client, n)).await?;
    let created = Instant::now();
    each(pods, |n| pod(&client, n)).await?;
    let created = created.elapsed().as_secs_f64();
    let before = resident_kib();
    let began = Instant::now();
    let stop = CancellationToken::new();
    let own = server.in_process_client(Identity::new("system:kube-scheduler", &[]));
    let role = scheduler::run(own, scheduler::Config::default(), stop.clone());
    let role = tokio::spawn(role);
    let tenths = bound(&client, pods, began).await?;
    let taken = began.elapsed().as_secs_f64();
    let after = resident_kib();
    stop.cancel();
    role.await?;
    println!(
        "{}",
        json!({
            "nodes": nodes,
            "pods": pods,
            "created_per_second": pods as f64 / created,
            "all_bound_s": taken,
            "bound_per_second": pods as f64 / taken,
            // when each tenth of the pods was bound: does the cost of one grow?
            "tenths_s": tenths,
            "resident_before_mib": before / 1024,
            "resident_after_mib": after / 1024,
        })
    );
    Ok(())
}

/// Waits until so many pods have nodes; when each tenth of them had one, in seconds since `began`.
async fn bound(client: &Client, pods: usize, began: Instant) -> Result<Vec<f64>, Failure> {
    let api: Api<PartialObjectMeta<Pod>> = Api::all(client.clone());
    let parameters = WatchParams::default()
        .fields("spec.nodeName!=")
        .timeout(290);
    let (mut seen, mut version, mut tenths) = (0, "0".to_owned(), Vec::new());
    loop {
        let mut events = api.watch_metadata(&parameters, &version).await?.boxed();
        while let Some(event) = events.try_next().await? {
            match event {
                WatchEvent::Added(pod) => {
                    version = pod.metadata.resource_version.unwrap_or(version);
                    seen += 1;
                    if seen * 10 / pods > tenths.len() {
                        tenths.push(began.elapsed().as_secs_f64());
                    }
                    if seen == pods {
                        return Ok(tenths);
                    }
                }
                WatchEvent::Error(status) => return Err(format!("{status:?}").into()),
                _ => {}
            }
        }
    }
}

async fn node(client: &Client, n: usize) -> Result<(), Failure> {
    let api: Api<Node> = Api::all(client.clone());
    let name = format!("node-{n}");
    let object = json!({"metadata": {"name": name, "labels": {
        "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("zone-{}", n % 3)}}});
    let made = api
        .create(&PostParams::default(), &serde_json::from_value(object)?)
        .await?;
    let status = json!({
        "allocatable": {"cpu": "32", "memory": "128Gi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True"}],
    });
    let ready = Node {
        status: Some(serde_json::from_value(status)?),
        ..made
    };
    api.replace_status(&name, &PostParams::default(), &ready)
        .await?;
    Ok(())
}

async fn pod(client: &Client, n: usize) -> Result<(), Failure> {
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    let object = json!({
        "metadata": {"name": format!("pod-{n}"), "labels": {"app": format!("app-{}", n % 100)}},
        "spec": {"containers": [{"name": "c", "image": "i",
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}]},
    });
    api.create(&PostParams::default(), &serde_json::from_value(object)?)
        .await?;
    Ok(())
}

/// Runs `job` for every number, several at a time.
async fn each<Fut>(count: usize, job: impl Fn(usize) -> Fut) -> Result<(), Failure>
where
    Fut: Future<Output = Result<(), Failure>>,
{
    futures::stream::iter(0..count)
        .map(job)
        .buffer_unordered(TASKS)
        .try_collect()
        .await
}

/// What `VmRSS` says; 0 where there is no procfs.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
