//! Writing answers: objects in the form asked for, errors as `Status`, streams.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, WARNING};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Context, table, warnings};
use crate::aggregate::Aggregated;
use crate::codec::protobuf;
use crate::negotiate::{Answer, Form, Offer};
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
    for header in warnings::headers(warnings) {
        response.headers_mut().append(WARNING, header);
    }
}

/// An object (in the served version) in the form the client asked for.
pub(super) fn object(
    context: &Context,
    code: u16,
    object: &Value,
    warnings: &[String],
) -> Result<Response, ApiError> {
    let mut response = match answer(context, false)?.form {
        Form::Object => value(code, object),
        Form::MetadataList => return Err(not_a_list(context)),
        Form::Table => value(
            code,
            &table::of_object(&context.kind, object, include_object(context)),
        ),
        Form::Metadata => value(code, &partial(object)),
    };
    let found = context.warnings.take();
    warn(&mut response, &[warnings, &found].concat());
    Ok(response)
}

/// The format and shape that the client accepts; 406 if there is none.
pub(super) fn answer(context: &Context, stream: bool) -> Result<Answer, ApiError> {
    let accept = context.accept.as_deref();
    let asked = accept.is_some_and(|accept| accept.contains("protobuf"));
    let offer = Offer {
        protobuf: asked && protobuf::has_form(&context.kind.gvk()),
        stream,
    };
    crate::negotiate::answer(accept, offer)
}

fn not_a_list(context: &Context) -> ApiError {
    let kind = context.kind.kind;
    let message = format!(
        "you requested PartialObjectMetadataList, but the requested object is not a list (*{kind})"
    );
    ApiError::new(406, "NotAcceptable", message)
}

/// Upstream's refusal to show a list as the metadata of one object.
pub(super) fn is_a_list(context: &Context) -> ApiError {
    let kind = context.kind.kind;
    let message = format!(
        "you requested PartialObjectMetadata, but the requested object is a list (*{kind}List)"
    );
    ApiError::new(406, "NotAcceptable", message)
}

/// A stored object that cannot be written in the format asked for.
pub(super) fn cannot_encode(error: &protobuf::EncodeError) -> ApiError {
    ApiError::internal(error)
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
