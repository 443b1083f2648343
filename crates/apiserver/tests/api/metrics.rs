//! `/metrics` of the server itself.

use apiserver::Identity;
use serde_json::{Value, json};

use crate::server::{Answer, CONFIG_MAPS, Server, config_map};

async fn page(server: &Server) -> String {
    let answer = server.get("/metrics").await;
    assert_eq!(
        (answer.code, answer.headers["content-type"].to_str().ok()),
        (200, Some("text/plain; version=0.0.4; charset=utf-8"))
    );
    String::from_utf8(answer.raw.to_vec()).expect("text")
}

/// The value of the only line that begins with this name and has all these labels.
fn value(page: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let mut lines = page.lines().filter(|line| {
        line.split(['{', ' ']).next() == Some(name)
            && labels.iter().all(|label| line.contains(label))
    });
    let value = lines.next()?.rsplit(' ').next()?.parse().ok();
    assert_eq!(lines.next(), None, "{name} {labels:?} is more than one");
    value
}

#[tokio::test]
async fn requests_objects_and_the_process_are_counted() {
    let server = Server::new().await;
    for name in ["a", "b"] {
        server
            .post(CONFIG_MAPS, &config_map(name))
            .await
            .expect(201);
    }
    server
        .post(CONFIG_MAPS, &config_map("a"))
        .await
        .refusal(409);
    server
        .get(&format!("{CONFIG_MAPS}/none"))
        .await
        .refusal(404);
    server.get("/no/such/path").await;
    let page = page(&server).await;
    let total = "apiserver_request_total";
    let posts = [
        "verb=\"POST\"",
        "group=\"\"",
        "version=\"v1\"",
        "resource=\"configmaps\"",
        "scope=\"resource\"",
    ];
    let with = |code| [&posts[..], &[code]].concat();
    assert_eq!(value(&page, total, &with("code=\"201\"")), Some(2.0));
    assert_eq!(value(&page, total, &with("code=\"409\"")), Some(1.0));
    let gets = ["verb=\"GET\"", "resource=\"configmaps\"", "code=\"404\""];
    assert_eq!(value(&page, total, &gets), Some(1.0));
    // (`subresource=""` ends like `resource=""`)
    let elsewhere = [
        "verb=\"GET\"",
        "version=\"\"",
        "subresource=\"\"",
        "code=\"404\"",
    ];
    assert_eq!(value(&page, total, &elsewhere), Some(1.0));
    assert!(
        !page.contains("/no/such/path"),
        "labels are not the client's"
    );
    let duration = "apiserver_request_duration_seconds";
    assert_eq!(
        value(&page, &format!("{duration}_count"), &posts),
        Some(3.0)
    );
    let all = [&posts[..], &["le=\"+Inf\""]].concat();
    assert_eq!(value(&page, &format!("{duration}_bucket"), &all), Some(3.0));
    let levels = "apiserver_request_sli_duration_seconds_count";
    assert_eq!(value(&page, levels, &posts), Some(3.0));
    let in_flight = "apiserver_current_inflight_requests";
    assert_eq!(
        value(&page, in_flight, &["readOnly"]),
        Some(1.0),
        "this one"
    );
    assert_eq!(value(&page, in_flight, &["mutating"]), Some(0.0));
    let objects = "apiserver_storage_objects";
    assert_eq!(
        value(&page, objects, &["resource=\"namespaces\""]),
        Some(4.0)
    );
    assert_eq!(
        value(&page, objects, &["resource=\"configmaps\""]),
        Some(2.0)
    );
    assert_eq!(
        value(&page, objects, &["resource=\"deployments.apps\""]),
        Some(0.0)
    );
    let objects = "apiserver_resource_objects";
    for (group, resource, count) in [("", "configmaps", 2.0), ("apps", "deployments", 0.0)] {
        let labels = [
            format!("group=\"{group}\""),
            format!("resource=\"{resource}\""),
        ];
        let labels = labels.each_ref().map(String::as_str);
        assert_eq!(value(&page, objects, &labels), Some(count), "{resource}");
    }
    assert!(value(&page, "process_resident_memory_bytes", &[]) > Some(1e6));
}

#[tokio::test]
async fn watches_are_counted_while_they_are_open() {
    use http_body_util::BodyExt as _;
    let server = Server::new().await;
    let path = format!("{CONFIG_MAPS}?watch=true");
    let request = http::Request::get(&path)
        .body(Default::default())
        .expect("a request");
    let mut watch = server.send(request).await;
    server.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    watch
        .body_mut()
        .frame()
        .await
        .expect("an event")
        .expect("sent");
    let labels = [
        "verb=\"WATCH\"",
        "resource=\"configmaps\"",
        "scope=\"namespace\"",
    ];
    let open = page(&server).await;
    assert_eq!(
        value(&open, "apiserver_longrunning_requests", &labels),
        Some(1.0)
    );
    assert_eq!(
        value(&open, "apiserver_watch_events_total", &labels),
        Some(1.0)
    );
    assert_eq!(
        value(&open, "apiserver_request_duration_seconds_count", &labels),
        None
    );
    drop(watch);
    let closed = page(&server).await;
    assert_eq!(
        value(&closed, "apiserver_longrunning_requests", &labels),
        Some(0.0)
    );
}

#[tokio::test]
async fn who_may_read_them_is_a_question_of_rights() {
    let mut server = Server::new().await;
    const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
    let binding = json!({"metadata": {"name": "ann"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:monitoring"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}]});
    let path = format!("{RBAC}/clusterrolebindings");
    server.post(&path, &binding).await.expect(201);
    server.identity = Identity::new("bob", &[]);
    let refused: Answer = server.get("/metrics").await;
    let words = refused.refusal(403);
    assert!(words.contains("cannot get path \"/metrics\""), "{words}");
    server.identity = Identity::new("ann", &[]);
    while server.get("/metrics").await.code == 403 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(server.get("/metrics").await.code, 200);
    assert_eq!(
        server.ask("POST", "/metrics", &[], "").await.body["kind"],
        Value::from("Status")
    );
}
