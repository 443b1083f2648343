//! Validation of StatefulSets, DaemonSets, ControllerRevisions, ReplicationControllers and PodTemplates.

use serde_json::{Value, json};

use super::workload::{amount, label_selector, selects};
use super::{Problems, at_least, labels, names, pod};
use crate::object::{at, items, text};

/// What of a StatefulSet's spec an update may change.
const STATEFUL_SET_CHANGES: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

pub fn stateful_set(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    let policy = &spec["podManagementPolicy"];
    if !matches!(policy.as_str(), Some("OrderedReady" | "Parallel")) {
        problems.invalid(
            "spec.podManagementPolicy",
            policy,
            "must be 'OrderedReady' or 'Parallel'",
        );
    }
    stateful_strategy(&spec["updateStrategy"], problems);
    for key in ["whenDeleted", "whenScaled"] {
        let value = &spec["persistentVolumeClaimRetentionPolicy"][key];
        if !matches!(value.as_str(), None | Some("Retain" | "Delete")) {
            problems.not_supported(
                &format!("spec.persistentVolumeClaimRetentionPolicy.{key}"),
                value,
                &["Retain", "Delete"],
            );
        }
    }
    at_least(spec, "replicas", 0, "spec", problems);
    at_least(spec, "minReadySeconds", 0, "spec", problems);
    at_least(&spec["ordinals"], "start", 0, "spec.ordinals", problems);
    let service = text(spec, &["serviceName"]);
    if !service.is_empty() {
        for why in names::dns1123_label(service) {
            problems.invalid("spec.serviceName", &service.into(), &why);
        }
    }
    selector(spec, "statefulset", problems);
    // a container may mount what the claims' templates name
    let mut template = spec["template"].clone();
    let mut volumes = items(&template, &["spec", "volumes"]).to_vec();
    for claim in items(spec, &["volumeClaimTemplates"]) {
        let name = &claim["metadata"]["name"];
        if !volumes.iter().any(|volume| volume["name"] == *name) {
            volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
        }
    }
    if template["spec"].is_object() {
        template["spec"]["volumes"] = volumes.into();
    }
    pod_template_of(&template, "StatefulSet", problems);
}

