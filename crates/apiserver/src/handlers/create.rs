//! New objects: default, admit, validate, name, write if nobody has the name.

use serde_json::{Value, json};
use store::Expect;

use super::body::{self, Decoded};
use super::respond::{self, Response};
use super::write::{answer, is_service, is_undecided, refuse, store_form};
use super::{Context, admit, apply, custom, list, metadata, quotas};
use crate::object::{self, text};
use crate::registry::Problems;
use crate::status::ApiError;

/// How often a generated name is tried anew when it is taken.
const NAME_ATTEMPTS: usize = 8;

/// POST of a new object.
pub(super) async fn create(context: &Context, body: &[u8]) -> Result<Response, ApiError> {
    let dry_run = context.dry_run()?;
    let Decoded {
        value,
        mut warnings,
    } = body::decode(context, body, &context.kind.gvk())?;
    warnings.extend(admit::inert(&context.kind));
    let created = create_value(context, value, dry_run).await?;
    respond::object(context, 201, &created, &warnings)
}

/// Makes an object in the served version; returns it as stored, in the served version.
pub(crate) async fn create_value(
    context: &Context,
    mut value: Value,
    dry_run: bool,
) -> Result<Value, ApiError> {
    let kind = &context.kind;
    metadata::place(context, &mut value)?;
    if !text(&value, &["metadata", "resourceVersion"]).is_empty() {
        return Err(ApiError::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    let managed = context.applying.then(|| metadata::take_managed(&mut value));
    metadata::create(context, &mut value);
    crate::schema::zeros::drop_zeros(&kind.gvk(), &mut value);
    kind.default(&mut value);
    store_form(kind, &mut value)?;
    (kind.prepare_create)(&mut value);
    if kind.custom.is_some() && kind.status {
        // it is for writers of the status alone
        value.as_object_mut().map(|object| object.remove("status"));
    }
    if is_service(context) {
        context.state.addresses.settle_families(&mut value, None)?;
    }
    admit::create(context, &mut value).await?;
    metadata::tidy(context, &mut value);
    let managed = match context.applying {
        true => managed.flatten(),
        false => apply::after_create(context, &value),
    };
    metadata::set_managed(&mut value, managed);
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
        (kind.validate_create)(&value, &mut problems);
        if kind.custom.is_none() {
            crate::registry::validate::finalizers(&value, &mut problems);
        }
        if let Some(custom) = &kind.custom {
            custom.validate(&value, &mut problems);
        }
        refuse(context, &value, problems)?;
        context.warnings.of(context, &value, None);
        custom::admit_create(context, text(&value, &["metadata", "name"]))?;
        if kind.namespaced {
            admit_namespace(context, text(&value, &["metadata", "name"])).await?;
        }
        let addresses = is_service(context).then_some(&context.state.addresses);
        let mut claim = match addresses {
            Some(addresses) => {
                let store = &context.state.store;
                Some(
                    addresses
                        .claim_recorded(store, &mut value, None, dry_run)
                        .await?,
                )
            }
            None => None,
        };
        let charged = admit::allow(context, &value, None, dry_run).await?;
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
            if let Some(claim) = &mut claim {
                claim.writing();
            }
            context
                .state
                .store
                .put(&key, object::encode(&value), Expect::Absent)
                .await
                .map(Some)
        };
        if let (Some(claim), Err(_)) = (&mut claim, &stored) {
            claim.failed();
        }
        if stored.is_err() {
            quotas::give_back(&context.state, charged).await;
        }
        match stored {
            Ok(stored) => {
                if let (Some(claim), false) = (claim, dry_run) {
                    claim.keep().await;
                }
                if !dry_run {
                    custom::after_write(context).await;
                }
                return Ok(answer(context, value, stored.as_ref()));
            }
            Err(store::Error::Conflict { .. }) if generated && attempt < NAME_ATTEMPTS => {}
            Err(store::Error::Conflict { .. }) => {
                let mut error = ApiError::already_exists(kind.group, kind.plural, &name);
                let there = context.state.store.get(&key).await;
                if let Ok((Some(there), _)) = there
                    && is_leaving(&object::parse(&there.value, there.mod_revision))
                {
                    error.message = format!("object is being deleted: {}", error.message);
                }
                return Err(error);
            }
            Err(other) => {
                if let (Some(claim), true) = (claim, is_undecided(&other)) {
                    claim.leave();
                }
                return Err(list::store_error(context, other));
            }
        }
    }
    Err(ApiError::internal("no attempt was made"))
}

fn is_leaving(object: &Value) -> bool {
    !text(object, &["metadata", "deletionTimestamp"]).is_empty()
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
    if !is_leaving(&value) && text(&value, &["status", "phase"]) != "Terminating" {
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
