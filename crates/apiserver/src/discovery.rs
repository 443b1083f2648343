//! Paths that are no resources: discovery (legacy and aggregated), version, OpenAPI.

use http::request::Parts;
use serde_json::{Value, json};

use crate::aggregate::AggregatedResource;
use crate::handlers::respond::{self, Response};
use crate::negotiate::{DiscoveryForm, discovery_form};
use crate::registry::{self, Kind, KindRef, Subresource};
use crate::server::State;
use crate::status::ApiError;

/// The Kubernetes version this API is at the level of.
const GIT_VERSION: &str = "v1.37.0";

/// Answers a path that names no resource.
pub(crate) fn answer(state: &State, parts: &Parts, path: &str) -> Result<Response, ApiError> {
    if !matches!(parts.method, http::Method::GET | http::Method::HEAD) {
        return Err(if path == "/version" || path.starts_with("/api") {
            ApiError::method_not_allowed()
        } else {
            ApiError::no_such_path()
        });
    }
    let accept = parts
        .headers
        .get(http::header::ACCEPT)
        .and_then(|v| v.to_str().ok());
    let trimmed = path.trim_end_matches('/');
    let segments: Vec<&str> = trimmed.split('/').skip(1).collect();
    let aggregated = |core: bool| match discovery_form(accept) {
        DiscoveryForm::Aggregated(version) => Some(aggregated_list(state, version, core)),
        DiscoveryForm::Legacy => None,
    };
    Ok(match segments.as_slice() {
        [] => respond::value(200, &json!({"paths": paths(state)})),
        ["version"] => respond::value(200, &version()),
        ["api"] => aggregated(true).unwrap_or_else(|| {
            respond::value(
                200,
                &json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs":
                    [{"clientCIDR": "0.0.0.0/0", "serverAddress": host(parts)}]}),
            )
        }),
        ["apis"] => aggregated(false).unwrap_or_else(|| {
            let groups: Vec<Value> = groups(state)
                .iter()
                .map(|(g, v)| group(g, v, false))
                .collect();
            respond::value(
                200,
                &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}),
            )
        }),
        ["api", "v1"] => respond::value(
            200,
            &resources(state, "", "v1").ok_or_else(ApiError::no_such_path)?,
        ),
        ["apis", name] => {
            let groups = groups(state);
            let (name, versions) = groups
                .iter()
                .find(|(g, _)| g == name)
                .ok_or_else(ApiError::no_such_path)?;
            respond::value(200, &group(name, versions, true))
        }
        ["apis", group, version] => respond::value(
            200,
            &resources(state, group, version).ok_or_else(ApiError::no_such_path)?,
        ),
        [".well-known", "openid-configuration"] => {
            let address = match state.config.advertise_address {
                Some(address) => address.to_string(),
                None => host(parts),
            };
            let document = state.tokens.discovery(&address).to_string();
            public(respond::json(200, document))
        }
        ["openid", "v1", "jwks"] => {
            let keys = state.tokens.key_set().to_string();
            public(respond::typed(200, "application/jwk-set+json", keys))
        }
        ["openapi", "v3"] => crate::openapi::index(state),
        ["openapi", "v3", "api", "v1"] => crate::openapi::version_3(state, parts, "", "v1")?,
        ["openapi", "v3", "apis", group, version] => {
            crate::openapi::version_3(state, parts, group, version)?
        }
        _ => return Err(ApiError::no_such_path()),
    })
}

/// What the issuer says of itself may be kept for an hour.
fn public(mut response: Response) -> Response {
    response.headers_mut().insert(
        http::header::CACHE_CONTROL,
        http::HeaderValue::from_static("public, max-age=3600"),
    );
    response
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "37", "emulationMajor": "1", "emulationMinor": "37",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "36",
        "gitVersion": GIT_VERSION, "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "rustc", "platform": format!("linux/{}", architecture()),
    })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn host(parts: &Parts) -> String {
    let header = parts
        .headers
        .get(http::header::HOST)
        .and_then(|v| v.to_str().ok());
    header
        .map(str::to_owned)
        .or_else(|| parts.uri.authority().map(ToString::to_string))
        .unwrap_or_default()
}

