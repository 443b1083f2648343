//! Evaluates recorded cases and says where the result differs from what they expect.
//!
//! A case is one JSON object with a `table` that says which function it is for, in the form of the case files
//! made from Kubernetes' own tests, or an [`crate::Inputs`] with an `expected` part (`table: decision`). The
//! whole module is pure: reading files is the caller's.

mod behavior;
mod calculate;
mod common;
mod reconcile;
mod reconcile_form;
mod requests;
mod validate;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
}

/// Evaluates one case that plays at `now`.
pub fn evaluate(case: &Value, now: Timestamp) -> CaseResult {
    let text = |field: &str| {
        case.get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let table = text("table");
    let outcome = match table.as_str() {
        "replica_calc" => calculate::replica_calc(case, now),
        "group_pods" => calculate::group_pods(case, now),
        "calculate_requests" => requests::requests(case),
        "utilization_ratio" => requests::ratio(case),
        "reconcile" => reconcile::reconcile(case, now),
        "build_quantity" => validate::build_quantity(case),
        "scaling_with_rules" => behavior::scaling_with_rules(case, now),
        "stabilize_no_behavior" => behavior::stabilize(case, now),
        "stabilize_with_behavior" => behavior::stabilize_with_behavior(case, now),
        "convert_no_behavior" => behavior::convert(case, now),
        "scale_up_limit" => behavior::scale_up_limit(case, now),
        "scale_down_limit" => behavior::scale_down_limit(case, now),
        "store_scale_events" => behavior::store_events(case, now),
        "default_scale_up_rules" => behavior::default_rules(case, true),
        "default_scale_down_rules" => behavior::default_rules(case, false),
        "set_behavior_defaults" => behavior::default_behavior(case),
        "validate_hpa" => validate::validate(case),
        "validate_scale" => validate::validate_scale(case),
        "decision" => validate::decision(case),
        other => Err(format!(
            "unknown table {other:?}: it is none that this version can evaluate"
        )),
    };
    let differences = outcome.unwrap_or_else(|error| vec![format!("cannot be evaluated: {error}")]);
    CaseResult {
        name: text("name"),
        table,
        passed: differences.is_empty(),
        differences,
    }
}
