//! Tokens by which a list goes on: a revision and the last key, as upstream's `storage/continue.go` writes them.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::status::ApiError;

/// `revision` is -1 for a list that goes on in whatever there is then.
pub(super) fn write_token(revision: i64, key: &str, prefix: &str) -> String {
    let start = key.strip_prefix(prefix).unwrap_or(key);
    let token = json!({"v": "meta.k8s.io/v1", "rv": revision, "start": start});
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token.to_string())
}

/// Revision (none for an inconsistent continuation) and key of a token. The key stays beneath `prefix`.
pub(super) fn read_token(token: &str, prefix: &str) -> Result<(Option<u64>, String), ApiError> {
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
    Ok((revision, format!("{prefix}{start}")))
}

/// 410 with a token that goes on after `key` in what there is now.
pub(super) fn expired_token(key: &str, prefix: &str) -> ApiError {
    let mut error = ApiError::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    error.continue_token = Some(write_token(-1, key, prefix));
    error
}
