//! One message to one JSON object, by the table of types.

use super::special;
use super::wire::{BYTES, FIXED64, Reader, Tag, VARINT, WireError};
use crate::codec::DEPTH_MAX;
use crate::schema::table::{Field, Shape, Table, TypeId, Wire};
use base64::Engine as _;
use serde_json::{Map, Value};

/// More values than any object within the body limit has, and a bound on what small bytes unfold to.
const VALUES_MAX: usize = 1_000_000;

/// Decodes messages of one body.
pub(super) struct Decoder {
    table: &'static Table,
    values: usize,
}

impl Decoder {
    pub fn new(table: &'static Table) -> Self {
        Decoder { table, values: 0 }
    }

    /// Adds the fields of a message to an object. A field that comes twice is merged as protobuf merges it.
    pub fn message(
        &mut self,
        ty: TypeId,
        bytes: &[u8],
        object: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), WireError> {
        if depth > DEPTH_MAX {
            return Err(WireError::TooDeep);
        }
        let ty = self.table.ty(ty);
        let mut reader = Reader::new(bytes);
        while let Some(tag) = reader.tag()? {
            match ty.wire(tag.number) {
                None => reader.skip(tag)?,
                Some(Wire::Inline(inner)) => {
                    let bytes = reader.bytes(tag)?;
                    self.message(inner, bytes, object, depth + 1)?;
                }
                Some(Wire::Field(at)) => {
                    self.field(&ty.fields[usize::from(at)], tag, &mut reader, object, depth)?
                }
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        field: &Field,
        tag: Tag,
        reader: &mut Reader<'_>,
        object: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), WireError> {
        let named = |error| in_field(error, field.name);
        match field.shape {
            Shape::List(element) => {
                let element = self.table.shape(element);
                let slot = object
                    .entry(field.name)
                    .or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(items) = slot else {
                    return Ok(());
                };
                if tag.wire == BYTES && packable(element) {
                    let mut packed = Reader::new(reader.bytes(tag).map_err(named)?);
                    while !packed.is_empty() {
                        let wire = if element == Shape::Float64 {
                            FIXED64
                        } else {
                            VARINT
                        };
                        let item = self.scalar(
                            element,
                            Tag {
                                number: tag.number,
                                wire,
                            },
                            &mut packed,
                            depth,
                        );
                        items.push(item.map_err(named)?);
                    }
                } else {
                    items.push(self.scalar(element, tag, reader, depth).map_err(named)?);
                }
            }
            Shape::Map(element) => {
                let entry = reader.bytes(tag).map_err(named)?;
                let element = self.table.shape(element);
                let (key, value) = self.entry(element, entry, depth).map_err(named)?;
                let slot = object
                    .entry(field.name)
                    .or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(entries) = slot {
                    entries.insert(key, value);
                }
            }
            Shape::Struct(id) => {
                let bytes = reader.bytes(tag).map_err(named)?;
                self.count()?;
                let mut inner = match object.remove(field.name) {
                    Some(Value::Object(before)) => before,
                    _ => Map::new(),
                };
                self.message(id, bytes, &mut inner, depth + 1)?;
                if !(inner.is_empty() && field.omit_zero && !field.is_pointer()) {
                    object.insert(field.name.to_owned(), Value::Object(inner));
                }
            }
            shape => {
                let value = self.scalar(shape, tag, reader, depth).map_err(named)?;
                if value.is_null() || (field.omit_empty && !field.is_pointer() && is_zero(&value)) {
                    object.remove(field.name);
                } else {
                    object.insert(field.name.to_owned(), value);
                }
            }
        }
        Ok(())
    }

    /// A value that is not a list or a map of its own.
    fn scalar(
        &mut self,
        shape: Shape,
        tag: Tag,
        reader: &mut Reader<'_>,
        depth: usize,
    ) -> Result<Value, WireError> {
        self.count()?;
        let varint = |reader: &mut Reader<'_>| match tag.wire {
            VARINT => reader.varint(),
            found => Err(WireError::WrongType {
                found,
                field: tag.number.to_string(),
            }),
        };
        Ok(match shape {
            Shape::Bool => Value::Bool(varint(reader)? != 0),
            // Go's decoder keeps the low 32 bits, too.
            Shape::Int32 => Value::from(varint(reader)? as i32),
            Shape::Int64 => Value::from(varint(reader)? as i64),
            Shape::Float64 if tag.wire == FIXED64 => Value::from(f64::from_bits(reader.fixed64()?)),
            Shape::Float64 => {
                return Err(WireError::WrongType {
                    found: tag.wire,
                    field: tag.number.to_string(),
                });
            }
            Shape::String => Value::from(reader.text(tag)?),
            Shape::Bytes => {
                Value::from(base64::engine::general_purpose::STANDARD.encode(reader.bytes(tag)?))
            }
            Shape::Struct(id) => {
                let mut inner = Map::new();
                self.message(id, reader.bytes(tag)?, &mut inner, depth + 1)?;
                Value::Object(inner)
            }
            Shape::WrappedStrings => self.wrapped_strings(reader.bytes(tag)?, depth)?,
            Shape::List(_) | Shape::Map(_) => {
                return Err(WireError::Content {
                    field: tag.number.to_string(),
                    reason: "lists of lists have no message".to_owned(),
                });
            }
            Shape::SchemaOrBool | Shape::SchemaOrArray | Shape::SchemaOrStrings => {
                self.json_schema(shape, reader.bytes(tag)?, depth + 1)?
            }
            special => special::decode(special, reader.bytes(tag)?, depth)?,
        })
    }

