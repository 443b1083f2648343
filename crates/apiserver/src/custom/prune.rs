//! Pruning: what a schema does not know is dropped, and nulls that mean nothing are (upstream
//! `pkg/apiserver/schema/pruning` and `.../defaulting/prunenulls.go`).

use serde_json::{Map, Value};

use super::schema::{Additional, Schema};

/// Upstream stops collecting there too.
const UNKNOWN_MAX: usize = 100;

/// Drops what the schema does not know; returns the paths of what was dropped: `spec.foo`, `spec.list[0].foo`.
/// Identity and metadata of the object itself are not the schema's.
pub fn prune(schema: &Schema, object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    value(schema, object, "", true, &mut unknown);
    unknown
}

fn value(schema: &Schema, object: &mut Value, path: &str, root: bool, unknown: &mut Vec<String>) {
    match object {
        Value::Object(map) => members(schema, map, path, root, unknown),
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                for (n, item) in list.iter_mut().enumerate() {
                    value(items, item, &format!("{path}[{n}]"), false, unknown);
                }
            }
        }
        _ => {}
    }
}

fn members(
    schema: &Schema,
    map: &mut Map<String, Value>,
    path: &str,
    root: bool,
    unknown: &mut Vec<String>,
) {
    let resource = root || schema.embedded;
    map.retain(|key, member| {
        if resource && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            return true;
        }
        let here = join(path, key);
        if let Some(known) = schema.member(key) {
            value(known, member, &here, false, unknown);
            return true;
        }
        if schema.preserve || matches!(schema.additional, Additional::Any) {
            return true;
        }
        if unknown.len() < UNKNOWN_MAX {
            unknown.push(here);
        }
        false
    });
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Drops nulls where null is no value and there is no default to take its place.
pub fn prune_nulls(schema: &Schema, object: &mut Value) {
    match object {
        Value::Object(map) => {
            map.retain(|key, member| {
                !member.is_null()
                    || schema
                        .member(key)
                        .is_none_or(|known| known.nullable || known.default.is_some())
            });
            for (key, member) in map.iter_mut() {
                if let Some(known) = schema.member(key) {
                    prune_nulls(known, member);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                list.iter_mut().for_each(|item| prune_nulls(items, item));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::schema;
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_fields_go_and_are_told() {
        let schema = schema(json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "a": {"type": "string"},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {"known": {"type": "object", "properties": {"x": {"type": "string"}}}}},
                "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"x": {"type": "string"}}}},
                "any": {"type": "object", "additionalProperties": true},
                "list": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "string"}}}},
                "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}},
                "port": {"x-kubernetes-int-or-string": true},
            }},
        }}));
        let mut object = json!({"apiVersion": "v", "kind": "K", "metadata": {"name": "a"}, "top": 1, "spec": {
            "a": "1", "b": 2, "port": 80,
            "free": {"y": {"z": 1}, "known": {"x": "", "y": 1}},
            "map": {"k": {"x": "", "y": 1}},
            "any": {"k": {"y": 1}},
            "list": [{"x": ""}, {"y": 1}],
            "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {}}, "spec": {"q": 1}, "z": 1},
        }});
        let mut unknown = prune(&schema, &mut object);
        unknown.sort();
        assert_eq!(
            unknown,
            [
                "spec.b",
                "spec.free.known.y",
                "spec.list[1].y",
                "spec.map.k.y",
                "spec.pod.spec.q",
                "spec.pod.z",
                "top"
            ]
        );
        assert_eq!(
            object,
            json!({"apiVersion": "v", "kind": "K", "metadata": {"name": "a"}, "spec": {
                "a": "1", "port": 80, "free": {"y": {"z": 1}, "known": {"x": ""}}, "map": {"k": {"x": ""}},
                "any": {"k": {"y": 1}}, "list": [{"x": ""}, {}],
                "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {}}, "spec": {}},
            }})
        );
        assert!(
            prune(&schema, &mut object).is_empty(),
            "nothing is left to drop"
        );
    }

    #[test]
    fn nulls_without_meaning_go() {
        let schema = schema(json!({"type": "object", "properties": {
            "a": {"type": "string"}, "b": {"type": "string", "nullable": true},
            "c": {"type": "string", "default": "x"},
            "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
        }}));
        let mut object = json!({"a": null, "b": null, "c": null, "list": [{"a": null}, null]});
        prune_nulls(&schema, &mut object);
        assert_eq!(object, json!({"b": null, "c": null, "list": [{}, null]}));
    }
}
