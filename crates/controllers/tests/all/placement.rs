//! Budgets, evictions, preemption and taints, against the real API server and scheduler in this process.

use crate::cluster::{Cluster, deployment};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::Api;
use kube::api::{DeleteParams, EvictParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

async fn class(cluster: &Cluster, name: &str, value: i32) {
    let class = json!({"metadata": {"name": name}, "value": value});
    let class: PriorityClass = serde_json::from_value(class).unwrap();
    let api: Api<PriorityClass> = Api::all(cluster.client.clone());
    api.create(&PostParams::default(), &class).await.unwrap();
}

fn pod(name: &str, class: &str, cpu: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"priorityClassName": class, "containers": [
        {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]}})
}

async fn running(cluster: &Cluster, name: &str) {
    cluster
        .until(&format!("{name} running"), || async {
            let pod: Option<Pod> = cluster.api().get_opt(name).await.unwrap();
            pod.and_then(|pod| pod.status?.phase).as_deref() == Some("Running")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_important_pod_takes_the_place_of_a_lesser_one() {
    let cluster = Cluster::start(Some(4)).await;
    class(&cluster, "high", 1000).await;
    for name in ["a", "b"] {
        cluster.create::<Pod>(pod(name, "", "2")).await;
        running(&cluster, name).await;
    }
    let high: Pod = cluster.create(pod("high", "high", "1")).await;
    running(&cluster, "high").await;
    let left: Vec<Pod> = cluster.list().await;
    let mut names: Vec<String> = left
        .into_iter()
        .filter_map(|pod| pod.metadata.name)
        .collect();
    names.sort();
    assert_eq!(names.len(), 2, "one of the two went: {names:?}");
    assert!(names.contains(&"high".to_owned()));
    let uid = high.metadata.uid.unwrap();
    let told = format!("Preempted by pod {uid} on node one");
    cluster
        .until("the event", || async {
            cluster.events("Preempted").await.contains(&told)
        })
        .await;
    let refused = cluster.events("FailedScheduling").await;
    assert!(
        refused.contains(&"0/1 nodes are available: 1 Insufficient cpu.".to_owned()),
        "{refused:?}"
    );
    let bound: Pod = cluster.api().get("high").await.unwrap();
    assert_eq!(bound.status.unwrap().nominated_node_name, None);
    // an equal one goes nowhere
    cluster.create::<Pod>(pod("equal", "high", "3500m")).await;
    cluster
        .until("the reason", || async {
            let pod: Pod = cluster.api().get("equal").await.unwrap();
            let conditions = pod.status.and_then(|status| status.conditions);
            let message = conditions.and_then(|all| all.into_iter().next()?.message);
            message.is_some_and(|message| message.contains("preemption: 0/1 nodes are available"))
        })
        .await;
}

async fn budget(cluster: &Cluster, name: &str) -> PodDisruptionBudget {
    cluster.api().get(name).await.unwrap()
}

async fn allows(cluster: &Cluster, name: &str, wanted: [i32; 4]) {
    cluster
        .until(&format!("{name} to be {wanted:?}"), || async {
            let status = budget(cluster, name).await.status.unwrap_or_default();
            let seen = [
                status.expected_pods,
                status.current_healthy,
                status.desired_healthy,
                status.disruptions_allowed,
            ];
            seen == wanted.map(Some)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_is_counted_spent_and_filled_again() {
    let cluster = Cluster::start(Some(8)).await;
    cluster
        .create::<k8s_openapi::api::apps::v1::Deployment>(deployment("web", 3, "i"))
        .await;
    let made = json!({"metadata": {"name": "web"}, "spec": {"maxUnavailable": "30%", "selector": {"matchLabels": {"app": "web"}}}});
    cluster.create::<PodDisruptionBudget>(made).await;
    allows(&cluster, "web", [3, 3, 2, 1]).await;
    let pods: Api<Pod> = cluster.api();
    let first = pods.list(&Default::default()).await.unwrap().items[0]
        .metadata
        .name
        .clone()
        .unwrap();
    pods.evict(&first, &EvictParams::default()).await.unwrap();
    // the ReplicaSet makes another one, and the budget is whole again
    cluster
        .until("the pod's end", || async {
            pods.get_opt(&first).await.unwrap().is_none()
        })
        .await;
    allows(&cluster, "web", [3, 3, 2, 1]).await;
    cluster
        .patch::<PodDisruptionBudget>("web", json!({"spec": {"maxUnavailable": 0}}))
        .await;
    allows(&cluster, "web", [3, 3, 3, 0]).await;
    let second = pods.list(&Default::default()).await.unwrap().items[0]
        .metadata
        .name
        .clone()
        .unwrap();
    let refused = pods
        .evict(&second, &EvictParams::default())
        .await
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("would violate the pod's disruption budget"),
        "{refused}"
    );
    let condition = &budget(&cluster, "web")
        .await
        .status
        .unwrap()
        .conditions
        .unwrap()[0];
    assert_eq!(
        (condition.type_.as_str(), condition.reason.as_str()),
        ("DisruptionAllowed", "InsufficientPods")
    );
    // a pod without a controller is not counted in percentages
    let mut lone = pod("lone", "", "0");
    lone["metadata"]["labels"] = json!({"app": "lone"});
    cluster.create::<Pod>(lone).await;
    let made = json!({"metadata": {"name": "lone"}, "spec": {"minAvailable": "50%", "selector": {"matchLabels": {"app": "lone"}}}});
    cluster.create::<PodDisruptionBudget>(made).await;
    cluster
        .until("the warning", || async {
            !cluster.events("UnmanagedPods").await.is_empty()
        })
        .await;
    allows(&cluster, "lone", [0, 1, 0, 0]).await;
    // it leaves by its labels, and comes back
    let labels = |app: &str| json!({"metadata": {"labels": {"app": app}}});
    cluster.patch::<Pod>("lone", labels("other")).await;
    allows(&cluster, "lone", [0, 0, 0, 0]).await;
    cluster.patch::<Pod>("lone", labels("lone")).await;
    allows(&cluster, "lone", [0, 1, 0, 0]).await;
    let now = DeleteParams::default().grace_period(0);
    pods.delete("lone", &now).await.unwrap();
    allows(&cluster, "lone", [0, 0, 0, 0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_do_not_bear_a_taint_go() {
    let cluster = Cluster::start(Some(8)).await;
    let bearing = |name: &str, seconds: Option<i64>| {
        let mut pod = pod(name, "", "0");
        pod["spec"]["tolerations"] = json!([{"key": "fire", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
        pod
    };
    cluster.create::<Pod>(pod("plain", "", "0")).await;
    cluster.create::<Pod>(bearing("endless", None)).await;
    cluster.create::<Pod>(bearing("patient", Some(1))).await;
    for name in ["plain", "endless", "patient"] {
        running(&cluster, name).await;
    }
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let taint = json!({"spec": {"taints": [{"key": "fire", "effect": "NoExecute"}]}});
    nodes
        .patch("one", &PatchParams::default(), &Patch::Merge(taint))
        .await
        .unwrap();
    let pods: Api<Pod> = cluster.api();
    for name in ["plain", "patient"] {
        cluster
            .until(&format!("the end of {name}"), || async {
                pods.get_opt(name).await.unwrap().is_none()
            })
            .await;
    }
    assert!(
        pods.get_opt("endless")
            .await
            .unwrap()
            .is_some_and(|pod| pod.metadata.deletion_timestamp.is_none())
    );
    // one that comes with patience later goes too
    cluster.create::<Pod>(bearing("late", Some(1))).await;
    running(&cluster, "late").await;
    cluster
        .until("the end of late", || async {
            pods.get_opt("late").await.unwrap().is_none()
        })
        .await;
    let told = cluster
        .told("TaintManagerEviction", |told| {
            told.contains(&"Marking for deletion Pod default/plain".to_owned())
        })
        .await;
    assert!(
        !told.iter().any(|message| message.contains("endless")),
        "{told:?}"
    );
    pods.delete("endless", &DeleteParams::default())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_and_gates_are_waited_for() {
    let cluster = Cluster::start(Some(8)).await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let label = json!({"metadata": {"labels": {"zone": "x"}}});
    nodes
        .patch("one", &PatchParams::default(), &Patch::Merge(label))
        .await
        .unwrap();
    let mut near = pod("near", "", "0");
    near["spec"]["affinity"] = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}}]}});
    cluster.create::<Pod>(near).await;
    let why = "0/1 nodes are available: 1 node(s) didn't match pod affinity rules. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    cluster
        .until("the reason", || async {
            cluster
                .events("FailedScheduling")
                .await
                .contains(&why.to_owned())
        })
        .await;
    let mut db = pod("db", "", "0");
    db["metadata"]["labels"] = json!({"app": "db"});
    db["spec"]["schedulingGates"] = json!([{"name": "example.com/wait"}]);
    cluster.create::<Pod>(db).await;
    cluster
        .patch::<Pod>("db", json!({"spec": {"schedulingGates": null}}))
        .await;
    running(&cluster, "db").await;
    running(&cluster, "near").await;
}
