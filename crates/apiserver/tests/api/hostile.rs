//! Input that nobody well-meaning sends.

use serde_json::json;

use crate::server::{CONFIG_MAPS, PODS, Server, config_map};

#[tokio::test]
async fn paths() {
    let server = Server::new().await;
    for path in [
        "/api/v1/namespaces/default/configmaps/a%00b",
        "/api/v1/namespaces/default/configmaps/a%2Fb",
        "/api/v1/namespaces/default/configmaps/..",
        "/api/v1/namespaces/%2e%2e/configmaps/x",
        "/api/v1/namespaces//configmaps",
        "/api/v1/namespaces/default/configmaps/a/b",
        "/api/v1/namespaces/default/configmaps/a/status",
        "/api/v1/namespaces/default/nodes",
        "/api/v1/configmaps/a",
        "/api/v2/pods",
        "/apis/nope/v1/pods",
        "/apis/apps/v2/deployments",
        "/nope",
        "/api/v1/nope",
        "/openapi/v1",
    ] {
        let answer = server.get(path).await;
        assert_eq!(
            (answer.code, answer.body["kind"].as_str()),
            (404, Some("Status")),
            "{path}"
        );
    }
    server.ask("DELETE", "/api/v1", &[], "").await.refusal(405);
    server
        .ask("OPTIONS", CONFIG_MAPS, &[], "")
        .await
        .refusal(405);
    server
        .ask("POST", &format!("{CONFIG_MAPS}/a"), &[], "{}")
        .await
        .refusal(405);
    server
        .get(&format!("{CONFIG_MAPS}?limit=%zz"))
        .await
        .refusal(400);
}

#[tokio::test]
async fn bodies() {
    let server = Server::new().await;
    let cases: [(&str, &str, u16); 14] = [
        ("application/json", "", 400),
        ("application/json", "{", 400),
        (
            "application/json",
            "{\"metadata\":{\"name\":\"a\"}} trailing",
            400,
        ),
        ("application/json", "[]", 400),
        ("application/json", "null", 400),
        ("application/json", "\"x\"", 400),
        ("application/json", "{\"apiVersion\":\"v2\"}", 400),
        (
            "application/json",
            "{\"kind\":\"Pod\",\"apiVersion\":\"v1\"}",
            400,
        ),
        ("application/json", "{\"metadata\":[]}", 400),
        ("application/json", "{\"metadata\":{\"name\":{}}}", 400),
        (
            "application/json",
            "{\"metadata\":{\"name\":\"a\",\"labels\":{\"a\":1}}}",
            400,
        ),
        ("text/plain", "hello", 415),
        ("application/yaml", "a: [", 400),
        (
            "application/vnd.kubernetes.protobuf",
            "k8s\0\u{1}\u{2}",
            400,
        ),
    ];
    for (content_type, body, code) in cases {
        let answer = server
            .ask(
                "POST",
                CONFIG_MAPS,
                &[("content-type", content_type)],
                body.to_owned(),
            )
            .await;
        assert_eq!(
            (answer.code, answer.body["kind"].as_str()),
            (code, Some("Status")),
            "{content_type} {body:?}: {}",
            answer.body
        );
    }
    let deep = format!(
        "{{\"data\":{}1{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    server
        .ask(
            "POST",
            CONFIG_MAPS,
            &[("content-type", "application/json")],
            deep,
        )
        .await
        .refusal(400);
}

#[tokio::test]
async fn sizes() {
    let server = Server::new().await;
    let body = format!(
        "{{\"data\":{{\"a\":\"{}\"}}}}",
        "x".repeat(10 * 1024 * 1024)
    );
    let answer = server
        .ask(
            "POST",
            CONFIG_MAPS,
            &[("content-type", "application/json")],
            body,
        )
        .await;
    assert_eq!(answer.body["reason"], "RequestEntityTooLarge");
    answer.refusal(413);
    let mut big = config_map("big");
    big["data"]["a"] = "x".repeat(2 * 1024 * 1024).into();
    assert!(
        server
            .post(CONFIG_MAPS, &big)
            .await
            .refusal(422)
            .contains("Too long: may not be more than 1048576 bytes")
    );
    let mut annotated = config_map("annotated");
    annotated["metadata"]["annotations"] = json!({"a": "x".repeat(300 * 1024)});
    assert!(
        server
            .post(CONFIG_MAPS, &annotated)
            .await
            .refusal(422)
            .contains("metadata.annotations: Too long")
    );
}

#[tokio::test]
async fn odd_objects_do_no_harm() {
    let server = Server::new().await;
    // Wrong shapes deep inside, all refused or kept, none a panic or a 500.
    let objects = [
        json!({"metadata": {"name": "a"}, "spec": null}),
        json!({"metadata": {"name": "a"}, "spec": {"containers": {}}}),
        json!({"metadata": {"name": "a"}, "spec": {"containers": [null]}}),
        json!({"metadata": {"name": "a"}, "spec": {"containers": [[]]}}),
        json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "x", "resources": {"limits": "all"}}]}}),
        json!({"metadata": {"name": "a", "ownerReferences": [{}]}, "spec": {"containers": [{"name": "c", "image": "x"}]}}),
        json!({"metadata": {"name": "a", "finalizers": [1]}}),
        json!({"metadata": {"name": "a", "generateName": 5}}),
        json!({"metadata": "a"}),
        json!({"metadata": null, "status": 7}),
    ];
    for object in objects {
        let answer = server.post(PODS, &object).await;
        assert!(
            matches!(answer.code, 400 | 422),
            "{object}: {} {}",
            answer.code,
            answer.body
        );
    }
}
