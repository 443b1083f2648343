//! Lists of unique items, and objects within objects.

use std::collections::HashSet;

use serde_json::Value;

use super::{cause, join, show};
use crate::custom::schema::{Additional, Schema};
use crate::registry::{Problems, names};
use crate::schema::table::ListType;
use crate::status::Cause;

/// Items of sets and maps are unique.
pub(super) fn lists(schema: &Schema, value: &Value, path: &str, out: &mut Vec<Cause>) {
    match value {
        Value::Object(map) => {
            for (key, member) in map {
                if let Some(known) = schema.properties.get(key) {
                    lists(known, member, &join(path, key), out);
                } else if let Additional::Schema(known) = &schema.additional {
                    lists(known, member, &format!("{path}[{key}]"), out);
                }
            }
        }
        Value::Array(list) => {
            match schema.list {
                ListType::Set => duplicates(list, path, |item| item.clone(), out),
                ListType::Map => {
                    let odd = list
                        .iter()
                        .position(|item| !item.is_object() && !item.is_null());
                    match odd {
                        Some(n) => out.push(cause(
                            "FieldValueInvalid",
                            &format!("{path}[{n}]"),
                            format!(
                                "Invalid value: {}: must be an object for an array of list-type map",
                                show(&list[n])
                            ),
                        )),
                        None => duplicates(list, path, |item| keys_of(schema, item), out),
                    }
                }
                _ => {}
            }
            if let Some(items) = &schema.items {
                for (n, item) in list.iter().enumerate() {
                    lists(items, item, &format!("{path}[{n}]"), out);
                }
            }
        }
        _ => {}
    }
}

pub(super) fn keys_of(schema: &Schema, item: &Value) -> Value {
    let keys = schema.list_keys.split(',');
    let pairs = keys.filter_map(|key| Some((key.to_owned(), item.get(key)?.clone())));
    Value::Object(pairs.collect())
}

pub(super) fn duplicates(
    list: &[Value],
    path: &str,
    identity: impl Fn(&Value) -> Value,
    out: &mut Vec<Cause>,
) {
    let (mut seen, mut told) = (HashSet::new(), HashSet::new());
    for (n, item) in list.iter().enumerate() {
        let identity = identity(item);
        let text = identity.to_string();
        if !seen.insert(text.clone()) && told.insert(text) {
            let message = format!("Duplicate value: {}", show(&identity));
            out.push(cause(
                "FieldValueDuplicate",
                &format!("{path}[{n}]"),
                message,
            ));
        }
    }
}

/// Objects within objects say what they are (upstream `pkg/apiserver/schema/objectmeta`).
pub(super) fn embedded(
    schema: &Schema,
    value: &Value,
    path: &str,
    root: bool,
    out: &mut Vec<Cause>,
) {
    match value {
        Value::Object(map) => {
            if schema.embedded && !root {
                for key in ["apiVersion", "kind"] {
                    if map
                        .get(key)
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                        .is_empty()
                    {
                        out.push(cause(
                            "FieldValueRequired",
                            &join(path, key),
                            "Required value: must not be empty".into(),
                        ));
                    }
                }
                let mut problems = Problems::default();
                let metadata = map.get("metadata");
                let labels = metadata.and_then(|metadata| metadata.get("labels"));
                let field = join(path, "metadata.labels");
                crate::registry::validate::labels(labels, &field, &mut problems);
                if let Some(name) = metadata.and_then(|m| m["name"].as_str())
                    && !name.is_empty()
                {
                    for why in names::path_segment(name) {
                        problems.invalid(&join(path, "metadata.name"), &name.into(), &why);
                    }
                }
                out.append(&mut problems.0);
            }
            for (key, member) in map {
                if let Some(known) = schema.member(key) {
                    embedded(known, member, &join(path, key), false, out);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                for (n, item) in list.iter().enumerate() {
                    embedded(items, item, &format!("{path}[{n}]"), false, out);
                }
            }
        }
        _ => {}
    }
}
