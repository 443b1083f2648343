//! The CronJob controller: makes a Job whenever a schedule comes round.
//!
//! Follows `pkg/controller/cronjob` (`cronjob_controllerv2`). `decide` and `due` are pure; this shell does what they say.

mod decide;
mod due;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, PostParams, Preconditions};
use kube::runtime::Controller;
use kube::runtime::reflector::ObjectRef;
use tokio_util::sync::CancellationToken;

use crate::drive::drive;
use crate::error::{Error, is_namespace_terminating, is_not_found, message, reason};
use crate::events::{Recorder, Severity, reference};
use crate::job::finished;
use crate::objects;
use crate::own_writes::OwnWrites;
use crate::shared::{Shared, owned_by};
use decide::Decision;

/// The start that a Job was made for.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Whatever is due later is looked at in between.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// A cache that does not show our own write is waited for so long.
const BEHIND: Duration = Duration::from_secs(30);

/// Runs the controller until `shutdown`.
pub async fn run(shared: Shared, shutdown: CancellationToken) {
    let context = Arc::new(Context {
        recorder: Recorder::start(shared.client.clone(), "cronjob-controller"),
        own_writes: OwnWrites::default(),
        shared: shared.clone(),
    });
    let controller =
        Controller::for_shared_stream(shared.cron_jobs.stream(), shared.cron_jobs.store())
            .watches_shared_stream(shared.jobs.stream(), |job| owner(&job));
    drive("cronjob", controller, shutdown, move |cron| {
        let context = context.clone();
        async move { context.reconcile(cron).await }
    })
    .await;
}

fn owner(job: &Job) -> Option<ObjectRef<CronJob>> {
    let owner = objects::controller_of(job).filter(|owner| owner.kind == "CronJob")?;
    Some(ObjectRef::new(&owner.name).within(objects::namespace(job)))
}

struct Context {
    shared: Shared,
    recorder: Recorder,
    own_writes: OwnWrites,
}

impl Context {
    async fn reconcile(&self, cron: Arc<CronJob>) -> Result<Option<Duration>, Error> {
        if self.own_writes.is_behind(&*cron) {
            return Ok(Some(BEHIND));
        }
        let jobs = self.shared.jobs.by_index(&owned_by(objects::uid(&*cron)));
        let mut cron = CronJob::clone(&cron);
        let mut decision = decide::follow(&cron, &jobs);
        self.forget_missing(&cron, &mut decision).await?;
        let before = cron.status.replace(decision.status.clone());
        decide::schedule(&cron, &mut decision, TimeZone::system(), Timestamp::now());
        for (severity, reason, told) in std::mem::take(&mut decision.events) {
            self.recorder.record(&cron, severity, reason, told);
        }
        let started = self.start(&cron, &mut decision).await;
        for job in std::mem::take(&mut decision.old) {
            let name = objects::name(&*job);
            // It is tried again with the next look.
            let _ = self
                .delete(&cron, &mut decision, name, objects::uid(&*job))
                .await;
        }
        cron.status = before;
        self.write(&mut cron, &decision).await?;
        started?;
        Ok(decision.again.map(|again| again.min(LONGEST_WAIT)))
    }

    fn jobs(&self, cron: &CronJob) -> Api<Job> {
        Api::namespaced(self.shared.client.clone(), objects::namespace(cron))
    }

    /// Jobs that the cache does not show may be too new for it.
    async fn forget_missing(&self, cron: &CronJob, decision: &mut Decision) -> Result<(), Error> {
        for unseen in std::mem::take(&mut decision.unseen) {
            let name = unseen.name.clone().unwrap_or_default();
            match self.jobs(cron).get(&name).await {
                Ok(_) => {}
                Err(error) if is_not_found(&error) => {
                    let told = format!("Active job went missing: {name}");
                    self.recorder
                        .record(cron, Severity::Normal, "MissingJob", told);
                    forget(decision, unseen.uid.as_deref().unwrap_or_default());
                }
                Err(error) => {
                    return Err(Error::api("read a Job of CronJob", objects::key(cron))(
                        error,
                    ));
                }
            }
        }
        Ok(())
    }

