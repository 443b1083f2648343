//! `x-kubernetes-validations`: rules in CEL, read once and put to each object (upstream
//! `pkg/apiserver/schema/cel`).
//!
//! The language is the crate `kube-cel`'s. It counts no cost while it evaluates, so that what a rule can take is
//! estimated first, from its loops and from the largest collection that is there.

mod check;
mod cost;
mod ratchet;

use kube_cel::{CompiledSchema, ErrorKind, ValidationError, compile_schema, validate_compiled};
use serde_json::Value;

use super::correlate::{self, Step};
use super::schema::Schema;
use crate::registry::Problems;
use crate::status::Cause;
pub use check::check;
use cost::steps;

/// Steps that the rules of a kind may take for one object.
const STEPS_MAX: f64 = 2_000_000.0;
const KEY: &str = "x-kubernetes-validations";
const NOT_CHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// The rules of a version, or of the items of one of its lists.
pub struct Rules {
    compiled: CompiledSchema,
    lists: Vec<List>,
}

/// Rules of a list's items, which are found by keys.
struct List {
    path: Vec<Step>,
    keys: String,
    items: Rules,
}

impl Rules {
    /// Reads the rules of a schema; `None` when it has none. `schema` and `written` are the same.
    pub fn read(schema: &Schema, written: &Value) -> Option<Self> {
        has_rules(written).then(|| Self::new(schema, compile_schema(written)))
    }

    fn new(schema: &Schema, mut compiled: CompiledSchema) -> Self {
        let detached = correlate::detach(schema, &mut compiled).into_iter();
        let lists = detached
            .map(|list| List {
                path: list.path,
                keys: list.keys,
                items: Self::new(list.schema, list.items),
            })
            .collect();
        Self { compiled, lists }
    }

    /// Puts the rules to an object (`old`: before the change) whose other problems are known.
    pub fn validate(&self, new: &Value, old: Option<&Value>, problems: &mut Problems) {
        let blocking = [
            "FieldValueNotSupported",
            "FieldValueRequired",
            "FieldValueTooLong",
            "FieldValueTooMany",
            "FieldValueTypeInvalid",
        ];
        if problems
            .0
            .iter()
            .any(|cause| blocking.contains(&cause.reason))
        {
            let message = format!("Invalid value: \"null\": {NOT_CHECKED}");
            problems.0.push(cause("FieldValueInvalid", "", message));
            return;
        }
        if self.steps(new) > STEPS_MAX {
            let message = format!("Invalid value: {OUT_OF_BUDGET}");
            problems.0.push(cause("FieldValueInvalid", "", message));
            return;
        }
        self.put("", (new, old), false, problems);
    }

    /// `same`: something around is as it was.
    fn put(
        &self,
        at: &str,
        (new, old): (&Value, Option<&Value>),
        same: bool,
        problems: &mut Problems,
    ) {
        if let Err(errors) = validate_compiled(&self.compiled, new, old) {
            for error in errors.into_vec() {
                // what the evaluator does not have is not held against the object
                if lacks(&error) {
                    tracing::debug!(
                        rule = error.rule,
                        why = error.message,
                        "a validation rule was not evaluated"
                    );
                    continue;
                }
                if !ratchet::unchanged(&self.compiled, &error, (new, old), same) {
                    problems.0.push(told(&error, new, at));
                }
            }
        }
        for list in &self.lists {
            let mut pairs = Vec::new();
            correlate::pairs((&list.path, &list.keys), (new, old), same, at, &mut pairs);
            for (at, item, was, same) in pairs {
                list.items.put(&at, (item, was), same, problems);
            }
        }
    }

    fn steps(&self, value: &Value) -> f64 {
        let mut all = steps(&self.compiled, value);
        for list in &self.lists {
            let mut pairs = Vec::new();
            correlate::pairs(
                (&list.path, &list.keys),
                (value, None),
                false,
                "",
                &mut pairs,
            );
            for (_, item, ..) in pairs {
                all += list.items.steps(item);
                if all > STEPS_MAX {
                    return all;
                }
            }
        }
        all
    }
}

/// Whether an error is of what the evaluator does not have: functions, optional syntax, an `oldSelf` that there may not be.
fn lacks(error: &ValidationError) -> bool {
    match error.kind {
        ErrorKind::UnsupportedReference => true,
        ErrorKind::CompilationFailure => check::has_optionals(&error.rule),
        ErrorKind::EvaluationError => ["hasValue", "orValue", ".value()"]
            .iter()
            .any(|call| error.rule.contains(call)),
        _ => false,
    }
}

/// An error in upstream's words.
fn told(error: &ValidationError, object: &Value, place: &str) -> Cause {
    let within = error.field_path.trim_start_matches('.');
    let field = &correlate::join(place, within);
    let detail = error.message.trim();
    match error.reason.as_deref() {
        Some("FieldValueForbidden") => {
            cause("FieldValueForbidden", field, format!("Forbidden: {detail}"))
        }
        Some("FieldValueRequired") => cause(
            "FieldValueRequired",
            field,
            format!("Required value: {detail}"),
        ),
        reason => {
            let value = at(object, within).filter(|value| !value.is_object() && !value.is_array());
            let shown = value.map(|value| format!("{value}: ")).unwrap_or_default();
            match reason {
                Some("FieldValueDuplicate") => {
                    let shown = shown.trim_end_matches(": ");
                    cause(
                        "FieldValueDuplicate",
                        field,
                        format!("Duplicate value: {shown}"),
                    )
                }
                _ => cause(
                    "FieldValueInvalid",
                    field,
                    format!("Invalid value: {shown}{detail}"),
                ),
            }
        }
    }
}

fn cause(reason: &'static str, field: &str, message: String) -> Cause {
    Cause {
        reason,
        message,
        field: if field.is_empty() {
            "<nil>".into()
        } else {
            field.into()
        },
    }
}

/// The value at `spec.list[0].name`.
fn at<'a>(object: &'a Value, field: &str) -> Option<&'a Value> {
    let mut value = object;
    for part in field.split(['.', '[']).filter(|part| !part.is_empty()) {
        value = match part
            .strip_suffix(']')
            .and_then(|index| index.parse::<usize>().ok())
        {
            Some(index) => value.get(index)?,
            None => value.get(part.trim_end_matches(']'))?,
        };
    }
    Some(value)
}

fn has_rules(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => {
            map.get(KEY)
                .is_some_and(|rules| rules.as_array().is_some_and(|rules| !rules.is_empty()))
                || map.values().any(has_rules)
        }
        Value::Array(list) => list.iter().any(has_rules),
        _ => false,
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
