//! Values as rules see them (upstream `k8s.io/apiserver/pkg/cel/common/values.go`, `pkg/cel/escaping.go`).

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_cel::cel::Context;
use kube_cel::cel::objects::{Key, Map as CelMap, Value as Cel};
use serde_json::{Map, Value};

use super::parse::{Expression, parse};
use crate::custom::schema::{Additional, Schema, Type};

/// Names that mean something in expressions.
const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

static TIMESTAMP: LazyLock<Option<Expression>> = LazyLock::new(|| parse("timestamp(text)").ok());
static DURATION: LazyLock<Option<Expression>> = LazyLock::new(|| parse("duration(text)").ok());

/// A value of a schema. `object`: it is a whole object, at the root or within another, of which rules see what it is called, too.
pub(super) fn value(schema: &Schema, value: &Value, object: bool, context: &Context<'_>) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(bool) => Cel::Bool(*bool),
        Value::Number(number) => match (schema.kind, number.as_i64()) {
            (Some(Type::Number), _) | (_, None) => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
            (_, Some(whole)) => Cel::Int(whole),
        },
        Value::String(text) => string(schema, text, context),
        Value::Array(list) => {
            let none = Schema::default();
            let items = schema.items.as_deref().unwrap_or(&none);
            let all = list.iter();
            Cel::List(Arc::new(
                all.map(|item| self::value(items, item, items.embedded, context))
                    .collect(),
            ))
        }
        Value::Object(map) => members(schema, map, object, context),
    }
}

fn members(schema: &Schema, map: &Map<String, Value>, object: bool, context: &Context<'_>) -> Cel {
    let none = Schema::default();
    // keys of maps are data, names of properties are identifiers
    let is_map = matches!(schema.additional, Additional::Any | Additional::Schema(_));
    let mut all = HashMap::with_capacity(map.len());
    for (name, member) in map {
        let of = schema.member(name).unwrap_or(&none);
        let key = if is_map { name.clone() } else { escaped(name) };
        let value = self::value(of, member, of.embedded, context);
        all.insert(Key::String(Arc::new(key)), value);
    }
    if object {
        for name in ["apiVersion", "kind"] {
            let text = map.get(name).and_then(Value::as_str).unwrap_or_default();
            let text = Cel::String(Arc::new(text.to_owned()));
            all.insert(Key::String(Arc::new(name.to_owned())), text);
        }
        let named = map.get("metadata").unwrap_or(&Value::Null);
        let mut metadata = HashMap::new();
        for name in ["name", "generateName"] {
            if let Some(text) = named[name].as_str() {
                let text = Cel::String(Arc::new(text.to_owned()));
                metadata.insert(Key::String(Arc::new(name.to_owned())), text);
            }
        }
        let metadata = CelMap {
            map: Arc::new(metadata),
        };
        all.insert(
            Key::String(Arc::new("metadata".to_owned())),
            Cel::Map(metadata),
        );
    }
    Cel::Map(CelMap { map: Arc::new(all) })
}

fn string(schema: &Schema, text: &str, context: &Context<'_>) -> Cel {
    let plain = || Cel::String(Arc::new(text.to_owned()));
    if schema.int_or_string {
        return plain();
    }
    let format = schema.rules.as_deref().map_or("", |rules| &rules.format);
    let read = match format {
        "date-time" => call(&TIMESTAMP, text.to_owned(), context),
        "date" => call(&TIMESTAMP, format!("{text}T00:00:00Z"), context),
        "duration" => call(&DURATION, text.to_owned(), context),
        "byte" => STANDARD
            .decode(text)
            .ok()
            .map(|bytes| Cel::Bytes(Arc::new(bytes))),
        _ => None,
    };
    read.unwrap_or_else(plain)
}

/// What the language itself makes of a text.
fn call(
    function: &LazyLock<Option<Expression>>,
    text: String,
    context: &Context<'_>,
) -> Option<Cel> {
    let mut scope = context.new_inner_scope();
    scope.add_variable_from_value("text", Cel::String(Arc::new(text)));
    Cel::resolve(&function.as_ref()?.program, &scope).ok()
}

/// A property's name as an identifier.
pub(super) fn escaped(name: &str) -> String {
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_identifiers() {
        for (name, identifier) in [
            ("plain", "plain"),
            ("a_b", "a_b"),
            ("a__b", "a__underscores__b"),
            ("a-b.c/d", "a__dash__b__dot__c__slash__d"),
            ("namespace", "__namespace__"),
            ("namespaces", "namespaces"),
        ] {
            assert_eq!(escaped(name), identifier);
        }
    }
}
