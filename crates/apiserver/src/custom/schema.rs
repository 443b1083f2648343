//! A structural schema as the server works with it: read once from a definition, then walked beside objects.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::Regex;
use serde_json::Value;

use super::pattern;
use crate::schema::table::ListType;

/// The most places of one definition's schemas together; a place is some 300 bytes.
pub const NODES_MAX: usize = 50_000;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Type {
    /// As schemas and messages write it.
    pub fn name(self) -> &'static str {
        match self {
            Type::Object => "object",
            Type::Array => "array",
            Type::String => "string",
            Type::Integer => "integer",
            Type::Number => "number",
            Type::Boolean => "boolean",
        }
    }

    fn read(name: &str) -> Option<Self> {
        [
            Type::Object,
            Type::Array,
            Type::String,
            Type::Integer,
            Type::Number,
            Type::Boolean,
        ]
        .into_iter()
        .find(|known| known.name() == name)
    }
}

/// What an object may have besides its properties.
#[derive(Debug, Default)]
pub enum Additional {
    /// Nothing is said.
    #[default]
    Unset,
    Forbidden,
    /// Anything.
    Any,
    Schema(Box<Schema>),
}

/// One place of a schema.
#[derive(Debug, Default)]
pub struct Schema {
    pub kind: Option<Type>,
    pub nullable: bool,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve: bool,
    /// `x-kubernetes-embedded-resource`.
    pub embedded: bool,
    pub int_or_string: bool,
    pub default: Option<Value>,
    pub properties: BTreeMap<String, Schema>,
    pub additional: Additional,
    pub items: Option<Box<Schema>>,
    pub list: ListType,
    /// Names of the properties that tell items apart, with commas between.
    pub list_keys: String,
    /// `x-kubernetes-map-type: atomic`.
    pub atomic: bool,
    /// What values must be like; absent where only the type counts.
    pub rules: Option<Box<Rules>>,
}

/// Value validation.
#[derive(Debug, Default)]
pub struct Rules {
    pub format: String,
    pub pattern: Option<Pattern>,
    pub enumeration: Vec<Value>,
    pub required: Vec<String>,
    pub minimum: Option<f64>,
    pub maximum: Option<f64>,
    pub exclusive_minimum: bool,
    pub exclusive_maximum: bool,
    pub multiple_of: Option<f64>,
    pub min_length: Option<u64>,
    pub max_length: Option<u64>,
    pub min_items: Option<u64>,
    pub max_items: Option<u64>,
    pub min_properties: Option<u64>,
    pub max_properties: Option<u64>,
    pub all_of: Vec<Schema>,
    pub any_of: Vec<Schema>,
    pub one_of: Vec<Schema>,
    pub not: Option<Box<Schema>>,
}

/// A regular expression, made ready when it is first needed.
#[derive(Debug)]
pub struct Pattern {
    pub text: String,
    ready: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// Whether the text matches. A pattern that cannot be used (definitions with such are refused) matches nothing.
    pub fn matches(&self, text: &str) -> bool {
        self.ready
            .get_or_init(|| pattern::compile(&self.text).ok())
            .as_ref()
            .is_some_and(|regex| regex.is_match(text))
    }
}

impl Schema {
    /// Reads a schema that has been found to be structural; what it does not know it leaves out. `None` when it has
    /// more than [`NODES_MAX`] places, counted down from `left`.
    pub fn read(json: &Value, left: &mut usize) -> Option<Self> {
        *left = left.checked_sub(1)?;
        let text = |key: &str| json[key].as_str().unwrap_or_default();
        let flag = |key: &str| json[key].as_bool().unwrap_or_default();
        let mut properties = BTreeMap::new();
        for (name, property) in json["properties"].as_object().into_iter().flatten() {
            properties.insert(name.clone(), Schema::read(property, left)?);
        }
        let additional = match &json["additionalProperties"] {
            Value::Bool(true) => Additional::Any,
            Value::Bool(false) => Additional::Forbidden,
            schema @ Value::Object(_) => Additional::Schema(Box::new(Schema::read(schema, left)?)),
            _ => Additional::Unset,
        };
        let items = match &json["items"] {
            items @ Value::Object(_) => Some(Box::new(Schema::read(items, left)?)),
            _ => None,
        };
        let keys: Vec<_> = json["x-kubernetes-list-map-keys"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        Some(Schema {
            kind: Type::read(text("type")),
            nullable: flag("nullable"),
            preserve: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            default: json.get("default").filter(|v| !v.is_null()).cloned(),
            properties,
            additional,
            items,
            list: match text("x-kubernetes-list-type") {
                "atomic" => ListType::Atomic,
                "set" => ListType::Set,
                "map" => ListType::Map,
                _ => ListType::Unset,
            },
            list_keys: keys.join(","),
            atomic: text("x-kubernetes-map-type") == "atomic",
            rules: Rules::read(json, left)?,
        })
    }

    /// The schema of a member, if one is given.
    pub fn member(&self, name: &str) -> Option<&Schema> {
        self.properties.get(name).or(match &self.additional {
            Additional::Schema(schema) => Some(schema),
            _ => None,
        })
    }
}

impl Rules {
    /// Outer `None`: too many places. Inner: no rules.
    #[allow(clippy::option_option)]
    fn read(json: &Value, left: &mut usize) -> Option<Option<Box<Self>>> {
        const KEYS: [&str; 19] = [
            "format",
            "pattern",
            "enum",
            "required",
            "minimum",
            "maximum",
            "exclusiveMinimum",
            "exclusiveMaximum",
            "multipleOf",
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "minProperties",
            "maxProperties",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
        ];
        if KEYS.iter().all(|key| json[*key].is_null()) {
            return Some(None);
        }
        let list = |key: &str| json[key].as_array().cloned().unwrap_or_default();
        let mut schemas = |key: &str| -> Option<Vec<Schema>> {
            let list = json[key].as_array().into_iter().flatten();
            list.map(|schema| Schema::read(schema, left)).collect()
        };
        let (all_of, any_of, one_of) = (schemas("allOf")?, schemas("anyOf")?, schemas("oneOf")?);
        let not = match &json["not"] {
            Value::Null => None,
            schema => Some(Box::new(Schema::read(schema, left)?)),
        };
        let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        let pattern = text("pattern");
        Some(Some(Box::new(Rules {
            format: text("format"),
            pattern: (!pattern.is_empty()).then(|| Pattern {
                text: pattern,
                ready: OnceLock::new(),
            }),
            enumeration: list("enum"),
            required: list("required")
                .iter()
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect(),
            minimum: json["minimum"].as_f64(),
            maximum: json["maximum"].as_f64(),
            exclusive_minimum: json["exclusiveMinimum"] == true,
            exclusive_maximum: json["exclusiveMaximum"] == true,
            multiple_of: json["multipleOf"].as_f64(),
            min_length: json["minLength"].as_u64(),
            max_length: json["maxLength"].as_u64(),
            min_items: json["minItems"].as_u64(),
            max_items: json["maxItems"].as_u64(),
            min_properties: json["minProperties"].as_u64(),
            max_properties: json["maxProperties"].as_u64(),
            all_of,
            any_of,
            one_of,
            not,
        })))
    }
}
