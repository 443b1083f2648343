//! Tokens of browsers: their WebSockets carry no header of one's own, so the token comes as one more subprotocol.
//!
//! Source followed: `k8s.io/apiserver/pkg/authentication/request/websocket/protocol.go`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue};

use crate::status::ApiError;

const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// Takes a token out of the subprotocols and makes an `Authorization` of it where there is none, so that whoever gets the
/// request next sees no token among them.
///
/// # Errors
/// 401 for several tokens, one that cannot be read, and one without a subprotocol beside it that could be agreed upon.
pub(super) fn take_token(headers: &mut HeaderMap) -> Result<(), ApiError> {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    if !upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
        return Ok(());
    }
    let all = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let all = all.filter_map(|value| value.to_str().ok());
    let all = all.flat_map(|value| value.split(',')).map(str::trim);
    let (tokens, others): (Vec<&str>, Vec<&str>) = all.partition(|one| one.starts_with(PREFIX));
    let [token] = tokens[..] else {
        return match tokens.len() {
            0 => Ok(()),
            _ => Err(ApiError::unauthorized()),
        };
    };
    let token = URL_SAFE_NO_PAD.decode(&token[PREFIX.len()..]).ok();
    let token = token.and_then(|bytes| String::from_utf8(bytes).ok());
    let token = token.and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok());
    let others = HeaderValue::try_from(others.join(", "))
        .ok()
        .filter(|value| !value.is_empty());
    let (Some(token), Some(others)) = (token, others) else {
        return Err(ApiError::unauthorized());
    };
    headers.insert(SEC_WEBSOCKET_PROTOCOL, others);
    headers.entry(AUTHORIZATION).or_insert(token);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of these subprotocols, and the authorization that came of them.
    fn taken(upgrade: &str, given: &[&str]) -> Option<(Vec<String>, Option<String>)> {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, upgrade.parse().expect("a header"));
        for one in given {
            headers.append(SEC_WEBSOCKET_PROTOCOL, one.parse().expect("a header"));
        }
        take_token(&mut headers).ok()?;
        let text = |value: &HeaderValue| value.to_str().expect("text").to_owned();
        let left = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
        Some((
            left.map(text).collect(),
            headers.get(AUTHORIZATION).map(text),
        ))
    }

    #[test]
    fn a_token_leaves_the_subprotocols() {
        // "abc" and "a>?" in base64 for URLs
        let (abc, special) = (format!("{PREFIX}YWJj"), format!("{PREFIX}YT4_"));
        let v5 = "v5.channel.k8s.io";
        let both = format!("{abc}, {v5}");
        let with = |left: &str, token: &str| Some((vec![left.to_owned()], Some(token.to_owned())));
        assert_eq!(taken("websocket", &[&both]), with(v5, "Bearer abc"));
        assert_eq!(taken("WebSocket", &[v5, &special]), with(v5, "Bearer a>?"));
        let two = format!("{v5},v4.channel.k8s.io , {abc}");
        let left = "v5.channel.k8s.io, v4.channel.k8s.io";
        assert_eq!(taken("websocket", &[&two]), with(left, "Bearer abc"));
        let without = Some((vec![v5.to_owned()], None));
        assert_eq!(taken("websocket", &[v5]), without);
        let untouched = Some((vec![both.clone()], None));
        assert_eq!(taken("SPDY/3.1", &[&both]), untouched, "no WebSocket");
    }

    #[test]
    fn what_cannot_be_a_token_is_refused() {
        let abc = format!("{PREFIX}YWJj");
        for bad in [
            abc.clone(),
            format!("{abc}, {abc}, a"),
            format!("{PREFIX}Y, a"),
            format!("{PREFIX}YWJj=, a"),
            // no UTF-8
            format!("{PREFIX}_w, a"),
            // two lines
            format!("{PREFIX}YQpi, a"),
        ] {
            assert_eq!(taken("websocket", &[&bad]), None, "{bad:?}");
        }
    }

    #[test]
    fn an_authorization_that_is_there_counts() {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer own"));
        let both = format!("{PREFIX}YWJj, a").parse().expect("a header");
        headers.insert(SEC_WEBSOCKET_PROTOCOL, both);
        take_token(&mut headers).expect("taken");
        assert_eq!(headers[AUTHORIZATION], "Bearer own");
        assert_eq!(headers[SEC_WEBSOCKET_PROTOCOL], "a");
    }
}
