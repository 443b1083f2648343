//! Whether a schema is structural, and what else is wrong with it (upstream `pkg/apiserver/schema/validation.go` and
//! the part about schemas of `pkg/apis/apiextensions/validation`).
//!
//! Works on the JSON of the definition, because that is what its author is told about.

mod defaults;
mod lists;
mod values;

use serde_json::{Map, Value, json};

use crate::registry::Problems;
use defaults::defaults;
use lists::{lists, rules};
use values::{completeness, values};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Where a schema is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Checks a version's schema; `field` is its path in the definition. `status`: the version has that subresource.
pub fn check(schema: &Value, field: &str, status: bool, problems: &mut Problems) {
    if status {
        root_with_status(schema, field, problems);
    }
    if schema["nullable"] == true {
        problems.forbidden(
            &format!("{field}.nullable"),
            "nullable cannot be true at the root",
        );
    }
    let before = problems.0.len();
    properties(schema, field, Level::Root, false, problems);
    completeness(schema, schema, field, field, problems);
    problems.0[before..].sort_by(|a, b| (&a.field, &a.message).cmp(&(&b.field, &b.message)));
    if problems.0.len() == before {
        defaults(schema, field, problems);
    }
}

/// The status can only be cut out of a schema that is nothing but properties.
fn root_with_status(schema: &Value, field: &str, problems: &mut Problems) {
    const ALLOWED: [&str; 11] = [
        "description",
        "type",
        "format",
        "title",
        "maximum",
        "exclusiveMaximum",
        "minimum",
        "exclusiveMinimum",
        "maxLength",
        "minLength",
        "properties",
    ];
    const MORE: [&str; 14] = [
        "pattern",
        "maxItems",
        "minItems",
        "uniqueItems",
        "multipleOf",
        "required",
        "items",
        "externalDocs",
        "example",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-validations",
        "nullable",
        "allOf",
        "default",
    ];
    let Some(map) = schema.as_object() else {
        return;
    };
    if schema["type"].is_string() && schema["type"] != "object" {
        problems.invalid(
            &format!("{field}.type"),
            &schema["type"],
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled",
        );
    }
    let odd = map
        .keys()
        .any(|key| !ALLOWED.contains(&key.as_str()) && !MORE.contains(&key.as_str()));
    if odd {
        let why = "only [Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations] fields are allowed at the root of the schema if the status subresource is enabled";
        problems.invalid(field, &json!(""), why);
    }
}

