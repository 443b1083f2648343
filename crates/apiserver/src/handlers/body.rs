//! Request bodies: size limit, decoding, field validation.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::Context;
use crate::Config;
use crate::codec::{self, DecodeError};
use crate::object;
use crate::schema::{self, Gvk, Schemas};
use crate::server::RequestBody;
use crate::status::{ApiError, Cause};

/// Reads a whole body, within the limits on its size and on the time it may take.
pub(super) async fn collect(
    headers: &http::HeaderMap,
    body: RequestBody,
    config: &Config,
) -> Result<Bytes, ApiError> {
    let whole = read(headers, body, config.max_body_bytes);
    match tokio::time::timeout(config.limits.body_timeout, whole).await {
        Ok(result) => result,
        Err(_) => Err(ApiError::new(
            408,
            "Timeout",
            "the request's body did not arrive in the allotted time",
        )),
    }
}

async fn read(
    headers: &http::HeaderMap,
    mut body: RequestBody,
    limit: usize,
) -> Result<Bytes, ApiError> {
    let announced = headers
        .get(http::header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(ApiError::too_large(limit));
    }
    // What is announced need not come.
    let mut whole = Vec::with_capacity(announced.unwrap_or(0).min(64 * 1024));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            ApiError::bad_request(format!("the request's body could not be read: {error}"))
        })?;
        // Trailers mean nothing here.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if whole.len() + data.len() > limit {
            return Err(ApiError::too_large(limit));
        }
        whole.extend_from_slice(&data);
    }
    Ok(Bytes::from(whole))
}

/// What `fieldValidation` asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl FieldValidation {
    pub fn of(context: &Context) -> Result<Self, ApiError> {
        match context.query.get("fieldValidation") {
            None | Some("Warn") => Ok(Self::Warn),
            Some("Ignore") => Ok(Self::Ignore),
            Some("Strict") => Ok(Self::Strict),
            Some(other) => Err(ApiError::invalid(
                "meta.k8s.io",
                context.options,
                "",
                vec![Cause {
                    reason: "FieldValueNotSupported",
                    message: format!(
                        "Unsupported value: {other:?}: supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
                    ),
                    field: "fieldValidation".into(),
                }],
            )),
        }
    }
}

/// A decoded object and the warnings to answer with.
pub(super) struct Decoded {
    pub value: Value,
    pub warnings: Vec<String>,
}

/// Decodes an object of the given kind and checks it against the kind's schema.
pub(super) fn decode(context: &Context, body: &[u8], gvk: &Gvk) -> Result<Decoded, ApiError> {
    let validation = FieldValidation::of(context)?;
    let content_type = match context.content_type.as_str() {
        "" => "application/json",
        other => other,
    };
    let (mut value, duplicates) =
        codec::decode(content_type, body, Some(gvk)).map_err(decode_error)?;
    if !value.is_object() {
        return Err(ApiError::bad_request(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}",
            json_type(&value)
        )));
    }
    check_type(&mut value, gvk)?;
    let report = check(context, gvk, &mut value);
    if let Some(problem) = report.type_error {
        return Err(ApiError::bad_request(cannot_be_handled(gvk, &problem)));
    }
    let mut warnings = schema::strict_problems(&duplicates, report.unknown);
    if validation == FieldValidation::Strict
        && let Some(problem) = schema::strict_decoding_error(&warnings)
    {
        return Err(ApiError::bad_request(cannot_be_handled(gvk, &problem)));
    }
    if validation == FieldValidation::Ignore {
        warnings.clear();
    }
    settle(context, gvk, &mut value);
    Ok(Decoded { value, warnings })
}

/// Unknown fields and wrong types of an object of the given kind. What a custom kind does not know is dropped.
pub(super) fn check(context: &Context, gvk: &Gvk, value: &mut Value) -> schema::Report {
    match custom(context, gvk) {
        Some(custom) => custom.check(value),
        None => Schemas::load().check(gvk, value),
    }
}

/// What decoding into types and encoding again does: times, quantities and base64 get their one form, nulls go. Of custom objects that is their
/// metadata; elsewhere in them a null may mean something, and the schema tells.
pub(super) fn settle(context: &Context, gvk: &Gvk, value: &mut Value) {
    match custom(context, gvk) {
        Some(_) => {
            schema::forms::normalise_metadata(value);
            crate::custom::metadata::strip_nulls(value);
        }
        None => {
            schema::forms::normalise(gvk, value);
            object::strip_nulls(value);
        }
    }
}

/// The context's kind, when it is custom and the one that is meant: a subresource has another.
fn custom<'a>(context: &'a Context, gvk: &Gvk) -> Option<&'a crate::custom::Custom> {
    let kind = &context.kind;
    let meant = kind.kind == gvk.kind && kind.group == gvk.group && kind.version == gvk.version;
    kind.custom.as_deref().filter(|_| meant)
}

fn cannot_be_handled(gvk: &Gvk, why: &str) -> String {
    schema::cannot_be_handled(&gvk.kind, &gvk.version, &gvk.kind, why)
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The type in the body must be the address's; a missing one is filled in.
pub(super) fn check_type(value: &mut Value, gvk: &Gvk) -> Result<(), ApiError> {
    let expected = gvk.api_version();
    let version = object::text(value, &["apiVersion"]).to_owned();
    let kind = object::text(value, &["kind"]).to_owned();
    if !version.is_empty() && version != expected {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({expected})"
        )));
    }
    if !kind.is_empty() && kind != gvk.kind {
        let why = format!("converting ({kind}) to ({}): unknown conversion", gvk.kind);
        return Err(ApiError::bad_request(schema::cannot_be_handled(
            &kind,
            &gvk.version,
            &gvk.kind,
            &why,
        )));
    }
    value["apiVersion"] = expected.into();
    value["kind"] = gvk.kind.clone().into();
    Ok(())
}

pub(super) fn decode_error(error: DecodeError) -> ApiError {
    match error {
        DecodeError::UnsupportedMediaType(_) => ApiError::unsupported_media_type(error.to_string()),
        DecodeError::Malformed(why) | DecodeError::Limit(why) => ApiError::bad_request(why),
    }
}
