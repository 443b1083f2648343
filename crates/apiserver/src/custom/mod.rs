//! Custom resources: kinds that CustomResourceDefinitions describe (upstream `apiextensions-apiserver`).
//!
//! Pure: [`structural`] (which schemas are accepted), [`prune`], [`default`], [`validate`], [`rules`] (CEL), [`jsonpath`], [`columns`],
//! [`names`], [`definition`] (the definition as a kind of its own), [`build`] (from a definition to its kinds).
//! [`live`] holds the kinds of this moment and acts on definitions; [`openapi`] documents them.
//! Deliberately absent: webhooks.

pub(crate) mod build;
pub(crate) mod columns;
mod correlate;
pub(crate) mod default;
pub mod definition;
mod formats;
pub mod jsonpath;
pub(crate) mod live;
pub(crate) mod metadata;
pub(crate) mod names;
pub(crate) mod openapi;
mod pattern;
pub(crate) mod prune;
pub(crate) mod rules;
mod scale;
pub(crate) mod schema;
mod structural;
mod terminate;
pub(crate) mod validate;

use std::sync::Arc;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::cache::Cache;
use crate::registry::Problems;
use crate::schema::Report;
use columns::CustomColumn;
use jsonpath::JsonPath;
use rules::Rules;
pub(crate) use scale::ScalePaths;
use schema::Schema;

/// What a kind has when it comes from a CustomResourceDefinition.
pub struct Custom {
    /// Name of the definition.
    pub definition: String,
    pub list_kind: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub(crate) schema: Schema,
    /// `x-kubernetes-validations`, if there are any.
    pub(crate) rules: Option<Rules>,
    pub(crate) scale: Option<ScalePaths>,
    pub(crate) columns: Vec<CustomColumn>,
    /// Fields that selectors may name in any version, in the order of [`object::Object`]'s values.
    pub(crate) fields: Arc<Vec<(String, JsonPath)>>,
    /// Which of them may be named in this version.
    pub(crate) selectable: Vec<String>,
    /// Warning of a version that is deprecated.
    pub(crate) deprecated: Option<String>,
    /// Stored objects are as this version's answers are: nothing about the definition has changed since it was made.
    pub(crate) as_stored: bool,
    /// The definition is being deleted: nothing new is made.
    pub(crate) terminating: bool,
    /// Conversion is a webhook's, which this server does not call: only the stored version can be served.
    pub(crate) webhook: bool,
    /// Current objects and their changes; absent only for the kind by which the cache itself reads.
    pub(crate) cache: Option<Arc<Cache>>,
    /// Ends the watches that were opened on this kind.
    pub(crate) ending: CancellationToken,
    /// Changes with the definition, for the addresses of its documents.
    pub(crate) stamp: u64,
    /// Schema of the version as it was written, for documents.
    pub(crate) written: Value,
}

impl Custom {
    /// Unknown fields and wrong types of identity and metadata, for an object as a client sent it. What is unknown is
    /// dropped from the object.
    pub(crate) fn check(&self, object: &mut Value) -> Report {
        let mut report = metadata::check(object);
        let unknown = prune::prune(&self.schema, object).into_iter();
        report.unknown.extend(
            unknown.map(|path| format!("unknown field {}", crate::schema::gotext::quote(&path))),
        );
        report
    }

    /// Nulls that mean nothing go, defaults come.
    pub(crate) fn default(&self, object: &mut Value) {
        prune::prune_nulls(&self.schema, object);
        default::default(&self.schema, object);
    }

    /// Brings a stored object up to what the schema says now.
    pub(crate) fn refresh(&self, object: &mut Value) {
        if !self.as_stored {
            prune::prune(&self.schema, object);
            self.default(object);
        }
    }

    /// A new object.
    pub(crate) fn validate(&self, object: &Value, problems: &mut Problems) {
        let mut found = Problems::default();
        validate::validate(&self.schema, object, None, &mut found);
        self.scale_is_valid(object, &mut found);
        self.apply_rules(object, None, &mut found);
        problems.0.append(&mut found.0);
    }

    /// A changed object. What was not changed may stay, and lists of unique items that were not unique before need not be
    /// now (upstream's ratcheting).
    pub(crate) fn validate_update(&self, new: &Value, old: &Value, problems: &mut Problems) {
        let mut found = Problems::default();
        validate::validate(&self.schema, new, Some(old), &mut found);
        if !validate::validate_lists(&self.schema, old).is_empty() {
            found
                .0
                .retain(|cause| cause.reason != "FieldValueDuplicate");
        }
        self.scale_is_valid(new, &mut found);
        self.apply_rules(new, Some(old), &mut found);
        problems.0.append(&mut found.0);
    }

    fn scale_is_valid(&self, object: &Value, problems: &mut Problems) {
        if let Some(paths) = &self.scale {
            paths.validate(object, problems);
        }
    }

    fn apply_rules(&self, new: &Value, old: Option<&Value>, problems: &mut Problems) {
        if let Some(rules) = &self.rules {
            rules.validate(&self.schema, new, old, problems);
        }
    }

    /// Whether anything but metadata differs, which is what counts as a change of generation.
    pub(crate) fn differs(new: &Value, old: &Value) -> bool {
        let bare = |value: &Value| {
            let mut value = value.clone();
            if let Some(map) = value.as_object_mut() {
                map.remove("metadata");
                map.remove("apiVersion");
            }
            value
        };
        bare(new) != bare(old)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::schema::{NODES_MAX, Schema};

    /// A schema read from its JSON.
    pub(crate) fn schema(json: serde_json::Value) -> Schema {
        let mut left = NODES_MAX;
        Schema::read(&json, &mut left).expect("not too large")
    }
}
