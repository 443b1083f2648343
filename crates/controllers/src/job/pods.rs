//! Makes, deletes, adopts and releases a Job's pods through the API.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::json;

use super::Context;
use super::account::Done;
use super::look::Look;
use super::manage::Step;
use super::pod::{self, FINALIZER};
use super::template;
use crate::error::{Error, is_namespace_terminating, is_not_found, message, reason, status_code};
use crate::events::Severity;
use crate::objects::{self, Matcher};
use crate::shared::{orphans_in, owned_by};

const AT_ONCE: usize = 64;

/// Pods that lost their finalizer by our hand, by Job: a cache that still shows it must not have them counted again.
#[derive(Debug, Default)]
pub struct Released {
    by_job: Mutex<HashMap<String, HashSet<String>>>,
}

impl Released {
    fn add(&self, job: &str, pod: &str) {
        let mut by_job = self.by_job.lock();
        let pods = by_job.entry(job.to_owned()).or_default();
        pods.insert(pod.to_owned());
    }

    /// Forgets a Job that has ended or is gone.
    pub fn forget(&self, job: &str) {
        self.by_job.lock().remove(job);
    }

    /// So many Jobs are remembered.
    pub fn len(&self) -> usize {
        self.by_job.lock().len()
    }

    /// Forgets all Jobs but these.
    pub fn retain(&self, live: &HashSet<&str>) {
        self.by_job
            .lock()
            .retain(|uid, _| live.contains(uid.as_str()));
    }

    /// Takes the finalizer off those that have none any more, and forgets what the cache shows by itself.
    pub fn correct(&self, job: &str, pods: &mut [Arc<Pod>]) {
        let mut by_job = self.by_job.lock();
        let Some(known) = by_job.get_mut(job) else {
            return;
        };
        known.retain(|uid| {
            let shown = pods.iter_mut().find(|pod| objects::uid(&***pod) == uid);
            let Some(shown) = shown.filter(|pod| pod::is_tracked(pod)) else {
                return false;
            };
            let finalizers = &mut Arc::make_mut(shown).metadata.finalizers;
            if let Some(list) = finalizers {
                list.retain(|finalizer| finalizer != FINALIZER);
            }
            true
        });
        if known.is_empty() {
            by_job.remove(job);
        }
    }
}

impl Context {
    /// The pods that this Job manages after adoption and release.
    pub(super) async fn claim(&self, job: &Job) -> Result<Vec<Arc<Pod>>, Error> {
        let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let Some(matcher) = selector.map(Matcher::new) else {
            return Ok(Vec::new());
        };
        let matches = |pod: &Pod| matcher.matches(pod.metadata.labels.as_ref());
        let mut claimed = Vec::new();
        for pod in self.shared.pods.by_index(&owned_by(objects::uid(job))) {
            if objects::namespace(&*pod) != objects::namespace(job) {
                continue;
            }
            if matches(&pod) {
                claimed.push(pod);
            } else if !objects::is_terminating(job) && !objects::is_terminating(&*pod) {
                self.let_go(job, &pod).await?;
            }
        }
        if objects::is_terminating(job) {
            return Ok(claimed);
        }
        let orphans = orphans_in(objects::namespace(job));
        for pod in self.shared.pods.by_index(&orphans) {
            if !objects::is_terminating(&*pod)
                && matches(&pod)
                && let Some(adopted) = self.adopt(job, &pod).await?
            {
                claimed.push(Arc::new(adopted));
            }
        }
        Ok(claimed)
    }

    async fn adopt(&self, job: &Job, pod: &Pod) -> Result<Option<Pod>, Error> {
        let jobs: Api<Job> = Api::namespaced(self.shared.client.clone(), objects::namespace(job));
        // The cache may not know yet that the Job was deleted or replaced.
        let live = jobs
            .get(objects::name(job))
            .await
            .map_err(Error::api("read Job", objects::key(job)))?;
        if objects::uid(&live) != objects::uid(job) || objects::is_terminating(&live) {
            return Err(Error::Stale {
                object: objects::key(job),
            });
        }
        let mut owners = pod.metadata.owner_references.clone().unwrap_or_default();
        owners.push(objects::controller_reference(job));
        let change = json!({"metadata": {
            "uid": pod.metadata.uid,
            "resourceVersion": pod.metadata.resource_version,
            "ownerReferences": owners,
            "finalizers": with_finalizer(pod),
        }});
        self.patch(pod, &Patch::Merge(change), "adopt Pod").await
    }

