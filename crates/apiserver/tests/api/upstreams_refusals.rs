//! What is refused, or furnished, because upstream does, and belongs to no kind's own tests.

use serde_json::{Value, json};

use crate::server::{Answer, DEPLOYMENTS, PODS, Server, deployment, pod};

#[tokio::test]
async fn of_all_namespaces_there_is_only_reading() {
    let server = Server::new().await;
    server.post("/api/v1/pods", &pod("p")).await.refusal(405);
    for path in ["/api/v1/configmaps", "/api/v1/namespaces"] {
        server.delete(path, &Value::Null).await.refusal(405);
        server.get(path).await.expect(200);
    }
}

#[tokio::test]
async fn a_binding_names_the_pod_that_is_bound() {
    let server = Server::new().await;
    server.post(PODS, &pod("p")).await.expect(201);
    let path = format!("{PODS}/p/binding");
    let other = json!({"metadata": {"name": "q"}, "target": {"name": "n"}});
    let refused = server.post(&path, &other).await.refusal(400);
    assert!(refused.contains("does not match"), "{refused}");
    let own = json!({"metadata": {"name": "p"}, "target": {"name": "n"}});
    server.post(&path, &own).await.expect(201);
    let bound = server.get(&format!("{PODS}/p")).await.expect(200);
    assert_eq!(bound["spec"]["nodeName"], "n");
    assert_eq!(
        bound["metadata"]["generation"], 1,
        "no change of what is wanted"
    );
}

#[tokio::test]
async fn the_systems_priority_classes_stay() {
    let server = Server::new().await;
    let path = "/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical";
    let refused = server.delete(path, &Value::Null).await.refusal(403);
    assert!(refused.contains("cannot be deleted"), "{refused}");
    server.get(path).await.expect(200);
}

#[tokio::test]
async fn a_namespace_with_a_generated_name_is_found_by_it() {
    let server = Server::new().await;
    let given = json!({"metadata": {"generateName": "team-"}});
    let made = server.post("/api/v1/namespaces", &given).await.expect(201);
    let label = &made["metadata"]["labels"]["kubernetes.io/metadata.name"];
    assert_eq!(label, &made["metadata"]["name"]);
}

#[tokio::test]
async fn what_a_pod_asks_for_as_a_whole_is_defaulted_and_classed() {
    let server = Server::new().await;
    let mut whole = pod("p");
    whole["spec"]["resources"] = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    let made = server.post(PODS, &whole).await.expect(201);
    let requests = &made["spec"]["resources"]["requests"];
    assert_eq!(requests, &json!({"cpu": "1", "memory": "1Gi"}));
    assert_eq!(made["status"]["qosClass"], "Guaranteed");
}

#[tokio::test]
async fn a_deletion_says_one_thing_about_what_is_owned() {
    let server = Server::new().await;
    let path = format!("{PODS}/p");
    server.post(PODS, &pod("p")).await.expect(201);
    let both = json!({"propagationPolicy": "Foreground", "orphanDependents": false});
    let expected = "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: \"Foreground\": orphanDependents and deletionPropagation cannot be both set";
    assert_eq!(server.delete(&path, &both).await.refusal(422), expected);
    let query = format!("{path}?propagationPolicy=Foreground&orphanDependents=true");
    let by_address = server.ask("DELETE", &query, &[], "").await;
    assert_eq!(by_address.refusal(422), expected);
    let other = server.delete(&path, &pod("p")).await.refusal(400);
    assert!(
        other.contains("cannot be converted to DeleteOptions"),
        "{other}"
    );
    server.get(&path).await.expect(200);
}

#[tokio::test]
async fn the_size_that_is_put_names_its_object() {
    let server = Server::new().await;
    server
        .post(DEPLOYMENTS, &deployment("web"))
        .await
        .expect(201);
    let path = format!("{DEPLOYMENTS}/web/scale");
    let mut scale = server.get(&path).await.expect(200);
    scale["metadata"]["name"] = json!("other");
    let refused = server.put(&path, &scale).await.refusal(400);
    let expected = "the name of the object (other) does not match the name on the URL (web)";
    assert_eq!(refused, expected);
}

#[tokio::test]
async fn what_is_old_or_will_not_do_what_it_seems_to_is_warned_of() {
    let server = Server::new().await;
    let warned = |answer: &Answer| -> Vec<String> {
        let all = answer.headers.get_all("warning").iter();
        all.map(|value| value.to_str().unwrap_or_default().to_owned())
            .collect()
    };
    let mut twice = deployment("web");
    let container = &mut twice["spec"]["template"]["spec"]["containers"][0];
    container["env"] = json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]);
    let expected = "299 - \"spec.template.spec.containers[0].env[1]: hides previous definition of \\\"A\\\", which may be dropped when using apply\"";
    let made = server.post(DEPLOYMENTS, &twice).await;
    assert_eq!((made.code, warned(&made)), (201, vec![expected.to_owned()]));
    let path = format!("{DEPLOYMENTS}/web");
    let change = |value: serde_json::Value| {
        let path = path.clone();
        let server = &server;
        async move { server.patch(&path, "merge", &value).await }
    };
    let labelled = change(json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!((labelled.code, warned(&labelled)), (200, vec![]));
    let paused = change(json!({"spec": {"paused": true}})).await;
    assert_eq!(
        (paused.code, warned(&paused)),
        (200, vec![expected.to_owned()])
    );
    let endpoints = server.get("/api/v1/namespaces/default/endpoints").await;
    let old =
        "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"";
    assert_eq!(
        (endpoints.code, warned(&endpoints)),
        (200, vec![old.to_owned()])
    );
}

