//! What there is to be seen of a Job: its pods counted, and whether it has come to an end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;

use super::backoff::Failures;
use super::conditions::{self, FAILED, FAILURE_TARGET, SUCCESS_CRITERIA_MET, SUSPENDED};
use super::indexes::Indexes;
use super::pod;
use super::policy::{self, Ruling};
use crate::objects;

/// A Job and its pods at one moment.
#[derive(Debug)]
pub struct Look<'a> {
    pub job: &'a Job,
    pub spec: &'a JobSpec,
    /// The status, with the Job's start.
    pub status: JobStatus,
    pub pods: &'a [Arc<Pod>],
    pub active: Vec<Arc<Pod>>,
    pub succeeded: i32,
    /// Failures since the last success, these pods' among them.
    pub failures: Failures,
    /// Of an Indexed Job.
    pub indexed: Option<Indexed>,
    /// Failed, FailureTarget or SuccessCriteriaMet, should the Job be at its end.
    pub end: Option<JobCondition>,
    /// When activeDeadlineSeconds are over.
    pub deadline: Option<Duration>,
    pub now: Timestamp,
}

/// What an Indexed Job's pods tell.
#[derive(Clone, Debug, Default)]
pub struct Indexed {
    pub completions: i32,
    /// Indexes that the status has already.
    pub before: Indexes,
    pub succeeded: Indexes,
    /// With backoffLimitPerIndex.
    pub failed: Option<Indexes>,
    /// The last failed pod of each index that is to be tried again: its replacement is told how often it failed, so
    /// that it must not go before.
    pub kept: BTreeMap<i32, Arc<Pod>>,
}

/// Whether the Job is suspended.
pub fn is_suspended(spec: &JobSpec) -> bool {
    spec.suspend == Some(true)
}

/// Looks at a Job that has not finished. `failures` are those before these pods.
pub fn look<'a>(
    job: &'a Job,
    spec: &'a JobSpec,
    pods: &'a [Arc<Pod>],
    failures: Failures,
    now: Timestamp,
) -> Look<'a> {
    let mut status = job.status.clone().unwrap_or_default();
    if status.start_time.is_none() && !is_suspended(spec) {
        status.start_time = Some(whole_seconds(now));
    }
    let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let (known_succeeded, known_failed) = (
        uncounted.succeeded.unwrap_or_default(),
        uncounted.failed.unwrap_or_default(),
    );
    let completions = spec.completions.unwrap_or(0);
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    // Pods that are not tracked any more are in the numbers of the status already.
    let new = |known: &[String], is: &dyn Fn(&Pod) -> bool| -> Vec<Arc<Pod>> {
        pods.iter()
            .filter(|pod| {
                pod::is_tracked(pod) && !known.iter().any(|uid| uid == objects::uid(&***pod))
            })
            .filter(|pod| !indexed || pod::valid_index(pod, completions).is_some())
            .filter(|pod| is(pod))
            .cloned()
            .collect()
    };
    let new_succeeded = new(&known_succeeded, &|pod| pod::has_succeeded(pod));
    let new_failed = new(&known_failed, &|pod| pod::is_failed(pod, job));
    let counted = new_failed
        .iter()
        .filter(|pod| policy::of_failed(pod, job) != Ruling::Ignore);
    let failed = status.failed.unwrap_or(0) + number(counted.count()) + number(known_failed.len());
    let active: Vec<Arc<Pod>> = pods
        .iter()
        .filter(|pod| objects::is_active(pod))
        .cloned()
        .collect();
    let mut look = Look {
        job,
        spec,
        pods,
        active,
        succeeded: status.succeeded.unwrap_or(0)
            + number(new_succeeded.len())
            + number(known_succeeded.len()),
        failures: failures.and(&new_succeeded, &new_failed),
        indexed: None,
        end: None,
        deadline: None,
        now,
        status,
    };
    if indexed {
        let seen = look.indexes(completions);
        look.succeeded = seen.succeeded.count();
        look.indexed = Some(seen);
    }
    look.end = look.ended(failed);
    look
}

/// A count of pods.
pub fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The API's times have whole seconds.
pub fn whole_seconds(at: Timestamp) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
    k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        Timestamp::from_second(at.as_second()).unwrap_or(at),
    )
}

