//! Finished Jobs with ttlSecondsAfterFinished go by themselves (upstream's `pkg/controller/ttlafterfinished`).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;

use super::conditions;

/// How long the Job stays; nothing if it stays for good. An end that is still to come (the clock went back) does not lengthen it.
pub fn left(job: &Job, now: Timestamp) -> Option<Duration> {
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let end = conditions::finished(job)?.last_transition_time.as_ref()?.0;
    let passed = now.duration_since(end).max(SignedDuration::ZERO);
    let left = SignedDuration::from_secs(seconds.into()).saturating_sub(passed);
    Some(Duration::try_from(left).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_time_runs_from_the_end() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        for (ttl, condition, expected) in [
            (Some(70), "Complete", Some(10)),
            (Some(70), "Failed", Some(10)),
            (Some(0), "Complete", Some(0)),
            (Some(60), "Complete", Some(0)),
            (None, "Complete", None),
            (Some(70), "Suspended", None),
        ] {
            let job: Job = serde_json::from_value(json!({
                "spec": {"ttlSecondsAfterFinished": ttl, "template": {}},
                "status": {"conditions": [{"type": condition, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
            }))
            .unwrap();
            let expected = expected.map(Duration::from_secs);
            assert_eq!(left(&job, now), expected, "{ttl:?} {condition}");
        }
    }
}
