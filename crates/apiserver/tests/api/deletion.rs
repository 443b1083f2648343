//! Deletion: finalizers, grace, preconditions, propagation, collections.

use serde_json::{Value, json};

use crate::server::{CONFIG_MAPS, DEPLOYMENTS, PODS, Server, config_map, deployment, pod};

#[tokio::test]
async fn plain_objects_go_at_once() {
    let server = Server::new().await;
    let created = server.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    let wrong = json!({"preconditions": {"uid": "x"}});
    assert!(
        server
            .delete(&path, &wrong)
            .await
            .refusal(409)
            .contains("Precondition failed: UID in precondition: x")
    );
    let wrong = json!({"preconditions": {"resourceVersion": "1"}});
    server.delete(&path, &wrong).await.refusal(409);
    let right = json!({"preconditions": {"uid": created["metadata"]["uid"]}});
    let status = server.delete(&path, &right).await.expect(200);
    assert_eq!(status["status"], "Success");
    assert_eq!(
        status["details"],
        json!({"name": "a", "kind": "configmaps", "uid": created["metadata"]["uid"]})
    );
    server.delete(&path, &json!(null)).await.refusal(404);
}

#[tokio::test]
async fn the_name_of_what_is_leaving_is_taken() {
    let server = Server::new().await;
    let mut object = config_map("a");
    object["metadata"]["finalizers"] = json!(["example.com/a"]);
    server.post(CONFIG_MAPS, &object).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    server.delete(&path, &json!({})).await.expect(200);
    for path in [CONFIG_MAPS, &format!("{CONFIG_MAPS}?dryRun=All")] {
        let refused = server.post(path, &config_map("a")).await;
        assert_eq!(refused.body["reason"], "AlreadyExists");
        assert_eq!(
            refused.refusal(409),
            "object is being deleted: configmaps \"a\" already exists"
        );
    }
}

#[tokio::test]
async fn finalizers_hold_and_release() {
    let server = Server::new().await;
    let mut object = config_map("a");
    object["metadata"]["finalizers"] = json!(["example.com/a"]);
    server.post(CONFIG_MAPS, &object).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    let held = server.delete(&path, &json!(null)).await.expect(200);
    assert!(held["metadata"]["deletionTimestamp"].is_string(), "{held}");
    let mut more = held.clone();
    more["metadata"]["finalizers"] = json!(["example.com/a", "example.com/b"]);
    assert!(
        server
            .put(&path, &more)
            .await
            .refusal(422)
            .contains("no new finalizers can be added if the object is being deleted")
    );
    let mut less = held.clone();
    less["metadata"]["finalizers"] = json!([]);
    server.put(&path, &less).await.expect(200);
    server.get(&path).await.refusal(404);
}

#[tokio::test]
async fn propagation_becomes_finalizers() {
    let server = Server::new().await;
    for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
        server
            .post(DEPLOYMENTS, &deployment("web"))
            .await
            .expect(201);
        let path = format!("{DEPLOYMENTS}/web");
        let held = server
            .delete(&path, &json!({"propagationPolicy": policy}))
            .await
            .expect(200);
        assert_eq!(held["metadata"]["finalizers"], json!([finalizer]));
        assert_eq!(held["metadata"]["generation"], 2);
        server
            .patch(&path, "merge", &json!({"metadata": {"finalizers": null}}))
            .await
            .expect(200);
        server.get(&path).await.refusal(404);
    }
    server
        .post(DEPLOYMENTS, &deployment("web"))
        .await
        .expect(201);
    let path = format!("{DEPLOYMENTS}/web");
    server
        .delete(&path, &json!({"propagationPolicy": "Background"}))
        .await
        .expect(200);
    server.get(&path).await.refusal(404);
    server
        .delete(&format!("{path}?propagationPolicy=Sideways"), &json!(null))
        .await
        .refusal(422);
}

