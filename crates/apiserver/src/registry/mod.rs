//! The registry of kinds: one row per served resource, with everything the generic handlers need to know.

pub mod columns;
pub mod convert;
pub mod defaults;
mod fields;
mod handle;
mod intern;
pub mod names;
pub mod strategy;
mod table;
pub mod validate;
pub(crate) mod warn;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::custom::Custom;
use crate::object;
pub use columns::Column;
pub use handle::KindRef;
pub(crate) use intern::intern;
pub(crate) use table::custom_row;
pub use table::{SCALE, all};
pub use validate::Problems;

/// A field that a field selector may name.
pub struct Field {
    /// As the selector names it: `spec.nodeName`.
    pub name: &'static str,
    /// Where it is in the stored object.
    pub path: &'static [&'static str],
}

impl Field {
    /// The field's value as text; absent is empty.
    pub fn read(&self, value: &Value) -> String {
        match object::at(value, self.path) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => match self.name {
                "spec.unschedulable" | "spec.hostNetwork" => "false".into(),
                "status.successful" => "0".into(),
                _ => String::new(),
            },
            Some(other) => other.to_string(),
        }
    }
}

/// One served resource in one version. Versions of the same resource share `storage`.
pub struct Kind {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub namespaced: bool,
    /// Key prefix without the last slash; empty for resources that are answered and not kept.
    pub storage: &'static str,
    /// `apiVersion` under which objects are stored.
    pub storage_version: &'static str,
    /// Whether `/status` is served, and writes elsewhere leave the status alone.
    pub status: bool,
    /// Whether `/scale` is served.
    pub scale: bool,
    /// Whether `metadata.generation` counts changes of the spec.
    pub generation: bool,
    /// Subresources with a handler of their own: name, kind, group and version of their body, verbs.
    pub subresources: &'static [Subresource],
    /// What names are allowed.
    pub names: fn(&str) -> Vec<String>,
    pub fields: &'static [Field],
    pub columns: &'static [Column],
    pub cells: fn(&Value) -> Vec<Value>,
    pub defaults: fn(&mut Value),
    /// Admission and strategy on create, after defaulting.
    pub prepare_create: fn(&mut Value),
    /// What a new object gets that depends on its name, which may be generated.
    pub named: fn(&mut Value),
    /// Strategy on update: what a write of the main resource may not touch is taken from the old object.
    pub prepare_update: fn(&mut Value, &Value),
    pub validate: fn(&Value, &mut Problems),
    /// What only new objects are checked for.
    pub validate_create: fn(&Value, &mut Problems),
    pub validate_update: fn(&Value, &Value, &mut Problems),
    /// Strategy and validation of a write of a subresource that shares the object (`status`, `approval`): the new object,
    /// the old one, the subresource.
    pub status_rules: fn(&mut Value, &Value, &str, &mut Problems),
    /// Between the served and the stored version; `None` when they are the same.
    pub conversion: Option<Conversion>,
    /// What it has besides, when a CustomResourceDefinition describes it.
    pub custom: Option<Arc<Custom>>,
}

/// How a served version becomes the stored one and back.
pub struct Conversion {
    pub to_stored: fn(&mut Value),
    pub from_stored: fn(&mut Value),
}

/// A subresource with a handler of its own.
#[derive(Clone, Copy, Debug)]
pub struct Subresource {
    pub name: &'static str,
    pub kind: &'static str,
    pub group: &'static str,
    pub version: &'static str,
    pub verbs: &'static [&'static str],
}

/// The verbs of a resource that is kept.
pub const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// Namespaces are deleted one by one.
const NAMESPACE_VERBS: [&str; 7] = [
    "create", "delete", "get", "list", "patch", "update", "watch",
];

