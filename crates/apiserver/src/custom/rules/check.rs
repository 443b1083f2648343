//! The rules of a definition: whether they can be read.

use serde_json::Value;

use super::KEY;
use super::parse::{BYTES_MAX, parse};
use crate::custom::schema::{Additional, Schema};
use crate::registry::Problems;
use crate::schema::table::ListType;

/// Checks the rules of a definition: that they can be read, and that `oldSelf` is used only where the object before
/// the change can be found. `schema` and `written` are the same.
pub fn check(schema: &Schema, written: &Value, field: &str, problems: &mut Problems) {
    walk(schema, written, field, None, problems);
}

pub(super) fn walk(
    schema: &Schema,
    written: &Value,
    field: &str,
    lost: Option<&str>,
    problems: &mut Problems,
) {
    for (n, rule) in written[KEY].as_array().into_iter().flatten().enumerate() {
        let here = format!("{field}.{KEY}[{n}]");
        let text = rule["rule"].as_str().unwrap_or_default();
        if text.len() > BYTES_MAX {
            problems.too_long(&format!("{here}.rule"), BYTES_MAX);
            continue;
        }
        if text.trim().is_empty() {
            continue;
        }
        match parse(text) {
            Ok(program) => {
                if let Some(lost) =
                    lost.filter(|_| program.program.references().has_variable("oldSelf"))
                {
                    let why = format!(
                        "oldSelf cannot be used on the uncorrelatable portion of the schema within {lost}"
                    );
                    problems.invalid(&format!("{here}.rule"), &text.into(), &why);
                }
            }
            Err(error) => {
                let why = format!("compilation failed: {error}");
                problems.invalid(&format!("{here}.rule"), rule, &why);
            }
        }
        if let Some(message) = rule["messageExpression"].as_str()
            && let Err(error) = parse(message)
        {
            let why = format!("messageExpression compilation failed: {error}");
            problems.invalid(&format!("{here}.messageExpression"), rule, &why);
        }
    }
    for (name, property) in &schema.properties {
        let here = format!("{field}.properties[{name}]");
        walk(
            property,
            &written["properties"][name],
            &here,
            lost,
            problems,
        );
    }
    if let Additional::Schema(entry) = &schema.additional {
        let here = format!("{field}.additionalProperties");
        walk(
            entry,
            &written["additionalProperties"],
            &here,
            lost,
            problems,
        );
    }
    if let Some(items) = &schema.items {
        let here = format!("{field}.items");
        let lost = match schema.list {
            ListType::Map => lost,
            _ => Some(lost.unwrap_or(field)),
        };
        walk(items, &written["items"], &here, lost, problems);
    }
}
