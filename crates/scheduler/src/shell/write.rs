//! What the scheduler writes: bindings, the PodScheduled condition, events.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Binding, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod,
};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

use super::Outcome;
use super::order::Order;
use crate::Config;
use crate::decide::Placement;
use crate::events::{Note, Recorder, Severity};
use crate::preempt::Preemption;
use crate::resident::Resident;
use crate::storage::Choice;

/// More requests at once were slower when measured.
const REQUESTS_AT_ONCE: usize = 64;
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// How long a pod waits after its binding failed, with so many failures before: 100 ms, doubling to 10 s.
fn bind_again(failures: u32) -> Duration {
    const MOST: Duration = Duration::from_secs(10);
    (RETRY_DELAY * (1 << failures.min(7))).min(MOST)
}

/// Writes in the background and reports outcomes.
#[derive(Clone)]
pub(super) struct Writer {
    client: Client,
    recorder: Recorder,
    outcomes: mpsc::UnboundedSender<Outcome>,
    permits: Arc<Semaphore>,
    order: Order,
}

impl Writer {
    pub(super) fn new(
        client: Client,
        config: &Config,
        outcomes: mpsc::UnboundedSender<Outcome>,
    ) -> Self {
        Self {
            recorder: Recorder::start(client.clone(), &config.scheduler_name),
            client,
            outcomes,
            permits: Arc::new(Semaphore::new(REQUESTS_AT_ONCE)),
            order: Order::default(),
        }
    }

