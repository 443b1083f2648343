//! Defaults of Jobs and CronJobs.

use serde_json::Value;

use super::{child, each, set, template};
use crate::object::at;

/// Retries of a Job whose indexes do not count their own.
const BACKOFF_LIMIT: i64 = 6;

pub fn job(object: &mut Value) {
    let spec = child(object, "spec");
    let given = |spec: &Value, key: &str| at(spec, &[key]).is_some();
    if !given(spec, "completions") && !given(spec, "parallelism") {
        set(spec, "completions", 1);
    }
    set(spec, "parallelism", 1);
    let retries = if given(spec, "backoffLimitPerIndex") {
        i64::from(i32::MAX)
    } else {
        BACKOFF_LIMIT
    };
    set(spec, "backoffLimit", retries);
    set(spec, "completionMode", "NonIndexed");
    set(spec, "suspend", false);
    set(spec, "manualSelector", false);
    let replaced = if given(spec, "podFailurePolicy") {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    set(spec, "podReplacementPolicy", replaced);
    failure_policy(spec);
    template(spec);
}

pub fn cron_job(object: &mut Value) {
    let spec = child(object, "spec");
    set(spec, "concurrencyPolicy", "Allow");
    set(spec, "suspend", false);
    set(spec, "successfulJobsHistoryLimit", 3);
    set(spec, "failedJobsHistoryLimit", 1);
    // The Job that is made of the template gets its own defaults then.
    let job = child(child(spec, "jobTemplate"), "spec");
    failure_policy(job);
    template(job);
}

fn failure_policy(spec: &mut Value) {
    let Some(policy) = spec.get_mut("podFailurePolicy") else {
        return;
    };
    each(policy, "rules", |rule| {
        each(rule, "onPodConditions", |pattern| {
            set(pattern, "status", "True");
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn jobs_get_upstreams_defaults() {
        let template = json!({"spec": {"restartPolicy": "Never", "containers": []}});
        for (spec, expected) in [
            (
                json!({}),
                json!({"completions": 1, "parallelism": 1, "backoffLimit": 6}),
            ),
            (
                json!({"parallelism": 3}),
                json!({"parallelism": 3, "backoffLimit": 6, "completions": null}),
            ),
            (
                json!({"completions": 3}),
                json!({"completions": 3, "parallelism": 1}),
            ),
            (
                json!({"completions": 3, "completionMode": "Indexed", "backoffLimitPerIndex": 1}),
                json!({"backoffLimit": 2_147_483_647, "completionMode": "Indexed"}),
            ),
            (
                json!({"podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}}),
                json!({"podReplacementPolicy": "Failed", "podFailurePolicy": {"rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}}),
            ),
            (
                json!({}),
                json!({"completionMode": "NonIndexed", "suspend": false, "manualSelector": false, "podReplacementPolicy": "TerminatingOrFailed"}),
            ),
        ] {
            let mut object = json!({"spec": spec});
            object["spec"]["template"] = template.clone();
            job(&mut object);
            for (key, value) in expected.as_object().expect("an object") {
                assert_eq!(&object["spec"][key], value, "{spec} {key}");
            }
            assert_eq!(
                object["spec"]["template"]["spec"]["dnsPolicy"],
                "ClusterFirst"
            );
            let before = object.clone();
            job(&mut object);
            assert_eq!(object, before, "defaulting twice changes nothing");
        }
    }

    #[test]
    fn the_job_of_a_cron_job_is_not_defaulted_yet() {
        let mut object = json!({"spec": {"schedule": "@daily", "jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "a:1"}]}}}}}});
        cron_job(&mut object);
        let spec = &object["spec"];
        assert_eq!(spec["concurrencyPolicy"], "Allow");
        assert_eq!(spec["suspend"], false);
        assert_eq!(spec["successfulJobsHistoryLimit"], 3);
        assert_eq!(spec["failedJobsHistoryLimit"], 1);
        let job = &spec["jobTemplate"]["spec"];
        assert!(job.get("parallelism").is_none() && job.get("suspend").is_none());
        assert_eq!(
            job["template"]["spec"]["containers"][0]["imagePullPolicy"],
            "IfNotPresent"
        );
    }
}
