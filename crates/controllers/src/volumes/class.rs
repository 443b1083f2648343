//! The class that claims get which name none: directories of the node that the first pod runs on.

use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;

use crate::error;

const NAME: &str = "local";
/// The node role answers to this name.
const PROVISIONER: &str = "plimsoll.dev/local";

/// Makes the class if there is none of that name. A user's changes stay; one that was deleted comes back with the next start.
pub async fn ensure(client: &Client) {
    let class: StorageClass = match serde_json::from_value(json!({
        "metadata": {"name": NAME, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": PROVISIONER, "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": true,
    })) {
        Ok(class) => class,
        Err(error) => {
            return tracing::warn!(%error, "the default StorageClass could not be described");
        }
    };
    let api: Api<StorageClass> = Api::all(client.clone());
    match api.create(&PostParams::default(), &class).await {
        Err(error) if error::reason(&error) != "AlreadyExists" => {
            tracing::warn!(%error, "the default StorageClass could not be made");
        }
        _ => {}
    }
}
