//! The types that Kubernetes encodes in its own way: quantities, times, numbers-or-strings, raw JSON.

use super::wire::{Reader, VARINT, WireError};
use super::{MAGIC, decode_nested};
use crate::codec::{DEPTH_MAX, json};
use crate::schema::table::Shape;
use serde_json::Value;

/// JSON of a special message. Null is the zero value that JSON leaves out.
pub(super) fn decode(shape: Shape, bytes: &[u8], depth: usize) -> Result<Value, WireError> {
    match shape {
        Shape::Quantity => quantity(bytes),
        Shape::IntOrString => int_or_string(bytes),
        Shape::Time => time(bytes, false),
        Shape::MicroTime => time(bytes, true),
        _ => raw(bytes, depth),
    }
}

/// `message Quantity { string string = 1 }`
fn quantity(bytes: &[u8]) -> Result<Value, WireError> {
    let mut reader = Reader::new(bytes);
    let mut text = "0";
    while let Some(tag) = reader.tag()? {
        match tag.number {
            1 => text = reader.text(tag)?,
            _ => reader.skip(tag)?,
        }
    }
    let text = if text.is_empty() { "0" } else { text };
    let parsed: crate::quantity::Quantity = text
        .parse()
        .map_err(|error: crate::quantity::QuantityError| content(error.to_string()))?;
    Ok(Value::from(parsed.to_string()))
}

/// `message IntOrString { int64 type = 1; int32 intVal = 2; string strVal = 3 }`
fn int_or_string(bytes: &[u8]) -> Result<Value, WireError> {
    let mut reader = Reader::new(bytes);
    let (mut kind, mut number, mut text) = (0, 0, "");
    while let Some(tag) = reader.tag()? {
        match (tag.number, tag.wire) {
            (1, VARINT) => kind = reader.varint()?,
            (2, VARINT) => number = reader.varint()? as i32,
            (3, _) => text = reader.text(tag)?,
            _ => reader.skip(tag)?,
        }
    }
    match kind {
        0 => Ok(Value::from(number)),
        1 => Ok(Value::from(text)),
        other => Err(content(format!("impossible IntOrString.Type {other}"))),
    }
}

/// `message Timestamp { int64 seconds = 1; int32 nanos = 2 }`; nothing in it is the zero time.
fn time(bytes: &[u8], micros: bool) -> Result<Value, WireError> {
    let mut reader = Reader::new(bytes);
    let (mut seconds, mut nanos) = (0i64, 0i32);
    let mut empty = true;
    while let Some(tag) = reader.tag()? {
        match (tag.number, tag.wire) {
            (1, VARINT) => (seconds, empty) = (reader.varint()? as i64, false),
            (2, VARINT) => (nanos, empty) = (reader.varint()? as i32, false),
            _ => reader.skip(tag)?,
        }
    }
    // Go's zero time, the first second of the year 1.
    if empty || seconds == -62_135_596_800 {
        return Ok(Value::Null);
    }
    // Years beyond four digits have no RFC 3339 form.
    if !(-62_135_596_800..=253_402_300_799).contains(&seconds)
        || !(0..1_000_000_000).contains(&nanos)
    {
        return Err(content(format!(
            "a time of {seconds} seconds and {nanos} nanoseconds is out of range"
        )));
    }
    let at = jiff::Timestamp::new(seconds, nanos).map_err(|error| content(error.to_string()))?;
    let format = if micros {
        "%Y-%m-%dT%H:%M:%S.%6fZ"
    } else {
        "%Y-%m-%dT%H:%M:%SZ"
    };
    Ok(Value::from(at.strftime(format).to_string()))
}

/// `message RawExtension { bytes raw = 1 }`, and FieldsV1 and JSON alike: JSON text, or an envelope again.
fn raw(bytes: &[u8], depth: usize) -> Result<Value, WireError> {
    let mut reader = Reader::new(bytes);
    let mut raw: &[u8] = &[];
    while let Some(tag) = reader.tag()? {
        match tag.number {
            1 => raw = reader.bytes(tag)?,
            _ => reader.skip(tag)?,
        }
    }
    if raw.is_empty() {
        return Ok(Value::Null);
    }
    if raw.starts_with(MAGIC) {
        if depth >= DEPTH_MAX {
            return Err(WireError::TooDeep);
        }
        return decode_nested(raw, None, depth + 1).map_err(|error| content(error.to_string()));
    }
    json::decode(raw)
        .map(|(value, _)| value)
        .map_err(|error| content(error.to_string()))
}

fn content(reason: String) -> WireError {
    WireError::Content {
        field: String::new(),
        reason,
    }
}
