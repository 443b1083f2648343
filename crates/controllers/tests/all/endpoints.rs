//! Endpoints beside slices, and slices of Endpoints that are made by hand, against the real API server.

use crate::cluster::{Cluster, deployment};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

/// Ready and unready addresses, and whether the object is there at all.
async fn counts(cluster: &Cluster, name: &str) -> Option<(usize, usize)> {
    let endpoints: Endpoints = cluster.api().get_opt(name).await.unwrap()?;
    let subsets = endpoints.subsets.unwrap_or_default();
    let of = |of: fn(&k8s_openapi::api::core::v1::EndpointSubset) -> usize| -> usize {
        subsets.iter().map(of).sum()
    };
    Some((
        of(|subset| subset.addresses.as_ref().map_or(0, Vec::len)),
        of(|subset| subset.not_ready_addresses.as_ref().map_or(0, Vec::len)),
    ))
}

async fn mirrored(cluster: &Cluster, service: &str) -> Vec<String> {
    let slices: Vec<EndpointSlice> = cluster.list().await;
    let mine = slices.into_iter().filter(|slice| {
        let labels = slice.metadata.labels.clone().unwrap_or_default();
        let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
        label("kubernetes.io/service-name") == service
            && label("endpointslice.kubernetes.io/managed-by")
                == "endpointslicemirroring-controller.k8s.io"
    });
    mine.flat_map(|slice| slice.endpoints.unwrap_or_default())
        .flat_map(|endpoint| endpoint.addresses)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_follow_the_pods_and_go_with_the_service() {
    let cluster = Cluster::start(Some(64)).await;
    let _: Service = cluster
        .create(json!({
            "metadata": {"name": "web", "labels": {"team": "a"}},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        }))
        .await;
    let _: Deployment = cluster.create(deployment("web", 3, "v1")).await;
    cluster
        .until("three addresses", || async {
            counts(&cluster, "web").await == Some((3, 0))
        })
        .await;
    let made: Endpoints = cluster.api().get("web").await.unwrap();
    let labels = made.metadata.labels.clone().unwrap();
    assert_eq!(labels["team"], "a");
    assert_eq!(
        labels["endpoints.kubernetes.io/managed-by"],
        "endpoint-controller"
    );
    let pod = &cluster.list::<Pod>().await[0];
    let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    cluster
        .api::<Pod>()
        .patch_status(
            pod.metadata.name.as_deref().unwrap(),
            &Default::default(),
            &kube::api::Patch::Strategic(unready),
        )
        .await
        .unwrap();
    cluster
        .until("one that is not ready", || async {
            counts(&cluster, "web").await == Some((2, 1))
        })
        .await;
    assert!(mirrored(&cluster, "web").await.is_empty(), "has slices");
    cluster
        .api::<Service>()
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    cluster
        .until("no Endpoints", || async {
            counts(&cluster, "web").await.is_none()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lost_its_service_while_nobody_looked_goes() {
    let mut cluster = Cluster::start(None).await;
    let own = json!({"endpoints.kubernetes.io/managed-by": "endpoint-controller"});
    let _: Endpoints = cluster
        .create(json!({"metadata": {"name": "left", "labels": own}}))
        .await;
    let _: Endpoints = cluster
        .create(json!({"metadata": {"name": "by-hand"}}))
        .await;
    cluster.restart_controllers().await;
    cluster
        .until("the leftover's end", || async {
            counts(&cluster, "left").await.is_none()
        })
        .await;
    assert!(counts(&cluster, "by-hand").await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_made_by_hand_is_mirrored() {
    let cluster = Cluster::start(None).await;
    let _: Endpoints = cluster
        .create(json!({
            "metadata": {"name": "db"},
            "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 5432}]}],
        }))
        .await;
    let _: Service = cluster
        .create(json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}}))
        .await;
    cluster
        .until("the mirror", || async {
            mirrored(&cluster, "db").await == ["192.0.2.1"]
        })
        .await;
    let subsets =
        json!({"subsets": [{"addresses": [{"ip": "192.0.2.2"}], "ports": [{"port": 5432}]}]});
    let _: Endpoints = cluster.patch("db", subsets).await;
    cluster
        .until("the change", || async {
            mirrored(&cluster, "db").await == ["192.0.2.2"]
        })
        .await;
    let skip = json!({"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}});
    let _: Endpoints = cluster.patch("db", skip).await;
    cluster
        .until("no mirror", || async {
            mirrored(&cluster, "db").await.is_empty()
        })
        .await;
    let skip = json!({"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": null}}});
    let _: Endpoints = cluster.patch("db", skip).await;
    cluster
        .until("the mirror again", || async {
            mirrored(&cluster, "db").await.len() == 1
        })
        .await;
    cluster
        .api::<Service>()
        .delete("db", &DeleteParams::default())
        .await
        .unwrap();
    cluster
        .until("the end of both", || async {
            counts(&cluster, "db").await.is_none() && mirrored(&cluster, "db").await.is_empty()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_follow_pods_while_their_service_waits_for_a_finalizer() {
    let cluster = Cluster::start(Some(64)).await;
    let _: Service = cluster
        .create(json!({
            "metadata": {"name": "web", "finalizers": ["example.com/balancer"]},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        }))
        .await;
    let _: Deployment = cluster.create(deployment("web", 3, "v1")).await;
    let addresses = async || {
        let slices: Vec<EndpointSlice> = cluster.list().await;
        slices
            .iter()
            .map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len))
            .sum::<usize>()
    };
    cluster
        .until("three endpoints", || async { addresses().await == 3 })
        .await;
    let services: Api<Service> = cluster.api();
    services
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    let _: Deployment = cluster.patch("web", json!({"spec": {"replicas": 1}})).await;
    cluster
        .until("one endpoint", || async { addresses().await == 1 })
        .await;
}
