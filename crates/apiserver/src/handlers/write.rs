//! Updates: default, admit, validate, compare-and-swap; and what new objects share with them.

use serde_json::{Value, json};
use store::{Expect, KeyValue};

use super::body::{self, Decoded};
use super::respond::{self, Response};
use super::{
    Context, access, admit, apply, create, custom, list, metadata, pod_security, priority, quotas,
};
use crate::custom::Custom;
use crate::object::{self, text};
use crate::registry::{self, Kind, Problems};
use crate::schema::{self, Schemas};
use crate::status::ApiError;

/// Brings an object into the stored version. What a conversion takes from annotations is text that people
/// write, so its result is defaulted and checked as the stored version is.
pub(super) fn store_form(kind: &Kind, value: &mut Value) -> Result<(), ApiError> {
    kind.to_stored(value);
    let Some(stored) = kind
        .conversion
        .as_ref()
        .and_then(|_| registry::stored_row(kind))
    else {
        return Ok(());
    };
    let gvk = stored.gvk();
    if let Some(problem) = Schemas::load().type_errors(&gvk, value) {
        let words = schema::cannot_be_handled(kind.kind, kind.version, &gvk.kind, &problem);
        return Err(ApiError::bad_request(words));
    }
    object::strip_nulls(value);
    (stored.defaults)(value);
    Ok(())
}

/// PUT of an object, its status or (namespaces) its finalizers.
pub(super) async fn update(context: &Context, body: &[u8]) -> Result<Response, ApiError> {
    let dry_run = context.dry_run()?;
    let Decoded {
        mut value,
        warnings,
    } = body::decode(context, body, &context.kind.gvk())?;
    metadata::place(context, &mut value)?;
    let name = text(&value, &["metadata", "name"]);
    if name != context.info.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            context.info.name
        )));
    }
    let versioned = !text(&value, &["metadata", "resourceVersion"]).is_empty();
    let mut result = modify(context, dry_run, |_| {
        if !versioned && custom::needs_version(&context.kind) {
            return Err(without_version(context));
        }
        Ok(value.clone())
    })
    .await;
    let mut code = 200;
    if is_made_by_put(context)
        && !versioned
        && matches!(&result, Err(error) if error.reason == "NotFound")
    {
        access::may_create(context)?;
        metadata::take_managed(&mut value);
        result = create::create_value(context, value, dry_run).await;
        code = 201;
    }
    respond::object(context, code, &result?, &warnings)
}

/// 422 of a replacement that does not say what it replaces.
fn without_version(context: &Context) -> ApiError {
    let message = "Invalid value: 0x0: must be specified for an update".to_owned();
    let cause = crate::status::Cause {
        reason: "FieldValueInvalid",
        message,
        field: "metadata.resourceVersion".into(),
    };
    let (group, kind) = (context.kind.group, context.kind.kind);
    ApiError::invalid(group, kind, &context.info.name, vec![cause])
}

/// The few kinds of which a PUT makes what is not there (upstream's `AllowCreateOnUpdate`).
fn is_made_by_put(context: &Context) -> bool {
    const KINDS: [(&str, &str); 10] = [
        ("", "endpoints"),
        ("", "events"),
        ("", "limitranges"),
        ("", "services"),
        ("coordination.k8s.io", "leases"),
        ("node.k8s.io", "runtimeclasses"),
        ("rbac.authorization.k8s.io", "clusterrolebindings"),
        ("rbac.authorization.k8s.io", "clusterroles"),
        ("rbac.authorization.k8s.io", "rolebindings"),
        ("rbac.authorization.k8s.io", "roles"),
    ];
    context.info.subresource.is_empty()
        && KINDS.contains(&(context.kind.group, context.kind.plural))
}

