//! Columns of Jobs and CronJobs.

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Column, NAME, age, integer, name, or, string, wide};
use crate::object::{items, text};

pub const JOB: &[Column] = &[
    NAME,
    string("Status"),
    string("Completions"),
    string("Duration"),
    AGE,
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

pub const CRON_JOB: &[Column] = &[
    NAME,
    string("Schedule"),
    string("Timezone"),
    string("Suspend"),
    integer("Active"),
    string("Last Schedule"),
    AGE,
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

/// Names and images of the containers of a Job's template, and its selector.
fn template(spec: &Value) -> [Value; 3] {
    let join = |key: &str| {
        let list = items(spec, &["template", "spec", "containers"]);
        let parts: Vec<&str> = list.iter().map(|c| text(c, &[key])).collect();
        Value::from(parts.join(","))
    };
    let selector = crate::handlers::selector_text(&spec["selector"]);
    [join("name"), join("image"), or(&selector, "<none>")]
}

fn is_true(object: &Value, condition: &str) -> bool {
    items(object, &["status", "conditions"])
        .iter()
        .any(|one| one["type"] == condition && one["status"] == "True")
}

fn job_status(object: &Value) -> &'static str {
    for (condition, shown) in [("Complete", "Complete"), ("Failed", "Failed")] {
        if is_true(object, condition) {
            return shown;
        }
    }
    if !text(object, &["metadata", "deletionTimestamp"]).is_empty() {
        return "Terminating";
    }
    for shown in ["Suspended", "FailureTarget", "SuccessCriteriaMet"] {
        if is_true(object, shown) {
            return shown;
        }
    }
    "Running"
}

fn completions(object: &Value) -> String {
    let succeeded = object["status"]["succeeded"].as_i64().unwrap_or(0);
    let spec = &object["spec"];
    match (spec["completions"].as_i64(), spec["parallelism"].as_i64()) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, Some(parallelism)) if parallelism > 1 => {
            format!("{succeeded}/1 of {parallelism}")
        }
        _ => format!("{succeeded}/1"),
    }
}

fn duration(object: &Value) -> String {
    let moment = |key: &str| {
        let text = text(object, &["status", key]);
        text.parse::<Timestamp>().ok().map(Timestamp::as_second)
    };
    match (moment("startTime"), moment("completionTime")) {
        (None, _) => String::new(),
        (Some(start), Some(end)) => crate::time::human(end - start),
        (Some(start), None) => crate::time::human(Timestamp::now().as_second() - start),
    }
}

pub fn job(object: &Value) -> Vec<Value> {
    let mut cells = vec![
        name(object),
        job_status(object).into(),
        completions(object).into(),
        duration(object).into(),
        age(object),
    ];
    cells.extend(template(&object["spec"]));
    cells
}

pub fn cron_job(object: &Value) -> Vec<Value> {
    let spec = &object["spec"];
    let suspended = match spec["suspend"].as_bool() {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    let last = object["status"]["lastScheduleTime"].as_str();
    let mut cells = vec![
        name(object),
        text(spec, &["schedule"]).into(),
        or(text(spec, &["timeZone"]), "<none>"),
        suspended.into(),
        items(object, &["status", "active"]).len().into(),
        last.map_or_else(|| "<none>".into(), |last| crate::time::age(Some(last)))
            .into(),
        age(object),
    ];
    cells.extend(template(&spec["jobTemplate"]["spec"]));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_job_is_told_in_a_word_and_a_fraction() {
        let condition = |name: &str| json!([{"type": name, "status": "True"}]);
        for (spec, status, expected) in [
            (
                json!({"completions": 3, "parallelism": 2}),
                json!({"succeeded": 1}),
                ["Running", "1/3", ""],
            ),
            (
                json!({"parallelism": 2}),
                json!({}),
                ["Running", "0/1 of 2", ""],
            ),
            (
                json!({"parallelism": 1}),
                json!({"succeeded": 1}),
                ["Running", "1/1", ""],
            ),
            (
                json!({"completions": 1}),
                json!({"succeeded": 1, "conditions": condition("Complete"), "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:02:05Z"}),
                ["Complete", "1/1", "2m5s"],
            ),
            (
                json!({"completions": 1}),
                json!({"conditions": condition("Failed")}),
                ["Failed", "0/1", ""],
            ),
            (
                json!({"completions": 1}),
                json!({"conditions": condition("Suspended")}),
                ["Suspended", "0/1", ""],
            ),
            (
                json!({"completions": 1}),
                json!({"conditions": condition("FailureTarget")}),
                ["FailureTarget", "0/1", ""],
            ),
            (
                json!({"completions": 1}),
                json!({"conditions": condition("SuccessCriteriaMet")}),
                ["SuccessCriteriaMet", "0/1", ""],
            ),
        ] {
            let object = json!({"metadata": {"name": "a"}, "spec": spec, "status": status});
            assert_eq!(job(&object)[1..4], expected.map(Value::from), "{object}");
        }
        let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"conditions": condition("Suspended")}});
        assert_eq!(job(&going)[1], "Terminating");
    }

    #[test]
    fn a_cron_job_tells_what_runs_and_what_does_not() {
        let object = json!({"metadata": {"name": "a"}, "spec": {"schedule": "@daily", "suspend": false,
            "jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}}},
            "status": {"active": [{"name": "a-1"}]}});
        let cells = cron_job(&object);
        assert_eq!(
            cells[1..6],
            [
                "@daily".into(),
                "<none>".into(),
                "False".into(),
                1.into(),
                Value::from("<none>")
            ]
        );
        assert_eq!(cells[7..], ["c", "i", "<none>"].map(Value::from));
    }
}
