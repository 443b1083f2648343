//! Defaults of a schema.

use serde_json::Value;

use super::members;
use crate::custom::schema::{NODES_MAX, Schema};
use crate::custom::{default, prune, validate};
use crate::registry::Problems;

/// Defaults fit their own schema.
pub(super) fn defaults(schema: &Value, field: &str, problems: &mut Problems) {
    if let Some(value) = schema.get("default").filter(|value| !value.is_null()) {
        let mut left = NODES_MAX;
        if let Some(read) = Schema::read(schema, &mut left) {
            let here = format!("{field}.default");
            let mut pruned = value.clone();
            // identity and metadata are a resource's, which this is only if the schema says so
            let unknown = prune::prune(&read, &mut pruned);
            if !unknown.is_empty() {
                problems.invalid(
                    &here,
                    value,
                    &format!("must not have unknown fields: {}", unknown.join(", ")),
                );
            }
            default::default(&read, &mut pruned);
            let mut found = Problems::default();
            validate::validate(&read, &pruned, None, &mut found);
            for mut cause in found.0 {
                let inner = if cause.field == "<nil>" {
                    String::new()
                } else {
                    format!(".{}", cause.field)
                };
                cause.field = format!("{here}{inner}");
                problems.0.push(cause);
            }
        }
    }
    if schema["items"].is_object() {
        defaults(&schema["items"], &format!("{field}.items"), problems);
    }
    if schema["additionalProperties"].is_object() {
        defaults(
            &schema["additionalProperties"],
            &format!("{field}.additionalProperties"),
            problems,
        );
    }
    for (name, property) in members(schema) {
        defaults(property, &format!("{field}.properties[{name}]"), problems);
    }
}
