//! Writing answers: objects in the form asked for, errors as `Status`, streams.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, WARNING};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Context, table};
use crate::aggregate::Aggregated;
use crate::negotiate::Form;
use crate::server::ResponseBody;
use crate::status::ApiError;

pub(crate) type Response = http::Response<ResponseBody>;

/// A whole body.
pub(crate) fn full(bytes: impl Into<Bytes>) -> ResponseBody {
    Full::new(bytes.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// A JSON answer.
pub(crate) fn json(code: u16, body: impl Into<Bytes>) -> Response {
    typed(code, "application/json", body)
}

/// An answer of any type.
pub(crate) fn typed(code: u16, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = http::Response::new(full(body));
    *response.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // kube-apiserver says the same: nothing here may be served from a cache without asking.
    response.headers_mut().insert(
        http::header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    response
}

pub(crate) fn value(code: u16, value: &Value) -> Response {
    json(code, value.to_string())
}

/// The empty list of CustomResourceDefinitions, which this server does not have yet. kubectl asks for it before it says that it
/// knows no such kind; a 404 would hide that.
pub(crate) fn no_custom_resources(parts: &http::request::Parts, path: &str) -> Option<Response> {
    let asked = parts.method == http::Method::GET
        && path == "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    asked.then(|| {
        let list = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinitionList",
            "metadata": { "resourceVersion": "1" }, "items": [],
        });
        value(200, &list)
    })
}

pub(crate) fn text(text: &'static str) -> Response {
    typed(200, "text/plain; charset=utf-8", text)
}

pub(crate) fn error(error: &ApiError) -> Response {
    let mut response = value(error.code, &error.to_value());
    if let Some(seconds) = error.retry_after_seconds {
        response
            .headers_mut()
            .insert(http::header::RETRY_AFTER, seconds.into());
    }
    response
}

/// Adds `Warning` headers (RFC 7234 code 299).
pub(crate) fn warn(response: &mut Response, warnings: &[String]) {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(header) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(WARNING, header);
        }
    }
}

/// An object (in the served version) in the form the client asked for.
pub(super) fn object(
    context: &Context,
    code: u16,
    object: &Value,
    warnings: &[String],
) -> Result<Response, ApiError> {
    let mut response = match form(context)? {
        Form::Object | Form::MetadataList => value(code, object),
        Form::Table => value(
            code,
            &table::of_object(context.kind, object, include_object(context)),
        ),
        Form::Metadata => value(code, &partial(object)),
    };
    warn(&mut response, warnings);
    Ok(response)
}

pub(super) fn form(context: &Context) -> Result<Form, ApiError> {
    crate::negotiate::form(context.accept.as_deref())
}

/// What a table's rows carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IncludeObject {
    None,
    Metadata,
    Object,
}

pub(super) fn include_object(context: &Context) -> IncludeObject {
    match context.query.get("includeObject") {
        Some("None") => IncludeObject::None,
        Some("Object") => IncludeObject::Object,
        _ => IncludeObject::Metadata,
    }
}

/// The metadata of an object alone.
pub(super) fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// Hands a request on to an aggregated service.
pub(super) async fn aggregated(
    aggregated: Arc<Aggregated>,
    parts: http::request::Parts,
    body: Bytes,
) -> Result<Response, ApiError> {
    let request = http::Request::from_parts(parts, body);
    match aggregated.service().oneshot(request).await {
        Ok(response) => Ok(response.map(full)),
        Err(error) => {
            tracing::warn!(group = aggregated.group, %error, "an aggregated API failed");
            Err(ApiError::unavailable(
                "the server is currently unable to handle the request",
            ))
        }
    }
}
