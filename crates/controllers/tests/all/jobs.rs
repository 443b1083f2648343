//! Jobs from their first pod to their end, against the real API server in this process.

use crate::cluster::Cluster;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PropagationPolicy};
use serde_json::{Value, json};

fn job(name: &str, image: &str, change: Value) -> Value {
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": image}]}}},
    });
    for (key, value) in change.as_object().unwrap() {
        job["spec"][key] = value.clone();
    }
    job
}

async fn status(cluster: &Cluster, name: &str) -> JobStatus {
    let live: Job = cluster.api().get(name).await.unwrap();
    live.status.unwrap_or_default()
}

/// Type and reason of the conditions that are true.
fn conditions(status: &JobStatus) -> Vec<(String, String)> {
    let list = status.conditions.clone().unwrap_or_default().into_iter();
    list.filter(|one| one.status == "True")
        .map(|one| (one.type_, one.reason.unwrap_or_default()))
        .collect()
}

fn pair(a: &str, b: &str) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

async fn ended(cluster: &Cluster, name: &str, condition: &str) -> JobStatus {
    cluster
        .until(&format!("{condition} of Job {name}"), || async {
            let found = conditions(&status(cluster, name).await);
            found.iter().any(|(type_, _)| type_ == condition)
        })
        .await;
    status(cluster, name).await
}

