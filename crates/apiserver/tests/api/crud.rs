//! Create, get, update: what the server sets, and optimistic concurrency.

use serde_json::json;

use crate::server::{
    CONFIG_MAPS, DEPLOYMENTS, PODS, SERVICES, Server, config_map, deployment, pod, service,
};

#[tokio::test]
async fn create_sets_what_is_the_servers() {
    let server = Server::new().await;
    let mut object = config_map("a");
    object["metadata"]["uid"] = "mine".into();
    object["metadata"]["creationTimestamp"] = serde_json::Value::Null;
    object["metadata"]["managedFields"] = json!([]);
    let created = server.post(CONFIG_MAPS, &object).await.expect(201);
    assert_eq!(created["metadata"]["namespace"], "default");
    assert_ne!(created["metadata"]["uid"], "mine");
    assert!(created["metadata"]["creationTimestamp"].is_string());
    assert_eq!(
        created["metadata"]["managedFields"][0]["operation"],
        "Update"
    );
    assert!(
        created["metadata"]["resourceVersion"]
            .as_str()
            .is_some_and(|v| v.parse::<u64>().is_ok())
    );
    assert_eq!(
        server.get(&format!("{CONFIG_MAPS}/a")).await.expect(200),
        created
    );
    let message = server
        .post(CONFIG_MAPS, &config_map("a"))
        .await
        .refusal(409);
    assert_eq!(message, "configmaps \"a\" already exists");
    let message = server.get(&format!("{CONFIG_MAPS}/b")).await.refusal(404);
    assert_eq!(message, "configmaps \"b\" not found");
}

#[tokio::test]
async fn a_put_makes_what_upstreams_makes() {
    let server = Server::new().await;
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    for (path, object) in [
        (SERVICES, service("web")),
        (roles, json!({"metadata": {"name": "web"}, "rules": []})),
        (leases, json!({"metadata": {"name": "web"}})),
    ] {
        let one = format!("{path}/web");
        let mut versioned = object.clone();
        versioned["metadata"]["resourceVersion"] = "1".into();
        server.put(&one, &versioned).await.expect(404);
        let tried = server.put(&format!("{one}?dryRun=All"), &object).await;
        tried.expect(201);
        server.get(&one).await.expect(404);
        let made = server.put(&one, &object).await.expect(201);
        assert!(made["metadata"]["uid"].is_string(), "{made}");
        let again = server.put(&one, &made).await.expect(200);
        assert_eq!(again["metadata"]["uid"], made["metadata"]["uid"]);
    }
    let message = server
        .put(&format!("{CONFIG_MAPS}/a"), &config_map("a"))
        .await
        .refusal(404);
    assert_eq!(message, "configmaps \"a\" not found");
    let status = format!("{SERVICES}/none/status");
    server.put(&status, &service("none")).await.expect(404);
}

#[tokio::test]
async fn names_are_generated() {
    let server = Server::new().await;
    let object = json!({"metadata": {"generateName": "web-"}});
    let one = server.post(CONFIG_MAPS, &object).await.expect(201);
    let two = server.post(CONFIG_MAPS, &object).await.expect(201);
    let name = one["metadata"]["name"].as_str().expect("a name");
    assert!(name.starts_with("web-") && name.len() == 9);
    assert_ne!(one["metadata"]["name"], two["metadata"]["name"]);
}

