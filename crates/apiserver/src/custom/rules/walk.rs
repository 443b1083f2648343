//! Rules put to a value and to all that is in it, each beside what it was before.

use kube_cel::KubeCelExt as _;
use kube_cel::cel::extractors::This;
use kube_cel::cel::objects::{OptionalValue, Value as Cel};
use kube_cel::cel::{Context, ExecutionError, FunctionContext};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::place::{Place, Rule};
use super::{cause, convert};
use crate::custom::correlate::{Before, join};
use crate::custom::pattern;
use crate::custom::schema::Schema;
use crate::schema::table::ListType;
use crate::status::Cause;

/// Patterns that a thread keeps ready.
const PATTERNS_MAX: usize = 256;

thread_local! {
    static FUNCTIONS: Context<'static> = functions();
    static PATTERNS: RefCell<HashMap<String, Option<regex::Regex>>> = RefCell::default();
}

/// Puts all rules to a whole object; `old`: before the change.
pub(super) fn put(place: &Place, schema: &Schema, new: &Value, old: Option<&Value>) -> Vec<Cause> {
    FUNCTIONS.with(|functions| {
        let mut walk = Walk {
            functions,
            found: Vec::new(),
        };
        let pair = Pair {
            new,
            old,
            same: false,
        };
        walk.value((place, schema), pair, "", true);
        walk.found
    })
}

struct Walk<'c> {
    functions: &'c Context<'c>,
    found: Vec<Cause>,
}

/// A value, what it was where that is known, and whether it, or something around it, is as it was: then it may stay, whatever a
/// rule says of it that does not compare (upstream's ratcheting, KEP-4008).
#[derive(Clone, Copy)]
struct Pair<'v> {
    new: &'v Value,
    old: Option<&'v Value>,
    same: bool,
}

impl Walk<'_> {
    fn value(
        &mut self,
        (place, schema): (&Place, &Schema),
        pair: Pair<'_>,
        path: &str,
        object: bool,
    ) {
        let Pair { new, old, .. } = pair;
        // of nothing nothing is asked
        if new.is_null() {
            return;
        }
        let same = pair.same || old == Some(new);
        self.rules((place, schema), Pair { new, old, same }, path, object);
        let none = Schema::default();
        match new {
            Value::Object(map) => {
                for (name, member) in map {
                    let Some(below) = place.member(name) else {
                        continue;
                    };
                    let of = schema.member(name).unwrap_or(&none);
                    let path = match schema.properties.contains_key(name) {
                        true => join(path, name),
                        false => format!("{path}[{name}]"),
                    };
                    let pair = Pair {
                        new: member,
                        old: old.and_then(|old| old.get(name)),
                        same,
                    };
                    self.value((below, of), pair, &path, of.embedded);
                }
            }
            Value::Array(list) => {
                let Some(below) = place.items.as_deref() else {
                    return;
                };
                let of = schema.items.as_deref().unwrap_or(&none);
                let before = Before::of(schema, old);
                for (n, item) in list.iter().enumerate() {
                    let was = before.item(n, item);
                    let pair = Pair {
                        new: item,
                        // by its place alone it is not known well enough to be compared with
                        old: was.filter(|_| schema.list == ListType::Map),
                        same: same || was == Some(item),
                    };
                    self.value((below, of), pair, &format!("{path}[{n}]"), of.embedded);
                }
            }
            _ => {}
        }
    }

    fn rules(
        &mut self,
        (place, schema): (&Place, &Schema),
        Pair { new, old, same }: Pair<'_>,
        path: &str,
        object: bool,
    ) {
        if place.rules.is_empty() {
            return;
        }
        let convert = |value| convert::value(schema, value, object, self.functions);
        let mut scope = self.functions.new_inner_scope();
        scope.add_variable_from_value("self", convert(new));
        let before = old.filter(|old| !old.is_null()).map(convert);
        if let Some(before) = &before {
            scope.add_variable_from_value("oldSelf", before.clone());
        }
        for rule in &place.rules {
            let waits = rule.compares && before.is_none() && !rule.optional;
            if waits || (same && !rule.compares) {
                continue;
            }
            let mut inner = scope.new_inner_scope();
            if rule.optional {
                let before = match &before {
                    Some(before) => OptionalValue::of(before.clone()),
                    None => OptionalValue::none(),
                };
                inner.add_variable_from_value("oldSelf", Cel::Opaque(Arc::new(before)));
            }
            if let Some(said) = broken(rule, &inner) {
                self.found.push(told(rule, new, path, &said));
            }
        }
    }
}

