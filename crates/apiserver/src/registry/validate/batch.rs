//! Validation of Jobs and CronJobs.

mod cron;
mod indexes;
mod policies;

use serde_json::{Map, Value, json};

use super::workload::{label_selector, selects};
use super::{Problems, at_least, labels, names, pod};
use crate::object::{at, text};
use crate::registry::strategy::{NAME_LABELS, UID_LABELS};

pub use self::cron::cron_job;

/// Pods of an Indexed Job at a time.
const PARALLELISM_MAX: i64 = 100_000;
/// Above so many completions the other numbers of a Job that counts failures per index are bounded more tightly.
const MANY_COMPLETIONS: i64 = 100_000;
const PARALLELISM_MAX_OF_MANY: i64 = 10_000;
const FAILED_INDEXES_MAX_OF_MANY: i64 = 10_000;
const MANAGED_BY_BYTES_MAX: usize = 63;

pub fn job(object: &Value, problems: &mut Problems) {
    generated_selector(object, problems);
    let spec = &object["spec"];
    job_spec(spec, "spec", problems);
    let selector = &spec["selector"];
    if selector.is_object() {
        label_selector(selector, "spec.selector", problems);
        let labels = &spec["template"]["metadata"]["labels"];
        if !selects(selector, labels) {
            problems.invalid(
                "spec.template.metadata.labels",
                labels,
                "`selector` does not match template `labels`",
            );
        }
    } else {
        problems.required("spec.selector", "");
    }
    let completions = spec["completions"].as_i64().unwrap_or(0);
    if is_indexed(spec) && completions > 0 {
        // Its pods are called so, and could not be made.
        let name = text(object, &["metadata", "name"]);
        let last = format!("{name}-{}", completions - 1);
        if !names::dns1123_label(&last).is_empty() {
            problems.invalid(
                "metadata.name",
                &name.into(),
                &format!("will not able to create pod with invalid DNS label: {last}"),
            );
        }
    }
}

/// A selector that was made here must be the one that was made here.
fn generated_selector(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    if spec["manualSelector"] == true || !spec["selector"].is_object() {
        return;
    }
    let labels = &spec["template"]["metadata"]["labels"];
    let name = text(object, &["metadata", "name"]);
    let uid = text(object, &["metadata", "uid"]);
    let mut expected = Map::new();
    for (keys, value) in [(UID_LABELS, uid), (NAME_LABELS, name)] {
        for key in keys {
            expected.insert(key.into(), value.into());
            let field = format!("spec.template.metadata.labels[{key}]");
            let why = format!("must be '{value}'");
            if labels.get(key).is_none() {
                problems.required(&field, &why);
            }
            if text(labels, &[key]) != value {
                problems.invalid(&field, labels, &why);
            }
        }
    }
    if !selects(&spec["selector"], &expected.into()) {
        problems.invalid(
            "spec.selector",
            &spec["selector"],
            "`selector` not auto-generated",
        );
    }
}

fn is_indexed(spec: &Value) -> bool {
    spec["completionMode"] == "Indexed"
}

/// A Job's spec, also in a template.
fn job_spec(spec: &Value, field: &str, problems: &mut Problems) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        at_least(spec, key, 0, field, problems);
    }
    if at(spec, &["maxFailedIndexes"]).is_some() && at(spec, &["backoffLimitPerIndex"]).is_none() {
        problems.required(
            &format!("{field}.backoffLimitPerIndex"),
            "when maxFailedIndexes is specified",
        );
    }
    if let Some(manager) = spec["managedBy"].as_str() {
        managed_by(manager, &format!("{field}.managedBy"), problems);
    }
    match spec["completionMode"].as_str() {
        Some("Indexed") => indexed(spec, field, problems),
        Some("NonIndexed") | None => {
            for key in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(value) = at(spec, &[key]) {
                    problems.invalid(
                        &format!("{field}.{key}"),
                        value,
                        "requires indexed completion mode",
                    );
                }
            }
        }
        Some(_) => supported(
            &format!("{field}.completionMode"),
            &spec["completionMode"],
            &["NonIndexed", "Indexed"],
            problems,
        ),
    }
    policies::failure(spec, &format!("{field}.podFailurePolicy"), problems);
    let success = format!("{field}.successPolicy");
    match at(spec, &["successPolicy"]) {
        Some(policy) if !is_indexed(spec) => {
            problems.invalid(&success, policy, "requires indexed completion mode");
        }
        Some(policy) => policies::success(policy, &spec["completions"], &success, problems),
        None => {}
    }
    replacement(spec, &format!("{field}.podReplacementPolicy"), problems);
    template(spec, field, problems);
}