#[tokio::test]
async fn updates_compare_and_swap() {
    let server = Server::new().await;
    let path = format!("{CONFIG_MAPS}/a");
    let created = server.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let mut second = created.clone();
    second["data"]["a"] = "c".into();
    let updated = server.put(&path, &second).await.expect(200);
    assert_ne!(
        updated["metadata"]["resourceVersion"],
        created["metadata"]["resourceVersion"]
    );
    assert_eq!(updated["metadata"]["uid"], created["metadata"]["uid"]);
    let answer = server.put(&path, &second).await;
    assert_eq!(answer.body["reason"], "Conflict");
    assert_eq!(
        answer.refusal(409),
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    // Without a version the write is unconditional; the same again changes nothing.
    let mut third = config_map("a");
    third["data"]["a"] = "d".into();
    let one = server.put(&path, &third).await.expect(200);
    let two = server.put(&path, &third).await.expect(200);
    assert_eq!(
        one["metadata"]["resourceVersion"],
        two["metadata"]["resourceVersion"]
    );
    third["metadata"]["uid"] = "other".into();
    assert!(
        server
            .put(&path, &third)
            .await
            .refusal(409)
            .contains("Precondition failed: UID in precondition: other")
    );
    third["metadata"] = json!({"name": "b"});
    assert_eq!(
        server.put(&path, &third).await.refusal(400),
        "the name of the object (b) does not match the name on the URL (a)"
    );
}

#[tokio::test]
async fn generation_counts_spec_changes_only() {
    let server = Server::new().await;
    let path = format!("{DEPLOYMENTS}/web");
    let mut object = server
        .post(DEPLOYMENTS, &deployment("web"))
        .await
        .expect(201);
    assert_eq!(object["metadata"]["generation"], 1);
    object["metadata"]["labels"] = json!({"a": "b"});
    let mut object = server.put(&path, &object).await.expect(200);
    assert_eq!(object["metadata"]["generation"], 1);
    object["spec"]["replicas"] = 5.into();
    let object = server.put(&path, &object).await.expect(200);
    assert_eq!(object["metadata"]["generation"], 2);
}

#[tokio::test]
async fn status_and_spec_are_apart() {
    let server = Server::new().await;
    let path = format!("{DEPLOYMENTS}/web");
    let mut object = deployment("web");
    object["status"] = json!({"replicas": 7});
    let mut object = server.post(DEPLOYMENTS, &object).await.expect(201);
    assert_eq!(object["status"], json!({}));
    object["status"] = json!({"replicas": 7});
    object["spec"]["replicas"] = 9.into();
    let after = server
        .put(&format!("{path}/status"), &object)
        .await
        .expect(200);
    assert_eq!(
        (&after["status"]["replicas"], &after["spec"]["replicas"]),
        (&json!(7), &json!(2))
    );
    let mut object = after.clone();
    object["status"] = json!({"replicas": 1});
    object["spec"]["replicas"] = 3.into();
    let after = server.put(&path, &object).await.expect(200);
    assert_eq!(
        (&after["status"]["replicas"], &after["spec"]["replicas"]),
        (&json!(7), &json!(3))
    );
    let after = server
        .patch(
            &format!("{path}/status"),
            "merge",
            &json!({"status": {"replicas": 4}, "spec": {"replicas": 1}}),
        )
        .await
        .expect(200);
    assert_eq!(
        (&after["status"]["replicas"], &after["spec"]["replicas"]),
        (&json!(4), &json!(3))
    );
}

#[tokio::test]
async fn namespaces_must_be_there_and_alive() {
    let server = Server::new().await;
    let message = server
        .post("/api/v1/namespaces/nope/configmaps", &config_map("a"))
        .await
        .refusal(404);
    assert_eq!(message, "namespaces \"nope\" not found");
    let namespace = server
        .post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}}))
        .await
        .expect(201);
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(namespace["status"]["phase"], "Active");
    assert_eq!(
        namespace["metadata"]["labels"]["kubernetes.io/metadata.name"],
        "n"
    );
    server
        .delete("/api/v1/namespaces/n", &json!(null))
        .await
        .expect(200);
    let answer = server
        .post("/api/v1/namespaces/n/configmaps", &config_map("a"))
        .await;
    assert_eq!(
        answer.body["details"]["causes"][0]["reason"],
        "NamespaceTerminating"
    );
    assert_eq!(
        answer.refusal(403),
        "configmaps \"a\" is forbidden: unable to create new content in namespace n because it is being terminated"
    );
    let mut object = config_map("a");
    object["metadata"]["namespace"] = "other".into();
    assert!(
        server
            .post(CONFIG_MAPS, &object)
            .await
            .refusal(400)
            .contains("does not match the namespace sent on the request")
    );
}

#[tokio::test]
async fn dry_runs_leave_no_trace() {
    let server = Server::new().await;
    let created = server
        .post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("a"))
        .await
        .expect(201);
    assert!(created["metadata"]["uid"].is_string());
    server.get(&format!("{CONFIG_MAPS}/a")).await.refusal(404);
    server.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    server
        .post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("a"))
        .await
        .refusal(409);
    let changed = server
        .patch(
            &format!("{CONFIG_MAPS}/a?dryRun=All"),
            "merge",
            &json!({"data": {"x": "y"}}),
        )
        .await
        .expect(200);
    assert_eq!(changed["data"]["x"], "y");
    server
        .delete(&format!("{CONFIG_MAPS}/a?dryRun=All"), &json!(null))
        .await
        .expect(200);
    let kept = server.get(&format!("{CONFIG_MAPS}/a")).await.expect(200);
    assert_eq!(kept["data"], json!({"a": "b"}));
    server
        .post(&format!("{CONFIG_MAPS}?dryRun=Some"), &config_map("b"))
        .await
        .refusal(422);
}

#[tokio::test]
async fn unknown_fields_survive_and_are_told() {
    let server = Server::new().await;
    let mut object = config_map("a");
    object["future"] = json!({"x": 1});
    let answer = server
        .post(&format!("{CONFIG_MAPS}?fieldValidation=Strict"), &object)
        .await;
    assert_eq!(
        answer.refusal(400),
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"future\""
    );
    let answer = server.post(CONFIG_MAPS, &object).await;
    assert_eq!(
        answer.headers["warning"],
        "299 - \"unknown field \\\"future\\\"\""
    );
    answer.expect(201);
    let answer = server
        .patch(
            &format!("{CONFIG_MAPS}/a?fieldValidation=Strict"),
            "merge",
            &json!({"data": {"q": "r"}}),
        )
        .await;
    assert_eq!(answer.expect(200)["future"], json!({"x": 1}));
    object["metadata"]["name"] = "b".into();
    let answer = server
        .post(&format!("{CONFIG_MAPS}?fieldValidation=Ignore"), &object)
        .await;
    assert!(!answer.headers.contains_key("warning"));
}

