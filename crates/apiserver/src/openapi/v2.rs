//! `GET /openapi/v2`: made when it is first asked for, kept compressed.

use std::io::Read as _;
use std::sync::OnceLock;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, VARY,
};

use super::knows;
use crate::handlers::respond::{self, Response};
use crate::schema::Swagger;
use crate::status::ApiError;

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// The same under the name that clients still ask for.
const PROTOBUF_DEPRECATED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// More than the document is, unpacked.
const UNPACKED_BYTES_MAX: u64 = 64 << 20;

/// Answers with the document in the first form of `Accept` that there is, or 304 when the client has it already.
pub(crate) async fn answer(headers: &HeaderMap) -> Result<Response, ApiError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(content_type) = chosen(text(ACCEPT).unwrap_or("*/*")) else {
        return Ok(respond::typed(406, "text/plain", ""));
    };
    // Making it takes a while, the first time.
    let made = tokio::task::spawn_blocking(document).await;
    let swagger = made
        .map_err(ApiError::internal)?
        .map_err(ApiError::internal)?;
    let etag = format!("\"{}\"", swagger.etag);
    let mut response = if text(IF_NONE_MATCH).is_some_and(|known| knows(known, &etag)) {
        let mut response = http::Response::new(respond::full(Bytes::new()));
        *response.status_mut() = http::StatusCode::NOT_MODIFIED;
        response
    } else {
        let packed = match content_type {
            JSON => &swagger.json,
            _ => &swagger.protobuf,
        };
        let gzip = text(ACCEPT_ENCODING).is_some_and(|accepted| accepted.contains("gzip"));
        let body = match gzip {
            true => packed.clone(),
            false => unpacked(packed).map_err(ApiError::internal)?,
        };
        let mut response = respond::typed(200, content_type, body);
        if gzip {
            let gzip = HeaderValue::from_static("gzip");
            response.headers_mut().insert(CONTENT_ENCODING, gzip);
        }
        response
    };
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, etag);
    }
    for name in ["Accept", "Accept-Encoding"] {
        headers.append(VARY, HeaderValue::from_static(name));
    }
    Ok(response)
}

/// The document of this process: kinds that are built in do not change while it runs.
fn document() -> std::io::Result<&'static Swagger> {
    static DOCUMENT: OnceLock<Swagger> = OnceLock::new();
    if let Some(made) = DOCUMENT.get() {
        return Ok(made);
    }
    let made = Swagger::make(&super::everything())?;
    Ok(DOCUMENT.get_or_init(|| made))
}

/// The content type for an `Accept` header.
fn chosen(accept: &str) -> Option<&'static str> {
    accept
        .split(',')
        .find_map(|clause| match clause.split(';').next()?.trim() {
            "*/*" | "application/*" | JSON => Some(JSON),
            PROTOBUF | PROTOBUF_DEPRECATED => Some(PROTOBUF),
            _ => None,
        })
}

fn unpacked(packed: &[u8]) -> std::io::Result<Bytes> {
    let mut out = Vec::with_capacity(packed.len() * 8);
    flate2::read::GzDecoder::new(packed)
        .take(UNPACKED_BYTES_MAX)
        .read_to_end(&mut out)?;
    Ok(out.into())
}