    /// A pod that does not match any more is nobody's, and is not kept.
    async fn let_go(&self, job: &Job, pod: &Pod) -> Result<(), Error> {
        let mut owners = pod.metadata.owner_references.clone().unwrap_or_default();
        owners.retain(|owner| owner.uid != objects::uid(job));
        let mut finalizers = pod.metadata.finalizers.clone().unwrap_or_default();
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        let change = json!({"metadata": {
            "uid": pod.metadata.uid,
            "resourceVersion": pod.metadata.resource_version,
            "ownerReferences": owners,
            "finalizers": finalizers,
        }});
        let patch = Patch::Merge(change);
        self.patch(pod, &patch, "release Pod").await.map(drop)
    }

    async fn patch(
        &self,
        pod: &Pod,
        change: &Patch<serde_json::Value>,
        action: &'static str,
    ) -> Result<Option<Pod>, Error> {
        patch(&self.shared.client, pod, change, action).await
    }

    /// Does what a step says. What was done is returned beside the first failure.
    pub(super) async fn perform(&self, look: &Look<'_>, step: &Step) -> (Done, Result<(), Error>) {
        if !step.delete.is_empty() {
            return self.delete(look.job, step).await;
        }
        if !step.create.is_empty() {
            return self.create(look, step).await;
        }
        (Done::default(), Ok(()))
    }

    async fn delete(&self, job: &Job, step: &Step) -> (Done, Result<(), Error>) {
        let one = |pod: Arc<Pod>| async move {
            if step.uncounted {
                self.release(job, &pod).await?;
            }
            let api: Api<Pod> =
                Api::namespaced(self.shared.client.clone(), objects::namespace(job));
            let name = objects::name(&*pod);
            match api.delete(name, &DeleteParams::default()).await {
                Ok(_) => {
                    let told = format!("Deleted pod: {name}");
                    self.tell(job, Severity::Normal, "SuccessfulDelete", told);
                }
                Err(error) if is_not_found(&error) => {}
                Err(error) => {
                    let told = format!("Error deleting: {}", message(&error));
                    self.tell(job, Severity::Warning, "FailedDelete", told);
                    return Err(Error::api("delete a Pod of", objects::key(job))(error));
                }
            }
            Ok(objects::uid(&*pod).to_owned())
        };
        let outcomes: Vec<Result<String, Error>> = stream::iter(step.delete.clone())
            .map(one)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let (mut done, mut failure) = (Done::default(), Ok(()));
        for outcome in outcomes {
            match outcome {
                Ok(uid) => {
                    done.deleted.insert(uid);
                }
                Err(error) => failure = Err(error),
            }
        }
        self.expectations.wrote(
            objects::uid(job),
            &self.shared.pods,
            &[],
            done.deleted.iter().cloned().collect(),
        );
        (done, failure)
    }

