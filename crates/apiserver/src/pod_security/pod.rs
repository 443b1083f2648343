//! A pod as the checks look at it, and the words that they have in common.

use std::fmt::Display;

use serde_json::{Map, Value};

use crate::object::{at, items, text};

/// A pod, or the template of one, and the minor version that it is checked by.
pub(super) struct Pod<'a> {
    pub spec: &'a Value,
    pub minor: u64,
    metadata: &'a Value,
}

impl<'a> Pod<'a> {
    pub fn new(metadata: &'a Value, spec: &'a Value, minor: u64) -> Self {
        Pod {
            spec,
            minor,
            metadata,
        }
    }

    pub fn annotations(&self) -> Option<&'a Map<String, Value>> {
        at(self.metadata, &["annotations"]).and_then(Value::as_object)
    }

    /// The containers of all three kinds.
    pub fn containers(&self) -> impl Iterator<Item = &'a Value> {
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        lists.into_iter().flat_map(|list| items(self.spec, &[list]))
    }

    /// The names of the containers of which something holds.
    pub fn named(&self, mut holds: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        let found = self.containers().filter(|container| holds(container));
        found.map(name).collect()
    }

    /// Whether the pod is for Windows, by which some checks do not go since 1.25: the fields that they want must not be set
    /// there.
    pub fn is_for_windows(&self) -> bool {
        self.minor >= 25 && self.spec["os"]["name"] == "windows"
    }

    /// Whether root in the pod is nobody on the node, which some checks respect since 1.35.
    pub fn has_own_users(&self) -> bool {
        self.minor >= 35 && self.spec["hostUsers"] == false
    }
}

/// A field of a pod's or a container's security context; null counts as absent.
pub(super) fn secured<'a>(of: &'a Value, field: &str) -> Option<&'a Value> {
    at(of, &["securityContext", field])
}

pub(super) fn name(of: &Value) -> &str {
    text(of, &["name"])
}

/// One word or the other.
pub(super) fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

/// `"a", "b"`: quotes in a value stay as they are, as upstream has it.
pub(super) fn quoted(values: impl IntoIterator<Item = impl Display>) -> String {
    let values: Vec<_> = values.into_iter().map(|v| format!("\"{v}\"")).collect();
    values.join(", ")
}

/// `container "a"`, `containers "a", "b"`.
pub(super) fn containers(names: &[&str]) -> String {
    format!(
        "{} {}",
        plural(names.len(), "container", "containers"),
        quoted(names)
    )
}

/// Who sets something wrong: the pod itself, some containers, or both; none if nobody does.
pub(super) fn setters(by_pod: bool, by: &[&str]) -> Option<String> {
    match (by_pod, by) {
        (false, []) => None,
        (true, []) => Some("pod".to_owned()),
        (false, by) => Some(containers(by)),
        (true, by) => Some(format!("pod and {}", containers(by))),
    }
}
