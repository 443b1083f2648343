//! OpenAPI v3: the index, and documents cut from upstream's schemas for what a group and version serves.

use super::{Gvk, PathSpec, blob, paths};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The level of the API that the documents describe.
pub(super) const VERSION: &str = "v1.37.1";
/// Where v3 has its schemas.
pub(super) const REFERENCE: &str = "#/components/schemas/";

/// The schema of a kind that is not upstream's.
#[derive(Clone, Debug)]
pub struct Described {
    /// Its kind, in the document's group and version.
    pub kind: String,
    /// As references name it: `com.example.v1.Widget`.
    pub name: String,
    pub schema: Value,
}

/// The body of `GET /openapi/v3`.
pub(super) fn index(group_versions: &[(String, String, u64)]) -> Bytes {
    let paths: serde_json::Map<String, Value> = group_versions
        .iter()
        .map(|(group, version, own)| {
            let path = if group.is_empty() {
                format!("api/{version}")
            } else {
                format!("apis/{group}/{version}")
            };
            let address = format!("/openapi/v3/{path}?hash={}", hash(*own));
            (path, json!({ "serverRelativeURL": address }))
        })
        .collect();
    json!({ "paths": paths }).to_string().into()
}

/// The document of one group and version. Schemas are those of the paths' kinds and of all kinds of the group and
/// version, with what they refer to.
pub(super) fn document(group: &str, version: &str, specs: &[PathSpec], own: &[Described]) -> Bytes {
    let text = blob::openapi();
    let catalogue = Catalogue::read(&text);
    let mut wanted = BTreeMap::new();
    let rendered: Vec<(&str, String)> = own
        .iter()
        .map(|one| (one.name.as_str(), one.schema.to_string()))
        .collect();
    let described = |gvk: &Gvk| {
        let here = gvk.group == group && gvk.version == version;
        own.iter().find(|one| here && one.kind == gvk.kind)
    };
    let is_own = |gvk: &Gvk| described(gvk).is_some();
    let paths = paths::render(group, version, specs, is_own, |gvk| {
        if let Some(one) = described(gvk) {
            return Some(format!("{REFERENCE}{}", one.name));
        }
        let name = catalogue.name(gvk)?;
        catalogue.reach(name, &mut wanted);
        Some(format!("{REFERENCE}{name}"))
    });
    catalogue.of_group(group, version, &mut wanted);
    for (name, schema) in &rendered {
        wanted.insert(name, schema);
        for reference in references(schema) {
            catalogue.reach(reference, &mut wanted);
        }
    }
    let mut out = String::with_capacity(
        64 * 1024
            + wanted
                .values()
                .map(|schema| schema.len() + 80)
                .sum::<usize>(),
    );
    out.push_str(
        r#"{"openapi":"3.0.0","info":{"title":"Kubernetes","version":"v1.37.1"},"paths":"#,
    );
    out.push_str(&paths.to_string());
    out.push_str(r#","components":{"schemas":{"#);
    for (position, (name, schema)) in wanted.iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        out.push('"');
        out.push_str(name);
        out.push_str("\":");
        out.push_str(schema);
    }
    out.push_str(r#"}}}"#);
    out.into()
}

/// Names of the schemas that a schema refers to.
fn references(schema: &str) -> impl Iterator<Item = &str> {
    let references = schema.split(REFERENCE).skip(1);
    references.filter_map(|rest| rest.split('"').next())
}

/// One kind's schema.
pub(super) fn definition(gvk: &Gvk) -> Option<Value> {
    let text = blob::openapi();
    let catalogue = Catalogue::read(&text);
    let schema = catalogue.schemas.get(catalogue.name(gvk)?)?;
    serde_json::from_str(schema).ok()
}

/// The unpacked schemas, found by name and by kind. JSON text is copied, never parsed.
pub(super) struct Catalogue<'a> {
    schemas: BTreeMap<&'a str, &'a str>,
    kinds: BTreeMap<(&'a str, &'a str, &'a str), &'a str>,
}

impl<'a> Catalogue<'a> {
    pub fn read(text: &'a str) -> Self {
        let mut catalogue = Catalogue {
            schemas: BTreeMap::new(),
            kinds: BTreeMap::new(),
        };
        for line in text.lines() {
            let mut columns = line.splitn(3, '\t');
            let (Some(name), Some(kinds), Some(schema)) =
                (columns.next(), columns.next(), columns.next())
            else {
                continue;
            };
            for kind in kinds.split(';').filter(|kind| !kind.is_empty()) {
                let mut parts = kind.splitn(3, '/');
                if let (Some(group), Some(version), Some(kind)) =
                    (parts.next(), parts.next(), parts.next())
                {
                    catalogue.kinds.insert((group, version, kind), name);
                }
            }
            catalogue.schemas.insert(name, schema);
        }
        catalogue
    }

    pub fn name(&self, gvk: &Gvk) -> Option<&'a str> {
        let shared = ["DeleteOptions", "Status", "WatchEvent"].contains(&gvk.kind.as_str());
        let group_version = if shared {
            ("", "v1")
        } else {
            (gvk.group.as_str(), gvk.version.as_str())
        };
        self.kinds
            .get(&(group_version.0, group_version.1, gvk.kind.as_str()))
            .copied()
    }

    /// Adds the schemas of all kinds of a group and version.
    pub fn of_group(&self, group: &str, version: &str, wanted: &mut BTreeMap<&'a str, &'a str>) {
        for (gvk, name) in &self.kinds {
            if gvk.0 == group && gvk.1 == version {
                self.reach(name, wanted);
            }
        }
    }

    /// Adds a schema and all that it refers to.
    pub fn reach(&self, name: &str, wanted: &mut BTreeMap<&'a str, &'a str>) {
        let mut queue = vec![name];
        while let Some(name) = queue.pop() {
            let Some((name, schema)) = self.schemas.get_key_value(name) else {
                continue;
            };
            if wanted.insert(name, schema).is_some() {
                continue;
            }
            queue.extend(references(schema));
        }
    }
}

/// Names a document: by what changes with it alone, and with the embedded schemas and the program's version (FNV-1a).
pub(super) fn hash(own: u64) -> String {
    static STAMP: LazyLock<u64> = LazyLock::new(|| {
        let version = env!("CARGO_PKG_VERSION").bytes();
        let parts = blob::openapi_packed().into_iter().flatten().copied();
        let bytes = parts.chain(version);
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    });
    format!("{:016X}", STAMP.wrapping_add(own))
}
