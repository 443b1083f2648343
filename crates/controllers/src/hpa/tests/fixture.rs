//! A cluster for tests: the real API server in process, with measurements and faults that a test sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use apiserver::{AggregatedResource, ApiServer, BoxError, Identity};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower::util::BoxCloneService;

use crate::hpa::{DecisionSink, KeptDecisions, Pace, RecentDecisions, keep_decisions, run_with};
use crate::informer::Informer;
use crate::objects;
use crate::shared::in_namespace;

/// Time between two evaluations.
pub const SYNC: Duration = Duration::from_millis(100);

/// A cluster with a Deployment `web` whose pods the test makes, and one autoscaler's controller.
pub struct Fixture {
    pub client: Client,
    pub server: ApiServer,
    pub usage: Arc<Mutex<Vec<(String, i64)>>>,
    pub faults: Arc<Faults>,
    pub sink: Arc<RecentDecisions>,
    shutdown: CancellationToken,
    _data: tempfile::TempDir,
}

#[derive(Default)]
pub struct Faults {
    pub scale_writes_fail: std::sync::atomic::AtomicBool,
    pub status_writes: AtomicUsize,
}

impl Fixture {
    /// Keeps decisions in the API; the token stops it.
    pub fn keep(&self, decisions: KeptDecisions) -> CancellationToken {
        let stop = self.shutdown.child_token();
        let (client, token) = (self.client.clone(), stop.clone());
        tokio::spawn(async move {
            let pods = self::pods(&client, &token);
            keep_decisions(client, pods, decisions, token).await;
        });
        stop
    }

    pub async fn new() -> Self {
        let data = tempfile::Builder::new()
            .prefix("plimsoll-hpa-")
            .tempdir()
            .expect("a directory");
        let store = Arc::new(store::embedded::EmbeddedStore::in_memory().expect("a store"));
        let server = ApiServer::open(apiserver::Config::new(data.path()), store)
            .await
            .expect("an API server");
        Self {
            client: server.in_process_client(Identity::admin()),
            server,
            usage: Arc::default(),
            faults: Arc::default(),
            sink: Arc::new(RecentDecisions::new(16)),
            shutdown: CancellationToken::new(),
            _data: data,
        }
    }

    /// Serves metrics.k8s.io with what `usage` holds: pods named after their app, milli-cores each.
    pub fn serve_metrics(&self) {
        let usage = self.usage.clone();
        let service = tower::service_fn(move |request: http::Request<Bytes>| {
            let query = request.uri().query().unwrap_or_default();
            let app = query.split("app%3D").nth(1).unwrap_or_default();
            let items: Vec<Value> = usage
                .lock()
                .iter()
                .filter(|(pod, _)| pod.starts_with(app))
                .map(pod_metrics)
                .collect();
            let body = json!({"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": items});
            async move { Ok::<_, BoxError>(http::Response::new(Bytes::from(body.to_string()))) }
        });
        let resource = AggregatedResource {
            name: "pods".to_owned(),
            singular: String::new(),
            kind: "PodMetrics".to_owned(),
            namespaced: true,
            verbs: vec!["get".to_owned(), "list".to_owned()],
            short_names: Vec::new(),
        };
        self.server.aggregate(
            "metrics.k8s.io",
            "v1beta1",
            vec![resource],
            BoxCloneService::new(service),
        );
    }

