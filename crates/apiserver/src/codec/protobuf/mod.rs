//! Kubernetes' protobuf: the `k8s\0` envelope, and messages decoded by the table of types to JSON.
//!
//! The result is what a Go client would have sent as JSON: zero values that Go's `omitempty` leaves out are left
//! out, except where the Go field is a pointer and zero was said. Unknown field numbers are skipped, as upstream does.

mod encode;
mod message;
mod special;
#[cfg(test)]
mod tests;
mod wire;
mod writer;

use super::DecodeError;
use crate::schema::Gvk;
use crate::schema::table::{Shape, Table, TypeId, Wire};
use serde_json::{Map, Value};
use wire::{Reader, WireError};

pub use encode::EncodeError;
pub(crate) use writer::Writer;

/// The four bytes before every body.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// The content type of an envelope.
pub const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// Whether objects of the kind have a protobuf form. Those of custom kinds do not.
pub fn has_form(gvk: &Gvk) -> bool {
    let table = Table::get();
    table
        .kind(gvk)
        .is_some_and(|ty| !table.ty(ty).wire.is_empty())
}

/// Encodes an object with its envelope, by its own `apiVersion` and `kind`.
pub fn encode(object: &Value) -> Result<Vec<u8>, EncodeError> {
    let mut message = Writer::with_capacity(512);
    let gvk = encode_into(object, &mut message)?;
    Ok(enveloped(&gvk, &message.into_bytes()))
}

/// Encodes the message of a kind without an envelope.
pub fn encode_message(gvk: &Gvk, object: &Value) -> Result<Vec<u8>, EncodeError> {
    let mut out = Writer::default();
    message_into(gvk, object, &mut out)?;
    Ok(out.into_bytes())
}

/// One event of a watch stream: four bytes of length and a `WatchEvent` without an envelope, in which the object has one.
pub fn encode_event(kind: &str, object: &Value) -> Result<Vec<u8>, EncodeError> {
    let object = encode(object)?;
    let mut out = Writer::with_capacity(object.len() + kind.len() + 24);
    out.raw(&[0; 4]);
    out.text(1, kind);
    out.message(2, |out| {
        out.bytes(1, &object);
        Ok::<_, EncodeError>(())
    })?;
    let mut frame = out.into_bytes();
    let length = u32::try_from(frame.len() - 4)
        .map_err(|_| EncodeError::new("the event is longer than a frame can be"))?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// A list that grows item by item, so that no more than one item is unfolded at a time.
pub struct List {
    gvk: Gvk,
    item: TypeId,
    items: u32,
    out: Writer,
}

impl List {
    /// An empty list of the list kind `gvk`; none if that has no protobuf form.
    pub fn new(gvk: Gvk, metadata: &Value) -> Result<Option<List>, EncodeError> {
        let table = Table::get();
        let Some(ty) = table.kind(&gvk).map(|ty| table.ty(ty)) else {
            return Ok(None);
        };
        let items = ty.wire.iter().find_map(|(number, wire)| match wire {
            Wire::Field(at) if ty.fields[usize::from(*at)].name == "items" => {
                match ty.fields[usize::from(*at)].shape {
                    Shape::List(element) => match table.shape(element) {
                        Shape::Struct(item) => Some((*number, item)),
                        _ => None,
                    },
                    _ => None,
                }
            }
            _ => None,
        });
        let Some((items, item)) = items else {
            return Ok(None);
        };
        let mut out = Writer::with_capacity(4096);
        message_into(&gvk, &serde_json::json!({ "metadata": metadata }), &mut out)?;
        Ok(Some(List {
            gvk,
            item,
            items,
            out,
        }))
    }

    /// Appends an item.
    pub fn push(&mut self, object: &Value) -> Result<(), EncodeError> {
        let (item, encoder) = (self.item, encode::Encoder::new(Table::get()));
        let object = object.as_object();
        let object = object.ok_or_else(|| EncodeError::new("an item is not an object"))?;
        self.out
            .message(self.items, |out| encoder.message(item, object, out, 1))
    }

    /// The list in its envelope.
    pub fn finish(self) -> Vec<u8> {
        enveloped(&self.gvk, &self.out.into_bytes())
    }
}

fn encode_into(object: &Value, out: &mut Writer) -> Result<Gvk, EncodeError> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = match text("apiVersion") {
        version if version.contains('/') => version.split_once('/').unwrap_or_default(),
        version => ("", version),
    };
    let gvk = Gvk::gvk(group, version, text("kind"));
    message_into(&gvk, object, out)?;
    Ok(gvk)
}

fn message_into(gvk: &Gvk, object: &Value, out: &mut Writer) -> Result<(), EncodeError> {
    let table = Table::get();
    let ty = table.kind(gvk).ok_or_else(|| {
        EncodeError::new(format!(
            "{} in version {:?} has no protobuf form",
            gvk.kind,
            gvk.api_version()
        ))
    })?;
    let object = object
        .as_object()
        .ok_or_else(|| EncodeError::new("it is not an object"))?;
    encode::Encoder::new(table).message(ty, object, out, 0)
}

/// `message Unknown { TypeMeta typeMeta = 1; bytes raw = 2; string contentEncoding = 3; string contentType = 4 }`
fn enveloped(gvk: &Gvk, message: &[u8]) -> Vec<u8> {
    let mut out = Writer::with_capacity(message.len() + 96);
    out.raw(MAGIC);
    let _: Result<(), EncodeError> = out.message(1, |out| {
        out.text(1, &gvk.api_version());
        out.text(2, &gvk.kind);
        Ok(())
    });
    out.bytes(2, message);
    out.text(3, "");
    out.text(4, "");
    out.into_bytes()
}

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
