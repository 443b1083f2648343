//! Strategic merge patch, driven by the table of types.
//!
//! Follows `k8s.io/apimachinery/pkg/util/strategicpatch` for a patch onto an object: `$patch` replace, delete and
//! merge, `$retainKeys`, `$deleteFromPrimitiveList/x`, `$setElementOrder/x`, lists merged by `patchMergeKey` alone
//! (ports of one number and two protocols are told apart by number only, as upstream does), nulls delete.

mod lists;

use super::PatchError;
use crate::schema::table::{Shape, Strategy, Table};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

pub(super) const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER: &str = "$setElementOrder/";

type Object = Map<String, Value>;

/// The object that a patch makes of the original.
pub(super) fn apply(
    table: &'static Table,
    shape: Shape,
    original: Object,
    patch: Object,
) -> Result<Object, PatchError> {
    Merge { table }.objects(original, patch, shape)
}

/// How a field merges.
#[derive(Clone, Copy)]
struct Meta {
    shape: Shape,
    strategy: Strategy,
    merge_key: &'static str,
}

struct Merge {
    table: &'static Table,
}

impl Merge {
    fn objects(
        &self,
        mut original: Object,
        mut patch: Object,
        shape: Shape,
    ) -> Result<Object, PatchError> {
        if let Some(directive) = patch.remove(DIRECTIVE) {
            return match directive.as_str() {
                Some("replace") => Ok(patch),
                Some("delete") => Ok(Object::new()),
                _ => Err(unknown_directive(&directive, &patch)),
            };
        }
        retain_keys(&mut original, &mut patch)?;
        self.element_orders(&mut original, &mut patch, shape)?;
        for (key, value) in patch {
            match key.strip_prefix(DELETE_FROM) {
                Some(key) => self.delete_from(&mut original, key, value)?,
                None => self.field(&mut original, key, value, shape)?,
            }
        }
        Ok(original)
    }

    fn field(
        &self,
        original: &mut Object,
        key: String,
        value: Value,
        shape: Shape,
    ) -> Result<(), PatchError> {
        if value.is_null() {
            original.remove(&key);
            return Ok(());
        }
        let merged = match (original.remove(&key), value) {
            (Some(Value::Object(before)), Value::Object(patch)) => {
                let meta = self.meta(shape, &key);
                if meta.strategy.replace {
                    Value::Object(patch)
                } else {
                    Value::Object(self.objects(before, patch, meta.shape)?)
                }
            }
            (Some(Value::Array(before)), Value::Array(patch)) => {
                let meta = self.meta(shape, &key);
                if meta.strategy.merge {
                    Value::Array(self.lists(&key, before, patch, self.element(meta))?)
                } else {
                    Value::Array(patch)
                }
            }
            (_, mut value) => {
                discard_nulls(&mut value);
                match without_directives(value) {
                    Some(value) => value,
                    None => return Ok(()),
                }
            }
        };
        original.insert(key, merged);
        Ok(())
    }

    fn delete_from(
        &self,
        original: &mut Object,
        key: &str,
        value: Value,
    ) -> Result<(), PatchError> {
        match (original.get_mut(key), value) {
            (Some(Value::Array(items)), Value::Array(gone)) => {
                let gone: BTreeSet<String> = gone.iter().map(Value::to_string).collect();
                items.retain(|item| !gone.contains(&item.to_string()));
            }
            (_, Value::Array(_)) => {}
            _ => {
                return Err(PatchError::Malformed(
                    "invalid patch format of primitive list".to_owned(),
                ));
            }
        }
        Ok(())
    }

    /// Handles every `$setElementOrder/x` together with the patch's own `x`, and takes both out of the patch.
    fn element_orders(
        &self,
        original: &mut Object,
        patch: &mut Object,
        shape: Shape,
    ) -> Result<(), PatchError> {
        let directives: Vec<String> = patch
            .keys()
            .filter(|key| key.starts_with(ELEMENT_ORDER))
            .cloned()
            .collect();
        for directive in directives {
            let malformed =
                || PatchError::Malformed("invalid patch format of setElementOrder list".to_owned());
            let Some(Value::Array(order)) = patch.remove(&directive) else {
                return Err(malformed());
            };
            let key = &directive[ELEMENT_ORDER.len()..];
            let meta = self.meta(shape, key);
            let before = match original.get(key) {
                Some(Value::Array(items)) => Some(items.clone()),
                Some(_) => return Err(malformed()),
                None => None,
            };
            let changes = match patch.remove(key) {
                Some(Value::Array(items)) => Some(items),
                Some(Value::Null) => {
                    original.remove(key);
                    continue;
                }
                Some(_) => return Err(malformed()),
                None => None,
            };
            if let Some(changes) = &changes {
                lists::check_order(changes, &order, meta.merge_key)?;
            }
            let server_order = lists::order_after(
                before.clone().unwrap_or_default(),
                changes.as_deref().unwrap_or_default(),
                meta.merge_key,
            );
            let merged = match (before, changes) {
                (None, None) => continue,
                (Some(before), None) => before,
                (None, Some(changes)) => match without_directives(Value::Array(changes)) {
                    Some(Value::Array(items)) => items,
                    _ => continue,
                },
                (Some(before), Some(changes)) if meta.strategy.merge => {
                    self.lists(key, before, changes, self.element(meta))?
                }
                (Some(_), Some(changes)) => changes,
            };
            let sorted = lists::arrange(merged, &order, &server_order, meta.merge_key)?;
            original.insert(key.to_owned(), Value::Array(sorted));
        }
        Ok(())
    }