    fn entry(
        &mut self,
        shape: Shape,
        bytes: &[u8],
        depth: usize,
    ) -> Result<(String, Value), WireError> {
        let mut reader = Reader::new(bytes);
        let mut key = String::new();
        let mut value = None;
        while let Some(tag) = reader.tag()? {
            match tag.number {
                1 => key = reader.text(tag)?.to_owned(),
                2 => value = Some(self.scalar(shape, tag, &mut reader, depth)?),
                _ => reader.skip(tag)?,
            }
        }
        Ok((key, value.unwrap_or_else(|| absent(shape))))
    }

    fn wrapped_strings(&mut self, bytes: &[u8], depth: usize) -> Result<Value, WireError> {
        let mut reader = Reader::new(bytes);
        let mut items = Vec::new();
        while let Some(tag) = reader.tag()? {
            match tag.number {
                1 => items.push(self.scalar(Shape::String, tag, &mut reader, depth)?),
                _ => reader.skip(tag)?,
            }
        }
        Ok(Value::Array(items))
    }

    /// The three unions of CustomResourceDefinitions' schemas.
    fn json_schema(
        &mut self,
        shape: Shape,
        bytes: &[u8],
        depth: usize,
    ) -> Result<Value, WireError> {
        let schema = self
            .table
            .named("apiextensions/v1.JSONSchemaProps")
            .map_or(Shape::Raw, Shape::Struct);
        let mut reader = Reader::new(bytes);
        let (mut one, mut many, mut allowed) = (None, Vec::new(), false);
        while let Some(tag) = reader.tag()? {
            match (shape, tag.number) {
                (Shape::SchemaOrBool, 1) => {
                    allowed =
                        self.scalar(Shape::Bool, tag, &mut reader, depth)? == Value::Bool(true)
                }
                (Shape::SchemaOrBool, 2) | (_, 1) => {
                    one = Some(self.scalar(schema, tag, &mut reader, depth)?)
                }
                (Shape::SchemaOrArray, 2) => {
                    many.push(self.scalar(schema, tag, &mut reader, depth)?)
                }
                (Shape::SchemaOrStrings, 2) => {
                    many.push(self.scalar(Shape::String, tag, &mut reader, depth)?)
                }
                _ => reader.skip(tag)?,
            }
        }
        Ok(match (one, shape) {
            (_, Shape::SchemaOrArray | Shape::SchemaOrStrings) if !many.is_empty() => {
                Value::Array(many)
            }
            (Some(one), _) => one,
            (None, Shape::SchemaOrBool) => Value::Bool(allowed),
            (None, _) => Value::Null,
        })
    }

    fn count(&mut self) -> Result<(), WireError> {
        self.values += 1;
        if self.values > VALUES_MAX {
            Err(WireError::TooManyValues)
        } else {
            Ok(())
        }
    }
}

fn packable(shape: Shape) -> bool {
    matches!(
        shape,
        Shape::Bool | Shape::Int32 | Shape::Int64 | Shape::Float64
    )
}

/// What Go's `omitempty` leaves out. Quantities and IntOrStrings are structs, which it keeps.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// The value of a map's entry that says none.
fn absent(shape: Shape) -> Value {
    match shape {
        Shape::Bool => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Float64 | Shape::IntOrString => Value::from(0),
        Shape::Struct(_) => Value::Object(Map::new()),
        Shape::WrappedStrings => Value::Array(Vec::new()),
        Shape::Quantity => Value::from("0"),
        Shape::String | Shape::Bytes => Value::from(""),
        _ => Value::Null,
    }
}

/// Names the field in an error that knows only its number.
fn in_field(error: WireError, name: &str) -> WireError {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match error {
        WireError::WrongType { found, field } if digits(&field) => WireError::WrongType {
            found,
            field: name.to_owned(),
        },
        WireError::NotText(field) if digits(&field) => WireError::NotText(name.to_owned()),
        WireError::Content { field, reason } if digits(&field) => WireError::Content {
            field: name.to_owned(),
            reason,
        },
        other => other,
    }
}