    /// Binds the pod, when it has been told what was decided before: a bound one must not be told that it waits. The outcome comes back as an input, after a while if it failed, and the longer the more `failures` there
    /// were before. At most one task per waiting pod exists.
    pub(super) fn bind(&self, uid: String, pod: Arc<Pod>, node: String, failures: u32) {
        let writer = self.clone();
        let outcomes = self.outcomes.clone();
        let turn = self.order.turn(&uid);
        tokio::spawn(async move {
            let result = {
                turn.come().await;
                let _permit = writer.permits.acquire().await;
                post_binding(writer.client.clone(), &pod, &node).await
            };
            drop(turn);
            let outcome = match result {
                Ok(()) => {
                    let (namespace, name) = identity(&pod);
                    let message = format!("Successfully assigned {namespace}/{name} to {node}");
                    let recorder = &writer.recorder;
                    recorder.record(&*pod, Severity::Normal, "Scheduled", message);
                    Outcome::Bound { uid }
                }
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                    Outcome::Void { uid }
                }
                Err(error) => {
                    let (namespace, name) = identity(&pod);
                    tracing::warn!(%error, pod = format!("{namespace}/{name}"), node, "binding failed, trying again");
                    // one failure may be the API server's, or the network's; its user is told of what lasts
                    if failures > 0 {
                        let message = format!("running Bind plugin \"DefaultBinder\": {error}");
                        writer.tell(pod, "SchedulerError", message, None, true);
                    }
                    tokio::time::sleep(bind_again(failures)).await;
                    Outcome::Failed { uid }
                }
            };
            // The loop is gone only when everything ends.
            let _ = outcomes.send(outcome);
        });
    }

    /// Tells provisioners the node, and keeps volumes for their claims; the binder does the rest. A failure brings the pod
    /// back.
    pub(super) fn choose(&self, uid: String, placed: Placement) {
        let (permits, outcomes) = (self.permits.clone(), self.outcomes.clone());
        let client = self.client.clone();
        tokio::spawn(async move {
            let _permit = permits.acquire().await;
            for choice in &placed.choices {
                match write_choice(&client, choice, &placed.node).await {
                    Ok(()) => {}
                    Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                        tracing::debug!(?choice, "a claim or volume changed meanwhile");
                        let _ = outcomes.send(Outcome::Failed { uid });
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(%error, ?choice, "a claim could not be told its node, trying again");
                        tokio::time::sleep(RETRY_DELAY).await;
                        let _ = outcomes.send(Outcome::Failed { uid });
                        return;
                    }
                }
            }
        });
    }

    /// Tells why the pod waits: by an event if `tell`, and by its condition where that says something else. With it goes the
    /// node on which room is being made for it, if that changes: `Some(None)` when there is none any more.
    pub(super) fn explain(
        &self,
        pod: Arc<Pod>,
        message: String,
        nomination: Option<Option<String>>,
        tell: bool,
    ) {
        self.tell(pod, "Unschedulable", message, nomination, tell);
    }

    fn tell(
        &self,
        pod: Arc<Pod>,
        reason: &str,
        message: String,
        nomination: Option<Option<String>>,
        event: bool,
    ) {
        if event {
            self.recorder.record(
                &*pod,
                Severity::Warning,
                "FailedScheduling",
                message.clone(),
            );
        }
        let status = pod.status.as_ref();
        let known = status.and_then(|status| {
            let mut conditions = status.conditions.iter().flatten();
            conditions.find(|condition| condition.type_ == "PodScheduled")
        });
        let waits = known.filter(|known| known.status == "False");
        let told = waits.is_some_and(|known| {
            known.message.as_deref() == Some(&message) && known.reason.as_deref() == Some(reason)
        });
        let nominated = status.and_then(|status| status.nominated_node_name.clone());
        let nomination = nomination.filter(|node| *node != nominated);
        if told && nomination.is_none() {
            return;
        }
        let since = waits
            .and_then(|known| known.last_transition_time.clone())
            .map(|time| time.0);
        let mut change = json!({"status": {"conditions": [{
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastProbeTime": null,
            "lastTransitionTime": seconds(since.unwrap_or_else(Timestamp::now)),
            "observedGeneration": pod.metadata.generation,
        }]}});
        if let Some(node) = nomination {
            change["status"]["nominatedNodeName"] = node.into();
        }
        self.patch_status(pod, change);
    }

    /// No room is being made for the pod any more: a more important one gets it.
    pub(super) fn displace(&self, pod: Arc<Pod>) {
        self.patch_status(pod, json!({"status": {"nominatedNodeName": null}}));
    }

    fn patch_status(&self, pod: Arc<Pod>, mut change: serde_json::Value) {
        let (client, permits) = (self.client.clone(), self.permits.clone());
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        // not another pod of the name
        change["metadata"] = json!({"uid": uid});
        let turn = self.order.turn(uid);
        tokio::spawn(async move {
            turn.come().await;
            let _permit = permits.acquire().await;
            let (namespace, name) = identity(&pod);
            let api: Api<Pod> = Api::namespaced(client, namespace);
            let patch = Patch::Strategic(&change);
            match api
                .patch_status(name, &PatchParams::default(), &patch)
                .await
            {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(kube::Error::Api(status)) if is_of_another(&status) => {}
                Err(error) => {
                    tracing::warn!(%error, pod = format!("{namespace}/{name}"), "status not written");
                }
            }
            drop(turn);
        });
    }

    /// Has the victims go, each told why; the outcome comes back as an input. What the pod is told comes first: it
    /// might be bound soon after, and must not be told then that it waits.
    pub(super) fn preempt(&self, uid: String, pod: Arc<Pod>, preemption: Preemption) {
        let (permits, outcomes) = (self.permits.clone(), self.outcomes.clone());
        let (client, recorder) = (self.client.clone(), self.recorder.clone());
        let turn = self.order.turn(&uid);
        tokio::spawn(async move {
            turn.come().await;
            drop(turn);
            let scheduler = pod
                .spec
                .as_ref()
                .and_then(|spec| spec.scheduler_name.clone());
            let scheduler = scheduler.unwrap_or_else(|| "default-scheduler".to_owned());
            let going = preemption
                .victims
                .iter()
                .filter(|victim| !victim.terminating);
            let results = going.map(|victim| async {
                let _permit = permits.acquire().await;
                let result = send_away(&client, victim, &scheduler).await;
                match &result {
                    Ok(()) => recorder.send(note(victim, &uid, &preemption.node)),
                    Err(error) => {
                        let victim = format!("{}/{}", victim.namespace, victim.name);
                        tracing::warn!(%error, victim, "could not be preempted, trying again");
                    }
                }
                result.is_ok()
            });
            let results: Vec<bool> = futures::future::join_all(results).await;
            let failed = results.contains(&false);
            if failed {
                tokio::time::sleep(RETRY_DELAY).await;
            }
            let _ = outcomes.send(Outcome::Preempted { uid, failed });
        });
    }
}

