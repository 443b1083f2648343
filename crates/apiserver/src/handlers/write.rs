//! Create and update: default, admit, validate, compare-and-swap.

use serde_json::{Value, json};
use store::{Expect, KeyValue};

use super::body::{self, Decoded};
use super::respond::{self, Response};
use super::{Context, admit, apply, list, metadata};
use crate::object::{self, text};
use crate::registry::{self, Kind, Problems};
use crate::schema::{self, Schemas};
use crate::status::ApiError;

/// How often a generated name is tried anew when it is taken.
const NAME_ATTEMPTS: usize = 8;
/// How often a write without a resource version is tried anew when another one came first.
pub(super) const CONFLICT_ATTEMPTS: usize = 32;

/// POST of a new object.
pub(super) async fn create(context: &Context, body: &[u8]) -> Result<Response, ApiError> {
    let dry_run = context.dry_run()?;
    let Decoded { value, warnings } = body::decode(context, body, &context.kind.gvk())?;
    let created = create_value(context, value, dry_run).await?;
    respond::object(context, 201, &created, &warnings)
}

/// Makes an object in the served version; returns it as stored, in the served version.
pub(crate) async fn create_value(
    context: &Context,
    mut value: Value,
    dry_run: bool,
) -> Result<Value, ApiError> {
    let kind = context.kind;
    metadata::place(context, &mut value)?;
    if !text(&value, &["metadata", "resourceVersion"]).is_empty() {
        return Err(ApiError::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    let managed = context.applying.then(|| metadata::take_managed(&mut value));
    metadata::create(context, &mut value);
    (kind.defaults)(&mut value);
    store_form(kind, &mut value)?;
    (kind.prepare_create)(&mut value);
    if is_service(context) {
        context.state.addresses.settle_families(&mut value, None)?;
    }
    admit::create(context, &mut value).await?;
    metadata::tidy(&mut value);
    metadata::set_managed(&mut value, managed.flatten());
    let generate = text(&value, &["metadata", "generateName"]).to_owned();
    let generated = text(&value, &["metadata", "name"]).is_empty() && !generate.is_empty();
    let unnamed = generated.then(|| value.clone());
    for attempt in 1.. {
        if let Some(unnamed) = &unnamed {
            value = unnamed.clone();
            value["metadata"]["name"] = metadata::generated(&generate).into();
        }
        (kind.named)(&mut value);
        // Validation first: a name that is no name is said so before a namespace is looked for.
        let mut problems = Problems::default();
        metadata::validate(context, &value, &mut problems);
        (kind.validate)(&value, &mut problems);
        refuse(context, &value, problems)?;
        if kind.namespaced {
            admit_namespace(context, text(&value, &["metadata", "name"])).await?;
        }
        let addresses = is_service(context).then_some(&context.state.addresses);
        let claim = match addresses {
            Some(addresses) => Some(addresses.claim(&mut value, None)?),
            None => None,
        };
        let name = text(&value, &["metadata", "name"]).to_owned();
        let key = kind.key(&context.info.namespace, &name);
        let stored = if dry_run {
            match context
                .state
                .store
                .get(&key)
                .await
                .map_err(|e| list::store_error(context, e))?
                .0
            {
                Some(_) => Err(store::Error::Conflict { current: None }),
                None => Ok(None),
            }
        } else {
            context
                .state
                .store
                .put(&key, object::encode(&value), Expect::Absent)
                .await
                .map(Some)
        };
        match stored {
            Ok(stored) => {
                if let (Some(claim), false) = (claim, dry_run) {
                    claim.keep();
                }
                return Ok(answer(context, value, stored.as_ref()));
            }
            Err(store::Error::Conflict { .. }) if generated && attempt < NAME_ATTEMPTS => {}
            Err(store::Error::Conflict { .. }) => {
                return Err(ApiError::already_exists(kind.group, kind.plural, &name));
            }
            Err(other) => return Err(list::store_error(context, other)),
        }
    }
    Err(ApiError::internal("no attempt was made"))
}

/// Brings an object into the stored version. What a conversion takes from annotations is text that people
/// write, so its result is defaulted and checked as the stored version is.
fn store_form(kind: &Kind, value: &mut Value) -> Result<(), ApiError> {
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
    let updated = modify(context, dry_run, |_| Ok(value.clone())).await?;
    respond::object(context, 200, &updated, &warnings)
}

/// Reads an object, lets `change` make the new one (both in the served version) and writes it. When `change`
/// leaves out the resource version or keeps that of the object it was given, a conflict is tried again.
pub(crate) async fn modify(
    context: &Context,
    dry_run: bool,
    mut change: impl FnMut(&Value) -> Result<Value, ApiError>,
) -> Result<Value, ApiError> {
    let kind = context.kind;
    let name = &context.info.name;
    let key = kind.key(&context.info.namespace, name);
    let growing = admit::growing_classes(context).await?;
    for _ in 0..CONFLICT_ATTEMPTS {
        let (found, _) = context
            .state
            .store
            .get(&key)
            .await
            .map_err(|e| list::store_error(context, e))?;
        let current = found.ok_or_else(|| context.not_found(name))?;
        let old = object::parse(&current.value, current.mod_revision);
        let mut served = old.clone();
        kind.from_stored(&mut served);
        let mut new = change(&served)?;
        let given = metadata::take_managed(&mut new);
        let version = text(&new, &["metadata", "resourceVersion"]).to_owned();
        let uid = text(&new, &["metadata", "uid"]);
        let actual = text(&old, &["metadata", "uid"]);
        if !uid.is_empty() && uid != actual {
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
        (kind.defaults)(&mut new);
        store_form(kind, &mut new)?;
        prepare(context, &mut new, &old)?;
        admit::update(context, &new, &old, &growing)?;
        metadata::tidy(&mut new);
        // The claim is let go when the write does not happen.
        let claim = match is_service(context) && context.info.subresource.is_empty() {
            true => Some(context.state.addresses.claim(&mut new, Some(&old))?),
            false => None,
        };
        let managed = match context.applying {
            true => given,
            false => apply::after_update(context, given, &old, &new),
        };
        metadata::set_managed(&mut new, managed);
        new["metadata"]["resourceVersion"] = current.mod_revision.to_string().into();
        if new == old || dry_run {
            let stored = (!dry_run).then_some(&current);
            return Ok(answer(context, new, stored));
        }
        match write(context, &current, &new).await {
            Ok(written) => {
                if let Some(claim) = claim {
                    claim.keep();
                }
                return Ok(written);
            }
            Err(store::Error::Conflict { current: None }) => return Err(context.not_found(name)),
            // Whoever named a version will be told by the check above that it is gone.
            Err(store::Error::Conflict { .. }) => {}
            Err(other) => return Err(list::store_error(context, other)),
        }
    }
    Err(ApiError::modified(kind.group, kind.plural, name))
}

/// Strategy and validation of an update, on stored versions.
fn prepare(context: &Context, new: &mut Value, old: &Value) -> Result<(), ApiError> {
    let kind = context.kind;
    let mut problems = Problems::default();
    match context.info.subresource.as_str() {
        "status" => {
            let status = new.get("status").cloned();
            let given = new["metadata"].take();
            let mut kept = old.clone();
            // Status writers may set annotations and finalizers, nothing else of the metadata.
            for key in ["annotations", "finalizers", "resourceVersion"] {
                match given.get(key) {
                    Some(value) => kept["metadata"][key] = value.clone(),
                    None => drop(object::metadata(&mut kept).remove(key)),
                }
            }
            if (kind.plural == "nodes" || kind.plural == "pods")
                && let Some(labels) = given.get("labels")
            {
                kept["metadata"]["labels"] = labels.clone();
            }
            match status {
                Some(status) => kept["status"] = status,
                None => drop(kept.as_object_mut().map(|o| o.remove("status"))),
            }
            *new = kept;
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
            if kind.plural == "services" {
                context.state.addresses.settle_families(new, Some(old))?;
            }
            if kind.generation && new.get("spec") != old.get("spec") {
                bump_generation(new);
            }
            metadata::validate(context, new, &mut problems);
            (kind.validate)(new, &mut problems);
            (kind.validate_update)(new, old, &mut problems);
        }
    }
    refuse(context, new, problems)
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
        context.state.addresses.release(context.kind, new);
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

fn is_service(context: &Context) -> bool {
    context.kind.plural == "services" && context.kind.group.is_empty()
}

fn refuse(context: &Context, value: &Value, problems: Problems) -> Result<(), ApiError> {
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

/// Nothing is made in a namespace that is not there or is going away.
async fn admit_namespace(context: &Context, name: &str) -> Result<(), ApiError> {
    let namespace = &context.info.namespace;
    let key = format!("/registry/namespaces/{namespace}");
    let (found, _) = context
        .state
        .store
        .get(&key)
        .await
        .map_err(|e| list::store_error(context, e))?;
    let Some(found) = found else {
        return Err(ApiError::not_found("", "namespaces", namespace));
    };
    let value = object::parse(&found.value, found.mod_revision);
    if text(&value, &["metadata", "deletionTimestamp"]).is_empty()
        && text(&value, &["status", "phase"]) != "Terminating"
    {
        return Ok(());
    }
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let mut error = ApiError::forbidden(context.kind.group, context.kind.plural, name, &why);
    if let Some(details) = &mut error.details {
        details["causes"] = json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        }]);
    }
    Err(error)
}
