//! What upstream's built-in admission plugins add to new objects from other objects: the priority of a pod (Priority; see
//! `priority`), its account with its token (ServiceAccount), its amounts (LimitRanger; see `limits`), its runtime class
//! (`runtime_class`), the class of a claim (DefaultStorageClass) and of an Ingress (DefaultIngressClass); whether a claim may
//! grow (PersistentVolumeClaimResize); whether a pod is as safe as its namespace wants it (PodSecurity; see `pod_security`); and
//! whether there is room for an object (ResourceQuota; see `quotas`).

use serde_json::{Value, json};

use super::{
    Context, escalate, limits, list, metadata, pod_security, priority, quotas, runtime_class,
    signing, token,
};
use crate::object::{self, at, items, text};
use crate::quantity::Quantity;
use crate::registry::columns::{class_of, is_default_class};
use crate::registry::{self, Kind};
use crate::status::ApiError;

/// Where containers look for their account.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const TOKEN_SECONDS: i64 = 3607;
/// The class of a claim, before there was a field for it.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// The class of an Ingress, before there was a field for it.
const OLD_INGRESS_CLASS: &str = "kubernetes.io/ingress.class";
const DEFAULT_INGRESS_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";

/// Tells whoever makes an object that it will not do here what it would do elsewhere.
pub(super) fn inert(kind: &Kind) -> Option<String> {
    let why = match (kind.group, kind.plural) {
        ("admissionregistration.k8s.io", _) => "no webhook or policy is asked",
        ("flowcontrol.apiserver.k8s.io", _) => "requests are not queued by it",
        _ => return None,
    };
    Some(format!("{} is kept and checked only: {why}", kind.kind))
}

/// Completes a new object.
pub(super) async fn create(context: &Context, value: &mut Value) -> Result<(), ApiError> {
    match (context.kind.group, context.kind.plural) {
        ("", "pods") => {
            priority::of_pod(context, value).await?;
            runtime_class::of_pod(context, value).await?;
            limits::complete(context, value).await?;
            service_account(context, value).await
        }
        ("scheduling.k8s.io", "priorityclasses") => priority::only_default(context, value).await,
        ("", "persistentvolumeclaims") => default_class(context, value).await,
        ("networking.k8s.io", "ingresses") => default_ingress_class(context, value).await,
        ("certificates.k8s.io", _) => signing::create(context, value),
        ("apiregistration.k8s.io", _) => {
            crate::apiservices::settle(&context.state, value);
            Ok(())
        }
        _ => escalate::check(context, value, None),
    }
}

/// Whether a valid object fits into the namespace's limits and quotas, and (a new one) meets what the namespace asks of pods;
/// it is charged to the quotas.
pub(super) async fn allow(
    context: &Context,
    new: &Value,
    old: Option<&Value>,
    dry_run: bool,
) -> Result<quotas::Charged, ApiError> {
    if context.kind.namespaced {
        limits::check(context, new, old).await?;
    }
    // of an update it was asked before: one that changes nothing is warned of, too
    if old.is_none() {
        pod_security::admit(context, new, None).await?;
    }
    if !context.kind.namespaced {
        return Ok(quotas::Charged::default());
    }
    quotas::charge(context, new, old, dry_run).await
}

async fn service_account(context: &Context, pod: &mut Value) -> Result<(), ApiError> {
    let name = text(pod, &["spec", "serviceAccountName"]).to_owned();
    let namespace = &context.info.namespace;
    let account = token::stored(&context.state, "serviceaccounts", namespace, &name)
        .await
        .map_err(|error| list::store_error(context, error))?;
    // every namespace gets the account `default`, a moment after it was made: the node waits for that one
    if account.is_none() && name != "default" {
        let why = format!(
            "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
        );
        let of_pod = text(pod, &["metadata", "name"]).to_owned();
        return Err(ApiError::forbidden("", "pods", &of_pod, &why));
    }
    let account = account.unwrap_or_default();
    let automount = pod["spec"]["automountServiceAccountToken"]
        .as_bool()
        .or(account["automountServiceAccountToken"].as_bool());
    if automount != Some(false) {
        mount_token(&mut pod["spec"], &metadata::generated("kube-api-access-"));
    }
    let secrets = items(&account, &["imagePullSecrets"]);
    if items(pod, &["spec", "imagePullSecrets"]).is_empty() && !secrets.is_empty() {
        pod["spec"]["imagePullSecrets"] = secrets.to_vec().into();
    }
    Ok(())
}

/// Gives every container that has nothing at that place the token, the cluster's certificate and the namespace.
fn mount_token(spec: &mut Value, volume: &str) {
    let mut used = false;
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let taken = items(container, &["volumeMounts"])
                .iter()
                .any(|mount| mount["mountPath"] == MOUNT_PATH);
            if taken {
                continue;
            }
            used = true;
            let mount = json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH});
            match container["volumeMounts"].as_array_mut() {
                Some(mounts) => mounts.push(mount),
                None => container["volumeMounts"] = json!([mount]),
            }
        }
    }
    for list in ["initContainers", "containers"] {
        if spec[list].is_null()
            && let Some(spec) = spec.as_object_mut()
        {
            spec.remove(list);
        }
    }
    if !used {
        return;
    }
    let volume = json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}});
    match spec["volumes"].as_array_mut() {
        Some(volumes) => volumes.push(volume),
        None => spec["volumes"] = json!([volume]),
    }
}

