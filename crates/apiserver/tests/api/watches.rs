//! Watches: resuming, selectors, bookmarks, initial events, 410.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use crate::server::{CONFIG_MAPS, Server, config_map};

/// The lines of a watch.
pub struct Watch {
    body: apiserver::ResponseBody,
    rest: Vec<u8>,
}

impl Watch {
    pub async fn start(server: &Server, path: &str, accept: &str) -> Self {
        let request = http::Request::get(path)
            .header("accept", accept)
            .body(Full::new(Bytes::new()))
            .expect("a request");
        let response = server.send(request).await;
        assert_eq!(response.status(), 200);
        Self {
            body: response.into_body(),
            rest: Vec::new(),
        }
    }

    /// The next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("a JSON line"));
            }
            let frame = tokio::time::timeout(Duration::from_secs(20), self.body.frame())
                .await
                .expect("an event in time")?;
            self.rest
                .extend_from_slice(&frame.expect("a frame").into_data().expect("data"));
        }
    }

    pub async fn event(&mut self) -> (String, Value) {
        let event = self.next().await.expect("an event");
        (
            event["type"].as_str().expect("a type").to_owned(),
            event["object"].clone(),
        )
    }
}

fn named(kind: &str, object: &Value) -> String {
    format!(
        "{kind} {}",
        object["metadata"]["name"].as_str().unwrap_or_default()
    )
}

async fn version(server: &Server) -> String {
    server.get(CONFIG_MAPS).await.expect(200)["metadata"]["resourceVersion"]
        .as_str()
        .expect("a version")
        .to_owned()
}

#[tokio::test]
async fn a_watch_sees_every_change_in_order() {
    let server = Server::new().await;
    server
        .post(CONFIG_MAPS, &config_map("old"))
        .await
        .expect(201);
    let from = version(&server).await;
    let mut live = Watch::start(
        &server,
        &format!("{CONFIG_MAPS}?watch=1&resourceVersion={from}"),
        "*/*",
    )
    .await;
    let created = server.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let changed = server
        .patch(
            &format!("{CONFIG_MAPS}/a"),
            "merge",
            &json!({"data": {"x": "y"}}),
        )
        .await
        .expect(200);
    server
        .delete(&format!("{CONFIG_MAPS}/a"), &json!(null))
        .await
        .expect(200);
    // A watch that begins later, from the same version, sees the same.
    let mut resumed = Watch::start(
        &server,
        &format!("{CONFIG_MAPS}?watch=1&resourceVersion={from}"),
        "*/*",
    )
    .await;
    for watch in [&mut live, &mut resumed] {
        assert_eq!(watch.event().await, ("ADDED".into(), created.clone()));
        assert_eq!(watch.event().await, ("MODIFIED".into(), changed.clone()));
        let (kind, object) = watch.event().await;
        assert_eq!(kind, "DELETED");
        assert_eq!(object["data"], changed["data"]);
        let number = |v: &Value| {
            v["metadata"]["resourceVersion"]
                .as_str()
                .and_then(|v| v.parse::<u64>().ok())
        };
        assert!(
            number(&object) > number(&changed),
            "a deletion has a version of its own"
        );
    }
}

#[tokio::test]
async fn selectors_turn_changes_into_coming_and_going() {
    let server = Server::new().await;
    let from = version(&server).await;
    let mut watch = Watch::start(
        &server,
        &format!("{CONFIG_MAPS}?watch=true&resourceVersion={from}&labelSelector=on=yes"),
        "*/*",
    )
    .await;
    server.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    for labels in [
        json!({"on": "yes"}),
        json!({"on": "yes", "x": "y"}),
        json!({"on": "no"}),
        json!({"on": "yes"}),
    ] {
        server
            .patch(
                &format!("{CONFIG_MAPS}/a"),
                "merge",
                &json!({"metadata": {"labels": labels}}),
            )
            .await
            .expect(200);
    }
    server
        .delete(&format!("{CONFIG_MAPS}/a"), &json!(null))
        .await
        .expect(200);
    for expected in ["ADDED a", "MODIFIED a", "DELETED a", "ADDED a", "DELETED a"] {
        let (kind, object) = watch.event().await;
        assert_eq!(named(&kind, &object), expected);
    }
}

