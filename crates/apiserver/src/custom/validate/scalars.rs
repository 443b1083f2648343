//! Texts, numbers, and how many items.

use serde_json::Value;

use super::{cause, invalid, show, too_many, words};
use crate::custom::formats;
use crate::custom::schema::Rules;
use crate::schema::gotext::quote;
use crate::status::Cause;

pub(super) fn counts(rules: &Rules, count: usize, path: &str, out: &mut Vec<Cause>) {
    if let Some(least) = rules.min_items
        && (count as u64) < least
    {
        let why = format!("should have at least {least} items");
        out.push(invalid(path, &count.into(), &why));
    }
    if let Some(most) = rules.max_items
        && count as u64 > most
    {
        out.push(too_many(path, count, most));
    }
}

pub(super) fn scalars(rules: &Rules, value: &Value, path: &str, out: &mut Vec<Cause>) {
    if !rules.enumeration.is_empty() && !rules.enumeration.iter().any(|one| same(one, value)) {
        let mut supported: Vec<String> = rules
            .enumeration
            .iter()
            .map(|one| match one {
                Value::String(text) => quote(text),
                other => quote(&other.to_string()),
            })
            .collect();
        supported.sort();
        let message = format!(
            "Unsupported value: {}: supported values: {}",
            show(value),
            supported.join(", ")
        );
        out.push(cause("FieldValueNotSupported", path, message));
    }
    match value {
        Value::String(text) => strings(rules, text, path, out),
        Value::Number(_) => numbers(rules, value, path, out),
        _ => {}
    }
}

pub(super) fn strings(rules: &Rules, text: &str, path: &str, out: &mut Vec<Cause>) {
    let shown = Value::from(text);
    let count = || text.chars().count() as u64;
    if let Some(most) = rules.max_length
        && count() > most
    {
        let message = format!("Too long: may not be more than {most} bytes");
        out.push(cause("FieldValueTooLong", path, message));
    }
    if let Some(least) = rules.min_length
        && count() < least
    {
        let why = format!("should be at least {least} chars long");
        out.push(invalid(path, &shown, &why));
    }
    if let Some(pattern) = &rules.pattern
        && !pattern.matches(text)
    {
        let why = format!("should match '{}'", pattern.text);
        out.push(invalid(path, &shown, &why));
    }
    if !formats::is(&rules.format, text) {
        let why = format!("must be of type {}: {}", rules.format, quote(text));
        let message = format!("Invalid value: {}: {}", show(&shown), words(path, &why));
        out.push(cause("FieldValueTypeInvalid", path, message));
    }
}

pub(super) fn numbers(rules: &Rules, value: &Value, path: &str, out: &mut Vec<Cause>) {
    let number = value.as_f64().unwrap_or_default();
    if let Some(most) = rules.maximum {
        let (beyond, why) = match rules.exclusive_maximum {
            true => (number >= most, "should be less than"),
            false => (number > most, "should be less than or equal to"),
        };
        if beyond {
            out.push(invalid(path, value, &format!("{why} {most}")));
        }
    }
    if let Some(least) = rules.minimum {
        let (beyond, why) = match rules.exclusive_minimum {
            true => (number <= least, "should be greater than"),
            false => (number < least, "should be greater than or equal to"),
        };
        if beyond {
            out.push(invalid(path, value, &format!("{why} {least}")));
        }
    }
    if let Some(factor) = rules.multiple_of
        && factor > 0.0
        && !is_whole(match factor < 1.0 {
            true => 1.0 / factor * number,
            false => number / factor,
        })
    {
        out.push(invalid(
            path,
            value,
            &format!("should be a multiple of {factor}"),
        ));
    }
    let in_range = match rules.format.as_str() {
        "int32" => (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number),
        "int64" => value.is_i64() || value.is_f64(),
        _ => true,
    };
    if !in_range {
        let why = format!(
            "Invalid value: \"\": Checked value must be of type integer with format {} in {path}",
            rules.format
        );
        out.push(cause("FieldValueInvalid", "", why));
    }
}

/// Whether a quotient is a whole number, but for what binary fractions lose (go-openapi's bounds).
fn is_whole(quotient: f64) -> bool {
    const LARGEST: f64 = 9_007_199_254_740_991.0;
    let whole = quotient.round();
    let off = (quotient - whole).abs();
    quotient.abs() <= LARGEST && (off == 0.0 || off < 1e-9 * whole.abs())
}

/// Numbers are equal by value: `1` is `1.0`.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one_number), Some(other_number)) => one == other || one_number == other_number,
        _ => one == other,
    }
}
