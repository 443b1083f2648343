//! Schemas that are refused, and why.

use super::*;

fn found(schema: Value) -> Vec<String> {
    let mut problems = Problems::default();
    check(&schema, "s", false, &mut problems);
    problems
        .0
        .iter()
        .map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect()
}

/// A schema whose `spec` is this.
fn with(spec: Value) -> Value {
    json!({"type": "object", "properties": {"spec": spec}})
}

#[test]
fn good_schemas_pass() {
    for schema in [
        json!({"type": "object"}),
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        json!({"type": "object", "properties": {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}}),
        json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 10}}}}}),
        with(
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}], "pattern": "^a$"}),
        ),
        with(
            json!({"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"pattern": "a"}]}),
        ),
        with(
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "oneOf": [{"required": ["a"], "properties": {"a": {"enum": ["x"]}}}]}),
        ),
        with(json!({"type": "string", "default": "x", "enum": ["x"]})),
        with(
            json!({"type": "array", "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}},
            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}),
        ),
    ] {
        assert_eq!(found(schema.clone()), Vec::<String>::new(), "{schema}");
    }
}

#[test]
fn upstreams_words() {
    let cases = [
        (
            json!({}),
            vec!["s.type: Required value: must not be empty at the root"],
        ),
        (
            json!({"type": "string"}),
            vec!["s.type: Invalid value: \"string\": must be object at the root"],
        ),
        (
            with(json!({})),
            vec![
                "s.properties[spec].type: Required value: must not be empty for specified object fields",
            ],
        ),
        (
            with(json!({"type": "array"})),
            vec!["s.properties[spec].items: Required value: must be specified"],
        ),
        (
            with(json!({"type": "array", "items": {}})),
            vec![
                "s.properties[spec].items.type: Required value: must not be empty for specified array items",
            ],
        ),
        (
            with(json!({"type": "text"})),
            vec![
                "s.properties[spec].type: Unsupported value: \"text\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
            ],
        ),
        (
            with(json!({"type": "string", "anyOf": [{"type": "string"}]})),
            vec!["s.properties[spec].anyOf[0].type: Forbidden: must be empty to be structural"],
        ),
        (
            with(json!({"type": "object", "oneOf": [{"properties": {"a": {"minLength": 1}}}]})),
            vec![],
        ),
        (
            json!({"type": "object", "oneOf": [{"properties": {"a": {"minLength": 1}}}]}),
            vec![
                "s.properties[a]: Required value: because it is defined in s.oneOf[0].properties[a]",
            ],
        ),
        (
            with(json!({"type": "string", "pattern": "("})),
            vec![
                "s.properties[spec].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: unclosed group",
            ],
        ),
        (
            with(
                json!({"type": "object", "additionalProperties": true, "properties": {"a": {"type": "string"}}}),
            ),
            vec![
                "s.properties[spec].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
            ],
        ),
        (
            json!({"type": "object", "additionalProperties": true}),
            vec!["s.additionalProperties: Forbidden: must not be used at the root"],
        ),
        (
            json!({"type": "object", "properties": {"labels": {"type": "object", "additionalProperties": false}}}),
            vec![
                "s.properties[labels].additionalProperties: Forbidden: additionalProperties cannot be set to false",
            ],
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            vec![
                "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
            ],
        ),
        (
            with(json!({"type": "string", "$ref": "#/x"})),
            vec!["s.properties[spec].$ref: Forbidden: $ref is not supported"],
        ),
        (
            with(json!({"type": "array", "uniqueItems": true, "items": {"type": "string"}})),
            vec![
                "s.properties[spec].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ],
        ),
        (
            with(
                json!({"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}),
            ),
            vec![
                "s.properties[spec].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ],
        ),
        (
            with(
                json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "bag"}),
            ),
            vec![
                "s.properties[spec].x-kubernetes-list-type: Unsupported value: \"bag\": supported values: \"atomic\", \"map\", \"set\"",
            ],
        ),
        (
            with(json!({"type": "integer", "default": "x"})),
            vec![
                "s.properties[spec].default: Invalid value: \"string\":  in body must be of type integer: \"string\"",
            ],
        ),
        (
            with(json!({"type": "string", "x-kubernetes-validations": [{"rule": ""}]})),
            vec![
                "s.properties[spec].x-kubernetes-validations[0].rule: Required value: rule is not specified",
            ],
        ),
    ];
    for (schema, expected) in cases {
        assert_eq!(found(schema.clone()), expected, "{schema}");
    }
}
