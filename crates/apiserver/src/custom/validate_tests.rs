//! Values, and what is said of them.

use super::super::tests::schema;
use super::*;
use serde_json::json;

fn messages(of: Value, value: Value) -> Vec<String> {
    let schema = schema(json!({"type": "object", "properties": {"spec": of}}));
    let mut problems = Problems::default();
    validate(&schema, &json!({"spec": value}), None, &mut problems);
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
            json!({"type": "number", "multipleOf": 0.1}),
            json!(0.3),
            json!(0.35),
            vec!["spec: Invalid value: 0.35: spec in body should be a multiple of 0.1"],
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

#[test]
fn what_was_not_changed_may_stay() {
    let item = json!({"type": "object", "properties": {"name": {"type": "string"}, "size": {"type": "integer", "maximum": 3}, "tag": {"type": "string"}}, "required": ["name"]});
    let list = |kind: &str| json!({"type": "array", "items": item, "x-kubernetes-list-type": kind, "x-kubernetes-list-map-keys": ["name"]});
    let plain = json!({"type": "array", "items": item});
    let big = json!({"name": "a", "size": 9});
    let small = json!({"name": "b", "size": 1});
    let wrong =
        "spec[0].size: Invalid value: 9: spec[0].size in body should be less than or equal to 3";
    // schema of spec, before, after, what is said
    let cases = [
        // a member that stays, beside one that comes
        (
            item.clone(),
            big.clone(),
            json!({"name": "a", "size": 9, "tag": "x"}),
            vec![],
        ),
        (
            item.clone(),
            big.clone(),
            json!({"name": "a", "size": 8}),
            vec![
                "spec.size: Invalid value: 8: spec.size in body should be less than or equal to 3",
            ],
        ),
        // an object that lacks something is as it was only as a whole
        (
            item.clone(),
            json!({"size": 1}),
            json!({"size": 2}),
            vec!["spec.name: Required value"],
        ),
        (item.clone(), json!({"size": 9}), json!({"size": 9}), vec![]),
        // items are told by their keys, or by their places, or not at all
        (list("map"), json!([small, big]), json!([big]), vec![]),
        (list("map"), json!([small]), json!([big]), vec![wrong]),
        (plain.clone(), json!([big]), json!([big, small]), vec![]),
        (plain, json!([small, big]), json!([big]), vec![wrong]),
        (
            list("atomic"),
            json!([big]),
            json!([big, small]),
            vec![wrong],
        ),
        (
            list("atomic"),
            json!([big, small]),
            json!([big, small]),
            vec![],
        ),
        // alternatives are of a value as a whole
        (
            json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "not": {"properties": {"a": {"maximum": 3}}}}),
            json!({"a": 1}),
            json!({"a": 1, "b": 1}),
            vec!["<nil>: Invalid value: \"\": \"spec\" must not validate the schema (not)"],
        ),
    ];
    for (of, old, new, expected) in cases {
        let schema = schema(json!({"type": "object", "properties": {"spec": of}}));
        let wrap = |spec: &Value| json!({"spec": spec});
        let mut problems = Problems::default();
        validate(&schema, &wrap(&new), Some(&wrap(&old)), &mut problems);
        let said: Vec<_> = problems
            .0
            .iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect();
        assert_eq!(said, expected, "{old} -> {new}");
    }
}
