//! A server that starts again on the same store file: watches resume from before, without a gap.

use std::path::Path;
use std::time::Duration;

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, WatchEvent, WatchParams};
use serde_json::{Value, json};
use store::embedded::{EmbeddedStore, Options};

use crate::server::{CONFIG_MAPS, Server, config_map};
use crate::watches::Watch;

/// Opens the store once the server that had it has let go of it.
pub async fn open(path: &Path, history_changes_max: usize) -> EmbeddedStore {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let options = Options {
            history_changes_max,
            ..Options::default()
        };
        match EmbeddedStore::open(path, options) {
            Ok(store) => return store,
            Err(store::Error::InUse { .. }) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn label(server: &Server, name: &str, labels: Value) {
    let patch = json!({"metadata": {"labels": labels}});
    server
        .patch(&format!("{CONFIG_MAPS}/{name}"), "merge", &patch)
        .await
        .expect(200);
}

/// Whether a watch from that version is told at once that it is too old.
async fn is_gone(server: &Server, from: &str) -> bool {
    let path = format!(
        "{CONFIG_MAPS}?watch=1&resourceVersion={from}&allowWatchBookmarks=true&timeoutSeconds=1"
    );
    let (kind, object) = Watch::start(server, &path, "*/*").await.event().await;
    kind == "ERROR" && object["code"] == 410
}

async fn version(server: &Server) -> String {
    server.get(CONFIG_MAPS).await.expect(200)["metadata"]["resourceVersion"]
        .as_str()
        .expect("a version")
        .to_owned()
}

/// What a watch from `from` delivers up to the object `last`.
async fn seen(server: &Server, from: &str, selector: &str) -> Vec<(String, Value)> {
    let path = format!("{CONFIG_MAPS}?watch=1&resourceVersion={from}{selector}");
    let mut watch = Watch::start(server, &path, "*/*").await;
    let mut events = Vec::new();
    loop {
        let event = watch.event().await;
        let last = event.1["metadata"]["name"] == "last";
        events.push(event);
        if last {
            return events;
        }
    }
}

#[tokio::test]
async fn a_watch_resumes_from_before_the_restart() {
    let dir = tempfile::Builder::new()
        .prefix("plimsoll-restart-")
        .tempdir()
        .expect("a directory");
    let file = dir.path().join("state.redb");
    let server = Server::over(open(&file, 10_000).await, |_| {}).await;
    server
        .post(CONFIG_MAPS, &config_map("old"))
        .await
        .expect(201);
    let from = version(&server).await;
    server.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    label(&server, "a", json!({"on": "yes"})).await;
    label(&server, "a", json!({"on": "yes", "more": "x"})).await;
    label(&server, "a", json!({"on": "no"})).await;
    label(&server, "old", json!({"on": "yes"})).await;
    for name in ["a", "old"] {
        server
            .delete(&format!("{CONFIG_MAPS}/{name}"), &Value::Null)
            .await
            .expect(200);
    }
    let mut last = config_map("last");
    last["metadata"]["labels"] = json!({"on": "yes"});
    server.post(CONFIG_MAPS, &last).await.expect(201);
    let before = seen(&server, &from, "").await;
    let selected = seen(&server, &from, "&labelSelector=on=yes").await;
    assert_eq!(before.len(), 8);
    server.api.stop();
    drop(server);

    let server = Server::over(open(&file, 10_000).await, |_| {}).await;
    assert_eq!(seen(&server, &from, "").await, before);
    let again = seen(&server, &from, "&labelSelector=on=yes").await;
    assert_eq!(again, selected);
    let kinds: Vec<_> = again
        .iter()
        .map(|(kind, object)| {
            format!(
                "{kind} {}",
                object["metadata"]["name"].as_str().unwrap_or("")
            )
        })
        .collect();
    let expected = [
        "ADDED a",
        "MODIFIED a",
        "DELETED a",
        "ADDED old",
        "DELETED old",
        "ADDED last",
    ];
    assert_eq!(kinds, expected);

    // A client library's watch goes on from the past into what happens now.
    let maps: Api<ConfigMap> =
        Api::default_namespaced(server.api.in_process_client(server.identity.clone()));
    let middle = before[3].1["metadata"]["resourceVersion"]
        .as_str()
        .expect("a version");
    let watch = maps
        .watch(&WatchParams::default(), middle)
        .await
        .expect("a watch");
    let mut watch = std::pin::pin!(watch);
    server
        .post(CONFIG_MAPS, &config_map("new"))
        .await
        .expect(201);
    let mut kinds = Vec::new();
    for _ in 0..5 {
        let event = tokio::time::timeout(Duration::from_secs(20), watch.try_next())
            .await
            .expect("in time")
            .expect("no error")
            .expect("an event");
        kinds.push(match event {
            WatchEvent::Added(map) => format!("ADDED {}", map.metadata.name.unwrap_or_default()),
            WatchEvent::Modified(map) => {
                format!("MODIFIED {}", map.metadata.name.unwrap_or_default())
            }
            WatchEvent::Deleted(map) => {
                format!("DELETED {}", map.metadata.name.unwrap_or_default())
            }
            other => panic!("{other:?}"),
        });
    }
    let expected = [
        "MODIFIED old",
        "DELETED a",
        "DELETED old",
        "ADDED last",
        "ADDED new",
    ];
    assert_eq!(kinds, expected);
}

#[tokio::test]
async fn what_the_store_forgot_is_gone_and_no_more() {
    let dir = tempfile::Builder::new()
        .prefix("plimsoll-restart-")
        .tempdir()
        .expect("a directory");
    let file = dir.path().join("state.redb");
    let server = Server::over(open(&file, 6).await, |_| {}).await;
    let mut versions = vec![version(&server).await];
    for n in 0..10 {
        server
            .post(CONFIG_MAPS, &config_map(&format!("m{n}")))
            .await
            .expect(201);
        versions.push(version(&server).await);
    }
    server.api.stop();
    drop(server);
    let server = Server::over(open(&file, 6).await, |_| {}).await;
    // Ten changes, of which six are retained: the fourth is the last version to watch from.
    for (n, from) in versions.iter().enumerate() {
        assert_eq!(is_gone(&server, from).await, n < 4, "from {n}");
    }
}

#[tokio::test]
async fn the_window_stays_bounded_when_it_reaches_back() {
    let dir = tempfile::Builder::new()
        .prefix("plimsoll-restart-")
        .tempdir()
        .expect("a directory");
    let file = dir.path().join("state.redb");
    let server = Server::over(open(&file, 10_000).await, |_| {}).await;
    let mut versions = vec![version(&server).await];
    for n in 0..10 {
        server
            .post(CONFIG_MAPS, &config_map(&format!("m{n}")))
            .await
            .expect(201);
        versions.push(version(&server).await);
    }
    server.api.stop();
    drop(server);
    let server = Server::over(open(&file, 10_000).await, |config| config.watch_window = 4).await;
    for (n, from) in versions.iter().enumerate() {
        assert_eq!(is_gone(&server, from).await, n < 6, "from {n}");
    }
}
