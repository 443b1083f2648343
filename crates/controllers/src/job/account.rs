//! What is written of a Job: each pod is counted once, however often a write or the program breaks off.
//!
//! As upstream, in three steps, each safe to repeat: the uids of ended pods go into `uncountedTerminatedPods`; the pods
//! lose their finalizer; the uids go, and the numbers grow. An index needs no uid: it is counted by being named.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobCondition, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;

use super::conditions::{
    self, COMPLETE, FAILED, FAILURE_TARGET, SUCCESS_CRITERIA_MET, SUSPENDED, ensure,
};
use super::look::{Look, is_suspended, number, whole_seconds};
use super::pod;
use super::policy::{self, Ruling};
use crate::events::Severity;
use crate::objects;

/// Pods that are counted in one reconcile, as upstream: their uids are in the status meanwhile.
const UNCOUNTED_MAX: usize = 500;

/// What became of a [`super::manage::Step`].
#[derive(Debug, Default)]
pub struct Done {
    /// Uids of pods that were deleted.
    pub deleted: HashSet<String>,
    /// How many pods were made.
    pub created: usize,
}

/// Something to tell as an event.
pub type Told = (Severity, String, String);

/// What follows of a look and its step.
#[derive(Debug)]
pub struct Account {
    /// To be written first.
    pub status: JobStatus,
    /// Pods whose finalizer may go once the status is written.
    pub release: Vec<Arc<Pod>>,
    /// Complete or Failed, to be told when all is counted and no pod is left.
    pub end: Option<JobCondition>,
    /// More pods wait to be counted.
    pub capped: bool,
    pub events: Vec<Told>,
}

/// Counts.
pub fn account(look: &Look, done: &Done) -> Account {
    let mut status = look.status.clone();
    let left = look
        .active
        .iter()
        .filter(|pod| !done.deleted.contains(objects::uid(&***pod)));
    let left: Vec<_> = left.collect();
    let active = number(left.len() + done.created);
    let ready = left.iter().filter(|pod| objects::is_ready(pod)).count();
    status.active = some(active);
    status.ready = Some(number(ready));
    status.terminating = Some(look.terminating() + number(look.active.len() - left.len()));

    let mut events = Vec::new();
    // As long as pods of an ended Job run, it has not ended.
    let mut end = look.end.clone().filter(|_| left.is_empty());
    if look.end.is_none() {
        end = completed(look, active);
        if end.is_none() && !objects::is_terminating(look.job) {
            suspension(look, &mut status, &mut events);
        }
    }

    let tracked = look.pods.iter().filter(|pod| pod::is_tracked(pod));
    settle(
        &mut status,
        &tracked.map(|pod| objects::uid(&**pod)).collect(),
    );
    let (release, capped) = count(look, end.as_ref(), &mut status);
    if let Some(seen) = &look.indexed {
        status.succeeded = some(seen.succeeded.count());
        status.completed_indexes = Some(seen.succeeded.to_string()).filter(|text| !text.is_empty());
        status.failed_indexes = seen.failed.as_ref().map(ToString::to_string);
    }
    let end = end.map(|end| announce(&mut status, end, look.now));
    Account {
        status,
        release,
        end,
        capped,
        events,
    }
}

fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

/// As many successes as are wanted, and nothing that runs.
fn completed(look: &Look, active: i32) -> Option<JobCondition> {
    let enough = look
        .spec
        .completions
        .map_or(look.succeeded > 0, |wanted| look.succeeded >= wanted);
    let message = "Reached expected number of succeeded pods";
    (enough && active == 0).then(|| {
        conditions::met(
            SUCCESS_CRITERIA_MET,
            "CompletionsReached",
            message,
            look.now,
        )
    })
}

fn suspension(look: &Look, status: &mut JobStatus, events: &mut Vec<Told>) {
    let suspended = is_suspended(look.spec);
    let (reason, message, event) = if suspended {
        ("JobSuspended", "Job suspended", "Suspended")
    } else {
        ("JobResumed", "Job resumed", "Resumed")
    };
    let words = (reason, message);
    if !ensure(
        &mut status.conditions,
        SUSPENDED,
        suspended,
        words,
        look.now,
    ) {
        return;
    }
    events.push((Severity::Normal, event.to_owned(), message.to_owned()));
    // activeDeadlineSeconds begin again when it is resumed; the time between counts for nothing
    status.start_time = (!suspended).then(|| whole_seconds(look.now));
}

