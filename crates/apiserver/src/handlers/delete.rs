//! Deletion: preconditions, propagation, grace, finalizers, collections.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use store::Expect;

use super::body;
use super::list::{self, Selection};
use super::respond::{self, Response};
use super::{Context, custom, write};
use crate::custom::definition;
use crate::object::{self, text};
use crate::query::ListOptions;
use crate::registry::validate::SYSTEM_CLASSES;
use crate::registry::{Kind, Problems};
use crate::schema::{self, Gvk, Schemas};
use crate::status::{self, ApiError, Cause};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Jobs of batch/v1 leave their pods behind when nothing else is said, for old times' sake.
const ORPHANED: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";
/// Namespaces that every cluster has.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];
/// Kinds whose deletion answers with the object instead of a `Status`, by group.
const RETURN_OBJECT: [(&str, &[&str]); 2] = [
    (
        "",
        &[
            "persistentvolumeclaims",
            "persistentvolumes",
            "pods",
            "podtemplates",
            "resourcequotas",
            "serviceaccounts",
            "services",
        ],
    ),
    (
        "storage.k8s.io",
        &[
            "csidrivers",
            "csinodes",
            "storageclasses",
            "volumeattachments",
        ],
    ),
];

/// Whether the deletion of such an object answers with it.
pub(crate) fn returns_object(group: &str, plural: &str) -> bool {
    let mut all = RETURN_OBJECT.iter();
    all.any(|(of, plurals)| *of == group && plurals.contains(&plural))
}

/// Nobody waits for longer than that, whatever period of grace is written: 68 years.
const GRACE_SECONDS_MAX: i64 = i32::MAX as i64;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(super) grace_seconds: Option<i64>,
    pub(super) propagation: Option<Propagation>,
    pub(super) uid: Option<String>,
    pub(super) resource_version: Option<String>,
    pub(super) dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Orphan,
    Background,
    Foreground,
}

fn options(context: &Context, body: &[u8]) -> Result<Options, ApiError> {
    let mut options = Options {
        dry_run: context.dry_run()?,
        ..Options::default()
    };
    if body.is_empty() {
        let number = |key: &str| {
            context
                .query
                .get(key)
                .map(|v| {
                    v.parse::<i64>().map_err(|_| {
                        ApiError::bad_request(format!(
                            "strconv.ParseInt: parsing {v:?}: invalid syntax"
                        ))
                    })
                })
                .transpose()
        };
        options.grace_seconds = number("gracePeriodSeconds")?;
        let orphan = context
            .query
            .get("orphanDependents")
            .map(|_| context.query.flag("orphanDependents"));
        options.propagation = what_of_dependents(context.query.get("propagationPolicy"), orphan)?;
    } else {
        let gvk = Gvk::gvk("", "v1", "DeleteOptions");
        let content_type = if context.content_type.is_empty() {
            "application/json"
        } else {
            &context.content_type
        };
        let (value, _) =
            crate::codec::decode(content_type, body, Some(&gvk)).map_err(body::decode_error)?;
        if !value.is_object() {
            return Err(ApiError::bad_request("DeleteOptions must be an object"));
        }
        if !matches!(text(&value, &["kind"]), "" | "DeleteOptions") {
            return Err(ApiError::bad_request(
                "decoded object cannot be converted to DeleteOptions",
            ));
        }
        // What is of another type would be as if it were not there, and the object would go.
        if let Some(problem) = Schemas::load().type_errors(&gvk, &value) {
            let words = schema::cannot_be_handled(&gvk.kind, &gvk.version, &gvk.kind, &problem);
            return Err(ApiError::bad_request(words));
        }
        let said = of_body(&value)?;
        options = Options {
            dry_run: options.dry_run || said.dry_run,
            ..said
        };
    }
    Ok(options)
}

/// What DeleteOptions say, whose types have been checked.
pub(super) fn of_body(value: &Value) -> Result<Options, ApiError> {
    let dry_run = object::items(value, &["dryRun"]);
    if dry_run.iter().any(|stage| stage != "All") {
        let mut problems = Problems::default();
        problems.not_supported("dryRun", &value["dryRun"], &["All"]);
        return Err(refused_options(problems));
    }
    // an empty one is a precondition that nothing meets
    let words = |v: &Value| v.as_str().map(str::to_owned);
    Ok(Options {
        grace_seconds: value["gracePeriodSeconds"].as_i64(),
        propagation: what_of_dependents(
            value["propagationPolicy"].as_str(),
            value["orphanDependents"].as_bool(),
        )?,
        uid: words(&value["preconditions"]["uid"]),
        resource_version: words(&value["preconditions"]["resourceVersion"]),
        dry_run: !dry_run.is_empty(),
    })
}

