//! Types of lists and maps, and the form of rules.

use serde_json::Value;

use super::text;
use crate::registry::Problems;

/// List and map types.
pub(super) fn lists(schema: &Value, field: &str, problems: &mut Problems) {
    let kind = schema["type"].as_str().unwrap_or_default();
    let at = |key: &str| format!("{field}.{key}");
    let mut typed = |key: &str, wanted: &str, supported: &[&str]| {
        if schema[key].is_null() {
            return;
        }
        if kind != wanted {
            let why = format!("must be {wanted} if {key} is specified");
            match kind {
                "" => problems.required(&at("type"), &why),
                _ => problems.invalid(&at("type"), &kind.into(), &why),
            }
        }
        if !supported.iter().any(|one| schema[key] == *one) {
            problems.not_supported(&at(key), &schema[key], supported);
        }
    };
    typed("x-kubernetes-map-type", "object", &["atomic", "granular"]);
    typed("x-kubernetes-list-type", "array", &["atomic", "map", "set"]);
    let list = schema["x-kubernetes-list-type"]
        .as_str()
        .unwrap_or_default();
    let keys: Vec<_> = schema["x-kubernetes-list-map-keys"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let items = &schema["items"];
    if list == "set" {
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        if items["type"] == "array"
            && items["x-kubernetes-list-type"].is_string()
            && items["x-kubernetes-list-type"] != "atomic"
        {
            problems.invalid(
                &at("items.x-kubernetes-list-type"),
                &items["x-kubernetes-list-type"],
                why,
            );
        }
        if items["type"] == "object" && items["x-kubernetes-map-type"] != "atomic" {
            problems.invalid(
                &at("items.x-kubernetes-map-type"),
                &items["x-kubernetes-map-type"],
                why,
            );
        }
    }
    if matches!(list, "set" | "map") && items["nullable"] == true {
        problems.forbidden(
            &at("items.nullable"),
            &format!("cannot be nullable when x-kubernetes-list-type is {list}"),
        );
    }
    if !keys.is_empty() && list != "map" {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        match list {
            "" => problems.required(&at("x-kubernetes-list-type"), why),
            _ => problems.invalid(&at("x-kubernetes-list-type"), &list.into(), why),
        }
    }
    if list != "map" {
        return;
    }
    if keys.is_empty() {
        problems.required(
            &at("x-kubernetes-list-map-keys"),
            "must not be empty if x-kubernetes-list-type is map",
        );
    }
    if !items.is_object() {
        problems.required(
            &at("items"),
            "must have a schema if x-kubernetes-list-type is map",
        );
        return;
    }
    if items["type"] != "object" {
        problems.invalid(
            &at("items.type"),
            &text(&items["type"]),
            "must be object if parent array's x-kubernetes-list-type is map",
        );
    }
    let required = |key: &str| {
        let names = items["required"].as_array().into_iter().flatten();
        names.into_iter().any(|name| *name == key)
    };
    for (n, key) in keys.iter().enumerate() {
        let shown = &schema["x-kubernetes-list-map-keys"];
        let property = &items["properties"][*key];
        if !property.is_object() {
            problems.invalid(
                &at("x-kubernetes-list-map-keys"),
                shown,
                "entries must all be names of item properties",
            );
            continue;
        }
        if keys[..n].contains(key) {
            problems.invalid(
                &at("x-kubernetes-list-map-keys"),
                shown,
                "must not contain duplicate entries",
            );
        }
        let here = format!("{field}.items.properties[{key}]");
        if matches!(property["type"].as_str(), Some("array" | "object")) {
            problems.invalid(
                &format!("{here}.type"),
                &property["type"],
                "must be a scalar type if parent array's x-kubernetes-list-type is map",
            );
        }
        if !required(key) && property["default"].is_null() {
            problems.required(&format!("{here}.default"), "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property");
        }
        if property["nullable"] == true {
            problems.forbidden(
                &format!("{here}.nullable"),
                "this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
            );
        }
    }
}

/// `x-kubernetes-validations`, as far as that can be told without reading the rules.
pub(super) fn rules(schema: &Value, field: &str, problems: &mut Problems) {
    const REASONS: [&str; 4] = [
        "FieldValueDuplicate",
        "FieldValueForbidden",
        "FieldValueInvalid",
        "FieldValueRequired",
    ];
    let list = schema["x-kubernetes-validations"].as_array();
    for (n, rule) in list.into_iter().flatten().enumerate() {
        let at = |key: &str| format!("{field}.x-kubernetes-validations[{n}].{key}");
        let text = |key: &str| rule[key].as_str().unwrap_or_default();
        let broken = |key: &str| text(key).contains(['\n', '\r']);
        if text("rule").trim().is_empty() {
            problems.required(&at("rule"), "rule is not specified");
        }
        if rule["message"].is_string()
            && !text("message").is_empty()
            && text("message").trim().is_empty()
        {
            problems.invalid(
                &at("message"),
                &rule["message"],
                "must be non-empty if specified",
            );
        } else if broken("message") {
            problems.invalid(
                &at("message"),
                &rule["message"],
                "must not contain line breaks",
            );
        } else if broken("rule") && text("message").is_empty() {
            problems.required(
                &at("message"),
                "message must be specified if rule contains line breaks",
            );
        }
        if rule["reason"].is_string() && !REASONS.contains(&text("reason")) {
            problems.not_supported(&at("reason"), &rule["reason"], &REASONS);
        }
    }
}
