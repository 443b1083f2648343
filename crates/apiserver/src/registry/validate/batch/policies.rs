//! Validation of a Job's podFailurePolicy and successPolicy.

use std::collections::HashSet;

use serde_json::Value;

use super::super::{Problems, at_least, names};
use super::{indexes, supported, too_many};
use crate::object::{at, items, text};

const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const PATTERNS_MAX: usize = 20;
const INDEXES_BYTES_MAX: usize = 64 * 1024;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];

/// As upstream prints a list of strings.
fn quoted(values: &[&str]) -> String {
    let quoted: Vec<_> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

/// Something is wrong with a part as a whole, which is not shown.
fn wrong(field: &str, why: &str, problems: &mut Problems) {
    problems.add("FieldValueInvalid", field, format!("Invalid value: {why}"));
}

/// One of a few words, which must be there.
fn word(value: &Value, field: &str, values: &[&str], problems: &mut Problems) {
    match value.as_str().unwrap_or_default() {
        "" => problems.required(field, &quoted(values)),
        word if !values.contains(&word) => supported(field, value, values, problems),
        _ => {}
    }
}

/// The policy of a Job's spec, if it has one.
pub(super) fn failure(spec: &Value, field: &str, problems: &mut Problems) {
    let rules = items(spec, &["podFailurePolicy", "rules"]);
    too_many(&format!("{field}.rules"), rules.len(), RULES_MAX, problems);
    let pod = &spec["template"]["spec"];
    let containers: HashSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| items(pod, &[list]))
        .map(|container| text(container, &["name"]))
        .collect();
    for (n, rule) in rules.iter().enumerate() {
        let field = format!("{field}.rules[{n}]");
        let action = format!("{field}.action");
        if rule["action"] == "FailIndex" {
            if at(spec, &["backoffLimitPerIndex"]).is_none() {
                problems.invalid(
                    &action,
                    &rule["action"],
                    "requires the backoffLimitPerIndex to be set",
                );
            }
        } else {
            word(&rule["action"], &action, &ACTIONS, problems);
        }
        let codes = at(rule, &["onExitCodes"]);
        let patterns = items(rule, &["onPodConditions"]);
        if let Some(codes) = codes {
            exit_codes(
                codes,
                &format!("{field}.onExitCodes"),
                &containers,
                problems,
            );
        }
        conditions(patterns, &format!("{field}.onPodConditions"), problems);
        match (codes, patterns) {
            (Some(_), [_, ..]) => wrong(
                &field,
                "specifying both OnExitCodes and OnPodConditions is not supported",
                problems,
            ),
            (None, []) => wrong(
                &field,
                "specifying one of OnExitCodes and OnPodConditions is required",
                problems,
            ),
            _ => {}
        }
    }
}

fn conditions(patterns: &[Value], field: &str, problems: &mut Problems) {
    too_many(field, patterns.len(), PATTERNS_MAX, problems);
    for (n, pattern) in patterns.iter().enumerate() {
        let field = format!("{field}[{n}]");
        for why in names::label_key(text(pattern, &["type"])) {
            problems.invalid(&format!("{field}.type"), &pattern["type"], &why);
        }
        word(
            &pattern["status"],
            &format!("{field}.status"),
            &["False", "True", "Unknown"],
            problems,
        );
    }
}

fn exit_codes(codes: &Value, field: &str, containers: &HashSet<&str>, problems: &mut Problems) {
    word(
        &codes["operator"],
        &format!("{field}.operator"),
        &["In", "NotIn"],
        problems,
    );
    if let Some(name) = codes["containerName"].as_str()
        && !containers.contains(name)
    {
        problems.invalid(
            &format!("{field}.containerName"),
            &name.into(),
            "must be one of the container or initContainer names in the pod template",
        );
    }
    let values = items(codes, &["values"]);
    let field = format!("{field}.values");
    if values.is_empty() {
        problems.invalid(
            &field,
            &Value::Array(Vec::new()),
            "at least one value is required",
        );
    }
    too_many(&field, values.len(), EXIT_CODES_MAX, problems);
    let mut seen = HashSet::new();
    for (n, value) in values.iter().enumerate() {
        let field = format!("{field}[{n}]");
        if codes["operator"] == "In" && *value == 0 {
            problems.invalid(&field, value, "must not be 0 for the In operator");
        }
        if !seen.insert(value.as_i64()) {
            problems.duplicate(&field, value);
        }
    }
    if !values.is_sorted_by_key(Value::as_i64) {
        problems.invalid(&field, &codes["values"], "must be ordered");
    }
}

/// The success policy of an Indexed Job.
pub(super) fn success(policy: &Value, completions: &Value, field: &str, problems: &mut Problems) {
    let rules = items(policy, &["rules"]);
    let field = format!("{field}.rules");
    if rules.is_empty() {
        problems.required(
            &field,
            "at least one rules must be specified when the successPolicy is specified",
        );
    }
    too_many(&field, rules.len(), RULES_MAX, problems);
    let completions = completions.as_i64().unwrap_or(0);
    for (n, rule) in rules.iter().enumerate() {
        let field = format!("{field}[{n}]");
        let named = rule["succeededIndexes"].as_str();
        if named.is_none() && at(rule, &["succeededCount"]).is_none() {
            problems.required(
                &field,
                "at least one of succeededCount or succeededIndexes must be specified",
            );
        }
        let total = named.map(|named| {
            let field = format!("{field}.succeededIndexes");
            if named.len() > INDEXES_BYTES_MAX {
                problems.too_long(&field, INDEXES_BYTES_MAX);
            }
            indexes::count(named, completions).unwrap_or_else(|why| {
                let why = format!("error parsing succeededIndexes: {why}");
                problems.invalid(&field, &named.into(), &why);
                0
            })
        });
        let Some(count) = rule["succeededCount"].as_i64() else {
            continue;
        };
        at_least(rule, "succeededCount", 0, &field, problems);
        let field = format!("{field}.succeededCount");
        if count > completions {
            let why = format!(
                "must be less than or equal to {completions} (the number of specified completions)"
            );
            problems.invalid(&field, &count.into(), &why);
        }
        if let Some(total) = total.filter(|total| count > *total) {
            let why = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            problems.invalid(&field, &count.into(), &why);
        }
    }
}