#[tokio::test]
async fn initial_events_and_bookmarks() {
    let server = Server::new().await;
    for name in ["a", "b"] {
        server
            .post(CONFIG_MAPS, &config_map(name))
            .await
            .expect(201);
    }
    let mut legacy = Watch::start(&server, &format!("{CONFIG_MAPS}?watch=1"), "*/*").await;
    let query =
        "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut streaming = Watch::start(&server, &format!("{CONFIG_MAPS}?{query}"), "*/*").await;
    for watch in [&mut legacy, &mut streaming] {
        for expected in ["ADDED a", "ADDED b"] {
            let (kind, object) = watch.event().await;
            assert_eq!(named(&kind, &object), expected);
        }
    }
    let (kind, bookmark) = streaming.event().await;
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(
        bookmark["metadata"]["annotations"],
        json!({"k8s.io/initial-events-end": "true"})
    );
    assert_eq!(
        (
            bookmark["kind"].as_str(),
            bookmark["metadata"]["resourceVersion"].is_string()
        ),
        (Some("ConfigMap"), true)
    );
    server.post(CONFIG_MAPS, &config_map("c")).await.expect(201);
    for watch in [&mut legacy, &mut streaming] {
        let (kind, object) = watch.event().await;
        assert_eq!(named(&kind, &object), "ADDED c");
    }
}

#[tokio::test]
async fn watches_end_in_time_with_a_bookmark() {
    let server = Server::new().await;
    let mut watch = Watch::start(
        &server,
        &format!(
            "{CONFIG_MAPS}?watch=1&timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion=0"
        ),
        "*/*",
    )
    .await;
    let mut kinds = Vec::new();
    while let Some(event) = watch.next().await {
        kinds.push(event["type"].as_str().unwrap_or_default().to_owned());
    }
    // The end of what was there, and the end of the watch.
    assert_eq!(kinds, ["BOOKMARK", "BOOKMARK"]);
    let mut watch = Watch::start(&server, &format!("{CONFIG_MAPS}?watch=1"), "*/*").await;
    server.api.stop();
    assert_eq!(
        watch.next().await,
        None,
        "a stopped server ends its watches"
    );
}

/// Who goes on from the last bookmark has been told all that came before it, also when changes come all the time.
#[tokio::test]
async fn no_bookmark_runs_ahead_of_what_was_sent() {
    let number = |object: &Value| -> u64 {
        let version = object["metadata"]["resourceVersion"].as_str();
        version.and_then(|v| v.parse().ok()).expect("a version")
    };
    let server = Server::new().await;
    let from = version(&server).await;
    let path = format!(
        "{CONFIG_MAPS}?watch=1&timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion={from}"
    );
    let watching = futures::future::join_all((0..24).map(|_| async {
        let mut watch = Watch::start(&server, &path, "*/*").await;
        let (mut seen, mut reached) = (BTreeSet::new(), 0);
        while let Some(event) = watch.next().await {
            match event["type"].as_str() {
                Some("ADDED") => {
                    seen.insert(number(&event["object"]));
                }
                Some("BOOKMARK") => reached = number(&event["object"]),
                _ => panic!("{event}"),
            }
        }
        (seen, reached)
    }));
    let mut made = BTreeSet::new();
    let writing = async {
        for n in 0..1_000_000 {
            let object = config_map(&format!("m{n}"));
            let object = server.post(CONFIG_MAPS, &object).await.expect(201);
            made.insert(number(&object));
        }
    };
    let watched = tokio::select! {
        watched = watching => watched,
        () = writing => panic!("the watches do not end"),
    };
    for (seen, reached) in watched {
        assert!(reached > 0, "no bookmark at the end");
        let promised: BTreeSet<u64> = made.range(..=reached).copied().collect();
        let missed: Vec<&u64> = promised.difference(&seen).collect();
        assert!(
            missed.is_empty(),
            "a bookmark of {reached} came without {missed:?}"
        );
    }
}

