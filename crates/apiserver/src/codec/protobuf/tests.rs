//! What is written reads back the same: objects of every kind, made from the table of types.

use super::{decode, encode, has_form};
use crate::schema::table::{Field, Shape, Table, TypeId, Wire};
use crate::schema::{Gvk, Schemas};
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// So deep, a made object has only what it must have.
const FULL_DEPTH: usize = 10;

/// Its length takes two bytes.
const LONG: &str = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";

#[test]
fn every_kind_reads_back_as_it_was_written() {
    let mut kinds = 0;
    for gvk in Schemas::load().kinds().into_iter().filter(has_form) {
        for seed in 1..3 {
            let object = Maker::new(seed).object(&gvk);
            let bytes =
                encode(&object).unwrap_or_else(|error| panic!("{gvk:?}, seed {seed}: {error}"));
            let read = decode(&bytes, None)
                .unwrap_or_else(|error| panic!("{gvk:?}, seed {seed}: {error}\n{object}"));
            assert_eq!(read, object, "{gvk:?}, seed {seed}");
        }
        kinds += 1;
    }
    assert!(kinds > 150, "only {kinds} kinds");
}

/// Bytes that are not an object of ours end in an error or a value, never in a panic, and what comes of them can be
/// written again.
#[test]
fn damaged_messages_do_no_harm() {
    let mut read_again = 0;
    for (at, gvk) in Schemas::load().kinds().into_iter().enumerate() {
        if !has_form(&gvk) {
            continue;
        }
        let mut maker = Maker::new(at as u64 + 1);
        let bytes = encode(&maker.object(&gvk)).expect("encodes");
        for _ in 0..20 {
            let mut damaged = bytes.clone();
            let place = maker.below(damaged.len());
            match maker.below(3) {
                0 => damaged[place] ^= 1 << maker.below(8),
                1 => damaged.truncate(place),
                _ => damaged[place] = 0xff,
            }
            if let Ok(object) = decode(&damaged, None)
                && encode(&object).is_ok()
            {
                read_again += 1;
            }
        }
    }
    assert!(
        read_again > 100,
        "{read_again}: the damage is too great to test anything"
    );
}

/// Makes objects in the form in which Go writes them: what `omitempty` leaves out is not there, the rest is.
struct Maker {
    table: &'static Table,
    state: u64,
}

impl Maker {
    fn new(seed: u64) -> Self {
        Maker {
            table: Table::get(),
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) as usize % limit.max(1)
    }

    fn object(&mut self, gvk: &Gvk) -> Value {
        let ty = self.table.kind(gvk).expect("a kind");
        let mut object = self.fields(ty, 0);
        object["apiVersion"] = gvk.api_version().into();
        object["kind"] = gvk.kind.clone().into();
        object
    }

    fn fields(&mut self, ty: TypeId, depth: usize) -> Value {
        // Schemas hold schemas in a dozen places.
        let schema = self.table.named("apiextensions/v1.JSONSchemaProps") == Some(ty);
        let depth = if schema { depth + 4 } else { depth };
        let mut numbered = HashSet::new();
        names(self.table, ty, &mut numbered);
        let mut object = Map::new();
        for field in &self.table.ty(ty).fields {
            if numbered.contains(field.name)
                && let Some(value) = self.field(field, depth)
            {
                object.insert(field.name.to_owned(), value);
            }
        }
        Value::Object(object)
    }

    fn field(&mut self, field: &Field, depth: usize) -> Option<Value> {
        let full = depth < FULL_DEPTH && self.below(5) < 3;
        match field.shape {
            Shape::List(element) => full.then(|| {
                let element = self.table.shape(element);
                let count = 1 + self.below(2);
                (0..count)
                    .map(|_| self.value(element, false, depth + 1))
                    .collect()
            }),
            Shape::Map(element) => full.then(|| {
                let element = self.table.shape(element);
                let count = 1 + self.below(2);
                (0..count)
                    .map(|n| (format!("key-{n}"), self.value(element, false, depth + 1)))
                    .collect()
            }),
            Shape::Bytes | Shape::WrappedStrings => {
                full.then(|| self.value(field.shape, true, depth + 1))
            }
            // The zero time and no JSON at all are left out.
            Shape::Time | Shape::MicroTime | Shape::Raw => {
                full.then(|| self.value(field.shape, true, depth + 1))
            }
            shape if field.is_pointer() => full.then(|| self.value(shape, false, depth + 1)),
            // A struct of zero values: something in it must not be zero.
            Shape::Struct(_) if field.omit_zero => {
                let value = self.value(field.shape, true, depth + 1);
                (value != json!({})).then_some(value)
            }
            Shape::IntOrString if field.omit_zero || field.omit_empty => {
                let value = self.value(field.shape, true, depth + 1);
                (value != json!(0)).then_some(value)
            }
            Shape::Struct(_) | Shape::Quantity | Shape::IntOrString => {
                Some(self.value(field.shape, true, depth + 1))
            }
            shape if field.omit_empty => full.then(|| self.value(shape, true, depth + 1)),
            shape => Some(self.value(shape, false, depth + 1)),
        }
    }

    fn value(&mut self, shape: Shape, not_zero: bool, depth: usize) -> Value {
        let pick = self.below(4);
        match shape {
            Shape::Bool => json!(not_zero || pick > 1),
            Shape::Int32 => json!([1, -1, i32::MAX, if not_zero { i32::MIN } else { 0 }][pick]),
            Shape::Int64 => json!([1, -1, i64::MAX, if not_zero { i64::MIN } else { 0 }][pick]),
            Shape::Float64 => json!([1.0, -0.5, 1e300, 1e-9][pick]),
            Shape::String => json!(["a", "x-1.y", "é\u{1f600}", LONG][pick]),
            Shape::Bytes => json!(["AP8=", "YQ==", "////", "AAECAwQ="][pick]),
            Shape::Quantity => json!(["0", "1500m", "1Gi", "12"][pick]),
            Shape::IntOrString => json!([json!(0), json!(-3), json!("http"), json!("25%")][pick]),
            Shape::Time => json!("2026-01-02T03:04:05Z"),
            Shape::MicroTime => json!("1969-12-31T23:59:59.000007Z"),
            Shape::Raw => json!(
                [
                    json!({"a": [1, null, "é"]}),
                    json!("x"),
                    json!(7),
                    json!([])
                ][pick]
            ),
            Shape::WrappedStrings => json!(["a", "b"]),
            Shape::SchemaOrBool if pick == 0 => json!(false),
            Shape::SchemaOrBool if pick == 1 => json!(true),
            Shape::SchemaOrArray if pick < 2 => json!([self.schema(depth), self.schema(depth)]),
            Shape::SchemaOrStrings if pick < 2 => json!(["a", "b"]),
            Shape::SchemaOrBool | Shape::SchemaOrArray | Shape::SchemaOrStrings => {
                self.schema(depth)
            }
            Shape::Struct(id) => self.fields(id, depth),
            Shape::List(_) | Shape::Map(_) => json!([]),
        }
    }

    fn schema(&mut self, depth: usize) -> Value {
        let ty = self.table.named("apiextensions/v1.JSONSchemaProps");
        self.fields(ty.expect("the type of schemas"), depth)
    }
}

/// The fields of a type that have a number, here or in an inlined message.
fn names(table: &Table, ty: TypeId, out: &mut HashSet<&'static str>) {
    let ty = table.ty(ty);
    for (_, wire) in &ty.wire {
        match wire {
            Wire::Field(at) => {
                out.insert(ty.fields[usize::from(*at)].name);
            }
            Wire::Inline(inner) => names(table, *inner, out),
        }
    }
}