/// The structure: properties, items and additional properties.
fn properties(schema: &Value, field: &str, level: Level, meta: bool, problems: &mut Problems) {
    let kind = schema["type"].as_str().unwrap_or_default();
    let flag = |key: &str| schema[key] == true;
    let at = |key: &str| format!("{field}.{key}");
    unsupported(schema, field, problems);
    if kind == "array" && !schema["items"].is_object() {
        problems.required(&at("items"), "must be specified");
    }
    if schema["items"].is_object() {
        properties(&schema["items"], &at("items"), Level::Item, false, problems);
    }
    let embedded = flag("x-kubernetes-embedded-resource");
    for (name, property) in members(schema) {
        let here = format!("{field}.properties[{name}]");
        let resource = level == Level::Root || embedded;
        properties(
            property,
            &here,
            Level::Field,
            resource && name == "metadata",
            problems,
        );
        if resource
            && matches!(name.as_str(), "kind" | "apiVersion")
            && property["type"] != "string"
        {
            problems.invalid(
                &format!("{here}.type"),
                &text(&property["type"]),
                "must be string",
            );
        }
        if name == "metadata" && resource && property["type"] != "object" {
            problems.invalid(
                &format!("{here}.type"),
                &text(&property["type"]),
                "must be object",
            );
        }
        if name == "metadata" && level == Level::Root && !only_names(property) {
            problems.forbidden(&here, "must not specify anything other than name and generateName, but metadata is implicitly specified");
        }
    }
    if !schema["additionalProperties"].is_null() {
        if level == Level::Root {
            problems.forbidden(&at("additionalProperties"), "must not be used at the root");
        }
        if embedded {
            problems.forbidden(
                &at("additionalProperties"),
                "must not be used if x-kubernetes-embedded-resource is set",
            );
        }
        if !members(schema).is_empty() {
            problems.forbidden(
                &at("additionalProperties"),
                "additionalProperties and properties are mutual exclusive",
            );
        }
        if schema["additionalProperties"].is_object() {
            let here = at("additionalProperties");
            properties(
                &schema["additionalProperties"],
                &here,
                Level::Field,
                false,
                problems,
            );
        }
    }
    let (preserve, either) = (
        flag("x-kubernetes-preserve-unknown-fields"),
        flag("x-kubernetes-int-or-string"),
    );
    if either && preserve {
        problems.invalid(
            &at("x-kubernetes-preserve-unknown-fields"),
            &json!(true),
            "must be false if x-kubernetes-int-or-string is true",
        );
    }
    if either && embedded {
        problems.invalid(
            &at("x-kubernetes-embedded-resource"),
            &json!(true),
            "must be false if x-kubernetes-int-or-string is true",
        );
    }
    if embedded && meta {
        problems.forbidden(
            &at("x-kubernetes-embedded-resource"),
            "must not be used inside of resource meta",
        );
    }
    if embedded && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        match kind {
            "" => problems.required(&at("type"), why),
            _ => problems.invalid(&at("type"), &kind.into(), why),
        }
    } else if kind.is_empty() && !either && !preserve {
        problems.required(
            &at("type"),
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        );
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        problems.invalid(&at("type"), &kind.into(), "must be object at the root");
    }
    if embedded && !preserve && members(schema).is_empty() {
        problems.required(&at("properties"), "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields");
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        problems.invalid(
            &at("x-kubernetes-preserve-unknown-fields"),
            &json!(false),
            "must be true or undefined",
        );
    }
    lists(schema, field, problems);
    rules(schema, field, problems);
    values(schema, field, problems);
}

/// What OpenAPI has and definitions may not.
fn unsupported(schema: &Value, field: &str, problems: &mut Problems) {
    let kind = schema["type"].as_str().unwrap_or_default();
    if !kind.is_empty() && !TYPES.contains(&kind) {
        match kind {
            "null" => problems.forbidden(
                &format!("{field}.type"),
                "type cannot be set to null, use nullable as an alternative",
            ),
            _ => problems.not_supported(&format!("{field}.type"), &kind.into(), &TYPES),
        }
    }
    for key in [
        "id",
        "additionalItems",
        "patternProperties",
        "definitions",
        "dependencies",
        "$ref",
    ] {
        let given = match &schema[key] {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Object(map) => !map.is_empty() || key == "additionalItems",
            _ => true,
        };
        if given {
            problems.forbidden(
                &format!("{field}.{key}"),
                &format!("{key} is not supported"),
            );
        }
    }
    if schema["additionalProperties"] == false {
        problems.forbidden(
            &format!("{field}.additionalProperties"),
            "additionalProperties cannot be set to false",
        );
    }
    if schema["items"].is_array() {
        problems.forbidden(
            &format!("{field}.items"),
            "items must be a schema object and not an array",
        );
    }
    if schema["uniqueItems"] == true {
        problems.forbidden(
            &format!("{field}.uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        );
    }
}

fn members(schema: &Value) -> &Map<String, Value> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    schema["properties"].as_object().unwrap_or(&NONE)
}

fn text(value: &Value) -> Value {
    value.as_str().unwrap_or_default().into()
}

/// Whether a schema of metadata speaks of nothing but the name.
fn only_names(metadata: &Value) -> bool {
    let names = members(metadata)
        .keys()
        .all(|key| matches!(key.as_str(), "name" | "generateName"));
    let keys = metadata.as_object().into_iter().flat_map(Map::keys);
    names
        && keys
            .into_iter()
            .all(|key| matches!(key.as_str(), "type" | "properties" | "description"))
}

#[cfg(test)]
#[path = "structural_tests.rs"]
mod tests;
