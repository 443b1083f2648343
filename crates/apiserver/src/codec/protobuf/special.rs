//! The types that Kubernetes encodes in its own way: quantities, times, numbers-or-strings, raw JSON.

use super::encode::EncodeError;
use super::wire::{Reader, VARINT, WireError};
use super::writer::Writer;
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

/// The fields of a special message from its JSON; null is Go's zero value.
pub(super) fn encode(shape: Shape, value: &Value, out: &mut Writer) -> Result<(), EncodeError> {
    match shape {
        Shape::Quantity => match value {
            Value::Null => out.text(1, "0"),
            Value::String(text) => out.text(1, text),
            Value::Number(number) => out.text(1, &number.to_string()),
            _ => return Err(EncodeError::new("it is not a quantity")),
        },
        Shape::IntOrString => {
            let (kind, number, text) = match value {
                Value::Null => (0, 0, ""),
                Value::String(text) => (1, 0, text.as_str()),
                Value::Number(number) => {
                    let number = number.as_i64().and_then(|n| i32::try_from(n).ok());
                    let number = number.ok_or_else(|| EncodeError::new("it is not an int32"))?;
                    (0, number, "")
                }
                _ => return Err(EncodeError::new("it is not a number or a string")),
            };
            out.integer(1, kind);
            out.integer(2, number.into());
            out.text(3, text);
        }
        Shape::Time | Shape::MicroTime => {
            // The zero time is an empty message.
            let Some(text) = value.as_str().filter(|text| !text.is_empty()) else {
                return match value {
                    Value::Null | Value::String(_) => Ok(()),
                    _ => Err(EncodeError::new("it is not a time")),
                };
            };
            let at: jiff::Timestamp = text
                .parse()
                .map_err(|_| EncodeError::new("it is not a time of RFC 3339"))?;
            // Time knows whole seconds, rounded down; MicroTime knows microseconds.
            let nanos = at.as_nanosecond().rem_euclid(1_000_000_000);
            let seconds = at.as_nanosecond().div_euclid(1_000_000_000) as i64;
            let micros = shape == Shape::MicroTime;
            out.integer(1, seconds);
            out.integer(
                2,
                if micros {
                    (nanos / 1000 * 1000) as i64
                } else {
                    0
                },
            );
        }
        // JSON is carried as text.
        _ if value.is_null() => {}
        _ => out.text(1, &value.to_string()),
    }
    Ok(())
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
