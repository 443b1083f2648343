//! PATCH: JSON patch, merge patch and strategic merge patch of an object or its status.

use serde_json::Value;

use super::body::FieldValidation;
use super::respond::{self, Response};
use super::{Context, write};
use crate::object::text;
use crate::patch::{self, PatchError, PatchKind};
use crate::schema::{self, Schemas};
use crate::status::{ApiError, Cause};

/// The form of a patch, from its content type.
pub(super) fn kind_of(content_type: &str) -> Result<PatchKind, ApiError> {
    PatchKind::of(content_type).ok_or_else(|| {
        ApiError::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml",
        )
    })
}

pub(super) fn patch_error(error: PatchError) -> ApiError {
    match error {
        PatchError::Malformed(why) => ApiError::bad_request(why),
        PatchError::Unprocessable(why) => ApiError::new(422, "Invalid", why),
        PatchError::TooLarge(why) => ApiError::new(413, "RequestEntityTooLarge", why),
        PatchError::Unsupported(why) => ApiError::unsupported_media_type(why),
    }
}

pub(super) async fn patch(context: &Context, patch_body: &[u8]) -> Result<Response, ApiError> {
    super::apply::check_options(context)?;
    if context.applying {
        return super::apply::apply(context, patch_body).await;
    }
    let dry_run = context.dry_run()?;
    let patch_kind = kind_of(&context.content_type)?;
    let validation = FieldValidation::of(context)?;
    let gvk = context.kind.gvk();
    let mut warnings = Vec::new();
    let patched = write::modify(context, dry_run, |served| {
        let mut new = patch::apply(patch_kind, served, patch_body, &gvk).map_err(patch_error)?;
        check_identity(context, &new)?;
        let report = super::body::check(context, &gvk, &mut new);
        if let Some(problem) = report.type_error {
            // Upstream shows the result of the simple forms and the patch of the strategic one.
            let shown = match patch_kind {
                PatchKind::Strategic => String::from_utf8_lossy(patch_body).into_owned(),
                PatchKind::Json | PatchKind::Merge => new.to_string(),
            };
            return Err(invalid_patch(&shown, &problem));
        }
        // What the object had before is not the patch's doing.
        let unknown = match report.unknown {
            unknown if unknown.is_empty() => unknown,
            mut unknown => {
                let before = Schemas::load().unknown_fields(&gvk, served);
                unknown.retain(|u| !before.contains(u));
                unknown
            }
        };
        let problems = schema::strict_problems(&patch::duplicates(patch_body), unknown);
        if validation == FieldValidation::Strict
            && let Some(problem) = schema::strict_decoding_error(&problems)
        {
            return Err(invalid_patch(
                &String::from_utf8_lossy(patch_body),
                &problem,
            ));
        }
        if validation == FieldValidation::Warn {
            warnings = problems;
        }
        super::body::settle(context, &gvk, &mut new);
        Ok(new)
    })
    .await?;
    respond::object(context, 200, &patched, &warnings)
}

/// 422 of a patch that makes something the kind cannot be.
pub(super) fn invalid_patch(shown: &str, why: &str) -> ApiError {
    let cause = Cause {
        reason: "FieldValueInvalid",
        message: format!("Invalid value: {shown:?}: {why}"),
        field: "patch".into(),
    };
    ApiError::invalid("", "", "", vec![cause])
}

pub(super) fn check_identity(context: &Context, new: &Value) -> Result<(), ApiError> {
    let name = text(new, &["metadata", "name"]);
    if name != context.info.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            context.info.name
        )));
    }
    let namespace = text(new, &["metadata", "namespace"]);
    if context.kind.namespaced && namespace != context.info.namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}
