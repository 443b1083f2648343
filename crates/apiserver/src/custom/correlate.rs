//! Which item of a list was which before a change: items of a map are told by their keys.

use std::collections::HashMap;

use serde_json::Value;

use super::schema::Schema;
use crate::schema::table::ListType;

/// A list before a change.
pub(super) enum Before<'k, 'v> {
    /// No item is known to be one of before.
    Unknown,
    ByPosition(&'v [Value]),
    /// By the text of the keys.
    ByKeys(&'k str, HashMap<String, &'v Value>),
}

impl<'k, 'v> Before<'k, 'v> {
    /// `old`: the list that `schema` is of, as it was.
    pub fn of(schema: &'k Schema, old: Option<&'v Value>) -> Self {
        let Some(list) = old.and_then(Value::as_array) else {
            return Self::Unknown;
        };
        match schema.list {
            ListType::Map => Self::by_keys(&schema.list_keys, list),
            ListType::Unset => Self::ByPosition(list),
            _ => Self::Unknown,
        }
    }

    fn by_keys(keys: &'k str, list: &'v [Value]) -> Self {
        let mut named = HashMap::new();
        for item in list {
            named.entry(name(keys, item)).or_insert(item);
        }
        Self::ByKeys(keys, named)
    }

    /// What the item at a position was.
    pub fn item(&self, position: usize, item: &Value) -> Option<&'v Value> {
        match self {
            Self::Unknown => None,
            Self::ByPosition(list) => list.get(position),
            Self::ByKeys(keys, named) => named.get(&name(keys, item)).copied(),
        }
    }
}

/// What tells an item of a map from the others.
fn name(keys: &str, item: &Value) -> String {
    let values = keys.split(',').map(|key| item.get(key));
    let texts = values.map(|value| value.map(Value::to_string).unwrap_or_default());
    texts.collect::<Vec<_>>().join("\0")
}

pub(super) fn join(path: &str, key: &str) -> String {
    match (path.is_empty(), key.is_empty()) {
        (true, _) => key.to_owned(),
        (_, true) => path.to_owned(),
        _ if key.starts_with('[') => format!("{path}{key}"),
        _ => format!("{path}.{key}"),
    }
}
