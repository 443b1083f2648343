//! What objects count against a namespace's ResourceQuotas, and exact amounts: pure, used by the API server, which charges
//! what is created, and by the controller, which counts again what is there.
//!
//! Follows `pkg/quota/v1` and `apiserver/pkg/admission/plugin/resourcequota` of Kubernetes.
#![forbid(unsafe_code)]

pub mod charge;
pub mod count;
pub mod pod;
pub mod quantity;
pub mod recent;
pub mod scope;
pub mod usage;

use std::collections::BTreeMap;

use serde_json::Value;

pub use quantity::Quantity;

/// Amounts by name of resource.
pub type Amounts = BTreeMap<String, Quantity>;

/// Reads a map of quantities; what is no quantity is left out.
pub fn amounts(map: &Value) -> Amounts {
    let entries = map.as_object().into_iter().flatten();
    entries
        .filter_map(|(name, value)| Some((name.clone(), parse(value)?)))
        .collect()
}

/// A quantity that is written as text or as a number.
pub fn parse(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// As objects have them.
pub fn to_value(amounts: &Amounts) -> Value {
    let entries = amounts.iter();
    entries
        .map(|(name, amount)| (name.clone(), Value::from(amount.to_string())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Adds each amount of `more`.
pub fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = total.get(name).copied().unwrap_or(Quantity::ZERO) + *amount;
        total.insert(name.clone(), sum);
    }
}

/// Raises each amount to that of `other`, if that is more.
pub(crate) fn raise(total: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        match total.get(name) {
            Some(have) if have >= amount => {}
            _ => drop(total.insert(name.clone(), *amount)),
        }
    }
}

/// The value at a path; null counts as absent.
pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter()
        .try_fold(value, |value, key| value.get(key))
        .filter(|value| !value.is_null())
}

pub(crate) fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn items<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    at(value, path)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}
