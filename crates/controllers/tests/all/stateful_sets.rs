//! StatefulSets from creation to history, and ReplicationControllers, against the real API server in this process.

use crate::cluster::Cluster;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ReplicationController};
use kube::api::DeleteParams;
use serde_json::{Value, json};

fn set(name: &str, replicas: i32, change: impl FnOnce(&mut Value)) -> Value {
    let mut set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "serviceName": "dbs",
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "v1"}]},
            },
        },
    });
    change(&mut set["spec"]);
    set
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

async fn complete(cluster: &Cluster, name: &str) {
    cluster
        .until("a complete update", || async {
            let live: StatefulSet = cluster.api().get(name).await.unwrap();
            let status = live.status.unwrap_or_default();
            let wanted = live.spec.replicas;
            status.observed_generation == live.metadata.generation
                && status.current_revision == status.update_revision
                && Some(status.replicas) == wanted
                && status.ready_replicas.or(Some(0)) == wanted
                && status.available_replicas == wanted
        })
        .await;
}

/// Name and image of every pod that is not going.
async fn pods(cluster: &Cluster) -> Vec<String> {
    let pods: Vec<Pod> = cluster.list().await;
    let staying = pods
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    staying
        .map(|pod| {
            let image = pod.spec.unwrap().containers[0].image.clone().unwrap();
            format!("{}={image}", pod.metadata.name.unwrap())
        })
        .collect()
}