/// Upstream's event about a victim.
fn note(victim: &Resident, preemptor: &str, node: &str) -> Note {
    Note {
        object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(victim.namespace.clone()),
            name: Some(victim.name.clone()),
            uid: Some(victim.uid.clone()),
            ..Default::default()
        },
        severity: Severity::Normal,
        reason: "Preempted".to_owned(),
        message: format!("Preempted by pod {preemptor} on node {node}"),
    }
}

/// The condition first, then the deletion, with the victim's own grace. One that is gone already is fine.
async fn send_away(client: &Client, victim: &Resident, scheduler: &str) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &victim.namespace);
    let found = |result: Result<(), kube::Error>| match result {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other,
    };
    let change = json!({"metadata": {"uid": victim.uid}, "status": {"conditions": [{
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": format!("{scheduler}: preempting to accommodate a higher priority pod"),
        "lastProbeTime": null,
        "lastTransitionTime": seconds(Timestamp::now()),
    }]}});
    let patched = api
        .patch_status(
            &victim.name,
            &PatchParams::default(),
            &Patch::Strategic(&change),
        )
        .await;
    found(patched.map(drop))?;
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(victim.uid.clone()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    found(api.delete(&victim.name, &parameters).await.map(drop))
}

async fn post_binding(client: Client, pod: &Pod, node: &str) -> Result<(), kube::Error> {
    let (namespace, name) = identity(pod);
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            uid: pod.metadata.uid.clone(),
            ..Default::default()
        },
        target: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            ..Default::default()
        },
    };
    let api: Api<Pod> = Api::namespaced(client, namespace);
    api.create_subresource::<_, serde_json::Value>(
        "binding",
        name,
        &PostParams::default(),
        &binding,
    )
    .await
    .map(drop)
}

async fn write_choice(client: &Client, choice: &Choice, node: &str) -> Result<(), kube::Error> {
    let parameters = PatchParams::default();
    let claims = |namespace: &str| -> Api<PersistentVolumeClaim> {
        Api::namespaced(client.clone(), namespace)
    };
    match choice {
        Choice::Provision { told: true, .. } => Ok(()),
        Choice::Provision {
            namespace, claim, ..
        } => {
            let change =
                json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": node}}});
            claims(namespace)
                .patch(claim, &parameters, &Patch::Merge(&change))
                .await
                .map(drop)
        }
        Choice::Static {
            namespace,
            claim,
            volume,
        } => {
            let of = claims(namespace).get(claim).await?;
            let volumes: Api<PersistentVolume> = Api::all(client.clone());
            let now = volumes.get(volume).await?;
            let owner = now.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
            if owner.is_some_and(|owner| owner.uid.is_some()) {
                // taken meanwhile, or bound to this claim already: the events tell
                return Ok(());
            }
            let mut change = json!({
                "metadata": {"resourceVersion": now.metadata.resource_version},
                "spec": {"claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": claim,
                    "uid": of.metadata.uid, "resourceVersion": of.metadata.resource_version}},
            });
            if owner.is_none() {
                change["metadata"]["annotations"] =
                    json!({"pv.kubernetes.io/bound-by-controller": "yes"});
            }
            volumes
                .patch(volume, &parameters, &Patch::Merge(&change))
                .await
                .map(drop)
        }
    }
}

/// Whether a change was refused because another pod has the name now.
fn is_of_another(status: &kube::core::Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 422 && causes.clone().any(|cause| cause.field == "metadata.uid")
}

fn identity(pod: &Pod) -> (&str, &str) {
    (
        pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod.metadata.name.as_deref().unwrap_or_default(),
    )
}

/// Kubernetes' condition times have whole seconds.
fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second())
        .unwrap_or(time)
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_are_tried_again_ever_later() {
        let waits = [0, 1, 6, 7, 1000].map(|failures| bind_again(failures).as_millis());
        assert_eq!(waits, [100, 200, 6400, 10_000, 10_000]);
    }
}