impl Kind {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.into()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether these are the resources of that group (in any version). A custom kind may have the plural of any other.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }

    /// Whether many can be deleted at once: upstream has each namespace asked for by name.
    pub fn deletes_collections(&self) -> bool {
        !self.is("", "namespaces")
    }

    /// Group, version and kind.
    pub fn gvk(&self) -> crate::schema::Gvk {
        crate::schema::Gvk::gvk(self.group, self.version, self.kind)
    }

    /// The key of an object.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if self.namespaced {
            format!("{}/{namespace}/{name}", self.storage)
        } else {
            format!("{}/{name}", self.storage)
        }
    }

    /// The prefix of all objects, or of those in a namespace.
    pub fn prefix(&self, namespace: &str) -> String {
        if self.namespaced && !namespace.is_empty() {
            format!("{}/{namespace}/", self.storage)
        } else {
            format!("{}/", self.storage)
        }
    }

    /// The verbs of the resource itself.
    pub fn verbs(&self) -> &'static [&'static str] {
        if self.is("", "componentstatuses") {
            &["get", "list"]
        } else if self.storage.is_empty() {
            &["create"]
        } else if self.deletes_collections() {
            &VERBS
        } else {
            &NAMESPACE_VERBS
        }
    }

    /// The subresource of that name, with a handler of its own.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Kind of its lists.
    pub fn list_kind(&self) -> String {
        match &self.custom {
            Some(custom) => custom.list_kind.clone(),
            None => format!("{}List", self.kind),
        }
    }

    /// Short names, as discovery shows them.
    pub fn short_names(&self) -> Value {
        match &self.custom {
            Some(custom) => custom.short_names.clone().into(),
            None => self.short_names.into(),
        }
    }

    /// Categories, as discovery shows them.
    pub fn categories(&self) -> Value {
        match &self.custom {
            Some(custom) => custom.categories.clone().into(),
            None => self.categories.into(),
        }
    }

    /// Values of the selectable fields of an object.
    pub fn field_values(&self, object: &Value) -> Vec<String> {
        match &self.custom {
            Some(custom) => {
                let values = custom.fields.iter();
                let text = |value: Option<&Value>| match value {
                    Some(Value::String(text)) => text.clone(),
                    Some(Value::Null) | None => String::new(),
                    Some(other) => other.to_string(),
                };
                values.map(|(_, path)| text(path.first(object))).collect()
            }
            None => self.fields.iter().map(|field| field.read(object)).collect(),
        }
    }

    /// Where the value of a selectable field is among [`field_values`](Self::field_values).
    pub fn field_position(&self, name: &str) -> Option<usize> {
        match &self.custom {
            Some(custom) => {
                let known = custom.selectable.iter().any(|field| field == name);
                let mut all = custom.fields.iter();
                all.position(|(field, _)| known && field == name)
            }
            None => self.fields.iter().position(|field| field.name == name),
        }
    }

    /// Columns of its tables, as their head describes them.
    pub fn column_definitions(&self) -> Vec<Value> {
        if let Some(custom) = &self.custom {
            return crate::custom::columns::definitions(&custom.columns);
        }
        let columns = self.columns.iter();
        columns
            .map(|c| {
                json!({"name": c.name, "type": c.kind, "format": c.format, "description": "", "priority": c.priority})
            })
            .collect()
    }

    /// The cells of an object.
    pub fn cells(&self, object: &Value) -> Vec<Value> {
        match &self.custom {
            Some(custom) => crate::custom::columns::cells(&custom.columns, object),
            None => (self.cells)(object),
        }
    }

    /// Fills in what the client left out.
    pub fn default(&self, object: &mut Value) {
        match &self.custom {
            Some(custom) => custom.default(object),
            None => (self.defaults)(object),
        }
    }

    /// Whether stored objects are answers as they are.
    pub fn is_stored_form(&self) -> bool {
        self.conversion.is_none() && self.custom.as_ref().is_none_or(|custom| custom.as_stored)
    }

    /// Brings an object in this version into the stored one.
    pub fn to_stored(&self, value: &mut Value) {
        if let Some(conversion) = &self.conversion {
            (conversion.to_stored)(value);
        }
        value["apiVersion"] = self.storage_version.into();
        value["kind"] = self.kind.into();
    }

    /// Brings a stored object into this version.
    pub fn from_stored(&self, value: &mut Value) {
        if let Some(conversion) = &self.conversion {
            (conversion.from_stored)(value);
        }
        value["apiVersion"] = self.api_version().into();
        if let Some(custom) = &self.custom {
            custom.refresh(value);
        }
    }
}

/// The row of the version in which objects of a converted kind are stored.
pub fn stored_row(kind: &Kind) -> Option<&'static Kind> {
    all()
        .iter()
        .find(|k| k.storage == kind.storage && k.conversion.is_none())
}

/// The row of a resource.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    all()
        .iter()
        .find(|k| k.group == group && k.version == version && k.plural == plural)
}

/// The served versions of a group, preferred first.
pub fn versions(group: &str) -> Vec<&'static str> {
    let mut versions = Vec::new();
    for kind in all().iter().filter(|k| k.group == group) {
        if !versions.contains(&kind.version) {
            versions.push(kind.version);
        }
    }
    versions
}

/// The served groups other than the core one, in discovery's order.
pub fn groups() -> Vec<&'static str> {
    let mut groups = Vec::new();
    for kind in all().iter().filter(|k| !k.group.is_empty()) {
        if !groups.contains(&kind.group) {
            groups.push(kind.group);
        }
    }
    groups
}
