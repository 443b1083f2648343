//! Lists: paging, selectors, resource versions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::server::{CONFIG_MAPS, PODS, Server, config_map, pod};

fn names(list: &Value) -> Vec<&str> {
    list["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|i| i["metadata"]["name"].as_str().expect("a name"))
        .collect()
}

async fn three(server: &Server) {
    for (name, tier) in [("a", "web"), ("b", "db"), ("c", "web")] {
        let mut object = config_map(name);
        object["metadata"]["labels"] = json!({"tier": tier, "n": name});
        server.post(CONFIG_MAPS, &object).await.expect(201);
    }
}

#[tokio::test]
async fn pages_are_one_consistent_list() {
    let server = Server::new().await;
    three(&server).await;
    let first = server
        .get(&format!("{CONFIG_MAPS}?limit=2"))
        .await
        .expect(200);
    assert_eq!(
        (first["kind"].as_str(), names(&first)),
        (Some("ConfigMapList"), vec!["a", "b"])
    );
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    server.post(CONFIG_MAPS, &config_map("d")).await.expect(201);
    let token = first["metadata"]["continue"].as_str().expect("a token");
    let second = server
        .get(&format!("{CONFIG_MAPS}?limit=2&continue={token}"))
        .await
        .expect(200);
    assert_eq!(names(&second), ["c"], "what came later is not in it");
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    assert!(second["metadata"].get("continue").is_none());
    // the page in the middle counts what the list shows: "c" and "d"
    let first = server
        .get(&format!("{CONFIG_MAPS}?limit=1"))
        .await
        .expect(200);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    let token = first["metadata"]["continue"].as_str().expect("a token");
    server
        .delete(&format!("{CONFIG_MAPS}/d"), &json!({}))
        .await
        .expect(200);
    let middle = server
        .get(&format!("{CONFIG_MAPS}?limit=1&continue={token}"))
        .await
        .expect(200);
    assert_eq!(names(&middle), ["b"]);
    assert_eq!(middle["metadata"]["remainingItemCount"], 2);
    let selected = server
        .get(&format!("{CONFIG_MAPS}?limit=1&labelSelector=tier=web"))
        .await
        .expect(200);
    assert_eq!(names(&selected), ["a"]);
    let token = selected["metadata"]["continue"].as_str().expect("a token");
    let rest = server
        .get(&format!(
            "{CONFIG_MAPS}?labelSelector=tier=web&continue={token}"
        ))
        .await
        .expect(200);
    assert_eq!(names(&rest), ["c"]);
    for token in [
        "x",
        "eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ",
        "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIuLi94In0",
    ] {
        server
            .get(&format!("{CONFIG_MAPS}?continue={token}"))
            .await
            .refusal(400);
    }
}

#[tokio::test]
async fn selectors_select() {
    let server = Server::new().await;
    three(&server).await;
    let cases: [(&str, &[&str]); 9] = [
        ("labelSelector=tier=web", &["a", "c"]),
        ("labelSelector=tier!=web", &["b"]),
        ("labelSelector=tier%20in%20(db,x)", &["b"]),
        ("labelSelector=tier%20notin%20(db),n%20notin%20(a)", &["c"]),
        ("labelSelector=!tier", &[]),
        ("labelSelector=tier", &["a", "b", "c"]),
        ("fieldSelector=metadata.name=b", &["b"]),
        (
            "fieldSelector=metadata.name!=b,metadata.namespace=default",
            &["a", "c"],
        ),
        ("fieldSelector=metadata.namespace=kube-system", &[]),
    ];
    for (query, expected) in cases {
        let list = server
            .get(&format!("{CONFIG_MAPS}?{query}"))
            .await
            .expect(200);
        assert_eq!(names(&list), expected, "{query}");
    }
    let everywhere = server
        .get("/api/v1/configmaps?fieldSelector=metadata.name=b")
        .await
        .expect(200);
    assert_eq!(names(&everywhere), ["b"]);
    let message = server
        .get(&format!("{CONFIG_MAPS}?fieldSelector=spec.x=1"))
        .await
        .refusal(400);
    assert_eq!(message, "field label not supported: spec.x");
    server
        .get(&format!("{CONFIG_MAPS}?labelSelector=a%20b"))
        .await
        .refusal(400);
}

#[tokio::test]
async fn pods_and_events_by_field() {
    let server = Server::new().await;
    for name in ["a", "b"] {
        server.post(PODS, &pod(name)).await.expect(201);
    }
    let binding = json!({"target": {"kind": "Node", "name": "n1"}});
    server
        .post(&format!("{PODS}/b/binding"), &binding)
        .await
        .expect(201);
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "a", "namespace": "default", "uid": "u"}, "reason": "Started", "type": "Normal"});
    server
        .post("/api/v1/namespaces/default/events", &event)
        .await
        .expect(201);
    let cases: [(&str, &str, &[&str]); 8] = [
        ("/api/v1/pods", "spec.nodeName=n1", &["b"]),
        ("/api/v1/pods", "spec.nodeName=", &["a"]),
        (
            "/api/v1/pods",
            "status.phase=Pending,spec.nodeName!=n1",
            &["a"],
        ),
        ("/api/v1/pods", "status.phase=Running", &[]),
        (
            "/api/v1/events",
            "involvedObject.name=a,involvedObject.uid=u",
            &["e"],
        ),
        ("/api/v1/events", "reason=Started,type=Normal", &["e"]),
        ("/api/v1/events", "type=Warning", &[]),
        ("/apis/events.k8s.io/v1/events", "regarding.name=a", &["e"]),
    ];
    for (path, selector, expected) in cases {
        let list = server
            .get(&format!(
                "{path}?fieldSelector={}",
                apiserver::query::percent_encode(selector)
            ))
            .await
            .expect(200);
        assert_eq!(names(&list), expected, "{path} {selector}");
    }
}

