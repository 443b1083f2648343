//! A whole control plane in this process, with a pretended node.
#![allow(dead_code)]

use std::sync::Arc;
use std::time::Duration;

use apiserver::{ApiServer, Identity};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longer than anything here takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Cluster {
    pub client: Client,
    /// Whom the controllers are to the API server.
    of_controllers: Client,
    controllers: Running,
    stop: CancellationToken,
    _stop: DropGuard,
    _data: tempfile::TempDir,
}

/// The controllers, and how to end them.
struct Running(CancellationToken, tokio::task::JoinHandle<()>);

impl Running {
    fn start(client: &Client, stop: &CancellationToken) -> Self {
        let stop = stop.child_token();
        let config = controllers::Config {
            cluster_ca_pem: "PEM".into(),
            orphan_quarantine: std::time::Duration::from_secs(2),
            ..Default::default()
        };
        let run = controllers::run(client.clone(), config, stop.clone());
        Self(stop, tokio::spawn(run))
    }
}

impl Cluster {
    /// Ends the controllers and starts them again: they remember nothing.
    pub async fn restart_controllers(&mut self) {
        self.controllers.0.cancel();
        (&mut self.controllers.1).await.unwrap();
        self.controllers = Running::start(&self.of_controllers, &self.stop);
    }

    /// API server, controllers and scheduler; a node if `cpus` is given.
    pub async fn start(cpus: Option<u32>) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let data = tempfile::Builder::new()
            .prefix("plimsoll-controllers-")
            .tempdir()
            .unwrap();
        let store = Arc::new(store::EmbeddedStore::in_memory().unwrap());
        let server = ApiServer::open(apiserver::Config::new(data.path()), store)
            .await
            .unwrap();
        let client = server.in_process_client(Identity::admin());
        let own = |user: &str| server.in_process_client(Identity::new(user, &[]));
        let stop = CancellationToken::new();
        // as in the daemon: what they may do, their roles say
        let of_controllers = own("system:kube-controller-manager");
        let controllers = Running::start(&of_controllers, &stop);
        tokio::spawn(scheduler::run(
            own("system:kube-scheduler"),
            scheduler::Config::default(),
            stop.clone(),
        ));
        if let Some(cpus) = cpus {
            let node: Node = serde_json::from_value(json!({
                "metadata": {"name": "one"},
                "status": {
                    "allocatable": {"cpu": cpus.to_string(), "memory": "64Gi", "pods": "5000"},
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }))
            .unwrap();
            let nodes: Api<Node> = Api::all(client.clone());
            nodes.create(&PostParams::default(), &node).await.unwrap();
            nodes
                .replace_status("one", &PostParams::default(), &{
                    let mut live = nodes.get("one").await.unwrap();
                    live.status = node.status;
                    live
                })
                .await
                .unwrap();
            tokio::spawn(pretend(client.clone(), stop.clone()));
        }
        let cluster = Self {
            client,
            of_controllers,
            controllers,
            stop: stop.clone(),
            _stop: stop.drop_guard(),
            _data: data,
        };
        cluster
            .until("the default service account", || async {
                let api: Api<k8s_openapi::api::core::v1::ServiceAccount> =
                    Api::namespaced(cluster.client.clone(), "default");
                api.get_opt("default").await.unwrap().is_some()
            })
            .await;
        cluster
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    pub async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + serde::Serialize,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api()
            .create(&PostParams::default(), &object)
            .await
            .unwrap()
    }