fn stateful_strategy(strategy: &Value, problems: &mut Problems) {
    let field = "spec.updateStrategy";
    let rolling = at(strategy, &["rollingUpdate"]);
    match strategy["type"].as_str() {
        Some("OnDelete") => {
            if let Some(rolling) = rolling {
                problems.invalid(
                    &format!("{field}.rollingUpdate"),
                    rolling,
                    "only allowed for updateStrategy 'RollingUpdate'",
                );
            }
        }
        Some("RollingUpdate") => {
            let Some(rolling) = rolling else { return };
            let field = format!("{field}.rollingUpdate");
            at_least(rolling, "partition", 0, &field, problems);
            let unavailable = amount(Some(rolling), "maxUnavailable", &field, problems);
            let field = format!("{field}.maxUnavailable");
            if unavailable == Some(0) {
                problems.invalid(&field, &rolling["maxUnavailable"], "cannot be 0");
            }
            not_beyond_all(&rolling["maxUnavailable"], unavailable, &field, problems);
        }
        _ => problems.invalid(field, strategy, "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

/// A percentage is one of the whole.
fn not_beyond_all(value: &Value, amount: Option<i64>, field: &str, problems: &mut Problems) {
    if value.is_string() && amount.is_some_and(|percent| percent > 100) {
        problems.invalid(field, value, "must not be greater than 100%");
    }
}

/// A StatefulSet's pods keep their claims and names, so most of its spec stays.
pub fn stateful_set_update(new: &Value, old: &Value, problems: &mut Problems) {
    let kept = |object: &Value| {
        let mut spec = object["spec"].clone();
        if let Some(spec) = spec.as_object_mut() {
            spec.retain(|key, _| !STATEFUL_SET_CHANGES.contains(&key.as_str()));
        }
        spec
    };
    if kept(new) != kept(old) {
        problems.forbidden(
            "spec",
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        );
    }
}

pub fn daemon_set(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    selector(spec, "daemonset", problems);
    pod_template_of(&spec["template"], "DaemonSet", problems);
    at_least(spec, "minReadySeconds", 0, "spec", problems);
    daemon_strategy(&spec["updateStrategy"], problems);
    at_least(spec, "revisionHistoryLimit", 0, "spec", problems);
}

fn daemon_strategy(strategy: &Value, problems: &mut Problems) {
    let field = "spec.updateStrategy";
    match strategy["type"].as_str() {
        Some("OnDelete") => {}
        Some("RollingUpdate") => {
            let field = format!("{field}.rollingUpdate");
            let rolling = &strategy["rollingUpdate"];
            let mut read = |key: &str| {
                let amount = amount(Some(rolling), key, &field, problems);
                not_beyond_all(&rolling[key], amount, &format!("{field}.{key}"), problems);
                amount.unwrap_or(0)
            };
            match (read("maxUnavailable"), read("maxSurge")) {
                (0, 0) => problems.required(
                    &format!("{field}.maxUnavailable"),
                    "cannot be 0 when maxSurge is 0",
                ),
                (0, _) | (_, 0) => {}
                _ => problems.invalid(
                    &format!("{field}.maxSurge"),
                    &rolling["maxSurge"],
                    "may not be set when maxUnavailable is non-zero",
                ),
            }
        }
        _ => problems.not_supported(field, strategy, &["RollingUpdate", "OnDelete"]),
    }
}

/// The label selector of a set: there, not empty, and satisfied by the template.
fn selector(spec: &Value, what: &str, problems: &mut Problems) {
    let selector = &spec["selector"];
    let empty = selector["matchLabels"]
        .as_object()
        .is_none_or(serde_json::Map::is_empty)
        && items(selector, &["matchExpressions"]).is_empty();
    if !selector.is_object() {
        problems.required("spec.selector", "");
        return;
    }
    label_selector(selector, "spec.selector", problems);
    if empty {
        let why = format!("empty selector is invalid for {what}");
        problems.invalid("spec.selector", selector, &why);
    } else if !selects(selector, &spec["template"]["metadata"]["labels"]) {
        unmatched(&spec["template"], problems);
    }
}

fn unmatched(template: &Value, problems: &mut Problems) {
    let labels = match &template["metadata"]["labels"] {
        Value::Null => json!({}),
        labels => labels.clone(),
    };
    problems.invalid(
        "spec.template.metadata.labels",
        &labels,
        "`selector` does not match template `labels`",
    );
}

/// A template whose pods never end by themselves.
fn pod_template_of(template: &Value, what: &str, problems: &mut Problems) {
    let field = "spec.template";
    labels(
        template["metadata"].get("labels"),
        &format!("{field}.labels"),
        problems,
    );
    let spec = &template["spec"];
    pod::spec(spec, &format!("{field}.spec"), problems);
    if let Some(policy) = spec["restartPolicy"].as_str()
        && policy != "Always"
    {
        let field = format!("{field}.spec.restartPolicy");
        problems.not_supported(&field, &spec["restartPolicy"], &["Always"]);
    }
    if at(spec, &["activeDeadlineSeconds"]).is_some() {
        problems.forbidden(
            &format!("{field}.spec.activeDeadlineSeconds"),
            &format!("activeDeadlineSeconds in {what} is not Supported"),
        );
    }
}

pub fn controller_revision(object: &Value, problems: &mut Problems) {
    if at(object, &["data"]).is_none() {
        problems.required("data", "data is mandatory");
    }
    if let Some(revision) = object["revision"].as_i64()
        && revision < 0
    {
        let why = "must be greater than or equal to 0";
        problems.invalid("revision", &revision.into(), why);
    }
}

/// Only the number of a revision changes, when a controller goes back to it.
pub fn controller_revision_update(new: &Value, old: &Value, problems: &mut Problems) {
    if new["data"] != old["data"] {
        problems.invalid("data", &new["data"], "field is immutable");
    }
}

pub fn replication_controller(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    at_least(spec, "minReadySeconds", 0, "spec", problems);
    let selector = spec["selector"].as_object();
    if selector.is_none_or(serde_json::Map::is_empty) {
        problems.required("spec.selector", "");
    }
    at_least(spec, "replicas", 0, "spec", problems);
    let template = &spec["template"];
    if !template.is_object() {
        problems.required("spec.template", "");
        return;
    }
    let has = |(key, value): (&String, &Value)| template["metadata"]["labels"][key] == *value;
    if !selector.into_iter().flatten().all(has) {
        unmatched(template, problems);
    }
    pod_template_of(template, "ReplicationController", problems);
}

pub fn pod_template(object: &Value, problems: &mut Problems) {
    let template = &object["template"];
    labels(
        template["metadata"].get("labels"),
        "template.labels",
        problems,
    );
    pod::spec(&template["spec"], "template.spec", problems);
}
