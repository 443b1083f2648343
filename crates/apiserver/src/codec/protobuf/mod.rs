//! Kubernetes' protobuf: the `k8s\0` envelope, and messages decoded by the table of types to JSON.
//!
//! The result is what a Go client would have sent as JSON: zero values that Go's `omitempty` leaves out are left
//! out, except where the Go field is a pointer and zero was said. Unknown field numbers are skipped, as upstream does.

mod message;
mod special;
mod wire;

use super::DecodeError;
use crate::schema::Gvk;
use crate::schema::table::Table;
use serde_json::{Map, Value};
use wire::{Reader, WireError};

/// The four bytes before every body.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// The content type of an envelope.
pub const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What an envelope (`runtime.Unknown`) carries, undecoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub raw: &'a [u8],
    pub content_encoding: &'a str,
    pub content_type: &'a str,
}

/// Decodes an envelope and the object in it. `hint` gives the kind if the envelope does not.
pub fn decode(body: &[u8], hint: Option<&Gvk>) -> Result<Value, DecodeError> {
    decode_nested(body, hint, 0)
}

/// Decodes the message of a kind without an envelope.
pub fn decode_message(gvk: &Gvk, raw: &[u8]) -> Result<Value, DecodeError> {
    let table = Table::get();
    let ty = table.kind(gvk).ok_or_else(|| no_kind(gvk))?;
    let mut object = Map::new();
    message::Decoder::new(table)
        .message(ty, raw, &mut object, 0)
        .map_err(|error| malformed(gvk, &error))?;
    Ok(Value::Object(object))
}

/// Reads an envelope.
pub fn envelope(body: &[u8]) -> Result<Envelope<'_>, DecodeError> {
    let unreadable = |reason: &str| {
        DecodeError::Malformed(format!(
            "the body is not a protobuf envelope of Kubernetes: {reason}"
        ))
    };
    let bytes = body
        .strip_prefix(MAGIC)
        .ok_or_else(|| unreadable("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"))?;
    read_envelope(bytes).map_err(|error| unreadable(&error.to_string()))
}

fn read_envelope(bytes: &[u8]) -> Result<Envelope<'_>, WireError> {
    let mut out = Envelope::default();
    let mut reader = Reader::new(bytes);
    while let Some(tag) = reader.tag()? {
        match tag.number {
            1 => {
                let mut type_meta = Reader::new(reader.bytes(tag)?);
                while let Some(tag) = type_meta.tag()? {
                    match tag.number {
                        1 => out.api_version = type_meta.text(tag)?,
                        2 => out.kind = type_meta.text(tag)?,
                        _ => type_meta.skip(tag)?,
                    }
                }
            }
            2 => out.raw = reader.bytes(tag)?,
            3 => out.content_encoding = reader.text(tag)?,
            4 => out.content_type = reader.text(tag)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(out)
}

fn decode_nested(body: &[u8], hint: Option<&Gvk>, depth: usize) -> Result<Value, DecodeError> {
    let envelope = envelope(body)?;
    if !envelope.content_encoding.is_empty() {
        let encoding = envelope.content_encoding;
        return Err(DecodeError::Malformed(format!(
            "the protobuf envelope's content encoding {encoding:?} is not read here"
        )));
    }
    let gvk = kind_of(&envelope, hint)?;
    let mut value = match envelope.content_type {
        "" | CONTENT_TYPE => {
            let table = Table::get();
            let ty = table.kind(&gvk).ok_or_else(|| no_kind(&gvk))?;
            let mut object = Map::new();
            let decoded =
                message::Decoder::new(table).message(ty, envelope.raw, &mut object, depth);
            decoded.map_err(|error| malformed(&gvk, &error))?;
            Value::Object(object)
        }
        "application/json" => super::json::decode(envelope.raw)?.0,
        other => {
            return Err(DecodeError::Malformed(format!(
                "the protobuf envelope's content type {other:?} is not read here"
            )));
        }
    };
    if let Some(object) = value.as_object_mut() {
        object.insert("apiVersion".to_owned(), gvk.api_version().into());
        object.insert("kind".to_owned(), gvk.kind.into());
    }
    Ok(value)
}

fn kind_of(envelope: &Envelope<'_>, hint: Option<&Gvk>) -> Result<Gvk, DecodeError> {
    let (api_version, kind) = (envelope.api_version, envelope.kind);
    if kind.is_empty() || api_version.is_empty() {
        let known = hint.cloned().map(|mut gvk| {
            if !kind.is_empty() {
                gvk.kind = kind.to_owned();
            }
            gvk
        });
        return known.ok_or_else(|| {
            DecodeError::Malformed("Object 'Kind' is missing in the protobuf envelope".to_owned())
        });
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Ok(Gvk::gvk(group, version, kind))
}

fn no_kind(gvk: &Gvk) -> DecodeError {
    DecodeError::Malformed(format!(
        "no kind {:?} is registered for version {:?} in the protobuf types of this server",
        gvk.kind,
        gvk.api_version()
    ))
}

fn malformed(gvk: &Gvk, error: &WireError) -> DecodeError {
    match error {
        WireError::TooDeep | WireError::TooManyValues => DecodeError::Limit(error.to_string()),
        _ => DecodeError::Malformed(format!(
            "unable to decode protobuf as {}: {error}",
            gvk.kind
        )),
    }
}
