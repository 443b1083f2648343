//! The class that claims get which name none: directories of the node that the first pod runs on.

use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::error;

const NAME: &str = "local";
/// The node role answers to this name.
const PROVISIONER: &str = "plimsoll.dev/local";

const IS_DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";

/// Makes the class if there is none of that name. A user's changes stay; one that was deleted comes back with the next start, but
/// takes the place of no other default.
pub async fn ensure(client: &Client) {
    let api: Api<StorageClass> = Api::all(client.clone());
    let others = match api.list(&ListParams::default()).await {
        Ok(others) => others.items,
        Err(error) => return tracing::warn!(%error, "the StorageClasses could not be read"),
    };
    if others
        .iter()
        .any(|class| class.metadata.name.as_deref() == Some(NAME))
    {
        return;
    }
    let is_default = !others.iter().any(|class| {
        let annotations = class.metadata.annotations.as_ref();
        annotations
            .and_then(|all| all.get(IS_DEFAULT))
            .is_some_and(|value| value == "true")
    });
    let class: StorageClass = match serde_json::from_value(json!({
        "metadata": {"name": NAME, "annotations": {IS_DEFAULT: is_default.to_string()}},
        "provisioner": PROVISIONER, "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": true,
    })) {
        Ok(class) => class,
        Err(error) => {
            return tracing::warn!(%error, "the default StorageClass could not be described");
        }
    };
    match api.create(&PostParams::default(), &class).await {
        Err(error) if error::reason(&error) != "AlreadyExists" => {
            tracing::warn!(%error, "the default StorageClass could not be made");
        }
        _ => {}
    }
}
