//! The proxy subresources of pods, services and nodes: any method and path, handed on to what the object names.
//!
//! Follows `pkg/registry/core/{pod,service,node}` (where it goes, and the words of refusals) and apimachinery's
//! `pkg/util/proxy` (what happens to headers, redirects and pages).

pub(super) mod forward;
mod name;
mod request;
mod rewrite;
mod target;

use std::net::IpAddr;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use http::request::Parts;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use super::Context;
use super::respond::{self, Response};
use crate::flow::places::Place;
use crate::kubelet::NodeStream;
use crate::server::RequestBody;
use crate::status::ApiError;
use forward::Outcome;
use rewrite::Links;
use target::Target;

/// Longer pages are not searched for links.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Answers a request of such a subresource.
pub(super) async fn connect(
    context: Context,
    mut parts: Parts,
    body: RequestBody,
    place: Place,
) -> Result<Response, ApiError> {
    let known = matches!(
        parts.method,
        Method::GET
            | Method::HEAD
            | Method::POST
            | Method::PUT
            | Method::PATCH
            | Method::DELETE
            | Method::OPTIONS
    );
    if !known {
        return Err(ApiError::method_not_allowed());
    }
    let target = target::find(&context).await?;
    let Some(rest) = request::rest(parts.uri.path(), context.kind.namespaced) else {
        return Ok(with_slash(&parts));
    };
    let rest = rest.to_owned();
    let client_side = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
    let method = parts.method.clone();
    let path = parts.uri.path();
    let prefix = path[..path.len() - rest.len()].to_owned();
    let source = target.host();
    let client = request::host(&parts).unwrap_or_else(|| source.clone());
    let outgoing = request::outgoing(parts, &rest, &client, body)?;
    let failed = |error: &dyn std::fmt::Display| {
        ApiError::unavailable(format!("error trying to reach service: {error}"))
    };
    let stream = dial(&context, &target)
        .await
        .map_err(|error| failed(&request::words(&source, &error)))?;
    let links = Links {
        prefix: &prefix,
        source: &source,
        client: &client,
    };
    match forward::send(stream, outgoing, client_side, place, failed).await? {
        Outcome::Upgraded(response) => Ok(response),
        Outcome::Answered(answer, place) => rewritten(answer, place, &method, &links).await,
    }
}

async fn dial(context: &Context, target: &Target) -> std::io::Result<Box<dyn NodeStream>> {
    let unset = || std::io::Error::other("this API server has no way to reach nodes");
    let (address, port) = (target.address.as_str(), target.port);
    if target.kubelet {
        let dialer = context.state.dialer.read().clone();
        return dialer.ok_or_else(unset)?.dial(address, port).await;
    }
    let dialer = context.state.backends.read().clone();
    let stream = dialer.dial(address, port).await?;
    match address.parse::<IpAddr>() {
        Ok(ip) if target.https => crate::backend::encrypted(stream, ip).await,
        _ => Ok(stream),
    }
}

/// An empty path is sent to one that ends with a slash, so that relative links of pages lead on.
fn with_slash(parts: &Parts) -> Response {
    let query = parts.uri.query().map(|query| format!("?{query}"));
    let location = format!("{}/{}", parts.uri.path(), query.unwrap_or_default());
    let mut response = http::Response::new(respond::full(""));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

async fn rewritten(
    answer: http::Response<Incoming>,
    place: Place,
    method: &Method,
    links: &Links<'_>,
) -> Result<Response, ApiError> {
    let (mut head, body) = answer.into_parts();
    // Who may call this server from a page is not for a pod to say.
    for name in ["credentials", "headers", "methods", "origin"] {
        head.headers.remove(format!("access-control-allow-{name}"));
    }
    let location = head.headers.get(LOCATION).and_then(|v| v.to_str().ok());
    if let Some(location) = location {
        let new = links.rewritten(location);
        if let Some(new) = new.and_then(|new| HeaderValue::from_str(&new).ok()) {
            head.headers.insert(LOCATION, new);
        }
        return Ok(forward::passed(
            http::Response::from_parts(head, body),
            place,
        ));
    }
    let content_type = head.headers.get(CONTENT_TYPE);
    let content_type = content_type.and_then(|v| v.to_str().ok()).unwrap_or("");
    let is_page = content_type.split(';').next().map(str::trim) == Some("text/html");
    let length = http_body::Body::size_hint(&body).upper();
    let is_long = length.is_some_and(|length| length > PAGE_BYTES_MAX as u64);
    let is_packed = head.headers.contains_key(CONTENT_ENCODING);
    if !is_page || is_long || is_packed || *method == Method::HEAD {
        return Ok(forward::passed(
            http::Response::from_parts(head, body),
            place,
        ));
    }
    let page = Limited::new(body, PAGE_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| {
            ApiError::unavailable(format!("error trying to reach service: {error}"))
        })?;
    drop(place);
    let page = links.page(&page.to_bytes());
    head.headers.remove(http::header::TRANSFER_ENCODING);
    head.headers.remove(http::header::CONNECTION);
    head.headers.insert(CONTENT_LENGTH, page.len().into());
    head.extensions = http::Extensions::new();
    head.extensions.insert(super::finish::Verbatim);
    Ok(http::Response::from_parts(head, respond::full(page)))
}
