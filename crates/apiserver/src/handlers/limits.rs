//! LimitRanges: what containers get that say nothing, and whether pods and claims are within the bounds (upstream's
//! admission plugin LimitRanger).

mod rules;

use serde_json::Value;

use super::{Context, list};
use crate::object::{self, text};
use crate::status::ApiError;

/// Gives the containers of a new pod the defaults of the namespace.
pub(super) async fn complete(context: &Context, pod: &mut Value) -> Result<(), ApiError> {
    for range in ranges(context).await? {
        rules::complete(&range, pod);
    }
    Ok(())
}

/// Refuses a new pod, new sizes of one, or a claim, that is out of bounds.
pub(super) async fn check(
    context: &Context,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let plural = context.kind.plural;
    let resized = context.info.subresource == "resize"
        && old.is_some_and(|old| rules::sizes(&new["spec"]) != rules::sizes(&old["spec"]));
    let concerned = match (plural, old) {
        ("pods", None) | ("persistentvolumeclaims", _) => true,
        ("pods", Some(_)) => resized,
        _ => false,
    };
    if !context.kind.group.is_empty() || !concerned {
        return Ok(());
    }
    for range in ranges(context).await? {
        let wrong = match plural {
            "pods" => rules::of_pod(&range, &new["spec"]),
            _ => rules::of_claim(&range, new, old),
        };
        if !wrong.is_empty() {
            let why = crate::rbac::aggregate(&wrong);
            let name = text(new, &["metadata", "name"]);
            return Err(ApiError::forbidden("", plural, name, &why));
        }
    }
    Ok(())
}

async fn ranges(context: &Context) -> Result<Vec<Value>, ApiError> {
    let prefix = format!("/registry/limitranges/{}/", context.info.namespace);
    let page = context
        .state
        .store
        .range(&prefix, None, 0, None)
        .await
        .map_err(|error| list::store_error(context, error))?;
    let found = page.items.iter();
    Ok(found
        .map(|kv| object::parse(&kv.value, kv.mod_revision))
        .collect())
}
