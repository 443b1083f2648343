//! The controller against the real API server in process, with measurements and faults that a test sets.

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

use super::record::LAST_DECISION;
use super::{RecentDecisions, run_with};
use crate::informer::Informer;
use crate::objects;
use crate::shared::in_namespace;

const SYNC: Duration = Duration::from_millis(100);

/// A cluster with a Deployment `web` whose pods the test makes, and one autoscaler's controller.
struct Fixture {
    client: Client,
    server: ApiServer,
    usage: Arc<Mutex<Vec<(String, i64)>>>,
    faults: Arc<Faults>,
    sink: Arc<RecentDecisions>,
    shutdown: CancellationToken,
    _data: tempfile::TempDir,
}

#[derive(Default)]
struct Faults {
    scale_writes_fail: std::sync::atomic::AtomicBool,
    status_writes: AtomicUsize,
}

impl Fixture {
    async fn new() -> Self {
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
    fn serve_metrics(&self) {
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
        let inner = self.server.client_service(Identity::admin());
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

    fn start(&self) {
        let client = self.controllers_client();
        let (sink, shutdown) = (self.sink.clone(), self.shutdown.clone());
        tokio::spawn(async move {
            let pods = Informer::start(
                Api::<Pod>::all(client.clone()),
                watcher::Config::default().any_semantic(),
                |pod| vec![in_namespace(objects::namespace(pod))],
                |_| {},
                shutdown.clone(),
            );
            run_with(client, pods, SYNC, sink, shutdown).await;
        });
    }

    fn api<K>(&self) -> Api<K>
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
    async fn deployment(&self, name: &str, replicas: usize, milli: i64) {
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

    async fn autoscaler(&self, name: &str, target: &str) {
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

    async fn replicas(&self, name: &str) -> i32 {
        let deployment = self
            .api::<Deployment>()
            .get(name)
            .await
            .expect("the deployment");
        deployment.spec.replicas.unwrap_or_default()
    }

    /// Status, reason and message of a condition, once it is there.
    async fn condition(&self, name: &str, kind: &str, reason: &str) -> (String, String) {
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

    async fn event(&self, reason: &str) -> String {
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

    async fn until_replicas(&self, name: &str, wanted: i32) {
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

fn pod_metrics((pod, milli): &(String, i64)) -> Value {
    json!({
        "metadata": {"name": pod, "namespace": "default"},
        "timestamp": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "window": "5.01s",
        "containers": [{"name": "web", "usage": {"cpu": format!("{milli}m"), "memory": "64Mi"}}],
    })
}

#[tokio::test]
async fn load_above_the_target_scales_up_and_says_why() {
    let fixture = Fixture::new().await;
    fixture.serve_metrics();
    fixture.deployment("web", 2, 150).await;
    fixture.autoscaler("web", "web").await;
    fixture.start();
    fixture.until_replicas("web", 4).await;

    let reason = "cpu resource utilization (percentage of request) above target";
    assert_eq!(
        fixture.event("SuccessfulRescale").await,
        format!("New size: 4; reason: {reason}")
    );
    let (status, _) = fixture
        .condition("web", "ScalingActive", "ValidMetricFound")
        .await;
    assert_eq!(status, "True");
    let (status, message) = fixture
        .condition("web", "AbleToScale", "SucceededRescale")
        .await;
    assert_eq!(
        (status.as_str(), message.as_str()),
        (
            "True",
            "the HPA controller was able to update the target scale to 4"
        )
    );

    let mut annotation = None;
    for _ in 0..100 {
        let autoscaler = fixture
            .api::<HorizontalPodAutoscaler>()
            .get("web")
            .await
            .expect("the autoscaler");
        annotation = objects::annotation(&autoscaler, LAST_DECISION).map(str::to_owned);
        if annotation.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let told: Value = serde_json::from_str(&annotation.expect("the decision is on the autoscaler"))
        .expect("JSON");
    assert_eq!(
        (told["from"].as_i64(), told["to"].as_i64()),
        (Some(2), Some(4))
    );
    let sentence = told["reason"].as_str().unwrap_or_default();
    assert!(
        sentence.contains("150 % of requests (300m of 200m) against 80 %"),
        "{sentence}"
    );
    let records = fixture.sink.all();
    let record = records
        .iter()
        .find(|record| record.decision.rescale.is_some())
        .expect("the decision is kept");
    let again = autoscale::decide(&record.inputs);
    assert_eq!(
        json!(again),
        json!(record.decision),
        "a kept decision can be made again"
    );
}

#[tokio::test]
async fn a_low_load_does_not_shrink_what_was_just_found() {
    let fixture = Fixture::new().await;
    fixture.serve_metrics();
    fixture.deployment("web", 5, 1).await;
    fixture.autoscaler("web", "web").await;
    fixture.start();
    let (status, _) = fixture
        .condition("web", "AbleToScale", "ScaleDownStabilized")
        .await;
    assert_eq!(status, "True");
    tokio::time::sleep(SYNC * 5).await;
    assert_eq!(fixture.replicas("web").await, 5);
}

#[tokio::test]
async fn a_size_outside_the_bounds_is_brought_back() {
    let fixture = Fixture::new().await;
    fixture.deployment("web", 12, 1).await;
    fixture.autoscaler("web", "web").await;
    fixture.start();
    fixture.until_replicas("web", 10).await;
    let message = fixture.event("SuccessfulRescale").await;
    assert_eq!(
        message,
        "New size: 10; reason: Current number of replicas above Spec.MaxReplicas"
    );
}

#[tokio::test]
async fn a_target_that_does_not_exist_is_told() {
    let fixture = Fixture::new().await;
    fixture.autoscaler("web", "nothing").await;
    fixture.start();
    let (status, message) = fixture
        .condition("web", "AbleToScale", "FailedGetScale")
        .await;
    let error = "deployments.apps \"nothing\" not found";
    assert_eq!(status, "False");
    assert_eq!(
        message,
        format!("the HPA controller was unable to get the target's current scale: {error}")
    );
    assert_eq!(fixture.event("FailedGetScale").await, error);
}

#[tokio::test]
async fn without_measurements_the_size_stays() {
    let fixture = Fixture::new().await;
    fixture.deployment("web", 3, 0).await;
    fixture.autoscaler("web", "web").await;
    fixture.start();
    let (status, message) = fixture
        .condition("web", "ScalingActive", "FailedGetResourceMetric")
        .await;
    assert_eq!(status, "False");
    let start = "the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics \
                 for resource cpu: unable to fetch metrics from resource metrics API: ";
    assert!(
        message.starts_with(start) && message.ends_with("(get pods.metrics.k8s.io)"),
        "{message}"
    );
    let message = fixture.event("FailedComputeMetricsReplicas").await;
    assert!(message.starts_with("invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: "), "{message}");
    assert_eq!(fixture.replicas("web").await, 3);

    fixture
        .usage
        .lock()
        .iter_mut()
        .for_each(|(_, milli)| *milli = 110);
    fixture.serve_metrics();
    fixture.until_replicas("web", 5).await;
}

#[tokio::test]
async fn two_autoscalers_of_one_target_keep_the_size() {
    let fixture = Fixture::new().await;
    fixture.serve_metrics();
    fixture.deployment("web", 2, 50).await;
    fixture.autoscaler("one", "web").await;
    fixture.autoscaler("two", "web").await;
    fixture.start();
    let (status, message) = fixture
        .condition("one", "ScalingActive", "AmbiguousSelector")
        .await;
    assert_eq!(status, "False");
    assert_eq!(
        message,
        "pods by selector app=web are controlled by more than one HPA (e.g. [{one default} {two default}])"
    );
    fixture
        .usage
        .lock()
        .iter_mut()
        .for_each(|(_, milli)| *milli = 500);
    tokio::time::sleep(SYNC * 5).await;
    assert_eq!(fixture.replicas("web").await, 2);
}

#[tokio::test]
async fn a_write_that_fails_is_told_and_tried_again() {
    let fixture = Fixture::new().await;
    fixture.serve_metrics();
    fixture.deployment("web", 2, 150).await;
    fixture.autoscaler("web", "web").await;
    fixture
        .faults
        .scale_writes_fail
        .store(true, Ordering::SeqCst);
    fixture.start();
    let (status, message) = fixture
        .condition("web", "AbleToScale", "FailedUpdateScale")
        .await;
    assert_eq!(status, "False");
    assert_eq!(
        message,
        "the HPA controller was unable to update the target scale: the disk is full"
    );
    let message = fixture.event("FailedRescale").await;
    assert!(
        message.starts_with("New size: 4; reason: cpu resource")
            && message.ends_with("error: the disk is full"),
        "{message}"
    );
    assert_eq!(fixture.replicas("web").await, 2);
    fixture
        .faults
        .scale_writes_fail
        .store(false, Ordering::SeqCst);
    fixture.until_replicas("web", 4).await;
}

#[tokio::test]
async fn values_that_merely_move_are_not_written_each_time() {
    let fixture = Fixture::new().await;
    fixture.serve_metrics();
    fixture.deployment("web", 2, 70).await;
    fixture.autoscaler("web", "web").await;
    fixture.start();
    fixture
        .condition("web", "ScalingActive", "ValidMetricFound")
        .await;
    for step in 0..20 {
        fixture
            .usage
            .lock()
            .iter_mut()
            .for_each(|(_, milli)| *milli = 70 + step % 8);
        tokio::time::sleep(SYNC / 2).await;
    }
    let writes = fixture.faults.status_writes.load(Ordering::SeqCst);
    assert!(
        writes <= 3,
        "{writes} writes of a status in which only the load moved"
    );
    assert_eq!(fixture.replicas("web").await, 2);
}

#[tokio::test]
async fn a_new_specification_is_acted_upon_at_once() {
    let fixture = Fixture::new().await;
    fixture.serve_metrics();
    fixture.deployment("web", 2, 80).await;
    fixture.autoscaler("web", "web").await;
    fixture.start();
    fixture
        .condition("web", "AbleToScale", "ReadyForNewScale")
        .await;
    let change = json!({"spec": {"minReplicas": 3}});
    let api = fixture.api::<HorizontalPodAutoscaler>();
    api.patch("web", &PatchParams::default(), &Patch::Merge(&change))
        .await
        .expect("patched");
    fixture.until_replicas("web", 3).await;
}
