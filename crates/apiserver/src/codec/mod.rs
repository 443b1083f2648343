//! Request bodies in, JSON values out: JSON, YAML and Kubernetes' protobuf envelope.
//!
//! Every decoder is a pure function of the bytes, bounded in depth and memory by its input, and answers anything
//! with a value or an error.

pub mod json;
pub mod protobuf;
mod tree;
pub mod yaml;

use crate::schema::Gvk;
use serde_json::Value;

/// How deep a body may nest, in any of the formats.
pub const DEPTH_MAX: usize = 128;

/// A field that a body gives more than once, as the path upstream names it by: `spec.replicas`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate(pub String);

/// Why a body could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// 415: nobody here reads that content type.
    #[error(
        "the body of the request was in an unknown format - accepted media types include: \
         application/json, application/yaml, application/vnd.kubernetes.protobuf"
    )]
    UnsupportedMediaType(String),
    /// 400: the bytes are not what the content type says.
    #[error("{0}")]
    Malformed(String),
    /// 400: a limit of this server on depth or on what aliases unfold to.
    #[error("{0}")]
    Limit(String),
}

/// The formats of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
    Protobuf,
}

impl Format {
    /// The format of a content type, parameters aside; an empty one means JSON, as upstream takes it.
    pub fn of(content_type: &str) -> Option<Format> {
        let media_type = content_type.split(';').next().unwrap_or("").trim();
        match media_type.to_ascii_lowercase().as_str() {
            "" | "application/json" | "*/*" => Some(Format::Json),
            "application/json-patch+json" | "application/merge-patch+json" => Some(Format::Json),
            "application/strategic-merge-patch+json" => Some(Format::Json),
            "application/yaml" | "application/apply-patch+yaml" => Some(Format::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Format::Protobuf),
            _ => None,
        }
    }
}

/// Reads a body. `gvk_hint` is the kind that the address promises; it names the message when a protobuf envelope
/// has no type of its own, and decides nothing for JSON and YAML. The duplicates are those of JSON and YAML
/// objects: the last value is the one that counts.
pub fn decode(
    content_type: &str,
    body: &[u8],
    gvk_hint: Option<&Gvk>,
) -> Result<(Value, Vec<Duplicate>), DecodeError> {
    match Format::of(content_type) {
        Some(Format::Json) => json::decode(body),
        Some(Format::Yaml) => yaml::decode(body),
        Some(Format::Protobuf) => Ok((protobuf::decode(body, gvk_hint)?, Vec::new())),
        None => Err(DecodeError::UnsupportedMediaType(content_type.to_owned())),
    }
}

/// Fields that a JSON body gives more than once; none if it is not JSON.
pub fn json_duplicates(body: &[u8]) -> Vec<Duplicate> {
    json::decode(body)
        .map(|(_, duplicates)| duplicates)
        .unwrap_or_default()
}
