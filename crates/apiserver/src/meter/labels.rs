//! What requests are told apart by: words of this server and of kinds that it serves, never of clients.

use http::Method;

use crate::handlers::apply;
use crate::path::{RequestInfo, ResourceInfo};
use crate::registry::Kind;
use crate::server::{RequestBody, State};

/// Paths that are no resources and are told apart.
const PATHS: [&str; 12] = [
    "/healthz",
    "/livez",
    "/readyz",
    "/metrics",
    "/version",
    "/api",
    "/api/v1",
    "/apis",
    "/openapi/v2",
    "/openapi/v3",
    "/.well-known/openid-configuration",
    "/openid/v1/jwks",
];

/// What tells requests apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Labels {
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) resource: &'static str,
    pub(super) subresource: &'static str,
    pub(super) verb: &'static str,
    pub(super) scope: &'static str,
}

impl Labels {
    /// Of a request of which no more is known than its method.
    pub fn of_method(method: &Method) -> Self {
        let known = [
            "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT",
        ];
        let verb = known.into_iter().find(|known| *known == method.as_str());
        Self {
            verb: verb.unwrap_or("other"),
            ..Self::default()
        }
    }

    /// Of a request that this server was asked.
    pub fn of(state: &State, request: &http::Request<RequestBody>, info: &RequestInfo) -> Self {
        let Some(asked) = &info.resource else {
            return Self::of_path(request.method(), &info.path);
        };
        let content_type = request.headers().get(http::header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        match state.find(&asked.group, &asked.version, &asked.resource) {
            Some(kind) => {
                let applying = content_type.is_some_and(apply::is_apply);
                Self::of_resource(&kind, info, asked, applying)
            }
            None => Self::of_method(request.method()),
        }
    }

    /// Of a request for a path that is no resource.
    pub fn of_path(method: &Method, path: &str) -> Self {
        let path = path.trim_end_matches('/');
        let known = PATHS.into_iter().find(|known| *known == path);
        Self {
            subresource: known.unwrap_or_default(),
            ..Self::of_method(method)
        }
    }

    /// Of a request for a resource of this kind.
    pub fn of_resource(
        kind: &Kind,
        info: &RequestInfo,
        asked: &ResourceInfo,
        applying: bool,
    ) -> Self {
        let listed = kind.subresource(&asked.subresource);
        let connects = listed
            .as_ref()
            .is_some_and(|one| one.kind.ends_with("Options"));
        let verb = match info.verb.as_str() {
            _ if connects => "CONNECT",
            "get" => "GET",
            "list" => "LIST",
            "watch" => "WATCH",
            "create" => "POST",
            "update" => "PUT",
            "patch" if applying => "APPLY",
            "patch" => "PATCH",
            "delete" => "DELETE",
            "deletecollection" => "DELETECOLLECTION",
            _ => "other",
        };
        Self {
            group: kind.group,
            version: kind.version,
            resource: kind.plural,
            subresource: match (asked.subresource.as_str(), listed) {
                (_, Some(listed)) => listed.name,
                ("status", _) => "status",
                ("scale", _) => "scale",
                _ => "",
            },
            verb,
            scope: match () {
                () if !asked.name.is_empty() || info.verb == "create" => "resource",
                () if !asked.namespace.is_empty() => "namespace",
                () => "cluster",
            },
        }
    }
}
