//! Objects beside their type: which fields they set, how a configuration merges in, what differs, what goes.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::fields::FieldSet;
use super::node::Node;

/// The paths that an object sets.
pub(crate) fn set_of(node: Node<'_>, value: &Value, strict: bool) -> Result<FieldSet, String> {
    let mut set = FieldSet::default();
    fill(node, value, strict, &mut set)?;
    set.tidy();
    Ok(set)
}

fn fill(node: Node<'_>, value: &Value, strict: bool, set: &mut FieldSet) -> Result<(), String> {
    set.member |= node.entry;
    match value {
        Value::Object(object) if node.granular_object() => {
            set.member |= object.is_empty();
            for (key, value) in object {
                if let Some(child) = node.field(key) {
                    fill(child, value, strict, set.child(format!("f:{key}")))?;
                }
            }
        }
        Value::Array(items) => match node.items() {
            Some(item_node) => {
                for (element, item) in node.elements(items, strict)? {
                    fill(item_node, item, strict, set.child(element))?;
                }
            }
            None => set.member = true,
        },
        _ => set.member = true,
    }
    Ok(())
}

/// `live` with `config` merged in.
pub(crate) fn merge(node: Node<'_>, live: Option<&Value>, config: &Value) -> Result<Value, String> {
    match (config, live) {
        (Value::Object(config), live) if node.granular_object() => {
            let mut out = live.and_then(Value::as_object).cloned().unwrap_or_default();
            for (key, value) in config {
                if let Some(child) = node.field(key) {
                    let merged = merge(child, out.get(key), value)?;
                    out.insert(key.clone(), merged);
                }
            }
            Ok(Value::Object(out))
        }
        (Value::Array(config), Some(Value::Array(live))) if node.items().is_some() => {
            merge_items(node, live, config).map(Value::Array)
        }
        _ => Ok(config.clone()),
    }
}

/// The configuration's order, with what only the live list has where it was relative to its neighbours.
fn merge_items(node: Node<'_>, live: &[Value], config: &[Value]) -> Result<Vec<Value>, String> {
    let item_node = node.items().unwrap_or(node);
    let config = node.elements(config, true)?;
    let live: Vec<_> = live
        .iter()
        .map(|item| Ok((node.element(item)?, item)))
        .collect::<Result<_, String>>()?;
    let wanted: HashSet<&str> = config.iter().map(|(e, _)| e.as_str()).collect();
    let mut positions: HashMap<&str, usize> = HashMap::with_capacity(live.len());
    for (at, (element, _)) in live.iter().enumerate() {
        positions.entry(element).or_insert(at);
    }
    let mut out = Vec::with_capacity(live.len() + config.len());
    let mut at = 0;
    for (element, item) in &config {
        let position = positions.get(element.as_str()).copied();
        if let Some(position) = position {
            while at < position {
                if !wanted.contains(live[at].0.as_str()) {
                    out.push(live[at].1.clone());
                }
                at += 1;
            }
        }
        out.push(merge(item_node, position.map(|p| live[p].1), item)?);
    }
    let rest = live[at..]
        .iter()
        .filter(|(e, _)| !wanted.contains(e.as_str()));
    out.extend(rest.map(|(_, item)| (*item).clone()));
    Ok(out)
}

/// Takes the paths of `doomed` out of an object, but nothing that holds a path of `kept`. Items of lists and entries of maps
/// stay for who owns themselves, not for who owns something in them: without its key an item would be none.
pub(crate) fn remove(node: Node<'_>, value: &mut Value, doomed: &FieldSet, kept: &FieldSet) {
    let none = FieldSet::default();
    match value {
        Value::Object(object) if node.granular_object() => {
            for (element, doomed) in &doomed.children {
                let Some(key) = element.strip_prefix("f:") else {
                    continue;
                };
                let (Some(child), Some(inner)) = (node.field(key), object.get_mut(key)) else {
                    continue;
                };
                let kept = kept.children.get(element).unwrap_or(&none);
                let goes = match child.entry() {
                    true => doomed.member && !kept.member,
                    false => doomed.member && kept.is_empty(),
                };
                if goes || shrunk(child, inner, doomed, kept) {
                    object.remove(key);
                }
            }
        }
        Value::Array(items) => {
            let Some(child) = node.items() else {
                return;
            };
            items.retain_mut(|item| {
                let Ok(element) = node.element(item) else {
                    return true;
                };
                let Some(doomed) = doomed.children.get(&element) else {
                    return true;
                };
                let kept = kept.children.get(&element).unwrap_or(&none);
                if doomed.member && !kept.member {
                    return false;
                }
                remove(child, item, doomed, kept);
                true
            });
        }
        _ => {}
    }
}