fn indexed(spec: &Value, field: &str, problems: &mut Problems) {
    let number = |key: &str| spec[key].as_i64();
    let (completions, parallelism) = (number("completions"), number("parallelism"));
    let failed = number("maxFailedIndexes");
    let mut too_many = |key: &str, value: i64, why: String| {
        problems.invalid(&format!("{field}.{key}"), &value.into(), &why);
    };
    if let Some(parallelism) = parallelism.filter(|number| *number > PARALLELISM_MAX) {
        too_many(
            "parallelism",
            parallelism,
            format!(
                "must be less than or equal to {PARALLELISM_MAX} when completion mode is Indexed"
            ),
        );
    }
    if let (Some(completions), Some(failed)) = (completions, failed)
        && failed > completions
    {
        too_many(
            "maxFailedIndexes",
            failed,
            "must be less than or equal to completions".into(),
        );
    }
    if let Some(failed) = failed.filter(|number| *number > PARALLELISM_MAX) {
        too_many(
            "maxFailedIndexes",
            failed,
            format!("must be less than or equal to {PARALLELISM_MAX}"),
        );
    }
    let Some(completions) = completions else {
        return problems.required(
            &format!("{field}.completions"),
            "when completion mode is Indexed",
        );
    };
    if completions <= MANY_COMPLETIONS || at(spec, &["backoffLimitPerIndex"]).is_none() {
        return;
    }
    for (key, value, most) in [
        ("parallelism", parallelism, PARALLELISM_MAX_OF_MANY),
        ("maxFailedIndexes", failed, FAILED_INDEXES_MAX_OF_MANY),
    ] {
        if let Some(value) = value.filter(|number| *number > most) {
            problems.invalid(
                &format!("{field}.{key}"),
                &value.into(),
                &format!(
                    "must be less than or equal to {most} when completions are above {MANY_COMPLETIONS} and used with backoff limit per index"
                ),
            );
        }
    }
    if failed.is_none() {
        problems.required(
            &format!("{field}.maxFailedIndexes"),
            &format!("must be specified when completions is above {MANY_COMPLETIONS}"),
        );
    }
}

