//! One walk over an object beside its type: unknown fields and values of the wrong JSON type.

use super::gotext::{quote, time_error, type_name};
use super::table::{Shape, Table, TypeId, map_element};
use crate::quantity::{Quantity, QuantityError};
use base64::Engine as _;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt::Write;

/// Upstream stops collecting there too.
const PROBLEMS_MAX: usize = 100;

/// What is wrong with an object.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// `unknown field "spec.foo"`, one for each.
    pub unknown: Vec<String>,
    /// The first value that could not be decoded, as Go's decoder words it.
    pub type_error: Option<String>,
}

/// Compares an object with a type.
pub(super) fn check(table: &'static Table, ty: TypeId, object: &Value) -> Report {
    let mut walk = Walk {
        table,
        unknown: Vec::new(),
        stopped: None,
        noted: None,
    };
    let root = Path {
        parent: None,
        segment: Segment::Root,
    };
    let place = Place {
        go_type: table.ty(ty).go_name,
        owner: "",
    };
    walk.value(Shape::Struct(ty), place, object, &root);
    Report {
        unknown: walk.unknown,
        type_error: walk.stopped.or(walk.noted),
    }
}

struct Walk {
    table: &'static Table,
    unknown: Vec<String>,
    /// Go's decoder notes a mismatch and goes on, but stops at an error of a type that decodes itself: that one is
    /// what it reports.
    stopped: Option<String>,
    noted: Option<String>,
}

