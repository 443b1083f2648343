//! The way of a request: authenticate, authorise, find the resource, dispatch.

mod access;
pub(crate) mod addresses;
mod admit;
pub(crate) mod apply;
mod binding;
mod body;
mod components;
mod continuation;
pub(crate) mod create;
mod custom;
mod deadline;
pub(crate) mod delete;
mod escalate;
mod evict;
mod finish;
pub(crate) mod health;
mod limits;
mod list;
mod metadata;
mod node_proxy;
mod patch;
mod pod_security;
pub(crate) mod priority;
mod proxy;
mod quotas;
pub(crate) mod respond;
mod reviews;
mod runtime_class;
mod scale;
mod signing;
mod subprotocol;
mod table;
mod token;
mod unsent;
mod warnings;
mod watch;
pub(crate) mod write;

pub(crate) use metadata::new_uid;
pub(crate) use scale::{labels_text, selector_text};

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::FutureExt as _;
use http::Method;
use http::request::Parts;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::auth::Identity;
use crate::meter::{Labels, Lasting};
use crate::path::{RequestInfo, ResourceInfo};
use crate::query::{ListOptions, Query};
use crate::registry::{KindRef, warn};
use crate::server::{RequestBody, State};
use crate::status::ApiError;
use respond::Response;
use warnings::Warnings;

/// A request for a resource, as far as it is understood.
pub(crate) struct Context {
    pub state: Arc<State>,
    pub identity: Identity,
    pub kind: KindRef,
    pub info: ResourceInfo,
    pub query: Query,
    /// What upstream calls the options of such a request: `CreateOptions`.
    pub options: &'static str,
    pub accept: Option<String>,
    /// The request comes from a role inside this process.
    pub role: bool,
    pub content_type: String,
    /// The request is a server-side apply: it brings the new field managers itself.
    pub applying: bool,
    /// Counts a request that lasts, as long as it does.
    pub lasting: Option<Lasting>,
    /// Who owns the fields that the request changes.
    pub manager: String,
    /// The subresource through which they do, where the request is one of the object itself now.
    pub through: Option<&'static str>,
    /// Ends the request's stream: the listener it came by shuts down.
    pub ending: CancellationToken,
    /// What the answer warns of beside what is wrong with the body.
    pub warnings: Warnings,
}

impl Context {
    /// The same request, of another object. What that is warned of is nobody's to hear.
    pub fn of(&self, kind: KindRef, info: ResourceInfo) -> Self {
        Self {
            state: self.state.clone(),
            identity: self.identity.clone(),
            kind,
            info,
            query: self.query.clone(),
            options: self.options,
            accept: self.accept.clone(),
            role: self.role,
            content_type: self.content_type.clone(),
            applying: self.applying,
            manager: self.manager.clone(),
            through: self.through,
            lasting: None,
            ending: self.ending.clone(),
            warnings: Warnings::default(),
        }
    }

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
                self.options,
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

/// Marks requests that come from this process, not by a socket.
#[derive(Clone, Copy)]
pub(crate) struct InProcess;

/// Answers a request; never fails, because failures are answers too.
pub(crate) fn handle(
    state: Arc<State>,
    identity: Option<Identity>,
    request: http::Request<RequestBody>,
) -> futures::future::BoxFuture<'static, Response> {
    Box::pin(async move {
        let wishes = finish::Wishes::of(&request);
        let safe = request.method().is_safe();
        let sending = state.clone();
        let began = Instant::now();
        let asked = Mutex::new(Asked {
            labels: Labels::of_method(request.method()),
            lasts: false,
        });
        // A bug in one request must not end the connection, or the role, that made it.
        let answer = std::panic::AssertUnwindSafe(route(state, identity, request, &asked))
            .catch_unwind()
            .await;
        let response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => respond::error(&error),
            Err(_) => respond::error(&ApiError::internal(
                "this request met a bug in the API server",
            )),
        };
        let response = unsent::counted(&sending, safe, wishes.grant(response).await).await;
        let Asked { labels, lasts } = *asked.lock();
        let took = (!lasts).then(|| began.elapsed());
        sending
            .meter
            .answered(labels, response.status().as_u16(), took);
        response
    })
}

/// What a request asks for, as far as it is known when it is answered.
#[derive(Clone, Copy)]
struct Asked {
    labels: Labels,
    lasts: bool,
}

