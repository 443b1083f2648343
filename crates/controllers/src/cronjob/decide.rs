//! What a CronJob wants now: as a pure function of it, its Jobs and the time.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use autoscale::cron::Schedule;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;

use super::due::{self, Times};
use crate::events::Severity;
use crate::job;
use crate::objects;

/// Something to tell as an event.
pub type Told = (Severity, &'static str, String);

/// What is to be done.
#[derive(Debug, Default)]
pub struct Decision {
    /// The status, without what doing the rest adds.
    pub status: CronJobStatus,
    pub events: Vec<Told>,
    /// Jobs of this status to be looked for: those that are gone are told and forgotten.
    pub unseen: Vec<ObjectReference>,
    /// Running Jobs to be deleted before the new one is made.
    pub replace: Vec<ObjectReference>,
    /// The start that is due.
    pub start: Option<Timestamp>,
    /// Finished Jobs to be deleted: there are newer ones.
    pub old: Vec<Arc<Job>>,
    /// When to look again.
    pub again: Option<Duration>,
}

/// The part that does not depend on the schedule: what became of the Jobs.
pub fn follow(cron: &CronJob, jobs: &[Arc<Job>]) -> Decision {
    let mut decision = Decision {
        status: cron.status.clone().unwrap_or_default(),
        ..Decision::default()
    };
    let mut active = decision.status.active.take().unwrap_or_default();
    let listed = |active: &[ObjectReference], uid: &str| {
        active.iter().any(|one| one.uid.as_deref() == Some(uid))
    };
    for one in jobs {
        let (name, uid) = (objects::name(&**one), objects::uid(&**one));
        let known = listed(&active, uid);
        let Some(end) = job::finished(one) else {
            if !known {
                let told =
                    format!("Saw a job that the controller did not create or forgot: {name}");
                decision
                    .events
                    .push((Severity::Warning, "UnexpectedJob", told));
            }
            continue;
        };
        if known {
            active.retain(|job| job.uid.as_deref() != Some(uid));
            let told = format!("Saw completed job: {name}, condition: {}", end.type_);
            decision
                .events
                .push((Severity::Normal, "SawCompletedJob", told));
        }
        let completed = one
            .status
            .as_ref()
            .and_then(|status| status.completion_time.clone());
        if end.type_ == job::COMPLETE && completed > decision.status.last_successful_time {
            decision.status.last_successful_time = completed;
        }
    }
    let uids: HashSet<&str> = jobs.iter().map(|job| objects::uid(&**job)).collect();
    let seen = |one: &&ObjectReference| uids.contains(one.uid.as_deref().unwrap_or_default());
    decision.unseen = active.iter().filter(|one| !seen(one)).cloned().collect();
    decision.status.active = (!active.is_empty()).then_some(active);
    decision.old = old(cron, jobs);
    decision
}

/// Adds what the schedule asks for. `cron` has the status of the decision, `zone` is the machine's.
pub fn schedule(cron: &CronJob, decision: &mut Decision, zone: TimeZone, now: Timestamp) {
    let spec = cron.spec.clone();
    if objects::is_terminating(cron) {
        return;
    }
    let mut warn = |reason, told| decision.events.push((Severity::Warning, reason, told));
    let zone = match spec
        .time_zone
        .as_deref()
        .map(|name| (name, autoscale::cron::zone(name)))
    {
        None => zone,
        Some((_, Ok(zone))) => zone,
        Some((name, Err(why))) => {
            return warn(
                "UnknownTimeZone",
                format!("invalid timeZone: {name:?}: {why}"),
            );
        }
    };
    if spec.suspend == Some(true) {
        return;
    }
    let text = &spec.schedule;
    let schedule = match Schedule::parse(text) {
        Ok(schedule) => schedule,
        Err(why) => {
            let told = format!("unparseable schedule: {text:?} : {why}");
            return warn("UnparseableSchedule", told);
        }
    };
    let times = Times {
        schedule: &schedule,
        zone: &zone,
    };
    let missed = match due::missed(cron, &times, now, true) {
        Ok(missed) => missed,
        Err(why) => {
            return warn(
                "InvalidSchedule",
                format!("invalid schedule: {text} : {why}"),
            );
        }
    };
    let again = Some(due::again(cron, &times, now));
    let Some(at) = missed.latest else {
        decision.again = again;
        return;
    };
    if missed.many {
        let told = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        warn("TooManyMissedTimes", told.to_owned());
    }
    decision.again = again;
    let active = decision.status.active.as_deref().unwrap_or_default();
    let name = name_of(cron, at);
    let started = active.iter().any(|one| one.name.as_deref() == Some(&name))
        || decision
            .status
            .last_schedule_time
            .as_ref()
            .is_some_and(|last| last.0 == at);
    if started {
        return;
    }
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let told = "Not starting job because prior execution is running and concurrency policy is Forbid";
            decision
                .events
                .push((Severity::Normal, "JobAlreadyActive", told.to_owned()));
            return;
        }
        Some("Replace") => decision.replace = active.to_vec(),
        _ => {}
    }
    decision.start = Some(at);
}

/// The name of the Job of a start: the same start makes no second one.
pub fn name_of(cron: &CronJob, at: Timestamp) -> String {
    format!("{}-{}", objects::name(cron), at.as_second().div_euclid(60))
}

/// Finished Jobs beyond the limits, the oldest ones.
fn old(cron: &CronJob, jobs: &[Arc<Job>]) -> Vec<Arc<Job>> {
    let spec = &cron.spec;
    let of = |complete: bool, limit: Option<i32>| {
        let Some(limit) = limit else {
            return Vec::new();
        };
        let is = |job: &&Arc<Job>| {
            job::finished(job).is_some_and(|end| (end.type_ == job::COMPLETE) == complete)
        };
        let mut jobs: Vec<Arc<Job>> = jobs.iter().filter(is).cloned().collect();
        // Those that never started are the newest.
        let start = |job: &Job| {
            let start = job.status.as_ref()?.start_time.as_ref();
            start.map(|time| time.0)
        };
        jobs.sort_by_key(|job| {
            (
                start(job).unwrap_or(Timestamp::MAX),
                objects::name(&**job).to_owned(),
            )
        });
        let keep = usize::try_from(limit).unwrap_or(0);
        jobs.truncate(jobs.len().saturating_sub(keep));
        jobs.retain(|job| !objects::is_terminating(&**job));
        jobs
    };
    let mut old = of(true, spec.successful_jobs_history_limit);
    old.extend(of(false, spec.failed_jobs_history_limit));
    old
}

#[cfg(test)]
mod tests;
