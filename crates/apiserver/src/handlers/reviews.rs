//! Resources that are answered and not kept: who am I, and may I.

use serde_json::{Value, json};

use super::respond::{self, Response};
use super::{Context, body};
use crate::auth::{Decision, Identity};
use crate::object::text;
use crate::path::{RequestInfo, ResourceInfo};
use crate::status::ApiError;

pub(super) fn answer(context: &Context, body: &[u8]) -> Result<Response, ApiError> {
    let decoded = body::decode(context, body, &context.kind.gvk())?;
    let mut value = decoded.value;
    let authorizer = context.state.authorizer.read().clone();
    match context.kind.kind {
        "SelfSubjectReview" => {
            value["status"] = json!({"userInfo": {"username": context.identity.user, "groups": groups(&context.identity)}});
        }
        "SelfSubjectRulesReview" => {
            let info = RequestInfo {
                verb: "list".into(),
                path: String::new(),
                resource: Some(ResourceInfo {
                    resource: "secrets".into(),
                    ..ResourceInfo::default()
                }),
            };
            let rules = match authorizer.authorize(&context.identity, &info) {
                Decision::Allow => {
                    json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}])
                }
                Decision::Deny => json!([]),
            };
            value["status"] = json!({"resourceRules": rules, "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["*"]}], "incomplete": false});
        }
        kind => {
            let identity = if kind == "SubjectAccessReview" {
                let groups = crate::object::items(&value, &["spec", "groups"]);
                Identity {
                    user: text(&value, &["spec", "user"]).to_owned(),
                    groups: groups
                        .iter()
                        .filter_map(|g| g.as_str().map(str::to_owned))
                        .collect(),
                }
            } else {
                context.identity.clone()
            };
            let allowed =
                authorizer.authorize(&identity, &asked(&value["spec"])) == Decision::Allow;
            value["status"] = json!({"allowed": allowed});
        }
    }
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    let mut response = respond::value(201, &value);
    respond::warn(&mut response, &decoded.warnings);
    Ok(response)
}

fn groups(identity: &Identity) -> Vec<String> {
    let mut groups = identity.groups.clone();
    if !groups.iter().any(|g| g == "system:authenticated") {
        groups.push("system:authenticated".into());
    }
    groups
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