/// Removes inside; whether nothing is left that anybody wants.
fn shrunk(node: Node<'_>, value: &mut Value, doomed: &FieldSet, kept: &FieldSet) -> bool {
    let empty = |value: &Value| match value {
        Value::Object(object) => object.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    let before = empty(value);
    remove(node, value, doomed, kept);
    !before && empty(value) && !kept.member
}

/// What differs between two versions of an object: paths added or changed, and paths removed.
pub(crate) fn compare(
    node: Node<'_>,
    old: &Value,
    new: &Value,
    changed: &mut FieldSet,
    removed: &mut FieldSet,
) {
    if old == new {
        return;
    }
    let none = Value::Null;
    match (old, new) {
        (Value::Object(before), Value::Object(after)) if node.granular_object() => {
            let only_before = before.keys().filter(|key| !after.contains_key(*key));
            for key in after.keys().chain(only_before) {
                let Some(child) = node.field(key) else {
                    continue;
                };
                let element = format!("f:{key}");
                let (old, new) = (before.get(key), after.get(key));
                difference(child, element, old, new, changed, removed);
            }
        }
        (Value::Array(before), Value::Array(after)) if node.items().is_some() => {
            let child = node.items().unwrap_or(node);
            let (Ok(before), Ok(after)) =
                (node.elements(before, false), node.elements(after, false))
            else {
                changed.member = true;
                return;
            };
            let index: HashMap<_, _> = before.iter().map(|(e, old)| (e.as_str(), *old)).collect();
            let there: HashSet<_> = after.iter().map(|(e, _)| e.as_str()).collect();
            for (element, new) in &after {
                let old = index.get(element.as_str()).copied();
                difference(child, element.clone(), old, Some(new), changed, removed);
            }
            for (element, old) in &before {
                if !there.contains(element.as_str()) {
                    difference(child, element.clone(), Some(old), None, changed, removed);
                }
            }
        }
        _ if *new == none => whole(node, old, removed),
        _ if *old == none => whole(node, new, changed),
        _ => changed.member = true,
    }
}

fn difference(
    node: Node<'_>,
    element: String,
    old: Option<&Value>,
    new: Option<&Value>,
    changed: &mut FieldSet,
    removed: &mut FieldSet,
) {
    let (changed, removed) = (changed.child(element.clone()), removed.child(element));
    let empty = |value: &Value| match value {
        Value::Object(object) => object.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    // Go would have written the missing one as empty.
    if node.always && old.is_none() != new.is_none() && old.or(new).is_some_and(empty) {
        return;
    }
    let nothing = |beside: Option<&Value>| match beside {
        Some(Value::Object(_)) if node.always => Value::Object(Map::new()),
        Some(Value::Array(_)) if node.always => Value::Array(Vec::new()),
        _ => Value::Null,
    };
    let (none_old, none_new) = (nothing(new), nothing(old));
    let (old, new) = (old.unwrap_or(&none_old), new.unwrap_or(&none_new));
    compare(node, old, new, changed, removed);
}

/// What comes or goes as a whole: every place in it, also those that only hold others.
fn whole(node: Node<'_>, value: &Value, set: &mut FieldSet) {
    set.member = true;
    match value {
        Value::Object(object) if node.granular_object() => {
            for (key, value) in object {
                if let Some(child) = node.field(key) {
                    whole(child, value, set.child(format!("f:{key}")));
                }
            }
        }
        Value::Array(items) if node.items().is_some() => {
            let child = node.items().unwrap_or(node);
            for (element, item) in node.elements(items, false).unwrap_or_default() {
                whole(child, item, set.child(element));
            }
        }
        _ => {}
    }
}
