//! Server-side apply over HTTP: creating, owning, conflicting, letting go.

use serde_json::{Value, json};

use crate::server::{Answer, CONFIG_MAPS, DEPLOYMENTS, PODS, Server, config_map, deployment, pod};

async fn apply(server: &Server, path: &str, query: &str, config: &Value) -> Answer {
    let headers = [("content-type", "application/apply-patch+yaml")];
    server
        .ask(
            "PATCH",
            &format!("{path}?{query}"),
            &headers,
            config.to_string(),
        )
        .await
}

fn managers(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    entries
        .iter()
        .map(|e| {
            let text = |key: &str| e[key].as_str().unwrap_or_default().to_owned();
            format!(
                "{} {} {}",
                text("manager"),
                text("operation"),
                text("subresource")
            )
        })
        .collect()
}

#[tokio::test]
async fn an_object_is_made_changed_and_left_alone() {
    let server = Server::new().await;
    let path = format!("{CONFIG_MAPS}/a");
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {x: z}}\ndata:\n  a: b\n  c: d\n";
    let headers = [("content-type", "application/apply-patch+yaml")];
    let made = server
        .ask("PATCH", &format!("{path}?fieldManager=me"), &headers, yaml)
        .await
        .expect(201);
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!(
        (
            entry["manager"].as_str(),
            entry["operation"].as_str(),
            entry["apiVersion"].as_str(),
            entry["fieldsType"].as_str()
        ),
        (Some("me"), Some("Apply"), Some("v1"), Some("FieldsV1"))
    );
    assert_eq!(
        entry["fieldsV1"],
        json!({"f:data": {"f:a": {}, "f:c": {}}, "f:metadata": {"f:labels": {"f:x": {}}}})
    );
    let same = server
        .ask("PATCH", &format!("{path}?fieldManager=me"), &headers, yaml)
        .await
        .expect(200);
    assert_eq!(same, made, "nothing changed, so nothing was written");
    let less = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": "z"}});
    let tried = apply(&server, &path, "fieldManager=me&dryRun=All", &less)
        .await
        .expect(200);
    assert_eq!(tried["data"], json!({"a": "z"}));
    assert_eq!(
        server.get(&path).await.expect(200),
        made,
        "a dry run changes nothing"
    );
    let after = apply(&server, &path, "fieldManager=me", &less)
        .await
        .expect(200);
    assert_eq!(
        (&after["data"], after["metadata"].get("labels")),
        (&json!({"a": "z"}), None)
    );
    assert_eq!(server.get(&path).await.expect(200), after);
}

#[tokio::test]
async fn conflicts_are_told_and_forced() {
    let server = Server::new().await;
    let path = format!("{DEPLOYMENTS}/d");
    apply(&server, &path, "fieldManager=one", &deployment("d"))
        .await
        .expect(201);
    let mut mine = deployment("d");
    mine["spec"]["replicas"] = 7.into();
    let refused = apply(&server, &path, "fieldManager=two", &mine)
        .await
        .expect(409);
    assert_eq!(refused["reason"], "Conflict");
    assert_eq!(
        refused["message"],
        "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas"
    );
    assert_eq!(
        refused["details"]["causes"],
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".spec.replicas"}])
    );
    let forced = apply(&server, &path, "fieldManager=two&force=true", &mine)
        .await
        .expect(200);
    assert_eq!(forced["spec"]["replicas"], 7);
    // Whoever scales takes the replicas over.
    let scale = json!({"spec": {"replicas": 3}});
    server
        .patch(
            &format!("{path}/scale?fieldManager=scaler"),
            "merge",
            &scale,
        )
        .await
        .expect(200);
    let refused = apply(&server, &path, "fieldManager=two", &mine)
        .await
        .refusal(409);
    assert!(
        refused.contains(
            "conflict with \"scaler\" with subresource \"scale\" using apps/v1: .spec.replicas"
        ),
        "{refused}"
    );
    mine["spec"]
        .as_object_mut()
        .expect("a spec")
        .remove("replicas");
    let kept = apply(&server, &path, "fieldManager=two", &mine)
        .await
        .expect(200);
    assert_eq!(kept["spec"]["replicas"], 3);
}