#[tokio::test]
async fn versions_of_lists() {
    let server = Server::new().await;
    three(&server).await;
    let now = server.get(CONFIG_MAPS).await.expect(200)["metadata"]["resourceVersion"]
        .as_str()
        .map(str::to_owned)
        .expect("a version");
    server.post(CONFIG_MAPS, &config_map("d")).await.expect(201);
    let exact = server
        .get(&format!(
            "{CONFIG_MAPS}?resourceVersion={now}&resourceVersionMatch=Exact"
        ))
        .await
        .expect(200);
    assert_eq!(names(&exact), ["a", "b", "c"]);
    let newer = server
        .get(&format!(
            "{CONFIG_MAPS}?resourceVersion={now}&resourceVersionMatch=NotOlderThan"
        ))
        .await
        .expect(200);
    assert_eq!(names(&newer), ["a", "b", "c", "d"]);
    let answer = server
        .get(&format!("{CONFIG_MAPS}?resourceVersion=1000000"))
        .await;
    assert_eq!(
        answer.body["details"]["causes"][0]["reason"],
        "ResourceVersionTooLarge"
    );
    assert!(
        answer
            .refusal(504)
            .starts_with("Too large resource version: 1000000")
    );
    server
        .get(&format!("{CONFIG_MAPS}?resourceVersion=x"))
        .await
        .refusal(422);
    // of one object: no older than
    for version in ["0", "", "1", &now] {
        let path = format!("{CONFIG_MAPS}/a?resourceVersion={version}");
        server.get(&path).await.expect(200);
    }
    let answer = server
        .get(&format!("{CONFIG_MAPS}/a?resourceVersion=1000000"))
        .await;
    assert!(
        answer
            .refusal(504)
            .starts_with("Too large resource version: 1000000")
    );
    let answer = server
        .get(&format!("{CONFIG_MAPS}/a?resourceVersion=x"))
        .await;
    assert!(
        answer
            .refusal(400)
            .starts_with("invalid resource version: resourceVersion: Invalid value: \"x\"")
    );
}

#[tokio::test]
async fn a_page_of_a_version_is_of_that_very_version() {
    let server = Server::new().await;
    three(&server).await;
    let whole = server.get(CONFIG_MAPS).await.expect(200);
    let version = whole["metadata"]["resourceVersion"].as_str().expect("one");
    server.delete(&format!("{CONFIG_MAPS}/a"), &json!({})).await;
    for (query, expected) in [
        (
            format!("limit=2&resourceVersion={version}"),
            &["a", "b"][..],
        ),
        ("limit=2&resourceVersion=0".to_owned(), &["b", "c"]),
        (
            format!("limit=2&resourceVersion={version}&resourceVersionMatch=NotOlderThan"),
            &["b", "c"],
        ),
        (format!("resourceVersion={version}"), &["b", "c"]),
    ] {
        let page = server.get(&format!("{CONFIG_MAPS}?{query}")).await;
        assert_eq!(names(&page.expect(200)), expected, "{query}");
    }
}

