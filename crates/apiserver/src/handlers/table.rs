//! `meta.k8s.io/v1` tables.

use serde_json::{Value, json};

use super::respond::{IncludeObject, partial};
use crate::registry::Kind;

/// A table of rows; `definitions` is false for all but the first event of a watch.
pub(super) fn table(kind: &Kind, metadata: Value, rows: Vec<Value>, definitions: bool) -> Value {
    let columns: Vec<Value> = if definitions {
        kind.column_definitions()
    } else {
        Vec::new()
    };
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

/// One row.
pub(super) fn row(kind: &Kind, object: &Value, include: IncludeObject) -> Value {
    let mut row = json!({"cells": kind.cells(object)});
    match include {
        IncludeObject::None => {}
        IncludeObject::Metadata => row["object"] = partial(object),
        IncludeObject::Object => row["object"] = object.clone(),
    }
    row
}

/// The table of one object.
pub(super) fn of_object(kind: &Kind, object: &Value, include: IncludeObject) -> Value {
    let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
    table(kind, metadata, vec![row(kind, object, include)], true)
}