    /// In batches that double while all succeed, so that a template that is refused costs one request.
    async fn create(&self, look: &Look<'_>, step: &Step) -> (Done, Result<(), Error>) {
        let job = look.job;
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), objects::namespace(job));
        let (mut created, mut tried, mut batch, mut failure) = (Vec::new(), 0, 1, None);
        while tried < step.create.len() && failure.is_none() {
            let size = batch.min(step.create.len() - tried);
            let requests = step.create[tried..tried + size].iter().map(|index| {
                let pod = template::pod_of(job, *index, look.indexed.as_ref());
                let api = api.clone();
                async move { api.create(&PostParams::default(), &pod).await }
            });
            for outcome in futures::future::join_all(requests).await {
                match outcome {
                    Ok(pod) => {
                        let told = format!("Created pod: {}", objects::name(&pod));
                        self.tell(job, Severity::Normal, "SuccessfulCreate", told);
                        created.push(pod);
                    }
                    Err(error) => failure = Some(error),
                }
            }
            tried += size;
            batch *= 2;
        }
        let uid = objects::uid(job);
        self.expectations
            .wrote(uid, &self.shared.pods, &created, Vec::new());
        let done = Done {
            created: created.len(),
            ..Done::default()
        };
        match failure {
            None => (done, Ok(())),
            Some(error) if is_namespace_terminating(&error) => (done, Ok(())),
            Some(error) => {
                let told = format!("Error creating: {}", message(&error));
                self.tell(job, Severity::Warning, "FailedCreate", told);
                let error = Error::api("create a Pod of", objects::key(job))(error);
                (done, Err(error))
            }
        }
    }

    /// Takes the finalizer off pods. Returns the uids of those that have none now, beside the first failure.
    pub(super) async fn release_all(
        &self,
        job: &Job,
        pods: &[Arc<Pod>],
    ) -> (HashSet<String>, Result<(), Error>) {
        let one = |pod: Arc<Pod>| async move {
            self.release(job, &pod).await?;
            Ok(objects::uid(&*pod).to_owned())
        };
        let outcomes: Vec<Result<String, Error>> = stream::iter(pods.to_vec())
            .map(one)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let (mut released, mut failure) = (HashSet::new(), Ok(()));
        for outcome in outcomes {
            match outcome {
                Ok(uid) => {
                    released.insert(uid);
                }
                Err(error) => failure = Err(error),
            }
        }
        (released, failure)
    }

    async fn release(&self, job: &Job, pod: &Pod) -> Result<(), Error> {
        if !pod::is_tracked(pod) {
            return Ok(());
        }
        take_finalizer(&self.shared.client, pod).await?;
        self.released.add(objects::uid(job), objects::uid(pod));
        Ok(())
    }

    fn tell(&self, job: &Job, severity: Severity, reason: &str, message: String) {
        self.recorder.record(job, severity, reason, message);
    }
}

fn with_finalizer(pod: &Pod) -> Vec<String> {
    let mut finalizers = pod.metadata.finalizers.clone().unwrap_or_default();
    if !pod::is_tracked(pod) {
        finalizers.push(FINALIZER.to_owned());
    }
    finalizers
}

/// A pod that was counted, or that nobody counts, may go.
pub(super) async fn take_finalizer(client: &Client, pod: &Pod) -> Result<(), Error> {
    let change = json!({"metadata": {
        "uid": pod.metadata.uid,
        "$deleteFromPrimitiveList/finalizers": [FINALIZER],
    }});
    let patch_ = Patch::Strategic(change);
    patch(client, pod, &patch_, "let go of Pod").await.map(drop)
}

/// Nothing for a pod that is gone, or that another took the name of.
async fn patch(
    client: &Client,
    pod: &Pod,
    change: &Patch<serde_json::Value>,
    action: &'static str,
) -> Result<Option<Pod>, Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), objects::namespace(pod));
    match api
        .patch(objects::name(pod), &PatchParams::default(), change)
        .await
    {
        Ok(pod) => Ok(Some(pod)),
        Err(error) if is_not_found(&error) || status_code(&error) == Some(422) => Ok(None),
        Err(error) if reason(&error) == "Conflict" && message(&error).contains("UID") => Ok(None),
        Err(error) => Err(Error::api(action, objects::key(pod))(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, tracked: bool) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.uid = Some(uid.to_owned());
        pod.metadata.finalizers = tracked.then(|| vec!["other".to_owned(), FINALIZER.to_owned()]);
        Arc::new(pod)
    }

    #[test]
    fn a_cache_that_lags_does_not_bring_a_finalizer_back() {
        let released = Released::default();
        released.add("job", "a");
        released.add("job", "gone");
        let mut pods = [pod("a", true), pod("b", true)];
        released.correct("job", &mut pods);
        assert!(!pod::is_tracked(&pods[0]) && pod::is_tracked(&pods[1]));
        assert_eq!(pods[0].metadata.finalizers, Some(vec!["other".to_owned()]));
        // the same cache again, then one that shows it
        let mut pods = [pod("a", true)];
        released.correct("job", &mut pods);
        assert!(!pod::is_tracked(&pods[0]));
        released.correct("job", &mut [pod("a", false)]);
        let mut pods = [pod("a", true)];
        released.correct("job", &mut pods);
        assert!(
            pod::is_tracked(&pods[0]),
            "what the cache has shown is not remembered"
        );
    }
}