async fn bound(server: &Server, name: &str) -> String {
    server.post(PODS, &pod(name)).await.expect(201);
    let binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": "n"}});
    server
        .post(&format!("{PODS}/{name}/binding"), &binding)
        .await
        .expect(201);
    format!("{PODS}/{name}")
}

#[tokio::test]
async fn pods_end_gracefully() {
    let server = Server::new().await;
    server.post(PODS, &pod("free")).await.expect(201);
    server
        .delete(&format!("{PODS}/free"), &json!(null))
        .await
        .expect(200);
    server.get(&format!("{PODS}/free")).await.refusal(404);

    let path = bound(&server, "held").await;
    let held = server.delete(&path, &json!(null)).await.expect(200);
    assert_eq!(held["metadata"]["deletionGracePeriodSeconds"], 30);
    let seconds = |v: &Value| {
        v["metadata"]["deletionTimestamp"]
            .as_str()
            .and_then(|t| t.parse::<jiff::Timestamp>().ok())
            .expect("a time")
            .as_second()
    };
    let again = server.delete(&path, &json!(null)).await.expect(200);
    assert_eq!(again, held, "asking again changes nothing");
    let longer = server
        .delete(&path, &json!({"gracePeriodSeconds": 60}))
        .await
        .expect(200);
    assert_eq!(longer, held, "grace is never made longer");
    let shorter = server
        .delete(&path, &json!({"gracePeriodSeconds": 5}))
        .await
        .expect(200);
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    assert_eq!(seconds(&held) - seconds(&shorter), 25);
    server
        .delete(&path, &json!({"gracePeriodSeconds": 0}))
        .await
        .expect(200);
    server.get(&path).await.refusal(404);

    let path = bound(&server, "done").await;
    server
        .patch(
            &format!("{path}/status"),
            "merge",
            &json!({"status": {"phase": "Succeeded"}}),
        )
        .await
        .expect(200);
    server.delete(&path, &json!(null)).await.expect(200);
    server.get(&path).await.refusal(404);

    let path = bound(&server, "evicted").await;
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "evicted"}});
    server
        .post(&format!("{path}/eviction"), &eviction)
        .await
        .expect(201);
    assert!(server.get(&path).await.expect(200)["metadata"]["deletionTimestamp"].is_string());
}

#[tokio::test]
async fn namespaces_go_when_finalized() {
    let server = Server::new().await;
    server
        .post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}}))
        .await
        .expect(201);
    let path = "/api/v1/namespaces/n";
    let mut held = server.delete(path, &json!(null)).await.expect(200);
    assert_eq!(held["status"]["phase"], "Terminating");
    held["spec"]["finalizers"] = json!([]);
    // An ordinary update leaves the finalizers alone.
    let after = server.put(path, &held).await.expect(200);
    assert_eq!(after["spec"]["finalizers"], json!(["kubernetes"]));
    held["metadata"]
        .as_object_mut()
        .expect("metadata")
        .remove("resourceVersion");
    server
        .put(&format!("{path}/finalize"), &held)
        .await
        .expect(200);
    server.get(path).await.refusal(404);
    let message = server
        .delete("/api/v1/namespaces/default", &json!(null))
        .await
        .refusal(403);
    assert_eq!(
        message,
        "namespaces \"default\" is forbidden: this namespace may not be deleted"
    );
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    let server = Server::new().await;
    for name in ["a", "b", "c"] {
        let mut object = config_map(name);
        object["metadata"]["labels"] = json!({"name": name});
        server.post(CONFIG_MAPS, &object).await.expect(201);
    }
    let gone = server
        .delete(
            &format!("{CONFIG_MAPS}?labelSelector=name%20in%20(a,b)"),
            &json!(null),
        )
        .await
        .expect(200);
    assert_eq!(gone["items"].as_array().map(Vec::len), Some(2));
    let left = server.get(CONFIG_MAPS).await.expect(200);
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(left["items"][0]["metadata"]["name"], "c");
}

