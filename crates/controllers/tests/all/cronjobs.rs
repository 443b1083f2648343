//! CronJobs against the real API server in this process.

use crate::cluster::Cluster;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use serde_json::{Value, json};

fn cron_job(name: &str, image: &str, change: Value) -> Value {
    let mut cron = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name},
        "spec": {"schedule": "@every 1s", "jobTemplate": {
            "metadata": {"labels": {"made-by": name}},
            "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": image}]}}}}},
    });
    for (key, value) in change.as_object().unwrap() {
        cron["spec"][key] = value.clone();
    }
    cron
}

async fn status(cluster: &Cluster, name: &str) -> CronJobStatus {
    let live: CronJob = cluster.api().get(name).await.unwrap();
    live.status.unwrap_or_default()
}

async fn jobs_of(cluster: &Cluster, cron: &str) -> Vec<Job> {
    let jobs: Vec<Job> = cluster.list().await;
    let of = |job: &Job| {
        job.metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get("made-by"))
            == Some(&cron.to_owned())
    };
    jobs.into_iter().filter(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_made_when_it_is_time_and_followed_to_its_end() {
    let cluster = Cluster::start(Some(64)).await;
    let cron: CronJob = cluster.create(cron_job("tick", "done", json!({}))).await;
    cluster
        .until("a success", || async {
            let status = status(&cluster, "tick").await;
            status.last_successful_time.is_some() && status.active.is_none()
        })
        .await;
    let status = status(&cluster, "tick").await;
    let job = jobs_of(&cluster, "tick").await.remove(0);
    let start = job.metadata.annotations.as_ref().unwrap()
        ["batch.kubernetes.io/cronjob-scheduled-timestamp"]
        .parse::<jiff::Timestamp>()
        .unwrap();
    assert_eq!(
        job.metadata.name.unwrap(),
        format!("tick-{}", start.as_second() / 60)
    );
    assert!(status.last_schedule_time.unwrap().0 >= start);
    let owner = &job.metadata.owner_references.unwrap()[0];
    assert_eq!(
        (owner.kind.as_str(), Some(&owner.uid), owner.controller),
        ("CronJob", cron.metadata.uid.as_ref(), Some(true))
    );
    cluster
        .until("the events", || async {
            !cluster.events("SuccessfulCreate").await.is_empty()
                && cluster
                    .events("SawCompletedJob")
                    .await
                    .iter()
                    .any(|told| told.ends_with("condition: Complete"))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspended_it_makes_nothing_and_follows_what_others_make() {
    let cluster = Cluster::start(Some(64)).await;
    let change = json!({"suspend": true, "successfulJobsHistoryLimit": 1});
    let cron: CronJob = cluster.create(cron_job("manual", "done", change)).await;
    // as `kubectl create job --from` does
    for n in 0..3 {
        let owner = json!({"apiVersion": "batch/v1", "kind": "CronJob", "name": "manual",
            "uid": cron.metadata.uid, "controller": true});
        let _: Job = cluster
            .create(json!({
                "apiVersion": "batch/v1", "kind": "Job",
                "metadata": {"name": format!("by-hand-{n}"), "labels": {"made-by": "manual"}, "ownerReferences": [owner],
                    "annotations": {"cronjob.kubernetes.io/instantiate": "manual"}},
                "spec": cron.spec.job_template.spec,
            }))
            .await;
    }
    cluster
        .until("the limit of history", || async {
            let jobs = jobs_of(&cluster, "manual").await;
            let done = |job: &Job| {
                let status = job.status.as_ref();
                status.is_some_and(|status| status.completion_time.is_some())
            };
            jobs.len() == 1 && jobs.iter().all(done)
        })
        .await;
    let status = status(&cluster, "manual").await;
    assert!(status.last_successful_time.is_some());
    assert_eq!((status.active, status.last_schedule_time), (None, None));
    cluster
        .until("the event", || async {
            cluster.events("SuccessfulDelete").await.len() == 2
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_job_makes_the_next_start_wait() {
    let cluster = Cluster::start(Some(64)).await;
    let change = json!({"concurrencyPolicy": "Forbid"});
    let _: CronJob = cluster.create(cron_job("slow", "busy", change)).await;
    cluster
        .until("a running job", || async {
            let active = status(&cluster, "slow").await.active;
            active.is_some_and(|active| active.len() == 1)
        })
        .await;
    let active = status(&cluster, "slow").await.active.unwrap().remove(0);
    assert_eq!(active.kind.as_deref(), Some("Job"));
    assert_eq!(active.api_version.as_deref(), Some("batch/v1"));
    // gone, it is forgotten
    let api: kube::Api<Job> = cluster.api();
    let pause: CronJob = cluster
        .patch("slow", json!({"spec": {"suspend": true}}))
        .await;
    drop(pause);
    api.delete(
        active.name.as_deref().unwrap(),
        &kube::api::DeleteParams::background(),
    )
    .await
    .unwrap();
    cluster
        .until("it to be forgotten", || async {
            status(&cluster, "slow").await.active.is_none()
        })
        .await;
}
