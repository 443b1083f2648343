//! Validation of CronJobs.

use autoscale::cron::Schedule;
use serde_json::Value;

use super::super::{Problems, at_least};
use super::{job_spec, supported};
use crate::object::{at, text};

/// A Job's name has a dash and the minute after it, and is a label.
const NAME_MAX: usize = 52;

pub fn cron_job(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    let zone = spec["timeZone"].as_str();
    match text(spec, &["schedule"]) {
        "" => problems.required("spec.schedule", ""),
        given => schedule(given, problems),
    }
    at_least(spec, "startingDeadlineSeconds", 0, "spec", problems);
    if let Some(zone) = zone {
        time_zone(zone, problems);
    }
    match text(spec, &["concurrencyPolicy"]) {
        "" => problems.required("spec.concurrencyPolicy", ""),
        "Allow" | "Forbid" | "Replace" => {}
        other => supported(
            "spec.concurrencyPolicy",
            &other.into(),
            &["Allow", "Forbid", "Replace"],
            problems,
        ),
    }
    let job = &spec["jobTemplate"]["spec"];
    let field = "spec.jobTemplate.spec";
    job_spec(job, field, problems);
    if let Some(selector) = at(job, &["selector"]) {
        problems.invalid(
            &format!("{field}.selector"),
            selector,
            "`selector` will be auto-generated",
        );
    }
    if job["manualSelector"] == true {
        supported(
            &format!("{field}.manualSelector"),
            &job["manualSelector"],
            &["nil", "false"],
            problems,
        );
    }
    at_least(spec, "successfulJobsHistoryLimit", 0, "spec", problems);
    at_least(spec, "failedJobsHistoryLimit", 0, "spec", problems);
    let name = text(object, &["metadata", "name"]);
    if name.len() > NAME_MAX {
        problems.invalid(
            "metadata.name",
            &name.into(),
            "must be no more than 52 characters",
        );
    }
}

fn schedule(given: &str, problems: &mut Problems) {
    let mut wrong = |why: &str| problems.invalid("spec.schedule", &given.into(), why);
    if let Err(why) = Schedule::parse(given) {
        wrong(&why.to_string());
    }
    if given.contains("TZ") {
        wrong("cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
    }
}

fn time_zone(given: &str, problems: &mut Problems) {
    let mut wrong = |why: &str| problems.invalid("spec.timeZone", &given.into(), why);
    if given.is_empty() {
        return wrong("timeZone must be nil or non-empty string");
    }
    let part = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
        (1..=14).contains(&part.len())
            && part.chars().all(plain)
            && !matches!(part, "." | "..")
            && !part.starts_with('-')
    };
    if !given.split('/').all(part) {
        return wrong(&format!("unknown time zone {given}"));
    }
    if given.eq_ignore_ascii_case("Local") {
        wrong(
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        );
    }
    // Go knows the machine's own under this name.
    if given != "Local"
        && let Err(why) = autoscale::cron::zone(given)
    {
        wrong(&why.to_string());
    }
}
