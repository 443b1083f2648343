//! The class of claims that name none.

use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use crate::cluster::Cluster;

const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";

async fn is_default(cluster: &Cluster, name: &str) -> Option<bool> {
    let classes: Api<StorageClass> = Api::all(cluster.client.clone());
    let class = classes.get_opt(name).await.unwrap()?;
    let annotations = class.metadata.annotations.unwrap_or_default();
    Some(
        annotations
            .get(DEFAULT)
            .is_some_and(|value| value == "true"),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_class_of_the_node_takes_no_others_place() {
    let mut cluster = Cluster::start(None).await;
    cluster
        .until("the first default", || async {
            is_default(&cluster, "local").await == Some(true)
        })
        .await;
    let classes: Api<StorageClass> = Api::all(cluster.client.clone());
    let own: StorageClass = serde_json::from_value(json!({
        "metadata": {"name": "nfs", "annotations": {DEFAULT: "true"}}, "provisioner": "example.com/nfs",
    }))
    .unwrap();
    classes.create(&Default::default(), &own).await.unwrap();
    classes
        .delete("local", &DeleteParams::default())
        .await
        .unwrap();
    cluster.restart_controllers().await;
    cluster
        .until("the class again", || async {
            is_default(&cluster, "local").await == Some(false)
        })
        .await;
    assert_eq!(is_default(&cluster, "nfs").await, Some(true));
}
