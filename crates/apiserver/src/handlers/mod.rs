//! The way of a request: authenticate, authorise, find the resource, dispatch.

mod access;
pub(crate) mod addresses;
mod admit;
mod apply;
mod binding;
mod body;
mod delete;
mod escalate;
mod evict;
mod list;
mod metadata;
mod node_proxy;
mod patch;
pub(crate) mod priority;
pub(crate) mod respond;
mod reviews;
mod scale;
mod table;
mod token;
mod watch;
pub(crate) mod write;

pub(crate) use metadata::new_uid;
pub(crate) use scale::{labels_text, selector_text};

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use http::Method;
use http::request::Parts;
use tokio_util::sync::CancellationToken;

use crate::auth::Identity;
use crate::path::{RequestInfo, ResourceInfo};
use crate::query::{ListOptions, Query};
use crate::registry::{self, Kind};
use crate::server::{RequestBody, State};
use crate::status::ApiError;
use respond::Response;

/// A request for a resource, as far as it is understood.
pub(crate) struct Context {
    pub state: Arc<State>,
    pub identity: Identity,
    pub kind: &'static Kind,
    pub info: ResourceInfo,
    pub query: Query,
    pub accept: Option<String>,
    pub content_type: String,
    /// The request is a server-side apply: it brings the new field managers itself.
    pub applying: bool,
    /// Who owns the fields that the request changes.
    pub manager: String,
    /// Ends the request's stream: the listener it came by shuts down.
    pub ending: CancellationToken,
}

impl Context {
    pub fn not_found(&self, name: &str) -> ApiError {
        ApiError::not_found(self.kind.group, self.kind.plural, name)
    }

    /// Whether the request asks to be tried without effect.
    pub fn dry_run(&self) -> Result<bool, ApiError> {
        match self.query.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => Err(ApiError::invalid(
                "meta.k8s.io",
                "CreateOptions",
                "",
                vec![crate::status::Cause {
                    reason: "FieldValueNotSupported",
                    message: format!("Unsupported value: {other:?}: supported values: \"All\""),
                    field: "dryRun".into(),
                }],
            )),
        }
    }
}

/// Answers a request; never fails, because failures are answers too.
pub(crate) fn handle(
    state: Arc<State>,
    identity: Option<Identity>,
    request: http::Request<RequestBody>,
) -> futures::future::BoxFuture<'static, Response> {
    Box::pin(async move {
        // A bug in one request must not end the connection, or the role, that made it.
        let answer = std::panic::AssertUnwindSafe(route(state, identity, request))
            .catch_unwind()
            .await;
        match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => respond::error(&error),
            Err(_) => respond::error(&ApiError::internal(
                "this request met a bug in the API server",
            )),
        }
    })
}

async fn route(
    state: Arc<State>,
    identity: Option<Identity>,
    request: http::Request<RequestBody>,
) -> Result<Response, ApiError> {
    let path = request.uri().path();
    if matches!(
        path,
        "/healthz" | "/livez" | "/readyz" | "/healthz/ping" | "/livez/ping" | "/readyz/ping"
    ) {
        return Ok(respond::text("ok"));
    }
    if path.len() > state.config.limits.path_bytes_max {
        return Err(ApiError::new(
            414,
            "RequestURITooLong",
            "the path of the request is too long",
        ));
    }
    let identity = access::identify(&state, identity, request.headers(), path).await?;
    let identity = access::impersonated(&state, identity, request.headers())?;
    let query = Query::parse(request.uri().query())?;
    let watch = query.flag("watch");
    let info =
        crate::path::parse(request.method(), path, watch).ok_or_else(ApiError::no_such_path)?;
    access::authorize(&state, &identity, &info, &query)?;
    let (parts, body) = request.into_parts();
    if let Some(aggregated) = aggregated(&state, &info) {
        let body = body::collect(&parts.headers, body, &state.config).await?;
        return respond::aggregated(aggregated, parts, body).await;
    }
    match info.resource {
        None => crate::discovery::answer(&state, &parts, &info.path),
        Some(resource) => {
            let Some(kind) = registry::find(&resource.group, &resource.version, &resource.resource)
            else {
                return respond::no_custom_resources(&parts, &info.path)
                    .ok_or_else(ApiError::no_such_path);
            };
            let header = |name| {
                parts
                    .headers
                    .get(name)
                    .and_then(|v: &http::HeaderValue| v.to_str().ok())
            };
            let ending = parts
                .extensions
                .get::<CancellationToken>()
                .cloned()
                .unwrap_or_default();
            let content_type = header(http::header::CONTENT_TYPE).unwrap_or_default();
            let context = Context {
                applying: parts.method == Method::PATCH && apply::is_apply(content_type),
                manager: apply::manager(&query, header(http::header::USER_AGENT), &identity)?,
                state,
                identity,
                kind,
                info: resource,
                query,
                accept: header(http::header::ACCEPT).map(str::to_owned),
                content_type: content_type.to_owned(),
                ending,
            };
            dispatch(context, parts, body).await
        }
    }
}

