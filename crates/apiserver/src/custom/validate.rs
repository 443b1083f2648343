//! Values beside a schema, with the complaints that upstream makes of them (kube-openapi `pkg/validation/validate`,
//! `pkg/apiserver/validation`).

mod lists;
mod scalars;

use serde_json::{Map, Value};

use super::correlate::Before;
use super::schema::{Additional, Rules, Schema, Type};
use crate::registry::Problems;
use crate::schema::gotext::quote;
use crate::status::Cause;
use lists::{embedded, lists};
use scalars::{counts, scalars};

/// Complaints about one object; what comes after is not told.
const PROBLEMS_MAX: usize = 100;
/// How deep a value that an error shows is looked into, in bytes of its JSON.
const SHOWN_BYTES_MAX: usize = 2048;

/// Everything wrong with an object. What is as it was in `old` (before a change) may stay as it is, whatever the schema
/// says of it now: upstream's ratcheting (KEP-4008).
pub fn validate(schema: &Schema, object: &Value, old: Option<&Value>, problems: &mut Problems) {
    let mut found = Vec::new();
    value(schema, object, old, "", &mut found);
    lists(schema, object, "", &mut found);
    embedded(schema, object, "", true, &mut found);
    found.truncate(PROBLEMS_MAX);
    problems.0.append(&mut found);
}

/// Complaints about lists of unique items only.
pub fn validate_lists(schema: &Schema, object: &Value) -> Vec<Cause> {
    let mut found = Vec::new();
    lists(schema, object, "", &mut found);
    found
}

fn cause(reason: &'static str, field: &str, message: String) -> Cause {
    Cause {
        reason,
        message,
        // as upstream's errors name the object itself
        field: if field.is_empty() {
            "<nil>".into()
        } else {
            field.into()
        },
    }
}

fn invalid(path: &str, value: &Value, why: &str) -> Cause {
    let message = format!("Invalid value: {}: {}", show(value), words(path, why));
    cause("FieldValueInvalid", path, message)
}

/// `spec.x in body should ...`, as the validator says it.
fn words(path: &str, why: &str) -> String {
    format!("{path} in body {why}")
}

fn too_many(path: &str, count: usize, most: u64) -> Cause {
    let message = format!("Too many: {count}: must have at most {most} items");
    cause("FieldValueTooMany", path, message)
}

