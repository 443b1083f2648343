//! Creating and deleting an owner's pods, concurrently and carefully, with upstream's events.
//!
//! Follows `RealPodControl` and `slowStartBatch` of `pkg/controller`.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kube::api::{DeleteParams, ObjectMeta, PostParams, Preconditions};
use kube::{Api, Client, Resource};

use crate::error::{Error, is_namespace_terminating, is_not_found, message};
use crate::events::{Recorder, Severity};
use crate::informer::Cached;
use crate::objects;

const DELETES_AT_ONCE: usize = 64;

/// Why not all pods could be created or deleted.
#[derive(Debug)]
pub struct Failure {
    /// What a ReplicaFailure condition gives as its reason.
    pub reason: &'static str,
    /// The API's words.
    pub message: String,
    /// For the retry.
    pub error: Error,
}

impl Failure {
    /// Reason and message of a ReplicaFailure condition.
    pub fn condition(&self) -> (&'static str, &str) {
        (self.reason, &self.message)
    }
}

/// Makes and deletes pods for one owner.
pub struct PodControl<'a, O> {
    /// The API.
    pub client: &'a Client,
    /// Tells what was done, at the owner.
    pub recorder: &'a Recorder,
    /// Whose pods they are.
    pub owner: &'a O,
}

impl<O> PodControl<'_, O>
where
    O: Cached + Resource<Scope = NamespaceResourceScope>,
{
    /// Creates pods in batches that double while all succeed, so that a template that is refused (quota, admission)
    /// costs one request instead of hundreds. Returns those that were made, and why not all.
    pub async fn create(&self, pods: &[Arc<Pod>]) -> (Vec<Pod>, Option<Failure>) {
        let api = self.api();
        let (mut created, mut batch, mut failure) = (Vec::with_capacity(pods.len()), 1, None);
        while created.len() < pods.len() && failure.is_none() {
            let next = pods.iter().skip(created.len()).take(batch);
            let requests = next.map(|pod| {
                let (api, pod) = (api.clone(), pod.clone());
                async move { api.create(&PostParams::default(), &*pod).await }
            });
            for outcome in futures::future::join_all(requests).await {
                match outcome {
                    Ok(pod) => {
                        self.tell("SuccessfulCreate", "Created pod: ", objects::name(&pod));
                        created.push(pod);
                    }
                    Err(error) => failure = Some(error),
                }
            }
            batch *= 2;
        }
        let failure = match failure {
            Some(error) if is_namespace_terminating(&error) => None,
            Some(error) => {
                Some(self.failed("FailedCreate", "Error creating: ", "create a Pod of", error))
            }
            None => None,
        };
        (created, failure)
    }

    /// Deletes pods. Returns the uids of those that are going or gone, and why not all.
    pub async fn delete(&self, victims: Vec<Arc<Pod>>) -> (Vec<String>, Option<Failure>) {
        let api = self.api();
        let outcomes: Vec<(Arc<Pod>, Result<(), kube::Error>)> = stream::iter(victims)
            .map(|pod| {
                let api = api.clone();
                async move {
                    let outcome = delete(&api, &pod).await;
                    (pod, outcome)
                }
            })
            .buffer_unordered(DELETES_AT_ONCE)
            .collect()
            .await;
        let (mut deleted, mut failure) = (Vec::new(), None);
        for (pod, outcome) in outcomes {
            match outcome {
                Ok(()) => {
                    self.tell("SuccessfulDelete", "Deleted pod: ", objects::name(&*pod));
                    deleted.push(objects::uid(&*pod).to_owned());
                }
                Err(error) if is_not_found(&error) => deleted.push(objects::uid(&*pod).to_owned()),
                Err(error) => failure = Some(error),
            }
        }
        let failure = failure
            .map(|error| self.failed("FailedDelete", "Error deleting: ", "delete a Pod of", error));
        (deleted, failure)
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), objects::namespace(self.owner))
    }

    fn tell(&self, reason: &str, prefix: &str, pod: &str) {
        let message = format!("{prefix}{pod}");
        self.recorder
            .record(self.owner, Severity::Normal, reason, message);
    }

    fn failed(
        &self,
        reason: &'static str,
        prefix: &str,
        action: &'static str,
        error: kube::Error,
    ) -> Failure {
        let message = message(&error);
        self.recorder.record(
            self.owner,
            Severity::Warning,
            reason,
            format!("{prefix}{message}"),
        );
        Failure {
            reason,
            message,
            error: Error::api(action, objects::key(self.owner))(error),
        }
    }
}

/// Deletes this pod, and no other one of its name.
pub async fn delete(api: &Api<Pod>, pod: &Pod) -> Result<(), kube::Error> {
    let only_this = DeleteParams {
        preconditions: Some(Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        }),
        ..Default::default()
    };
    let outcome = api.delete(objects::name(pod), &only_this).await;
    match outcome {
        Ok(_) => Ok(()),
        // another one has its name: this one is gone
        Err(error) if crate::error::status_code(&error) == Some(409) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The pod that a template describes, owned by `owner`, its name to be made from the owner's.
pub fn from_template<O>(template: PodTemplateSpec, owner: &O) -> Pod
where
    O: Resource<DynamicType = ()>,
{
    let meta = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", objects::name(owner))),
            namespace: owner.meta().namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![objects::controller_reference(owner)]),
            ..Default::default()
        },
        spec: template.spec,
        status: None,
    }
}