/// By the policy, or by the field that was there before it; they are not taken together.
fn what_of_dependents(
    policy: Option<&str>,
    orphan: Option<bool>,
) -> Result<Option<Propagation>, ApiError> {
    match (policy, orphan) {
        (Some(policy), Some(_)) => Err(refused_policy(
            "FieldValueInvalid",
            format!(
                "Invalid value: {policy:?}: orphanDependents and deletionPropagation cannot be both set"
            ),
        )),
        (Some(policy), None) => propagation(policy).map(Some),
        (None, Some(true)) => Ok(Some(Propagation::Orphan)),
        (None, Some(false)) => Ok(Some(Propagation::Background)),
        (None, None) => Ok(None),
    }
}

pub(super) fn propagation(text: &str) -> Result<Propagation, ApiError> {
    match text {
        "Orphan" => Ok(Propagation::Orphan),
        "Background" => Ok(Propagation::Background),
        "Foreground" => Ok(Propagation::Foreground),
        other => Err(refused_policy(
            "FieldValueNotSupported",
            format!(
                "Unsupported value: {other:?}: supported values: \"Background\", \"Foreground\", \"Orphan\", \"nil\""
            ),
        )),
    }
}

fn refused_policy(reason: &'static str, message: String) -> ApiError {
    let field = "propagationPolicy".into();
    refused_options(Problems(vec![Cause {
        reason,
        message,
        field,
    }]))
}

fn refused_options(problems: Problems) -> ApiError {
    ApiError::invalid("meta.k8s.io", "DeleteOptions", "", problems.0)
}

/// DELETE of one object.
pub(super) async fn delete(context: &Context, body: &[u8]) -> Result<Response, ApiError> {
    let options = options(context, body)?;
    let (value, gone) = delete_named(context, &context.info.name, &options).await?;
    let kind = &context.kind;
    let warnings = match options.propagation {
        None if kind.is("batch", "jobs") => vec![ORPHANED.to_owned()],
        _ => Vec::new(),
    };
    if gone && !returns_object(kind.group, kind.plural) {
        let uid = text(&value, &["metadata", "uid"]);
        return Ok(respond::value(
            200,
            &status::deleted(
                context.kind.group,
                context.kind.plural,
                &context.info.name,
                uid,
            ),
        ));
    }
    respond::object(context, 200, &value, &warnings)
}

