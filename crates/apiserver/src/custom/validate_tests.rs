//! Values, and what is said of them.

use super::super::tests::schema;
use super::*;
use serde_json::json;

fn messages(of: Value, value: Value) -> Vec<String> {
    let schema = schema(json!({"type": "object", "properties": {"spec": of}}));
    let mut problems = Problems::default();
    validate(&schema, &json!({"spec": value}), &mut problems);
    problems
        .0
        .iter()
        .map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect()
}

#[test]
fn upstreams_words() {
    // schema of spec, a value that fits, one that does not, what is said of it
    let cases = [
        (
            json!({"type": "integer"}),
            json!(1),
            json!("1"),
            vec![
                "spec: Invalid value: \"string\": spec in body must be of type integer: \"string\"",
            ],
        ),
        (
            json!({"type": "string"}),
            json!(""),
            json!(null),
            vec!["spec: Invalid value: \"null\": spec in body must be of type string: \"null\""],
        ),
        (
            json!({"type": "integer"}),
            json!(2.0),
            json!(2.5),
            vec![
                "spec: Invalid value: \"number\": spec in body must be of type integer: \"number\"",
            ],
        ),
        (
            json!({"type": "number"}),
            json!(2),
            json!(true),
            vec![
                "spec: Invalid value: \"boolean\": spec in body must be of type number: \"boolean\"",
            ],
        ),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!("80%"),
            json!([]),
            vec![
                "spec: Invalid value: \"array\": spec in body must be of type integer,string: \"array\"",
            ],
        ),
        (
            json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}),
            json!({"a": ""}),
            json!({}),
            vec!["spec.a: Required value"],
        ),
        (
            json!({"type": "string", "enum": ["b", "a"]}),
            json!("a"),
            json!("c"),
            vec!["spec: Unsupported value: \"c\": supported values: \"a\", \"b\""],
        ),
        (
            json!({"type": "integer", "enum": [1, 2]}),
            json!(1),
            json!(3),
            vec!["spec: Unsupported value: 3: supported values: \"1\", \"2\""],
        ),
        (
            json!({"type": "string", "pattern": "^a+$"}),
            json!("aa"),
            json!("b"),
            vec!["spec: Invalid value: \"b\": spec in body should match '^a+$'"],
        ),
        (
            json!({"type": "string", "minLength": 2}),
            json!("éé"),
            json!("é"),
            vec!["spec: Invalid value: \"é\": spec in body should be at least 2 chars long"],
        ),
        (
            json!({"type": "string", "maxLength": 2}),
            json!("éé"),
            json!("abc"),
            vec!["spec: Too long: may not be more than 2 bytes"],
        ),
        (
            json!({"type": "integer", "maximum": 10}),
            json!(10),
            json!(11),
            vec!["spec: Invalid value: 11: spec in body should be less than or equal to 10"],
        ),
        (
            json!({"type": "integer", "maximum": 10, "exclusiveMaximum": true}),
            json!(9),
            json!(10),
            vec!["spec: Invalid value: 10: spec in body should be less than 10"],
        ),
        (
            json!({"type": "integer", "minimum": 1}),
            json!(1),
            json!(0),
            vec!["spec: Invalid value: 0: spec in body should be greater than or equal to 1"],
        ),
        (
            json!({"type": "integer", "multipleOf": 5}),
            json!(10),
            json!(11),
            vec!["spec: Invalid value: 11: spec in body should be a multiple of 5"],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "maxItems": 1}),
            json!(["a"]),
            json!(["a", "b"]),
            vec!["spec: Too many: 2: must have at most 1 items"],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "minItems": 1}),
            json!(["a"]),
            json!([]),
            vec!["spec: Invalid value: 0: spec in body should have at least 1 items"],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            json!(["a"]),
            json!(["a", 1]),
            vec![
                "spec[1]: Invalid value: \"integer\": spec[1] in body must be of type string: \"integer\"",
            ],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 1}),
            json!({"a": "b"}),
            json!({"a": "b", "c": 1}),
            vec![
                "spec: Too many: 2: must have at most 1 items",
                "spec.c: Invalid value: \"integer\": spec.c in body must be of type string: \"integer\"",
            ],
        ),
        (
            json!({"type": "string", "format": "date-time"}),
            json!("2026-01-01T00:00:00Z"),
            json!("today"),
            vec![
                "spec: Invalid value: \"today\": spec in body must be of type date-time: \"today\"",
            ],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
            json!({"a": ""}),
            json!({"a": "", "b": ""}),
            vec![
                "<nil>: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
            ],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "anyOf": [{"required": ["a"]}]}),
            json!({"a": ""}),
            json!({}),
            vec![
                "<nil>: Invalid value: \"\": \"spec\" must validate at least one schema (anyOf)",
                "spec.a: Required value",
            ],
        ),
        (
            json!({"type": "string", "allOf": [{"minLength": 1}, {"maxLength": 2}]}),
            json!("ab"),
            json!("abc"),
            vec![
                "<nil>: Invalid value: \"\": \"spec\" must validate all the schemas (allOf)",
                "spec: Too long: may not be more than 2 bytes",
            ],
        ),
        (
            json!({"type": "string", "not": {"enum": ["x"]}}),
            json!("y"),
            json!("x"),
            vec!["<nil>: Invalid value: \"\": \"spec\" must not validate the schema (not)"],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}),
            json!(["a", "b"]),
            json!(["a", "b", "a", "a"]),
            vec!["spec[2]: Duplicate value: \"a\""],
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
                "items": {"type": "object", "properties": {"n": {"type": "string"}, "v": {"type": "string"}}}}),
            json!([{"n": "a"}, {"n": "b"}]),
            json!([{"n": "a"}, {"n": "a", "v": "x"}]),
            vec!["spec[1]: Duplicate value: {\"n\":\"a\"}"],
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
            json!({"apiVersion": "v1", "kind": "Pod"}),
            json!({"kind": "Pod"}),
            vec!["spec.apiVersion: Required value: must not be empty"],
        ),
        (
            json!({"type": "string", "nullable": true}),
            json!(null),
            json!(1),
            vec![
                "spec: Invalid value: \"integer\": spec in body must be of type string: \"integer\"",
            ],
        ),
    ];
    for (of, good, bad, expected) in cases {
        assert_eq!(messages(of.clone(), good), Vec::<String>::new(), "{of}");
        assert_eq!(messages(of.clone(), bad), expected, "{of}");
    }
}

#[test]
fn complaints_are_bounded() {
    let many = vec![json!(1); 5000];
    let found = messages(
        json!({"type": "array", "items": {"type": "string"}}),
        many.into(),
    );
    assert_eq!(found.len(), PROBLEMS_MAX);
}
