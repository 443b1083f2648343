//! What the built-in kinds look like: definitions, strict validation, merge keys and OpenAPI documents.
//!
//! Two embedded files hold it (`data/README.md`). The table of types is read on the first write and stays (some
//! 400 KB); the OpenAPI schemas are unpacked for each document and let go.

mod blob;
pub(crate) mod forms;
mod gnostic;
pub(crate) mod gotext;
mod openapi;
mod paths;
mod swagger;
mod swagger_json;
pub(crate) mod table;
mod times;
mod validate;
pub(crate) mod zeros;

pub use kube::core::GroupVersionKind as Gvk;
pub use openapi::Described;
pub use paths::PathSpec;
pub(crate) use swagger::Served;
pub use validate::Report;

use crate::codec::Duplicate;
use bytes::Bytes;
use serde_json::Value;
use table::Table;

/// The embedded description of Kubernetes v1.37's built-in kinds.
pub struct Schemas(());

impl Schemas {
    /// The process-wide description; nothing is unpacked before the first question that needs it.
    pub fn load() -> &'static Schemas {
        static SCHEMAS: Schemas = Schemas(());
        &SCHEMAS
    }

    /// Whether the kind is described here.
    pub fn contains(&self, gvk: &Gvk) -> bool {
        Table::get().kind(gvk).is_some()
    }

    /// Every described kind.
    pub fn kinds(&self) -> Vec<Gvk> {
        Table::get()
            .kinds()
            .map(|(group, version, kind)| Gvk::gvk(group, version, kind))
            .collect()
    }

    /// The OpenAPI schema of a kind, references unresolved, as upstream publishes it. Unpacks the schemas each
    /// time: not for the path of a request that is asked often.
    pub fn definition(&self, gvk: &Gvk) -> Option<Value> {
        openapi::definition(gvk)
    }

    /// Unknown fields and wrong types in one walk. An object of a kind that is not described has neither.
    pub fn check(&self, gvk: &Gvk, object: &Value) -> Report {
        let table = Table::get();
        table
            .kind(gvk)
            .map(|ty| validate::check(table, ty, object))
            .unwrap_or_default()
    }

    /// Upstream's complaints about fields that the kind does not have: `unknown field "spec.foo"`.
    pub fn unknown_fields(&self, gvk: &Gvk, object: &Value) -> Vec<String> {
        self.check(gvk, object).unknown
    }

    /// Upstream's words for the first value of a wrong JSON type, without the sentence around it:
    /// `json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32`.
    pub fn type_errors(&self, gvk: &Gvk, object: &Value) -> Option<String> {
        self.check(gvk, object).type_error
    }

    /// The body of `GET /openapi/v3`: each `(group, version)` with the address of its document.
    pub fn openapi_v3_index(&self, group_versions: &[(String, String)]) -> Bytes {
        let plain = group_versions.iter();
        let stamped: Vec<_> = plain.map(|(g, v)| (g.clone(), v.clone(), 0)).collect();
        self.openapi_v3_index_stamped(&stamped)
    }

    /// The same, where a document changes with its stamp, too.
    pub fn openapi_v3_index_stamped(&self, group_versions: &[(String, String, u64)]) -> Bytes {
        openapi::index(group_versions)
    }

    /// What the index names a document by: its own stamp and the program's.
    pub fn openapi_v3_hash(&self, own: u64) -> String {
        openapi::hash(own)
    }

    /// The OpenAPI v3 document of one group and version: `paths` from the rows, `components.schemas` from upstream.
    pub fn openapi_v3_document(&self, group: &str, version: &str, paths: &[PathSpec]) -> Bytes {
        openapi::document(group, version, paths, &[])
    }

    /// The same for kinds of which some are not upstream's, but described here.
    pub fn openapi_v3_document_with(
        &self,
        group: &str,
        version: &str,
        paths: &[PathSpec],
        own: &[Described],
    ) -> Bytes {
        openapi::document(group, version, paths, own)
    }
}

/// What upstream's documents say about how clients show who they are.
const BEARER_TOKEN: &str = "Bearer Token authentication";

/// An OpenAPI v2 document, compressed in both of its forms.
pub(crate) struct Swagger {
    /// Upper-case hexadecimal digits of the SHA-512 of the JSON.
    pub etag: String,
    /// gzip of the JSON.
    pub json: Bytes,
    /// gzip of gnostic's protobuf.
    pub protobuf: Bytes,
}

impl Swagger {
    /// Makes the document of these groups and versions with their paths. Takes some 100 ms of one core and a few MB
    /// for as long; what stays are the compressed forms.
    pub fn make(served: &[Served]) -> std::io::Result<Swagger> {
        let text = blob::openapi();
        let mut sinks = (swagger_json::Parts::new()?, gnostic::Document::default());
        swagger::write(&text, served, &mut sinks);
        let (parts, document) = sinks;
        let (json, etag) = parts.finish()?;
        let protobuf = swagger_json::gzip(&document.finish(TITLE, openapi::VERSION))?;
        Ok(Swagger {
            etag,
            json,
            protobuf,
        })
    }
}

const TITLE: &str = "Kubernetes";

/// What `fieldValidation=Strict` answers 400 with and `Warn` puts into headers one by one: duplicate fields, then
/// unknown ones.
pub fn strict_problems(duplicates: &[Duplicate], unknown: Vec<String>) -> Vec<String> {
    let mut problems: Vec<String> = duplicates
        .iter()
        .map(|duplicate| format!("duplicate field {}", gotext::quote(&duplicate.0)))
        .collect();
    problems.extend(unknown);
    problems
}

/// Upstream's one sentence for them: `strict decoding error: unknown field "spec.foo", duplicate field "spec.bar"`.
/// Nothing if there is no problem.
pub fn strict_decoding_error(problems: &[String]) -> Option<String> {
    (!problems.is_empty()).then(|| format!("strict decoding error: {}", problems.join(", ")))
}

/// The message of the 400 that a body of the wrong shape gets, around a decoder's words:
/// `Deployment in version "v1" cannot be handled as a Deployment: ...`.
pub fn cannot_be_handled(body_kind: &str, version: &str, kind: &str, reason: &str) -> String {
    format!(
        "{body_kind} in version {} cannot be handled as a {kind}: {reason}",
        gotext::quote(version)
    )
}
