//! PATCH with `application/apply-patch+yaml`: server-side apply over HTTP.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::body::{self, FieldValidation};
use super::respond::{self, Response};
use super::{Context, access, create, list, metadata, patch, write};
use crate::apply::{self, Applied, ApplyError, Conflict, Manager, Node, Operation};
use crate::auth::Identity;
use crate::codec;
use crate::object::{self, text};
use crate::query::Query;
use crate::registry::{self, Kind};
use crate::schema::{self, Gvk};
use crate::status::{ApiError, Cause};

/// The field manager that keeps kubectl's annotation of what was applied last.
const KUBECTL: &str = "kubectl";

/// How often an object that comes or goes meanwhile is looked at anew.
const ATTEMPTS: usize = 4;
/// Longest name of a manager, in bytes (upstream's limit).
const MANAGER_BYTES_MAX: usize = 128;

pub(crate) fn is_apply(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or("").trim();
    media_type.eq_ignore_ascii_case("application/apply-patch+yaml")
}

/// Who owns what a request changes: `fieldManager`, or the program that asks, as its `User-Agent` names it.
pub(super) fn manager(
    query: &Query,
    options: &str,
    user_agent: Option<&str>,
    identity: &Identity,
) -> Result<String, ApiError> {
    if let Some(named) = query.get("fieldManager") {
        let problem = if named.len() > MANAGER_BYTES_MAX {
            Some((
                "FieldValueTooLong",
                format!("Too long: may not be more than {MANAGER_BYTES_MAX} bytes"),
            ))
        } else if named.chars().any(char::is_control) {
            Some((
                "FieldValueInvalid",
                format!("Invalid value: {named:?}: should only contain printable characters"),
            ))
        } else {
            None
        };
        return match problem {
            Some((reason, message)) => Err(refused_option(options, reason, message)),
            None => Ok(named.to_owned()),
        };
    }
    let program = user_agent
        .and_then(|agent| agent.split('/').next())
        .unwrap_or("");
    let name = if program.is_empty() {
        component(&identity.user)
    } else {
        program
    };
    Ok(name
        .chars()
        .filter(|c| !c.is_control())
        .take(MANAGER_BYTES_MAX)
        .collect())
}

fn refused_option(options: &str, reason: &'static str, message: String) -> ApiError {
    let field = "fieldManager".into();
    let cause = Cause {
        reason,
        message,
        field,
    };
    ApiError::invalid("meta.k8s.io", options, "", vec![cause])
}

/// Refuses what only an apply can ask for.
pub(super) fn check_options(context: &Context) -> Result<(), ApiError> {
    if context.applying || context.query.get("force").is_none() {
        return Ok(());
    }
    let cause = Cause {
        reason: "FieldValueForbidden",
        message: "Forbidden: may not be specified for non-apply patch".into(),
        field: "force".into(),
    };
    Err(ApiError::invalid(
        "meta.k8s.io",
        "PatchOptions",
        "",
        vec![cause],
    ))
}

