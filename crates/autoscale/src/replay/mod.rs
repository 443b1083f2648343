//! Evaluates recorded cases and says where the result differs from what they expect.
//!
//! A case is one JSON object in one of three forms:
//!
//! * with a `table` that says which function it is for: the case files made from Kubernetes' own tests;
//! * a ScalingDecision, as `plimsoll why -o json` and `kubectl get scalingdecisions -o json` give it (`recorded`): it
//!   is decided again from its inputs and must come out the same, in every part;
//! * hand-written [`crate::Inputs`], bare or under `inputs`, with an optional `name` and `expected` (`decision`).
//!
//! The whole module is pure: reading files is the caller's.

mod behavior;
mod calculate;
mod common;
mod compare;
mod decision;
mod reconcile;
mod reconcile_form;
mod requests;
mod strict;
mod validate;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::record;
pub use validate::compare_validation;

/// A file of cases.
#[derive(Clone, Debug, Deserialize)]
pub struct CaseFile {
    /// What all cases share.
    pub meta: Meta,
    /// The cases.
    pub cases: Vec<Value>,
}

/// What all cases of a file share.
#[derive(Clone, Debug, Deserialize)]
pub struct Meta {
    /// The time at which every case plays, Unix seconds.
    pub now: i64,
}

/// One case of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The object.
    pub value: Value,
    /// When it plays, where the document says so for all its cases.
    pub now: Option<Timestamp>,
    /// Its place in the document, from 1.
    pub number: usize,
}

/// The result of one case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CaseResult {
    /// The case's name.
    pub name: String,
    /// The case's table.
    pub table: String,
    /// Whether everything expected came out.
    pub passed: bool,
    /// Each difference, or why the case could not be evaluated.
    pub differences: Vec<String>,
    /// What was decided, where the case is a whole decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided: Option<Decided>,
}

/// A decision in short.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decided {
    /// Replicas before, if the target could be read.
    pub from: Option<i32>,
    /// Replicas after; none if nothing could be decided and the size stays.
    pub to: Option<i32>,
    /// Every metric and every rule with its numbers.
    pub sentences: Vec<String>,
}

/// The cases of a text: a case file, a list of ScalingDecisions, an array of cases, or cases one after another.
///
/// # Errors
/// With line and column, if the text is not JSON; with the field, if the document does not have its form.
pub fn read(text: &str) -> Result<Vec<Case>, String> {
    let mut found = Vec::new();
    for document in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        collect(
            document.map_err(|error| format!("not JSON: {error}"))?,
            &mut found,
        )?;
    }
    if found.is_empty() {
        return Err("no cases in it".to_owned());
    }
    Ok(found)
}

/// The cases of a document that is parsed already.
///
/// # Errors
/// With the field, if the document does not have its form.
pub fn cases(document: Value) -> Result<Vec<Case>, String> {
    let mut found = Vec::new();
    collect(document, &mut found)?;
    Ok(found)
}

fn collect(mut document: Value, found: &mut Vec<Case>) -> Result<(), String> {
    let now = document
        .get("meta")
        .and_then(|meta| meta.get("now"))
        .map(|now| {
            let seconds = now.as_i64();
            let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
            time.ok_or_else(|| format!("meta.now: {now} is no time in Unix seconds"))
        })
        .transpose()?;
    let mut list = |values: Vec<Value>| {
        for value in values {
            let number = found.len() + 1;
            found.push(Case { value, now, number });
        }
    };
    for key in ["cases", "items"] {
        match document.get_mut(key).map(Value::take) {
            Some(Value::Array(values)) => {
                list(values);
                return Ok(());
            }
            Some(_) => return Err(format!("{key}: must be a list")),
            None => {}
        }
    }
    match document {
        Value::Array(values) => list(values),
        other => list(vec![other]),
    }
    Ok(())
}

/// Evaluates one case of a document.
pub fn evaluate_case(case: &Case) -> CaseResult {
    let own = case.value.get("now").and_then(Value::as_i64);
    let own = own.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let mut result = evaluate_at(&case.value, own.or(case.now));
    if result.name.is_empty() {
        result.name = format!("case {}", case.number);
    }
    result
}

/// Evaluates one case that plays at `now`.
pub fn evaluate(case: &Value, now: Timestamp) -> CaseResult {
    evaluate_at(case, Some(now))
}

fn evaluate_at(case: &Value, now: Option<Timestamp>) -> CaseResult {
    let table = table(case);
    let mut decided = None;
    let timed = |evaluate: fn(&Value, Timestamp) -> common::Differences| match now {
        Some(now) => evaluate(case, now),
        None => Err("it is not said when it plays (`meta.now` of the file)".to_owned()),
    };
    let outcome = match table.as_str() {
        "replica_calc" => timed(calculate::replica_calc),
        "group_pods" => timed(calculate::group_pods),
        "calculate_requests" => requests::requests(case),
        "utilization_ratio" => requests::ratio(case),
        "reconcile" => timed(reconcile::reconcile),
        "build_quantity" => validate::build_quantity(case),
        "scaling_with_rules" => timed(behavior::scaling_with_rules),
        "stabilize_no_behavior" => timed(behavior::stabilize),
        "stabilize_with_behavior" => timed(behavior::stabilize_with_behavior),
        "convert_no_behavior" => timed(behavior::convert),
        "scale_up_limit" => timed(behavior::scale_up_limit),
        "scale_down_limit" => timed(behavior::scale_down_limit),
        "store_scale_events" => timed(behavior::store_events),
        "default_scale_up_rules" => behavior::default_rules(case, true),
        "default_scale_down_rules" => behavior::default_rules(case, false),
        "set_behavior_defaults" => behavior::default_behavior(case),
        "validate_hpa" => validate::validate(case),
        "validate_scale" => validate::validate_scale(case),
        "decision" => decision::written(case, &mut decided),
        "recorded" => decision::recorded(case, &mut decided),
        "" => Err(
            "it is no case: neither a `table`, nor a ScalingDecision, nor inputs (`hpa`, `scale`)"
                .to_owned(),
        ),
        other => Err(format!(
            "unknown table {other:?}: it is none that this version can evaluate"
        )),
    };
    let differences = outcome.unwrap_or_else(|error| vec![format!("cannot be evaluated: {error}")]);
    CaseResult {
        name: name(case),
        table,
        passed: differences.is_empty(),
        differences,
        decided,
    }
}

fn name(case: &Value) -> String {
    let text = |path: &str| case.pointer(path).and_then(Value::as_str);
    match (text("/metadata/namespace"), text("/metadata/name")) {
        (Some(namespace), Some(name)) => return format!("{namespace}/{name}"),
        (None, Some(name)) => return name.to_owned(),
        _ => {}
    }
    ["/name", "/inputs/hpa/name", "/hpa/name"]
        .into_iter()
        .find_map(text)
        .unwrap_or_default()
        .to_owned()
}

fn table(case: &Value) -> String {
    if let Some(table) = case.get("table") {
        return table
            .as_str()
            .map_or_else(|| table.to_string(), str::to_owned);
    }
    let has = |key: &str| case.get(key).is_some();
    let found = if case.get("kind").and_then(Value::as_str) == Some(record::KIND) {
        "recorded"
    } else if has("inputs") || (has("hpa") && has("scale")) {
        "decision"
    } else {
        ""
    };
    found.to_owned()
}
