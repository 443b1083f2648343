//! The table of types: what fields each built-in kind has, in JSON and in protobuf, and how lists merge.
//!
//! The last two columns, list type and list map keys, are server-side apply's.

use super::Gvk;
use std::collections::HashMap;
use std::sync::OnceLock;

/// Position of a [`Type`] in the table.
pub(crate) type TypeId = u32;
/// Position of a [`Shape`] in the table.
pub(crate) type ShapeId = u32;

/// What a field's value looks like. `Special` shapes encode themselves differently in JSON and in protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    Bool,
    Int32,
    Int64,
    Float64,
    String,
    /// Base64 text in JSON.
    Bytes,
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    /// Any JSON, carried as its text in protobuf's field 1.
    Raw,
    /// A list of strings that protobuf wraps in a message of its own (`ExtraValue`, `Verbs`).
    WrappedStrings,
    SchemaOrBool,
    SchemaOrArray,
    SchemaOrStrings,
    Struct(TypeId),
    List(ShapeId),
    Map(ShapeId),
}

/// One field as JSON sees it; fields of Go-inlined structs appear among those of the outer type.
#[derive(Debug)]
pub(crate) struct Field {
    pub name: &'static str,
    pub shape: Shape,
    /// The Go type as the table writes it: `[]core/v1.Container`.
    pub go_type: &'static str,
    /// Go leaves a zero value out of JSON.
    pub omit_empty: bool,
    /// Go leaves a struct out of JSON when all of it is zero.
    pub omit_zero: bool,
    pub merge_key: &'static str,
    pub strategy: Strategy,
    pub list: ListType,
    /// Names of the fields that tell a list's items apart, with commas between.
    pub list_keys: &'static str,
    /// Names of the Go structs that are inlined on the way from the type to the field, outermost first.
    pub embedded: Box<[&'static str]>,
}

impl Field {
    /// A Go pointer: absent and zero differ.
    pub fn is_pointer(&self) -> bool {
        self.go_type.starts_with('*')
    }
}

/// `patchStrategy` of a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Strategy {
    pub merge: bool,
    pub replace: bool,
    pub retain_keys: bool,
}

/// How a list or map is owned (`x-kubernetes-list-type`, `x-kubernetes-map-type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListType {
    /// Lists as a whole, maps by entry.
    #[default]
    Unset,
    Atomic,
    Set,
    Map,
    /// An object whose type is owned as a whole elsewhere: by field.
    Granular,
}

/// What a protobuf field number leads to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wire {
    /// A field of this type, by position in `fields`.
    Field(u16),
    /// A message whose fields JSON shows as this type's own.
    Inline(TypeId),
}

/// A Go struct.
#[derive(Debug)]
pub(crate) struct Type {
    /// `core/v1.PodSpec`.
    pub go_name: &'static str,
    /// By name.
    pub fields: Box<[Field]>,
    /// By number.
    pub wire: Box<[(u32, Wire)]>,
}

impl Type {
    /// The Go struct's own name, as decode errors give it.
    pub fn struct_name(&self) -> &'static str {
        self.go_name.rsplit('.').next().unwrap_or(self.go_name)
    }

    pub fn field(&self, name: &str) -> Option<&Field> {
        self.position(name).map(|at| &self.fields[at])
    }

    pub fn position(&self, name: &str) -> Option<usize> {
        self.fields
            .binary_search_by(|field| field.name.cmp(name))
            .ok()
    }

    pub fn wire(&self, number: u32) -> Option<Wire> {
        let at = self
            .wire
            .binary_search_by_key(&number, |(number, _)| *number)
            .ok()?;
        Some(self.wire[at].1)
    }
}

/// Every type, and the kinds among them.
pub(crate) struct Table {
    types: Vec<Type>,
    shapes: Vec<Shape>,
    kinds: HashMap<(&'static str, &'static str, &'static str), TypeId>,
    names: HashMap<&'static str, TypeId>,
}

impl Table {
    /// The table of this process, read on first use: some 400 KB that stay.
    pub fn get() -> &'static Table {
        static TABLE: OnceLock<Table> = OnceLock::new();
        // The names in the table are slices of its text, which therefore lives as long as the process.
        TABLE.get_or_init(|| Builder::read(Box::leak(super::blob::types().into_boxed_str())))
    }

