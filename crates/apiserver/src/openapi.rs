//! OpenAPI: v3's index and documents and v2's one document, from the registry's rows.

mod v2;
mod v3;

pub(crate) use v2::answer as version_2;
pub(crate) use v3::answer as version_3;

use crate::custom::openapi::describe;
use crate::discovery::{kinds, subresources};
use crate::handlers::respond::{self, Response};
use crate::registry::{self, Kind};
use crate::schema::{PathSpec, Schemas, Served};
use crate::server::State;
use crate::status::ApiError;

/// The addresses of all documents.
pub(crate) fn index(state: &State) -> Response {
    let all = group_versions(state);
    respond::json(200, Schemas::load().openapi_v3_index_stamped(&all))
}

/// Every group version, with what its document changes with besides the program.
fn group_versions(state: &State) -> Vec<(String, String, u64)> {
    let mut all: Vec<(String, String, u64)> = Vec::new();
    let mut add = |kind: &Kind| {
        let stamp = kind.custom.as_ref().map_or(0, |custom| custom.stamp);
        match all
            .iter_mut()
            .find(|(g, v, _)| g == kind.group && v == kind.version)
        {
            Some((.., all)) => *all = all.wrapping_add(stamp),
            None => all.push((kind.group.to_owned(), kind.version.to_owned(), stamp)),
        }
    };
    registry::all().iter().for_each(&mut add);
    let set = state.custom.set();
    for kind in set.groups().flat_map(|group| set.of_group(group)) {
        add(kind);
    }
    all
}

/// The document of one group version.
fn document(state: &State, group: &str, version: &str) -> Result<Response, ApiError> {
    let kinds = kinds(state, group, version);
    if kinds.is_empty() {
        return Err(ApiError::no_such_path());
    }
    let paths: Vec<PathSpec> = kinds.iter().flat_map(|kind| path_specs(kind)).collect();
    let own: Vec<_> = kinds
        .iter()
        .filter_map(|kind| Some(describe(kind, kind.custom.as_ref()?)))
        .flatten()
        .collect();
    let document = Schemas::load().openapi_v3_document_with(group, version, &paths, &own);
    Ok(respond::json(200, document))
}

/// Whether `If-None-Match` names the document.
fn knows(header: &str, etag: &str) -> bool {
    header
        .split(',')
        .map(str::trim)
        .any(|known| known == "*" || known.trim_start_matches("W/") == etag)
}

/// Every group and version of the program's own kinds, with its paths.
fn everything() -> Vec<Served> {
    let mut all: Vec<Served> = Vec::new();
    for kind in registry::all() {
        let specs = path_specs(kind);
        match all
            .iter_mut()
            .find(|s| s.group == kind.group && s.version == kind.version)
        {
            Some(served) => served.specs.extend(specs),
            None => all.push(Served {
                group: kind.group.to_owned(),
                version: kind.version.to_owned(),
                specs,
            }),
        }
    }
    all
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
        resource_kind: None,
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
            match kind.deletes_collections() {
                true => verbs(&["list", "create", "deletecollection"]),
                false => verbs(&["list", "create"]),
            },
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
        if sub.kind != kind.kind {
            described.resource_kind = Some(kind.kind.to_owned());
        }
        described.kind = sub.kind.to_owned();
        if (sub.group, sub.version) != (kind.group, kind.version) {
            described.kind_group = Some(sub.group.to_owned());
            described.kind_version = Some(sub.version.to_owned());
        }
        specs.push(described);
    }
    specs
}