async fn revisions(cluster: &Cluster) -> Vec<i64> {
    let all: Vec<ControllerRevision> = cluster.list().await;
    let mut numbers: Vec<i64> = all.into_iter().filter_map(|one| one.revision).collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_have_names_claims_and_a_history() {
    let cluster = Cluster::start(Some(64)).await;
    let claims = |spec: &mut Value| {
        spec["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"},
            "spec": {"storageClassName": "", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
        spec["revisionHistoryLimit"] = json!(1);
    };
    // volumes by hand, since there is nobody who would make them
    for n in 0..2 {
        let volume = json!({"metadata": {"name": format!("v{n}")}, "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}}});
        let api: kube::Api<k8s_openapi::api::core::v1::PersistentVolume> =
            kube::Api::all(cluster.client.clone());
        let volume = serde_json::from_value(volume).unwrap();
        api.create(&Default::default(), &volume).await.unwrap();
    }
    let _: StatefulSet = cluster.create(set("db", 2, claims)).await;
    complete(&cluster, "db").await;
    let first: Pod = cluster.api().get("db-0").await.unwrap();
    let labels = first.metadata.labels.clone().unwrap();
    assert_eq!(labels["apps.kubernetes.io/pod-index"], "0");
    assert_eq!(labels["statefulset.kubernetes.io/pod-name"], "db-0");
    let live: StatefulSet = cluster.api().get("db").await.unwrap();
    let revision = live.status.unwrap().update_revision.unwrap();
    assert_eq!(labels["controller-revision-hash"], revision);
    let spec = first.spec.unwrap();
    assert_eq!(
        (spec.hostname.as_deref(), spec.subdomain.as_deref()),
        (Some("db-0"), Some("dbs"))
    );
    let claim = |pod: Pod| {
        let volumes = pod.spec.unwrap().volumes.unwrap();
        volumes[0]
            .persistent_volume_claim
            .clone()
            .unwrap()
            .claim_name
    };
    let second: Pod = cluster.api().get("db-1").await.unwrap();
    assert_eq!(claim(second.clone()), "data-db-1");
    let kept: PersistentVolumeClaim = cluster.api().get("data-db-1").await.unwrap();
    assert_eq!(kept.metadata.labels.unwrap()["app"], "db");
    assert_eq!(kept.metadata.owner_references, None);

    // a pod that is deleted comes back under its name, with its claim
    let pods_api: kube::Api<Pod> = cluster.api();
    pods_api
        .delete("db-1", &DeleteParams::default())
        .await
        .unwrap();
    cluster
        .until("another db-1", || async {
            let found = pods_api.get_opt("db-1").await.unwrap();
            found.is_some_and(|pod| {
                pod.metadata.uid != second.metadata.uid && claim(pod) == "data-db-1"
            })
        })
        .await;
    complete(&cluster, "db").await;

    // templates come, and the oldest is forgotten; going back makes it the newest
    for (next, known) in [("v2", vec![1, 2]), ("v3", vec![2, 3]), ("v2", vec![3, 4])] {
        let _: StatefulSet = cluster.patch("db", image(next)).await;
        complete(&cluster, "db").await;
        let expected = ["db-0", "db-1"].map(|name| format!("{name}={next}"));
        assert_eq!(pods(&cluster).await, expected);
        cluster
            .until("the history", || async {
                revisions(&cluster).await == known
            })
            .await;
    }

    for (reason, line) in [
        (
            "SuccessfulCreate",
            "create Pod db-0 in StatefulSet db successful",
        ),
        (
            "SuccessfulCreate",
            "create Claim data-db-0 Pod db-0 in StatefulSet db success",
        ),
        (
            "SuccessfulDelete",
            "delete Pod db-1 in StatefulSet db successful",
        ),
    ] {
        cluster
            .told(reason, |told| told.iter().any(|one| one == line))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_partitions_and_failures() {
    let cluster = Cluster::start(Some(64)).await;
    // one that never gets ready holds up those after it
    let _: StatefulSet = cluster
        .create(set("db", 3, |spec| {
            spec["template"]["spec"]["containers"][0]["image"] = "broken".into();
        }))
        .await;
    cluster
        .until("the first pod", || async {
            let live: StatefulSet = cluster.api().get("db").await.unwrap();
            live.status.unwrap_or_default().replicas == 1
        })
        .await;
    assert_eq!(pods(&cluster).await, ["db-0=broken"]);
    let _: StatefulSet = cluster.patch("db", image("v1")).await;
    // as upstream: with this order it is not replaced by itself
    let pods_api: kube::Api<Pod> = cluster.api();
    pods_api
        .delete("db-0", &DeleteParams::default())
        .await
        .unwrap();
    complete(&cluster, "db").await;

    let canary = json!({"spec": {
        "updateStrategy": {"rollingUpdate": {"partition": 2}},
        "template": {"spec": {"containers": [{"name": "c", "image": "v2"}]}}}});
    let _: StatefulSet = cluster.patch("db", canary).await;
    cluster
        .until("the canary", || async {
            pods(&cluster).await == ["db-0=v1", "db-1=v1", "db-2=v2"]
        })
        .await;
    // on either side of the partition pods come back as they were
    for name in ["db-1", "db-2"] {
        pods_api
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
        cluster
            .until("all three", || async {
                let live: StatefulSet = cluster.api().get("db").await.unwrap();
                let status = live.status.unwrap();
                pods(&cluster).await == ["db-0=v1", "db-1=v1", "db-2=v2"]
                    && status.updated_replicas == Some(1)
                    && status.current_replicas == Some(2)
                    && status.ready_replicas == Some(3)
            })
            .await;
    }
    // a failed pod is made anew
    let before: Pod = pods_api.get("db-0").await.unwrap();
    let failed = json!({"status": {"phase": "Failed"}});
    pods_api
        .patch_status(
            "db-0",
            &Default::default(),
            &kube::api::Patch::Merge(failed),
        )
        .await
        .unwrap();
    cluster
        .until("another db-0", || async {
            let found = pods_api.get_opt("db-0").await.unwrap();
            found.is_some_and(|pod| pod.metadata.uid != before.metadata.uid)
        })
        .await;
    // scaled away from the top
    let _: StatefulSet = cluster.patch("db", json!({"spec": {"replicas": 1}})).await;
    cluster
        .until("one pod", || async { pods(&cluster).await == ["db-0=v1"] })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_go_when_the_policy_says_so() {
    let cluster = Cluster::start(Some(64)).await;
    let _: StatefulSet = cluster
        .create(set("db", 2, |spec| {
            spec["podManagementPolicy"] = "Parallel".into();
            spec["persistentVolumeClaimRetentionPolicy"] =
                json!({"whenDeleted": "Delete", "whenScaled": "Delete"});
            spec["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"},
                "spec": {"storageClassName": "", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
        }))
        .await;
    let claims = || async {
        let claims: Vec<PersistentVolumeClaim> = cluster.list().await;
        claims
            .into_iter()
            .map(|claim| {
                let owners = claim.metadata.owner_references.unwrap_or_default();
                let owner = owners.first().map(|owner| owner.kind.clone());
                format!(
                    "{} {}",
                    claim.metadata.name.unwrap(),
                    owner.unwrap_or_default()
                )
            })
            .collect::<Vec<_>>()
    };
    cluster
        .until("claims of the set", || async {
            claims().await == ["data-db-0 StatefulSet", "data-db-1 StatefulSet"]
        })
        .await;
    let _: StatefulSet = cluster.patch("db", json!({"spec": {"replicas": 1}})).await;
    cluster
        .until("the second claim's end", || async {
            claims().await == ["data-db-0 StatefulSet"]
        })
        .await;
    let api: kube::Api<StatefulSet> = cluster.api();
    api.delete("db", &DeleteParams::background()).await.unwrap();
    cluster
        .until("the end of all", || async {
            claims().await.is_empty()
                && pods(&cluster).await.is_empty()
                && revisions(&cluster).await.is_empty()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replication_controllers_keep_their_pods() {
    let cluster = Cluster::start(Some(64)).await;
    let controller = json!({"metadata": {"name": "old"}, "spec": {
        "replicas": 2, "selector": {"app": "old"},
        "template": {"metadata": {"labels": {"app": "old"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}}}});
    let _: ReplicationController = cluster.create(controller).await;
    let ready = |count: i32| {
        let cluster = &cluster;
        async move {
            let live: ReplicationController = cluster.api().get("old").await.unwrap();
            let status = live.status.unwrap_or_default();
            (
                status.replicas,
                status.ready_replicas.unwrap_or(0),
                status.observed_generation,
            ) == (count, count, live.metadata.generation)
        }
    };
    cluster.until("two pods", || ready(2)).await;
    // a pod that nobody manages is adopted, and is one too many
    let stray = json!({"metadata": {"name": "stray", "labels": {"app": "old"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}});
    let _: Pod = cluster.create(stray).await;
    cluster
        .until("one to go", || async {
            !cluster.events("SuccessfulDelete").await.is_empty()
        })
        .await;
    let _: ReplicationController = cluster.patch("old", json!({"spec": {"replicas": 4}})).await;
    cluster.until("four pods", || ready(4)).await;
    let all: Vec<Pod> = cluster.list().await;
    let owner = &all[0].metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!(
        (owner.kind.as_str(), owner.api_version.as_str()),
        ("ReplicationController", "v1")
    );
    let api: kube::Api<ReplicationController> = cluster.api();
    api.delete("old", &DeleteParams::background())
        .await
        .unwrap();
    cluster
        .until("the end of its pods", || async {
            pods(&cluster).await.is_empty()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_autoscaler_may_have_a_stateful_set_as_its_target() {
    let cluster = Cluster::start(Some(64)).await;
    let _: StatefulSet = cluster.create(set("db", 1, |_| {})).await;
    complete(&cluster, "db").await;
    let autoscaler = json!({"metadata": {"name": "db"}, "spec": {
        "minReplicas": 2, "maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db"}}});
    let _: HorizontalPodAutoscaler = cluster.create(autoscaler).await;
    cluster
        .until("the least size", || async {
            pods(&cluster).await == ["db-0=v1", "db-1=v1"]
        })
        .await;
}
