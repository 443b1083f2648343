//! What rules would take, before they are run.

use kube_cel::cel::common::ast::{EntryExpr, Expr, IdedExpr};
use serde_json::Value;

use super::STEPS_MAX;
use super::place::Place;

/// What all rules would take for an object, at a guess that is never too low by much.
pub(super) fn steps(place: &Place, value: &Value) -> f64 {
    let mut steps = 0.0;
    if !place.rules.is_empty() {
        let widest = f64::from(widest_in(value));
        for rule in &place.rules {
            let loops = i32::try_from(rule.loops).unwrap_or(i32::MAX);
            steps += widest.powi(loops).max(1.0);
        }
    }
    match value {
        Value::Object(map) => {
            for (key, member) in map {
                if let Some(below) = place.member(key) {
                    steps += self::steps(below, member);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = &place.items {
                for item in list {
                    steps += self::steps(items, item);
                    if steps > STEPS_MAX {
                        break;
                    }
                }
            }
        }
        _ => {}
    }
    steps
}

/// Members of the largest collection within; texts count by the kilobyte.
pub(super) fn widest_in(value: &Value) -> u32 {
    let of = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    match value {
        Value::Object(map) => map
            .values()
            .map(widest_in)
            .max()
            .unwrap_or(1)
            .max(of(map.len())),
        Value::Array(list) => list
            .iter()
            .map(widest_in)
            .max()
            .unwrap_or(1)
            .max(of(list.len())),
        Value::String(text) => of(text.len() / 1024 + 1),
        _ => 1,
    }
}

/// How deep a rule's loops nest. What makes lists out of texts, or longer ones of lists, counts as a loop more.
pub(super) fn loops(program: &IdedExpr, text: &str) -> u32 {
    let makers = ["split(", "findAll(", "flatten(", "range("];
    let more = makers
        .iter()
        .map(|maker| text.matches(maker).count())
        .sum::<usize>();
    nested(program) + u32::try_from(more).unwrap_or(u32::MAX / 2)
}

pub(super) fn nested(expression: &IdedExpr) -> u32 {
    let most = |all: &[IdedExpr]| all.iter().map(nested).max().unwrap_or(0);
    match &expression.expr {
        Expr::Call(call) => most(&call.args).max(call.target.as_deref().map_or(0, nested)),
        Expr::Comprehension(inner) => {
            let within = nested(&inner.loop_step).max(nested(&inner.loop_cond));
            (1 + within)
                .max(nested(&inner.iter_range))
                .max(nested(&inner.result))
        }
        Expr::List(list) => most(&list.elements),
        Expr::Select(select) => nested(&select.operand),
        Expr::Map(map) => map
            .entries
            .iter()
            .map(|entry| of_entry(&entry.expr))
            .max()
            .unwrap_or(0),
        Expr::Struct(fields) => fields
            .entries
            .iter()
            .map(|entry| of_entry(&entry.expr))
            .max()
            .unwrap_or(0),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => 0,
    }
}

pub(super) fn of_entry(entry: &EntryExpr) -> u32 {
    match entry {
        EntryExpr::StructField(field) => nested(&field.value),
        EntryExpr::MapEntry(entry) => nested(&entry.key).max(nested(&entry.value)),
    }
}
