//! Merging and ordering of lists: by the merge key for objects, by value for scalars.
//!
//! Order: that of the patch (or of `$setElementOrder`) holds among the items it names, that of the server among the
//! rest, and the two are interleaved by the server's order as far as it tells.

use super::{DIRECTIVE, Object, go_map, go_text, unknown_directive, without_directives};
use crate::patch::PatchError;
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// What a list holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Elements {
    Scalars,
    Objects,
}

/// What both lists hold; none if both are empty. Lists of lists and mixtures are refused, as upstream does.
pub(super) fn elements(
    original: &[Value],
    patch: &[Value],
) -> Result<Option<Elements>, PatchError> {
    let mut found: Option<std::mem::Discriminant<Value>> = None;
    let mut kind = None;
    for item in original.iter().chain(patch) {
        if item.is_array() {
            return Err(PatchError::Unprocessable(
                "lists of lists are not supported".to_owned(),
            ));
        }
        let this = std::mem::discriminant(item);
        if *found.get_or_insert(this) != this {
            let both = format!("{} {}", go_list(original), go_list(patch));
            return Err(PatchError::Unprocessable(format!(
                "list element types are not identical: [{both}]"
            )));
        }
        kind = Some(if item.is_object() {
            Elements::Objects
        } else {
            Elements::Scalars
        });
    }
    Ok(kind)
}

/// Scalars: the union, each once.
pub(super) fn scalars(original: Vec<Value>, patch: Vec<Value>) -> Result<Vec<Value>, PatchError> {
    let mut seen = HashSet::new();
    let both = original.iter().chain(&patch);
    let merged = both
        .filter(|item| seen.insert(item.to_string()))
        .cloned()
        .collect();
    arrange(merged, &patch, &original, "")
}

/// Objects: items of the same key are merged by `merge`, new ones added, `$patch: delete` and `replace` obeyed.
pub(super) fn objects(
    original: Vec<Value>,
    patch: Vec<Value>,
    merge_key: &str,
    merge: impl Fn(Object, Object) -> Result<Object, PatchError>,
) -> Result<Vec<Value>, PatchError> {
    let (mut merged, patch) = directives(original, patch, merge_key)?;
    let server_order = merged.clone();
    let mut positions = HashMap::new();
    for (position, item) in merged.iter().enumerate() {
        if let Some(key) = item.get(merge_key) {
            positions.entry(key.to_string()).or_insert(position);
        }
    }
    for item in &patch {
        let key = key_of(item, merge_key)?;
        let change = item.as_object().cloned().unwrap_or_default();
        match positions.get(&key) {
            Some(position) => {
                let before = merged[*position].as_object().cloned().unwrap_or_default();
                merged[*position] = Value::Object(merge(before, change)?);
            }
            None => {
                let fresh = merge(Object::new(), change)?;
                positions.insert(key, merged.len());
                merged.extend(without_directives(Value::Object(fresh)));
            }
        }
    }
    arrange(merged, &patch, &server_order, merge_key)
}

/// Takes the items out of the patch that only direct the merge, and obeys them.
fn directives(
    original: Vec<Value>,
    patch: Vec<Value>,
    merge_key: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut deleted = HashSet::new();
    let mut replace = false;
    let mut plain = Vec::with_capacity(patch.len());
    for item in patch {
        let Some(directive) = item.get(DIRECTIVE) else {
            plain.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                deleted.insert(key_of(&item, merge_key)?);
            }
            Some("replace") => replace = true,
            Some("merge") => {
                return Err(PatchError::Unprocessable(
                    "merging lists cannot yet be specified in the patch".to_owned(),
                ));
            }
            _ => {
                return Err(unknown_directive(
                    directive,
                    item.as_object().unwrap_or(&Object::new()),
                ));
            }
        }
    }
    if replace {
        return Ok((plain, Vec::new()));
    }
    let mut original = original;
    if !deleted.is_empty() {
        original.retain(|item| {
            item.get(merge_key)
                .is_none_or(|key| !deleted.contains(&key.to_string()))
        });
    }
    Ok((original, plain))
}