    /// Two lists whose strategy is merge.
    fn lists(
        &self,
        key: &str,
        original: Vec<Value>,
        patch: Vec<Value>,
        meta: Meta,
    ) -> Result<Vec<Value>, PatchError> {
        match lists::elements(&original, &patch)? {
            None => Ok(original),
            Some(lists::Elements::Scalars) => lists::scalars(original, patch),
            Some(lists::Elements::Objects) if meta.merge_key.is_empty() => {
                Err(PatchError::Unprocessable(format!(
                    "cannot merge lists without merge key for {key}"
                )))
            }
            Some(lists::Elements::Objects) => {
                lists::objects(original, patch, meta.merge_key, |before, change| {
                    self.objects(before, change, meta.shape)
                })
            }
        }
    }

    fn meta(&self, shape: Shape, key: &str) -> Meta {
        let unknown = Meta {
            shape: Shape::Raw,
            strategy: Strategy::default(),
            merge_key: "",
        };
        match shape {
            Shape::Struct(id) => self.table.ty(id).field(key).map_or(unknown, |field| Meta {
                shape: field.shape,
                strategy: field.strategy,
                merge_key: field.merge_key,
            }),
            Shape::Map(element) => Meta {
                shape: self.table.shape(element),
                ..unknown
            },
            _ => unknown,
        }
    }

    /// The same for the elements of a list.
    fn element(&self, meta: Meta) -> Meta {
        match meta.shape {
            Shape::List(element) => Meta {
                shape: self.table.shape(element),
                ..meta
            },
            _ => Meta {
                shape: Shape::Raw,
                ..meta
            },
        }
    }
}

/// `$retainKeys`: what it does not name goes; what the patch sets, it must name.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let malformed = || PatchError::Malformed("invalid patch format of retainKeys".to_owned());
    let kept: BTreeSet<String> = match patch.remove(RETAIN_KEYS) {
        None => return Ok(()),
        Some(Value::Array(keys)) => keys
            .iter()
            .filter_map(|key| key.as_str().map(str::to_owned))
            .collect(),
        Some(_) => return Err(malformed()),
    };
    let sets = |key: &str, value: &Value| {
        !(value.is_null() || key.starts_with(DELETE_FROM) || key.starts_with(ELEMENT_ORDER))
    };
    if patch
        .iter()
        .any(|(key, value)| sets(key, value) && !kept.contains(key))
    {
        return Err(malformed());
    }
    original.retain(|key, _| kept.contains(key));
    Ok(())
}

/// A new value never sets fields to null.
fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// A new value without what only directs the merge; none if all of it did.
pub(super) fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => None,
        Value::Object(fields) => {
            let directs = |key: &str| {
                key == RETAIN_KEYS || key.starts_with(DELETE_FROM) || key.starts_with(ELEMENT_ORDER)
            };
            let kept = fields.into_iter().filter(|(key, _)| !directs(key));
            Some(Value::Object(
                kept.filter_map(|(key, value)| Some((key, without_directives(value)?)))
                    .collect(),
            ))
        }
        Value::Array(items) => Some(Value::Array(
            items.into_iter().filter_map(without_directives).collect(),
        )),
        scalar => Some(scalar),
    }
}

pub(super) fn unknown_directive(directive: &Value, map: &Object) -> PatchError {
    PatchError::Unprocessable(format!(
        "unknown patch type: {} in map: {}",
        go_text(directive),
        go_map(map)
    ))
}

/// A value as Go's `%v` prints it.
pub(super) fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(go_text).collect::<Vec<_>>().join(" ")
        ),
        Value::Object(map) => go_map(map),
        scalar => scalar.to_string(),
    }
}

pub(super) fn go_map(map: &Object) -> String {
    let entries: Vec<String> = map
        .iter()
        .map(|(key, value)| format!("{key}:{}", go_text(value)))
        .collect();
    format!("map[{}]", entries.join(" "))
}
