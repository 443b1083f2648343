//! The `paths` of an OpenAPI document, from the registry's rows.
//!
//! kubectl looks for the PATCH operation with a `fieldValidation` parameter and its kind before it leaves validation
//! to the server; `kubectl explain` finds a resource's kind by its path.

use super::Gvk;
use serde_json::{Map, Value, json};

/// One served URL path and the operations on it, as the registry of kinds describes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PathSpec {
    /// Path below the server root, with parameters in braces: `/apis/apps/v1/namespaces/{namespace}/deployments/{name}`.
    pub path: String,
    /// Kind that the path's objects have.
    pub kind: String,
    /// Kind of the resource when the path is that of a subresource with a kind of its own.
    pub resource_kind: Option<String>,
    /// Group of that kind when it is not the document's own (`autoscaling` for `deployments/scale`).
    pub kind_group: Option<String>,
    /// Version of that kind when it is not the document's own.
    pub kind_version: Option<String>,
    /// Upstream's verbs served here: get, list, watch, create, update, patch, delete, deletecollection, connect.
    pub verbs: Vec<String>,
    /// Whether the path goes below a namespace.
    pub namespaced: bool,
}

/// The object under `paths`. `reference` gives the `$ref` of a kind's schema; kinds that are our own are not merged
/// strategically, and kubectl reads here that they are not.
pub(super) fn render(
    group: &str,
    version: &str,
    specs: &[PathSpec],
    is_own: impl Fn(&Gvk) -> bool,
    mut reference: impl FnMut(&Gvk) -> Option<String>,
) -> Value {
    let mut paths = Map::new();
    for spec in specs {
        let gvk = Gvk::gvk(
            spec.kind_group.as_deref().unwrap_or(group),
            spec.kind_version.as_deref().unwrap_or(version),
            &spec.kind,
        );
        let own = reference(&gvk);
        let list = reference(&Gvk::gvk(
            &gvk.group,
            &gvk.version,
            &format!("{}List", gvk.kind),
        ));
        let status = reference(&Gvk::gvk("", "v1", "Status"));
        let options = reference(&Gvk::gvk("", "v1", "DeleteOptions"));
        let refs = References {
            own,
            list,
            status,
            options,
        };
        let item = paths
            .entry(spec.path.clone())
            .or_insert_with(|| json!({ "parameters": path_parameters(&spec.path) }));
        let Some(item) = item.as_object_mut() else {
            continue;
        };
        for verb in &spec.verbs {
            for (method, action) in methods(verb) {
                item.insert(
                    (*method).to_owned(),
                    operation(
                        group,
                        version,
                        spec,
                        &gvk,
                        method,
                        action,
                        &refs,
                        is_own(&gvk),
                    ),
                );
            }
        }
    }
    Value::Object(paths)
}

struct References {
    own: Option<String>,
    list: Option<String>,
    status: Option<String>,
    options: Option<String>,
}

/// HTTP methods and `x-kubernetes-action` of a verb.
fn methods(verb: &str) -> &'static [(&'static str, &'static str)] {
    match verb {
        "get" => &[("get", "get")],
        "list" => &[("get", "list")],
        "create" => &[("post", "post")],
        "update" => &[("put", "put")],
        "patch" => &[("patch", "patch")],
        "delete" => &[("delete", "delete")],
        "deletecollection" => &[("delete", "deletecollection")],
        "connect" => &[("get", "connect"), ("post", "connect")],
        _ => &[],
    }
}