/// Reads an object, lets `change` make the new one (both in the served version) and writes it. When `change`
/// leaves out the resource version or keeps that of the object it was given, a conflict is tried again.
pub(crate) async fn modify(
    context: &Context,
    dry_run: bool,
    mut change: impl FnMut(&Value) -> Result<Value, ApiError>,
) -> Result<Value, ApiError> {
    let kind = &context.kind;
    let name = &context.info.name;
    let key = kind.key(&context.info.namespace, name);
    let growing = admit::growing_classes(context).await?;
    let of_priorities = kind.is("scheduling.k8s.io", "priorityclasses");
    // somebody is written each time; the request's own time bounds how often it may be others
    loop {
        let (found, _) = context
            .state
            .store
            .get(&key)
            .await
            .map_err(|e| list::store_error(context, e))?;
        let current = found.ok_or_else(|| context.not_found(name))?;
        list::check_readable(&current)?;
        let mut old = object::parse(&current.value, current.mod_revision);
        if let Some(custom) = &kind.custom {
            custom.refresh(&mut old);
        }
        let mut served = old.clone();
        kind.from_stored(&mut served);
        let mut new = change(&served)?;
        let given = metadata::take_managed(&mut new);
        let version = text(&new, &["metadata", "resourceVersion"]).to_owned();
        let uid = text(&new, &["metadata", "uid"]);
        let actual = text(&old, &["metadata", "uid"]);
        if !uid.is_empty() && uid != actual {
            // A patch changes what it finds, so this is no precondition of it.
            if context.options == "PatchOptions" {
                let mut problems = Problems::default();
                problems.invalid("metadata.uid", &uid.into(), "field is immutable");
                return refuse(context, &new, problems).map(|()| Value::Null);
            }
            return Err(ApiError::conflict(
                kind.group,
                kind.plural,
                name,
                &format!(
                    "Precondition failed: UID in precondition: {uid}, UID in object meta: {actual}"
                ),
            ));
        }
        if !version.is_empty() && version != current.mod_revision.to_string() {
            return Err(ApiError::modified(kind.group, kind.plural, name));
        }
        schema::zeros::drop_zeros(&kind.gvk(), &mut new);
        kind.default(&mut new);
        store_form(kind, &mut new)?;
        prepare(context, &mut new, &old)?;
        admit::update(context, &mut new, &old, &growing)?;
        if of_priorities {
            priority::only_default(context, &new).await?;
        }
        metadata::tidy(context, &mut new);
        if context.info.subresource.is_empty() {
            context.warnings.of(context, &new, Some(&old));
        }
        // The claim is let go when the write does not happen.
        let mut claim = match is_service(context) && context.info.subresource.is_empty() {
            true => {
                let (store, addresses) = (&context.state.store, &context.state.addresses);
                let claim = addresses.claim_recorded(store, &mut new, Some(&old), dry_run);
                Some(claim.await?)
            }
            false => None,
        };
        let managed = match context.applying {
            true => apply::after_apply(context, given, &old, &new),
            false => apply::after_update(context, given, &old, &new),
        };
        metadata::set_managed(&mut new, managed);
        new["metadata"]["resourceVersion"] = current.mod_revision.to_string().into();
        pod_security::admit(context, &new, Some(&old)).await?;
        // what asks for resources is counted
        let counts = matches!(context.info.subresource.as_str(), "" | "resize");
        if dry_run && counts {
            let _ = admit::allow(context, &new, Some(&old), true).await?;
        }
        if new == old || dry_run {
            let stored = (!dry_run).then_some(&current);
            return Ok(answer(context, new, stored));
        }
        let charged = match counts {
            true => admit::allow(context, &new, Some(&old), false).await?,
            false => quotas::Charged::default(),
        };
        if let Some(claim) = &mut claim {
            claim.writing();
        }
        let written = write(context, &current, &new).await;
        if let (Some(claim), Err(_)) = (&mut claim, &written) {
            claim.failed();
        }
        if written.is_err() {
            quotas::give_back(&context.state, charged).await;
        }
        match written {
            Ok(written) => {
                if let Some(claim) = claim {
                    claim.keep().await;
                }
                custom::after_write(context).await;
                return Ok(written);
            }
            Err(store::Error::Conflict { current: None }) => return Err(context.not_found(name)),
            // Whoever named a version will be told by the check above that it is gone.
            Err(store::Error::Conflict { .. }) => {}
            Err(other) => {
                if let (Some(claim), true) = (claim, is_undecided(&other)) {
                    claim.leave();
                }
                return Err(list::store_error(context, other));
            }
        }
    }
}

/// Strategy and validation of an update, on stored versions.
fn prepare(context: &Context, new: &mut Value, old: &Value) -> Result<(), ApiError> {
    let kind = &context.kind;
    let mut problems = Problems::default();
    match context.info.subresource.as_str() {
        subresource @ ("status" | "approval") => {
            let status = new.get("status").cloned();
            let given = new["metadata"].take();
            let mut kept = old.clone();
            // Status writers may set annotations and finalizers, nothing else of the metadata; of custom objects,
            // nothing of it.
            let settable: &[&str] = match kind.custom {
                Some(_) => &["resourceVersion"],
                None => &["annotations", "finalizers", "resourceVersion"],
            };
            for key in settable.iter().copied() {
                match given.get(key) {
                    Some(value) => kept["metadata"][key] = value.clone(),
                    None => drop(object::metadata(&mut kept).remove(key)),
                }
            }
            if (kind.is("", "nodes") || kind.is("", "pods"))
                && let Some(labels) = given.get("labels")
            {
                kept["metadata"]["labels"] = labels.clone();
            }
            match status {
                Some(status) => kept["status"] = status,
                None => drop(kept.as_object_mut().map(|o| o.remove("status"))),
            }
            *new = kept;
            (kind.status_rules)(new, old, subresource, &mut problems);
            if let Some(custom) = &kind.custom {
                custom.validate_update(new, old, &mut problems);
            }
        }
        "ephemeralcontainers" => {
            let wanted = object::at(new, &["spec", "ephemeralContainers"]).cloned();
            *new = old.clone();
            new["spec"]["ephemeralContainers"] = wanted.unwrap_or_else(|| json!([]));
            if new["spec"] != old["spec"] {
                bump_generation(new);
            }
            registry::validate::ephemeral_update(new, old, &mut problems);
        }
        "resize" => {
            registry::strategy::pod_resize(new, old);
            if new["spec"] != old["spec"] {
                bump_generation(new);
            }
            (kind.validate)(new, &mut problems);
            registry::validate::pod_resize(new, old, &mut problems);
        }
        "finalize" => {
            let finalizers = object::at(new, &["spec", "finalizers"])
                .cloned()
                .unwrap_or_else(|| json!([]));
            *new = old.clone();
            new["spec"]["finalizers"] = finalizers;
        }
        _ => {
            if kind.status {
                match old.get("status") {
                    Some(status) => new["status"] = status.clone(),
                    None => drop(new.as_object_mut().map(|o| o.remove("status"))),
                }
            }
            metadata::update(new, old, &mut problems);
            (kind.prepare_update)(new, old);
            if kind.is("", "services") {
                context.state.addresses.settle_families(new, Some(old))?;
            }
            let changed = match kind.custom {
                Some(_) => Custom::differs(new, old),
                None => kind.generation && new.get("spec") != old.get("spec"),
            };
            if changed {
                bump_generation(new);
            }
            metadata::validate(context, new, &mut problems);
            validate(kind, new, old, &mut problems);
            (kind.validate_update)(new, old, &mut problems);
            if let Some(custom) = &kind.custom {
                custom.validate_update(new, old, &mut problems);
            }
        }
    }
    refuse(context, new, problems)
}

