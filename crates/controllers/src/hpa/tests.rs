//! The controller against the real API server in process.

mod fixture;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::record::LAST_DECISION;
use super::{KeptDecisions, Pace};
use crate::objects;
use fixture::{Fixture, SYNC};

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
    // The next look, 100 ms later, replaces this condition on the object.
    let conditions = record
        .decision
        .status
        .conditions
        .clone()
        .unwrap_or_default();
    assert_eq!(conditions[0].reason.as_deref(), Some("SucceededRescale"));
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
        "pods by selector app=web are controlled by more than one HPA (e.g. [default/one default/two])"
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
    // Only the first look comes by itself.
    fixture.start_with(Duration::from_secs(3600));
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

#[tokio::test]
async fn a_new_specification_waits_for_the_next_look_where_that_is_asked_for() {
    let fixture = Fixture::new().await;
    fixture.serve_metrics();
    fixture.deployment("web", 2, 80).await;
    fixture.autoscaler("web", "web").await;
    let pace = Pace {
        period: Duration::from_secs(3600),
        on_change: false,
    };
    fixture.start_at(fixture.sink.clone(), pace);
    fixture
        .condition("web", "AbleToScale", "ReadyForNewScale")
        .await;
    let change = json!({"spec": {"minReplicas": 3}});
    let api = fixture.api::<HorizontalPodAutoscaler>();
    api.patch("web", &PatchParams::default(), &Patch::Merge(&change))
        .await
        .expect("patched");
    // acted upon at once it would be there long since (see above)
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fixture.replicas("web").await, 2);
}

fn rescales(decisions: &[Value]) -> Vec<&Value> {
    let is_rescale = |one: &&Value| one["spec"]["from"] != one["spec"]["to"];
    decisions.iter().filter(is_rescale).collect()
}

#[tokio::test]
async fn a_change_of_size_is_kept_with_what_it_was_made_from_and_what_became_of_it() {
    let fixture = Fixture::new().await;
    fixture.serve_metrics();
    fixture.deployment("web", 2, 150).await;
    fixture.autoscaler("web", "web").await;
    let decisions = KeptDecisions::default();
    let keeper = fixture.keep(decisions.clone());
    fixture.start_into(Arc::new(decisions), SYNC);
    fixture.until_replicas("web", 4).await;
    fixture.new_pod("web", "web-2").await;
    let kept = fixture.decisions(|all| !rescales(all).is_empty()).await;
    let name = rescales(&kept)[0]["metadata"]["name"].clone();
    // A keeper that starts anew goes on where the last one was.
    keeper.cancel();
    let again = KeptDecisions::default();
    fixture.keep(again);
    fixture.new_pod("web", "web-3").await;
    let complete = |all: &[Value]| {
        let of_name = all.iter().find(|one| one["metadata"]["name"] == name);
        of_name.is_some_and(|one| one["status"]["phase"] == "Complete")
    };
    let kept = fixture.decisions(complete).await;
    let one = kept
        .iter()
        .find(|one| one["metadata"]["name"] == name)
        .expect("it is kept");
    let spec = &one["spec"];
    assert_eq!(
        (&spec["from"], &spec["to"], &spec["target"]),
        (&json!(2), &json!(4), &json!("Deployment/web"))
    );
    let metric = spec["metrics"][0].as_str().unwrap_or_default();
    assert!(
        metric.contains("150 % of requests (300m of 200m) against 80 %"),
        "{metric}"
    );
    assert_eq!(
        one["metadata"]["ownerReferences"][0]["kind"],
        "HorizontalPodAutoscaler"
    );
    assert_eq!(
        one["metadata"]["labels"]["autoscaling.plimsoll.dev/autoscaler"],
        "web"
    );
    let status = &one["status"];
    assert_eq!(
        (&status["wantedPods"], &status["readyPods"]),
        (&json!(2), &json!(2)),
        "{status}"
    );
    for pod in status["pods"].as_array().expect("pods") {
        let times = ["createdMs", "scheduledMs", "startedMs", "readyMs"];
        let times: Vec<i64> = times
            .iter()
            .map(|key| pod[*key].as_i64().expect(key))
            .collect();
        assert!(times.is_sorted() && times[3] < 60_000, "{pod}");
    }
    let result = autoscale::replay::evaluate(one, jiff::Timestamp::UNIX_EPOCH);
    assert!(result.passed, "{:?}", result.differences);
    let mut changed = one.clone();
    changed["spec"]["inputs"]["podUsage"]["values"][0]["containers"][0]["usageMilli"]["cpu"] =
        json!(1);
    let result = autoscale::replay::evaluate(&changed, jiff::Timestamp::UNIX_EPOCH);
    assert!(!result.passed, "other inputs, another decision");
}

#[tokio::test]
async fn what_does_not_differ_is_not_kept_again() {
    let fixture = Fixture::new().await;
    fixture.autoscaler("web", "nothing").await;
    let decisions = KeptDecisions::default();
    let keeper = fixture.keep(decisions.clone());
    fixture.start_into(Arc::new(decisions.clone()), SYNC);
    let kept = fixture.decisions(|all| !all.is_empty()).await;
    assert_eq!(kept[0]["spec"]["reason"], "FailedGetScale");
    let error = "deployments.apps \"nothing\" not found";
    assert!(
        kept[0]["spec"]["error"]
            .as_str()
            .is_some_and(|text| text.contains(error)),
        "{}",
        kept[0]
    );
    assert_eq!(
        kept[0]["status"]["phase"], "Complete",
        "no pods to wait for"
    );
    tokio::time::sleep(SYNC * 10).await;
    assert_eq!(fixture.decisions(|_| true).await.len(), 1);
    // Nor after a restart of everything that remembers.
    keeper.cancel();
    let decisions = KeptDecisions::default();
    fixture.keep(decisions.clone());
    fixture.start_into(Arc::new(decisions), SYNC);
    tokio::time::sleep(SYNC * 10).await;
    assert_eq!(fixture.decisions(|_| true).await.len(), 1);
}