impl Look<'_> {
    /// Pods that are being deleted and have not ended.
    pub fn terminating(&self) -> i32 {
        number(self.pods.iter().filter(|pod| pod::is_ending(pod)).count())
    }

    fn indexes(&self, completions: i32) -> Indexed {
        let read = |text: Option<&String>| {
            Indexes::parse(text.map(String::as_str).unwrap_or_default(), completions)
        };
        let before = read(self.status.completed_indexes.as_ref());
        let of = |is: &dyn Fn(&Pod) -> bool| -> Vec<i32> {
            let tracked = self
                .pods
                .iter()
                .filter(|pod| pod::is_tracked(pod) && is(pod));
            tracked
                .filter_map(|pod| pod::valid_index(pod, completions))
                .collect()
        };
        let succeeded = before.with(of(&|pod| pod::has_succeeded(pod)));
        let limit = self.spec.backoff_limit_per_index;
        let failed = limit.map(|limit| {
            read(self.status.failed_indexes.as_ref()).with(of(&|pod| self.index_failed(pod, limit)))
        });
        let mut seen = Indexed {
            completions,
            before,
            succeeded,
            failed,
            kept: BTreeMap::new(),
        };
        if let Some(failed) = &seen.failed {
            seen.kept = self.kept(&seen, failed);
        }
        seen
    }

    fn index_failed(&self, pod: &Pod, limit: i32) -> bool {
        pod::is_failed(pod, self.job)
            && match policy::of_failed(pod, self.job) {
                Ruling::FailIndex => true,
                Ruling::Ignore => false,
                Ruling::Count | Ruling::FailJob(_) => pod::failures(pod) >= limit,
            }
    }

    fn kept(&self, seen: &Indexed, failed: &Indexes) -> BTreeMap<i32, Arc<Pod>> {
        let running: Vec<i32> = self
            .active
            .iter()
            .filter_map(|pod| pod::index(pod))
            .collect();
        let rank = |pod: &Pod| {
            let failures = pod::failures(pod).saturating_add(pod::ignored_failures(pod));
            (failures, pod::ended_at(pod))
        };
        let mut kept: BTreeMap<i32, Arc<Pod>> = BTreeMap::new();
        for pod in self.pods {
            let Some(index) = pod::valid_index(pod, seen.completions) else {
                continue;
            };
            let over = seen.succeeded.has(index) || failed.has(index) || running.contains(&index);
            if over || !pod::is_tracked(pod) || !pod::is_failed(pod, self.job) {
                continue;
            }
            let later = |known: &Arc<Pod>| rank(pod) >= rank(known);
            if kept.get(&index).is_none_or(later) {
                kept.insert(index, pod.clone());
            }
        }
        kept
    }

    /// Whether the Job has come to its end, by what was decided before, by failure, or by its success policy.
    fn ended(&mut self, failed: i32) -> Option<JobCondition> {
        let conditions = self.status.conditions.as_deref();
        if let Some(met) = conditions::is_met(conditions, SUCCESS_CRITERIA_MET) {
            return Some(met.clone());
        }
        if let Some(target) = conditions::is_met(conditions, FAILURE_TARGET) {
            let reason = target.reason.as_deref().unwrap_or_default();
            let message = target.message.as_deref().unwrap_or_default();
            return Some(conditions::met(FAILED, reason, message, self.now));
        }
        let failure = |reason: &str, message: &str| {
            conditions::met(FAILURE_TARGET, reason, message, self.now)
        };
        let failed_pods = self.pods.iter().filter(|pod| pod::is_failed(pod, self.job));
        let ruling = failed_pods.map(|pod| policy::of_failed(pod, self.job));
        for ruling in ruling {
            if let Ruling::FailJob(message) = ruling {
                return Some(failure("PodFailurePolicy", &message));
            }
        }
        let limit = self.spec.backoff_limit.unwrap_or(6);
        if failed > limit || self.restarted_too_often(limit) {
            let message = "Job has reached the specified backoff limit";
            return Some(failure("BackoffLimitExceeded", message));
        }
        let deadline = self.time_left();
        if deadline == Some(Duration::ZERO) {
            let message = "Job was active longer than specified deadline";
            return Some(failure("DeadlineExceeded", message));
        }
        if let Some(seen) = &self.indexed {
            let failed = seen.failed.as_ref().map_or(0, Indexes::count);
            if self
                .spec
                .max_failed_indexes
                .is_some_and(|most| failed > most)
            {
                let message = "Job has exceeded the specified maximal number of failed indexes";
                return Some(failure("MaxFailedIndexesExceeded", message));
            }
            if failed > 0 && failed + seen.succeeded.count() >= seen.completions {
                return Some(failure("FailedIndexes", "Job has failed indexes"));
            }
            if let Some(message) = policy::succeeded(self.spec, &seen.succeeded) {
                let reason = "SuccessPolicy";
                let met = conditions::met(SUCCESS_CRITERIA_MET, reason, &message, self.now);
                return Some(met);
            }
        }
        self.deadline = deadline;
        None
    }

    /// Containers of running pods that are started again where they are (OnFailure) count by their restarts.
    fn restarted_too_often(&self, limit: i32) -> bool {
        let template = self.spec.template.spec.as_ref();
        if template.and_then(|spec| spec.restart_policy.as_deref()) != Some("OnFailure") {
            return false;
        }
        let restarts: i32 = self
            .pods
            .iter()
            .filter(|pod| matches!(objects::phase(pod), "Running" | "Pending"))
            .filter_map(|pod| pod.status.as_ref())
            .flat_map(|status| [&status.init_container_statuses, &status.container_statuses])
            .flatten()
            .flatten()
            .map(|status| status.restart_count)
            .sum();
        if limit == 0 {
            restarts > 0
        } else {
            restarts >= limit
        }
    }

    /// Until activeDeadlineSeconds are over; a start that is still to come (the clock went back) does not lengthen it.
    fn time_left(&self) -> Option<Duration> {
        let seconds = self.spec.active_deadline_seconds?;
        if is_suspended(self.spec) {
            return None;
        }
        let whole = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let mut conditions = self.status.conditions.iter().flatten();
        let rested = conditions.any(|one| one.type_ == SUSPENDED && one.status == "True");
        let Some(start) = self.status.start_time.as_ref().filter(|_| !rested) else {
            // it begins, or goes on after a pause
            return Some(whole);
        };
        let start = start.0;
        let passed = self.now.duration_since(start).max(SignedDuration::ZERO);
        let left = SignedDuration::from_secs(seconds).saturating_sub(passed);
        Some(Duration::try_from(left).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
