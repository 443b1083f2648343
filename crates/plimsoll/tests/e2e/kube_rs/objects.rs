//! Objects: created, read in pages, patched in the four ways, applied, scaled, watched, kept in a cache, deleted.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::core::ObjectMeta;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::{refused, soon, with_client};
use crate::support::Space;

pub fn objects_are_read_in_pages_changed_and_watched() {
    let space = Space::new("kube-rs-objects");
    with_client(&space, "edit", |client| async move {
        let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
        reads(&maps).await;
        watches(&maps).await;
        caches(&maps).await;
        patches(client.clone()).await;
        scales(client.clone()).await;
        deletes(&maps).await;
        // what its role does not say
        let others: Api<ConfigMap> = Api::namespaced(client, "kube-system");
        let (code, reason) = refused(others.list(&ListParams::default()).await);
        assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    });
}

fn map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([("part".to_owned(), "pages".to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some([("value".to_owned(), value.to_owned())].into()),
        ..ConfigMap::default()
    }
}

fn value(map: &ConfigMap) -> &str {
    map.data.as_ref().map_or("", |data| &data["value"])
}

async fn reads(maps: &Api<ConfigMap>) {
    let new = PostParams::default();
    for number in 0..7 {
        let made = maps.create(&new, &map(&format!("map-{number}"), "0")).await;
        let made = made.expect("created");
        assert!(made.uid().is_some() && made.resource_version().is_some());
    }
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    maps.create(&dry, &map("dry", "0")).await.expect("accepted");
    assert!(maps.get_opt("dry").await.expect("an answer").is_none());
    let mut unnamed = map("", "0");
    unnamed.metadata.name = None;
    unnamed.metadata.generate_name = Some("made-".to_owned());
    let named = maps.create(&new, &unnamed).await.expect("created");
    assert!(named.name_any().len() > "made-".len());

    assert_eq!(value(&maps.get("map-3").await.expect("read")), "0");
    let metadata = maps.get_metadata("map-3").await.expect("read");
    assert_eq!(metadata.labels()["part"], "pages");
    assert_eq!(refused(maps.get("map-9").await), (404, "NotFound".into()));
    assert_eq!(
        refused(maps.create(&new, &map("map-3", "1")).await),
        (409, "AlreadyExists".into())
    );
    let old = maps.get("map-3").await.expect("read");
    let mut newer = old.clone();
    newer.data = map("", "1").data;
    maps.replace("map-3", &new, &newer).await.expect("replaced");
    assert_eq!(
        refused(maps.replace("map-3", &new, &old).await),
        (409, "Conflict".into())
    );

    let mut page = ListParams::default().labels("part=pages").limit(3);
    let (mut names, mut pages) = (Vec::new(), 0);
    loop {
        let list = maps.list(&page).await.expect("a page");
        pages += 1;
        names.extend(list.iter().map(ResourceExt::name_any));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    assert_eq!((names.len(), pages), (8, 3), "{names:?}");
    assert!(names.is_sorted(), "{names:?}");
}

async fn watches(maps: &Api<ConfigMap>) {
    let asked = WatchParams::default().labels("part=pages").timeout(250);
    let whole = asked.clone().initial_events();
    let stream = maps.watch(&whole, "").await.expect("a watch");
    let mut stream = Box::pin(stream);
    let (mut seen, bookmark) = soon("a bookmark behind what there is", async {
        let mut seen = Vec::new();
        loop {
            match stream.try_next().await.expect("no error") {
                Some(WatchEvent::Added(map)) => seen.push(map.name_any()),
                Some(WatchEvent::Bookmark(bookmark)) => break (seen, bookmark.metadata),
                other => panic!("{other:?} came of nothing"),
            }
        }
    })
    .await;
    seen.sort_unstable();
    assert_eq!((seen.len(), &*seen[1]), (8, "map-0"), "{seen:?}");
    assert_eq!(bookmark.annotations["k8s.io/initial-events-end"], "true");
    maps.create(&PostParams::default(), &map("watched", "0"))
        .await
        .expect("created");
    let added = soon("an event", stream.try_next()).await.expect("no error");
    let Some(WatchEvent::Added(added)) = added else {
        panic!("{added:?} is not what was made");
    };
    assert_eq!(added.name_any(), "watched");
    drop(stream);
    maps.delete("watched", &DeleteParams::default())
        .await
        .expect("deleted");
    // from the bookmark on, and from an event's own version on
    let version = added.resource_version().expect("a version");
    for (from, wanted) in [
        (bookmark.resource_version, &["+watched", "-watched"][..]),
        (version, &["-watched"]),
    ] {
        let resumed = maps.watch(&asked, &from).await.expect("a watch");
        let mut resumed = Box::pin(resumed);
        for wanted in wanted {
            let event = soon("what came meanwhile", resumed.try_next()).await;
            let told = match event.expect("no error").expect("no end") {
                WatchEvent::Added(map) => format!("+{}", map.name_any()),
                WatchEvent::Deleted(map) => format!("-{}", map.name_any()),
                other => panic!("{other:?} is not what came meanwhile"),
            };
            assert_eq!(told, *wanted);
        }
    }
}

async fn caches(maps: &Api<ConfigMap>) {
    for config in [
        watcher::Config::default().page_size(2),
        watcher::Config::default().streaming_lists(),
    ] {
        let (reader, writer) = reflector::store();
        let stream = watcher(maps.clone(), config.labels("part=pages"));
        let mut stream = Box::pin(stream.default_backoff().reflect(writer));
        let kept = soon("eight objects", async {
            while reader.len() < 8 {
                stream.next().await.expect("no end").expect("no error");
            }
            reader.len()
        });
        assert_eq!(kept.await, 8);
        maps.patch(
            "map-0",
            &PatchParams::default(),
            &Patch::Merge(json!({"data": {"value": "seen"}})),
        )
        .await
        .expect("patched");
        let key = reflector::ObjectRef::from(&maps.get("map-0").await.expect("read"));
        soon("the change", async {
            while reader.get(&key).is_none_or(|map| value(&map) != "seen") {
                stream.next().await.expect("no end").expect("no error");
            }
        })
        .await;
        maps.patch(
            "map-0",
            &PatchParams::default(),
            &Patch::Merge(json!({"data": {"value": "0"}})),
        )
        .await
        .expect("patched");
    }
}

fn deployment() -> Deployment {
    let value = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                // pods that nobody starts are gone as soon as they are deleted
                "spec": {"nodeSelector": {"no": "where"}, "containers": [
                    {"name": "main", "image": "busybox:static", "command": ["sleep", "1000"]},
                    {"name": "side", "image": "busybox:static", "command": ["sleep", "1000"]},
                ]},
            },
        },
    });
    serde_json::from_value(value).expect("a deployment")
}