/// DELETE of everything that is selected; answers with the list.
pub(super) async fn delete_collection(
    context: &Context,
    body: &[u8],
) -> Result<Response, ApiError> {
    let options = options(context, body)?;
    let list_options = ListOptions::parse(&context.query)?;
    let selection = Selection::new(context, &list_options)?;
    let found = list::find(context, &list_options, &selection).await?;
    let mut items = Vec::new();
    for object in &found.objects {
        let info = crate::path::ResourceInfo {
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            ..context.info.clone()
        };
        let named = context.of(context.kind.clone(), info);
        match delete_named(&named, &object.name, &options).await {
            Ok((value, _)) => items.push(value),
            // Somebody else was faster.
            Err(error) if error.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let list = json!({
        "kind": context.kind.list_kind(),
        "apiVersion": context.kind.api_version(),
        "metadata": {"resourceVersion": found.revision.to_string()},
        "items": items,
    });
    Ok(respond::value(200, &list))
}

fn is_system_class(name: &str) -> bool {
    SYSTEM_CLASSES.iter().any(|(class, _)| *class == name)
}

/// Deletes or begins to. Returns the object and whether it is gone.
pub(crate) async fn delete_named(
    context: &Context,
    name: &str,
    options: &Options,
) -> Result<(Value, bool), ApiError> {
    let kind = &context.kind;
    if kind.is("", "namespaces") && IMMORTAL.contains(&name) {
        return Err(ApiError::forbidden(
            "",
            "namespaces",
            name,
            "this namespace may not be deleted",
        ));
    }
    if kind.is("scheduling.k8s.io", "priorityclasses") && is_system_class(name) {
        let why = "this is a system priority class and cannot be deleted";
        return Err(ApiError::forbidden(kind.group, kind.plural, name, why));
    }
    let key = kind.key(&context.info.namespace, name);
    let fail = |error| list::store_error(context, error);
    // Without a precondition on the version a deletion always gets through in the end.
    loop {
        let (found, _) = context.state.store.get(&key).await.map_err(fail)?;
        let current = found.ok_or_else(|| context.not_found(name))?;
        let old = object::parse(&current.value, current.mod_revision);
        check_preconditions(context, name, &old, options)?;
        let mut new = old.clone();
        let begins = !old["metadata"]["deletionTimestamp"].is_string();
        let Some(()) = mark(kind, &mut new, options) else {
            // It waits already, and not for longer than asked.
            return Ok((write::answer(context, old, Some(&current)), false));
        };
        if begins && custom::is_definition(kind) {
            definition::begin_deletion(&mut new);
        }
        let finalizing = !object::items(&new, &["metadata", "finalizers"]).is_empty()
            || kind.is("", "namespaces")
                && !object::items(&new, &["spec", "finalizers"]).is_empty();
        let waits = finalizing
            || new["metadata"]["deletionGracePeriodSeconds"]
                .as_i64()
                .unwrap_or(0)
                > 0;
        if options.dry_run {
            return Ok((write::answer(context, new, None), !waits));
        }
        let expect = Expect::Revision(current.mod_revision);
        let result = if waits {
            if new == old {
                return Ok((write::answer(context, old, Some(&current)), false));
            }
            context
                .state
                .store
                .put(&key, object::encode(&new), expect)
                .await
                .map(|stored| (write::answer(context, new, Some(&stored)), false))
        } else {
            context
                .state
                .store
                .delete(&key, expect)
                .await
                .map(|(_, revision)| {
                    let mut value = write::answer(context, new, None);
                    value["metadata"]["resourceVersion"] = revision.to_string().into();
                    (value, true)
                })
        };
        match result {
            Ok(done) => {
                if done.1 {
                    let (store, addresses) = (&context.state.store, &context.state.addresses);
                    addresses.release_recorded(store, kind, &old).await;
                }
                custom::after_write(context).await;
                return Ok(done);
            }
            Err(store::Error::Conflict { current: None } | store::Error::NotFound) => {
                return Err(context.not_found(name));
            }
            Err(store::Error::Conflict { .. }) => {}
            Err(other) => return Err(fail(other)),
        }
    }
}

pub(super) fn check_preconditions(
    context: &Context,
    name: &str,
    old: &Value,
    options: &Options,
) -> Result<(), ApiError> {
    let pairs = [
        ("UID", &options.uid, text(old, &["metadata", "uid"])),
        (
            "ResourceVersion",
            &options.resource_version,
            text(old, &["metadata", "resourceVersion"]),
        ),
    ];
    for (what, wanted, actual) in pairs {
        if let Some(wanted) = wanted
            && wanted != actual
        {
            let why = format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {actual}"
            );
            return Err(ApiError::conflict(
                context.kind.group,
                context.kind.plural,
                name,
                &why,
            ));
        }
    }
    Ok(())
}

/// Marks an object as being deleted. `None` when it already is, with no longer grace than asked.
fn mark(kind: &Kind, value: &mut Value, options: &Options) -> Option<()> {
    let chosen = object::items(value, &["metadata", "finalizers"])
        .iter()
        .any(|finalizer| finalizer == ORPHAN || finalizer == FOREGROUND);
    // for old times' sake, as upstream
    let orphans = kind.is("batch", "jobs") || kind.is("", "replicationcontrollers");
    let default = (orphans && !chosen).then_some(Propagation::Orphan);
    set_finalizers(value, options.propagation.or(default));
    let grace = grace_seconds(kind, value, options.grace_seconds);
    let marked = text(&value["metadata"], &["deletionTimestamp"]).to_owned();
    if marked.is_empty() {
        let at = Timestamp::now() + period(grace);
        let metadata = object::metadata(value);
        metadata.insert("deletionTimestamp".into(), crate::time::seconds(at).into());
        metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
        if value["metadata"]["generation"].as_i64().unwrap_or(0) > 0 {
            write::bump_generation(value);
        }
        if kind.is("", "namespaces") {
            value["status"]["phase"] = "Terminating".into();
        }
        return Some(());
    }
    let had = value["metadata"]["deletionGracePeriodSeconds"]
        .as_i64()
        .unwrap_or(0);
    if had == 0 {
        // Only finalizers can keep it now; they may have gone without the object being looked at.
        return Some(());
    }
    if options.grace_seconds.is_none() || grace >= had {
        return None;
    }
    let at = marked
        .parse::<Timestamp>()
        .unwrap_or_else(|_| Timestamp::now())
        - period(had)
        + period(grace);
    value["metadata"]["deletionTimestamp"] = crate::time::seconds(at).into();
    value["metadata"]["deletionGracePeriodSeconds"] = grace.into();
    Some(())
}

/// A period of grace as time that can be waited for.
fn period(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds.clamp(0, GRACE_SECONDS_MAX))
}

/// Only pods are deleted gracefully: by their node, unless they have none or have ended.
fn grace_seconds(kind: &Kind, value: &Value, asked: Option<i64>) -> i64 {
    if !kind.is("", "pods")
        || text(value, &["spec", "nodeName"]).is_empty()
        || matches!(text(value, &["status", "phase"]), "Failed" | "Succeeded")
    {
        return 0;
    }
    let grace = asked.unwrap_or_else(|| {
        value["spec"]["terminationGracePeriodSeconds"]
            .as_i64()
            .unwrap_or(30)
    });
    // Upstream: a negative period means one second.
    if grace < 0 { 1 } else { grace }
}

fn set_finalizers(value: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else {
        return;
    };
    let mut finalizers = object::items(value, &["metadata", "finalizers"]).to_vec();
    finalizers.retain(|f| f != ORPHAN && f != FOREGROUND);
    match propagation {
        Propagation::Orphan => finalizers.push(ORPHAN.into()),
        Propagation::Foreground => finalizers.push(FOREGROUND.into()),
        Propagation::Background => {}
    }
    let metadata = object::metadata(value);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), finalizers.into());
    }
}