#[tokio::test]
async fn who_writes_otherwise_is_kept_beside_the_appliers() {
    let server = Server::new().await;
    let path = format!("{DEPLOYMENTS}/d");
    apply(&server, &path, "fieldManager=helm", &deployment("d"))
        .await
        .expect(201);
    let status = json!({"status": {"observedGeneration": 1, "replicas": 2}});
    server
        .patch(
            &format!("{path}/status?fieldManager=controller"),
            "merge",
            &status,
        )
        .await
        .expect(200);
    let mut object = server
        .patch(
            &format!("{path}?fieldManager=kubectl"),
            "strategic-merge",
            &json!({"metadata": {"annotations": {"a": "b"}}}),
        )
        .await
        .expect(200);
    assert_eq!(
        managers(&object),
        ["helm Apply ", "controller Update status", "kubectl Update "]
    );
    assert_eq!(
        object["metadata"]["managedFields"][1]["fieldsV1"],
        json!({"f:status": {"f:observedGeneration": {}, "f:replicas": {}}})
    );
    // A client that knows nothing of managers sends back what it read, or leaves them out.
    object["metadata"]
        .as_object_mut()
        .expect("metadata")
        .remove("managedFields");
    object["spec"]["template"]["spec"]["containers"][0]["image"] = "busybox:2".into();
    let object = server
        .put(&format!("{path}?fieldManager=old"), &object)
        .await
        .expect(200);
    assert_eq!(
        managers(&object),
        [
            "helm Apply ",
            "controller Update status",
            "kubectl Update ",
            "old Update "
        ]
    );
    let again = server
        .put(&format!("{path}?fieldManager=other"), &object)
        .await
        .expect(200);
    assert_eq!(again, object);
    let refused = apply(&server, &path, "fieldManager=helm", &deployment("d"))
        .await
        .refusal(409);
    assert!(
        refused.ends_with(
            "conflict with \"old\" using apps/v1: .spec.template.spec.containers[name=\"c\"].image"
        ),
        "{refused}"
    );
    let status = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "status": {"replicas": 5}});
    apply(
        &server,
        &format!("{path}/status"),
        "fieldManager=s",
        &status,
    )
    .await
    .expect(409);
    let object = apply(
        &server,
        &format!("{path}/status"),
        "fieldManager=s&force=true",
        &status,
    )
    .await
    .expect(200);
    assert_eq!(
        object["status"],
        json!({"observedGeneration": 1, "replicas": 5})
    );
}

#[tokio::test]
async fn who_resets_the_managers_owns_nothing_until_somebody_applies() {
    let server = Server::new().await;
    let path = format!("{CONFIG_MAPS}/a");
    let mut object = config_map("a");
    object["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "Apply", "apiVersion": "v1", "fieldsV1": {"f:data": {}}}]);
    let made = server.post(CONFIG_MAPS, &object).await.expect(201);
    // the creator's, whoever the creator says it is
    assert_eq!(managers(&made), ["kubernetes-admin Update "]);
    object["metadata"]["managedFields"] = json!([{}]);
    object["data"]["a"] = "c".into();
    let changed = server.put(&path, &object).await.expect(200);
    assert_eq!(changed["metadata"].get("managedFields"), None);
    let refused = apply(&server, &path, "fieldManager=me", &config_map("a"))
        .await
        .refusal(409);
    assert!(
        refused.contains("\"before-first-apply\" using v1: .data.a"),
        "{refused}"
    );
}

#[tokio::test]
async fn what_cannot_be_applied_is_refused() {
    let server = Server::new().await;
    let path = format!("{PODS}/p");
    let refusals = [
        (
            "",
            pod("p"),
            422,
            "fieldManager: Required value: is required for apply patch",
        ),
        (
            "fieldManager=a%07",
            pod("p"),
            422,
            "should only contain printable characters",
        ),
        (
            "fieldManager=a",
            pod("q"),
            400,
            "does not match the name on the URL",
        ),
        (
            "fieldManager=a",
            json!({"apiVersion": "v1", "kind": "Node"}),
            400,
            "cannot be handled as a Pod",
        ),
        ("fieldManager=a", json!([]), 400, "not an object"),
        (
            "fieldManager=a",
            json!({"metadata": {"name": "p", "managedFields": []}}),
            400,
            "managedFields must be nil",
        ),
        (
            "fieldManager=a",
            json!({"spec": {"foo": 1}}),
            400,
            ".spec.foo: field not declared in schema",
        ),
        (
            "fieldManager=a",
            json!({"spec": {"containers": {}}}),
            400,
            "failed to create typed patch object",
        ),
        (
            "fieldManager=a",
            json!({"spec": {"containers": [{"image": "x"}]}}),
            400,
            "omits key field \"name\"",
        ),
        (
            "fieldManager=a",
            json!({"spec": {"containers": [{"name": "c"}, {"name": "c"}]}}),
            400,
            "duplicate entries for key",
        ),
        (
            "fieldManager=a",
            json!({"metadata": {"name": "p"}}),
            422,
            "spec.containers: Required value",
        ),
    ];
    for (query, config, code, words) in refusals {
        let message = apply(&server, &path, query, &config).await.refusal(code);
        assert!(message.contains(words), "{config}: {message}");
    }
    let headers = [("content-type", "application/apply-patch+yaml")];
    server
        .ask("PATCH", &format!("{path}?fieldManager=a"), &headers, "a: [")
        .await
        .refusal(400);
    server.get(&path).await.refusal(404);
    let mut versioned = pod("p");
    versioned["metadata"]["resourceVersion"] = "1".into();
    apply(&server, &path, "fieldManager=a", &pod("p"))
        .await
        .expect(201);
    let message = apply(&server, &path, "fieldManager=a", &versioned)
        .await
        .refusal(409);
    assert!(
        message.contains("the object has been modified"),
        "{message}"
    );
}

#[tokio::test]
async fn every_kind_can_be_applied_again() {
    let server = Server::new().await;
    let objects = [
        (
            "/api/v1/namespaces/n",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": {"a": "b"}}}),
        ),
        (
            "/api/v1/namespaces/default/serviceaccounts/s",
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "s"}, "imagePullSecrets": [{"name": "x"}]}),
        ),
        (
            "/api/v1/namespaces/default/secrets/s",
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "eA=="}}),
        ),
        (
            "/api/v1/namespaces/default/services/s",
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80, "targetPort": "http"}, {"name": "u", "port": 81}]}}),
        ),
        (
            "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/h",
            json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"minReplicas": 1, "maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]}}),
        ),
        (
            "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers/h1",
            json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h1"},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "targetCPUUtilizationPercentage": 50}}),
        ),
    ];
    for (path, object) in objects {
        if path.ends_with("/s") && object["kind"] == "Service" {
            // A name is needed with several ports.
            apply(&server, path, "fieldManager=a", &object)
                .await
                .refusal(422);
            let mut named = object.clone();
            named["spec"]["ports"][0]["name"] = "h".into();
            let made = apply(&server, path, "fieldManager=a", &named)
                .await
                .expect(201);
            assert_eq!(
                apply(&server, path, "fieldManager=a", &named)
                    .await
                    .expect(200),
                made
            );
            continue;
        }
        let made = apply(&server, path, "fieldManager=a", &object)
            .await
            .expect(201);
        let again = apply(&server, path, "fieldManager=a", &object)
            .await
            .expect(200);
        assert_eq!(again, made, "{path}");
    }
}

