//! One JSON object to one message, by the table of types: the way back of `message.rs`.
//!
//! What is written, and in which order, is what upstream's generated code writes: fields by number, fields of Go
//! types without a pointer always (also when they are zero), lists and maps when they have something in them, numbers
//! of a list one by one. Fields that the table does not know have no number and are left out, as Go drops them.

use super::special;
use super::writer::Writer;
use crate::codec::DEPTH_MAX;
use crate::schema::table::{Field, Shape, Table, TypeId, Wire};
use base64::Engine as _;
use serde_json::{Map, Value};

/// A value that is not of its field's type. Objects are checked when they are written, so this is another writer's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("field {field:?} cannot be written as protobuf: {reason}")]
pub struct EncodeError {
    /// Names from the object down, `spec.replicas`.
    pub field: String,
    pub reason: String,
}

impl EncodeError {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        EncodeError {
            field: String::new(),
            reason: reason.into(),
        }
    }

    fn within(mut self, name: &str) -> Self {
        self.field = match self.field.as_str() {
            "" => name.to_owned(),
            rest => format!("{name}.{rest}"),
        };
        self
    }
}

/// Encodes messages with the types of one table.
pub(super) struct Encoder {
    table: &'static Table,
}

impl Encoder {
    pub fn new(table: &'static Table) -> Self {
        Encoder { table }
    }

    /// Appends the fields of a message.
    pub fn message(
        &self,
        ty: TypeId,
        object: &Map<String, Value>,
        out: &mut Writer,
        depth: usize,
    ) -> Result<(), EncodeError> {
        if depth > DEPTH_MAX {
            return Err(EncodeError::new("it nests too deep"));
        }
        let ty = self.table.ty(ty);
        for (number, wire) in &ty.wire {
            match wire {
                Wire::Inline(inner) => {
                    out.message(*number, |out| self.message(*inner, object, out, depth + 1))?
                }
                Wire::Field(at) => {
                    let field = &ty.fields[usize::from(*at)];
                    self.field(*number, field, object.get(field.name), out, depth)
                        .map_err(|error| error.within(field.name))?
                }
            }
        }
        Ok(())
    }

    fn field(
        &self,
        number: u32,
        field: &Field,
        value: Option<&Value>,
        out: &mut Writer,
        depth: usize,
    ) -> Result<(), EncodeError> {
        let value = value.filter(|value| !value.is_null());
        match (field.shape, value) {
            (Shape::List(element), Some(Value::Array(items))) => {
                let element = self.table.shape(element);
                items
                    .iter()
                    .try_for_each(|item| self.scalar(number, element, item, out, depth))
            }
            (Shape::Map(element), Some(Value::Object(entries))) => {
                let element = self.table.shape(element);
                entries.iter().try_for_each(|(key, value)| {
                    out.message(number, |out| {
                        out.text(1, key);
                        self.scalar(2, element, value, out, depth)
                    })
                })
            }
            (Shape::List(_), Some(_)) => Err(EncodeError::new("it is not a list")),
            (Shape::Map(_), Some(_)) => Err(EncodeError::new("it is not an object")),
            // Nil slices and maps, and pointers to nothing.
            (Shape::List(_) | Shape::Map(_) | Shape::Bytes | Shape::WrappedStrings, None) => Ok(()),
            (_, None) if field.is_pointer() => Ok(()),
            (shape, value) => self.scalar(number, shape, value.unwrap_or(&Value::Null), out, depth),
        }
    }

    /// A value that is not a list or a map of its own; null is Go's zero value.
    fn scalar(
        &self,
        number: u32,
        shape: Shape,
        value: &Value,
        out: &mut Writer,
        depth: usize,
    ) -> Result<(), EncodeError> {
        let wrong = |what: &str| EncodeError::new(format!("it is not {what}"));
        match shape {
            Shape::Bool => {
                let value = value.as_bool().or(value.is_null().then_some(false));
                out.number(number, value.ok_or_else(|| wrong("a boolean"))?.into());
            }
            Shape::Int32 | Shape::Int64 => {
                let value = integer(value).ok_or_else(|| wrong("an integer"))?;
                out.integer(number, value);
            }
            Shape::Float64 => {
                let value = value.as_f64().or(value.is_null().then_some(0.0));
                out.float(number, value.ok_or_else(|| wrong("a number"))?);
            }
            Shape::String => out.text(number, text(value).ok_or_else(|| wrong("a string"))?),
            Shape::Bytes => {
                let text = text(value).ok_or_else(|| wrong("a string"))?;
                let bytes = base64::engine::general_purpose::STANDARD
                    .decode(text)
                    .map_err(|_| wrong("base64"))?;
                out.bytes(number, &bytes);
            }
            Shape::Struct(id) => {
                let empty = Map::new();
                let object = match value {
                    Value::Object(object) => object,
                    Value::Null => &empty,
                    _ => return Err(wrong("an object")),
                };
                out.message(number, |out| self.message(id, object, out, depth + 1))?;
            }
            Shape::WrappedStrings => {
                let items = value.as_array().map_or(&[][..], Vec::as_slice);
                out.message(number, |out| self.strings(1, items, out))?;
            }
            Shape::List(_) | Shape::Map(_) => return Err(wrong("representable: a list of lists")),
            Shape::SchemaOrBool | Shape::SchemaOrArray | Shape::SchemaOrStrings => {
                out.message(number, |out| self.json_schema(shape, value, out, depth + 1))?;
            }
            special => out.message(number, |out| special::encode(special, value, out))?,
        }
        Ok(())
    }

    fn strings(&self, number: u32, items: &[Value], out: &mut Writer) -> Result<(), EncodeError> {
        items
            .iter()
            .try_for_each(|item| self.scalar(number, Shape::String, item, out, 0))
    }

    /// The three unions of CustomResourceDefinitions' schemas.
    fn json_schema(
        &self,
        shape: Shape,
        value: &Value,
        out: &mut Writer,
        depth: usize,
    ) -> Result<(), EncodeError> {
        let schema = self
            .table
            .named("apiextensions/v1.JSONSchemaProps")
            .map_or(Shape::Raw, Shape::Struct);
        match (shape, value) {
            // Go sets `allows` beside a schema, too.
            (Shape::SchemaOrBool, Value::Object(_)) => {
                out.number(1, 1);
                self.scalar(2, schema, value, out, depth)
            }
            (Shape::SchemaOrBool, allows) => self.scalar(1, Shape::Bool, allows, out, depth),
            (Shape::SchemaOrArray, Value::Array(items)) => items
                .iter()
                .try_for_each(|item| self.scalar(2, schema, item, out, depth)),
            (Shape::SchemaOrStrings, Value::Array(items)) => self.strings(2, items, out),
            (_, Value::Null) => Ok(()),
            (_, one) => self.scalar(1, schema, one, out, depth),
        }
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Null => Some(0),
        Value::Number(number) => number.as_i64().or_else(|| {
            let float = number.as_f64()?;
            // Bounds that an f64 holds exactly.
            (float.fract() == 0.0 && float.abs() < 9.0e18).then_some(float as i64)
        }),
        _ => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Null => Some(""),
        other => other.as_str(),
    }
}