/// A page token that is older than what the store keeps is refused, with one by which the rest can be had.
#[tokio::test]
async fn an_expired_page_can_be_gone_on_with() {
    let dir = tempfile::Builder::new()
        .prefix("plimsoll-lists-")
        .tempdir()
        .expect("a directory");
    let store = crate::restarts::open(&dir.path().join("state.redb"), 4).await;
    let server = Server::over(store, |_| {}).await;
    three(&server).await;
    let first = server
        .get(&format!("{CONFIG_MAPS}?limit=1"))
        .await
        .expect(200);
    assert_eq!(names(&first), ["a"]);
    let token = first["metadata"]["continue"].as_str().expect("a token");
    for n in 0..20 {
        let name = format!("d{n:02}");
        server
            .post(CONFIG_MAPS, &config_map(&name))
            .await
            .expect(201);
    }
    let path = format!("{CONFIG_MAPS}?limit=2&continue={token}");
    let refused = server.get(&path).await;
    let again = refused.body["metadata"]["continue"]
        .as_str()
        .expect("a token")
        .to_owned();
    assert_eq!(refused.body["reason"], "Expired");
    assert_eq!(
        refused.refusal(410),
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list."
    );
    let second = server
        .get(&format!("{CONFIG_MAPS}?limit=3&continue={again}"))
        .await
        .expect(200);
    assert_eq!(
        names(&second),
        ["b", "c", "d00"],
        "what came since is in it"
    );
    assert_eq!(second["metadata"]["remainingItemCount"], 19);
    let third = second["metadata"]["continue"].as_str().expect("a token");
    let rest = server
        .get(&format!("{CONFIG_MAPS}?continue={third}"))
        .await
        .expect(200);
    assert_eq!(names(&rest).len(), 19);
}

#[tokio::test]
async fn tokens_are_refused_in_upstreams_words() {
    use base64::Engine as _;
    let server = Server::new().await;
    three(&server).await;
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    for (token, why) in [
        (
            r#"{"v":"meta.k8s.io/v1","rv":0,"start":"x"}"#,
            "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
        ),
        (
            r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#,
            "encoded start key empty (version meta.k8s.io/v1)",
        ),
        (r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../x"}"#, "../x"),
        (
            r#"{"v":"v2","rv":1,"start":"x"}"#,
            "server does not recognize this encoded version v2",
        ),
    ] {
        let path = format!("{CONFIG_MAPS}?continue={}", encode(token));
        assert_eq!(
            server.get(&path).await.refusal(400),
            format!("invalid continue token: continue key is not valid: {why}")
        );
    }
    let first = server
        .get(&format!("{CONFIG_MAPS}?limit=1"))
        .await
        .expect(200);
    let token = first["metadata"]["continue"].as_str().expect("a token");
    let path = format!("{CONFIG_MAPS}?continue={token}&resourceVersion=1");
    assert_eq!(
        server.get(&path).await.refusal(400),
        "specifying resource version is not allowed when using continue"
    );
    let selected = server
        .get(&format!("{CONFIG_MAPS}?limit=1&labelSelector=tier"))
        .await
        .expect(200);
    assert!(
        selected["metadata"].get("remainingItemCount").is_none(),
        "how many remain of a selection is not known: {}",
        selected["metadata"]
    );
}

/// How often another task of the same thread had its turn during a request.
async fn turns_of_others(server: &Server, accept: &str) -> usize {
    let turns = Arc::new(AtomicUsize::new(0));
    let counted = turns.clone();
    let other = tokio::spawn(async move {
        loop {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    let headers = [("accept", accept)];
    server
        .ask("GET", CONFIG_MAPS, &headers, "")
        .await
        .expect(200);
    other.abort();
    turns.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_long_list_leaves_others_their_turn() {
    const OBJECTS: usize = 200;
    let server = Server::new().await;
    server.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let forms = [
        "application/json;as=Table;g=meta.k8s.io;v=v1",
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
    ];
    let mut before = Vec::new();
    for form in forms {
        // something else may have been waited for once
        let mut fewest = usize::MAX;
        for _ in 0..5 {
            fewest = fewest.min(turns_of_others(&server, form).await);
        }
        before.push(fewest);
    }
    for number in 1..OBJECTS {
        let object = config_map(&format!("b-{number}"));
        server.post(CONFIG_MAPS, &object).await.expect(201);
    }
    for (form, before) in forms.into_iter().zip(before) {
        let turns = turns_of_others(&server, form).await;
        assert!(
            turns >= before + 3,
            "{turns}, {before} with one object: {form}"
        );
    }
}