/// Nothing in a DeleteOptions is passed over: it would delete where a trial or a precondition was meant.
#[tokio::test]
async fn options_that_are_wrong_delete_nothing() {
    let server = Server::new().await;
    server.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    for (options, code) in [
        (json!({"dryRun": "All"}), 400),
        (json!({"dryRun": ["all"]}), 422),
        (json!({"dryRun": ["All", ""]}), 422),
        (json!({"gracePeriodSeconds": "0"}), 400),
        (json!({"preconditions": {"uid": 7}}), 400),
        (json!({"preconditions": "x"}), 400),
        (json!({"preconditions": {"uid": ""}}), 409),
        (json!({"preconditions": {"resourceVersion": ""}}), 409),
        (json!({"orphanDependents": "yes"}), 400),
    ] {
        let refused = server.delete(&path, &options).await;
        assert_eq!(refused.code, code, "{options}: {}", refused.body);
        server.get(&path).await.expect(200);
    }
    let tried = server.delete(&path, &json!({"dryRun": ["All"]})).await;
    tried.expect(200);
    server.get(&path).await.expect(200);

    let pod = bound(&server, "p").await;
    let eviction = |options: Value| json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}, "deleteOptions": options});
    for (options, code) in [
        (json!({"dryRun": ["all"]}), 422),
        (json!({"preconditions": {"uid": ""}}), 409),
    ] {
        let eviction = eviction(options);
        let refused = server.post(&format!("{pod}/eviction"), &eviction).await;
        assert_eq!(refused.code, code, "{eviction}: {}", refused.body);
    }
    let left = server.get(&pod).await.expect(200);
    assert_eq!(left["metadata"]["deletionTimestamp"], Value::Null);
}

/// Written by anybody, with no bound: it must neither keep the pod from being deleted nor be counted over the end of time.
#[tokio::test]
async fn grace_without_end_is_a_long_time() {
    let server = Server::new().await;
    for (name, asked) in [
        ("own", Value::Null),
        ("asked", json!({"gracePeriodSeconds": i64::MAX})),
        ("far", json!({"gracePeriodSeconds": 999_999_999_999_i64})),
    ] {
        let mut object = pod(name);
        object["spec"]["terminationGracePeriodSeconds"] = i64::MAX.into();
        server.post(PODS, &object).await.expect(201);
        let binding = json!({"metadata": {"name": name}, "target": {"name": "n"}});
        let path = format!("{PODS}/{name}");
        let bound = server.post(&format!("{path}/binding"), &binding).await;
        bound.expect(201);
        let held = server.delete(&path, &asked).await.expect(200);
        let grace = held["metadata"]["deletionGracePeriodSeconds"].as_i64();
        assert!(grace >= Some(999_999_999_999), "{held}");
        let shorter = json!({"gracePeriodSeconds": 5});
        let shorter = server.delete(&path, &shorter).await.expect(200);
        let at: jiff::Timestamp = shorter["metadata"]["deletionTimestamp"]
            .as_str()
            .and_then(|at| at.parse().ok())
            .expect("a time");
        let left = at.as_second() - jiff::Timestamp::now().as_second();
        assert!((-60..=5).contains(&left), "{shorter}");
        let now = json!({"gracePeriodSeconds": 0});
        server.delete(&path, &now).await.expect(200);
        server.get(&path).await.refusal(404);
    }
}

#[tokio::test]
async fn what_upstream_leaves_behind_by_default_is_left() {
    let server = Server::new().await;
    let path = "/api/v1/namespaces/default/replicationcontrollers";
    let controller = json!({"metadata": {"name": "web"}, "spec": {"replicas": 1, "selector": {"app": "web"},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    server.post(path, &controller).await.expect(201);
    let path = format!("{path}/web");
    let held = server.delete(&path, &Value::Null).await;
    assert_eq!(held.headers.get("warning"), None);
    assert_eq!(
        held.expect(200)["metadata"]["finalizers"],
        json!(["orphan"])
    );
}
