//! PATCH bodies applied to objects: JSON patch, merge patch and strategic merge patch.
//!
//! Fields that nobody here knows are kept. Server-side apply, which needs field ownership, is `crate::apply`.

mod json;
mod strategic;

use crate::codec::{self, DecodeError};
use crate::schema::Gvk;
use crate::schema::table::{Shape, Table};
use serde_json::{Map, Value};

/// The forms of a patch body that are merged by the server without field ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// `application/json-patch+json`, RFC 6902.
    Json,
    /// `application/merge-patch+json`, RFC 7396.
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
}

impl PatchKind {
    /// The form of a content type, parameters aside; none for server-side apply and for what is no patch.
    pub fn of(content_type: &str) -> Option<PatchKind> {
        match content_type.split(';').next().unwrap_or("").trim() {
            "application/json-patch+json" => Some(PatchKind::Json),
            "application/merge-patch+json" => Some(PatchKind::Merge),
            "application/strategic-merge-patch+json" => Some(PatchKind::Strategic),
            _ => None,
        }
    }
}

/// Why a patch was not applied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// 400: the body is not a patch of that form.
    #[error("{0}")]
    Malformed(String),
    /// 422: the patch is well formed and does not fit the object.
    #[error("{0}")]
    Unprocessable(String),
    /// 413: more operations, or a larger result, than this server works on.
    #[error("{0}")]
    TooLarge(String),
    /// 415: strategic merge patch for a kind without a built-in schema.
    #[error("{0}")]
    Unsupported(String),
}

/// The object that results from a patch. The original stays as it is if the patch fails.
pub fn apply(
    kind: PatchKind,
    original: &Value,
    patch_body: &[u8],
    gvk: &Gvk,
) -> Result<Value, PatchError> {
    match kind {
        PatchKind::Json => json::apply(original, patch_body),
        PatchKind::Merge => {
            let patch = object(patch_body)?;
            let mut result = original.clone();
            json_patch::merge(&mut result, &Value::Object(patch));
            Ok(result)
        }
        PatchKind::Strategic => {
            let table = Table::get();
            let ty = table.kind(gvk).ok_or_else(|| {
                PatchError::Unsupported(
                    "the body of the request was in an unknown format - accepted media types include: \
                     application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
                        .to_owned(),
                )
            })?;
            let patch = object(patch_body)?;
            let original = original.as_object().cloned().unwrap_or_default();
            strategic::apply(table, Shape::Struct(ty), original, patch).map(Value::Object)
        }
    }
}

/// The fields that a patch body gives more than once, for strict validation.
pub fn duplicates(patch_body: &[u8]) -> Vec<codec::Duplicate> {
    codec::json_duplicates(patch_body)
}

/// The body of a merge patch. YAML bodies are the caller's to convert; upstream takes JSON only, too.
fn object(body: &[u8]) -> Result<Map<String, Value>, PatchError> {
    match read(body)? {
        Value::Object(object) => Ok(object),
        other => Err(PatchError::Malformed(format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            match other {
                Value::Array(_) => "array",
                Value::String(_) => "string",
                Value::Number(_) => "number",
                Value::Bool(_) => "bool",
                _ => "null",
            }
        ))),
    }
}

fn read(body: &[u8]) -> Result<Value, PatchError> {
    match codec::json::decode(body) {
        Ok((value, _)) => Ok(value),
        Err(DecodeError::Limit(reason)) => Err(PatchError::TooLarge(reason)),
        Err(error) => {
            let reason = error.to_string();
            let reason = reason
                .split_once("json parse error: ")
                .map_or(reason.as_str(), |(_, rest)| rest);
            Err(PatchError::Malformed(format!(
                "error decoding patch: {reason}"
            )))
        }
    }
}