async fn patches(client: Client) {
    let deployments: Api<Deployment> = Api::default_namespaced(client);
    let robot = PatchParams::apply("robot");
    deployments
        .create(&PostParams::default(), &deployment())
        .await
        .expect("created");
    // by the container's name, not by its place
    let strategic = json!({"spec": {"template": {"spec": {"containers": [{"name": "side", "env": [{"name": "A", "value": "1"}]}]}}}});
    let patched = deployments
        .patch("web", &PatchParams::default(), &Patch::Strategic(strategic))
        .await
        .expect("patched");
    let containers = &patched
        .spec
        .template
        .spec
        .as_ref()
        .expect("a spec")
        .containers;
    assert_eq!((containers.len(), &*containers[1].name), (2, "side"));
    assert_eq!(containers[1].env.as_ref().map(Vec::len), Some(1));
    let merge = json!({"metadata": {"annotations": {"merged": "yes"}}});
    let patched = deployments
        .patch("web", &PatchParams::default(), &Patch::Merge(merge))
        .await
        .expect("patched");
    assert_eq!(patched.annotations()["merged"], "yes");
    let steps = |wanted: &str| {
        let steps = json!([
            {"op": "test", "path": "/metadata/annotations/merged", "value": wanted},
            {"op": "replace", "path": "/metadata/annotations/merged", "value": "no"},
        ]);
        Patch::Json::<()>(serde_json::from_value(steps).expect("a patch"))
    };
    let patched = deployments
        .patch("web", &PatchParams::default(), &steps("yes"))
        .await
        .expect("patched");
    assert_eq!(patched.annotations()["merged"], "no");
    assert_eq!(
        refused(
            deployments
                .patch("web", &PatchParams::default(), &steps("yes"))
                .await
        ),
        (422, "Invalid".into())
    );
    // server-side apply: two managers, one field
    let applied = |size: i32| {
        Patch::Apply(
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"minReadySeconds": size}}),
        )
    };
    deployments
        .patch("web", &robot, &applied(3))
        .await
        .expect("applied");
    let other = PatchParams::apply("other");
    assert_eq!(
        refused(deployments.patch("web", &other, &applied(4)).await),
        (409, "Conflict".into())
    );
    let forced = deployments
        .patch("web", &other.force(), &applied(4))
        .await
        .expect("forced");
    assert_eq!(forced.spec.min_ready_seconds, Some(4));
    let managers: Vec<&str> = forced
        .managed_fields()
        .iter()
        .filter(|entry| entry.operation.as_deref() == Some("Apply"))
        .filter_map(|entry| entry.manager.as_deref())
        .collect();
    assert_eq!(managers, ["other"], "robot has nothing left");
    // a field that its manager no longer names goes
    let nothing =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}});
    let left = deployments
        .patch("web", &PatchParams::apply("other"), &Patch::Apply(nothing))
        .await
        .expect("applied");
    assert_eq!(left.spec.min_ready_seconds.unwrap_or_default(), 0);
}