    /// Makes the Job that is due.
    async fn start(&self, cron: &CronJob, decision: &mut Decision) -> Result<(), Error> {
        let Some(at) = decision.start else {
            return Ok(());
        };
        for running in std::mem::take(&mut decision.replace) {
            let name = running.name.unwrap_or_default();
            let uid = running.uid.unwrap_or_default();
            self.delete(cron, decision, &name, &uid).await?;
        }
        let wanted = job_of(cron, at);
        let name = objects::name(&wanted).to_owned();
        let made = match self
            .jobs(cron)
            .create(&PostParams::default(), &wanted)
            .await
        {
            Ok(made) => {
                let told = format!("Created job {name}");
                self.recorder
                    .record(cron, Severity::Normal, "SuccessfulCreate", told);
                made
            }
            Err(error) if is_namespace_terminating(&error) => return Ok(()),
            // Made before, and the program ended before it was written down; or somebody else's.
            Err(error) if reason(&error) == "AlreadyExists" => {
                let found = self.jobs(cron).get(&name).await;
                let found =
                    found.map_err(Error::api("read a Job of CronJob", objects::key(cron)))?;
                let ours = objects::controller_of(&found)
                    .is_some_and(|owner| owner.uid == objects::uid(cron));
                if !ours {
                    return Ok(());
                }
                found
            }
            Err(error) => {
                let told = format!("Error creating job: {}", message(&error));
                self.recorder
                    .record(cron, Severity::Warning, "FailedCreate", told);
                return Err(Error::api("create a Job of CronJob", objects::key(cron))(
                    error,
                ));
            }
        };
        // A second start within the minute finds the Job of the first one, which may have ended.
        if finished(&made).is_none() {
            let active = decision.status.active.get_or_insert_default();
            active.push(reference(&made));
        }
        decision.status.last_schedule_time = Some(Time(at));
        Ok(())
    }

    async fn delete(
        &self,
        cron: &CronJob,
        decision: &mut Decision,
        name: &str,
        uid: &str,
    ) -> Result<(), Error> {
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::background()
        };
        match self.jobs(cron).delete(name, &parameters).await {
            Ok(_) => {
                let told = format!("Deleted job {name}");
                self.recorder
                    .record(cron, Severity::Normal, "SuccessfulDelete", told);
            }
            Err(error) if is_not_found(&error) => {}
            Err(error) => {
                let told = format!("Deleted job: {}", message(&error));
                self.recorder
                    .record(cron, Severity::Warning, "FailedDelete", told);
                return Err(Error::api("delete a Job of CronJob", objects::key(cron))(
                    error,
                ));
            }
        }
        forget(decision, uid);
        Ok(())
    }

    async fn write(&self, cron: &mut CronJob, decision: &Decision) -> Result<(), Error> {
        if cron.status.clone().unwrap_or_default() == decision.status {
            return Ok(());
        }
        let api: Api<CronJob> =
            Api::namespaced(self.shared.client.clone(), objects::namespace(cron));
        cron.status = Some(decision.status.clone());
        let name = objects::name(cron).to_owned();
        match api
            .replace_status(&name, &PostParams::default(), cron)
            .await
        {
            Ok(written) => {
                self.own_writes.wrote(&written);
                Ok(())
            }
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(Error::api(
                "update the status of CronJob",
                objects::key(cron),
            )(error)),
        }
    }
}

fn forget(decision: &mut Decision, uid: &str) {
    if let Some(active) = &mut decision.status.active {
        active.retain(|one| one.uid.as_deref() != Some(uid));
    }
    decision.status.active = decision
        .status
        .active
        .take()
        .filter(|list| !list.is_empty());
}

/// The Job of a start.
fn job_of(cron: &CronJob, at: Timestamp) -> Job {
    let spec = cron.spec.clone();
    let zone = match &spec.time_zone {
        Some(name) => autoscale::cron::zone(name).unwrap_or(TimeZone::UTC),
        None => TimeZone::UTC,
    };
    let meta = spec.job_template.metadata.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    let shown = at.to_zoned(zone);
    let shown = match shown.offset().seconds() == 0 {
        true => shown.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        false => shown.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
    };
    annotations.insert(SCHEDULED.to_owned(), shown);
    Job {
        metadata: ObjectMeta {
            name: Some(decide::name_of(cron, at)),
            namespace: cron.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![objects::controller_reference(cron)]),
            ..Default::default()
        },
        spec: spec.job_template.spec,
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_job_is_named_by_its_minute_and_tells_its_start() {
        let at: Timestamp = "2026-07-09T10:05:00Z".parse().unwrap();
        for (zone, shown) in [
            (None, "2026-07-09T10:05:00Z"),
            (Some("Etc/UTC"), "2026-07-09T10:05:00Z"),
            (Some("Asia/Kolkata"), "2026-07-09T15:35:00+05:30"),
        ] {
            let cron: CronJob = serde_json::from_value(json!({
                "metadata": {"name": "c", "namespace": "n", "uid": "u"},
                "spec": {"schedule": "", "timeZone": zone, "jobTemplate": {
                    "metadata": {"labels": {"a": "b"}, "annotations": {"x": "y"}},
                    "spec": {"parallelism": 3, "template": {}}}},
            }))
            .unwrap();
            let made = json!(job_of(&cron, at));
            assert_eq!(
                made["metadata"],
                json!({
                    "name": "c-29726525", "namespace": "n", "labels": {"a": "b"},
                    "annotations": {"x": "y", SCHEDULED: shown},
                    "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": "c", "uid": "u",
                        "controller": true, "blockOwnerDeletion": true}],
                })
            );
            assert_eq!(made["spec"]["parallelism"], 3);
        }
    }
}
