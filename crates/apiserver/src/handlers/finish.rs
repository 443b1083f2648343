//! The last steps of an answer: the format that the client asked for, lines for who reads it, compression of what is long.
//!
//! Handlers answer in JSON. Who asks for nothing else gets those bytes as they are; for the others a whole answer is
//! turned over here (lists and watches are written in protobuf by their own handlers, which need not unfold a whole
//! list for it).

use std::io::Write as _;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, USER_AGENT, VARY,
};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::respond::{self, Response};
use crate::codec::{protobuf, yaml};
use crate::negotiate::{self, Media};
use crate::query::Query;

/// Answers that are longer are compressed for who understands it (upstream's threshold).
const GZIP_BYTES_MIN: usize = 128 * 1024;

/// The answer goes out as another server gave it.
#[derive(Clone, Copy)]
pub(super) struct Verbatim;

/// Programs by which people look at answers themselves; upstream writes lines for the same.
const READ_BY_PEOPLE: [&str; 3] = ["curl", "Wget", "Mozilla/5.0"];

/// What a request says about the form of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wishes {
    media: Media,
    /// For a refusal.
    refusal: Media,
    gzip: bool,
    /// JSON in lines, not in one.
    pretty: bool,
}

impl Wishes {
    pub fn of<B>(request: &http::Request<B>) -> Self {
        let text = |name| {
            request
                .headers()
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok())
        };
        // Nearly everybody accepts JSON and says no more.
        let other = |accept: &str| accept.contains("protobuf") || accept.contains("yaml");
        let (media, refusal) = match text(ACCEPT).filter(|accept| other(accept)) {
            Some(accept) => (
                negotiate::media(accept),
                negotiate::media_of_refusal(accept),
            ),
            None => (Media::Json, Media::Json),
        };
        let gzip = text(ACCEPT_ENCODING).is_some_and(accepts_gzip);
        let asked = text(ACCEPT).is_some_and(negotiate::asks_for_lines);
        let people = text(USER_AGENT)
            .is_some_and(|agent| READ_BY_PEOPLE.iter().any(|one| agent.starts_with(one)));
        // Schemas are for programs, whoever fetches them, and have a name (ETag) that goes by their bytes.
        let schema = request.uri().path().starts_with("/openapi/");
        let pretty = asked || by_query(request.uri().query()).unwrap_or(people);
        Wishes {
            media,
            refusal,
            gzip,
            pretty: pretty && !schema,
        }
    }

    /// Gives the answer its last form.
    pub async fn grant(&self, response: Response) -> Response {
        if self.media == Media::Json && !self.gzip && !self.pretty {
            return response;
        }
        // A stream has no size that is known.
        let length = response.body().size_hint().exact();
        let (Some(length), false) = (length, is_verbatim(&response)) else {
            return response;
        };
        let refused = response.status().as_u16() >= 400;
        let media = if refused { self.refusal } else { self.media };
        let turns = media != Media::Json && is_json(&response);
        let pretty = self.pretty && media == Media::Json && is_json(&response);
        let shrinks = self.gzip && length > GZIP_BYTES_MIN as u64;
        if !turns && !pretty && !shrinks {
            return response;
        }
        let (mut parts, body) = response.into_parts();
        let Ok(body) = body.collect().await else {
            return respond::error(&crate::status::ApiError::internal("the answer was lost"));
        };
        let mut body = body.to_bytes();
        if turns {
            match turned(media, &body) {
                Ok(Some((content_type, turned))) => {
                    let content_type = HeaderValue::from_static(content_type);
                    parts.headers.insert(CONTENT_TYPE, content_type);
                    body = turned;
                }
                // Not an object that has the form: JSON it stays.
                Ok(None) => {}
                Err(error) => return respond::error(&respond::cannot_encode(&error)),
            }
        }
        if pretty {
            body = in_lines(body).await;
        }
        if self.gzip && body.len() > GZIP_BYTES_MIN {
            let plain = body.clone();
            let packed = tokio::task::spawn_blocking(move || gzip(&plain)).await;
            if let Ok(Some(packed)) = packed {
                let headers = &mut parts.headers;
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
                body = packed;
            }
        }
        Response::from_parts(parts, respond::full(body))
    }
}

fn is_json(response: &Response) -> bool {
    response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value == "application/json")
}

fn is_verbatim(response: &Response) -> bool {
    response.extensions().get::<Verbatim>().is_some()
        || response.headers().contains_key(CONTENT_ENCODING)
}

