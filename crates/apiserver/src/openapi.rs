//! OpenAPI v3: the index and the documents, from the registry's rows.

use crate::discovery::{kinds, subresources};
use crate::handlers::respond::{self, Response};
use crate::registry::{self, Kind};
use crate::schema::{PathSpec, Schemas};
use crate::status::ApiError;

/// The addresses of all documents.
pub(crate) fn index() -> Response {
    respond::json(200, Schemas::load().openapi_v3_index(&built_in()))
}

/// An OpenAPI v2 document without schemas: those are in v3. kubectl asks for it when it meets a kind that v3 does not have, and
/// says that it knows no such kind only if it gets an answer. In protobuf (field 1, the version) for those who ask for that.
pub(crate) fn version_2(accept: Option<&str>) -> Response {
    if accept.is_some_and(|accept| accept.contains("proto-openapi.spec.v2")) {
        let document: &[u8] = b"\x0a\x032.0";
        return respond::typed(
            200,
            "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
            document,
        );
    }
    let info = serde_json::json!({ "title": "Plimsoll", "version": env!("CARGO_PKG_VERSION") });
    respond::value(
        200,
        &serde_json::json!({ "swagger": "2.0", "info": info, "paths": {} }),
    )
}

fn built_in() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for kind in registry::all() {
        let pair = (kind.group.to_owned(), kind.version.to_owned());
        if !all.contains(&pair) {
            all.push(pair);
        }
    }
    all
}

/// The document of one group version.
pub(crate) fn document(group: &str, version: &str) -> Result<Response, ApiError> {
    let kinds = kinds(group, version);
    if kinds.is_empty() {
        return Err(ApiError::no_such_path());
    }
    let paths: Vec<PathSpec> = kinds.into_iter().flat_map(path_specs).collect();
    Ok(respond::json(
        200,
        Schemas::load().openapi_v3_document(group, version, &paths),
    ))
}

/// The paths of a kind, for the OpenAPI document.
fn path_specs(kind: &Kind) -> Vec<PathSpec> {
    let root = if kind.group.is_empty() {
        format!("/api/{}", kind.version)
    } else {
        format!("/apis/{}/{}", kind.group, kind.version)
    };
    let base = if kind.namespaced {
        format!("{root}/namespaces/{{namespace}}/{}", kind.plural)
    } else {
        format!("{root}/{}", kind.plural)
    };
    let verbs = |of: &[&str]| of.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>();
    let spec = |path: String, verbs: Vec<String>, namespaced: bool| PathSpec {
        path,
        kind: kind.kind.to_owned(),
        kind_group: None,
        kind_version: None,
        verbs,
        namespaced,
    };
    if kind.storage.is_empty() {
        return vec![spec(base, verbs(&["create"]), kind.namespaced)];
    }
    let mut specs = vec![
        spec(
            base.clone(),
            verbs(&["list", "create", "deletecollection"]),
            kind.namespaced,
        ),
        spec(
            format!("{base}/{{name}}"),
            verbs(&["get", "update", "patch", "delete"]),
            kind.namespaced,
        ),
    ];
    if kind.namespaced {
        specs.push(spec(
            format!("{root}/{}", kind.plural),
            verbs(&["list"]),
            false,
        ));
    }
    for sub in subresources(kind) {
        // Streams have no schema a client could use.
        if sub.kind.ends_with("Options") {
            continue;
        }
        let path = format!("{base}/{{name}}/{}", sub.name);
        let mut described = spec(path, verbs(sub.verbs), kind.namespaced);
        described.kind = sub.kind.to_owned();
        if (sub.group, sub.version) != (kind.group, kind.version) {
            described.kind_group = Some(sub.group.to_owned());
            described.kind_version = Some(sub.version.to_owned());
        }
        specs.push(described);
    }
    specs
}