fn aggregated(state: &State, info: &RequestInfo) -> Option<Arc<crate::aggregate::Aggregated>> {
    let mut segments = info.path.split('/').skip(1);
    if segments.next()? != "apis" {
        return None;
    }
    let (group, version) = (segments.next()?, segments.next()?);
    // The list of resources itself is discovery's.
    segments.next().filter(|s| !s.is_empty())?;
    state.aggregator.find(group, version)
}

async fn dispatch(context: Context, parts: Parts, body: RequestBody) -> Result<Response, ApiError> {
    let kind = context.kind;
    let info = &context.info;
    if kind.namespaced && info.namespace.is_empty() && !info.name.is_empty()
        || !kind.namespaced && !info.namespace.is_empty() && kind.plural != "namespaces"
    {
        return Err(ApiError::no_such_path());
    }
    if let Some(subresource) = kind.subresource(&info.subresource)
        && subresource.kind.ends_with("Options")
    {
        return node_proxy::connect(context, parts, body).await;
    }
    let known = info.subresource.is_empty()
        || kind.subresource(&info.subresource).is_some()
        || info.subresource == "status" && kind.status
        || info.subresource == "scale" && kind.scale;
    if !known || !info.rest.is_empty() {
        return Err(ApiError::no_such_path());
    }
    let body = body::collect(&parts.headers, body, &context.state.config).await?;
    match info.subresource.as_str() {
        "" if kind.storage.is_empty() => match parts.method {
            Method::POST => reviews::answer(&context, &body).await,
            _ => Err(ApiError::method_not_supported(
                kind.group,
                kind.plural,
                verb(&parts.method),
            )),
        },
        "" => resource(context, &parts, body).await,
        "scale" => match parts.method {
            Method::GET => scale::get(&context).await,
            Method::PUT => scale::update(&context, &body).await,
            Method::PATCH => scale::patch(&context, &body).await,
            _ => Err(ApiError::method_not_allowed()),
        },
        "token" => match parts.method {
            Method::POST => token::create(&context, &body).await,
            _ => Err(ApiError::method_not_allowed()),
        },
        "binding" | "eviction" => match parts.method {
            Method::POST if info.subresource == "binding" => binding::bind(&context, &body).await,
            Method::POST => evict::evict(&context, &body).await,
            _ => Err(ApiError::method_not_allowed()),
        },
        _ => match parts.method {
            Method::GET if info.subresource != "finalize" => list::get(&context).await,
            Method::PUT => write::update(&context, &body).await,
            Method::PATCH if info.subresource != "finalize" => patch::patch(&context, &body).await,
            _ => Err(ApiError::method_not_allowed()),
        },
    }
}

async fn resource(context: Context, parts: &Parts, body: Bytes) -> Result<Response, ApiError> {
    let named = !context.info.name.is_empty();
    match parts.method {
        Method::GET | Method::HEAD => {
            if named && !context.query.flag("watch") {
                return list::get(&context).await;
            }
            let options = ListOptions::parse(&context.query)?;
            if options.watch {
                watch::watch(context, &options).await
            } else {
                list::list(&context, &options).await
            }
        }
        Method::POST if !named => write::create(&context, &body).await,
        Method::PUT if named => write::update(&context, &body).await,
        Method::PATCH if named => patch::patch(&context, &body).await,
        Method::DELETE if named => delete::delete(&context, &body).await,
        Method::DELETE => delete::delete_collection(&context, &body).await,
        _ => Err(ApiError::method_not_allowed()),
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "create",
    }
}