async fn scales(client: Client) {
    let deployments: Api<Deployment> = Api::default_namespaced(client);
    let scale = deployments.get_scale("web").await.expect("a scale");
    assert_eq!(
        scale
            .spec
            .and_then(|spec| spec.replicas)
            .unwrap_or_default(),
        0
    );
    let two = Patch::Merge(json!({"spec": {"replicas": 2}}));
    let scale = deployments
        .patch_scale("web", &PatchParams::default(), &two)
        .await
        .expect("scaled");
    assert_eq!(scale.spec.and_then(|spec| spec.replicas), Some(2));
    // the deployment's controller writes as well: what is stale is read again
    loop {
        let mut scale = deployments.get_scale("web").await.expect("a scale");
        scale.spec.as_mut().expect("a spec").replicas = Some(0);
        let new = PostParams::default();
        match deployments.replace_scale("web", &new, &scale).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            answer => {
                answer.expect("scaled");
                break;
            }
        }
    }
    let web = deployments.get("web").await.expect("read");
    assert_eq!(web.spec.replicas, Some(0));
    // of the status, only what is beneath it is taken
    let both = json!({"spec": {"replicas": 9}, "status": {"conditions": [
        {"type": "Robot", "status": "True", "reason": "Testing"},
    ]}});
    let told = deployments
        .patch_status("web", &PatchParams::default(), &Patch::Merge(both))
        .await;
    assert_eq!(
        refused(told),
        (403, "Forbidden".into()),
        "edit does not say so"
    );
    let status = deployments.get_status("web").await.expect("read");
    assert_eq!(status.spec.replicas, Some(0));
}

async fn deletes(maps: &Api<ConfigMap>) {
    let stale = DeleteParams {
        preconditions: Some(kube::api::Preconditions {
            uid: Some("another".to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    assert_eq!(refused(maps.delete("map-1", &stale).await).0, 409);
    let gone = maps.delete("map-1", &DeleteParams::default()).await;
    assert!(gone.expect("deleted").is_right(), "a Status");
    assert_eq!(
        refused(maps.delete("map-1", &DeleteParams::default()).await).0,
        404
    );
    let pages = ListParams::default().labels("part=pages");
    maps.delete_collection(&DeleteParams::default(), &pages)
        .await
        .expect("deleted");
    assert_eq!(maps.list(&pages).await.expect("a list").items.len(), 0);
}