#[tokio::test]
async fn options_are_called_by_what_is_asked_for() {
    let server = Server::new().await;
    server
        .post(DEPLOYMENTS, &deployment("web"))
        .await
        .expect(201);
    let path = format!("{DEPLOYMENTS}/web?fieldValidation=Odd");
    let patched = server.patch(&path, "merge", &json!({})).await.refusal(422);
    let expected = "PatchOptions.meta.k8s.io \"\" is invalid: fieldValidation: ";
    assert!(patched.starts_with(expected), "{patched}");
    let put = server.put(&path, &deployment("web")).await.refusal(422);
    assert!(put.starts_with("UpdateOptions.meta.k8s.io"), "{put}");
    let path = format!("{DEPLOYMENTS}?dryRun=Odd");
    let made = server.post(&path, &deployment("b")).await.refusal(422);
    assert!(made.starts_with("CreateOptions.meta.k8s.io"), "{made}");
}

/// People apply what they were once given: times and namespaces that mean nothing are no mistake.
#[tokio::test]
async fn what_means_nothing_in_metadata_is_passed_over() {
    let server = Server::new().await;
    let path = "/api/v1/namespaces";
    let given = json!({"metadata": {"name": "team", "namespace": "elsewhere"}});
    let made = server.post(path, &given).await.expect(201);
    assert_eq!(made["metadata"]["namespace"], Value::Null);
    let path = format!("{path}/team");
    let mut again = made.clone();
    again["metadata"]["namespace"] = "elsewhere".into();
    again["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z".into();
    again["metadata"]["labels"]["a"] = "put".into();
    let put = server.put(&path, &again).await.expect(200);
    let change = json!({"metadata": {"namespace": "elsewhere", "creationTimestamp": "2020-01-01T00:00:00Z", "labels": {"b": "patched"}}});
    let patched = server.patch(&path, "merge", &change).await.expect(200);
    for after in [&put, &patched] {
        let metadata = &after["metadata"];
        assert_eq!(metadata["namespace"], Value::Null);
        assert_eq!(
            metadata["creationTimestamp"],
            made["metadata"]["creationTimestamp"]
        );
    }
    assert_eq!(patched["metadata"]["labels"]["a"], "put");
    assert_eq!(patched["metadata"]["labels"]["b"], "patched");
    let moved = json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}});
    server.patch(&path, "merge", &moved).await.refusal(422);
}

#[tokio::test]
async fn a_patch_does_not_change_the_uid_and_a_put_names_it() {
    let server = Server::new().await;
    server.post(PODS, &pod("p")).await.expect(201);
    let path = format!("{PODS}/p");
    let other = json!({"metadata": {"uid": "another"}});
    for sort in ["merge", "strategic-merge"] {
        let refused = server.patch(&path, sort, &other).await.refusal(422);
        let expected = "metadata.uid: Invalid value: \"another\": field is immutable";
        assert!(refused.contains(expected), "{refused}");
    }
    let mut other = server.get(&path).await.expect(200);
    other["metadata"]["uid"] = "another".into();
    server.put(&path, &other).await.refusal(409);
}

#[tokio::test]
async fn a_binding_is_of_the_pod_that_its_scheduler_saw() {
    let server = Server::new().await;
    let mut gated = pod("gated");
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/wait"}]);
    server.post(PODS, &gated).await.expect(201);
    let binding = |name: &str| json!({"metadata": {"name": name}, "target": {"name": "n"}});
    let path = format!("{PODS}/gated/binding");
    let refused = server.post(&path, &binding("gated")).await.refusal(409);
    assert!(
        refused.contains("pod gated has non-empty .spec.schedulingGates"),
        "{refused}"
    );

    let mut own = pod("p");
    own["metadata"]["labels"] = json!({"zone": "own"});
    let made = server.post(PODS, &own).await.expect(201);
    let path = format!("{PODS}/p/binding");
    let mut stale = binding("p");
    stale["metadata"]["resourceVersion"] = "1".into();
    server.post(&path, &stale).await.refusal(409);
    let mut right = binding("p");
    right["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    right["metadata"]["labels"] = json!({"zone": "other", "rack": "7"});
    server.post(&path, &right).await.expect(201);
    let bound = server.get(&format!("{PODS}/p")).await.expect(200);
    assert_eq!(
        bound["metadata"]["labels"],
        json!({"zone": "own", "rack": "7"})
    );
}
