//! Which objects are an owner's: adopts matching ones that nobody manages, releases those that no longer match.
//!
//! Follows `pkg/controller/controller_ref_manager.go`.

use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde_json::json;

use crate::error::{Error, is_not_found, status_code};
use crate::informer::{Cached, Informer};
use crate::objects;
use crate::shared::{orphans_in, owned_by};

/// The objects that `owner` manages after adoption and release. `matches` says which are meant, `worth_adopting` which of
/// those that nobody manages. The cache must be indexed by owner.
pub async fn claim<O, C>(
    client: &Client,
    owner: &O,
    cache: &Informer<C>,
    matches: impl Fn(&C) -> bool,
    worth_adopting: impl Fn(&C) -> bool,
) -> Result<Vec<Arc<C>>, Error>
where
    O: Cached + Resource<Scope = NamespaceResourceScope>,
    C: Cached + Resource<Scope = NamespaceResourceScope>,
{
    let (namespace, uid) = (objects::namespace(owner), objects::uid(owner));
    let terminating = objects::is_terminating(owner);
    let mut claimed = Vec::new();
    for object in cache.by_index(&owned_by(uid)) {
        if objects::namespace(&*object) != namespace {
            continue;
        }
        if matches(&object) {
            claimed.push(object);
        } else if !terminating && !objects::is_terminating(&*object) {
            let mut owners = owners_of(&*object);
            owners.retain(|known| known.uid != uid);
            set_owners(client, &*object, owners, "release").await?;
        }
    }
    if terminating {
        return Ok(claimed);
    }
    for object in cache.by_index(&orphans_in(namespace)) {
        if objects::is_terminating(&*object) || !matches(&object) || !worth_adopting(&object) {
            continue;
        }
        still_there(client, owner).await?;
        let mut owners = owners_of(&*object);
        owners.push(objects::controller_reference(owner));
        let adopted = set_owners(client, &*object, owners, "adopt").await?;
        claimed.extend(adopted.map(Arc::new));
    }
    Ok(claimed)
}

/// The cache may not know yet that the owner was deleted or replaced; adopting for it would lose the object.
async fn still_there<O>(client: &Client, owner: &O) -> Result<(), Error>
where
    O: Cached + Resource<Scope = NamespaceResourceScope>,
{
    let api: Api<O> = Api::namespaced(client.clone(), objects::namespace(owner));
    let live = api
        .get(objects::name(owner))
        .await
        .map_err(Error::api("read", described(owner)))?;
    if objects::uid(&live) != objects::uid(owner) || objects::is_terminating(&live) {
        return Err(Error::Stale {
            object: objects::key(owner),
        });
    }
    Ok(())
}

/// The object as it is then; nothing when it is gone, or was replaced under the same name.
async fn set_owners<C>(
    client: &Client,
    object: &C,
    owners: Vec<OwnerReference>,
    action: &'static str,
) -> Result<Option<C>, Error>
where
    C: Cached + Resource<Scope = NamespaceResourceScope>,
{
    let change = json!({"metadata": {
        "uid": object.meta().uid,
        "resourceVersion": object.meta().resource_version,
        "ownerReferences": owners,
    }});
    let api: Api<C> = Api::namespaced(client.clone(), objects::namespace(object));
    match api
        .patch(
            objects::name(object),
            &PatchParams::default(),
            &Patch::Merge(&change),
        )
        .await
    {
        Ok(written) => Ok(Some(written)),
        Err(error) if is_not_found(&error) || status_code(&error) == Some(422) => Ok(None),
        Err(error) => Err(Error::api(action, described(object))(error)),
    }
}

/// `Pod shop/web`.
fn described<K: Resource<DynamicType = ()>>(object: &K) -> String {
    format!("{} {}", K::kind(&()), objects::key(object))
}

fn owners_of<K: Resource>(object: &K) -> Vec<OwnerReference> {
    object.meta().owner_references.clone().unwrap_or_default()
}