/// What was stored before a rule came is not held against a change of something else: a finalizer could not go any more.
fn validate(kind: &Kind, new: &Value, old: &Value, problems: &mut Problems) {
    let mut found = Problems::default();
    (kind.validate)(new, &mut found);
    if !found.is_empty() {
        let mut before = Problems::default();
        (kind.validate)(old, &mut before);
        found.0.retain(|cause| !before.0.contains(cause));
    }
    problems.0.append(&mut found.0);
    if kind.custom.is_none() && kind.group.is_empty() {
        registry::validate::finalizers_update(kind.plural, new, old, problems);
    }
}

/// Counts a change of what is wanted.
pub(super) fn bump_generation(value: &mut Value) {
    let generation = value["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
    value["metadata"]["generation"] = generation.into();
}

/// Writes a new version; an object that is being deleted and has nothing left to wait for goes.
pub(super) async fn write(
    context: &Context,
    current: &KeyValue,
    new: &Value,
) -> Result<Value, store::Error> {
    let store = &context.state.store;
    let expect = Expect::Revision(current.mod_revision);
    if gone(new) {
        let (_, revision) = store.delete(&current.key, expect).await?;
        let addresses = &context.state.addresses;
        addresses.release_recorded(store, &context.kind, new).await;
        let mut value = new.clone();
        value["metadata"]["resourceVersion"] = revision.to_string().into();
        context.kind.from_stored(&mut value);
        return Ok(value);
    }
    let stored = store.put(&current.key, object::encode(new), expect).await?;
    Ok(answer(context, new.clone(), Some(&stored)))
}

/// Whether an object is being deleted and neither grace nor a finalizer keeps it.
fn gone(value: &Value) -> bool {
    let metadata = &value["metadata"];
    !text(metadata, &["deletionTimestamp"]).is_empty()
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && object::items(metadata, &["finalizers"]).is_empty()
        && (value["kind"] != "Namespace"
            || object::items(value, &["spec", "finalizers"]).is_empty())
}

/// The served form of what was written.
pub(super) fn answer(context: &Context, mut value: Value, stored: Option<&KeyValue>) -> Value {
    if let Some(stored) = stored {
        value["metadata"]["resourceVersion"] = stored.mod_revision.to_string().into();
    }
    context.kind.from_stored(&mut value);
    value
}

/// Whether a failed write may have happened all the same.
pub(super) fn is_undecided(error: &store::Error) -> bool {
    matches!(
        error,
        store::Error::Io { .. } | store::Error::Undecided { .. }
    )
}

pub(super) fn is_service(context: &Context) -> bool {
    context.kind.is("", "services")
}

pub(super) fn refuse(context: &Context, value: &Value, problems: Problems) -> Result<(), ApiError> {
    if problems.is_empty() {
        return Ok(());
    }
    let name = text(value, &["metadata", "name"]);
    Err(ApiError::invalid(
        context.kind.group,
        context.kind.kind,
        name,
        problems.0,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_before_a_rule_came_may_stay() {
        let kind = registry::find("", "v1", "pods").expect("pods");
        let pod = |user: i64, group: i64| {
            json!({"spec": {"containers": [{"name": "c", "image": "i"}],
                "securityContext": {"runAsUser": user, "runAsGroup": group}}})
        };
        let said = |new: &Value, old: &Value| {
            let mut problems = Problems::default();
            validate(kind, new, old, &mut problems);
            problems
                .0
                .into_iter()
                .map(|cause| cause.field)
                .collect::<Vec<_>>()
        };
        let old = pod(-1, 0);
        assert_eq!(said(&old, &old), Vec::<String>::new());
        assert_eq!(
            said(&pod(-1, -1), &old),
            ["spec.securityContext.runAsGroup"]
        );
        assert_eq!(said(&pod(-2, 0), &old), ["spec.securityContext.runAsUser"]);
    }
}
