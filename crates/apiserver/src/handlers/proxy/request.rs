//! The request that is handed on.

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, HOST, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;

use crate::server::RequestBody;
use crate::status::ApiError;

/// What follows `/proxy`, as it was sent: with its escapes, and the slash that it begins with. `None` if nothing does.
pub fn rest(path: &str, namespaced: bool) -> Option<&str> {
    let before = if namespaced { 8 } else { 6 };
    let (at, _) = path.match_indices('/').nth(before - 1)?;
    Some(&path[at..])
}

/// The host by which the client reached this server.
pub fn host(parts: &Parts) -> Option<String> {
    let header = parts.headers.get(HOST).and_then(|v| v.to_str().ok());
    let authority = parts.uri.authority().map(|authority| authority.as_str());
    header.or(authority).map(str::to_owned)
}

/// The client's request for `rest`. What is of its connection alone, or says who the client is, stays here. Pages are to come
/// uncompressed, since their links are looked at.
pub fn outgoing(
    parts: Parts,
    rest: &str,
    host: &str,
    body: RequestBody,
) -> Result<http::Request<RequestBody>, ApiError> {
    let query = parts.uri.query().map(|query| format!("?{query}"));
    let uri = format!("{rest}{}", query.unwrap_or_default());
    let mut request = http::Request::new(body);
    *request.method_mut() = parts.method;
    *request.uri_mut() = uri
        .parse()
        .map_err(|e| ApiError::bad_request(format!("unusable path: {e}")))?;
    let upgrade = parts.headers.contains_key(UPGRADE);
    for (name, value) in &parts.headers {
        let text = name.as_str();
        let stays = [
            AUTHORIZATION,
            ACCEPT_ENCODING,
            HOST,
            TE,
            TRAILER,
            TRANSFER_ENCODING,
        ]
        .contains(name)
            || matches!(
                text,
                "keep-alive" | "proxy-connection" | "proxy-authorization"
            )
            || text.starts_with("impersonate-")
            || !upgrade && (*name == CONNECTION || *name == UPGRADE);
        if !stays {
            request.headers_mut().append(name.clone(), value.clone());
        }
    }
    let headers = request.headers_mut();
    let value = |text: &str| HeaderValue::from_str(text).ok();
    let host = value(host).ok_or_else(|| ApiError::bad_request("the host is not usable"))?;
    headers.insert(HOST, host);
    if let Some(asked) = value(parts.uri.path()) {
        headers.insert(HeaderName::from_static("x-forwarded-uri"), asked);
    }
    Ok(request)
}

/// An error of dialling in Go's words, which people search for.
pub fn words(host: &str, error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => format!("dial tcp {host}: connect: connection refused"),
        ErrorKind::TimedOut => format!("dial tcp {host}: i/o timeout"),
        ErrorKind::HostUnreachable => format!("dial tcp {host}: connect: no route to host"),
        ErrorKind::NetworkUnreachable => {
            format!("dial tcp {host}: connect: network is unreachable")
        }
        _ => format!("dial tcp {host}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_that_is_handed_on() {
        let of_service = "/api/v1/namespaces/a/services/web:80/proxy";
        for (more, expected) in [
            ("", None),
            ("/", Some("/")),
            ("/a/b/", Some("/a/b/")),
            ("/a%20b//c", Some("/a%20b//c")),
        ] {
            assert_eq!(rest(&format!("{of_service}{more}"), true), expected);
            assert_eq!(
                rest(&format!("/api/v1/nodes/n/proxy{more}"), false),
                expected
            );
        }
    }
}