    /// The type of a kind. Options kinds belong to every group, as upstream registers them.
    pub fn kind(&self, gvk: &Gvk) -> Option<TypeId> {
        let key = (gvk.group.as_str(), gvk.version.as_str(), gvk.kind.as_str());
        let known = self.kinds.get(&key).copied();
        known.or_else(|| match gvk.kind.as_str() {
            "DeleteOptions"
            | "CreateOptions"
            | "UpdateOptions"
            | "PatchOptions"
            | "GetOptions"
            | "ListOptions"
            | "Status"
            | "PartialObjectMetadata"
            | "PartialObjectMetadataList" => self.named(&format!("meta/v1.{}", gvk.kind)),
            _ => None,
        })
    }

    /// The type of a Go name such as `meta/v1.ObjectMeta`.
    pub fn named(&self, go_name: &str) -> Option<TypeId> {
        self.names.get(go_name).copied()
    }

    pub fn ty(&self, id: TypeId) -> &Type {
        &self.types[id as usize]
    }

    /// All types, by their ids.
    pub fn types(&self) -> &[Type] {
        &self.types
    }

    pub fn shape(&self, id: ShapeId) -> Shape {
        self.shapes[id as usize]
    }

    /// Every kind of the table: group, version, kind.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> + '_ {
        self.kinds.keys().copied()
    }
}

/// A type's line of the file and those below it.
#[derive(Default)]
struct Raw {
    go_name: &'static str,
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    number: u32,
    flags: &'static str,
    go_type: &'static str,
    merge_key: &'static str,
    strategy: Strategy,
    list: ListType,
    list_keys: &'static str,
}

#[derive(Default)]
struct Builder {
    raw: Vec<Raw>,
    ids: HashMap<&'static str, TypeId>,
    /// Names for other types, and types that encode themselves.
    aliases: HashMap<&'static str, &'static str>,
    shapes: Vec<Shape>,
    shape_ids: HashMap<Shape, ShapeId>,
}

impl Builder {
    fn read(text: &'static str) -> Table {
        let mut builder = Builder::default();
        let mut kinds = HashMap::new();
        for line in text.lines() {
            let mut columns = line.split('\t');
            let mut next = || columns.next().unwrap_or("");
            match next() {
                "T" => {
                    let go_name = next();
                    builder.ids.insert(go_name, builder.raw.len() as TypeId);
                    builder.raw.push(Raw {
                        go_name,
                        rows: Vec::new(),
                    });
                }
                "K" => {
                    let id = builder.raw.len().saturating_sub(1) as TypeId;
                    kinds.insert((next(), next(), next()), id);
                }
                "F" => {
                    let row = Row {
                        name: next(),
                        number: next().parse().unwrap_or(0),
                        flags: next(),
                        go_type: next(),
                        merge_key: next(),
                        strategy: strategy(next()),
                        list: list_type(next()),
                        list_keys: next(),
                    };
                    if let Some(raw) = builder.raw.last_mut() {
                        raw.rows.push(row);
                    }
                }
                "N" | "S" => {
                    let name = next();
                    builder.aliases.insert(name, next());
                }
                _ => {}
            }
        }
        let raw = std::mem::take(&mut builder.raw);
        let types = raw.iter().map(|one| builder.finish(one, &raw)).collect();
        Table {
            types,
            shapes: builder.shapes,
            kinds,
            names: builder.ids,
        }
    }