async fn pods_of(cluster: &Cluster, job: &str) -> Vec<Pod> {
    let pods: Vec<Pod> = cluster.list().await;
    let of = |pod: &Pod| {
        let labels = pod.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get("batch.kubernetes.io/job-name"))
            == Some(&job.to_owned())
    };
    pods.into_iter().filter(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_to_its_end_and_lets_its_pods_go() {
    let cluster = Cluster::start(Some(64)).await;
    let spec = json!({"completions": 5, "parallelism": 2});
    let _: Job = cluster.create(job("work", "done", spec)).await;
    let status = ended(&cluster, "work", "Complete").await;
    assert_eq!(
        conditions(&status),
        [
            pair("SuccessCriteriaMet", "CompletionsReached"),
            pair("Complete", "CompletionsReached")
        ]
    );
    assert_eq!((status.succeeded, status.failed), (Some(5), None));
    assert_eq!((status.active, status.ready), (None, Some(0)));
    assert!(status.completion_time >= status.start_time && status.start_time.is_some());
    let pods = pods_of(&cluster, "work").await;
    assert_eq!(pods.len(), 5);
    for pod in &pods {
        assert_eq!(pod.metadata.finalizers, None, "counted");
    }
    cluster
        .until("the events", || async {
            cluster.events("Completed").await == ["Job completed"]
                && cluster.events("SuccessfulCreate").await.len() == 5
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_without_retries_fails_and_its_other_pods_go() {
    let cluster = Cluster::start(Some(64)).await;
    let spec =
        json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed", "backoffLimit": 0});
    let _: Job = cluster
        .create(job("doomed", "fails-at-1", spec.clone()))
        .await;
    let status = ended(&cluster, "doomed", "Failed").await;
    assert_eq!(
        conditions(&status),
        [
            pair("FailureTarget", "BackoffLimitExceeded"),
            pair("Failed", "BackoffLimitExceeded")
        ]
    );
    assert_eq!(status.completion_time, None);
    cluster
        .told("BackoffLimitExceeded", |told| {
            told == ["Job has reached the specified backoff limit"]
        })
        .await;

    let mut per_index = spec;
    per_index["backoffLimitPerIndex"] = json!(0);
    per_index["backoffLimit"] = Value::Null;
    let _: Job = cluster.create(job("partly", "fails-at-1", per_index)).await;
    let status = ended(&cluster, "partly", "Failed").await;
    assert_eq!(conditions(&status)[1], pair("Failed", "FailedIndexes"));
    assert_eq!(status.completed_indexes.as_deref(), Some("0,2"));
    assert_eq!(status.failed_indexes.as_deref(), Some("1"));
    assert_eq!((status.succeeded, status.failed), (Some(2), Some(1)));
    let mut hosts: Vec<_> = pods_of(&cluster, "partly")
        .await
        .into_iter()
        .filter_map(|pod| pod.spec.unwrap().hostname)
        .collect();
    hosts.sort();
    assert_eq!(hosts, ["partly-0", "partly-1", "partly-2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_end_a_job_early() {
    let cluster = Cluster::start(Some(64)).await;
    let rules = json!([{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}}]);
    let spec = json!({"podFailurePolicy": {"rules": rules}, "backoffLimit": 10});
    let _: Job = cluster.create(job("strict", "fails", spec)).await;
    let status = ended(&cluster, "strict", "Failed").await;
    assert_eq!(conditions(&status)[1], pair("Failed", "PodFailurePolicy"));

    let spec = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed", "backoffLimit": 10,
        "successPolicy": {"rules": [{"succeededIndexes": "0"}]}});
    let _: Job = cluster.create(job("leader", "fails-at-1", spec)).await;
    let status = ended(&cluster, "leader", "Complete").await;
    assert_eq!(
        conditions(&status),
        [
            pair("SuccessCriteriaMet", "SuccessPolicy"),
            pair("Complete", "SuccessPolicy")
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspended_resumed_and_out_of_time() {
    let cluster = Cluster::start(Some(64)).await;
    let spec = json!({"completions": 2, "parallelism": 2, "suspend": true});
    let _: Job = cluster.create(job("later", "busy", spec)).await;
    let held = ended(&cluster, "later", "Suspended").await;
    assert_eq!(held.start_time, None);
    assert!(pods_of(&cluster, "later").await.is_empty());
    let suspend = |suspend: bool| json!({"spec": {"suspend": suspend}});
    let _: Job = cluster.patch("later", suspend(false)).await;
    cluster
        .until("both pods ready", || async {
            status(&cluster, "later").await.ready == Some(2)
        })
        .await;
    let running = status(&cluster, "later").await;
    assert!(running.start_time.is_some() && running.active == Some(2));
    let _: Job = cluster.patch("later", suspend(true)).await;
    cluster
        .until("no pod", || async {
            pods_of(&cluster, "later").await.is_empty()
        })
        .await;
    let held = ended(&cluster, "later", "Suspended").await;
    assert_eq!(held.failed, None, "suspended pods have not failed");
    let change = json!({"spec": {"suspend": false, "activeDeadlineSeconds": 1}});
    let _: Job = cluster.patch("later", change).await;
    let over = ended(&cluster, "later", "Failed").await;
    assert_eq!(
        conditions(&over).last(),
        Some(&pair("Failed", "DeadlineExceeded"))
    );
    cluster
        .until("no pod", || async {
            pods_of(&cluster, "later").await.is_empty()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_go_with_their_pods() {
    let cluster = Cluster::start(Some(64)).await;
    let gone = |name: &'static str| {
        let cluster = &cluster;
        async move {
            cluster
                .until(&format!("the end of {name} and its pods"), || async {
                    let live: Option<Job> = cluster.api().get_opt(name).await.unwrap();
                    live.is_none() && pods_of(cluster, name).await.is_empty()
                })
                .await;
        }
    };
    let spec = json!({"ttlSecondsAfterFinished": 0});
    let _: Job = cluster.create(job("brief", "done", spec)).await;
    gone("brief").await;

    for (name, policy) in [
        ("background", PropagationPolicy::Background),
        ("foreground", PropagationPolicy::Foreground),
    ] {
        let _: Job = cluster
            .create(job(name, "busy", json!({"parallelism": 2})))
            .await;
        cluster
            .until("running pods", || async {
                status(&cluster, name).await.ready == Some(2)
            })
            .await;
        let parameters = DeleteParams {
            propagation_policy: Some(policy),
            ..Default::default()
        };
        let api: kube::Api<Job> = cluster.api();
        api.delete(name, &parameters).await.unwrap();
        gone(name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_on_no_node_do_not_stay_for_good() {
    let cluster = Cluster::start(None).await;
    let spec = json!({"podReplacementPolicy": "Failed"});
    let _: Job = cluster.create(job("waiting", "done", spec)).await;
    cluster
        .until("a pod", || async {
            status(&cluster, "waiting").await.active == Some(1)
        })
        .await;
    let pod = pods_of(&cluster, "waiting").await.remove(0);
    let api: kube::Api<Pod> = cluster.api();
    let name = pod.metadata.name.clone().unwrap();
    api.delete(&name, &DeleteParams::default()).await.unwrap();
    cluster
        .until("its end", || async {
            api.get_opt(&name).await.unwrap().is_none()
        })
        .await;
    cluster
        .until("its failure to be counted", || async {
            status(&cluster, "waiting").await.failed == Some(1)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn controllers_that_end_and_start_again_count_every_pod_once() {
    let mut cluster = Cluster::start(Some(5000)).await;
    let spec = json!({"completions": 150, "parallelism": 20});
    let _: Job = cluster.create(job("many", "done", spec.clone())).await;
    let mut indexed = spec;
    indexed["completionMode"] = "Indexed".into();
    let _: Job = cluster.create(job("indexed", "done", indexed)).await;
    for _ in 0..4 {
        tokio::time::sleep(std::time::Duration::from_millis(60)).await;
        cluster.restart_controllers().await;
    }
    for name in ["many", "indexed"] {
        let status = ended(&cluster, name, "Complete").await;
        let pods = pods_of(&cluster, name).await.len();
        assert_eq!(
            (status.succeeded, status.failed, pods),
            (Some(150), None, 150),
            "{name}"
        );
    }
}
