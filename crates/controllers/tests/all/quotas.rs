//! ResourceQuotas against the real API server: counted, charged, and replenished when something goes.

use crate::cluster::{Cluster, deployment};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ResourceQuota, Secret};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

async fn used(cluster: &Cluster, name: &str, resource: &str) -> Option<String> {
    let quotas: Api<ResourceQuota> = cluster.api();
    let used = quotas.get(name).await.unwrap().status?.used?;
    used.get(resource).map(|amount| amount.0.clone())
}

async fn is_used(cluster: &Cluster, resource: &str, expected: &str) {
    let what = format!("{resource}={expected}");
    cluster
        .until(&what, || async {
            used(cluster, "q", resource).await.as_deref() == Some(expected)
        })
        .await;
}

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_hold_workloads_back_and_are_replenished() {
    let cluster = Cluster::start(Some(8)).await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2", "count/deployments.apps": "1", "secrets": "5"}}});
    let _: ResourceQuota = cluster.create(quota).await;
    is_used(&cluster, "pods", "0").await;
    let _: Deployment = cluster.create(deployment("web", 3, "busybox")).await;
    is_used(&cluster, "pods", "2").await;
    is_used(&cluster, "count/deployments.apps", "1").await;
    cluster
        .until("the event of the third pod", || async {
            let events = cluster.events("FailedCreate").await;
            events.iter().any(|message| {
                message
                    .contains("exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2")
            })
        })
        .await;
    let pods: Vec<Pod> = cluster.list().await;
    assert_eq!(pods.len(), 2);
    let _: Deployment = cluster.patch("web", json!({"spec": {"replicas": 1}})).await;
    is_used(&cluster, "pods", "1").await;
    let _: Secret = cluster.create(json!({"metadata": {"name": "s"}})).await;
    is_used(&cluster, "secrets", "1").await;
    let secrets: Api<Secret> = cluster.api();
    secrets.delete("s", &DeleteParams::default()).await.unwrap();
    is_used(&cluster, "secrets", "0").await;
    // more of it, and something else
    let change = json!({"spec": {"hard": {"pods": "3", "count/configmaps": "9"}}});
    let _: ResourceQuota = cluster.patch("q", change).await;
    cluster
        .until("the new limits", || async {
            let quotas: Api<ResourceQuota> = cluster.api();
            let quota = quotas.get("q").await.unwrap();
            let (spec, status) = (quota.spec.unwrap(), quota.status.unwrap_or_default());
            spec.hard == status.hard
        })
        .await;
    // the cluster's certificate is one
    is_used(&cluster, "count/configmaps", "1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counting_while_much_is_made_lets_nothing_through() {
    let cluster = Cluster::start(None).await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"count/configmaps": "11"}}});
    let _: ResourceQuota = cluster.create(quota).await;
    is_used(&cluster, "count/configmaps", "1").await;
    let maps: Api<ConfigMap> = cluster.api();
    // everybody looks at the quota at once, and the controller counts all the while
    let poke: Value = json!({"metadata": {"annotations": {"poked": "yes"}}});
    let _: ResourceQuota = cluster.patch("q", poke).await;
    let made = futures::future::join_all((0..80).map(|n| {
        let maps = maps.clone();
        async move {
            maps.create(&PostParams::default(), &map(&format!("c{n}")))
                .await
                .is_ok()
        }
    }))
    .await;
    assert_eq!(made.iter().filter(|made| **made).count(), 10);
    is_used(&cluster, "count/configmaps", "11").await;
    for n in (0..80).filter(|n| made[*n]) {
        let name = format!("c{n}");
        maps.delete(&name, &DeleteParams::default()).await.unwrap();
    }
    is_used(&cluster, "count/configmaps", "1").await;
    maps.create(&PostParams::default(), &map("again"))
        .await
        .unwrap();
}

/// A quota is never left alone for half a second, and is lowered all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steady_work_does_not_fill_a_quota() {
    let cluster = Cluster::start(None).await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "20"}}});
    let _: ResourceQuota = cluster.create(quota).await;
    is_used(&cluster, "pods", "0").await;
    let pods: Api<Pod> = cluster.api();
    for n in 0..60 {
        let pod = json!({"metadata": {"name": format!("p{n}")}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}});
        let _: Pod = cluster.create(pod).await;
        if n >= 4 {
            let now = DeleteParams::default().grace_period(0);
            pods.delete(&format!("p{}", n - 4), &now).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    is_used(&cluster, "pods", "4").await;
}