/// What is to be said when a rule does not hold.
fn broken(rule: &Rule, scope: &Context<'_>) -> Option<String> {
    let name = rule.message.as_deref().unwrap_or(&rule.text);
    match Cel::resolve(&rule.program.program, scope) {
        Ok(Cel::Bool(true)) => None,
        Ok(Cel::Bool(false)) => Some(message(rule, scope)),
        Ok(_) => Some(format!("the rule does not say whether it holds: {name}")),
        // what the evaluator does not have is not held against the object
        Err(ExecutionError::UndeclaredReference(missing)) => {
            tracing::debug!(rule = rule.text, %missing, "a validation rule was not evaluated");
            None
        }
        Err(error @ ExecutionError::NoSuchOverload) => Some(format!(
            "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {name}"
        )),
        Err(error) => Some(format!("{error} evaluating rule: {name}")),
    }
}

fn message(rule: &Rule, scope: &Context<'_>) -> String {
    let made = rule.message_program.as_ref();
    let made = made.and_then(|program| match Cel::resolve(&program.program, scope) {
        Ok(Cel::String(text)) => Some(text.trim().to_owned()),
        _ => None,
    });
    made.filter(|text| !text.is_empty() && !text.contains('\n'))
        .or_else(|| rule.message.clone())
        .unwrap_or_else(|| format!("failed rule: {}", rule.text))
}

/// In upstream's words.
fn told(rule: &Rule, value: &Value, path: &str, said: &str) -> Cause {
    let field = &rule.place(path);
    let detail = said.trim();
    let about = match &rule.field {
        Some(within) => super::at(value, within.trim_start_matches('.')),
        None => Some(value),
    };
    let shown = about.filter(|value| !value.is_object() && !value.is_array());
    match rule.reason.as_deref() {
        Some("FieldValueForbidden") => {
            cause("FieldValueForbidden", field, format!("Forbidden: {detail}"))
        }
        Some("FieldValueRequired") => {
            let message = format!("Required value: {detail}");
            cause("FieldValueRequired", field, message)
        }
        Some("FieldValueDuplicate") => {
            let shown = shown.map(Value::to_string).unwrap_or_default();
            let message = format!("Duplicate value: {shown}");
            cause("FieldValueDuplicate", field, message)
        }
        _ => {
            let shown = shown.map(|value| format!("{value}: ")).unwrap_or_default();
            let message = format!("Invalid value: {shown}{detail}");
            cause("FieldValueInvalid", field, message)
        }
    }
}

/// The language's functions and Kubernetes', two of them as Go's.
fn functions() -> Context<'static> {
    let mut context = Context::default();
    context.register_all();
    context.add_function("size", size);
    context.add_function("matches", matches);
    context
}

/// Texts have characters.
fn size(context: &FunctionContext<'_, '_>, This(this): This<Cel>) -> Result<i64, ExecutionError> {
    let size = match this {
        Cel::List(list) => list.len(),
        Cel::Map(map) => map.map.len(),
        Cel::String(text) => text.chars().count(),
        Cel::Bytes(bytes) => bytes.len(),
        other => return Err(context.error(format!("{other:?} has no size"))),
    };
    i64::try_from(size).map_err(|error| context.error(error))
}

/// Patterns are Go's, read once, and bounded.
fn matches(
    context: &FunctionContext<'_, '_>,
    This(this): This<Arc<String>>,
    text: Arc<String>,
) -> Result<bool, ExecutionError> {
    let found = PATTERNS.with_borrow_mut(|patterns| {
        if patterns.len() >= PATTERNS_MAX && !patterns.contains_key(&*text) {
            patterns.clear();
        }
        let pattern = patterns.entry((*text).clone());
        let pattern = pattern.or_insert_with_key(|text| pattern::compile(text).ok());
        pattern.as_ref().map(|pattern| pattern.is_match(&this))
    });
    found.ok_or_else(|| context.error(format!("'{text}' is no valid pattern")))
}
