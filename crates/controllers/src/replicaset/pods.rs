//! Creating and deleting a ReplicaSet's pods, concurrently and carefully.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, PostParams};

use super::Context;
use crate::error::{Error, is_namespace_terminating, is_not_found, message};
use crate::events::Severity;
use crate::objects;

const DELETES_AT_ONCE: usize = 64;

/// Why not all pods could be created or deleted.
#[derive(Debug)]
pub struct Failure {
    /// What the ReplicaFailure condition gives as its reason.
    pub reason: &'static str,
    /// The API's words.
    pub message: String,
    /// For the retry.
    pub error: Error,
}

impl Failure {
    /// Reason and message of the ReplicaFailure condition.
    pub fn condition(&self) -> (&'static str, &str) {
        (self.reason, &self.message)
    }
}

impl Context {
    /// Creates pods in batches that double while all succeed, so that a template that is refused (quota, admission)
    /// costs one request instead of hundreds.
    pub(super) async fn create_pods(
        &self,
        set: &Arc<ReplicaSet>,
        count: usize,
    ) -> Result<(), Failure> {
        let template = Arc::new(pod_of(set));
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), objects::namespace(&**set));
        let (mut created, mut batch, mut failure) = (Vec::with_capacity(count), 1, None);
        while created.len() < count && failure.is_none() {
            let size = batch.min(count - created.len());
            let requests = (0..size).map(|_| {
                let (api, template) = (api.clone(), template.clone());
                async move { api.create(&PostParams::default(), &*template).await }
            });
            for outcome in futures::future::join_all(requests).await {
                match outcome {
                    Ok(pod) => {
                        self.recorder.record(
                            &**set,
                            Severity::Normal,
                            "SuccessfulCreate",
                            format!("Created pod: {}", objects::name(&pod)),
                        );
                        created.push(pod);
                    }
                    Err(error) => failure = Some(error),
                }
            }
            batch *= 2;
        }
        self.expectations.wrote(
            objects::uid(&**set),
            &self.shared.pods,
            &created,
            Vec::new(),
        );
        match failure {
            Some(error) if is_namespace_terminating(&error) => Ok(()),
            Some(error) => Err(self.failed(
                set,
                "FailedCreate",
                "Error creating: ",
                "create a Pod of",
                error,
            )),
            None => Ok(()),
        }
    }

    pub(super) async fn delete_pods(
        &self,
        set: &Arc<ReplicaSet>,
        victims: Vec<Arc<Pod>>,
    ) -> Result<(), Failure> {
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), objects::namespace(&**set));
        let outcomes: Vec<(Arc<Pod>, Result<(), kube::Error>)> = stream::iter(victims)
            .map(|pod| {
                let api = api.clone();
                async move {
                    let outcome = api
                        .delete(objects::name(&*pod), &DeleteParams::default())
                        .await;
                    (pod, outcome.map(drop))
                }
            })
            .buffer_unordered(DELETES_AT_ONCE)
            .collect()
            .await;
        let (mut deleted, mut failure) = (Vec::new(), None);
        for (pod, outcome) in outcomes {
            match outcome {
                Ok(()) => {
                    self.recorder.record(
                        &**set,
                        Severity::Normal,
                        "SuccessfulDelete",
                        format!("Deleted pod: {}", objects::name(&*pod)),
                    );
                    deleted.push(objects::uid(&*pod).to_owned());
                }
                Err(error) if is_not_found(&error) => deleted.push(objects::uid(&*pod).to_owned()),
                Err(error) => failure = Some(error),
            }
        }
        self.expectations
            .wrote(objects::uid(&**set), &self.shared.pods, &[], deleted);
        match failure {
            Some(error) => Err(self.failed(
                set,
                "FailedDelete",
                "Error deleting: ",
                "delete a Pod of",
                error,
            )),
            None => Ok(()),
        }
    }

    fn failed(
        &self,
        set: &Arc<ReplicaSet>,
        reason: &'static str,
        prefix: &str,
        action: &'static str,
        error: kube::Error,
    ) -> Failure {
        let message = message(&error);
        self.recorder.record(
            &**set,
            Severity::Warning,
            reason,
            format!("{prefix}{message}"),
        );
        Failure {
            reason,
            message,
            error: Error::api(action, objects::key(&**set))(error),
        }
    }
}

/// The pod that the set's template describes, owned by the set.
fn pod_of(set: &ReplicaSet) -> Pod {
    let template = set.spec.template.clone().unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", objects::name(set))),
            namespace: set.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![objects::controller_reference(set)]),
            ..Default::default()
        },
        spec: template.spec,
        status: None,
    }
}