/// What `?pretty=` says, if it is there and says something.
fn by_query(query: Option<&str>) -> Option<bool> {
    let query = query.filter(|query| query.contains("pretty"))?;
    let query = Query::parse(Some(query)).ok()?;
    let said = query.get("pretty")?;
    Some(matches!(said, "1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// JSON with a line for each value; what is no JSON stays as it is.
async fn in_lines(body: Bytes) -> Bytes {
    let lines = |body: &Bytes| {
        let value: Value = serde_json::from_slice(body).ok()?;
        serde_json::to_vec_pretty(&value).ok().map(Bytes::from)
    };
    let turned = if body.len() > GZIP_BYTES_MIN {
        let body = body.clone();
        let turned = tokio::task::spawn_blocking(move || lines(&body)).await;
        turned.ok().flatten()
    } else {
        lines(&body)
    };
    turned.unwrap_or(body)
}

/// The body in another format, with its content type; none if it has no such form.
fn turned(
    media: Media,
    json: &[u8],
) -> Result<Option<(&'static str, Bytes)>, protobuf::EncodeError> {
    let Ok(mut value) = serde_json::from_slice::<Value>(json) else {
        return Ok(None);
    };
    match media {
        Media::Json => Ok(None),
        Media::Yaml => Ok(yaml::encode(&value).map(|text| ("application/yaml", text.into()))),
        Media::Protobuf => {
            // The one kind that upstream shows without a version.
            if value["kind"] == "APIVersions" {
                value["apiVersion"] = "v1".into();
            }
            let text = |key: &str| value[key].as_str().unwrap_or_default();
            let (group, version) = match text("apiVersion").split_once('/') {
                Some((group, version)) => (group, version),
                None => ("", text("apiVersion")),
            };
            let gvk = crate::schema::Gvk::gvk(group, version, text("kind"));
            if !protobuf::has_form(&gvk) {
                return Ok(None);
            }
            Ok(Some((
                protobuf::CONTENT_TYPE,
                protobuf::encode(&value)?.into(),
            )))
        }
    }
}

/// Whether `Accept-Encoding` names gzip and does not refuse it.
fn accepts_gzip(header: &str) -> bool {
    header.split(',').any(|clause| {
        let mut parts = clause.split(';').map(str::trim);
        parts.next() == Some("gzip")
            && !parts.any(|part| {
                part.strip_prefix("q=")
                    .is_some_and(|q| q.parse::<f32>() == Ok(0.0))
            })
    })
}

/// Compressed as upstream does it: fast rather than small.
fn gzip(plain: &[u8]) -> Option<Bytes> {
    let room = Vec::with_capacity(plain.len() / 4);
    let mut encoder = flate2::write::GzEncoder::new(room, flate2::Compression::fast());
    encoder.write_all(plain).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gets_lines() {
        for (agent, accept, uri, expected) in [
            ("kubectl/v1.37.1", "application/json", "/api", false),
            ("curl/8.5.0", "*/*", "/api", true),
            ("Wget/1.21", "*/*", "/api", true),
            ("Mozilla/5.0 (X11)", "text/html,*/*", "/api", true),
            ("not-curl", "*/*", "/api", false),
            ("curl/8.5.0", "*/*", "/api?pretty=false", false),
            ("curl/8.5.0", "*/*", "/api?pretty=", true),
            ("curl/8.5.0", "*/*", "/api?pretty=maybe", false),
            ("curl/8.5.0", "*/*", "/openapi/v2?pretty=true", false),
            (
                "kubectl/v1.37.1",
                "application/json",
                "/api?pretty=true",
                true,
            ),
            (
                "kubectl/v1.37.1",
                "application/json",
                "/api?limit=1&pretty=1",
                true,
            ),
            (
                "kubectl/v1.37.1",
                "application/json",
                "/api?labelSelector=pretty",
                false,
            ),
            ("kubectl/v1.37.1", "application/json;pretty=1", "/api", true),
            (
                "kubectl/v1.37.1",
                "application/json;pretty=0",
                "/api",
                false,
            ),
        ] {
            let request = http::Request::get(uri)
                .header(USER_AGENT, agent)
                .header(ACCEPT, accept)
                .body(())
                .expect("a request");
            assert_eq!(
                Wishes::of(&request).pretty,
                expected,
                "{agent} {accept} {uri}"
            );
        }
    }

    #[test]
    fn what_clients_say_about_encodings() {
        for (header, expected) in [
            ("gzip", true),
            ("deflate, gzip;q=0.5", true),
            ("gzip;q=0", false),
            ("br", false),
            ("x-gzip", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(header), expected, "{header:?}");
        }
    }
}
