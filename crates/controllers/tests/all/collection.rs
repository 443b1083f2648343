//! Deletion in its three ways, namespaces, endpoints and the scheduler's word, against the real API server.

use crate::cluster::{Cluster, deployment};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, PostParams, PropagationPolicy};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};

async fn running(cluster: &Cluster, count: usize) {
    cluster
        .until("the pods", || async {
            let pods: Vec<Pod> = cluster.list().await;
            let running = |pod: &&Pod| {
                pod.status
                    .as_ref()
                    .and_then(|status| status.phase.as_deref())
                    == Some("Running")
            };
            pods.len() == count && pods.iter().filter(running).count() == count
        })
        .await;
}

async fn delete<K>(cluster: &Cluster, name: &str, policy: PropagationPolicy)
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let parameters = DeleteParams {
        propagation_policy: Some(policy),
        ..Default::default()
    };
    cluster.api::<K>().delete(name, &parameters).await.unwrap();
}

/// Makes the namespace `shop`.
async fn with_shop(cluster: &Cluster) -> Api<Namespace> {
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let shop: Namespace = serde_json::from_value(json!({"metadata": {"name": "shop"}})).unwrap();
    namespaces
        .create(&PostParams::default(), &shop)
        .await
        .unwrap();
    namespaces
}

async fn shop_ends(cluster: &Cluster, namespaces: &Api<Namespace>) {
    cluster
        .until("the end of the namespace", || async {
            namespaces.get_opt("shop").await.unwrap().is_none()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn background_and_foreground_take_everything_along() {
    let cluster = Cluster::start(Some(64)).await;
    for policy in [PropagationPolicy::Background, PropagationPolicy::Foreground] {
        let _: Deployment = cluster.create(deployment("web", 3, "v1")).await;
        running(&cluster, 3).await;
        delete::<Deployment>(&cluster, "web", policy).await;
        cluster
            .until("the end of all", || async {
                cluster.list::<Pod>().await.is_empty()
                    && cluster.list::<ReplicaSet>().await.is_empty()
                    && cluster.list::<Deployment>().await.is_empty()
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphans_stay_and_are_adopted_again() {
    let cluster = Cluster::start(Some(64)).await;
    let _: Deployment = cluster.create(deployment("web", 2, "v1")).await;
    running(&cluster, 2).await;
    let before: Vec<Pod> = cluster.list().await;
    delete::<Deployment>(&cluster, "web", PropagationPolicy::Orphan).await;
    cluster
        .until("the orphaned set", || async {
            cluster.list::<Deployment>().await.is_empty()
                && cluster.list::<ReplicaSet>().await.iter().all(|set| {
                    set.metadata
                        .owner_references
                        .as_ref()
                        .is_none_or(Vec::is_empty)
                })
        })
        .await;
    assert_eq!(cluster.list::<ReplicaSet>().await.len(), 1);
    let again: Deployment = cluster.create(deployment("web", 2, "v1")).await;
    cluster
        .until("the adoption", || async {
            let sets = cluster.list::<ReplicaSet>().await;
            sets.len() == 1
                && sets[0]
                    .metadata
                    .owner_references
                    .iter()
                    .flatten()
                    .any(|one| Some(&one.uid) == again.metadata.uid.as_ref())
        })
        .await;
    let mut names = [before, cluster.list::<Pod>().await].map(|pods| {
        pods.into_iter()
            .map(|pod| pod.metadata.name)
            .collect::<Vec<_>>()
    });
    names.iter_mut().for_each(|names| names.sort());
    assert_eq!(names[0], names[1], "the same pods");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_names_an_owner_that_never_was_goes() {
    let cluster = Cluster::start(None).await;
    let owned =
        |uid: &str| json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}]);
    let owner: ConfigMap = cluster.create(json!({"metadata": {"name": "owner"}})).await;
    let uid = owner.metadata.uid.unwrap();
    let _: ConfigMap = cluster
        .create(json!({"metadata": {"name": "kept", "ownerReferences": owned(&uid)}}))
        .await;
    let _: ConfigMap = cluster
        .create(json!({"metadata": {"name": "lost", "ownerReferences": owned("00000000-0000-0000-0000-000000000000")}}))
        .await;
    let exists = |name: &'static str| {
        let api: Api<ConfigMap> = cluster.api();
        async move { api.get_opt(name).await.unwrap().is_some() }
    };
    cluster
        .until("the collection", || async { !exists("lost").await })
        .await;
    assert!(exists("kept").await);
    cluster
        .api::<ConfigMap>()
        .delete("owner", &DeleteParams::default())
        .await
        .unwrap();
    cluster
        .until("the collection", || async { !exists("kept").await })
        .await;
}

/// Two versions, the second of which is the one that a list of kinds recommends.
fn shelf_definition() -> Value {
    let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {"type": "object"}}});
    json!({
        "metadata": {"name": "shelves.shop.io"},
        "spec": {
            "group": "shop.io", "scope": "Namespaced", "names": {"plural": "shelves", "kind": "Shelf"},
            "versions": [version("v1alpha1", false), version("v1", true)],
        },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_of_a_kind_that_is_new_take_along_what_they_own() {
    let cluster = Cluster::start(None).await;
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let definition = serde_json::from_value(shelf_definition()).unwrap();
    definitions
        .create(&PostParams::default(), &definition)
        .await
        .unwrap();
    // At once, before anybody can have looked at the list of kinds again; by either version.
    for version in ["v1", "v1alpha1"] {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("shop.io", version, "Shelf"));
        let resource = ApiResource {
            plural: "shelves".into(),
            ..resource
        };
        let shelves: Api<DynamicObject> =
            Api::namespaced_with(cluster.client.clone(), "default", &resource);
        let shelf = DynamicObject::new("shelf", &resource);
        cluster
            .until("the kind is served", || async {
                shelves.create(&PostParams::default(), &shelf).await.is_ok()
            })
            .await;
        let uid = shelves.get("shelf").await.unwrap().metadata.uid.unwrap();
        let owners = json!([{"apiVersion": format!("shop.io/{version}"), "kind": "Shelf", "name": "shelf", "uid": uid}]);
        let _: ConfigMap = cluster
            .create(json!({"metadata": {"name": "book", "ownerReferences": owners}}))
            .await;
        shelves
            .delete("shelf", &DeleteParams::default())
            .await
            .unwrap();
        cluster
            .until("the collection", || async {
                let books: Api<ConfigMap> = cluster.api();
                books.get_opt("book").await.unwrap().is_none()
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_furnished_and_emptied() {
    let cluster = Cluster::start(Some(64)).await;
    let namespaces = with_shop(&cluster).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), "shop");
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "shop");
    cluster
        .until("the furniture", || async {
            accounts.get_opt("default").await.unwrap().is_some()
                && maps.get_opt("kube-root-ca.crt").await.unwrap().is_some()
        })
        .await;
    assert_eq!(
        maps.get("kube-root-ca.crt").await.unwrap().data.unwrap()["ca.crt"],
        "PEM"
    );
    maps.delete("kube-root-ca.crt", &DeleteParams::default())
        .await
        .unwrap();
    cluster
        .until("the bundle again", || async {
            maps.get_opt("kube-root-ca.crt").await.unwrap().is_some()
        })
        .await;
    let wanted: Deployment = serde_json::from_value(deployment("web", 3, "v1")).unwrap();
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), "shop");
    deployments
        .create(&PostParams::default(), &wanted)
        .await
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), "shop");
    cluster
        .until("the pods", || async {
            pods.list(&Default::default()).await.unwrap().items.len() == 3
        })
        .await;
    namespaces
        .delete("shop", &DeleteParams::default())
        .await
        .unwrap();
    shop_ends(&cluster, &namespaces).await;
    assert!(
        pods.list(&Default::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_follow_the_pods() {
    let cluster = Cluster::start(Some(64)).await;
    let _: Service = cluster
        .create(json!({
            "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        }))
        .await;
    let ready = || async {
        let slices: Vec<EndpointSlice> = cluster.list().await;
        slices
            .iter()
            .filter(|slice| {
                slice
                    .metadata
                    .labels
                    .iter()
                    .flatten()
                    .any(|(key, value)| key == "kubernetes.io/service-name" && value == "web")
            })
            .flat_map(|slice| slice.endpoints.iter().flatten())
            .filter(|endpoint| endpoint.conditions.as_ref().unwrap().ready == Some(true))
            .count()
    };
    let _: Deployment = cluster.create(deployment("web", 3, "v1")).await;
    cluster
        .until("three endpoints", || async { ready().await == 3 })
        .await;
    let _: Deployment = cluster.patch("web", json!({"spec": {"replicas": 1}})).await;
    cluster
        .until("one endpoint", || async { ready().await == 1 })
        .await;
    let pod: Pod = cluster
        .list()
        .await
        .into_iter()
        .find(|pod: &Pod| pod.metadata.deletion_timestamp.is_none())
        .unwrap();
    // A pod that stops matching leaves its set and its service; the set makes another.
    let _: Pod = cluster
        .patch(
            pod.metadata.name.as_deref().unwrap(),
            json!({"metadata": {"labels": {"app": "elsewhere"}}}),
        )
        .await;
    cluster
        .until("the replacement", || async {
            let pods: Vec<Pod> = cluster.list().await;
            pods.len() == 2 && ready().await == 1
        })
        .await;
    delete::<Service>(&cluster, "web", PropagationPolicy::Background).await;
    cluster
        .until("no slices", || async { ready().await == 0 })
        .await;
}

fn asking(name: &str, cpu: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]},
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_waits_and_is_told_why() {
    let cluster = Cluster::start(Some(2)).await;
    let _: Pod = cluster.create(asking("first", "1500m")).await;
    running(&cluster, 1).await;
    let _: Pod = cluster.create(asking("second", "1")).await;
    let expected = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    cluster
        .until("the condition", || async {
            let pod: Pod = cluster.api().get("second").await.unwrap();
            pod.status
                .iter()
                .flat_map(|status| status.conditions.iter().flatten())
                .any(|condition| {
                    condition.type_ == "PodScheduled"
                        && condition.status == "False"
                        && condition.reason.as_deref() == Some("Unschedulable")
                        && condition.message.as_deref() == Some(expected)
                })
        })
        .await;
    cluster
        .until("the event", || async {
            cluster.events("FailedScheduling").await == [expected]
        })
        .await;
    cluster
        .api::<Pod>()
        .delete("first", &DeleteParams::default())
        .await
        .unwrap();
    running(&cluster, 1).await;
    let pod: Pod = cluster.api().get("second").await.unwrap();
    assert_eq!(pod.spec.unwrap().node_name.as_deref(), Some("one"));
}

/// Definition, served kind and objects of a kind that only an older version of its group has.
async fn with_old_version(
    cluster: &Cluster,
    plural: &str,
    kind: &str,
    version: &str,
) -> Api<DynamicObject> {
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let definition = json!({
        "metadata": {"name": format!("{plural}.shop.io")},
        "spec": {
            "group": "shop.io", "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
            "versions": [{"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    let definition = serde_json::from_value(definition).unwrap();
    definitions
        .create(&PostParams::default(), &definition)
        .await
        .unwrap();
    let resource = ApiResource {
        plural: plural.to_owned(),
        ..ApiResource::from_gvk(&GroupVersionKind::gvk("shop.io", version, kind))
    };
    let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
    cluster
        .until("the kind is served", || async {
            api.list(&Default::default()).await.is_ok()
        })
        .await;
    Api::namespaced_with(cluster.client.clone(), "shop", &resource)
}

/// The group prefers v1, and one of its kinds is of v1alpha1 alone: it is emptied and collected as the others are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinds_of_other_versions_than_their_groups_go_too() {
    let cluster = Cluster::start(None).await;
    let namespaces = with_shop(&cluster).await;
    let _shelves = with_old_version(&cluster, "shelves", "Shelf", "v1").await;
    let crates = with_old_version(&cluster, "crates", "Crate", "v1alpha1").await;
    let made = |name: &str| -> DynamicObject {
        serde_json::from_value(
            json!({"apiVersion": "shop.io/v1alpha1", "kind": "Crate", "metadata": {"name": name}}),
        )
        .unwrap()
    };
    let owner = crates
        .create(&PostParams::default(), &made("owner"))
        .await
        .unwrap();
    crates
        .create(&PostParams::default(), &made("left"))
        .await
        .unwrap();
    let owners = json!([{"apiVersion": "shop.io/v1alpha1", "kind": "Crate", "name": "owner", "uid": owner.metadata.uid}]);
    let map = json!({"metadata": {"name": "owned", "ownerReferences": owners}});
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "shop");
    maps.create(
        &PostParams::default(),
        &serde_json::from_value(map).unwrap(),
    )
    .await
    .unwrap();
    crates
        .delete("owner", &DeleteParams::foreground())
        .await
        .unwrap();
    cluster
        .until("the owner's end, and of what it owned", || async {
            crates.get_opt("owner").await.unwrap().is_none()
                && maps.get_opt("owned").await.unwrap().is_none()
        })
        .await;
    namespaces
        .delete("shop", &DeleteParams::default())
        .await
        .unwrap();
    shop_ends(&cluster, &namespaces).await;
    assert!(crates.get_opt("left").await.unwrap().is_none());
}

/// Nobody can tell which owner is meant, so the object stays, as upstream has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_in_a_namespace_of_what_is_in_none_takes_nothing_along() {
    use k8s_openapi::api::rbac::v1::ClusterRole;

    let cluster = Cluster::start(None).await;
    let owner: ConfigMap = cluster.create(json!({"metadata": {"name": "owner"}})).await;
    let roles: Api<ClusterRole> = Api::all(cluster.client.clone());
    let uid = owner.metadata.uid.unwrap();
    for (name, uid) in [
        ("of-one-that-is", uid.as_str()),
        ("of-one-that-is-not", "gone"),
    ] {
        let role = json!({"metadata": {"name": name, "ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid},
        ]}});
        roles
            .create(
                &PostParams::default(),
                &serde_json::from_value(role).unwrap(),
            )
            .await
            .unwrap();
    }
    // what has a namespace, and an owner that is not there, goes: the collector has looked
    let _: ConfigMap = cluster
        .create(json!({"metadata": {"name": "owned", "ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "gone"},
        ]}}))
        .await;
    cluster
        .until("the collection", || async {
            let maps: Api<ConfigMap> = cluster.api();
            maps.get_opt("owned").await.unwrap().is_none()
        })
        .await;
    for name in ["of-one-that-is", "of-one-that-is-not"] {
        assert!(roles.get_opt(name).await.unwrap().is_some(), "{name}");
    }
}

/// Network policies, secrets and services stay for as long as there are pods.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pods_of_a_namespace_go_first() {
    let cluster = Cluster::start(None).await;
    let namespaces = with_shop(&cluster).await;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), "shop");
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "shop");
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    cluster
        .until("the account", || async {
            let held: Pod = serde_json::from_value(held.clone()).unwrap();
            pods.create(&PostParams::default(), &held).await.is_ok()
        })
        .await;
    let map = serde_json::from_value(json!({"metadata": {"name": "map"}})).unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
    namespaces
        .delete("shop", &DeleteParams::default())
        .await
        .unwrap();
    let expected = "Some resources are remaining: pods has 1 resource instances";
    cluster
        .until("the condition", || async {
            let shop = namespaces.get("shop").await.unwrap();
            let conditions = shop.status.and_then(|status| status.conditions);
            conditions.iter().flatten().any(|condition| {
                condition.type_ == "NamespaceContentRemaining"
                    && condition.message.as_deref() == Some(expected)
            })
        })
        .await;
    assert!(maps.get_opt("map").await.unwrap().is_some());
    let free = kube::api::Patch::Merge(json!({"metadata": {"finalizers": null}}));
    pods.patch("held", &Default::default(), &free)
        .await
        .unwrap();
    shop_ends(&cluster, &namespaces).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_go_with_their_node() {
    let cluster = Cluster::start(Some(64)).await;
    let _: Deployment = cluster.create(deployment("web", 2, "v1")).await;
    running(&cluster, 2).await;
    let lost = json!({"metadata": {"name": "lost", "finalizers": ["example.com/hold"]},
        "spec": {"nodeName": "gone", "containers": [{"name": "c", "image": "i"}]}});
    let _: Pod = cluster.create(lost).await;
    cluster
        .until("the end of the lost one", || async {
            let pod: Pod = cluster.api().get("lost").await.unwrap();
            let status = pod.status.unwrap_or_default();
            pod.metadata.deletion_timestamp.is_some()
                && status.phase.as_deref() == Some("Failed")
                && status.conditions.iter().flatten().any(|condition| {
                    condition.type_ == "DisruptionTarget"
                        && condition.reason.as_deref() == Some("DeletionByPodGC")
                })
        })
        .await;
    running_but(&cluster, "lost", 2).await;
}

async fn running_but(cluster: &Cluster, name: &str, count: usize) {
    let pods: Vec<Pod> = cluster.list().await;
    let others = pods.iter().filter(|pod| {
        pod.metadata.name.as_deref() != Some(name) && pod.metadata.deletion_timestamp.is_none()
    });
    assert_eq!(others.count(), count);
}

/// Each blocks the other's deletion in the foreground.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_own_each_other_both_go() {
    let cluster = Cluster::start(None).await;
    let owned_by = |map: &ConfigMap| {
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": map.metadata.name, "uid": map.metadata.uid,
            "blockOwnerDeletion": true}])
    };
    let one: ConfigMap = cluster.create(json!({"metadata": {"name": "one"}})).await;
    let other = json!({"metadata": {"name": "other", "ownerReferences": owned_by(&one)}});
    let other: ConfigMap = cluster.create(other).await;
    let owners = json!({"metadata": {"ownerReferences": owned_by(&other)}});
    let _: ConfigMap = cluster.patch("one", owners).await;
    delete::<ConfigMap>(&cluster, "one", PropagationPolicy::Foreground).await;
    let maps: Api<ConfigMap> = cluster.api();
    cluster
        .until("the end of both", || async {
            maps.get_opt("one").await.unwrap().is_none()
                && maps.get_opt("other").await.unwrap().is_none()
        })
        .await;
}
