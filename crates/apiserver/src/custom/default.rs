//! Defaulting by schema (upstream `pkg/apiserver/schema/defaulting`).

use serde_json::Value;

use super::schema::Schema;

/// Fills in what is missing, outermost first: a default may have members that have defaults themselves.
pub fn default(schema: &Schema, object: &mut Value) {
    match object {
        Value::Object(map) => {
            for (name, property) in &schema.properties {
                let Some(value) = &property.default else {
                    continue;
                };
                match map.get(name) {
                    Some(Value::Null) if !property.nullable => {}
                    Some(_) => continue,
                    None => {}
                }
                map.insert(name.clone(), value.clone());
            }
            for (key, member) in map.iter_mut() {
                if let Some(known) = schema.member(key) {
                    if member.is_null()
                        && !known.nullable
                        && let Some(value) = &known.default
                    {
                        *member = value.clone();
                    }
                    default(known, member);
                }
            }
        }
        Value::Array(list) => {
            let Some(items) = &schema.items else {
                return;
            };
            for item in list {
                if item.is_null()
                    && !items.nullable
                    && let Some(value) = &items.default
                {
                    *item = value.clone();
                }
                default(items, item);
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
    fn what_is_missing_is_filled_in() {
        let schema = schema(json!({"type": "object", "properties": {
            "spec": {"type": "object", "default": {}, "properties": {
                "size": {"type": "integer", "default": 3},
                "mode": {"type": "string", "nullable": true, "default": "fast"},
                "deep": {"type": "object", "properties": {"x": {"type": "string", "default": "y"}}},
                "list": {"type": "array", "items": {"type": "object", "properties": {"p": {"type": "string", "default": "TCP"}}}},
                "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"p": {"type": "string", "default": "q"}}}},
            }},
        }}));
        // object, object with defaults
        let cases = [
            (json!({}), json!({"spec": {"size": 3, "mode": "fast"}})),
            (
                json!({"spec": {"size": null, "mode": null}}),
                json!({"spec": {"size": 3, "mode": null}}),
            ),
            (
                json!({"spec": {"size": 1, "mode": "m", "deep": {}}}),
                json!({"spec": {"size": 1, "mode": "m", "deep": {"x": "y"}}}),
            ),
            (
                json!({"spec": {"size": 1, "mode": "m", "list": [{}, {"p": "UDP"}], "map": {"k": {}}}}),
                json!({"spec": {"size": 1, "mode": "m", "list": [{"p": "TCP"}, {"p": "UDP"}], "map": {"k": {"p": "q"}}}}),
            ),
            (json!({"spec": "text"}), json!({"spec": "text"})),
        ];
        for (mut object, expected) in cases {
            default(&schema, &mut object);
            assert_eq!(object, expected);
        }
    }
}
