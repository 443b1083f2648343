//! Deletes everything in a namespace, whatever kinds the server offers.

use std::collections::BTreeMap;

use kube::api::{DeleteParams, ListParams};
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::discovery::{ApiCapabilities, ApiResource, Scope, verbs};
use kube::{Api, Client, Discovery};

use crate::error::{Error, is_not_found, status_code};

/// What is still there after the deletes were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    /// Number of objects by `RESOURCE.GROUP`.
    pub objects: BTreeMap<String, usize>,
    /// Number of objects by finalizer.
    pub finalizers: BTreeMap<String, usize>,
}

impl Remaining {
    /// Nothing is left.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}

/// Sends deletes for all contents and counts what remains.
pub async fn delete_all(client: &Client, namespace: &str) -> Result<Remaining, Error> {
    let mut remaining = Remaining::default();
    for resource in deletable(client).await? {
        // Their controllers delete what they own, but pods last: others may still make them.
        let api: Api<PartialObjectMeta<DynamicObject>> =
            Api::namespaced_with(client.clone(), namespace, &resource);
        let object = format!("all {} in {namespace}", resource.plural);
        let list = match api.list(&ListParams::default()).await {
            Ok(list) => list,
            Err(error) if matches!(status_code(&error), Some(404 | 405)) => continue,
            Err(error) => return Err(Error::api("list", object)(error)),
        };
        for item in list
            .items
            .iter()
            .filter(|item| item.metadata.deletion_timestamp.is_none())
        {
            let name = item.metadata.name.as_deref().unwrap_or_default();
            match api.delete(name, &DeleteParams::background()).await {
                Ok(_) => {}
                Err(error) if is_not_found(&error) => {}
                Err(error) => {
                    return Err(Error::api("delete", format!("{namespace}/{name}"))(error));
                }
            }
        }
        if list.items.is_empty() {
            continue;
        }
        let left = api
            .list(&ListParams::default())
            .await
            .map_err(Error::api("list", object))?;
        if left.items.is_empty() {
            continue;
        }
        let group = if resource.group.is_empty() {
            resource.plural.clone()
        } else {
            format!("{}.{}", resource.plural, resource.group)
        };
        remaining.objects.insert(group, left.items.len());
        for finalizer in left
            .items
            .iter()
            .flat_map(|item| item.metadata.finalizers.iter().flatten())
        {
            *remaining.finalizers.entry(finalizer.clone()).or_insert(0) += 1;
        }
    }
    Ok(remaining)
}

async fn deletable(client: &Client) -> Result<Vec<ApiResource>, Error> {
    let discovery = Discovery::new(client.clone())
        .run()
        .await
        .map_err(Error::api("discover", "the kinds of the API"))?;
    let namespaced = |capabilities: &ApiCapabilities| {
        capabilities.scope == Scope::Namespaced
            && capabilities.supports_operation(verbs::DELETE)
            && capabilities.supports_operation(verbs::LIST)
    };
    let mut resources: Vec<ApiResource> = discovery
        .groups()
        .flat_map(|group| group.recommended_resources())
        .filter(|(_, capabilities)| namespaced(capabilities))
        .map(|(resource, _)| resource)
        .collect();
    // The same events are offered by two groups.
    resources.retain(|resource| resource.group != "events.k8s.io");
    // Controllers' objects go before what the controllers would only make again.
    resources.sort_by_key(|resource| {
        (
            resource.group.is_empty(),
            resource.plural == "pods",
            resource.plural.clone(),
        )
    });
    Ok(resources)
}
