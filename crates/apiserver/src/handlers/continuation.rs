//! Tokens by which a list goes on: a revision and the last key, as upstream's `storage/continue.go` writes them.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::status::ApiError;

/// Where a list goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Continuation {
    /// What the whole list shows; none for whatever there is then.
    pub revision: Option<u64>,
    /// The last key that was listed.
    pub after: String,
    /// How many objects follow, if the whole list's were counted. Upstream's tokens do not have it.
    pub remaining: Option<u64>,
}

/// The token of a continuation in a list of what is beneath `prefix`.
pub(super) fn write_token(continuation: &Continuation, prefix: &str) -> String {
    let after = &*continuation.after;
    let revision = continuation.revision.map_or(-1, |at| at as i64);
    let start = after.strip_prefix(prefix).unwrap_or(after);
    let mut token = json!({"v": "meta.k8s.io/v1", "rv": revision, "start": start});
    if let Some(remaining) = continuation.remaining {
        token["remaining"] = remaining.into();
    }
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token.to_string())
}

/// What a token says. The key stays beneath `prefix`.
pub(super) fn read_token(token: &str, prefix: &str) -> Result<Continuation, ApiError> {
    let fail = |why: String| {
        ApiError::bad_request(format!(
            "invalid continue token: continue key is not valid: {why}"
        ))
    };
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(token)
        .map_err(|error| fail(error.to_string()))?;
    let token: Value = serde_json::from_slice(&bytes).map_err(|error| fail(error.to_string()))?;
    let version = token["v"].as_str().unwrap_or_default();
    if version != "meta.k8s.io/v1" {
        return Err(fail(format!(
            "server does not recognize this encoded version {version}"
        )));
    }
    let revision = match token["rv"].as_i64() {
        Some(revision) if revision > 0 => Some(revision.unsigned_abs()),
        Some(revision) if revision < 0 => None,
        _ => {
            let why = "incorrect encoded start resourceVersion (version meta.k8s.io/v1)";
            return Err(fail(why.to_owned()));
        }
    };
    let start = token["start"].as_str().unwrap_or_default();
    if start.is_empty() {
        let why = "encoded start key empty (version meta.k8s.io/v1)";
        return Err(fail(why.to_owned()));
    }
    let clean = |part: &str| !matches!(part, "" | "." | "..");
    if !start.split('/').all(clean) {
        return Err(fail(start.to_owned()));
    }
    Ok(Continuation {
        revision,
        after: format!("{prefix}{start}"),
        remaining: token["remaining"].as_u64(),
    })
}

/// 410 with a token that goes on after `key` in what there is now.
pub(super) fn expired_token(key: &str, prefix: &str) -> ApiError {
    let mut error = ApiError::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    let now = Continuation {
        revision: None,
        after: key.to_owned(),
        remaining: None,
    };
    error.continue_token = Some(write_token(&now, prefix));
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back() {
        for revision in [Some(7), None] {
            for remaining in [Some(3), None] {
                let continuation = Continuation {
                    revision,
                    after: "/registry/pods/a/b".to_owned(),
                    remaining,
                };
                let token = write_token(&continuation, "/registry/pods/");
                assert_eq!(
                    read_token(&token, "/registry/pods/").expect("a token"),
                    continuation
                );
            }
        }
    }
}