#[allow(clippy::too_many_arguments)]
fn operation(
    group: &str,
    version: &str,
    spec: &PathSpec,
    gvk: &Gvk,
    method: &str,
    action: &str,
    refs: &References,
    own: bool,
) -> Value {
    let mut parameters = Vec::new();
    match action {
        "post" | "put" | "patch" => {
            parameters.extend([
                query(
                    "dryRun",
                    "string",
                    "When present, nothing is persisted. The one valid value is All.",
                ),
                query(
                    "fieldManager",
                    "string",
                    "Name of the actor that makes the change, at most 128 characters.",
                ),
                query(
                    "fieldValidation",
                    "string",
                    "What unknown and duplicate fields do: Ignore, Warn or Strict.",
                ),
            ]);
            if action == "patch" {
                parameters.push(query(
                    "force",
                    "boolean",
                    "Apply patches only: take fields over from other managers.",
                ));
            }
        }
        "delete" | "deletecollection" => parameters.extend([
            query(
                "dryRun",
                "string",
                "When present, nothing is persisted. The one valid value is All.",
            ),
            query(
                "gracePeriodSeconds",
                "integer",
                "Seconds before the object is deleted; zero means at once.",
            ),
            query(
                "propagationPolicy",
                "string",
                "What becomes of dependents: Orphan, Background or Foreground.",
            ),
        ]),
        _ => {}
    }
    if matches!(action, "list" | "deletecollection") {
        parameters.extend([
            query(
                "allowWatchBookmarks",
                "boolean",
                "Ask for bookmark events in a watch.",
            ),
            query(
                "continue",
                "string",
                "Where the previous page of the list ended.",
            ),
            query(
                "fieldSelector",
                "string",
                "Only objects whose fields match.",
            ),
            query(
                "labelSelector",
                "string",
                "Only objects whose labels match.",
            ),
            query("limit", "integer", "Most objects in one answer."),
            query("resourceVersion", "string", "How old the answer may be."),
            query(
                "resourceVersionMatch",
                "string",
                "How resourceVersion is applied.",
            ),
            query(
                "sendInitialEvents",
                "boolean",
                "Begin a watch with the objects there are.",
            ),
            query("timeoutSeconds", "integer", "When to end the call."),
            query("watch", "boolean", "Stream changes instead of a list."),
        ]);
    }
    let answer = match action {
        "list" => &refs.list,
        "delete" | "deletecollection" => &refs.status,
        "connect" => &None,
        _ => &refs.own,
    };
    let mut operation = json!({
        "tags": [tag(group, version)],
        "operationId": operation_id(group, version, spec, method, action),
        "responses": { "200": response(answer, "OK"), "401": { "description": "Unauthorized" } },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": { "group": gvk.group, "version": gvk.version, "kind": gvk.kind },
    });
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    match action {
        "post" => {
            operation["requestBody"] = body(&refs.own, &["application/json", "application/yaml"]);
            operation["responses"]["201"] = response(answer, "Created");
        }
        "put" => {
            operation["requestBody"] = body(&refs.own, &["application/json", "application/yaml"])
        }
        "patch" => operation["requestBody"] = patch_body(own),
        "delete" | "deletecollection" => {
            operation["requestBody"] = body(&refs.options, &["application/json"])
        }
        _ => {}
    }
    operation
}

fn query(name: &str, kind: &str, description: &str) -> Value {
    json!({ "name": name, "in": "query", "description": description, "schema": { "type": kind, "uniqueItems": true } })
}

fn path_parameters(path: &str) -> Vec<Value> {
    let names = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "uniqueItems": true } }))
        .collect()
}

fn response(reference: &Option<String>, description: &str) -> Value {
    match reference {
        Some(reference) => json!({
            "description": description,
            "content": { "application/json": { "schema": { "$ref": reference } } },
        }),
        None => json!({ "description": description }),
    }
}

fn body(reference: &Option<String>, types: &[&str]) -> Value {
    let schema = reference.as_ref().map_or(
        json!({}),
        |reference| json!({ "schema": { "$ref": reference } }),
    );
    let content: Map<String, Value> = types
        .iter()
        .map(|name| ((*name).to_owned(), schema.clone()))
        .collect();
    json!({ "content": content })
}

fn patch_body(own: bool) -> Value {
    let schema = json!({ "schema": { "type": "object" } });
    let mut body = json!({ "required": true, "content": {
        "application/apply-patch+yaml": schema,
        "application/json-patch+json": { "schema": { "type": "array", "items": { "type": "object" } } },
        "application/merge-patch+json": schema,
    } });
    // what is not built in has no strategy
    if !own {
        body["content"]["application/strategic-merge-patch+json"] = schema;
    }
    body
}

fn tag(group: &str, version: &str) -> String {
    format!("{}_{version}", identifier(group))
}

/// A group as operations name it: `rbacAuthorization` for `rbac.authorization.k8s.io`.
fn identifier(group: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    let mut words = group.trim_end_matches(".k8s.io").split(['.', '-']);
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |all, word| all + &capitalised(word))
}

/// Unique in a document, in upstream's manner: `readAppsV1NamespacedDeployment`.
fn operation_id(group: &str, version: &str, spec: &PathSpec, method: &str, action: &str) -> String {
    let verb = match action {
        "get" => "read".to_owned(),
        "post" => "create".to_owned(),
        "put" => "replace".to_owned(),
        "deletecollection" => "deleteCollection".to_owned(),
        "connect" => format!("connect{}", capitalised(method)),
        other => other.to_owned(),
    };
    let group = identifier(group);
    let (scope, suffix) = match (
        spec.namespaced,
        spec.path.contains("/namespaces/{namespace}/"),
    ) {
        (true, true) => ("Namespaced", ""),
        (true, false) => ("", "ForAllNamespaces"),
        (false, _) => ("", ""),
    };
    let subresource: String = match spec.path.split_once("/{name}/") {
        Some((_, subresource)) => subresource
            .split(['/', '{', '}'])
            .map(capitalised)
            .collect(),
        None => String::new(),
    };
    let kind = spec.resource_kind.as_ref().unwrap_or(&spec.kind);
    format!(
        "{verb}{}{}{scope}{kind}{subresource}{suffix}",
        capitalised(&group),
        capitalised(version),
    )
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}