async fn route(
    state: Arc<State>,
    identity: Option<Identity>,
    mut request: http::Request<RequestBody>,
    asked: &Mutex<Asked>,
) -> Result<Response, ApiError> {
    subprotocol::take_token(request.headers_mut())?;
    let path = request.uri().path();
    asked.lock().labels = Labels::of_path(request.method(), path);
    if let Some(health) = health::answer(&state, path, request.uri().query()).await? {
        return Ok(health);
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
    let mut query = Query::parse(request.uri().query())?;
    let old_watch = match *request.method() {
        Method::GET => crate::path::of_old_watch(path),
        _ => None,
    };
    let path = match &old_watch {
        Some(path) => {
            query.set("watch", "true");
            path
        }
        None => path,
    };
    let watch = query.flag("watch");
    let info =
        crate::path::parse(request.method(), path, watch).ok_or_else(ApiError::no_such_path)?;
    let labels = Labels::of(&state, &request, &info);
    let lasting = lasts(&info);
    *asked.lock() = Asked {
        labels,
        lasts: lasting,
    };
    access::authorize(&state, &identity, &info, &query)?;
    let (mut parts, body) = request.into_parts();
    let role = parts.extensions.get::<InProcess>().is_some();
    if lasting {
        parts.extensions.insert(state.meter.lasting(labels));
        return answered(state, identity, info, query, role, parts, body).await;
    }
    let limit = deadline::of(&query, state.config.limits.request_timeout)?;
    let reader = (!role).then(|| unsent::Reader(identity.user.clone()));
    let whole = async {
        let mutating = !matches!(info.verb.as_str(), "get" | "list" | "head" | "options");
        let _ticket = match role {
            true => None,
            false => Some(state.flows.admit(&identity, mutating).await?),
        };
        let _in_flight = state.meter.in_flight(mutating);
        answered(state.clone(), identity, info, query, role, parts, body).await
    };
    let mut answer = match tokio::time::timeout(limit, whole).await {
        Ok(answer) => answer?,
        Err(_) => return Err(ApiError::timeout()),
    };
    if let Some(reader) = reader {
        answer.extensions_mut().insert(reader);
    }
    Ok(answer)
}

/// Whether the request lasts as long as its client likes: those have no deadline and are not counted among the
/// requests in flight, but have places of their own.
fn lasts(info: &RequestInfo) -> bool {
    info.verb == "watch"
        || info.resource.as_ref().is_some_and(|resource| {
            matches!(
                resource.subresource.as_str(),
                "log" | "exec" | "attach" | "portforward" | "proxy"
            )
        })
}

async fn answered(
    state: Arc<State>,
    identity: Identity,
    info: RequestInfo,
    query: Query,
    role: bool,
    parts: Parts,
    body: RequestBody,
) -> Result<Response, ApiError> {
    if let Some(aggregated) = aggregated(&state, &info) {
        let body = body::collect(&parts.headers, body, &state.config).await?;
        return respond::aggregated(aggregated, parts, body).await;
    }
    match info.resource {
        None if info.path.trim_end_matches('/') == "/openapi/v2" && parts.method == Method::GET => {
            crate::openapi::version_2(&parts.headers).await
        }
        None if info.path == "/metrics" && parts.method == Method::GET => {
            let page = crate::meter::page(&state).await;
            Ok(respond::typed(200, crate::meter::CONTENT_TYPE, page))
        }
        None => crate::discovery::answer(&state, &parts, &info.path),
        Some(resource) => {
            let names = (&resource.group, &resource.version, &resource.resource);
            let kind = match state.find(names.0, names.1, names.2) {
                Some(kind) => kind,
                None => state
                    .custom
                    .find_late(&state, names.0, names.1, names.2)
                    .await
                    .ok_or_else(ApiError::no_such_path)?,
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
            let options = options_of(&parts.method);
            let agent = header(http::header::USER_AGENT);
            let context = Context {
                applying: parts.method == Method::PATCH && apply::is_apply(content_type),
                manager: apply::manager(&query, options, agent, &identity)?,
                through: None,
                options,
                state,
                identity,
                kind,
                info: resource,
                query,
                accept: header(http::header::ACCEPT).map(str::to_owned),
                role,
                lasting: parts.extensions.get::<Lasting>().cloned(),
                content_type: content_type.to_owned(),
                ending,
                warnings: Default::default(),
            };
            let deprecated = match &context.kind.custom {
                Some(custom) => custom.deprecated.clone(),
                None => warn::of_kind(context.kind.group, context.kind.kind).map(str::to_owned),
            };
            let mut response = dispatch(context, parts, body).await?;
            if let Some(warning) = &deprecated {
                respond::warn(&mut response, std::slice::from_ref(warning));
            }
            Ok(response)
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
    let kind = &context.kind;
    let info = &context.info;
    if kind.namespaced && info.namespace.is_empty() && !info.name.is_empty()
        || !kind.namespaced && !info.namespace.is_empty() && !kind.is("", "namespaces")
    {
        return Err(ApiError::no_such_path());
    }
    if let Some(subresource) = kind.subresource(&info.subresource)
        && subresource.kind.ends_with("Options")
    {
        return node_proxy::connect(context, parts, body).await;
    }
    // Before anything is done: a write whose answer nobody can read would be one that seems to have failed.
    respond::answer(
        &context,
        context.query.flag("watch") && parts.method == Method::GET,
    )?;
    let known = info.subresource.is_empty()
        || kind.subresource(&info.subresource).is_some()
        || info.subresource == "status" && kind.status
        || info.subresource == "scale" && kind.scale;
    if !known || !info.rest.is_empty() {
        return Err(ApiError::no_such_path());
    }
    custom::admit(&context, &parts.method).await?;
    let body = body::collect(&parts.headers, body, &context.state.config).await?;
    match info.subresource.as_str() {
        "" if kind.is("", "componentstatuses") => components::answer(&context, &parts),
        "" if kind.is("", "bindings") => match parts.method {
            Method::POST => binding::bind_named(&context, &body).await,
            _ => Err(ApiError::method_not_allowed()),
        },
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
    // of all namespaces together there is only reading
    let one_place = !context.kind.namespaced || !context.info.namespace.is_empty();
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
        Method::POST if !named && one_place => create::create(&context, &body).await,
        Method::PUT if named => write::update(&context, &body).await,
        Method::PATCH if named => patch::patch(&context, &body).await,
        Method::DELETE if named => delete::delete(&context, &body).await,
        Method::DELETE if one_place && context.kind.deletes_collections() => {
            delete::delete_collection(&context, &body).await
        }
        _ => Err(ApiError::method_not_allowed()),
    }
}

fn options_of(method: &Method) -> &'static str {
    match *method {
        Method::POST => "CreateOptions",
        Method::PUT => "UpdateOptions",
        Method::PATCH => "PatchOptions",
        Method::DELETE => "DeleteOptions",
        _ => "GetOptions",
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
