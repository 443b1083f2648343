//! The scale subresource: `autoscaling/v1 Scale` of Deployments, ReplicaSets, StatefulSets and ReplicationControllers.

use serde_json::{Value, json};

use super::respond::{self, Response};
use super::{Context, apply, body, list, metadata, patch, table, write};
use crate::custom::ScalePaths;
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
    let mut scale = custom_scale(paths, object);
    scale["spec"]["replicas"] = wanted.into();
    Ok(scale)
}

/// The scale of an object that is about to be written: it may not say how many replicas it wants.
fn scale_before(context: &Context, object: &Value) -> Result<Value, ApiError> {
    let custom = context.kind.custom.as_ref();
    match custom.and_then(|custom| custom.scale.as_ref()) {
        Some(paths) if paths.wanted(object).is_none() => Ok(custom_scale(paths, object)),
        _ => scale_in(context, object),
    }
}

/// All of a custom object's scale but the replicas that it wants.
fn custom_scale(paths: &ScalePaths, object: &Value) -> Value {
    let mut scale = scale_of(object);
    if let Some(spec) = scale["spec"].as_object_mut() {
        spec.remove("replicas");
    }
    scale["status"] = json!({"replicas": paths.actual(object)});
    let selector = paths.selector(object);
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    scale
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
    let mut decoded = body::decode(context, body, &gvk())?;
    metadata::place(context, &mut decoded.value)?;
    patch::check_identity(context, &decoded.value)?;
    set(context, &decoded.warnings, |_| Ok(decoded.value.clone())).await
}

pub(super) async fn patch(context: &Context, patch_body: &[u8]) -> Result<Response, ApiError> {
    apply::check_options(context)?;
    if context.applying {
        return apply(context, patch_body).await;
    }
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

/// Server-side apply: the wanted size is the one field of a scale that can be applied. It is a field of the object's, so whoever
/// applies it owns it there, through this subresource.
async fn apply(context: &Context, body: &[u8]) -> Result<Response, ApiError> {
    let dry_run = context.dry_run()?;
    let (scale, warnings) = apply::read_as(context, body, &gvk())?;
    let (name, namespace) = (&context.info.name, &context.info.namespace);
    let mut config = json!({
        "apiVersion": context.kind.api_version(),
        "kind": context.kind.kind,
        "metadata": {"name": name, "namespace": namespace},
    });
    if let Some(replicas) = scale["spec"]["replicas"].as_i64() {
        check(context, replicas)?;
        wish(context, &mut config, replicas);
    }
    let written = write::modify(&main(context), dry_run, |served| {
        let mut new = apply::applied(context, &config, served)?;
        let version = text(&scale, &["metadata", "resourceVersion"]);
        object::metadata(&mut new).insert("resourceVersion".into(), version.into());
        Ok(new)
    })
    .await?;
    answer(context, &written, &warnings)
}

/// The same request of the object itself: its rules are the change's, too.
fn main(context: &Context) -> Context {
    let info = crate::path::ResourceInfo {
        subresource: String::new(),
        ..context.info.clone()
    };
    let mut main = context.of(context.kind.clone(), info);
    main.through = Some("scale");
    main
}

/// Refuses a size that is none.
fn check(context: &Context, replicas: i64) -> Result<(), ApiError> {
    if replicas >= 0 {
        return Ok(());
    }
    let cause = Cause {
        reason: "FieldValueInvalid",
        message: format!("Invalid value: {replicas}: must be greater than or equal to 0"),
        field: "spec.replicas".into(),
    };
    let name = &context.info.name;
    Err(ApiError::invalid("autoscaling", "Scale", name, vec![cause]))
}

/// Writes the size where the object keeps it.
fn wish(context: &Context, object: &mut Value, replicas: i64) {
    let custom = context.kind.custom.as_ref();
    match custom.and_then(|custom| custom.scale.as_ref()) {
        Some(paths) => paths.set(object, replicas),
        None => object["spec"]["replicas"] = replicas.into(),
    }
}

async fn set(
    context: &Context,
    warnings: &[String],
    mut change: impl FnMut(&Value) -> Result<Value, ApiError>,
) -> Result<Response, ApiError> {
    let dry_run = context.dry_run()?;
    let written = write::modify(&main(context), dry_run, |served| {
        let before = scale_before(context, served)?;
        let scale = change(&before)?;
        let said = scale["spec"]["replicas"].as_i64();
        if said.is_none() && before["spec"].get("replicas").is_none() {
            let custom = context.kind.custom.as_ref();
            let paths = custom.and_then(|custom| custom.scale.as_ref());
            let path = paths.map(|paths| paths.spec.join(".")).unwrap_or_default();
            return Err(ApiError::bad_request(format!(
                "the spec replicas field \".{path}\" cannot be empty"
            )));
        }
        let replicas = said.unwrap_or(0);
        check(context, replicas)?;
        let mut new = served.clone();
        wish(context, &mut new, replicas);
        let version = text(&scale, &["metadata", "resourceVersion"]);
        object::metadata(&mut new).insert("resourceVersion".into(), version.into());
        Ok(new)
    })
    .await?;
    answer(context, &written, warnings)
}

fn answer(context: &Context, written: &Value, warnings: &[String]) -> Result<Response, ApiError> {
    let mut response = respond::value(200, &scale_in(context, written)?);
    respond::warn(&mut response, warnings);
    Ok(response)
}
