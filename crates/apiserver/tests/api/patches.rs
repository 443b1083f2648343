//! PATCH in its three forms.

use serde_json::json;

use crate::server::{CONFIG_MAPS, DEPLOYMENTS, Server, config_map, deployment};

#[tokio::test]
async fn the_three_forms() {
    let server = Server::new().await;
    let path = format!("{DEPLOYMENTS}/web");
    server
        .post(DEPLOYMENTS, &deployment("web"))
        .await
        .expect(201);
    let strategic = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "busybox:2"}, {"name": "d", "image": "x:1"}]}}}});
    let after = server
        .patch(&path, "strategic-merge", &strategic)
        .await
        .expect(200);
    let containers = after["spec"]["template"]["spec"]["containers"]
        .as_array()
        .expect("containers");
    assert_eq!(containers.len(), 2);
    assert!(containers.iter().any(|c| c["name"] == "c"
        && c["image"] == "busybox:2"
        && c["terminationMessagePolicy"] == "File"));
    assert_eq!(after["metadata"]["generation"], 2);
    let after = server
        .patch(&path, "merge", &json!({"metadata": {"labels": {"a": "b"}}}))
        .await
        .expect(200);
    assert_eq!(after["metadata"]["labels"], json!({"a": "b"}));
    let after = server
        .patch(
            &path,
            "json",
            &json!([{"op": "replace", "path": "/spec/replicas", "value": 9}]),
        )
        .await
        .expect(200);
    assert_eq!(after["spec"]["replicas"], 9);
    let failing = json!([{"op": "test", "path": "/spec/replicas", "value": 1}]);
    let answer = server.patch(&path, "json", &failing).await;
    assert_eq!(answer.code, 422, "{}", answer.body);
}

#[tokio::test]
async fn refusals() {
    let server = Server::new().await;
    server.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    server
        .patch(&format!("{CONFIG_MAPS}/b"), "merge", &json!({}))
        .await
        .refusal(404);
    let forced = format!("{path}?force=true");
    assert_eq!(
        server
            .patch(&forced, "merge", &json!({}))
            .await
            .refusal(422),
        "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch"
    );
    let stale = json!({"metadata": {"resourceVersion": "1"}});
    assert!(
        server
            .patch(&path, "merge", &stale)
            .await
            .refusal(409)
            .contains("the object has been modified")
    );
    let renamed = json!({"metadata": {"name": "b"}});
    server.patch(&path, "merge", &renamed).await.refusal(400);
    let answer = server
        .ask(
            "PATCH",
            &format!("{path}?fieldManager=x"),
            &[("content-type", "application/apply-patch+cbor")],
            "{}",
        )
        .await;
    assert!(
        answer
            .refusal(415)
            .contains("application/strategic-merge-patch+json")
    );
    let answer = server
        .ask(
            "PATCH",
            &path,
            &[("content-type", "application/merge-patch+json")],
            "{",
        )
        .await;
    answer.refusal(400);
    let answer = server
        .patch(
            &format!("{path}?fieldValidation=Strict"),
            "merge",
            &json!({"x": 1}),
        )
        .await;
    assert!(answer.refusal(422).contains("unknown field \"x\""));
    let answer = server
        .patch(&path, "merge", &json!({"data": {"a": 1}}))
        .await;
    assert!(answer.refusal(422).contains("cannot unmarshal"));
    let twice = server
        .ask(
            "PATCH",
            &format!("{path}?fieldValidation=Strict"),
            &[("content-type", "application/merge-patch+json")],
            r#"{"data":{"q":"1","q":"2"}}"#,
        )
        .await;
    assert!(twice.refusal(422).contains("duplicate field \"data.q\""));
}

#[tokio::test]
async fn concurrent_patches_all_land() {
    let server = std::sync::Arc::new(Server::new().await);
    server.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let server = server.clone();
            tokio::spawn(async move {
                let patch = json!({"data": {format!("k{n}"): "v"}});
                server
                    .patch(&format!("{CONFIG_MAPS}/a"), "merge", &patch)
                    .await
                    .expect(200);
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let after = server.get(&format!("{CONFIG_MAPS}/a")).await.expect(200);
    assert_eq!(
        after["data"].as_object().map(serde_json::Map::len),
        Some(21)
    );
}
