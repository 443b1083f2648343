//! `metadata.managedFields`: who owns what.

use serde_json::{Value, json};

use super::fields::FieldSet;
use crate::object::text;

/// More managers of updates than these are merged into one, the longest silent first (upstream's limit).
const UPDATE_MANAGERS_MAX: usize = 10;
const ANCIENT: &str = "ancient-changes";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Apply,
    Update,
}

/// One entry of `managedFields`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manager {
    pub name: String,
    pub operation: Operation,
    pub api_version: String,
    pub subresource: String,
    pub time: String,
    pub fields: FieldSet,
}

impl Manager {
    /// Whether both are the same manager; an applier is the same in every version.
    pub fn is(&self, other: &Manager) -> bool {
        self.name == other.name
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// As conflicts name it.
    pub fn describe(&self) -> String {
        let mut out = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            out.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            out.push_str(&format!(" using {}", self.api_version));
        }
        out
    }

    fn from_value(value: &Value) -> Option<Self> {
        Some(Self {
            name: text(value, &["manager"]).to_owned(),
            operation: match text(value, &["operation"]) {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return None,
            },
            api_version: text(value, &["apiVersion"]).to_owned(),
            subresource: text(value, &["subresource"]).to_owned(),
            time: text(value, &["time"]).to_owned(),
            fields: FieldSet::from_value(value.get("fieldsV1")?)?,
        })
    }

    fn to_value(&self) -> Value {
        let operation = match self.operation {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        };
        let mut out = json!({
            "manager": self.name, "operation": operation, "apiVersion": self.api_version,
            "time": self.time, "fieldsType": "FieldsV1", "fieldsV1": self.fields.to_value(),
        });
        if !self.subresource.is_empty() {
            out["subresource"] = self.subresource.as_str().into();
        }
        out
    }
}

/// Reads `managedFields`. `None` when it is not a list of entries; empty when nobody is tracked.
pub(crate) fn decode(value: Option<&Value>) -> Option<Vec<Manager>> {
    match value {
        None | Some(Value::Null) => Some(Vec::new()),
        // The way to say "forget all managers".
        Some(Value::Array(entries)) if entries.iter().all(|e| *e == json!({})) => Some(Vec::new()),
        Some(Value::Array(entries)) => entries.iter().map(Manager::from_value).collect(),
        Some(_) => None,
    }
}

/// Writes `managedFields`: managers of nothing are left out, the number of the rest is bounded.
pub(crate) fn encode(mut managers: Vec<Manager>) -> Value {
    managers.retain(|m| !m.fields.is_empty());
    managers.sort_by(|a, b| (a.operation, &a.time, &a.name).cmp(&(b.operation, &b.time, &b.name)));
    let updates = |managers: &[Manager]| {
        managers
            .iter()
            .filter(|m| m.operation == Operation::Update)
            .count()
    };
    while updates(&managers) > UPDATE_MANAGERS_MAX {
        let first = managers
            .iter()
            .position(|m| m.operation == Operation::Update);
        let Some(first) = first else { break };
        let second = (first + 1..managers.len())
            .find(|at| managers[*at].api_version == managers[first].api_version);
        let Some(second) = second else { break };
        let merged = managers.remove(second);
        let into = &mut managers[first];
        into.fields.add(&merged.fields);
        into.name = ANCIENT.to_owned();
        into.subresource.clear();
        into.time = merged.time;
    }
    Value::Array(managers.iter().map(Manager::to_value).collect())
}
