//! A place in a type: what is below it, and whether it is owned part by part or as a whole.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::custom::schema::{Additional, Schema, Type};
use crate::registry::Kind;
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
    "core/v1.EvictionResponder",
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
pub(crate) struct Node<'a> {
    place: Place<'a>,
    list: ListType,
    keys: &'a str,
    /// An entry of a map, or an item of a list: it is in the set by being there.
    pub(super) entry: bool,
    /// Go writes the field of an object that has nothing in it, so that nobody adds it: lists that are never left out, and
    /// structs that are no pointers.
    pub(super) always: bool,
}

/// What tells what is below a place.
#[derive(Clone, Copy)]
enum Place<'a> {
    Type(Shape),
    /// A custom kind's schema; of a whole object, whose identity and metadata are typed, if so said.
    Schema(&'a Schema, bool),
    /// Nobody: objects are owned by field, lists as a whole.
    Free,
}

impl<'a> Node<'a> {
    /// The type of a kind; `None` when it is not described.
    pub fn of(gvk: &Gvk) -> Option<Self> {
        Table::get()
            .kind(gvk)
            .map(|id| Self::plain(Shape::Struct(id), false))
    }

    /// The type of a kind, whether of the table or custom.
    pub fn of_kind(kind: &'a Kind) -> Option<Self> {
        match &kind.custom {
            Some(custom) => Some(Self::custom(&custom.schema, true, false)),
            None => Self::of(&kind.gvk()),
        }
    }

    fn plain(shape: Shape, entry: bool) -> Self {
        Self::at(Place::Type(shape), entry)
    }

    fn at(place: Place<'a>, entry: bool) -> Self {
        Self {
            place,
            list: ListType::Unset,
            keys: "",
            entry,
            always: false,
        }
    }

    fn custom(schema: &'a Schema, whole: bool, entry: bool) -> Self {
        Self {
            place: Place::Schema(schema, whole || schema.embedded),
            list: if schema.atomic {
                ListType::Atomic
            } else {
                schema.list
            },
            keys: &schema.list_keys,
            entry,
            always: false,
        }
    }

    /// Whether it is an item of a list or an entry of a map.
    pub(super) fn entry(self) -> bool {
        self.entry
    }

    pub(super) fn granular_object(self) -> bool {
        if self.list == ListType::Granular {
            return true;
        }
        self.list != ListType::Atomic
            && match self.place {
                Place::Type(Shape::Struct(id)) => !ATOMIC.contains(&Table::get().ty(id).go_name),
                Place::Type(Shape::Map(_)) | Place::Free => true,
                Place::Type(_) => false,
                Place::Schema(schema, _) => {
                    !schema.int_or_string && matches!(schema.kind, Some(Type::Object) | None)
                }
            }
    }

    /// The type of a list's items when they are owned one by one.
    pub(super) fn items(self) -> Option<Node<'a>> {
        match (self.place, self.list) {
            (Place::Type(Shape::List(element)), ListType::Set | ListType::Map) => {
                Some(Self::plain(Table::get().shape(element), true))
            }
            (Place::Type(Shape::WrappedStrings), ListType::Set) => {
                Some(Self::plain(Shape::String, true))
            }
            (Place::Schema(schema, _), ListType::Set | ListType::Map) => {
                let items = schema.items.as_deref()?;
                Some(Self::custom(items, false, true))
            }
            _ => None,
        }
    }

    pub(super) fn field(self, name: &str) -> Option<Node<'a>> {
        match self.place {
            Place::Type(Shape::Struct(id)) => Table::get().ty(id).field(name).map(|field| Node {
                place: Place::Type(field.shape),
                list: field.list,
                keys: field.list_keys,
                entry: false,
                always: !field.omit_empty
                    || matches!(field.shape, Shape::Struct(_))
                        && !field.is_pointer()
                        && !field.omit_zero,
            }),
            Place::Type(Shape::Map(element)) => {
                Some(Self::plain(Table::get().shape(element), true))
            }
            Place::Type(_) => None,
            Place::Free => Some(Self::at(Place::Free, false)),
            Place::Schema(schema, whole) => Self::member(schema, whole, name),
        }
    }

    fn member(schema: &'a Schema, whole: bool, name: &str) -> Option<Node<'a>> {
        if whole && name == "metadata" {
            let metadata = Table::get().named("meta/v1.ObjectMeta")?;
            return Some(Self::plain(Shape::Struct(metadata), false));
        }
        if whole && matches!(name, "apiVersion" | "kind") {
            return Some(Self::plain(Shape::String, false));
        }
        if let Some(property) = schema.properties.get(name) {
            return Some(Self::custom(property, false, false));
        }
        match &schema.additional {
            Additional::Schema(entry) => Some(Self::custom(entry, false, true)),
            Additional::Any => Some(Self::at(Place::Free, true)),
            _ if schema.preserve => Some(Self::at(Place::Free, false)),
            _ => None,
        }
    }

    /// The default of a property that tells items apart.
    fn default_key(self, name: &str) -> Option<Value> {
        match self.place {
            Place::Schema(schema, _) => {
                let items = schema.items.as_deref()?;
                items.properties.get(name)?.default.clone()
            }
            // Of a key: everywhere it is one the same; of a reference: its own.
            Place::Type(Shape::List(element)) if name == "name" => {
                let is_reference = matches!(Table::get().shape(element), Shape::Struct(id)
                    if Table::get().ty(id).go_name == "core/v1.LocalObjectReference");
                is_reference.then(|| "".into())
            }
            _ => (name == "protocol").then(|| "TCP".into()),
        }
    }

    /// The path element of an item of this list.
    pub(super) fn element(self, item: &Value) -> Result<String, String> {
        if self.list == ListType::Set {
            return Ok(format!("v:{item}"));
        }
        let mut keys = Map::new();
        let mut names: Vec<_> = self.keys.split(',').collect();
        names.sort_unstable();
        for name in names {
            match item.get(name) {
                Some(value) if !value.is_null() => keys.insert(name.to_owned(), value.clone()),
                _ => match self.default_key(name) {
                    Some(value) => keys.insert(name.to_owned(), value),
                    None if self.keys.contains(',') => None,
                    None => {
                        return Err(format!(
                            "associative list with keys has an element that omits key field {name:?}"
                        ));
                    }
                },
            };
        }
        // The map is ordered by key, as the text form wants it.
        Ok(format!("k:{}", Value::Object(keys)))
    }

    /// The items of a list with their elements; a repeated one is an error where `strict`.
    pub(super) fn elements<'v>(
        self,
        items: &'v [Value],
        strict: bool,
    ) -> Result<Vec<(String, &'v Value)>, String> {
        let mut out: Vec<(String, &'v Value)> = Vec::with_capacity(items.len());
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
