//! Which item of a list was which before a change: items of a map are told by their keys.
//!
//! The evaluator of rules goes by position. So lists of maps with rules below are taken out of what it is given, and their
//! items are put to it one by one, each beside its namesake.

use std::collections::HashMap;

use kube_cel::CompiledSchema;
use serde_json::Value;

use super::schema::{Additional, Schema};
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

/// Items of a list that are compared one by one.
pub(super) struct Detached<'s> {
    /// Where the list is.
    pub path: Vec<Step>,
    /// Names of the properties that tell items apart.
    pub keys: String,
    pub items: CompiledSchema,
    pub schema: &'s Schema,
}

/// On the way to a list.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Member(String),
    /// Every entry of a map.
    Entries,
    /// Every item of a list.
    Items,
}

/// Takes the lists out of a schema. Those within their items stay for another call.
pub(super) fn detach<'s>(schema: &'s Schema, compiled: &mut CompiledSchema) -> Vec<Detached<'s>> {
    let mut out = Vec::new();
    walk(schema, compiled, &mut Vec::new(), &mut out);
    out
}

fn walk<'s>(
    schema: &'s Schema,
    compiled: &mut CompiledSchema,
    path: &mut Vec<Step>,
    out: &mut Vec<Detached<'s>>,
) {
    for (name, property) in &schema.properties {
        if let Some(below) = compiled.properties.get_mut(name) {
            path.push(Step::Member(name.clone()));
            walk(property, below, path, out);
            path.pop();
        }
    }
    if let (Additional::Schema(entry), Some(below)) = (
        &schema.additional,
        compiled.additional_properties.as_deref_mut(),
    ) {
        path.push(Step::Entries);
        walk(entry, below, path, out);
        path.pop();
    }
    let Some(items) = schema.items.as_deref() else {
        return;
    };
    if schema.list == ListType::Map && compiled.items.as_deref().is_some_and(rules) {
        if let Some(taken) = compiled.items.take() {
            out.push(Detached {
                path: path.clone(),
                keys: schema.list_keys.clone(),
                items: *taken,
                schema: items,
            });
        }
    } else if let Some(below) = compiled.items.as_deref_mut() {
        path.push(Step::Items);
        walk(items, below, path, out);
        path.pop();
    }
}

/// Whether there is a rule here or below.
fn rules(compiled: &CompiledSchema) -> bool {
    !compiled.validations.is_empty()
        || compiled.properties.values().any(rules)
        || compiled.additional_properties.as_deref().is_some_and(rules)
        || compiled.items.as_deref().is_some_and(rules)
}

/// An item: where it is, as it is, as it was, and whether something around it is as it was.
pub(super) type Pair<'v> = (String, &'v Value, Option<&'v Value>, bool);

/// The items of a list, wherever the path leads, beside their namesakes. `same`: something around is as it was.
pub(super) fn pairs<'v>(
    (path, keys): (&[Step], &str),
    (new, old): (&'v Value, Option<&'v Value>),
    same: bool,
    here: &str,
    out: &mut Vec<Pair<'v>>,
) {
    let same = same || old == Some(new);
    let Some((step, rest)) = path.split_first() else {
        let before = match old.and_then(Value::as_array) {
            Some(list) => Before::by_keys(keys, list),
            None => Before::Unknown,
        };
        for (n, item) in new.as_array().into_iter().flatten().enumerate() {
            out.push((format!("{here}[{n}]"), item, before.item(n, item), same));
        }
        return;
    };
    let rest = (rest, keys);
    match step {
        Step::Member(name) => {
            if let Some(member) = new.get(name) {
                let was = old.and_then(|old| old.get(name));
                pairs(rest, (member, was), same, &join(here, name), out);
            }
        }
        Step::Entries => {
            for (key, entry) in new.as_object().into_iter().flatten() {
                let was = old.and_then(|old| old.get(key));
                pairs(rest, (entry, was), same, &join(here, key), out);
            }
        }
        Step::Items => {
            // which was which is not known well enough to compare, only whether one is as it was
            let before = old.and_then(Value::as_array);
            for (n, item) in new.as_array().into_iter().flatten().enumerate() {
                let same = same || before.and_then(|before| before.get(n)) == Some(item);
                pairs(rest, (item, None), same, &format!("{here}[{n}]"), out);
            }
        }
    }
}

pub(super) fn join(path: &str, key: &str) -> String {
    match (path.is_empty(), key.is_empty()) {
        (true, _) => key.to_owned(),
        (_, true) => path.to_owned(),
        _ if key.starts_with('[') => format!("{path}{key}"),
        _ => format!("{path}.{key}"),
    }
}