/// The way to a value, kept on the call stack and written out only for a complaint.
struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy)]
enum Segment<'a> {
    Root,
    /// A struct's field, with the inlined structs that it comes from.
    Field(&'a str, &'a [&'static str]),
    Key(&'a str),
    Index(usize),
}

/// Where a value belongs: its Go type, and the Go struct whose field it is or is in.
#[derive(Clone, Copy)]
struct Place {
    go_type: &'static str,
    owner: &'static str,
}

impl Walk {
    fn value(&mut self, shape: Shape, place: Place, value: &Value, path: &Path<'_>) {
        match (shape, value) {
            (_, Value::Null) | (Shape::Raw, _) => {}
            (Shape::Struct(id), Value::Object(object)) => self.object(id, object, path),
            (Shape::List(element), Value::Array(items)) => {
                let go_type = place.go_type.strip_prefix("[]").unwrap_or("");
                let place = Place { go_type, ..place };
                self.items(self.table.shape(element), place, items, path);
            }
            (Shape::WrappedStrings, Value::Array(items)) => {
                let place = Place {
                    go_type: "string",
                    ..place
                };
                self.items(Shape::String, place, items, path);
            }
            (Shape::Map(element), Value::Object(object)) => {
                let shape = self.table.shape(element);
                let go_type = map_element(place.go_type).unwrap_or("");
                for (key, item) in object {
                    let here = path.step(Segment::Key(key));
                    self.value(shape, Place { go_type, ..place }, item, &here);
                }
            }
            (
                Shape::SchemaOrBool | Shape::SchemaOrArray | Shape::SchemaOrStrings,
                Value::Object(_),
            ) => {
                self.json_schema(value, path);
            }
            (Shape::SchemaOrArray, Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.json_schema(item, &path.step(Segment::Index(index)));
                }
            }
            (Shape::SchemaOrBool, Value::Bool(_)) | (Shape::SchemaOrStrings, Value::Array(_)) => {}
            (Shape::Bool, Value::Bool(_))
            | (Shape::String, Value::String(_))
            | (Shape::Float64, Value::Number(_)) => {}
            (Shape::Int64, Value::Number(number)) if number.is_i64() => {}
            (Shape::Int32, Value::Number(_)) if is_int32(value) => {}
            (Shape::IntOrString, Value::String(_)) => {}
            (Shape::IntOrString, Value::Number(_)) if is_int32(value) => {}
            (Shape::IntOrString, _) => {
                let found = describe(value, Shape::Int32);
                self.stop(|| mismatch(&found, path, place.owner, "int32"));
            }
            (Shape::Quantity, _) => self.quantity(value),
            (Shape::Time | Shape::MicroTime, Value::String(text)) => {
                if let Some(error) = time_error(text, shape == Shape::MicroTime) {
                    self.stop(|| error);
                }
            }
            (Shape::Time | Shape::MicroTime, _) => {
                let found = describe(value, Shape::String);
                self.stop(|| mismatch(&found, path, place.owner, "string"));
            }
            (Shape::Bytes, Value::String(text)) => {
                // line breaks are no part of it
                let text: Cow<str> = match text.contains(['\r', '\n']) {
                    true => text.replace(['\r', '\n'], "").into(),
                    false => text.into(),
                };
                if let Err(error) = base64::engine::general_purpose::STANDARD.decode(&*text) {
                    self.note(|| illegal_base64(&text, &error));
                }
            }
            _ => {
                let found = describe(value, shape);
                self.note(|| mismatch(&found, path, place.owner, &type_name(place.go_type)));
            }
        }
    }

    fn object(&mut self, id: TypeId, object: &Map<String, Value>, path: &Path<'_>) {
        let ty = self.table.ty(id);
        // Both are in order of name, so the next key is mostly the next field or a later one.
        let mut next = 0;
        for (key, value) in object {
            while next < ty.fields.len() && ty.fields[next].name < key.as_str() {
                next += 1;
            }
            let at = match ty.fields.get(next) {
                Some(field) if field.name == key => Some(next),
                // Only if the object's keys come in another order than that of their bytes.
                _ => ty.position(key),
            };
            let Some(field) = at.map(|at| &ty.fields[at]) else {
                self.unknown(&path.step(Segment::Field(key, &[])));
                continue;
            };
            let place = Place {
                go_type: field.go_type,
                owner: ty.struct_name(),
            };
            let here = path.step(Segment::Field(key, &field.embedded));
            self.value(field.shape, place, value, &here);
        }
    }

    fn items(&mut self, shape: Shape, place: Place, items: &[Value], path: &Path<'_>) {
        for (index, item) in items.iter().enumerate() {
            self.value(shape, place, item, &path.step(Segment::Index(index)));
        }
    }

    fn json_schema(&mut self, value: &Value, path: &Path<'_>) {
        let place = Place {
            go_type: "apiextensions/v1.JSONSchemaProps",
            owner: "JSONSchemaProps",
        };
        if let Some(id) = self.table.named(place.go_type) {
            self.value(Shape::Struct(id), place, value, path);
        }
    }

    fn quantity(&mut self, value: &Value) {
        let parsed = match value {
            Value::String(text) => text.parse::<Quantity>(),
            Value::Number(number) => number.to_string().parse(),
            _ => Err(QuantityError::Format),
        };
        if let Err(error) = parsed {
            self.stop(|| error.to_string());
        }
    }

    fn unknown(&mut self, path: &Path<'_>) {
        if self.unknown.len() < PROBLEMS_MAX {
            self.unknown
                .push(format!("unknown field {}", quote(&path.full())));
        }
    }

    fn note(&mut self, message: impl FnOnce() -> String) {
        if self.noted.is_none() {
            self.noted = Some(message());
        }
    }

    fn stop(&mut self, message: impl FnOnce() -> String) {
        if self.stopped.is_none() {
            self.stopped = Some(message());
        }
    }
}

impl<'a> Path<'a> {
    fn step(&'a self, segment: Segment<'a>) -> Path<'a> {
        Path {
            parent: Some(self),
            segment,
        }
    }

    /// As the strict decoder names it: `spec.containers[0].image`.
    fn full(&self) -> String {
        let mut out = self.parent.map(Path::full).unwrap_or_default();
        match self.segment {
            Segment::Root => {}
            Segment::Field(name, _) | Segment::Key(name) => append(&mut out, name),
            Segment::Index(index) => {
                let _ = write!(out, "[{index}]");
            }
        }
        out
    }

    /// As the decoder's type errors name it: struct fields only, inlined structs included.
    fn fields(&self) -> String {
        let mut out = self.parent.map(Path::fields).unwrap_or_default();
        if let Segment::Field(name, embedded) = self.segment {
            embedded.iter().for_each(|name| append(&mut out, name));
            append(&mut out, name);
        }
        out
    }
}

fn append(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

fn mismatch(found: &str, path: &Path<'_>, owner: &str, target: &str) -> String {
    if owner.is_empty() {
        return format!("json: cannot unmarshal {found} into Go value of type {target}");
    }
    let field = path.fields();
    format!("json: cannot unmarshal {found} into Go struct field {owner}.{field} of type {target}")
}

fn is_int32(value: &Value) -> bool {
    value
        .as_i64()
        .is_some_and(|number| i32::try_from(number).is_ok())
}

/// A value as Go's decoder calls it: it names the number when it is the number, and not its kind, that does not fit.
fn describe(value: &Value, shape: Shape) -> String {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(number) if matches!(shape, Shape::Int32 | Shape::Int64) => {
            return format!("number {number}");
        }
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    kind.to_owned()
}

fn illegal_base64(text: &str, error: &base64::DecodeError) -> String {
    let at = match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => {
            *at
        }
        _ => text.len(),
    };
    format!("illegal base64 data at input byte {at}")
}
