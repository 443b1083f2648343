//! Value validation: it may say nothing about the structure, and speaks only of what is in it.

use serde_json::{Value, json};

use super::members;
use crate::custom::pattern;
use crate::registry::Problems;

/// Value validation: it may say nothing about the structure.
pub(super) fn values(schema: &Value, field: &str, problems: &mut Problems) {
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    let exempt = schema["x-kubernetes-int-or-string"] == true;
    let in_any = exempt && schema["anyOf"] == either;
    let in_all = exempt && schema["allOf"][0]["anyOf"] == either;
    junctions(schema, field, in_any, in_all, problems);
}

pub(super) fn junctions(
    schema: &Value,
    field: &str,
    skip_any: bool,
    skip_first: bool,
    problems: &mut Problems,
) {
    for key in ["anyOf", "allOf", "oneOf"] {
        for (n, nested) in schema[key].as_array().into_iter().flatten().enumerate() {
            let here = format!("{field}.{key}[{n}]");
            if key == "anyOf" && skip_any {
                continue;
            }
            within(
                nested,
                &here,
                key == "allOf" && n == 0 && skip_first,
                problems,
            );
        }
    }
    if schema["not"].is_object() {
        within(&schema["not"], &format!("{field}.not"), false, problems);
    }
    if let Some(text) = schema["pattern"].as_str()
        && let Err(why) = pattern::compile(text)
    {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        problems.invalid(&format!("{field}.pattern"), &schema["pattern"], &why);
    }
}

/// A schema in anyOf, allOf, oneOf or not.
pub(super) fn within(schema: &Value, field: &str, skip_any: bool, problems: &mut Problems) {
    junctions(schema, field, skip_any, false, problems);
    if schema["items"].is_object() {
        within(&schema["items"], &format!("{field}.items"), false, problems);
    }
    for (name, property) in members(schema) {
        within(
            property,
            &format!("{field}.properties[{name}]"),
            false,
            problems,
        );
    }
    let forbidden = [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        (
            "x-kubernetes-preserve-unknown-fields",
            "must be false to be structural",
        ),
        (
            "x-kubernetes-embedded-resource",
            "must be false to be structural",
        ),
        (
            "x-kubernetes-int-or-string",
            "must be false to be structural",
        ),
        (
            "x-kubernetes-list-map-keys",
            "must be empty to be structural",
        ),
        (
            "x-kubernetes-list-type",
            "must be undefined to be structural",
        ),
        (
            "x-kubernetes-map-type",
            "must be undefined to be structural",
        ),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ];
    for (key, why) in forbidden {
        let given = match &schema[key] {
            Value::Null | Value::Bool(false) => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            _ => true,
        };
        if given {
            problems.forbidden(&format!("{field}.{key}"), why);
        }
    }
    if schema["properties"].get("metadata").is_some() {
        problems.forbidden(
            &format!("{field}.properties[metadata]"),
            "must not be specified in a nested context",
        );
    }
}

/// What value validation speaks of is in the structure, too.
pub(super) fn completeness(
    rules: &Value,
    schema: &Value,
    at: &str,
    said: &str,
    problems: &mut Problems,
) {
    for key in ["anyOf", "allOf", "oneOf"] {
        for (n, nested) in rules[key].as_array().into_iter().flatten().enumerate() {
            complete(nested, schema, at, &format!("{said}.{key}[{n}]"), problems);
        }
    }
    if rules["not"].is_object() {
        complete(&rules["not"], schema, at, &format!("{said}.not"), problems);
    }
}

pub(super) fn complete(
    nested: &Value,
    schema: &Value,
    at: &str,
    said: &str,
    problems: &mut Problems,
) {
    completeness(nested, schema, at, said, problems);
    if nested["items"].is_object() {
        let (here, there) = (format!("{at}.items"), format!("{said}.items"));
        match schema["items"].is_object() {
            true => complete(&nested["items"], &schema["items"], &here, &there, problems),
            false => problems.required(&here, &format!("because it is defined in {there}")),
        }
    }
    for (name, property) in members(nested) {
        let here = format!("{at}.properties[{name}]");
        let there = format!("{said}.properties[{name}]");
        match schema["properties"].get(name) {
            Some(known) => complete(property, known, &here, &there, problems),
            None => problems.required(&here, &format!("because it is defined in {there}")),
        }
    }
}
