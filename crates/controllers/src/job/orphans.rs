//! Pods whose Job is gone have nobody who counts them: their finalizer would keep them for good.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::Controller;
use kube::runtime::reflector::ObjectRef;
use tokio_util::sync::CancellationToken;

use super::{finished, is_own, pod, pods};
use crate::drive::drive;
use crate::error::{Error, is_not_found};
use crate::objects;
use crate::shared::{Shared, owned_by};

/// Runs until `shutdown`.
pub async fn run(shared: Shared, shutdown: CancellationToken) {
    let of_gone = shared.clone();
    let tracked = |pod: &Arc<Pod>| std::future::ready(pod::is_tracked(pod));
    let pods = shared.pods.stream().filter(tracked);
    let controller = Controller::for_shared_stream(pods, shared.pods.store())
        .watches_shared_stream(shared.jobs.stream(), move |job| left_by(&of_gone, &job));
    drive("job-orphans", controller, shutdown, move |pod| {
        let shared = shared.clone();
        async move { look(&shared, pod).await }
    })
    .await;
}

/// The pods of a Job that is not there any more, or that counts none any more.
fn left_by(shared: &Shared, job: &Job) -> Vec<ObjectRef<Pod>> {
    let (namespace, name) = (objects::namespace(job), objects::name(job));
    let live = shared.jobs.get(Some(namespace), name);
    if live.is_some_and(|live| objects::uid(&*live) == objects::uid(job) && counts_pods(&live)) {
        return Vec::new();
    }
    let pods = shared.pods.by_index(&owned_by(objects::uid(job)));
    pods.iter()
        .filter(|pod| pod::is_tracked(pod))
        .map(|pod| ObjectRef::from_obj(&**pod))
        .collect()
}

async fn look(shared: &Shared, pod: Arc<Pod>) -> Result<Option<Duration>, Error> {
    if !pod::is_tracked(&pod) {
        return Ok(None);
    }
    if let Some(owner) = objects::controller_of(&*pod) {
        if owner.kind != "Job" || owner.api_version != "batch/v1" {
            return Ok(None);
        }
        let namespace = objects::namespace(&*pod);
        let known = shared.jobs.get(Some(namespace), &owner.name);
        if known.is_some_and(|job| objects::uid(&*job) == owner.uid && counts_pods(&job)) {
            return Ok(None);
        }
        // The cache may not have it yet.
        let jobs: Api<Job> = Api::namespaced(shared.client.clone(), namespace);
        match jobs.get(&owner.name).await {
            Ok(job) if objects::uid(&job) == owner.uid && counts_pods(&job) => return Ok(None),
            Ok(_) => {}
            Err(error) if is_not_found(&error) => {}
            Err(error) => {
                return Err(Error::api("read the Job of Pod", objects::key(&*pod))(
                    error,
                ));
            }
        }
    } else if !objects::is_terminating(&*pod) && adoptable(shared, &pod) {
        return Ok(None);
    }
    pods::take_finalizer(&shared.client, &pod).await?;
    Ok(None)
}

/// Somebody counts the Job's pods, and lets them go: it has not finished, or is somebody else's to manage.
fn counts_pods(job: &Job) -> bool {
    finished(job).is_none() || !is_own(job)
}

/// A Job selects it, and takes it in.
fn adoptable(shared: &Shared, pod: &Pod) -> bool {
    shared.jobs.all().iter().any(|job| {
        let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        counts_pods(job)
            && objects::namespace(&**job) == objects::namespace(pod)
            && selector
                .is_some_and(|selector| objects::selects(selector, pod.metadata.labels.as_ref()))
    })
}