/// Sorts a merged list by the patch's order and the server's.
pub(super) fn arrange(
    merged: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    merge_key: &str,
) -> Result<Vec<Value>, PatchError> {
    let patch_positions = positions(patch_order, merge_key)?;
    let server_positions = positions(server_order, merge_key)?;
    let mut patched = Vec::new();
    let mut server_only = Vec::new();
    for item in merged {
        let key = key_of(&item, merge_key)?;
        let server = server_positions.get(&key).copied();
        match patch_positions.get(&key) {
            Some(position) => patched.push((*position, server, item)),
            None => server_only.push((server.unwrap_or(usize::MAX), server, item)),
        }
    }
    patched.sort_by_key(|(position, _, _)| *position);
    server_only.sort_by_key(|(position, _, _)| *position);
    let mut out = Vec::with_capacity(patched.len() + server_only.len());
    let mut left = server_only.into_iter().peekable();
    for (_, right_position, item) in patched {
        // A server's item goes before the first patched one that follows it on the server.
        while let Some((_, Some(left_position), _)) = left.peek() {
            if right_position.is_none_or(|right| *left_position >= right) {
                break;
            }
            out.extend(left.next().map(|(_, _, item)| item));
        }
        out.push(item);
    }
    out.extend(left.map(|(_, _, item)| item));
    Ok(out)
}

/// The server's order as upstream sees it after a merge under `$setElementOrder`: it deletes and appends within the
/// memory of the live list, so that a new item takes the place of a deleted one at the list's end. This decides where
/// items go that only the server has, and `kubectl apply` users see the result.
pub(super) fn order_after(mut order: Vec<Value>, patch: &[Value], merge_key: &str) -> Vec<Value> {
    if merge_key.is_empty() {
        return order;
    }
    let keys = |directs: bool| {
        let items = patch
            .iter()
            .filter(move |item| item.get(DIRECTIVE).is_some() == directs);
        items.filter_map(|item| item.get(merge_key))
    };
    let deleted: HashSet<String> = keys(true).map(Value::to_string).collect();
    let key_text = |item: &Value| {
        item.get(merge_key)
            .map(Value::to_string)
            .unwrap_or_default()
    };
    let before = order.len();
    order.retain(|item| !deleted.contains(&key_text(item)));
    let mut present: HashSet<String> = order.iter().map(key_text).collect();
    let fresh: Vec<Value> = keys(false)
        .filter(|key| present.insert(key.to_string()))
        .map(|key| serde_json::json!({ merge_key: key }))
        .take(before - order.len())
        .collect();
    order.extend(fresh);
    order
}

/// The items of a patch must come in the order that `$setElementOrder` gives, and be among those it names.
pub(super) fn check_order(
    patch: &[Value],
    order: &[Value],
    merge_key: &str,
) -> Result<(), PatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut named = order.iter();
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let key = key_of(item, merge_key)?;
        loop {
            let Some(next) = named.next() else {
                return Err(PatchError::Unprocessable(format!(
                    "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                    go_list(patch),
                    go_list(order)
                )));
            };
            if key_of(next, merge_key)? == key {
                break;
            }
        }
    }
    Ok(())
}

fn positions(order: &[Value], merge_key: &str) -> Result<HashMap<String, usize>, PatchError> {
    let mut positions = HashMap::new();
    for (position, item) in order.iter().enumerate() {
        positions
            .entry(key_of(item, merge_key)?)
            .or_insert(position);
    }
    Ok(positions)
}

/// What tells an item from others, as text: scalars are their own key.
fn key_of(item: &Value, merge_key: &str) -> Result<String, PatchError> {
    if merge_key.is_empty() {
        return Ok(item.to_string());
    }
    let map = item.as_object().ok_or_else(|| {
        PatchError::Unprocessable(format!(
            "expected an object with the merge key {merge_key}, but received {}",
            go_text(item)
        ))
    })?;
    map.get(merge_key).map(Value::to_string).ok_or_else(|| {
        PatchError::Unprocessable(format!(
            "map: {} does not contain declared merge key: {merge_key}",
            go_map(map)
        ))
    })
}

fn go_list(items: &[Value]) -> String {
    format!(
        "[{}]",
        items.iter().map(go_text).collect::<Vec<_>>().join(" ")
    )
}
