//! `GET /openapi/v3/...`: documents that clients may keep for as long as the index names them by the same address.

use bytes::Bytes;
use http::header::{
    ACCEPT, CACHE_CONTROL, ETAG, EXPIRES, HeaderValue, IF_NONE_MATCH, LOCATION, VARY,
};
use http::request::Parts;
use jiff::{SignedDuration, Timestamp};

use super::{document, group_versions, knows};
use crate::handlers::respond::{self, Response};
use crate::query::Query;
use crate::schema::Schemas;
use crate::server::State;
use crate::status::ApiError;

/// How long a document under an address with its hash is good: that address never has another one.
const KEPT: SignedDuration = SignedDuration::from_hours(365 * 24);

/// The document of one group and version: 304 for who has it, 301 for who has the address of an older one.
pub(crate) fn answer(
    state: &State,
    parts: &Parts,
    group: &str,
    version: &str,
) -> Result<Response, ApiError> {
    let all = group_versions(state);
    let (.., own) = all
        .iter()
        .find(|(g, v, _)| g == group && v == version)
        .ok_or_else(ApiError::no_such_path)?;
    let hash = Schemas::load().openapi_v3_hash(*own);
    let query = Query::parse(parts.uri.query())?;
    let asked = query.get("hash").filter(|asked| !asked.is_empty());
    if asked.is_some_and(|asked| asked != hash) {
        let address = format!("{}?hash={hash}", parts.uri.path());
        return Ok(bare(301, LOCATION, &address));
    }
    let etag = format!("\"{hash}\"");
    let known = parts.headers.get(IF_NONE_MATCH);
    let known = known.and_then(|value| value.to_str().ok());
    let mut response = match known.is_some_and(|known| knows(known, &etag)) {
        true => bare(304, ETAG, &etag),
        false => document(state, group, version)?,
    };
    let headers = response.headers_mut();
    let mut set =
        |name, text: &str| HeaderValue::from_str(text).map(|text| headers.insert(name, text));
    let _ = set(ETAG, &etag);
    let _ = set(VARY, ACCEPT.as_str());
    if asked.is_some() {
        let expires = Timestamp::now()
            .saturating_add(KEPT)
            .unwrap_or(Timestamp::MAX);
        let expires = expires.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let _ = set(CACHE_CONTROL, "public, immutable");
        let _ = set(EXPIRES, &expires);
    }
    Ok(response)
}

fn bare(code: u16, name: http::HeaderName, text: &str) -> Response {
    let mut response = http::Response::new(respond::full(Bytes::new()));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    if let Ok(text) = HeaderValue::from_str(text) {
        response.headers_mut().insert(name, text);
    }
    response
}