#[tokio::test]
async fn versions_out_of_the_window_are_gone() {
    let server = Server::with(|config| config.watch_window = 4).await;
    let from = version(&server).await;
    let mut slow = Watch::start(
        &server,
        &format!("{CONFIG_MAPS}?watch=1&resourceVersion={from}"),
        "*/*",
    )
    .await;
    for n in 0..10 {
        server
            .post(CONFIG_MAPS, &config_map(&format!("a{n}")))
            .await
            .expect(201);
    }
    // The cache may be a moment behind the writes; then the watch begins and is let go.
    let path = format!("{CONFIG_MAPS}?watch=1&resourceVersion={from}");
    let status = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let mut late = Watch::start(&server, &path, "*/*").await;
            let (kind, status) = late.event().await;
            if kind == "ERROR" {
                assert_eq!(late.next().await, None, "nothing comes after it");
                break status;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("410 in time");
    assert_eq!(
        (&status["code"], &status["reason"]),
        (&json!(410), &json!("Expired"))
    );
    assert!(
        status["message"]
            .as_str()
            .is_some_and(|m| m.starts_with("too old resource version: "))
    );
    let (kind, status) = slow.event().await;
    assert_eq!(
        (kind.as_str(), &status["code"], &status["reason"]),
        ("ERROR", &json!(410), &json!("Expired"))
    );
    assert_eq!(slow.next().await, None);
}

#[tokio::test]
async fn watches_speak_the_form_and_version_asked_for() {
    let server = Server::new().await;
    let from = version(&server).await;
    let path = format!("{CONFIG_MAPS}?watch=1&resourceVersion={from}");
    let mut table = Watch::start(
        &server,
        &path,
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    )
    .await;
    let mut partial = Watch::start(
        &server,
        &path,
        "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    )
    .await;
    let hpas = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    let mut v1 = Watch::start(
        &server,
        &format!("{hpas}?watch=1&resourceVersion={from}"),
        "*/*",
    )
    .await;
    server.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    server.post(CONFIG_MAPS, &config_map("b")).await.expect(201);
    let hpa = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}});
    server
        .post(&hpas.replace("v1", "v2"), &hpa)
        .await
        .expect(201);
    let (_, first) = table.event().await;
    assert_eq!(
        (
            first["kind"].as_str(),
            first["columnDefinitions"].as_array().map(Vec::len)
        ),
        (Some("Table"), Some(3))
    );
    let cells = &first["rows"][0]["cells"];
    assert_eq!((&cells[0], &cells[1]), (&json!("a"), &json!(1)));
    let (_, second) = table.event().await;
    assert_eq!(
        second["columnDefinitions"],
        json!([]),
        "only the first table defines the columns"
    );
    let (_, object) = partial.event().await;
    assert_eq!(
        (object["kind"].as_str(), object.get("data")),
        (Some("PartialObjectMetadata"), None)
    );
    let (_, object) = v1.event().await;
    assert_eq!(
        (
            object["apiVersion"].as_str(),
            &object["spec"]["targetCPUUtilizationPercentage"]
        ),
        (Some("autoscaling/v1"), &json!(80))
    );
}

#[tokio::test]
async fn the_old_form_of_paths() {
    let server = Server::new().await;
    for name in ["a", "b"] {
        server
            .post(CONFIG_MAPS, &config_map(name))
            .await
            .expect(201);
    }
    let at = version(&server).await;
    for (path, names) in [
        ("/api/v1/watch/configmaps", &["c", "a"][..]),
        ("/api/v1/watch/namespaces/default/configmaps", &["c", "a"]),
        ("/api/v1/watch/namespaces/default/configmaps/a", &["a"]),
        ("/api/v1/watch/namespaces/other/configmaps", &[]),
    ] {
        let path = format!("{path}?resourceVersion={at}&timeoutSeconds=1");
        let mut watch = Watch::start(&server, &path, "application/json").await;
        if names.len() > 1 {
            server.delete(&format!("{CONFIG_MAPS}/c"), &json!({})).await;
            server.post(CONFIG_MAPS, &config_map("c")).await.expect(201);
        }
        let patch = json!({"data": {"path": path}});
        let one = format!("{CONFIG_MAPS}/a");
        server.patch(&one, "merge", &patch).await.expect(200);
        let mut seen = BTreeSet::new();
        while let Some(event) = watch.next().await {
            let name = &event["object"]["metadata"]["name"];
            seen.insert(name.as_str().unwrap_or_default().to_owned());
        }
        let expected: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(seen, expected, "{path}");
    }
    server.get("/api/v1/watch").await.expect(404);
    let old = "/api/v1/watch/namespaces/default/configmaps";
    server.post(old, &config_map("d")).await.expect(404);
}

#[tokio::test]
async fn who_reads_slowly_is_held_to_the_time_too() {
    let server = Server::new().await;
    for n in 0..50 {
        let map = config_map(&format!("a{n}"));
        server.post(CONFIG_MAPS, &map).await.expect(201);
    }
    let path = format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1");
    let mut watch = Watch::start(&server, &path, "application/json").await;
    watch.event().await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let mut seen = 1;
    while watch.next().await.is_some() {
        seen += 1;
    }
    assert!(seen < 50, "{seen}");
}

#[tokio::test]
async fn one_namespace_or_name_alone() {
    let server = Server::new().await;
    let from = version(&server).await;
    let mut named_only = Watch::start(
        &server,
        &format!("{CONFIG_MAPS}?watch=1&resourceVersion={from}&fieldSelector=metadata.name%3Db"),
        "*/*",
    )
    .await;
    let mut elsewhere = Watch::start(
        &server,
        &format!("/api/v1/namespaces/kube-system/configmaps?watch=1&resourceVersion={from}"),
        "*/*",
    )
    .await;
    server.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    server.post(CONFIG_MAPS, &config_map("b")).await.expect(201);
    server
        .post(
            "/api/v1/namespaces/kube-system/configmaps",
            &config_map("k"),
        )
        .await
        .expect(201);
    let (kind, object) = named_only.event().await;
    assert_eq!(named(&kind, &object), "ADDED b");
    let (kind, object) = elsewhere.event().await;
    assert_eq!(named(&kind, &object), "ADDED k");
}