/// A path like `acme.io/foo`.
fn managed_by(manager: &str, field: &str, problems: &mut Problems) {
    match manager.split_once('/') {
        _ if manager.is_empty() => problems.required(field, ""),
        Some((host, path)) if !host.is_empty() && !path.is_empty() => {
            for why in names::dns1123_subdomain(host) {
                problems.invalid(field, &host.into(), &why);
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
            if !path.chars().all(plain) {
                problems.invalid(field, &path.into(), "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')");
            }
        }
        _ => problems.invalid(
            field,
            &manager.into(),
            "must be a domain-prefixed path (such as \"acme.io/foo\")",
        ),
    }
    if manager.len() > MANAGED_BY_BYTES_MAX {
        problems.too_long(field, MANAGED_BY_BYTES_MAX);
    }
}

fn replacement(spec: &Value, field: &str, problems: &mut Problems) {
    let allowed: &[&str] = match at(spec, &["podFailurePolicy"]) {
        Some(_) => &["Failed"],
        None => &["Failed", "TerminatingOrFailed"],
    };
    if let Some(policy) = spec["podReplacementPolicy"].as_str()
        && !allowed.contains(&policy)
    {
        supported(field, &spec["podReplacementPolicy"], allowed, problems);
    }
}

fn template(spec: &Value, field: &str, problems: &mut Problems) {
    let template = &spec["template"];
    labels(
        template["metadata"].get("labels"),
        &format!("{field}.template.labels"),
        problems,
    );
    let field = format!("{field}.template.spec");
    let pod = &template["spec"];
    let policy = text(pod, &["restartPolicy"]);
    if matches!(policy, "OnFailure" | "Never") {
        pod::spec(pod, &field, problems);
    } else {
        // What is said of it below is enough.
        let mut valid = pod.clone();
        valid["restartPolicy"] = "Never".into();
        pod::spec(&valid, &field, problems);
    }
    let field = format!("{field}.restartPolicy");
    match policy {
        "Always" | "" => problems.required(&field, "valid values: \"OnFailure\", \"Never\""),
        "Never" => {}
        "OnFailure" if at(spec, &["podFailurePolicy"]).is_some() => problems.invalid(
            &field,
            &policy.into(),
            "only \"Never\" is supported when podFailurePolicy is specified",
        ),
        "OnFailure" => {}
        _ => supported(&field, &policy.into(), &["OnFailure", "Never"], problems),
    }
}

/// As [`Problems::not_supported`], with the values in upstream's order.
fn supported(field: &str, value: &Value, values: &[&str], problems: &mut Problems) {
    let values: Vec<_> = values.iter().map(|value| format!("{value:?}")).collect();
    let message = format!(
        "Unsupported value: {value}: supported values: {}",
        values.join(", ")
    );
    problems.add("FieldValueNotSupported", field, message);
}

/// A list that is too long.
fn too_many(field: &str, number: usize, most: usize, problems: &mut Problems) {
    if number > most {
        problems.add(
            "FieldValueTooMany",
            field,
            format!("Too many: {number}: must have at most {most} items"),
        );
    }
}

/// What of a Job may not change once it is there.
pub fn job_update(new: &Value, old: &Value, problems: &mut Problems) {
    let (spec, before) = (&new["spec"], &old["spec"]);
    let mut unchanged = |key: &str, before: &Value| {
        if spec[key] != *before {
            problems.invalid(&format!("spec.{key}"), &spec[key], "field is immutable");
        }
    };
    let elastic = is_indexed(spec);
    if !elastic {
        unchanged("completions", &before["completions"]);
    }
    unchanged("selector", &before["selector"]);
    unchanged("template", &comparable_template(old, &spec["template"]));
    for key in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        unchanged(key, &before[key]);
    }
    let completions = &spec["completions"];
    if elastic
        && *completions != before["completions"]
        && !completions.is_null()
        && *completions != spec["parallelism"]
    {
        problems.invalid(
            "spec.completions",
            completions,
            "can only be modified in tandem with spec.parallelism",
        );
    }
}

/// The old template, with what may change of a Job that does not run taken from the new one: where its pods may run, and
/// what they ask for.
fn comparable_template(old: &Value, new: &Value) -> Value {
    let mut template = old["spec"]["template"].clone();
    if !at_rest(old) {
        return template;
    }
    let affinity = &new["spec"]["affinity"];
    let mut kept = template["spec"]
        .get("affinity")
        .cloned()
        .unwrap_or(json!({}));
    put(&mut kept, "nodeAffinity", &affinity["nodeAffinity"]);
    if affinity.is_null() && kept == json!({}) {
        kept = Value::Null;
    }
    put(&mut template["spec"], "affinity", &kept);
    for key in ["nodeSelector", "tolerations", "schedulingGates"] {
        put(&mut template["spec"], key, &new["spec"][key]);
    }
    for key in ["annotations", "labels"] {
        put(&mut template["metadata"], key, &new["metadata"][key]);
    }
    for list in ["initContainers", "containers"] {
        let Some(containers) = template["spec"].get_mut(list).and_then(Value::as_array_mut) else {
            continue;
        };
        for (n, container) in containers.iter_mut().enumerate() {
            put(container, "resources", &new["spec"][list][n]["resources"]);
        }
    }
    template
}

/// Suspended, and nothing of it runs.
fn at_rest(job: &Value) -> bool {
    let told = crate::object::items(job, &["status", "conditions"])
        .iter()
        .any(|one| one["type"] == "Suspended" && one["status"] == "True");
    let idle = job["status"]["active"].as_i64().unwrap_or(0) == 0;
    job["spec"]["suspend"] == true && (job["status"]["startTime"].is_null() || told && idle)
}

fn put(object: &mut Value, key: &str, value: &Value) {
    let Some(object) = object.as_object_mut() else {
        return;
    };
    if value.is_null() {
        object.remove(key);
    } else {
        object.insert(key.into(), value.clone());
    }
}

#[cfg(test)]
mod tests;