/// What somebody created is theirs: an apply that takes over from client-side apply removes nothing that others added.
#[tokio::test]
async fn creators_own_what_they_create_and_keep_what_others_add() {
    let server = Server::new().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let one = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": {"a": "1"}});
    let made = server
        .ask(
            "POST",
            &format!("{maps}?fieldManager=kubectl-client-side-apply"),
            &[("content-type", "application/json")],
            one.to_string(),
        )
        .await
        .expect(201);
    let managers = &made["metadata"]["managedFields"];
    assert_eq!(managers[0]["manager"], "kubectl-client-side-apply");
    assert_eq!(managers[0]["operation"], "Update");
    // the map itself is its maker's, too
    assert_eq!(
        managers[0]["fieldsV1"],
        json!({"f:data": {".": {}, "f:a": {}}})
    );
    let merge = [("content-type", "application/merge-patch+json")];
    let added = json!({"data": {"theirs": "yes"}}).to_string();
    let patched = server
        .ask(
            "PATCH",
            &format!("{maps}/one?fieldManager=other"),
            &merge,
            added,
        )
        .await
        .expect(200);
    let managers = patched["metadata"]["managedFields"]
        .as_array()
        .expect("managers");
    assert_eq!(managers.len(), 2, "{managers:?}");
    let theirs = managers
        .iter()
        .find(|m| m["manager"] == "other")
        .expect("other");
    assert_eq!(theirs["fieldsV1"], json!({"f:data": {"f:theirs": {}}}));
}

