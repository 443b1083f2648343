//! The scale subresource: `autoscaling/v1 Scale` of Deployments, ReplicaSets, StatefulSets and ReplicationControllers.

use serde_json::{Value, json};

use super::respond::{self, Response};
use super::{Context, body, list, patch, table, write};
use crate::negotiate::Form;
use crate::object::{self, text};
use crate::registry;
use crate::schema::{Gvk, Schemas};
use crate::status::{ApiError, Cause};

fn gvk() -> Gvk {
    Gvk::gvk("autoscaling", "v1", "Scale")
}

fn scale_of(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"], "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {"replicas": object["spec"]["replicas"].as_i64().unwrap_or(0)},
        "status": {"replicas": object["status"]["replicas"].as_i64().unwrap_or(0)},
    });
    let selector = match text(object, &["kind"]) {
        "ReplicationController" => labels_text(&object["spec"]["selector"]),
        _ => selector_text(&object["spec"]["selector"]),
    };
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    scale
}

/// Labels in the text form of selectors.
pub(crate) fn labels_text(labels: &Value) -> String {
    selector_text(&json!({"matchLabels": labels}))
}

/// A `LabelSelector` in the text form of selectors.
pub(crate) fn selector_text(selector: &Value) -> String {
    let mut parts = Vec::new();
    if let Some(labels) = selector["matchLabels"].as_object() {
        parts.extend(
            labels
                .iter()
                .map(|(k, v)| (k.clone(), format!("{k}={}", v.as_str().unwrap_or_default()))),
        );
    }
    for expression in object::items(selector, &["matchExpressions"]) {
        let key = text(expression, &["key"]).to_owned();
        let mut values: Vec<_> = object::items(expression, &["values"])
            .iter()
            .filter_map(Value::as_str)
            .collect();
        values.sort_unstable();
        let values = values.join(",");
        let part = match text(expression, &["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.clone(),
            "DoesNotExist" => format!("!{key}"),
            _ => continue,
        };
        parts.push((key, part));
    }
    parts.sort();
    parts
        .into_iter()
        .map(|(_, part)| part)
        .collect::<Vec<_>>()
        .join(",")
}

/// The scale of an object of the context's kind (in any version).
fn scale_in(context: &Context, object: &Value) -> Result<Value, ApiError> {
    let paths = context
        .kind
        .custom
        .as_ref()
        .and_then(|custom| custom.scale.as_ref());
    let Some(paths) = paths else {
        return Ok(scale_of(object));
    };
    let wanted = paths.wanted(object).ok_or_else(|| {
        let path = paths.spec.join(".");
        ApiError::internal(format!(
            "the spec replicas field \".{path}\" does not exist"
        ))
    })?;
    let mut scale = scale_of(object);
    scale["spec"]["replicas"] = wanted.into();
    scale["status"] = json!({"replicas": paths.actual(object)});
    let selector = paths.selector(object);
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    Ok(scale)
}

pub(super) async fn get(context: &Context) -> Result<Response, ApiError> {
    let key = context
        .kind
        .key(&context.info.namespace, &context.info.name);
    let (found, _) = context
        .state
        .store
        .get(&key)
        .await
        .map_err(|e| list::store_error(context, e))?;
    let kv = found.ok_or_else(|| context.not_found(&context.info.name))?;
    let scale = scale_in(context, &object::parse(&kv.value, kv.mod_revision))?;
    // one cannot be listed, but is shown as a row like any object
    Ok(match respond::answer(context, false)?.form {
        Form::Table => {
            let include = respond::include_object(context);
            respond::value(200, &table::of_object(&registry::SCALE, &scale, include))
        }
        _ => respond::value(200, &scale),
    })
}

pub(super) async fn update(context: &Context, body: &[u8]) -> Result<Response, ApiError> {
    let decoded = body::decode(context, body, &gvk())?;
    set(context, &decoded.warnings, |_| Ok(decoded.value.clone())).await
}

pub(super) async fn patch(context: &Context, patch_body: &[u8]) -> Result<Response, ApiError> {
    let kind = patch::kind_of(&context.content_type)?;
    set(context, &[], |scale| {
        let mut patched =
            crate::patch::apply(kind, scale, patch_body, &gvk()).map_err(patch::patch_error)?;
        if let Some(problem) = Schemas::load().type_errors(&gvk(), &patched) {
            return Err(patch::invalid_patch(&patched.to_string(), &problem));
        }
        object::strip_nulls(&mut patched);
        Ok(patched)
    })
    .await
}

async fn set(
    context: &Context,
    warnings: &[String],
    mut change: impl FnMut(&Value) -> Result<Value, ApiError>,
) -> Result<Response, ApiError> {
    let dry_run = context.dry_run()?;
    // The main resource's rules apply to the change, so the subresource is left out below.
    let main = Context {
        state: context.state.clone(),
        identity: context.identity.clone(),
        kind: context.kind.clone(),
        info: crate::path::ResourceInfo {
            subresource: String::new(),
            ..context.info.clone()
        },
        query: context.query.clone(),
        accept: None,
        role: context.role,
        lasting: None,
        content_type: String::new(),
        applying: false,
        manager: context.manager.clone(),
        ending: context.ending.clone(),
        warnings: Default::default(),
    };
    let written = write::modify(&main, dry_run, |served| {
        let scale = change(&scale_in(context, served)?)?;
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
        if replicas < 0 {
            let cause = Cause {
                reason: "FieldValueInvalid",
                message: format!("Invalid value: {replicas}: must be greater than or equal to 0"),
                field: "spec.replicas".into(),
            };
            return Err(ApiError::invalid(
                "autoscaling",
                "Scale",
                &context.info.name,
                vec![cause],
            ));
        }
        let mut new = served.clone();
        let paths = context
            .kind
            .custom
            .as_ref()
            .and_then(|custom| custom.scale.as_ref());
        match paths {
            Some(paths) => paths.set(&mut new, replicas),
            None => new["spec"]["replicas"] = replicas.into(),
        }
        let version = text(&scale, &["metadata", "resourceVersion"]);
        object::metadata(&mut new).insert("resourceVersion".into(), version.into());
        Ok(new)
    })
    .await?;
    let mut response = respond::value(200, &scale_in(context, &written)?);
    respond::warn(&mut response, warnings);
    Ok(response)
}