fn paths(state: &State) -> Vec<String> {
    let mut paths: Vec<String> = [
        crate::tokens::DISCOVERY_PATH,
        crate::tokens::JWKS_PATH,
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/livez",
        "/openapi/v3",
        "/readyz",
        "/version",
    ]
    .map(Into::into)
    .into();
    for (group, versions) in groups(state) {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.iter().map(|v| format!("/apis/{group}/{v}")));
    }
    paths.sort();
    paths
}

/// Every group but the core one with its versions, preferred first.
pub(crate) fn groups(state: &State) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = registry::groups()
        .into_iter()
        .map(|g| {
            (
                g.to_owned(),
                registry::versions(g)
                    .into_iter()
                    .map(str::to_owned)
                    .collect(),
            )
        })
        .collect();
    let set = state.custom.set();
    for name in set.groups() {
        let versions = set.versions(name).into_iter().map(str::to_owned);
        match groups.iter_mut().find(|(g, _)| g == name) {
            Some((_, known)) => {
                let new: Vec<_> = versions
                    .filter(|version| !known.contains(version))
                    .collect();
                known.extend(new);
            }
            None => groups.push((name.to_owned(), versions.collect())),
        }
    }
    for aggregated in state.aggregator.all() {
        match groups.iter_mut().find(|(g, _)| *g == aggregated.group) {
            Some((_, versions)) => {
                if !versions.contains(&aggregated.version) {
                    versions.push(aggregated.version.clone());
                }
            }
            None => groups.push((aggregated.group.clone(), vec![aggregated.version.clone()])),
        }
    }
    groups
}

fn group(name: &str, versions: &[String], whole: bool) -> Value {
    let entry = |v: &String| json!({"groupVersion": format!("{name}/{v}"), "version": v});
    let mut group = json!({
        "name": name,
        "versions": versions.iter().map(entry).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(entry),
    });
    if whole {
        group["kind"] = "APIGroup".into();
        group["apiVersion"] = "v1".into();
    }
    group
}

/// The kinds of a group version, those of the table first.
pub(crate) fn kinds(state: &State, group: &str, version: &str) -> Vec<KindRef> {
    let rows = registry::all().iter();
    let mut kinds: Vec<KindRef> = rows
        .filter(|k| k.group == group && k.version == version)
        .map(KindRef::BuiltIn)
        .collect();
    let set = state.custom.set();
    for kind in set
        .of_group(group)
        .iter()
        .filter(|kind| kind.version == version)
    {
        // a definition's kind never hides one of the table
        if registry::find(group, version, kind.plural).is_none() {
            kinds.push(KindRef::Custom(kind.clone()));
        }
    }
    kinds
}

/// Everything below an object of this kind, by name.
pub(crate) fn subresources(kind: &Kind) -> Vec<Subresource> {
    const WRITE: &[&str] = &["get", "patch", "update"];
    let mut all = kind.subresources.to_vec();
    if kind.status {
        all.push(Subresource {
            name: "status",
            kind: kind.kind,
            group: kind.group,
            version: kind.version,
            verbs: WRITE,
        });
    }
    if kind.scale {
        all.push(Subresource {
            name: "scale",
            kind: "Scale",
            group: "autoscaling",
            version: "v1",
            verbs: WRITE,
        });
    }
    all.sort_by_key(|s| s.name);
    all
}

