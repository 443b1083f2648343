//! A Job's conditions.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub const COMPLETE: &str = "Complete";
pub const FAILED: &str = "Failed";
pub const SUSPENDED: &str = "Suspended";
/// It will have failed once its pods have ended.
pub const FAILURE_TARGET: &str = "FailureTarget";
/// It will be complete once its pods have ended.
pub const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";

/// A condition that is true.
pub fn met(type_: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    made(type_, "True", reason, message, now)
}

fn made(type_: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    JobCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// The condition of this type, if it is true.
pub fn is_met<'a>(conditions: Option<&'a [JobCondition]>, type_: &str) -> Option<&'a JobCondition> {
    conditions
        .unwrap_or_default()
        .iter()
        .find(|one| one.type_ == type_ && one.status == "True")
}

/// Complete or Failed: nothing of the Job happens again.
pub fn finished(job: &Job) -> Option<&JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_deref();
    is_met(conditions, COMPLETE).or_else(|| is_met(conditions, FAILED))
}

/// Sets a condition; false when it was so. One that is not there need not be false.
pub fn ensure(
    conditions: &mut Option<Vec<JobCondition>>,
    type_: &str,
    status: bool,
    (reason, message): (&str, &str),
    now: Timestamp,
) -> bool {
    let status = if status { "True" } else { "False" };
    let list = conditions.get_or_insert_default();
    let known = list.iter_mut().find(|one| one.type_ == type_);
    let changed = match known {
        Some(known) => {
            let same = known.status == status
                && known.reason.as_deref() == Some(reason)
                && known.message.as_deref() == Some(message);
            if !same {
                *known = made(type_, status, reason, message, now);
            }
            !same
        }
        None if status == "False" => false,
        None => {
            list.push(made(type_, status, reason, message, now));
            true
        }
    };
    if list.is_empty() {
        *conditions = None;
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_set_once_and_never_first_to_false() {
        let now = Timestamp::UNIX_EPOCH;
        let words = ("JobSuspended", "Job suspended");
        let mut list = None;
        assert!(!ensure(&mut list, SUSPENDED, false, words, now));
        assert_eq!(list, None);
        assert!(ensure(&mut list, SUSPENDED, true, words, now));
        assert!(!ensure(&mut list, SUSPENDED, true, words, now));
        assert!(is_met(list.as_deref(), SUSPENDED).is_some());
        assert!(ensure(&mut list, SUSPENDED, false, words, now));
        assert!(is_met(list.as_deref(), SUSPENDED).is_none());
        assert_eq!(list.map(|list| list.len()), Some(1));
    }
}