    /// The controller's own client, which counts and breaks writes as the test wants.
    fn controllers_client(&self) -> Client {
        let own = Identity::new("system:kube-controller-manager", &[]);
        let inner = self.server.client_service(own);
        let faults = self.faults.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let (inner, faults) = (inner.clone(), faults.clone());
            async move {
                let write = request.method() == http::Method::PUT;
                let path = request.uri().path().to_owned();
                if write
                    && path.ends_with("/scale")
                    && faults.scale_writes_fail.load(Ordering::SeqCst)
                {
                    let status = json!({
                        "kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {},
                        "message": "the disk is full", "reason": "InternalError", "code": 500,
                    });
                    let body = Full::new(Bytes::from(status.to_string()))
                        .map_err(|never| match never {})
                        .boxed_unsync();
                    let response = http::Response::builder().status(500).body(body);
                    return response.map_err(|error| Box::new(error) as BoxError);
                }
                if write && path.contains("/horizontalpodautoscalers/") && path.ends_with("/status")
                {
                    faults.status_writes.fetch_add(1, Ordering::SeqCst);
                }
                inner.oneshot(request).await
            }
        });
        Client::new(service, "default")
    }

    /// Starts the controller.
    pub fn start(&self) {
        self.start_with(SYNC);
    }

    /// Starts the controller with this time between two evaluations.
    pub fn start_with(&self, period: Duration) {
        self.start_into(self.sink.clone(), period);
    }

    /// Starts the controller with this sink.
    pub fn start_into(&self, sink: Arc<dyn DecisionSink>, period: Duration) {
        let pace = Pace {
            period,
            ..Pace::default()
        };
        self.start_at(sink, pace);
    }

    /// Starts the controller with this sink, at this pace.
    pub fn start_at(&self, sink: Arc<dyn DecisionSink>, pace: Pace) {
        let client = self.controllers_client();
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            let pods = pods(&client, &shutdown);
            run_with(client, pods, pace, sink, shutdown).await;
        });
    }

    /// The kept decisions, once they are as wanted.
    pub async fn decisions(&self, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let mut last = Vec::new();
        for _ in 0..200 {
            let path =
                "/apis/autoscaling.plimsoll.dev/v1alpha1/namespaces/default/scalingdecisions";
            let request = http::Request::get(path)
                .body(Vec::new())
                .expect("a request");
            let list: Value = self.client.request(request).await.expect("a list");
            last = list["items"].as_array().cloned().unwrap_or_default();
            if wanted(&last) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not as wanted: {}", json!(last));
    }

    /// A pod of an app, created now and then scheduled, started and ready.
    pub async fn new_pod(&self, app: &str, name: &str) {
        self.create::<Pod>(json!({
            "metadata": {"name": name, "labels": {"app": app}},
            "spec": {"containers": [{"name": "web", "image": "web", "resources": {"requests": {"cpu": "100m"}}}]},
        }))
        .await;
        let now = || Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        for step in ["PodScheduled", "Started", "Ready"] {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let status = match step {
                "Started" => {
                    json!({"phase": "Running", "startTime": now(), "containerStatuses": [{"name": "web", "image": "", "imageID": "",
                    "ready": true, "restartCount": 0, "state": {"running": {"startedAt": now()}}}]})
                }
                kind => {
                    json!({"conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": now()},
                    {"type": kind, "status": "True", "lastTransitionTime": now()}]})
                }
            };
            let patch = Patch::Merge(json!({ "status": status }));
            self.api::<Pod>()
                .patch_status(name, &PatchParams::default(), &patch)
                .await
                .expect("a status");
        }
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn create<K>(&self, object: Value)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + serde::Serialize
            + std::fmt::Debug,
    {
        let object: K = serde_json::from_value(object).expect("an object");
        self.api::<K>()
            .create(&PostParams::default(), &object)
            .await
            .expect("created");
    }

    /// A Deployment of this many pods, each ready for long, requesting 100m and using `milli`.
    pub async fn deployment(&self, name: &str, replicas: usize, milli: i64) {
        self.create::<Deployment>(json!({
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "web", "image": "web"}]},
                },
            },
        }))
        .await;
        let status = json!({"status": {"replicas": replicas}});
        let api = self.api::<Deployment>();
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
            .await
            .expect("a status");
        for index in 0..replicas {
            let pod = format!("{name}-{index}");
            self.create::<Pod>(json!({
                "metadata": {"name": pod, "labels": {"app": name}},
                "spec": {"containers": [{"name": "web", "image": "web", "resources": {"requests": {"cpu": "100m"}}}]},
            }))
            .await;
            let status = json!({"status": {
                "phase": "Running",
                "startTime": "2020-01-01T00:00:00Z",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}],
            }});
            let api = self.api::<Pod>();
            api.patch_status(&pod, &PatchParams::default(), &Patch::Merge(&status))
                .await
                .expect("a status");
            self.usage.lock().push((pod, milli));
        }
    }

    pub async fn autoscaler(&self, name: &str, target: &str) {
        self.create::<HorizontalPodAutoscaler>(json!({
            "metadata": {"name": name},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
                "minReplicas": 1,
                "maxReplicas": 10,
                "metrics": [{"type": "Resource", "resource":
                    {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}],
            },
        }))
        .await;
    }

    pub async fn replicas(&self, name: &str) -> i32 {
        let deployment = self
            .api::<Deployment>()
            .get(name)
            .await
            .expect("the deployment");
        deployment.spec.replicas.unwrap_or_default()
    }

    /// Status, reason and message of a condition, once it is there.
    pub async fn condition(&self, name: &str, kind: &str, reason: &str) -> (String, String) {
        let mut last = Value::Null;
        for _ in 0..200 {
            let autoscaler = self
                .api::<HorizontalPodAutoscaler>()
                .get(name)
                .await
                .expect("the autoscaler");
            let conditions = autoscaler
                .status
                .and_then(|status| status.conditions)
                .unwrap_or_default();
            last = json!(conditions);
            let found = conditions.into_iter().find(|condition| {
                condition.type_ == kind && condition.reason.as_deref() == Some(reason)
            });
            if let Some(found) = found {
                return (found.status, found.message.unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no condition {kind} with reason {reason}: {last}");
    }

    pub async fn event(&self, reason: &str) -> String {
        for _ in 0..200 {
            let events = self
                .api::<Event>()
                .list(&ListParams::default())
                .await
                .expect("events");
            if let Some(event) = events
                .items
                .into_iter()
                .find(|event| event.reason.as_deref() == Some(reason))
            {
                return event.message.unwrap_or_default();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no event {reason}");
    }

    pub async fn until_replicas(&self, name: &str, wanted: i32) {
        for _ in 0..200 {
            if self.replicas(name).await == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!(
            "{name} has {} replicas, not {wanted}",
            self.replicas(name).await
        );
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn pods(client: &Client, shutdown: &CancellationToken) -> Informer<Pod> {
    Informer::start(
        Api::<Pod>::all(client.clone()),
        watcher::Config::default().any_semantic(),
        |pod| vec![in_namespace(objects::namespace(pod))],
        |_| {},
        shutdown.clone(),
    )
}

fn pod_metrics((pod, milli): &(String, i64)) -> Value {
    json!({
        "metadata": {"name": pod, "namespace": "default"},
        "timestamp": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "window": "5.01s",
        "containers": [{"name": "web", "usage": {"cpu": format!("{milli}m"), "memory": "64Mi"}}],
    })
}
