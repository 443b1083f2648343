//! Printer columns of custom kinds (upstream `pkg/registry/customresource/tableconvertor`).

use serde_json::{Value, json};

use super::jsonpath::JsonPath;

/// One column, whose cells are found by a path.
#[derive(Debug)]
pub struct CustomColumn {
    pub name: String,
    pub kind: String,
    pub format: String,
    pub description: String,
    pub priority: i64,
    path: JsonPath,
}

impl CustomColumn {
    /// Reads a column of a definition. `None` when its path is none: the others are shown without it.
    pub fn read(column: &Value) -> Option<Self> {
        let text = |key: &str| column[key].as_str().unwrap_or_default().to_owned();
        let path = text("jsonPath");
        let description = match text("description") {
            empty if empty.is_empty() => {
                format!("Custom resource definition column (in JSONPath format): {path}")
            }
            description => description,
        };
        Some(Self {
            name: text("name"),
            kind: text("type"),
            format: text("format"),
            description,
            priority: column["priority"].as_i64().unwrap_or(0),
            path: JsonPath::parse(&path).ok()?,
        })
    }

    /// The age of the object, which a version without columns of its own has.
    pub fn age() -> Option<Self> {
        Self::read(
            &json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
            "description": "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"}),
        )
    }

    /// As a table's head describes it.
    pub fn definition(&self) -> Value {
        json!({"name": self.name, "type": self.kind, "format": self.format, "description": self.description,
            "priority": self.priority})
    }

    /// The cell of an object.
    pub fn cell(&self, object: &Value) -> Value {
        let Some(value) = self.path.first(object) else {
            return Value::Null;
        };
        match self.kind.as_str() {
            "integer" => match value.as_i64() {
                Some(number) => number.into(),
                None => value
                    .as_f64()
                    .map_or(Value::Null, |number| (number as i64).into()),
            },
            "number" if value.is_number() => value.clone(),
            "boolean" if value.is_boolean() => value.clone(),
            "string" => printed(value),
            "date" => match value.as_str() {
                None => Value::Null,
                Some(text) if text.parse::<jiff::Timestamp>().is_err() => "<invalid>".into(),
                Some(text) => crate::time::age(Some(text)).into(),
            },
            _ => Value::Null,
        }
    }
}

/// A value as a text column shows it.
fn printed(value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::String(_) => value.clone(),
        other => other.to_string().into(),
    }
}

/// Name and the columns of an object.
pub fn cells(columns: &[CustomColumn], object: &Value) -> Vec<Value> {
    let name = object["metadata"]["name"].clone();
    std::iter::once(name)
        .chain(columns.iter().map(|column| column.cell(object)))
        .collect()
}

/// The head of a table.
pub fn definitions(columns: &[CustomColumn]) -> Vec<Value> {
    let name = json!({"name": "Name", "type": "string", "format": "name", "priority": 0,
        "description": "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names"});
    std::iter::once(name)
        .chain(columns.iter().map(CustomColumn::definition))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_by_type() {
        let object = json!({"metadata": {"name": "a"}, "spec": {"n": 3, "f": 2.5, "b": true, "s": "x", "list": ["a", 1], "t": "never"}});
        let cases = [
            ("integer", ".spec.n", json!(3)),
            ("integer", ".spec.f", json!(2)),
            ("integer", ".spec.s", json!(null)),
            ("number", ".spec.f", json!(2.5)),
            ("boolean", ".spec.b", json!(true)),
            ("boolean", ".spec.s", json!(null)),
            ("string", ".spec.s", json!("x")),
            ("string", ".spec.n", json!("3")),
            ("string", ".spec.list", json!("[\"a\",1]")),
            ("string", ".spec.missing", json!(null)),
            ("date", ".spec.t", json!("<invalid>")),
        ];
        for (kind, path, expected) in cases {
            let column = CustomColumn::read(&json!({"name": "C", "type": kind, "jsonPath": path}))
                .expect("a column");
            assert_eq!(column.cell(&object), expected, "{kind} {path}");
        }
        assert!(
            CustomColumn::read(&json!({"name": "C", "type": "string", "jsonPath": ".a["}))
                .is_none()
        );
    }
}