/// A claim that names no class gets the default one.
async fn default_class(context: &Context, claim: &mut Value) -> Result<(), ApiError> {
    let named = at(claim, &["spec", "storageClassName"]).is_some()
        || claim["metadata"]["annotations"][OLD_CLASS].is_string();
    if named {
        return Ok(());
    }
    let default = newest_default(classes(context).await?, is_default_class);
    if let Some(class) = default {
        claim["spec"]["storageClassName"] = class["metadata"]["name"].clone();
    }
    Ok(())
}

/// An Ingress that names no class, in either way, gets the default one.
async fn default_ingress_class(context: &Context, ingress: &mut Value) -> Result<(), ApiError> {
    let named = at(ingress, &["spec", "ingressClassName"]).is_some()
        || ingress["metadata"]["annotations"][OLD_INGRESS_CLASS].is_string();
    if named {
        return Ok(());
    }
    let all = all_of(context, "networking.k8s.io", "ingressclasses").await?;
    let marked = |class: &Value| class["metadata"]["annotations"][DEFAULT_INGRESS_CLASS] == "true";
    if let Some(class) = newest_default(all, marked) {
        ingress["spec"]["ingressClassName"] = class["metadata"]["name"].clone();
    }
    Ok(())
}

/// Of the classes that are marked as default the newest, of equally new ones the first by name.
fn newest_default(classes: Vec<Value>, marked: impl Fn(&Value) -> bool) -> Option<Value> {
    classes.into_iter().filter(marked).min_by_key(|class| {
        let metadata = &class["metadata"];
        (
            std::cmp::Reverse(text(metadata, &["creationTimestamp"]).to_owned()),
            text(metadata, &["name"]).to_owned(),
        )
    })
}

async fn classes(context: &Context) -> Result<Vec<Value>, ApiError> {
    all_of(context, "storage.k8s.io", "storageclasses").await
}

async fn all_of(context: &Context, group: &str, plural: &str) -> Result<Vec<Value>, ApiError> {
    let Some(kind) = registry::find(group, "v1", plural) else {
        return Ok(Vec::new());
    };
    let page = context
        .state
        .store
        .range(&kind.prefix(""), None, 0, None)
        .await
        .map_err(|error| list::store_error(context, error))?;
    Ok(page
        .items
        .iter()
        .map(|kv| object::parse(&kv.value, kv.mod_revision))
        .collect())
}

/// The classes that let their claims grow; read before an update of a claim is tried.
pub(super) async fn growing_classes(context: &Context) -> Result<Vec<String>, ApiError> {
    if !context.kind.is("", "persistentvolumeclaims") {
        return Ok(Vec::new());
    }
    Ok(classes(context)
        .await?
        .iter()
        .filter(|class| class["allowVolumeExpansion"] == true)
        .map(|class| text(class, &["metadata", "name"]).to_owned())
        .collect())
}

/// A claim grows only if its class allows it; who approves or signs a request must be allowed to.
pub(super) fn update(
    context: &Context,
    new: &mut Value,
    old: &Value,
    growing: &[String],
) -> Result<(), ApiError> {
    escalate::check(context, new, Some(old))?;
    signing::update(context, new, old)?;
    if context.kind.is("apiregistration.k8s.io", "apiservices") && new["spec"] != old["spec"] {
        crate::apiservices::settle(&context.state, new);
    }
    if !context.kind.is("", "persistentvolumeclaims") || !context.info.subresource.is_empty() {
        return Ok(());
    }
    let size = |claim: &Value| {
        text(claim, &["spec", "resources", "requests", "storage"])
            .parse::<Quantity>()
            .ok()
    };
    if size(new) <= size(old) || growing.iter().any(|class| class_of(new) == class.as_str()) {
        return Ok(());
    }
    let name = text(new, &["metadata", "name"]);
    let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    Err(ApiError::forbidden("", "persistentvolumeclaims", name, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_get_the_token_once() {
        let mut spec = json!({"containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "x", "mountPath": MOUNT_PATH}]}]});
        mount_token(&mut spec, "t");
        assert_eq!(spec["containers"][0]["volumeMounts"][0]["name"], "t");
        assert_eq!(
            spec["containers"][1]["volumeMounts"]
                .as_array()
                .map(Vec::len),
            Some(1)
        );
        assert_eq!(spec["volumes"][0]["name"], "t");
        assert!(spec.get("initContainers").is_none());
        let mut own = json!({"containers": [{"name": "b", "volumeMounts": [{"name": "x", "mountPath": MOUNT_PATH}]}]});
        let before = own.clone();
        mount_token(&mut own, "t");
        assert_eq!(own, before, "nobody needs it");
    }
}
