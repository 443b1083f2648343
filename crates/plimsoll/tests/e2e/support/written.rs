//! Objects as people wrote them, beside what the server gives back.

use autoscale::quantity::Quantity;
use serde_json::Value;

/// The documents of a file; the items of lists are documents. What is no YAML has none.
pub fn documents(text: &str) -> Vec<Value> {
    let read: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_default();
    read.into_iter()
        .flat_map(|document| match document["items"].as_array() {
            Some(items) => items.clone(),
            None => vec![document],
        })
        .filter(|document| document.is_object())
        .collect()
}

/// A text by its pointer; absent is empty.
pub fn text<'a>(document: &'a Value, pointer: &str) -> &'a str {
    document
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// What was written and is not read. The server's own fields and what says nothing do not count.
pub fn lost(written: &Value, read: &Value) -> Vec<String> {
    let mut written = written.clone();
    if let Some(metadata) = written["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
        metadata.remove("creationTimestamp");
        if let Some(annotations) = metadata
            .get_mut("annotations")
            .and_then(Value::as_object_mut)
        {
            // kubectl's own
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    if let Some(fields) = written.as_object_mut() {
        fields.remove("status");
        if let Some(Value::Object(texts)) = fields.remove("stringData") {
            use base64::Engine;
            let data = fields
                .entry("data")
                .or_insert_with(|| serde_json::json!({}));
            for (key, text) in texts {
                let text = text.as_str().unwrap_or_default();
                data[key] = base64::engine::general_purpose::STANDARD
                    .encode(text)
                    .into();
            }
        }
    }
    let mut found = Vec::new();
    compare(&written, read, "", &mut found);
    found
}

fn compare(written: &Value, read: &Value, path: &str, found: &mut Vec<String>) {
    match written {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, value) in fields {
                match read.get(name) {
                    Some(read) => compare(value, read, &format!("{path}.{name}"), found),
                    None if says_nothing(value) => {}
                    None => found.push(format!("{path}.{name} is lost")),
                }
            }
        }
        Value::Array(items) => {
            let read = read.as_array().map(Vec::as_slice).unwrap_or_default();
            if read.len() < items.len() {
                found.push(format!(
                    "{path} has {} items of {}",
                    read.len(),
                    items.len()
                ));
            }
            for (at, (item, read)) in items.iter().zip(read).enumerate() {
                compare(item, read, &format!("{path}[{at}]"), found);
            }
        }
        // a number where the API has a text
        plain if plain == read || read.as_str() == Some(format!("{plain}").as_str()) => {}
        // octal as YAML 1.1 has it, which the parser here takes for decimal
        Value::Number(octal)
            if read
                .as_u64()
                .is_some_and(|n| octal.as_f64() == format!("{n:o}").parse().ok()) => {}
        // a quantity in its canonical form
        plain if amount(plain).is_some() && amount(plain) == amount(read) => {}
        plain => found.push(format!("{path} is {read} instead of {plain}")),
    }
}

/// Null, and what holds no more than that: kubectl leaves it out.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(says_nothing),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// The amount that a text or number stands for, if it can be one.
fn amount(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}