/// Applies a configuration: makes the object (201), or merges into it (200).
pub(super) async fn apply(context: &Context, config: &[u8]) -> Result<Response, ApiError> {
    let dry_run = context.dry_run()?;
    let kind = &context.kind;
    let (config, warnings) = read_as(context, config, &kind.gvk())?;
    let key = kind.key(&context.info.namespace, &context.info.name);
    for _ in 0..ATTEMPTS {
        let found = context.state.store.get(&key).await;
        let (found, _) = found.map_err(|e| list::store_error(context, e))?;
        let result = if found.is_some() {
            write::modify(context, dry_run, |served| applied(context, &config, served)).await
        } else if context.info.subresource.is_empty() {
            access::may_create(context)?;
            let uid = text(&config, &["metadata", "uid"]);
            if !uid.is_empty() {
                let why = format!(
                    "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                );
                let name = &context.info.name;
                return Err(ApiError::conflict(kind.group, kind.plural, name, &why));
            }
            let object = apply::create(configuration(context, &config)?)
                .map_err(|error| refusal(context, error))?;
            create::create_value(context, object, dry_run).await
        } else {
            return Err(context.not_found(&context.info.name));
        };
        match result {
            Ok(object) => {
                let code = if found.is_some() { 200 } else { 201 };
                return respond::object(context, code, &object, &warnings);
            }
            // It was made, or went, in between.
            Err(error) if found.is_none() && error.reason == "AlreadyExists" => {}
            Err(error) if found.is_some() && error.reason == "NotFound" => {}
            Err(error) => return Err(error),
        }
    }
    Err(ApiError::modified(
        kind.group,
        kind.plural,
        &context.info.name,
    ))
}

/// Versions of custom kinds are not converted: what is a field of one is the same field of the others.
fn has_one_schema(kind: &Kind) -> bool {
    kind.custom.is_some()
}

/// The object with the configuration applied to it.
pub(super) fn applied(
    context: &Context,
    config: &Value,
    served: &Value,
) -> Result<Value, ApiError> {
    let by_kubectl = context.query.get("fieldManager") == Some(KUBECTL);
    let applied = configuration(context, config)?;
    let value = match by_kubectl && !applied.force {
        true => apply::update_by_kubectl(applied, served),
        false => apply::update(applied, served),
    };
    let mut value = value.map_err(|error| refusal(context, error))?;
    if by_kubectl {
        apply::keep_last_applied(&mut value, config);
    }
    Ok(value)
}

fn configuration<'a>(context: &'a Context, config: &'a Value) -> Result<Applied<'a>, ApiError> {
    let kind = &context.kind;
    let node = Node::of_kind(kind).ok_or_else(|| {
        ApiError::unsupported_media_type(format!("{} has no schema to apply by", kind.kind))
    })?;
    Ok(Applied {
        node,
        one_schema: has_one_schema(kind),
        manager: applier(context),
        config,
        force: context.query.flag("force"),
    })
}

/// The configuration, of this kind, and the warnings to answer with.
pub(super) fn read_as(
    context: &Context,
    body: &[u8],
    gvk: &Gvk,
) -> Result<(Value, Vec<String>), ApiError> {
    if context.query.get("fieldManager").is_none() {
        let message = "Required value: is required for apply patch".to_owned();
        let reason = "FieldValueRequired";
        return Err(refused_option(context.options, reason, message));
    }
    let validation = FieldValidation::of(context)?;
    let (mut config, duplicates) =
        codec::decode("application/yaml", body, Some(gvk)).map_err(body::decode_error)?;
    if !config.is_object() {
        return Err(ApiError::bad_request(
            "error decoding YAML: the body is not an object",
        ));
    }
    body::check_type(&mut config, gvk)?;
    let refuse = |why: &str| {
        let (namespace, name) = (&context.info.namespace, &context.info.name);
        ApiError::bad_request(format!(
            "failed to create typed patch object ({namespace}/{name}; {}, Kind={}): {why}",
            gvk.api_version(),
            gvk.kind
        ))
    };
    let report = body::check(context, gvk, &mut config);
    if let Some(problem) = report.type_error {
        return Err(refuse(&problem));
    }
    // Nobody can own a field that is not there, so this does not wait for strict validation.
    if let Some(unknown) = report.unknown.first() {
        let path = unknown
            .trim_start_matches("unknown field ")
            .trim_matches('"');
        return Err(refuse(&format!(".{path}: field not declared in schema")));
    }
    let problems = schema::strict_problems(&duplicates, Vec::new());
    if validation == FieldValidation::Strict
        && let Some(problem) = schema::strict_decoding_error(&problems)
    {
        return Err(refuse(&problem));
    }
    body::settle(context, gvk, &mut config);
    metadata::place(context, &mut config)?;
    if object::text(&config, &["metadata", "name"]).is_empty() {
        config["metadata"]["name"] = context.info.name.as_str().into();
    }
    patch::check_identity(context, &config)?;
    if object::at(&config, &["metadata", "managedFields"]).is_some() {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    if let Some(object) = config.as_object_mut() {
        match context.info.subresource.as_str() {
            "scale" => {}
            "status" => object.retain(|key, _| {
                matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status")
            }),
            _ if context.kind.status => drop(object.remove("status")),
            _ => {}
        }
    }
    let warnings = match validation {
        FieldValidation::Warn => problems,
        FieldValidation::Ignore | FieldValidation::Strict => Vec::new(),
    };
    Ok((config, warnings))
}

fn applier(context: &Context) -> Manager {
    Manager {
        name: context.manager.clone(),
        operation: Operation::Apply,
        api_version: context.kind.api_version(),
        subresource: match context.through {
            Some(subresource) => subresource.to_owned(),
            None => context.info.subresource.clone(),
        },
        time: crate::time::now(),
        fields: Default::default(),
    }
}

/// The program behind an identity, as upstream's programs call themselves: roles in this process send no user agent.
fn component(user: &str) -> &str {
    match user.strip_prefix("system:") {
        Some(node) if node.starts_with("node:") => "kubelet",
        Some(part) if !part.contains(':') => part,
        _ => user,
    }
}

/// The managers of an object (in the stored version) that is created otherwise than by apply. `None` for what the program's
/// own parts make, or upstream's in their place: nobody applies to pods of a set or to leases, and most objects are such.
pub(super) fn after_create(context: &Context, new: &Value) -> Option<Value> {
    let user = &context.identity.user;
    if user.starts_with("system:") && !user.starts_with("system:serviceaccount:") {
        return None;
    }
    let row = stored_row(context);
    Some(apply::after_create(
        Node::of_kind(row)?,
        updater(context),
        new,
    ))
}

/// The managers of an object (in the stored version) after an apply.
pub(super) fn after_apply(
    context: &Context,
    managers: Option<Value>,
    old: &Value,
    new: &Value,
) -> Option<Value> {
    apply::stamp(managers, &applier(context), old, new)
}

/// The row of the version in which the object is stored.
fn stored_row(context: &Context) -> &Kind {
    match context.kind.conversion {
        Some(_) => registry::stored_row(&context.kind).unwrap_or(&context.kind),
        None => &context.kind,
    }
}

fn updater(context: &Context) -> Manager {
    Manager {
        operation: Operation::Update,
        api_version: stored_row(context).api_version(),
        ..applier(context)
    }
}

/// The managers of an object (in the stored version) after a write other than apply. `given` are those that the
/// writer sent: they may be fewer, or renamed.
pub(super) fn after_update(
    context: &Context,
    given: Option<Value>,
    old: &Value,
    new: &Value,
) -> Option<Value> {
    let before = object::at(old, &["metadata", "managedFields"])?;
    let managers = match &given {
        None | Some(Value::Null) => apply::decode(Some(before)),
        Some(_) => apply::decode(given.as_ref()).or_else(|| apply::decode(Some(before))),
    }?;
    let node = Node::of_kind(stored_row(context))?;
    let one_schema = has_one_schema(&context.kind);
    apply::after_update(node, one_schema, updater(context), managers, old, new)
}

fn refusal(context: &Context, error: ApplyError) -> ApiError {
    match error {
        ApplyError::Malformed(why) => ApiError::bad_request(format!(
            "failed to create typed patch object ({}/{}; {}, Kind={}): {why}",
            context.info.namespace,
            context.info.name,
            context.kind.api_version(),
            context.kind.kind
        )),
        ApplyError::Conflicts(conflicts) => conflict(&conflicts),
    }
}

/// 409 in upstream's words, a cause for each field.
fn conflict(conflicts: &[Conflict]) -> ApiError {
    let mut by_manager: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in conflicts {
        by_manager.entry(&one.manager).or_default().push(&one.path);
    }
    let words = match conflicts {
        [one] => format!("conflict with {}: {}", one.manager, one.path),
        _ => by_manager
            .iter()
            .map(|(manager, paths)| format!("conflicts with {manager}:\n- {}", paths.join("\n- ")))
            .collect::<Vec<_>>()
            .join("\n"),
    };
    let (count, plural) = (conflicts.len(), if conflicts.len() == 1 { "" } else { "s" });
    let message = format!("Apply failed with {count} conflict{plural}: {words}");
    let mut error = ApiError::new(409, "Conflict", message);
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|c| {
            json!({"reason": "FieldManagerConflict", "message": format!("conflict with {}", c.manager), "field": c.path})
        })
        .collect();
    error.details = Some(json!({"causes": causes}));
    error
}
