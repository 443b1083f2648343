//! How many pods a budget's controllers want: what percentages are of.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;

use crate::error::{is_not_found, message};
use crate::objects;
use crate::shared::Shared;

/// What the controllers of some pods want.
#[derive(Debug, Default)]
pub struct Scale {
    /// The sum of their scales.
    pub pods: i32,
    /// Some of the pods have no controller, and are not in the sum.
    pub unmanaged: bool,
}

/// The sum of the scales of the pods' controllers; a Deployment counts for its ReplicaSets. The error is a sentence.
pub async fn expected(shared: &Shared, pods: &[Arc<Pod>]) -> Result<Scale, String> {
    let mut scale = Scale::default();
    let mut looked_at: HashSet<&str> = HashSet::new();
    let mut by_uid: HashMap<String, i32> = HashMap::new();
    for pod in pods {
        let Some(owner) = objects::controller_of(&**pod) else {
            scale.unmanaged = true;
            continue;
        };
        if !looked_at.insert(&owner.uid) {
            continue;
        }
        let found = of_owner(shared, owner, objects::namespace(&**pod)).await?;
        let none = || format!("found no controllers for pod {:?}", objects::name(&**pod));
        let (uid, replicas) = found.ok_or_else(none)?;
        by_uid.insert(uid, replicas);
    }
    scale.pods = by_uid
        .values()
        .fold(0, |sum, more| sum.saturating_add(*more));
    Ok(scale)
}

async fn of_owner(
    shared: &Shared,
    owner: &OwnerReference,
    namespace: &str,
) -> Result<Option<(String, i32)>, String> {
    let group = owner
        .api_version
        .split_once('/')
        .map_or("", |(group, _)| group);
    match (group, owner.kind.as_str()) {
        ("apps", "ReplicaSet") => Ok(of_replica_set(shared, owner, namespace)),
        ("apps", "StatefulSet") => {
            let api: Api<StatefulSet> = Api::namespaced(shared.client.clone(), namespace);
            match api.get_scale(&owner.name).await {
                Ok(scale) => {
                    let replicas = scale.spec.and_then(|spec| spec.replicas).unwrap_or(0);
                    Ok(Some((owner.uid.clone(), replicas)))
                }
                Err(error) if is_not_found(&error) => Ok(None),
                Err(error) => Err(message(&error)),
            }
        }
        _ => {
            let plural = format!("{}s", owner.kind.to_lowercase());
            let resource = match group {
                "" => plural,
                _ => format!("{plural}.{group}"),
            };
            Err(format!(
                "{resource} does not implement the scale subresource"
            ))
        }
    }
}

fn of_replica_set(
    shared: &Shared,
    owner: &OwnerReference,
    namespace: &str,
) -> Option<(String, i32)> {
    let set = shared.replica_sets.get(Some(namespace), &owner.name)?;
    if objects::uid(&*set) != owner.uid {
        return None;
    }
    let own = Some((owner.uid.clone(), set.spec.replicas.unwrap_or(1)));
    let Some(above) = objects::controller_of(&*set).filter(|above| above.kind == "Deployment")
    else {
        return own;
    };
    let deployment = shared.deployments.get(Some(namespace), &above.name)?;
    if objects::uid(&*deployment) != above.uid {
        return None;
    }
    Some((above.uid.clone(), deployment.spec.replicas.unwrap_or(1)))
}
