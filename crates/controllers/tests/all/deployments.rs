//! Deployments from creation to history, against the real API server in this process.

use crate::cluster::{Cluster, deployment};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

async fn complete(cluster: &Cluster, name: &str) {
    cluster
        .until("a complete rollout", || async {
            let live: Deployment = cluster.api().get(name).await.unwrap();
            let status = live.status.unwrap_or_default();
            let wanted = live.spec.replicas;
            status.observed_generation == live.metadata.generation
                && status.updated_replicas.or(Some(0)) == wanted
                && status.replicas.or(Some(0)) == wanted
                && status.available_replicas.or(Some(0)) == wanted
        })
        .await;
}

fn reason(deployment: &Deployment, type_: &str) -> (String, String) {
    let conditions = deployment
        .status
        .as_ref()
        .unwrap()
        .conditions
        .as_ref()
        .unwrap();
    let condition = conditions
        .iter()
        .find(|one| one.type_.as_deref() == Some(type_))
        .unwrap();
    (
        condition.status.clone().unwrap(),
        condition.reason.clone().unwrap(),
    )
}

fn pair(a: &str, b: &str) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

async fn sets_by_image(cluster: &Cluster) -> Vec<(String, i32, String)> {
    let sets: Vec<ReplicaSet> = cluster.list().await;
    let mut sets: Vec<(String, i32, String)> = sets
        .into_iter()
        .map(|set| {
            let image = set.spec.template.unwrap().spec.unwrap().containers[0]
                .image
                .clone()
                .unwrap();
            let revision =
                set.metadata.annotations.unwrap()["deployment.kubernetes.io/revision"].clone();
            (image, set.spec.replicas.unwrap(), revision)
        })
        .collect();
    sets.sort();
    sets
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

fn set(image: &str, replicas: i32, revision: &str) -> (String, i32, String) {
    (image.to_owned(), replicas, revision.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_runs_rolls_and_rolls_back() {
    let cluster = Cluster::start(Some(64)).await;
    let _: Deployment = cluster.create(deployment("web", 3, "v1")).await;
    complete(&cluster, "web").await;
    let live: Deployment = cluster.api().get("web").await.unwrap();
    assert_eq!(
        reason(&live, "Available"),
        pair("True", "MinimumReplicasAvailable")
    );
    cluster
        .until("the Progressing condition", || async {
            let live: Deployment = cluster.api().get("web").await.unwrap();
            reason(&live, "Progressing") == pair("True", "NewReplicaSetAvailable")
        })
        .await;
    let pods: Vec<Pod> = cluster.list().await;
    assert_eq!(pods.len(), 3);
    for pod in &pods {
        assert_eq!(pod.spec.as_ref().unwrap().node_name.as_deref(), Some("one"));
        assert!(
            pod.metadata
                .labels
                .as_ref()
                .unwrap()
                .contains_key("pod-template-hash")
        );
        assert_eq!(
            pod.metadata.owner_references.as_ref().unwrap()[0].kind,
            "ReplicaSet"
        );
    }
    let _: Deployment = cluster.patch("web", image("v2")).await;
    complete(&cluster, "web").await;
    cluster
        .until("the old set to be empty", || async {
            sets_by_image(&cluster).await == [set("v1", 0, "1"), set("v2", 3, "2")]
        })
        .await;
    // kubectl rollout undo puts the old template back: its set is used again, as a new revision.
    let _: Deployment = cluster.patch("web", image("v1")).await;
    complete(&cluster, "web").await;
    assert_eq!(
        sets_by_image(&cluster).await,
        [set("v1", 3, "3"), set("v2", 0, "2")]
    );
    let live: Deployment = cluster.api().get("web").await.unwrap();
    assert_eq!(
        live.metadata.annotations.unwrap()["deployment.kubernetes.io/revision"],
        "3"
    );
    let scaled = |told: &[String], way: &str, sizes: &str| {
        let start = format!("Scaled {way} replica set web-");
        told.iter()
            .any(|line| line.starts_with(&start) && line.ends_with(sizes))
    };
    cluster
        .told("ScalingReplicaSet", |told| {
            scaled(told, "up", " from 0 to 3") && scaled(told, "down", " from 1 to 0")
        })
        .await;
    cluster
        .told("SuccessfulCreate", |told| !told.is_empty())
        .await;
    cluster.told("Scheduled", |told| !told.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_template_stops_at_what_may_be_missing() {
    let cluster = Cluster::start(Some(64)).await;
    let mut wanted = deployment("web", 4, "v1");
    wanted["spec"]["progressDeadlineSeconds"] = json!(2);
    let _: Deployment = cluster.create(wanted).await;
    complete(&cluster, "web").await;
    let _: Deployment = cluster.patch("web", image("broken")).await;
    cluster
        .until("the deadline", || async {
            let live: Deployment = cluster.api().get("web").await.unwrap();
            reason(&live, "Progressing") == pair("False", "ProgressDeadlineExceeded")
        })
        .await;
    let sizes = sets_by_image(&cluster).await;
    assert_eq!(sizes, [set("broken", 2, "2"), set("v1", 3, "1")]);
    let live: Deployment = cluster.api().get("web").await.unwrap();
    assert_eq!(live.status.unwrap().available_replicas, Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paused_scaled_and_limited_in_history() {
    let cluster = Cluster::start(Some(64)).await;
    let mut wanted = deployment("web", 2, "v1");
    wanted["spec"]["revisionHistoryLimit"] = json!(1);
    let _: Deployment = cluster.create(wanted).await;
    complete(&cluster, "web").await;
    let _: Deployment = cluster
        .patch("web", json!({"spec": {"paused": true}}))
        .await;
    let _: Deployment = cluster.patch("web", image("v2")).await;
    let _: Deployment = cluster.patch("web", json!({"spec": {"replicas": 5}})).await;
    cluster
        .until("scaling while paused", || async {
            sets_by_image(&cluster).await == [set("v1", 5, "1")]
        })
        .await;
    cluster
        .until("the paused condition", || async {
            let live: Deployment = cluster.api().get("web").await.unwrap();
            reason(&live, "Progressing") == pair("Unknown", "DeploymentPaused")
        })
        .await;
    let _: Deployment = cluster
        .patch("web", json!({"spec": {"paused": false}}))
        .await;
    complete(&cluster, "web").await;
    for next in ["v3", "v4"] {
        let _: Deployment = cluster.patch("web", image(next)).await;
        complete(&cluster, "web").await;
    }
    cluster
        .until("the history limit", || async {
            sets_by_image(&cluster).await == [set("v3", 0, "3"), set("v4", 5, "4")]
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recreate_ends_the_old_before_it_starts_the_new() {
    let cluster = Cluster::start(Some(64)).await;
    let mut wanted = deployment("web", 3, "v1");
    wanted["spec"]["strategy"] = json!({"type": "Recreate"});
    let _: Deployment = cluster.create(wanted).await;
    complete(&cluster, "web").await;
    let _: Deployment = cluster.patch("web", image("v2")).await;
    let mut mixed = false;
    cluster
        .until("the new pods", || async {
            sets_by_image(&cluster).await == [set("v1", 0, "1"), set("v2", 3, "2")]
        })
        .await;
    let pods: Vec<Pod> = cluster.list().await;
    mixed |= pods
        .iter()
        .any(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("v1"));
    assert!(!mixed, "an old pod beside new ones");
    complete(&cluster, "web").await;
}
