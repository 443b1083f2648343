//! POST of `pods/binding`: the scheduler's decision becomes the pod's node.

use serde_json::{Value, json};

use super::body::{self, Decoded};
use super::respond::{self, Response};
use super::write::write;
use super::{Context, list};
use crate::object::{self, text};
use crate::registry::{self, Problems};
use crate::status::ApiError;

/// Labels of a node that its pods get.
const TOPOLOGY: [&str; 2] = [
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
];

/// POST of a Binding by itself, as it was before there was the subresource: the pod is the one of its name.
pub(super) async fn bind_named(context: &Context, body: &[u8]) -> Result<Response, ApiError> {
    let decoded = body::decode(context, body, &context.kind.gvk())?;
    let name = text(&decoded.value, &["metadata", "name"]);
    let Some(pods) = registry::find("", "v1", "pods").filter(|_| !name.is_empty()) else {
        let mut problems = Problems::default();
        problems.required("metadata.name", "name or generateName is required");
        return Err(ApiError::invalid("", "Binding", name, problems.0));
    };
    let info = crate::path::ResourceInfo {
        resource: pods.plural.into(),
        name: name.into(),
        subresource: "binding".into(),
        ..context.info.clone()
    };
    let of_pod = context.of(registry::KindRef::BuiltIn(pods), info);
    bind(&of_pod, body).await
}

/// Binds a pod that has no node yet; a second binding is 409.
pub(super) async fn bind(context: &Context, body: &[u8]) -> Result<Response, ApiError> {
    let gvk = crate::schema::Gvk::gvk("", "v1", "Binding");
    let Decoded {
        value: binding,
        warnings,
    } = body::decode(context, body, &gvk)?;
    let dry_run = context.dry_run()?;
    check_name(context, &binding)?;
    let node = text(&binding, &["target", "name"]).to_owned();
    let kind = text(&binding, &["target", "kind"]);
    if node.is_empty() || !matches!(kind, "" | "Node" | "Minion") {
        let mut problems = Problems::default();
        if node.is_empty() {
            problems.required("target.name", "");
        } else {
            problems.not_supported("target.kind", &kind.into(), &["Node", "<empty>"]);
        }
        return Err(ApiError::invalid(
            "",
            "Binding",
            text(&binding, &["metadata", "name"]),
            problems.0,
        ));
    }
    let name = &context.info.name;
    let conflict = |why: String| ApiError::conflict("", "pods/binding", name, &why);
    let key = context.kind.key(&context.info.namespace, name);
    // One who writes to the pod at the same time is not in the way: in the end the pod is bound, or cannot be.
    loop {
        let (found, _) = context
            .state
            .store
            .get(&key)
            .await
            .map_err(|e| list::store_error(context, e))?;
        let current = found.ok_or_else(|| context.not_found(name))?;
        let mut pod = object::parse(&current.value, current.mod_revision);
        let uid = text(&binding, &["metadata", "uid"]);
        let actual = text(&pod, &["metadata", "uid"]);
        if !uid.is_empty() && uid != actual {
            return Err(conflict(format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {actual}"
            )));
        }
        let version = text(&binding, &["metadata", "resourceVersion"]);
        let actual = text(&pod, &["metadata", "resourceVersion"]);
        if !version.is_empty() && version != actual {
            return Err(conflict(format!(
                "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {actual}"
            )));
        }
        if !text(&pod, &["metadata", "deletionTimestamp"]).is_empty() {
            return Err(conflict(format!(
                "pod {name} is being deleted, cannot be assigned to a host"
            )));
        }
        let bound = text(&pod, &["spec", "nodeName"]);
        if !bound.is_empty() {
            return Err(conflict(format!(
                "pod {name} is already assigned to node {bound:?}"
            )));
        }
        if !object::items(&pod, &["spec", "schedulingGates"]).is_empty() {
            return Err(conflict(format!(
                "pod {name} has non-empty .spec.schedulingGates"
            )));
        }
        pod["spec"]["nodeName"] = node.as_str().into();
        if let Some(annotations) = binding["metadata"]["annotations"].as_object() {
            for (key, value) in annotations {
                pod["metadata"]["annotations"][key] = value.clone();
            }
        }
        if let Some(labels) = binding["metadata"]["labels"].as_object() {
            for (key, value) in labels {
                // what the pod says of itself stays
                if pod["metadata"]["labels"][key].is_null() {
                    pod["metadata"]["labels"][key] = value.clone();
                }
            }
        }
        topology(context, &node, &mut pod).await?;
        let transition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null,
            "lastTransitionTime": crate::time::now()});
        let mut conditions = object::items(&pod, &["status", "conditions"]).to_vec();
        conditions.retain(|c| c["type"] != "PodScheduled");
        conditions.push(transition);
        pod["status"]["conditions"] = conditions.into();
        if let Some(status) = pod["status"].as_object_mut() {
            status.remove("nominatedNodeName");
        }
        if dry_run {
            break;
        }
        match write(context, &current, &pod).await {
            Ok(_) => break,
            Err(store::Error::Conflict { .. }) => {}
            Err(other) => return Err(list::store_error(context, other)),
        }
    }
    let mut response = respond::value(
        201,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    );
    respond::warn(&mut response, &warnings);
    Ok(response)
}

/// Where in the world the node is, the pod is, too (upstream's admission plugin PodTopologyLabels); what the pod says of
/// itself stays.
async fn topology(context: &Context, node: &str, pod: &mut Value) -> Result<(), ApiError> {
    let found = super::token::stored(&context.state, "nodes", "", node).await;
    let found = found.map_err(|error| list::store_error(context, error))?;
    for key in TOPOLOGY {
        let said = found.as_ref().map(|node| &node["metadata"]["labels"][key]);
        if let Some(value) = said.filter(|value| value.is_string())
            && pod["metadata"]["labels"][key].is_null()
        {
            pod["metadata"]["labels"][key] = value.clone();
        }
    }
    Ok(())
}

/// The name in the body, where there is one, is that of the address.
fn check_name(context: &Context, binding: &Value) -> Result<(), ApiError> {
    let (asked, named) = (&context.info.name, text(binding, &["metadata", "name"]));
    if !named.is_empty() && named != asked {
        return Err(ApiError::bad_request(format!(
            "name in URL does not match name in Binding object: {named}"
        )));
    }
    Ok(())
}
