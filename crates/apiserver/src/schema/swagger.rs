//! OpenAPI v2 (swagger 2.0), made from what OpenAPI v3 is made from: schema by schema and path by path, so that the
//! whole document is never in memory as values.

use super::openapi::{Catalogue, REFERENCE};
use super::{PathSpec, paths};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Where v2 has its schemas.
const DEFINITIONS: &str = "#/definitions/";
/// What every body is written in, as upstream's document says.
const PRODUCES: [&str; 3] = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];

/// Takes the parts of a document in their order.
pub(super) trait Sink {
    /// One path and the operations on it.
    fn path(&mut self, path: &str, item: &Value);
    /// One definition.
    fn definition(&mut self, name: &str, schema: &Value);
}

/// Two documents in one go.
impl<A: Sink, B: Sink> Sink for (A, B) {
    fn path(&mut self, path: &str, item: &Value) {
        self.0.path(path, item);
        self.1.path(path, item);
    }

    fn definition(&mut self, name: &str, schema: &Value) {
        self.0.definition(name, schema);
        self.1.definition(name, schema);
    }
}

/// The paths of one group and version.
pub(crate) struct Served {
    pub group: String,
    pub version: String,
    pub specs: Vec<PathSpec>,
}

/// Gives all paths to the sink, then the definitions that they lead to and those of the kinds of their groups.
pub(super) fn write(text: &str, served: &[Served], sink: &mut dyn Sink) {
    let catalogue = Catalogue::read(text);
    let mut wanted = BTreeMap::new();
    for one in served {
        for spec in &one.specs {
            let specs = std::slice::from_ref(spec);
            let rendered = paths::render(
                &one.group,
                &one.version,
                specs,
                |_| false,
                |gvk| {
                    let name = catalogue.name(gvk)?;
                    catalogue.reach(name, &mut wanted);
                    Some(format!("{REFERENCE}{name}"))
                },
            );
            for (path, item) in rendered.as_object().into_iter().flatten() {
                sink.path(path, &path_item(item));
            }
        }
        catalogue.of_group(&one.group, &one.version, &mut wanted);
    }
    for (name, schema) in wanted {
        if let Ok(schema) = serde_json::from_str::<Value>(schema) {
            sink.definition(name, &definition(name, schema));
        }
    }
}

/// A schema of v3 in v2's words.
pub(super) fn definition(name: &str, schema: Value) -> Value {
    // v2 has no unions; upstream calls these strings there.
    let string = |format: Option<&str>| {
        let mut out = json!({ "type": "string", "description": schema["description"] });
        if let Some(format) = format {
            out["format"] = format.into();
        }
        out
    };
    match name.rsplit('.').next() {
        Some("Quantity") if schema.get("oneOf").is_some() => string(None),
        Some("IntOrString") if schema.get("oneOf").is_some() => string(Some("int-or-string")),
        _ => convert(schema),
    }
}

fn convert(schema: Value) -> Value {
    let Value::Object(fields) = schema else {
        return schema;
    };
    let mut out = Map::new();
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("$ref", Value::String(target)) => {
                out.insert(key, target.replace(REFERENCE, DEFINITIONS).into());
            }
            // v3 wraps a reference that has a description of its own; v2 puts them side by side.
            ("allOf", Value::Array(mut one)) if one.len() == 1 => {
                if let Value::Object(inner) = convert(one.remove(0)) {
                    out.extend(inner);
                }
            }
            // v2's document leaves out defaults: they are ignored beside a reference.
            ("default" | "nullable", _) => {}
            ("properties", Value::Object(properties)) => {
                let properties: Map<_, _> = properties
                    .into_iter()
                    .map(|(name, schema)| (name, convert(schema)))
                    .collect();
                out.insert(key, properties.into());
            }
            ("items" | "additionalProperties", value @ Value::Object(_)) => {
                out.insert(key, convert(value));
            }
            (_, value) => {
                out.insert(key, value);
            }
        }
    }
    Value::Object(out)
}

fn path_item(item: &Value) -> Value {
    let mut out = Map::new();
    for (key, value) in item.as_object().into_iter().flatten() {
        let value = match key.as_str() {
            "parameters" => parameters(value),
            _ => operation(value),
        };
        out.insert(key.clone(), value);
    }
    Value::Object(out)
}

fn operation(v3: &Value) -> Value {
    let mut out = Map::new();
    let mut all: Vec<Value> = Vec::new();
    if let Some(body) = v3.get("requestBody") {
        let content = body["content"].as_object();
        let schema = content.and_then(|content| content.values().next()?.get("schema"));
        all.push(json!({
            "name": "body", "in": "body", "required": v3["x-kubernetes-action"] != "delete"
                && v3["x-kubernetes-action"] != "deletecollection",
            "schema": schema.cloned().map_or(json!({ "type": "object" }), convert),
        }));
        let consumes: Vec<_> = match v3["x-kubernetes-action"] == "patch" {
            true => content
                .into_iter()
                .flat_map(|c| c.keys().cloned())
                .collect(),
            false => vec!["*/*".to_owned()],
        };
        out.insert("consumes".to_owned(), consumes.into());
    }
    if let Value::Array(rest) = parameters(&v3["parameters"]) {
        all.extend(rest);
    }
    let responses: Map<String, Value> = v3["responses"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(code, response)| {
            let mut v2 = json!({ "description": response["description"] });
            if let Some(schema) = response.pointer("/content/application~1json/schema") {
                v2["schema"] = convert(schema.clone());
            }
            (code.clone(), v2)
        })
        .collect();
    for (key, value) in v3.as_object().into_iter().flatten() {
        if key.starts_with("x-") || matches!(key.as_str(), "tags" | "operationId" | "description") {
            out.insert(key.clone(), value.clone());
        }
    }
    if !all.is_empty() {
        out.insert("parameters".to_owned(), all.into());
    }
    out.insert("responses".to_owned(), responses.into());
    out.insert("produces".to_owned(), json!(PRODUCES));
    out.insert("schemes".to_owned(), json!(["https"]));
    Value::Object(out)
}

/// Parameters in query and path: v2 has the type beside the name.
fn parameters(v3: &Value) -> Value {
    v3.as_array()
        .into_iter()
        .flatten()
        .map(|parameter| {
            let mut out = parameter.as_object().cloned().unwrap_or_default();
            if let Some(Value::Object(schema)) = out.remove("schema") {
                out.extend(schema);
            }
            Value::Object(out)
        })
        .collect()
}
