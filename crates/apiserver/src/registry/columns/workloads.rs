//! Columns of Deployments and ReplicaSets.

use serde_json::Value;

use super::{AGE, Column, NAME, age, integer, name, string, wide};
use crate::object::{items, text};

pub const DEPLOYMENT: &[Column] = &[
    NAME,
    string("Ready"),
    integer("Up-to-date"),
    integer("Available"),
    AGE,
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

pub const REPLICA_SET: &[Column] = &[
    NAME,
    integer("Desired"),
    integer("Current"),
    integer("Ready"),
    AGE,
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

pub(super) fn number(object: &Value, part: &str, key: &str) -> i64 {
    object[part][key].as_i64().unwrap_or(0)
}

/// Names and images of a template's containers, and the selector.
pub(super) fn template(object: &Value) -> [Value; 3] {
    let join = |key: &str| {
        let list = items(object, &["spec", "template", "spec", "containers"]);
        list.iter()
            .map(|c| text(c, &[key]))
            .collect::<Vec<_>>()
            .join(",")
    };
    let selector = crate::handlers::selector_text(&object["spec"]["selector"]);
    [
        join("name").into(),
        join("image").into(),
        super::or(&selector, "<none>"),
    ]
}

pub fn deployment(object: &Value) -> Vec<Value> {
    let mut cells = vec![
        name(object),
        format!(
            "{}/{}",
            number(object, "status", "readyReplicas"),
            number(object, "spec", "replicas")
        )
        .into(),
        number(object, "status", "updatedReplicas").into(),
        number(object, "status", "availableReplicas").into(),
        age(object),
    ];
    cells.extend(template(object));
    cells
}

pub fn replica_set(object: &Value) -> Vec<Value> {
    let mut cells = vec![
        name(object),
        number(object, "spec", "replicas").into(),
        number(object, "status", "replicas").into(),
        number(object, "status", "readyReplicas").into(),
        age(object),
    ];
    cells.extend(template(object));
    cells
}
