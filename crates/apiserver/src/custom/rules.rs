//! `x-kubernetes-validations`: rules in CEL, read once and put to each object (upstream
//! `pkg/apiserver/schema/cel`).
//!
//! The language is the crate `cel`'s with the functions of `kube-cel`; what rules see of values, and where they are put, is
//! decided here by the structural schema. No cost is counted while a rule is evaluated, so that what it can take is estimated
//! first, from its loops and from the largest collection that is there.

mod check;
mod convert;
mod cost;
mod parse;
mod place;
mod walk;

use serde_json::Value;

use super::schema::Schema;
use crate::registry::Problems;
use crate::status::Cause;
pub use check::check;
use cost::steps;
use parse::on_a_deep_stack;
use place::Place;

/// Steps that the rules of a kind may take for one object.
const STEPS_MAX: f64 = 2_000_000.0;
const KEY: &str = "x-kubernetes-validations";
const NOT_CHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// The rules of a version.
pub struct Rules {
    place: Place,
    deep: bool,
}

impl Rules {
    /// Reads the rules of a schema; `None` when it has none.
    pub fn read(written: &Value) -> Option<Self> {
        let place = Place::read(written)?;
        let deep = place.is_deep();
        Some(Self { place, deep })
    }

    /// Puts the rules to an object of `schema` (`old`: before the change) whose other problems are known.
    pub fn validate(
        &self,
        schema: &Schema,
        new: &Value,
        old: Option<&Value>,
        problems: &mut Problems,
    ) {
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
        if steps(&self.place, new) > STEPS_MAX {
            let message = format!("Invalid value: {OUT_OF_BUDGET}");
            problems.0.push(cause("FieldValueInvalid", "", message));
            return;
        }
        let put = || walk::put(&self.place, schema, new, old);
        let found = match self.deep {
            false => Ok(put()),
            true => on_a_deep_stack(put),
        };
        match found {
            Ok(found) => problems.0.extend(found),
            Err(why) => {
                let message = format!("Internal error: {why}");
                problems.0.push(cause("InternalError", "", message));
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

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
