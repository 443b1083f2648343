//! What requests for custom resources, and for their definitions, have of their own.

use http::Method;

use super::{Context, list, respond};
use crate::custom::definition;
use crate::negotiate::Form;
use crate::registry::Kind;
use crate::status::ApiError;

/// Refuses what the kind cannot do at the moment: objects that a webhook converts. Where none has to be converted the answer is
/// as ever (upstream asks the webhook only then): deletions, metadata alone, lists of nothing.
pub(super) async fn admit(context: &Context, method: &Method) -> Result<(), ApiError> {
    let Some(custom) = &context.kind.custom else {
        return Ok(());
    };
    if !custom.webhook {
        return Ok(());
    }
    let watch = context.query.flag("watch");
    let form = respond::answer(context, watch)?.form;
    let reads = *method == Method::GET;
    let harmless = *method == Method::DELETE
        || reads && matches!(form, Form::Metadata | Form::MetadataList)
        || reads && !watch && context.info.name.is_empty() && is_empty(context).await?;
    if !harmless {
        let why = format!(
            "conversion webhook for {}, Kind={} failed: this server does not call conversion webhooks; ask for the stored version {}",
            context.kind.api_version(),
            context.kind.kind,
            context.kind.storage_version
        );
        return Err(ApiError::internal(why));
    }
    Ok(())
}

async fn is_empty(context: &Context) -> Result<bool, ApiError> {
    let prefix = context.kind.prefix(&context.info.namespace);
    let page = context.state.store.range(&prefix, None, 1, None).await;
    let page = page.map_err(|error| list::store_error(context, error))?;
    Ok(page.items.is_empty())
}

/// Refuses new objects of a kind that goes.
pub(super) fn admit_create(context: &Context, name: &str) -> Result<(), ApiError> {
    let kind = &context.kind;
    if kind
        .custom
        .as_ref()
        .is_none_or(|custom| !custom.terminating)
    {
        return Ok(());
    }
    let why = "create not allowed while custom resource definition is terminating";
    Err(ApiError::forbidden(kind.group, kind.plural, name, why))
}

/// Whether the kind is that of definitions.
pub(super) fn is_definition(kind: &Kind) -> bool {
    kind.group == definition::GROUP && kind.plural == definition::PLURAL
}

/// Whether a replacement must say which version it replaces (upstream's `AllowUnconditionalUpdate`).
pub(super) fn needs_version(kind: &Kind) -> bool {
    kind.custom.is_some()
        || is_definition(kind)
        || kind.is("coordination.k8s.io", "leases")
        || kind.is("policy", "poddisruptionbudgets")
}

/// After a definition was written, the next request finds what it describes. What fails here is tried again by who
/// follows the definitions.
pub(super) async fn after_write(context: &Context) {
    if !is_definition(&context.kind) {
        return;
    }
    if let Err(error) = context.state.custom.settle(&context.state).await {
        tracing::warn!(%error, "could not settle the CustomResourceDefinitions");
    }
}