#[tokio::test]
async fn pods_get_what_admission_gives() {
    let server = Server::new().await;
    let created = server.post(PODS, &pod("p")).await.expect(201);
    let spec = &created["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["restartPolicy"], "Always");
    assert_eq!(spec["priority"], 0);
    assert_eq!(spec["enableServiceLinks"], true);
    assert_eq!(
        created["status"],
        json!({"phase": "Pending", "qosClass": "BestEffort"})
    );
}

#[tokio::test]
async fn services_get_addresses() {
    let server = Server::new().await;
    let first = server
        .get(&format!("{SERVICES}/kubernetes"))
        .await
        .expect(200);
    assert_eq!(first["spec"]["clusterIP"], "10.96.0.1");
    let a = server.post(SERVICES, &service("a")).await.expect(201);
    let b = server.post(SERVICES, &service("b")).await.expect(201);
    assert_ne!(a["spec"]["clusterIP"], b["spec"]["clusterIP"]);
    let mut taken = service("c");
    taken["spec"]["clusterIP"] = a["spec"]["clusterIP"].clone();
    assert!(
        server
            .post(SERVICES, &taken)
            .await
            .refusal(422)
            .contains("provided IP is already allocated")
    );
    server
        .delete(&format!("{SERVICES}/a"), &json!(null))
        .await
        .expect(200);
    server.post(SERVICES, &taken).await.expect(201);
    let mut headless = service("d");
    headless["spec"]["clusterIP"] = "None".into();
    assert_eq!(
        server.post(SERVICES, &headless).await.expect(201)["spec"]["clusterIPs"],
        json!(["None"])
    );
    // An update that does not name the address keeps it.
    let mut update = service("b");
    update["spec"]["ports"][0]["port"] = 81.into();
    let after = server
        .put(&format!("{SERVICES}/b"), &update)
        .await
        .expect(200);
    assert_eq!(after["spec"]["clusterIP"], b["spec"]["clusterIP"]);
}

/// An operator that adds its reference each time changes nothing the second time.
#[tokio::test]
async fn repeated_owner_references_are_one() {
    let server = Server::new().await;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "1"});
    let mut owned = config_map("owned");
    owned["metadata"]["ownerReferences"] = json!([owner, owner]);
    let made = server.post(CONFIG_MAPS, &owned).await.expect(201);
    assert_eq!(made["metadata"]["ownerReferences"], json!([owner]));
    let again = json!([{"op": "add", "path": "/metadata/ownerReferences/-", "value": owner}]);
    let path = format!("{CONFIG_MAPS}/owned");
    let patched = server.patch(&path, "json", &again).await.expect(200);
    assert_eq!(patched["metadata"], made["metadata"]);
}

/// Who replaces a lease must have seen it: else a lock were none.
#[tokio::test]
async fn a_lease_is_replaced_by_who_has_seen_it() {
    let server = Server::new().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = json!({"metadata": {"name": "lock"}, "spec": {"holderIdentity": "a"}});
    let made = server.post(leases, &lease).await.expect(201);
    let path = format!("{leases}/lock");
    let refused = server.put(&path, &lease).await.refusal(422);
    assert!(
        refused.contains("must be specified for an update"),
        "{refused}"
    );
    server.put(&path, &made).await.expect(200);
}

/// As Java's client expects it.
#[tokio::test]
async fn some_kinds_answer_deletions_with_what_is_gone() {
    let server = Server::new().await;
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1"}}});
    server.post(quotas, &quota).await.expect(201);
    let gone = server.delete(&format!("{quotas}/q"), &json!(null)).await;
    assert_eq!(gone.expect(200)["kind"], "ResourceQuota");
    server.post(CONFIG_MAPS, &config_map("c")).await.expect(201);
    let gone = server
        .delete(&format!("{CONFIG_MAPS}/c"), &json!(null))
        .await;
    assert_eq!(gone.expect(200)["kind"], "Status");
}

/// Where in the world a pod is its node says.
#[tokio::test]
async fn pods_get_the_places_of_their_nodes() {
    let server = Server::new().await;
    let (zone, region) = (
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
    );
    let node = json!({"metadata": {"name": "n", "labels": {zone: "z", region: "r", "other": "x"}}});
    server.post("/api/v1/nodes", &node).await.expect(201);
    let mut placed = pod("p");
    placed["metadata"]["labels"] = json!({region: "mine"});
    server.post(PODS, &placed).await.expect(201);
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    server
        .post(&format!("{PODS}/p/binding"), &binding)
        .await
        .expect(201);
    let bound = server.get(&format!("{PODS}/p")).await.expect(200);
    assert_eq!(
        bound["metadata"]["labels"],
        json!({zone: "z", region: "mine"})
    );
}