fn show(value: &Value) -> String {
    let mut text = value.to_string();
    if text.len() > SHOWN_BYTES_MAX {
        let end = (0..=SHOWN_BYTES_MAX)
            .rev()
            .find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push_str("...");
    }
    text
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_of(kind: Type, value: &Value) -> bool {
    match kind {
        Type::Object => value.is_object(),
        Type::Array => value.is_array(),
        Type::String => value.is_string(),
        Type::Boolean => value.is_boolean(),
        Type::Number => value.is_number(),
        Type::Integer => {
            value.is_i64()
                || value.is_u64()
                || value.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
    }
}

fn value(schema: &Schema, value: &Value, old: Option<&Value>, path: &str, out: &mut Vec<Cause>) {
    let before = out.len();
    if before >= PROBLEMS_MAX {
        return;
    }
    look(schema, value, old, path, out);
    if out.len() > before && old == Some(value) {
        out.truncate(before);
    }
}

fn look(schema: &Schema, value: &Value, old: Option<&Value>, path: &str, out: &mut Vec<Cause>) {
    if value.is_null() && schema.nullable {
        return;
    }
    let fits = match (schema.kind, schema.int_or_string) {
        (_, true) => is_of(Type::Integer, value) || value.is_string(),
        (Some(kind), false) => is_of(kind, value),
        (None, false) => true,
    };
    if !fits {
        let expected = match schema.kind {
            Some(kind) if !schema.int_or_string => kind.name(),
            _ => "integer,string",
        };
        let actual = type_name(value);
        let why = format!("must be of type {expected}: {}", quote(actual));
        let message = format!("Invalid value: {}: {}", quote(actual), words(path, &why));
        out.push(cause("FieldValueTypeInvalid", path, message));
        return;
    }
    if let Some(rules) = &schema.rules {
        scalars(rules, value, path, out);
        junctions(rules, value, path, out);
    }
    match value {
        Value::Object(map) => members(schema, map, old, path, out),
        Value::Array(list) => {
            if let Some(rules) = &schema.rules {
                counts(rules, list.len(), path, out);
            }
            if let Some(items) = &schema.items {
                let before = Before::of(schema, old);
                for (n, item) in list.iter().enumerate() {
                    let was = before.item(n, item);
                    self::value(items, item, was, &format!("{path}[{n}]"), out);
                }
            }
        }
        _ => {}
    }
}

fn members(
    schema: &Schema,
    map: &Map<String, Value>,
    old: Option<&Value>,
    path: &str,
    out: &mut Vec<Cause>,
) {
    if let Some(rules) = &schema.rules {
        for name in &rules.required {
            if !map.contains_key(name) {
                out.push(cause(
                    "FieldValueRequired",
                    &join(path, name),
                    "Required value".into(),
                ));
            }
        }
        if let Some(least) = rules.min_properties
            && (map.len() as u64) < least
        {
            let why = format!("should have at least {least} properties");
            out.push(invalid(path, &map.len().into(), &why));
        }
        if let Some(most) = rules.max_properties
            && map.len() as u64 > most
        {
            out.push(too_many(path, map.len(), most));
        }
    }
    for (key, member) in map {
        match schema.member(key) {
            Some(known) => {
                let was = old.and_then(|old| old.get(key));
                value(known, member, was, &join(path, key), out);
            }
            None if matches!(schema.additional, Additional::Forbidden) => {
                let message = format!(
                    "Invalid value: \"\": {}.{key} in body is a forbidden property",
                    path
                );
                out.push(cause("FieldValueInvalid", path, message));
            }
            None => {}
        }
    }
}

fn junctions(rules: &Rules, value: &Value, path: &str, out: &mut Vec<Cause>) {
    let problems_of = |schema: &Schema| {
        let mut problems = Vec::new();
        // the value as a whole is new, or this would not be asked
        self::value(schema, value, None, path, &mut problems);
        problems
    };
    let mut say = |what: &str| {
        let message = format!("Invalid value: \"\": {} {what}", quote(path));
        out.push(cause("FieldValueInvalid", "", message));
    };
    let mut nested = Vec::new();
    if !rules.any_of.is_empty() {
        let tried: Vec<_> = rules.any_of.iter().map(problems_of).collect();
        if !tried.iter().any(Vec::is_empty) {
            say("must validate at least one schema (anyOf)");
            // what the schema that came nearest says
            nested.extend(tried.into_iter().min_by_key(Vec::len).unwrap_or_default());
        }
    }
    if !rules.one_of.is_empty() {
        let tried: Vec<_> = rules.one_of.iter().map(problems_of).collect();
        match tried.iter().filter(|problems| problems.is_empty()).count() {
            1 => {}
            0 => {
                say("must validate one and only one schema (oneOf). Found none valid");
                nested.extend(tried.into_iter().min_by_key(Vec::len).unwrap_or_default());
            }
            valid => say(&format!(
                "must validate one and only one schema (oneOf). Found {valid} valid alternatives"
            )),
        }
    }
    if !rules.all_of.is_empty() {
        let tried: Vec<_> = rules.all_of.iter().map(problems_of).collect();
        if tried.iter().any(|problems| !problems.is_empty()) {
            let none = tried.iter().all(|problems| !problems.is_empty());
            say(if none {
                "must validate all the schemas (allOf). None validated"
            } else {
                "must validate all the schemas (allOf)"
            });
            nested.extend(tried.into_iter().flatten());
        }
    }
    if let Some(not) = &rules.not
        && problems_of(not).is_empty()
    {
        say("must not validate the schema (not)");
    }
    out.append(&mut nested);
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
