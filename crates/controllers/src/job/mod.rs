//! The Job controller: pods that run to their end, counted exactly once; and the end of Jobs that have ended.
//!
//! Follows `pkg/controller/job` of kube-controller-manager. `look` (what is to be seen), `manage` (which pods to make and
//! to delete) and `account` (what is written) are pure; this shell does what they say. Jobs that another controller
//! manages (`managedBy`) are left alone, except for their time to live.

mod account;
mod backoff;
mod conditions;
#[cfg(test)]
mod fixture;
mod indexes;
mod look;
mod manage;
mod orphans;
mod pod;
mod pods;
mod policy;
mod template;
mod ttl;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions, PropagationPolicy};
use kube::runtime::Controller;
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::drive::drive;
use crate::error::{Error, is_not_found};
use crate::events::Recorder;
use crate::expectations::{self, Expectations};
use crate::objects;
use crate::own_writes::OwnWrites;
use crate::shared::Shared;
use account::{Account, Told};
use backoff::Failures;

pub use conditions::{COMPLETE, finished};
pub use orphans::run as run_orphans;

/// Jobs that were deleted before they ended are forgotten when so many are remembered.
const REMEMBERED_MAX: usize = 1_000;
/// Whatever is due later is looked at in between.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// Who manages Jobs that do not say so.
const MANAGER: &str = "kubernetes.io/job-controller";

/// Runs the controller until `shutdown`.
pub async fn run(shared: Shared, shutdown: CancellationToken) {
    let context = Arc::new(Context {
        recorder: Recorder::start(shared.client.clone(), "job-controller"),
        expectations: Expectations::default(),
        own_writes: OwnWrites::default(),
        released: pods::Released::default(),
        failures: Mutex::default(),
        shared: shared.clone(),
    });
    let owners = context.clone();
    let controller = Controller::for_shared_stream(shared.jobs.stream(), shared.jobs.store())
        .watches_shared_stream(shared.pods.stream(), move |pod| owners.owners(&pod));
    drive("job", controller, shutdown, move |job| {
        let context = context.clone();
        async move { context.reconcile(job).await }
    })
    .await;
}

struct Context {
    shared: Shared,
    recorder: Recorder,
    expectations: Expectations,
    own_writes: OwnWrites,
    released: pods::Released,
    /// By the Job's uid. As upstream's they are lost with the program: a Job that waited looks again at once.
    failures: Mutex<HashMap<String, Failures>>,
}

impl Context {
    /// The Job that manages the pod; for a pod without one, those that could adopt it.
    fn owners(&self, pod: &Pod) -> Vec<ObjectRef<Job>> {
        let namespace = objects::namespace(pod);
        if let Some(owner) = objects::controller_of(pod) {
            if owner.kind != "Job" {
                return Vec::new();
            }
            return vec![ObjectRef::new(&owner.name).within(namespace)];
        }
        if objects::is_terminating(pod) {
            return Vec::new();
        }
        let selects = |job: &&Arc<Job>| {
            let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            objects::namespace(&***job) == namespace
                && selector.is_some_and(|selector| {
                    objects::selects(selector, pod.metadata.labels.as_ref())
                })
        };
        let jobs = self.shared.jobs.all();
        jobs.iter()
            .filter(selects)
            .map(|job| ObjectRef::from_obj(&**job))
            .collect()
    }

    async fn reconcile(&self, job: Arc<Job>) -> Result<Option<Duration>, Error> {
        self.forget_gone();
        if self.own_writes.is_behind(&*job) {
            return Ok(Some(expectations::TIMEOUT));
        }
        let uid = objects::uid(&*job);
        let spec = job.spec.clone().unwrap_or_default();
        if finished(&job).is_some() {
            self.failures.lock().remove(uid);
            self.released.forget(uid);
            return self.expire(&job).await;
        }
        if !is_own(&job) {
            return Ok(None);
        }
        let satisfied = self.expectations.satisfied(uid, &self.shared.pods);
        if satisfied.is_err() && !objects::is_terminating(&*job) {
            // The pod events that are still to come bring the Job back; the delay only guards against a lost one.
            return Ok(Some(expectations::TIMEOUT));
        }
        let mut pods = self.claim(&job).await?;
        self.released.correct(uid, &mut pods);
        self.sync(&job, &spec, &pods).await
    }

