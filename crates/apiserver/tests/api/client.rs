//! The server through `kube::Client`, as the roles of this program use it.

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use serde_json::json;

use crate::server::{Server, config_map, deployment};

#[tokio::test]
async fn the_whole_life_of_objects() {
    let server = Server::new().await;
    let client = server.api.in_process_client(server.identity.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let map: ConfigMap = serde_json::from_value(config_map("a")).expect("a ConfigMap");
    let mut created = maps
        .create(&PostParams::default(), &map)
        .await
        .expect("created");
    let error = maps
        .create(&PostParams::default(), &map)
        .await
        .expect_err("it is there");
    assert!(
        matches!(error, kube::Error::Api(status) if status.code == 409 && status.reason == "AlreadyExists")
    );
    let list = maps.list(&ListParams::default()).await.expect("a list");
    let version = list.metadata.resource_version.expect("a version");
    let mut events = maps
        .watch(&WatchParams::default(), &version)
        .await
        .expect("a watch")
        .boxed();
    created
        .data
        .get_or_insert_default()
        .insert("c".into(), "d".into());
    let replaced = maps
        .replace("a", &PostParams::default(), &created)
        .await
        .expect("replaced");
    maps.patch(
        "a",
        &PatchParams::default(),
        &Patch::Merge(json!({"data": {"e": "f"}})),
    )
    .await
    .expect("patched");
    maps.delete("a", &DeleteParams::default())
        .await
        .expect("deleted");
    assert!(maps.get_opt("a").await.expect("an answer").is_none());
    for (n, expected) in ["modified", "modified", "deleted"].iter().enumerate() {
        match (
            events.next().await.expect("an event").expect("no error"),
            *expected,
        ) {
            (WatchEvent::Modified(map), "modified") if n == 0 => assert_eq!(map, replaced),
            (WatchEvent::Modified(map), "modified") => {
                assert_eq!(map.data.map(|d| d.len()), Some(3))
            }
            (WatchEvent::Deleted(_), "deleted") => {}
            (event, _) => panic!("expected {expected}, got {event:?}"),
        }
    }
    let deployments: Api<Deployment> = Api::default_namespaced(client);
    let object = serde_json::from_value(deployment("web")).expect("a Deployment");
    deployments
        .create(&PostParams::default(), &object)
        .await
        .expect("created");
    let scale = deployments
        .patch_scale(
            "web",
            &PatchParams::default(),
            &Patch::Merge(json!({"spec": {"replicas": 4}})),
        )
        .await
        .expect("scaled");
    assert_eq!(scale.spec.and_then(|s| s.replicas), Some(4));
    let status = json!({"status": {"replicas": 4, "observedGeneration": 2}});
    let after = deployments
        .patch_status("web", &PatchParams::default(), &Patch::Merge(status))
        .await
        .expect("patched");
    assert_eq!(after.status.and_then(|s| s.replicas), Some(4));
}

#[tokio::test]
async fn a_reflector_follows() {
    let server = Server::new().await;
    let client = server.api.in_process_client(server.identity.clone());
    let maps: Api<ConfigMap> = Api::all(client);
    for streaming in [false, true] {
        let config = kube::runtime::watcher::Config::default();
        let config = if streaming {
            config.streaming_lists()
        } else {
            config.any_semantic()
        };
        let (reader, writer) = kube::runtime::reflector::store();
        let stream = kube::runtime::reflector(writer, kube::runtime::watcher(maps.clone(), config));
        let task = tokio::spawn(stream.for_each(|event| async move {
            event.expect("no error");
        }));
        reader.wait_until_ready().await.expect("ready");
        let name = format!("a-{streaming}");
        server
            .post(crate::server::CONFIG_MAPS, &config_map(&name))
            .await
            .expect(201);
        let seen = async {
            while reader
                .find(|m| m.metadata.name.as_deref() == Some(&name))
                .is_none()
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), seen)
            .await
            .expect("seen in time");
        task.abort();
    }
}