    fn finish(&mut self, raw: &Raw, all: &[Raw]) -> Type {
        let mut fields = Vec::new();
        self.collect(raw, all, &[], &mut fields);
        fields.sort_by(|a, b| a.name.cmp(b.name));
        fields.dedup_by(|a, b| a.name == b.name);
        let mut wire = Vec::new();
        for row in raw.rows.iter().filter(|row| row.number > 0) {
            let target = if row.flags.contains('i') {
                self.ids
                    .get(row.go_type.trim_start_matches('*'))
                    .map(|id| Wire::Inline(*id))
            } else {
                let at = fields.iter().position(|field| field.name == row.name);
                at.map(|at| Wire::Field(at as u16))
            };
            wire.extend(target.map(|target| (row.number, target)));
        }
        wire.sort_by_key(|(number, _)| *number);
        Type {
            go_name: raw.go_name,
            fields: fields.into(),
            wire: wire.into(),
        }
    }

    fn collect(
        &mut self,
        raw: &Raw,
        all: &[Raw],
        embedded: &[&'static str],
        fields: &mut Vec<Field>,
    ) {
        for row in &raw.rows {
            if row.flags.contains('i') {
                if let Some(id) = self.ids.get(row.go_type.trim_start_matches('*')).copied() {
                    let inner = &all[id as usize];
                    let name = inner.go_name.rsplit('.').next().unwrap_or(inner.go_name);
                    self.collect(inner, all, &[embedded, &[name]].concat(), fields);
                }
                continue;
            }
            fields.push(Field {
                name: row.name,
                shape: self.shape(row.go_type),
                go_type: row.go_type,
                omit_empty: row.flags.contains('o'),
                omit_zero: row.flags.contains('z'),
                merge_key: row.merge_key,
                strategy: row.strategy,
                list: row.list,
                list_keys: row.list_keys,
                embedded: embedded.into(),
            });
        }
    }

    fn shape(&mut self, go_type: &'static str) -> Shape {
        let go_type = go_type.trim_start_matches('*');
        if go_type == "[]uint8" {
            return Shape::Bytes;
        }
        if let Some(element) = go_type.strip_prefix("[]") {
            let element = self.shape(element);
            return Shape::List(self.intern(element));
        }
        if let Some(element) = map_element(go_type) {
            let element = self.shape(element);
            return Shape::Map(self.intern(element));
        }
        match go_type {
            "bool" => Shape::Bool,
            "string" => Shape::String,
            "int64" => Shape::Int64,
            "float64" => Shape::Float64,
            "Quantity" => Shape::Quantity,
            "IntOrString" => Shape::IntOrString,
            "Time" => Shape::Time,
            "MicroTime" => Shape::MicroTime,
            "RawExtension" | "FieldsV1" | "Json" => Shape::Raw,
            "SchemaOrBool" => Shape::SchemaOrBool,
            "SchemaOrArray" => Shape::SchemaOrArray,
            "SchemaOrStrings" => Shape::SchemaOrStrings,
            scalar if !scalar.contains('.') => Shape::Int32,
            name => match (self.ids.get(name), self.aliases.get(name).copied()) {
                (Some(id), _) => Shape::Struct(*id),
                (None, Some("[]string")) => Shape::WrappedStrings,
                (None, Some(target)) => self.shape(target),
                (None, None) => Shape::Raw,
            },
        }
    }

    fn intern(&mut self, shape: Shape) -> ShapeId {
        let next = self.shapes.len() as ShapeId;
        let id = *self.shape_ids.entry(shape).or_insert(next);
        if id == next {
            self.shapes.push(shape);
        }
        id
    }
}

/// The element type of `map[K]V`.
pub(super) fn map_element(go_type: &str) -> Option<&str> {
    go_type
        .strip_prefix("map[")?
        .split_once(']')
        .map(|(_, element)| element)
}

fn list_type(text: &str) -> ListType {
    match text {
        "atomic" => ListType::Atomic,
        "set" => ListType::Set,
        "map" => ListType::Map,
        "granular" => ListType::Granular,
        _ => ListType::Unset,
    }
}

fn strategy(text: &str) -> Strategy {
    let has = |word| text.split(',').any(|part| part == word);
    Strategy {
        merge: has("merge"),
        replace: has("replace"),
        retain_keys: has("retainKeys"),
    }
}