    pub async fn patch<K>(&self, name: &str, change: Value) -> K
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        self.api()
            .patch(name, &PatchParams::default(), &Patch::Merge(change))
            .await
            .unwrap()
    }

    pub async fn list<K>(&self) -> Vec<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        self.api().list(&Default::default()).await.unwrap().items
    }

    /// Messages of the events of this reason.
    pub async fn events(&self, reason: &str) -> Vec<String> {
        let events: Vec<k8s_openapi::api::core::v1::Event> = self.list().await;
        events
            .into_iter()
            .filter(|event| event.reason.as_deref() == Some(reason))
            .filter_map(|event| event.message)
            .collect()
    }

    /// Waits until the events of this reason are as wanted: they are written beside the statuses, not before them.
    pub async fn told(&self, reason: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut last = Vec::new();
        let wait = async {
            loop {
                last = self.events(reason).await;
                if wanted(&last) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, wait).await.is_ok();
        assert!(in_time, "events of {reason} at last: {last:?}");
        last
    }

    pub async fn until<F, Fut>(&self, what: &str, mut condition: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = bool>,
    {
        let wait = async {
            while !condition().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            let deployments: Vec<k8s_openapi::api::apps::v1::Deployment> = self.list().await;
            let sets: Vec<k8s_openapi::api::apps::v1::ReplicaSet> = self.list().await;
            let status: Vec<_> = deployments.iter().map(|one| &one.status).collect();
            let sets: Vec<_> = sets
                .iter()
                .map(|one| (&one.metadata.name, one.spec.replicas, &one.status))
                .collect();
            panic!("{what} did not come; {status:#?} {sets:#?}");
        }
    }
}

/// A node whose pods run at once and end at once. Containers of the image `done` succeed and those of `fails` fail by
/// themselves; those of `fails-at-N` fail where their pod has the index N of a Job.
async fn pretend(client: Client, stop: CancellationToken) {
    let pods: Api<Pod> = Api::all(client.clone());
    let mut events = Box::pin(watcher(pods, watcher::Config::default()));
    let mut next = 1_u32;
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = events.next() => event,
        };
        let Some(Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod))) = event else {
            continue;
        };
        let name = pod.metadata.name.clone().unwrap();
        let api: Api<Pod> =
            Api::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap());
        if pod.spec.as_ref().unwrap().node_name.is_none() {
            continue;
        }
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
        let over = matches!(phase.as_deref(), Some("Succeeded" | "Failed"));
        if pod.metadata.deletion_timestamp.is_some() {
            if !over {
                let failed = json!({"status": {"phase": "Failed"}});
                let _ = api
                    .patch_status(&name, &PatchParams::default(), &Patch::Merge(failed))
                    .await;
            }
            let _ = api
                .delete(&name, &DeleteParams::default().grace_period(0))
                .await;
            continue;
        }
        if over || phase.as_deref() == Some("Running") {
            continue;
        }
        let image = pod.spec.as_ref().unwrap().containers[0]
            .image
            .clone()
            .unwrap();
        if let Some(code) = exit_code(&pod, &image) {
            let phase = if code == 0 { "Succeeded" } else { "Failed" };
            let status = json!({"status": {"phase": phase, "containerStatuses": [{
                "name": "c", "image": image, "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": code, "finishedAt": jiff::Timestamp::now().to_string()}}}]}});
            let _ = api
                .patch_status(&name, &PatchParams::default(), &Patch::Strategic(status))
                .await;
            continue;
        }
        let broken = image == "broken";
        let ready = if broken { "False" } else { "True" };
        let status = json!({"status": {
            "phase": "Running",
            "podIP": format!("10.244.{}.{}", next / 250, next % 250 + 1),
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        }});
        next += 1;
        let _ = api
            .patch_status(&name, &PatchParams::default(), &Patch::Strategic(status))
            .await;
    }
}

fn exit_code(pod: &Pod, image: &str) -> Option<i32> {
    match image {
        "done" => Some(0),
        "fails" => Some(1),
        _ => {
            let bad = image.strip_prefix("fails-at-")?;
            let labels = pod.metadata.labels.as_ref()?;
            let index = labels.get("batch.kubernetes.io/job-completion-index");
            Some(i32::from(index.is_some_and(|index| index == bad)))
        }
    }
}

pub fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
    })
}