/// The legacy list of resources.
fn resources(state: &State, group: &str, version: &str) -> Option<Value> {
    let mut list = Vec::new();
    for kind in kinds(state, group, version) {
        let mut entry = json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
            "verbs": kind.verbs(),
        });
        for (key, list) in [
            ("shortNames", kind.short_names()),
            ("categories", kind.categories()),
        ] {
            if list.as_array().is_some_and(|list| !list.is_empty()) {
                entry[key] = list;
            }
        }
        list.push(entry);
        for sub in subresources(&kind) {
            let mut entry = json!({
                "name": format!("{}/{}", kind.plural, sub.name), "singularName": "", "namespaced": kind.namespaced,
                "kind": sub.kind, "verbs": sub.verbs,
            });
            if (sub.group, sub.version) != (group, version) {
                entry["group"] = sub.group.into();
                entry["version"] = sub.version.into();
            }
            list.push(entry);
        }
    }
    let aggregated = state.aggregator.find(group, version);
    // Such a group version may have no resources at the moment.
    let known = aggregated.is_some() || !list.is_empty();
    if let Some(aggregated) = aggregated {
        list.extend((aggregated.resources)().iter().map(|r| {
            json!({"name": r.name, "singularName": r.singular, "namespaced": r.namespaced, "kind": r.kind,
                "verbs": r.verbs, "shortNames": r.short_names})
        }));
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    known.then(|| {
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list})
    })
}

/// `APIGroupDiscoveryList`, for the core group alone or for all others.
fn aggregated_list(state: &State, form: &'static str, core: bool) -> Response {
    let groups = if core {
        vec![(String::new(), vec!["v1".to_owned()])]
    } else {
        groups(state)
    };
    let items: Vec<Value> = groups
        .iter()
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|v| json!({"version": v, "freshness": "Current", "resources": aggregated_resources(state, group, v)}))
                .collect();
            json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": versions})
        })
        .collect();
    let list = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{form}"),
        "metadata": {}, "items": items,
    });
    let content_type = match form {
        "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    };
    let mut response = respond::typed(200, content_type, list.to_string());
    response
        .headers_mut()
        .insert(http::header::VARY, http::HeaderValue::from_static("Accept"));
    response
}

fn aggregated_resources(state: &State, group: &str, version: &str) -> Vec<Value> {
    let scope = |namespaced| if namespaced { "Namespaced" } else { "Cluster" };
    let mut list: Vec<Value> = kinds(state, group, version)
        .into_iter()
        .map(|kind| {
            let subresources: Vec<Value> = subresources(&kind)
                .into_iter()
                .map(|sub| {
                    json!({"subresource": sub.name, "verbs": sub.verbs,
                        "responseKind": {"group": sub.group, "version": sub.version, "kind": sub.kind}})
                })
                .collect();
            let mut entry = json!({
                "resource": kind.plural, "singularResource": kind.singular, "scope": scope(kind.namespaced),
                "verbs": kind.verbs(),
                "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
            });
            for (key, list) in [("shortNames", kind.short_names()), ("categories", kind.categories()), ("subresources", json!(subresources))] {
                if list.as_array().is_some_and(|l| !l.is_empty()) {
                    entry[key] = list;
                }
            }
            entry
        })
        .collect();
    if let Some(aggregated) = state.aggregator.find(group, version) {
        list.extend(discovered(group, version, &(aggregated.resources)()));
    }
    list
}

/// Resources of an aggregated group version. One with a slash in its name is a subresource, whose resource need not exist
/// itself (kube-aggregator `convertAPIResourceList…`).
fn discovered(group: &str, version: &str, resources: &[AggregatedResource]) -> Vec<Value> {
    let scope = |namespaced| if namespaced { "Namespaced" } else { "Cluster" };
    let mut list: Vec<Value> = Vec::new();
    for r in resources {
        let kind = json!({"group": group, "version": version, "kind": r.kind});
        let Some((resource, subresource)) = r.name.split_once('/') else {
            list.push(
                json!({"resource": r.name, "singularResource": r.singular, "scope": scope(r.namespaced),
                "verbs": r.verbs, "shortNames": r.short_names, "responseKind": kind}),
            );
            continue;
        };
        let entry = json!({"subresource": subresource, "verbs": r.verbs, "responseKind": kind});
        let parent = list
            .iter_mut()
            .rev()
            .find(|parent| parent["resource"] == resource);
        match parent.and_then(|parent| parent["subresources"].as_array_mut()) {
            Some(subresources) => subresources.push(entry),
            None => list.push(json!({"resource": resource, "scope": scope(r.namespaced), "singularResource": "",
                "responseKind": {"group": "", "version": "", "kind": ""}, "verbs": null, "subresources": [entry]})),
        }
    }
    list
}
