//! The collector against the real API server in process, with a kubelet that the test pretends to be.

use std::sync::Arc;
use std::time::Duration;

use apiserver::{AggregatedResource, ApiServer, BoxError, Identity};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::PostParams;
use kube::{Api, Client};
use metrics::{Config, Server};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// A page on which CPU time grows as fast as the clock: half a core.
fn page() -> String {
    let now = jiff::Timestamp::now();
    let cpu = now.as_millisecond() as f64 / 2000.0 % 1e6;
    let labels = "{container=\"web\",namespace=\"default\",pod=\"web-0\"}";
    let at = now.as_millisecond();
    format!(
        "container_cpu_usage_seconds_total{labels} {cpu} {at}\ncontainer_memory_working_set_bytes{labels} 1048576 {at}\n\
         node_cpu_usage_seconds_total {cpu} {at}\nnode_memory_working_set_bytes 2097152 {at}\n"
    )
}

#[tokio::test]
async fn usage_of_a_pod_is_told_while_the_pod_exists() {
    let data = tempfile::Builder::new()
        .prefix("plimsoll-metrics-")
        .tempdir()
        .expect("a directory");
    let store = Arc::new(store::EmbeddedStore::in_memory().expect("a store"));
    let server = ApiServer::open(apiserver::Config::new(data.path()), store)
        .await
        .expect("an API server");
    let own = "system:serviceaccount:kube-system:metrics-server";
    let inner = server.client_service(Identity::new(own, &["system:serviceaccounts"]));
    let with_kubelet = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let inner = inner.clone();
        async move {
            if request.uri().path() == "/api/v1/nodes/one/proxy/metrics/resource" {
                let body = Full::new(Bytes::from(page()))
                    .map_err(|never| match never {})
                    .boxed_unsync();
                return Ok::<_, BoxError>(http::Response::new(body));
            }
            inner.oneshot(request).await
        }
    });
    let interval = Duration::from_millis(50);
    let collector = Server::new(
        Client::new(with_kubelet, "default"),
        Config {
            interval,
            ..Config::default()
        },
    );
    let resources = metrics::resources()
        .into_iter()
        .map(|resource| AggregatedResource {
            name: resource.name.to_string(),
            singular: resource.singular.to_owned(),
            kind: resource.kind.to_owned(),
            namespaced: resource.namespaced,
            verbs: resource
                .verbs
                .iter()
                .map(|verb| (*verb).to_owned())
                .collect(),
            short_names: Vec::new(),
        });
    server.aggregate(
        metrics::GROUP,
        metrics::VERSION,
        resources.collect(),
        collector.service(),
    );
    let shutdown = CancellationToken::new();
    let task = tokio::spawn({
        let (collector, shutdown) = (collector.clone(), shutdown.clone());
        async move { collector.collect(shutdown).await }
    });

    let client = server.in_process_client(Identity::admin());
    let nodes: Api<Node> = Api::all(client.clone());
    let node = serde_json::from_value(json!({"metadata": {"name": "one"}})).expect("a node");
    nodes
        .create(&PostParams::default(), &node)
        .await
        .expect("created");
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let pod = json!({
        "metadata": {"name": "web-0", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "web"}]},
    });
    let pod = serde_json::from_value(pod).expect("a pod");
    pods.create(&PostParams::default(), &pod)
        .await
        .expect("created");

    let list = async |selector: &str| -> Vec<Value> {
        let uri = format!(
            "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods?labelSelector={selector}"
        );
        let request = http::Request::get(uri).body(Vec::new()).expect("a request");
        let list: Value = client.request(request).await.expect("an answer");
        list["items"].as_array().cloned().unwrap_or_default()
    };
    let until = async |count: usize| {
        for _ in 0..400 {
            let items = list("app%3Dweb").await;
            if items.len() == count {
                return items;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the list never had {count} items");
    };
    let items = until(1).await;
    assert_eq!(items[0]["metadata"]["labels"]["app"], "web");
    let cpu = items[0]["containers"][0]["usage"]["cpu"]
        .as_str()
        .expect("a quantity");
    let cpu = autoscale::quantity::Quantity::parse(cpu)
        .expect("a quantity")
        .milli_value();
    assert!((499..=501).contains(&cpu), "{cpu}m");
    assert!(list("app%3Ddb").await.is_empty());
    pods.delete("web-0", &kube::api::DeleteParams::default().grace_period(0))
        .await
        .expect("deleted");
    until(0).await;
    shutdown.cancel();
    task.await.expect("the collector ends cleanly");
}
