//! Resources that are answered and not kept: who am I, and may I, and who is this.

use serde_json::{Map, Value, json};

use super::respond::{self, Response};
use super::{Context, body, metadata, token};
use crate::auth::{Decision, Identity};
use crate::object::{self, at, items, text};
use crate::path::{RequestInfo, ResourceInfo};
use crate::rbac::aggregate;
use crate::registry::Problems;
use crate::status::ApiError;

pub(super) async fn answer(context: &Context, body: &[u8]) -> Result<Response, ApiError> {
    let decoded = body::decode(context, body, &context.kind.gvk())?;
    let mut value = decoded.value;
    metadata::place(context, &mut value)?;
    let status = match context.kind.kind {
        "SelfSubjectReview" => json!({"userInfo": user_info(&context.identity)}),
        "SelfSubjectRulesReview" => rules(context, &value)?,
        "TokenReview" => who(context, &value).await?,
        kind => {
            check(context, &value)?;
            let identity = match kind {
                "SelfSubjectAccessReview" => context.identity.clone(),
                _ => named(&value["spec"]),
            };
            access(context, &identity, &asked(&value["spec"]))
        }
    };
    value["status"] = status;
    let metadata = object::metadata(&mut value);
    metadata.remove("managedFields");
    if context.kind.kind == "SelfSubjectReview" {
        metadata.insert("creationTimestamp".into(), crate::time::now().into());
    }
    let mut response = respond::value(201, &value);
    respond::warn(&mut response, &decoded.warnings);
    Ok(response)
}

/// An identity as `authentication.k8s.io` shows it.
fn user_info(identity: &Identity) -> Value {
    let mut info = json!({"username": identity.user, "groups": identity.groups});
    if !identity.uid.is_empty() {
        info["uid"] = identity.uid.as_str().into();
    }
    if !identity.extra.is_empty() {
        let extra = identity.extra.iter();
        let extra: Map<String, Value> = extra.map(|(k, v)| (k.clone(), json!(v))).collect();
        info["extra"] = extra.into();
    }
    info
}

/// Whom a SubjectAccessReview asks about.
fn named(spec: &Value) -> Identity {
    let groups = items(spec, &["groups"]).iter();
    Identity {
        user: text(spec, &["user"]).to_owned(),
        groups: groups
            .filter_map(|g| g.as_str().map(str::to_owned))
            .collect(),
        uid: text(spec, &["uid"]).to_owned(),
        extra: Vec::new(),
    }
}

fn access(context: &Context, identity: &Identity, asked: &RequestInfo) -> Value {
    let authorizer = context.state.authorizer.read().clone();
    let allowed = identity.is_master() || authorizer.authorize(identity, asked) == Decision::Allow;
    let mut status = json!({"allowed": allowed});
    let reason = authorizer.reason(identity, asked);
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    status
}

/// Upstream's validation of access reviews (`pkg/apis/authorization/validation`).
fn check(context: &Context, review: &Value) -> Result<(), ApiError> {
    let kind = context.kind.kind;
    let spec = &review["spec"];
    let mut problems = Problems::default();
    let of = |name: &str| at(spec, &[name]).is_some();
    match (of("resourceAttributes"), of("nonResourceAttributes")) {
        (true, true) => problems.invalid(
            "spec.nonResourceAttributes",
            &spec["nonResourceAttributes"],
            "cannot be specified in combination with resourceAttributes",
        ),
        (false, false) => problems.invalid(
            "spec.resourceAttributes",
            &Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        _ => {}
    }
    if kind != "SelfSubjectAccessReview"
        && text(spec, &["user"]).is_empty()
        && items(spec, &["groups"]).is_empty()
    {
        let why = "at least one of user or group must be specified";
        problems.invalid("spec.user", &"".into(), why);
    }
    let mut metadata = review["metadata"].clone();
    if let Some(map) = metadata.as_object_mut() {
        map.remove("managedFields");
        map.remove("namespace");
        map.retain(|_, value| !value.is_null());
        if !map.is_empty() {
            let why = match kind {
                "LocalSubjectAccessReview" => "must be empty except for namespace",
                _ => "must be empty",
            };
            problems.invalid("metadata", &metadata, why);
        }
    }
    if kind == "LocalSubjectAccessReview" {
        let namespace = text(spec, &["resourceAttributes", "namespace"]);
        if of("resourceAttributes") && namespace != context.info.namespace {
            problems.invalid(
                "spec.resourceAttributes.namespace",
                &namespace.into(),
                "must match metadata.namespace",
            );
        }
        if of("nonResourceAttributes") {
            problems.invalid(
                "spec.nonResourceAttributes",
                &spec["nonResourceAttributes"],
                "disallowed on this kind of request",
            );
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(context.kind.group, kind, "", problems.0))
}

fn asked(spec: &Value) -> RequestInfo {
    if let Some(attributes) = spec.get("resourceAttributes") {
        let field = |key: &str| text(attributes, &[key]).to_owned();
        return RequestInfo {
            verb: field("verb"),
            path: String::new(),
            resource: Some(ResourceInfo {
                group: field("group"),
                version: field("version"),
                resource: field("resource"),
                namespace: field("namespace"),
                name: field("name"),
                subresource: field("subresource"),
                rest: String::new(),
            }),
        };
    }
    let attributes = &spec["nonResourceAttributes"];
    RequestInfo {
        verb: text(attributes, &["verb"]).to_owned(),
        path: text(attributes, &["path"]).to_owned(),
        resource: None,
    }
}

/// What the asking identity may do in a namespace.
fn rules(context: &Context, review: &Value) -> Result<Value, ApiError> {
    let namespace = text(review, &["spec", "namespace"]);
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let authorizer = context.state.authorizer.read().clone();
    let held = authorizer.held(&context.identity, namespace);
    let of = |urls: bool| -> Vec<Value> {
        let rules = held.rules.iter();
        let chosen = rules.filter(|rule| match urls {
            true => !rule.urls.is_empty(),
            false => !rule.resources.is_empty(),
        });
        chosen.map(crate::rbac::Rule::write).collect()
    };
    let mut status =
        json!({"resourceRules": of(false), "nonResourceRules": of(true), "incomplete": false});
    if !held.problems.is_empty() {
        status["evaluationError"] = aggregate(&held.problems).into();
        status["incomplete"] = true.into();
    }
    Ok(status)
}

/// Whom a token stands for, for one of the audiences that are asked for.
async fn who(context: &Context, review: &Value) -> Result<Value, ApiError> {
    let given = text(review, &["spec", "token"]);
    if given.is_empty() {
        return Err(ApiError::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let wanted = items(review, &["spec", "audiences"]).iter();
    let wanted: Vec<String> = wanted
        .filter_map(|a| a.as_str().map(str::to_owned))
        .collect();
    match token::identify(&context.state, given, &wanted).await {
        Some((identity, audiences)) => {
            let mut status = json!({"authenticated": true, "user": user_info(&identity)});
            status["audiences"] = match wanted.is_empty() {
                true => context.state.tokens.audiences().into(),
                false => audiences.into(),
            };
            Ok(status)
        }
        None => Ok(json!({"user": {}, "error": "invalid bearer token"})),
    }
}