/// Notes the pods that have ended. Returns those to release, and whether there are more.
fn count(look: &Look, end: Option<&JobCondition>, status: &mut JobStatus) -> (Vec<Arc<Pod>>, bool) {
    let failing = end.is_some_and(|end| end.type_ != SUCCESS_CRITERIA_MET);
    let uncounted = status
        .uncounted_terminated_pods
        .get_or_insert_with(UncountedTerminatedPods::default);
    let mut succeeded = uncounted.succeeded.take().unwrap_or_default();
    let mut failed = uncounted.failed.take().unwrap_or_default();
    let mut pods: Vec<&Arc<Pod>> = look.pods.iter().collect();
    if look.indexed.is_some() {
        pods.sort_by_key(|pod| pod::index(pod));
    }
    let (mut release, mut new_indexes, mut capped) = (Vec::new(), 0, false);
    for pod in pods {
        if !pod::is_tracked(pod) || !may_go(look, pod, end) {
            continue;
        }
        release.push(pod.clone());
        let uid = objects::uid(&**pod).to_owned();
        let index = look
            .indexed
            .as_ref()
            .map(|seen| (seen, pod::valid_index(pod, seen.completions)));
        let counts = index.as_ref().is_none_or(|(_, index)| index.is_some());
        if pod::has_succeeded(pod) && !failed.contains(&uid) {
            match index {
                Some((seen, index)) => {
                    new_indexes += usize::from(index.is_some_and(|index| !seen.before.has(index)));
                }
                None if !succeeded.contains(&uid) => succeeded.push(uid),
                None => {}
            }
        } else if (pod::is_failed(pod, look.job) || failing)
            && counts
            && !failed.contains(&uid)
            && policy::of_failed(pod, look.job) != Ruling::Ignore
        {
            failed.push(uid);
        }
        if new_indexes + succeeded.len() + failed.len() >= UNCOUNTED_MAX {
            capped = true;
            break;
        }
    }
    let listed = |uids: Vec<String>| (!uids.is_empty()).then_some(uids);
    uncounted.succeeded = listed(succeeded);
    uncounted.failed = listed(failed);
    (release, capped)
}

/// Whether a pod need not be kept any longer.
fn may_go(look: &Look, pod: &Pod, end: Option<&JobCondition>) -> bool {
    if objects::is_terminating(look.job) || end.is_some() || pod::has_succeeded(pod) {
        return true;
    }
    let awaited = look.indexed.as_ref().is_some_and(|seen| {
        pod::index(pod)
            .and_then(|index| seen.kept.get(&index))
            .is_some_and(|kept| objects::uid(&**kept) == objects::uid(pod))
    });
    pod::is_failed(pod, look.job) && !awaited
}

/// Tells that the Job will have ended; returns how.
fn announce(status: &mut JobStatus, end: JobCondition, now: Timestamp) -> JobCondition {
    let reason = end.reason.clone().unwrap_or_default();
    let message = end.message.clone().unwrap_or_default();
    let last = match end.type_.as_str() {
        FAILURE_TARGET => FAILED,
        SUCCESS_CRITERIA_MET => COMPLETE,
        _ => return end,
    };
    let list = status.conditions.get_or_insert_default();
    if conditions::is_met(Some(list.as_slice()), &end.type_).is_none() {
        list.push(end);
    }
    conditions::met(last, &reason, &message, now)
}

/// Counts the noted pods that have no finalizer any more; `tracked` are the uids of those that have.
pub fn settle(status: &mut JobStatus, tracked: &HashSet<&str>) {
    let Some(uncounted) = &mut status.uncounted_terminated_pods else {
        return;
    };
    let gone = |uids: &mut Option<Vec<String>>, number_of: &mut Option<i32>| {
        let before = uids.as_ref().map_or(0, Vec::len);
        if let Some(list) = uids {
            list.retain(|uid| tracked.contains(uid.as_str()));
        }
        let counted = before - uids.as_ref().map_or(0, Vec::len);
        *uids = uids.take().filter(|list| !list.is_empty());
        *number_of = some(number_of.unwrap_or(0) + number(counted));
    };
    gone(&mut uncounted.succeeded, &mut status.succeeded);
    gone(&mut uncounted.failed, &mut status.failed);
}

/// Tells the end, if everything is counted and no pod is left. Returns the event of it.
pub fn conclude(
    status: &mut JobStatus,
    end: &JobCondition,
    completions: Option<i32>,
    now: Timestamp,
) -> Option<Vec<Told>> {
    let waits = status
        .uncounted_terminated_pods
        .as_ref()
        .is_some_and(|pods| pods.succeeded.is_some() || pods.failed.is_some());
    if waits || status.terminating.unwrap_or(0) > 0 {
        return None;
    }
    let reason = end.reason.clone().unwrap_or_default();
    let message = end.message.clone().unwrap_or_default();
    ensure(
        &mut status.conditions,
        &end.type_,
        true,
        (&reason, &message),
        now,
    );
    let mut events = Vec::new();
    if end.type_ == COMPLETE {
        status.completion_time = Some(whole_seconds(now));
        if completions.is_some_and(|wanted| status.succeeded.unwrap_or(0) > wanted) {
            let message = "Too many succeeded pods running after completion count reached";
            let reason = "TooManySucceededPods".to_owned();
            events.push((Severity::Warning, reason, message.to_owned()));
        }
        events.push((Severity::Normal, "Completed".into(), "Job completed".into()));
    } else {
        events.push((Severity::Warning, reason, message));
    }
    Some(events)
}

#[cfg(test)]
mod tests;
