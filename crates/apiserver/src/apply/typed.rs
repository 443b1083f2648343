//! Objects beside their type: which fields they set, how a configuration merges in, what differs, what goes.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::fields::FieldSet;
use crate::schema::Gvk;
use crate::schema::table::{ListType, Shape, Table};

/// Structs that are owned as a whole (`x-kubernetes-map-type: atomic` on the type itself).
const ATOMIC: &[&str] = &[
    "admissionregistration/v1.MatchResources",
    "admissionregistration/v1.NamedRuleWithOperations",
    "admissionregistration/v1.ParamKind",
    "admissionregistration/v1.ParamRef",
    "admissionregistration/v1.Variable",
    "autoscaling/v1.CrossVersionObjectReference",
    "core/v1.ConfigMapKeySelector",
    "core/v1.EndpointAddress",
    "core/v1.EndpointPort",
    "core/v1.FileKeySelector",
    "core/v1.LocalObjectReference",
    "core/v1.NodeSelector",
    "core/v1.NodeSelectorTerm",
    "core/v1.ObjectFieldSelector",
    "core/v1.ObjectReference",
    "core/v1.ResourceFieldSelector",
    "core/v1.ScopeSelector",
    "core/v1.SecretKeySelector",
    "core/v1.SecretReference",
    "core/v1.TopologySelectorTerm",
    "core/v1.TypedLocalObjectReference",
    "discovery/v1.EndpointPort",
    "meta/v1.LabelSelector",
    "meta/v1.OwnerReference",
    "networking/v1.ServiceBackendPort",
    "rbac/v1.RoleRef",
    "rbac/v1.Subject",
];

/// A place in a type.
#[derive(Clone, Copy)]
pub(crate) struct Node {
    shape: Shape,
    list: ListType,
    keys: &'static str,
    /// An entry of a map, or an item of a list: it is in the set by being there.
    entry: bool,
}

impl Node {
    /// The type of a kind; `None` when it is not described.
    pub fn of(gvk: &Gvk) -> Option<Self> {
        Table::get()
            .kind(gvk)
            .map(|id| Self::plain(Shape::Struct(id), false))
    }

    fn plain(shape: Shape, entry: bool) -> Self {
        Self {
            shape,
            list: ListType::Unset,
            keys: "",
            entry,
        }
    }

    fn granular_object(self) -> bool {
        self.list != ListType::Atomic
            && match self.shape {
                Shape::Struct(id) => !ATOMIC.contains(&Table::get().ty(id).go_name),
                Shape::Map(_) => true,
                _ => false,
            }
    }

    /// The type of a list's items when they are owned one by one.
    fn items(self) -> Option<Node> {
        match (self.shape, self.list) {
            (Shape::List(element), ListType::Set | ListType::Map) => {
                Some(Self::plain(Table::get().shape(element), true))
            }
            (Shape::WrappedStrings, ListType::Set) => Some(Self::plain(Shape::String, true)),
            _ => None,
        }
    }

    fn field(self, name: &str) -> Option<Node> {
        match self.shape {
            Shape::Struct(id) => Table::get().ty(id).field(name).map(|field| Node {
                shape: field.shape,
                list: field.list,
                keys: field.list_keys,
                entry: false,
            }),
            Shape::Map(element) => Some(Self::plain(Table::get().shape(element), true)),
            _ => None,
        }
    }

    /// The path element of an item of this list.
    fn element(self, item: &Value) -> Result<String, String> {
        if self.list == ListType::Set {
            return Ok(format!("v:{item}"));
        }
        let mut keys = Map::new();
        let mut names: Vec<_> = self.keys.split(',').collect();
        names.sort_unstable();
        for name in names {
            match item.get(name) {
                Some(value) if !value.is_null() => keys.insert(name.to_owned(), value.clone()),
                // The one key that has a default, everywhere it is one.
                _ if name == "protocol" => keys.insert(name.to_owned(), "TCP".into()),
                _ if self.keys.contains(',') => None,
                _ => {
                    return Err(format!(
                        "associative list with keys has an element that omits key field {name:?}"
                    ));
                }
            };
        }
        // The map is ordered by key, as the text form wants it.
        Ok(format!("k:{}", Value::Object(keys)))
    }

    /// The items of a list with their elements; a repeated one is an error where `strict`.
    fn elements(self, items: &[Value], strict: bool) -> Result<Vec<(String, &Value)>, String> {
        let mut out: Vec<(String, &Value)> = Vec::with_capacity(items.len());
        let mut seen = HashSet::with_capacity(items.len());
        for item in items {
            let element = self.element(item)?;
            if !seen.insert(element.clone()) {
                if strict {
                    return Err(format!("duplicate entries for key [{}]", &element[2..]));
                }
                continue;
            }
            out.push((element, item));
        }
        Ok(out)
    }
}

/// The paths that an object sets.
pub(crate) fn set_of(node: Node, value: &Value, strict: bool) -> Result<FieldSet, String> {
    let mut set = FieldSet::default();
    fill(node, value, strict, &mut set)?;
    set.tidy();
    Ok(set)
}

fn fill(node: Node, value: &Value, strict: bool, set: &mut FieldSet) -> Result<(), String> {
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
pub(crate) fn merge(node: Node, live: Option<&Value>, config: &Value) -> Result<Value, String> {
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
fn merge_items(node: Node, live: &[Value], config: &[Value]) -> Result<Vec<Value>, String> {
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

/// Takes the paths of `doomed` out of an object, but nothing that holds a path of `kept`.
pub(crate) fn remove(node: Node, value: &mut Value, doomed: &FieldSet, kept: &FieldSet) {
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
                if doomed.member && kept.is_empty() || shrunk(child, inner, doomed, kept) {
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
                if doomed.member && kept.is_empty() {
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
fn shrunk(node: Node, value: &mut Value, doomed: &FieldSet, kept: &FieldSet) -> bool {
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
    node: Node,
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
        _ if *new == none => drop(fill(node, old, false, removed)),
        _ if *old == none => drop(fill(node, new, false, changed)),
        _ => changed.member = true,
    }
}

fn difference(
    node: Node,
    element: String,
    old: Option<&Value>,
    new: Option<&Value>,
    changed: &mut FieldSet,
    removed: &mut FieldSet,
) {
    let (changed, removed) = (changed.child(element.clone()), removed.child(element));
    let (old, new) = (old.unwrap_or(&Value::Null), new.unwrap_or(&Value::Null));
    compare(node, old, new, changed, removed);
}