    async fn sync(
        &self,
        job: &Job,
        spec: &JobSpec,
        pods: &[Arc<Pod>],
    ) -> Result<Option<Duration>, Error> {
        let uid = objects::uid(job);
        let known = self.failures.lock().get(uid).copied().unwrap_or_default();
        let look = look::look(job, spec, pods, known, Timestamp::now());
        let step = manage::step(&look);
        let (done, performed) = self.perform(&look, &step).await;
        let Account {
            mut status,
            release,
            end,
            capped,
            events,
        } = account::account(&look, &done);
        let mut job = job.clone();
        self.write(&mut job, &mut status, events).await?;
        if look.failures != known {
            self.failures.lock().insert(uid.to_owned(), look.failures);
        }
        let (released, letting_go) = self.release_all(&job, &release).await;
        let tracked: HashSet<&str> = pods
            .iter()
            .filter(|pod| pod::is_tracked(pod))
            .map(|pod| objects::uid(&**pod))
            .filter(|uid| !released.contains(*uid))
            .collect();
        account::settle(&mut status, &tracked);
        let mut ended = Vec::new();
        if let (Some(end), false, true) = (&end, capped, letting_go.is_ok()) {
            let told = account::conclude(&mut status, end, spec.completions, Timestamp::now());
            ended = told.unwrap_or_default();
        }
        self.write(&mut job, &mut status, ended).await?;
        letting_go?;
        performed?;
        let due = [look.deadline, step.wait].into_iter().flatten().min();
        Ok(due.map(|due| due.min(LONGEST_WAIT)))
    }

    fn forget_gone(&self) {
        let remembered = self.failures.lock().len().max(self.released.len());
        if remembered < REMEMBERED_MAX {
            return;
        }
        let jobs = self.shared.jobs.all();
        let live: HashSet<&str> = jobs.iter().map(|job| objects::uid(&**job)).collect();
        self.failures
            .lock()
            .retain(|uid, _| live.contains(uid.as_str()));
        self.released.retain(&live);
    }

    /// Writes the status if it differs from the Job's, and tells what it means. Both are then what the server has.
    async fn write(
        &self,
        job: &mut Job,
        status: &mut JobStatus,
        events: Vec<Told>,
    ) -> Result<(), Error> {
        if job.status.as_ref() != Some(&*status) {
            let api: Api<Job> =
                Api::namespaced(self.shared.client.clone(), objects::namespace(job));
            job.status = Some(status.clone());
            let name = objects::name(job);
            match api.replace_status(name, &PostParams::default(), job).await {
                Ok(written) => {
                    self.own_writes.wrote(&written);
                    *status = written.status.clone().unwrap_or_default();
                    *job = written;
                }
                // Its pods are let go of by those who look for orphans.
                Err(error) if is_not_found(&error) => {
                    return Err(Error::Stale {
                        object: objects::key(job),
                    });
                }
                Err(error) => {
                    let action = "update the status of Job";
                    return Err(Error::api(action, objects::key(job))(error));
                }
            }
        }
        for (severity, reason, message) in events {
            self.recorder.record(job, severity, &reason, message);
        }
        Ok(())
    }

    /// Deletes a finished Job whose time is over.
    async fn expire(&self, job: &Job) -> Result<Option<Duration>, Error> {
        if objects::is_terminating(job) {
            return Ok(None);
        }
        let Some(left) = ttl::left(job, Timestamp::now()) else {
            return Ok(None);
        };
        if !left.is_zero() {
            return Ok(Some(left.min(LONGEST_WAIT)));
        }
        let api: Api<Job> = Api::namespaced(self.shared.client.clone(), objects::namespace(job));
        let parameters = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Foreground),
            // its time may have been changed
            preconditions: Some(Preconditions {
                uid: job.metadata.uid.clone(),
                resource_version: job.metadata.resource_version.clone(),
            }),
            ..Default::default()
        };
        match api.delete(objects::name(job), &parameters).await {
            Ok(_) => Ok(None),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(Error::api("delete the finished Job", objects::key(job))(
                error,
            )),
        }
    }
}

/// Whether the Job is this controller's to manage.
fn is_own(job: &Job) -> bool {
    let spec = job.spec.as_ref();
    spec.and_then(|spec| spec.managed_by.as_deref())
        .is_none_or(|by| by == MANAGER)
}
