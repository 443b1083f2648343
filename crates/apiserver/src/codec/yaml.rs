//! YAML bodies: one document, JSON's data model, bounded aliases.

use super::tree::Tree;
use super::{DEPTH_MAX, DecodeError, Duplicate};
use serde_json::Value;

/// Events that aliases may add to a document, and the most that a document may have.
const REPLAYED_EVENTS_MAX: usize = 20_000;
const EVENTS_MAX: usize = 1_000_000;

/// The YAML reader takes up to 25 KB of stack for a level of nesting in a build without optimisation.
const STACK_BYTES: usize = 64 * 1024 * DEPTH_MAX;

/// The value of a body and the fields it gives more than once. JSON is YAML, so it is read too, and faster.
pub fn decode(body: &[u8]) -> Result<(Value, Vec<Duplicate>), DecodeError> {
    let text = std::str::from_utf8(body).map_err(|error| {
        DecodeError::Malformed(format!(
            "error converting YAML to JSON: yaml: invalid UTF-8: {error}"
        ))
    })?;
    if text.trim_start().starts_with('{')
        && let Ok(decoded) = super::json::decode(body)
    {
        return Ok(decoded);
    }
    // A thread of its own, because the caller's stack may be too small for what the depth limit allows.
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new()
            .name("yaml".to_owned())
            .stack_size(STACK_BYTES);
        let thread = reader.spawn_scoped(scope, || read(text)).map_err(|error| {
            DecodeError::Limit(format!(
                "the YAML body could not be read: no thread for it: {error}"
            ))
        })?;
        thread
            .join()
            .unwrap_or_else(|_| Err(failure("the reader failed")))
    })
}

/// The text of a value. None for what nests deeper than any body may.
pub fn encode(value: &Value) -> Option<String> {
    serde_saphyr::to_string(value).ok()
}

fn read(text: &str) -> Result<(Value, Vec<Duplicate>), DecodeError> {
    let mut duplicates = Vec::new();
    let text = first_document(text);
    let value =
        serde_saphyr::with_deserializer_from_str_with_options(text, options(), |deserializer| {
            Tree::read(deserializer, &mut duplicates)
        });
    match value {
        Ok(mut value) => {
            whole_numbers(&mut value);
            Ok((value, duplicates))
        }
        Err(error) => Err(failure(&error.to_string())),
    }
}

/// The text without the mark of a second document that has nothing in it: files are cut, and put together, at such marks.
fn first_document(text: &str) -> &str {
    let end = text.trim_end();
    let cut = end.strip_suffix("\n---").or(end.strip_suffix("\n..."));
    cut.unwrap_or(text)
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_events: EVENTS_MAX,
            max_nodes: EVENTS_MAX,
            max_aliases: REPLAYED_EVENTS_MAX,
            max_documents: 1,
            max_inclusion_depth: 0,
        },
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::PassThrough,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: REPLAYED_EVENTS_MAX,
            max_replay_stack_depth: 16,
        },
        with_snippet: false,
        // `defaultMode: 0755` is octal, as in every manifest.
        legacy_octal_numbers: true,
    }
}

fn failure(message: &str) -> DecodeError {
    let limit = ["budget", "limit", "depth"]
        .iter()
        .any(|word| message.contains(word));
    if limit {
        DecodeError::Limit(format!("the YAML body is too large or too deep: {message}"))
    } else {
        DecodeError::Malformed(format!("error converting YAML to JSON: yaml: {message}"))
    }
}

/// `3.0` in YAML is `3` in the JSON that upstream makes of it.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(float) = number.as_f64().filter(|_| number.is_f64())
                && float.fract() == 0.0
                && float.abs() < 9e15
            {
                *value = Value::from(float as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        _ => {}
    }
}
