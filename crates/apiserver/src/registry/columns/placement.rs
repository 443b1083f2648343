//! Columns of PriorityClasses and PodDisruptionBudgets.

use serde_json::Value;

use super::{AGE, Column, NAME, age, integer, name, string};
use crate::object::text;

pub const PRIORITY_CLASS: &[Column] = &[
    NAME,
    integer("Value"),
    Column {
        name: "Global-Default",
        kind: "boolean",
        format: "",
        priority: 0,
    },
    AGE,
    string("PreemptionPolicy"),
];

pub fn priority_class(object: &Value) -> Vec<Value> {
    vec![
        name(object),
        object["value"].as_i64().unwrap_or(0).into(),
        object["globalDefault"].as_bool().unwrap_or(false).into(),
        age(object),
        text(object, &["preemptionPolicy"]).into(),
    ]
}

pub const DISRUPTION_BUDGET: &[Column] = &[
    NAME,
    string("Min Available"),
    string("Max Unavailable"),
    integer("Allowed Disruptions"),
    AGE,
];

pub fn disruption_budget(object: &Value) -> Vec<Value> {
    let amount = |key: &str| match &object["spec"][key] {
        Value::Null => "N/A".into(),
        Value::String(percent) => percent.as_str().into(),
        number => number.to_string().into(),
    };
    vec![
        name(object),
        amount("minAvailable"),
        amount("maxUnavailable"),
        object["status"]["disruptionsAllowed"]
            .as_i64()
            .unwrap_or(0)
            .into(),
        age(object),
    ]
}
