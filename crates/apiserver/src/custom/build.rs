//! From a definition to the kinds that it describes, one for each served version.

use std::sync::Arc;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::columns::CustomColumn;
use super::jsonpath::JsonPath;
use super::names::by_preference;
use super::rules::Rules;
use super::schema::{NODES_MAX, Schema};
use super::{Custom, ScalePaths};
use crate::cache::Cache;
use crate::object::{items, text};
use crate::registry::{Kind, custom_row, intern};

/// What a definition's kinds share.
pub(crate) struct Shared {
    pub fields: Arc<Vec<(String, JsonPath)>>,
    pub cache: Option<Arc<Cache>>,
    pub ending: CancellationToken,
}

/// Every field that some version lets selectors name.
pub(crate) fn fields(definition: &Value) -> Vec<(String, JsonPath)> {
    let mut fields: Vec<(String, JsonPath)> = Vec::new();
    for version in items(definition, &["spec", "versions"]) {
        for field in items(version, &["selectableFields"]) {
            let written = text(field, &["jsonPath"]);
            let name = written.trim_start_matches('.');
            if let Ok(path) = JsonPath::parse(written)
                && !fields.iter().any(|(known, _)| known == name)
            {
                fields.push((name.to_owned(), path));
            }
        }
    }
    fields
}

/// The prefix of the keys of a definition's objects.
pub(crate) fn storage(definition: &Value) -> String {
    let spec = &definition["spec"];
    format!(
        "/registry/{}/{}",
        text(spec, &["group"]),
        text(spec, &["names", "plural"])
    )
}

/// The kinds of a definition's served versions, preferred first, and how many places their schemas have together.
/// `None` when they are too large, or when there is no room for their names.
pub(crate) fn kinds(definition: &Value, shared: &Shared) -> Option<(Vec<Arc<Kind>>, usize)> {
    let mut left = NODES_MAX;
    let mut versions: Vec<&Value> = items(definition, &["spec", "versions"]).iter().collect();
    versions.sort_by(|a, b| by_preference(text(a, &["name"]), text(b, &["name"])));
    let mut kinds = Vec::new();
    for version in versions {
        if version["served"] == true {
            kinds.push(Arc::new(kind(definition, version, shared, &mut left)?));
        }
    }
    Some((kinds, NODES_MAX - left))
}

/// The kind by which the cache reads: of the stored version, without a cache of its own.
pub(crate) fn reader(definition: &Value, shared: &Shared) -> Option<Kind> {
    let versions = items(definition, &["spec", "versions"]);
    let stored = versions.iter().find(|version| version["storage"] == true)?;
    kind(definition, stored, shared, &mut { NODES_MAX })
}

fn kind(definition: &Value, version: &Value, shared: &Shared, left: &mut usize) -> Option<Kind> {
    let spec = &definition["spec"];
    let names = &definition["status"]["acceptedNames"];
    let group = intern(text(spec, &["group"]))?;
    let name = intern(text(version, &["name"]))?;
    let versions = items(spec, &["versions"]);
    let stored = versions.iter().find(|version| version["storage"] == true)?;
    let stored = text(stored, &["name"]);
    let list = |key: &str| -> Vec<String> {
        let names = items(names, &[key]).iter();
        names
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect()
    };
    let written = version["schema"]["openAPIV3Schema"].clone();
    let changed = definition["metadata"]["generation"].as_i64().unwrap_or(0) > 1;
    let columns: Vec<_> = match items(version, &["additionalPrinterColumns"]) {
        [] => CustomColumn::age().into_iter().collect(),
        columns => columns.iter().filter_map(CustomColumn::read).collect(),
    };
    let schema = Schema::read(&written, left)?;
    let kind_name = intern(text(names, &["kind"]))?;
    let deprecated =
        (version["deprecated"] == true).then(|| match version["deprecationWarning"].as_str() {
            Some(warning) => warning.to_owned(),
            None => format!("{group}/{name} {kind_name} is deprecated"),
        });
    let custom = Custom {
        definition: text(definition, &["metadata", "name"]).to_owned(),
        list_kind: text(names, &["listKind"]).to_owned(),
        short_names: list("shortNames"),
        categories: list("categories"),
        rules: Rules::read(&written),
        schema,
        scale: scale(version),
        columns,
        fields: shared.fields.clone(),
        selectable: items(version, &["selectableFields"])
            .iter()
            .map(|field| {
                text(field, &["jsonPath"])
                    .trim_start_matches('.')
                    .to_owned()
            })
            .collect(),
        deprecated,
        as_stored: !changed && name == stored,
        terminating: definition["metadata"]["deletionTimestamp"].is_string(),
        webhook: spec["conversion"]["strategy"] == "Webhook" && name != stored,
        cache: shared.cache.clone(),
        ending: shared.ending.clone(),
        stamp: stamp(definition),
        written,
    };
    Some(Kind {
        group,
        version: name,
        kind: kind_name,
        plural: intern(text(names, &["plural"]))?,
        singular: intern(text(names, &["singular"]))?,
        namespaced: spec["scope"] == "Namespaced",
        storage: intern(&storage(definition))?,
        storage_version: intern(&format!("{group}/{stored}"))?,
        status: version["subresources"]["status"].is_object(),
        scale: custom.scale.is_some(),
        custom: Some(Arc::new(custom)),
        ..custom_row()
    })
}

fn scale(version: &Value) -> Option<ScalePaths> {
    let scale = &version["subresources"]["scale"];
    let path = |key: &str| -> Option<Vec<String>> {
        let written = scale[key].as_str().filter(|path| !path.is_empty())?;
        let path = written.trim_start_matches('.').split('.');
        Some(path.map(str::to_owned).collect())
    };
    Some(ScalePaths {
        spec: path("specReplicasPath")?,
        status: path("statusReplicasPath")?,
        selector: path("labelSelectorPath"),
    })
}

/// Of identity and generation (FNV-1a).
fn stamp(definition: &Value) -> u64 {
    let metadata = &definition["metadata"];
    let names = definition["status"]["acceptedNames"].to_string();
    let text = format!("{}{}{names}", metadata["uid"], metadata["generation"]);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
