//! Deletes everything in a namespace, whatever kinds the server offers: its pods first, and the rest when they are gone. What
//! protects them (network policies), and what they use to end well (secrets, rights, services), stays for as long.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, ObjectList};
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::discovery::{ApiCapabilities, ApiResource, Scope, verbs};
use kube::{Api, Client, Discovery};

use crate::error::{is_not_found, status_code};

const PODS: &str = "pods";

type Meta = PartialObjectMeta<DynamicObject>;

/// What is still there after the deletes were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    /// Number of objects by `RESOURCE.GROUP`.
    pub objects: BTreeMap<String, usize>,
    /// Number of objects by finalizer.
    pub finalizers: BTreeMap<String, usize>,
    /// What could not be listed or deleted, and why. The rest was, all the same.
    pub failures: Vec<String>,
    /// Why it is not known what kinds there are.
    pub undiscovered: Option<String>,
}

impl Remaining {
    /// Nothing is left, and everything could be looked at.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.failures.is_empty() && self.undiscovered.is_none()
    }

    /// Whether pods are all that is known to be left.
    pub fn only_pods(&self) -> bool {
        self.objects.keys().all(|kind| kind == PODS)
            && self.failures.is_empty()
            && self.undiscovered.is_none()
    }
}

/// Sends deletes for all contents and counts what remains. While there are pods, only they are deleted.
pub async fn delete_all(client: &Client, namespace: &str) -> Remaining {
    let mut remaining = Remaining::default();
    let pods = ApiResource::erase::<Pod>(&());
    delete_kind(client, namespace, &pods, &mut remaining).await;
    if !remaining.is_empty() {
        return remaining;
    }
    match deletable(client).await {
        Ok(resources) => {
            for resource in resources {
                delete_kind(client, namespace, &resource, &mut remaining).await;
            }
        }
        Err(error) => remaining.undiscovered = Some(error.to_string()),
    }
    remaining
}

/// Deletes what there is of one kind. What cannot be deleted is noted, and the rest goes on.
async fn delete_kind(
    client: &Client,
    namespace: &str,
    resource: &ApiResource,
    remaining: &mut Remaining,
) {
    let name = match &*resource.group {
        "" => resource.plural.clone(),
        group => format!("{}.{group}", resource.plural),
    };
    match delete_each(client, namespace, resource, &name, &mut remaining.failures).await {
        Ok(left) if left.is_empty() => {}
        Ok(left) => {
            remaining.objects.insert(name, left.len());
            let finalizers = left.iter().flat_map(|item| &item.metadata.finalizers);
            for finalizer in finalizers.flatten() {
                *remaining.finalizers.entry(finalizer.clone()).or_insert(0) += 1;
            }
        }
        // It is not served any more, or cannot be listed by anybody.
        Err(error) if matches!(status_code(&error), Some(404 | 405)) => {}
        Err(error) => remaining.failures.push(format!("{name}: {error}")),
    }
}

/// What is left of a kind after each was deleted.
async fn delete_each(
    client: &Client,
    namespace: &str,
    resource: &ApiResource,
    kind: &str,
    failures: &mut Vec<String>,
) -> Result<Vec<Meta>, kube::Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
    let list: ObjectList<Meta> = api.list_metadata(&ListParams::default()).await?;
    if list.items.is_empty() {
        return Ok(list.items);
    }
    let standing = |item: &&Meta| item.metadata.deletion_timestamp.is_none();
    for item in list.items.iter().filter(standing) {
        let name = item.metadata.name.as_deref().unwrap_or_default();
        match api.delete(name, &DeleteParams::background()).await {
            Ok(_) => {}
            Err(error) if is_not_found(&error) => {}
            Err(error) => failures.push(format!("{kind} {name}: {error}")),
        }
    }
    Ok(api.list_metadata(&ListParams::default()).await?.items)
}

async fn deletable(client: &Client) -> Result<Vec<ApiResource>, kube::Error> {
    let discovery = Discovery::new(client.clone()).run().await?;
    let namespaced = |capabilities: &ApiCapabilities| {
        capabilities.scope == Scope::Namespaced
            && capabilities.supports_operation(verbs::DELETE)
            && capabilities.supports_operation(verbs::LIST)
    };
    // Each kind once: not every kind of a group is served in the version that the group prefers.
    let mut resources: Vec<ApiResource> = discovery
        .groups()
        .flat_map(|group| group.resources_by_stability())
        .filter(|(_, capabilities)| namespaced(capabilities))
        .map(|(resource, _)| resource)
        .collect();
    // The same events are offered by two groups.
    resources.retain(|resource| resource.group != "events.k8s.io");
    // Controllers' objects go before what the controllers would only make again.
    resources.sort_by_key(|resource| (resource.group.is_empty(), resource.plural.clone()));
    Ok(resources)
}