#[tokio::test]
async fn a_size_is_applied_through_its_subresource() {
    let server = Server::new().await;
    server
        .post(DEPLOYMENTS, &deployment("web"))
        .await
        .expect(201);
    let (object, path) = (
        format!("{DEPLOYMENTS}/web"),
        format!("{DEPLOYMENTS}/web/scale"),
    );
    let scale = |replicas: i64| json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": replicas}});
    // whoever made it owns its size
    let refused = apply(&server, &path, "fieldManager=scaler", &scale(7)).await;
    let message = refused.expect(409)["message"].clone();
    let words = message.as_str().unwrap_or_default();
    assert!(
        words.starts_with("Apply failed with 1 conflict: conflict with"),
        "{words}"
    );
    assert!(words.ends_with(".spec.replicas"), "{words}");
    let forced = apply(&server, &path, "fieldManager=scaler&force=true", &scale(7))
        .await
        .expect(200);
    assert_eq!(
        (&forced["kind"], &forced["spec"]["replicas"]),
        (&json!("Scale"), &json!(7))
    );
    let now = server.get(&object).await.expect(200);
    assert_eq!(now["spec"]["replicas"], 7);
    let entries = now["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let own = entries
        .iter()
        .find(|entry| entry["manager"] == "scaler")
        .expect("an owner");
    assert_eq!(
        (
            &own["operation"],
            &own["subresource"],
            &own["apiVersion"],
            &own["fieldsV1"]
        ),
        (
            &json!("Apply"),
            &json!("scale"),
            &json!("apps/v1"),
            &json!({"f:spec": {"f:replicas": {}}})
        )
    );
    for (config, code, said) in [
        (scale(-1), 422, "must be greater than or equal to 0"),
        (
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}),
            400,
            "autoscaling/v1",
        ),
        (
            json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "other"}}),
            400,
            "does not match",
        ),
        (
            json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"size": 1}}),
            400,
            "size",
        ),
    ] {
        let refused = apply(&server, &path, "fieldManager=scaler&force=true", &config).await;
        let status = refused.expect(code);
        assert!(
            status["message"]
                .as_str()
                .unwrap_or_default()
                .contains(said),
            "{status}"
        );
    }
    let refused = apply(&server, &path, "force=true", &scale(1))
        .await
        .expect(422);
    assert!(
        refused["message"]
            .as_str()
            .unwrap_or_default()
            .contains("fieldManager"),
        "{refused}"
    );
    let missing = format!("{DEPLOYMENTS}/none/scale");
    let mut other = scale(1);
    other["metadata"]["name"] = json!("none");
    apply(&server, &missing, "fieldManager=scaler", &other)
        .await
        .expect(404);
}

/// The right to patch is none to make.
#[tokio::test]
async fn applying_what_is_not_there_needs_the_right_to_create() {
    use crate::rbac::{BINDINGS, ROLES, binding, role, rule};

    let mut server = Server::new().await;
    let rules = json!([rule(&["get", "patch"], "", &["configmaps"])]);
    server
        .post(ROLES, &role("patcher", rules))
        .await
        .expect(201);
    let bound = binding("jane", "Role/patcher", "jane");
    server.post(BINDINGS, &bound).await.expect(201);
    server.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    server.turn("jane", &[]);
    server.until(&format!("{CONFIG_MAPS}/a"), 200).await;
    for (name, query, code) in [
        ("a", "fieldManager=me", 200),
        ("b", "fieldManager=me", 403),
        ("b", "fieldManager=me&dryRun=All", 403),
    ] {
        let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"x": "y"}}});
        let path = format!("{CONFIG_MAPS}/{name}");
        let answer = apply(&server, &path, query, &config).await;
        assert_eq!(answer.code, code, "{name} {query}: {}", answer.body);
        if code == 403 {
            let expected = "configmaps \"b\" is forbidden: User \"jane\" cannot create resource \"configmaps\" in API group \"\" in the namespace \"default\"";
            assert_eq!(answer.refusal(403), expected);
        }
    }
    server.get(&format!("{CONFIG_MAPS}/b")).await.refusal(404);
}

#[tokio::test]
async fn what_was_deleted_is_not_made_anew_by_whoever_meant_it() {
    let server = Server::new().await;
    let path = format!("{CONFIG_MAPS}/a");
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "of-old"}});
    let refused = apply(&server, &path, "fieldManager=me", &config).await;
    let expected =
        "uid mismatch: the provided object specified uid of-old, and no existing object was found";
    let said = refused.refusal(409);
    assert!(said.contains(expected), "{said}");
    server.get(&path).await.refusal(404);
}

/// Who applied without the server's help first, and goes back to it, finds what was applied last.
#[tokio::test]
async fn kubectls_annotation_follows_what_is_applied() {
    const LAST: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let server = Server::new().await;
    let path = format!("{CONFIG_MAPS}/a");
    let mut object = config_map("a");
    object["metadata"]["annotations"] = json!({LAST: "{}", "own": "words"});
    server.post(CONFIG_MAPS, &object).await.expect(201);
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}, "data": {"c": "d"}});
    let other = apply(&server, &path, "fieldManager=other&force=true", &config).await;
    assert_eq!(other.expect(200)["metadata"]["annotations"][LAST], "{}");
    let own = apply(&server, &path, "fieldManager=kubectl&force=true", &config).await;
    let annotations = own.expect(200)["metadata"]["annotations"].clone();
    let last = annotations[LAST].as_str().expect("kept");
    assert_eq!(serde_json::from_str::<Value>(last).expect("JSON"), config);
    assert!(last.ends_with("}\n"), "as upstream writes it: {last:?}");
    assert_eq!(annotations["own"], "words");
    // without it, none comes
    let path = format!("{CONFIG_MAPS}/b");
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "data": {"c": "d"}});
    for code in [201, 200] {
        let made = apply(&server, &path, "fieldManager=kubectl", &config).await;
        assert_eq!(made.expect(code)["metadata"].get("annotations"), None);
    }
}
