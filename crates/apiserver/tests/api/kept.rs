//! Kinds that are kept and checked and do not act, APIServices, ComponentStatuses and RuntimeClasses.

use serde_json::{Value, json};

use crate::server::{PODS, Server, pod};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

#[tokio::test]
async fn webhooks_and_policies_are_kept_with_a_warning() {
    let server = Server::new().await;
    let base = "/apis/admissionregistration.k8s.io/v1";
    let webhook = json!({"name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"name": "s", "namespace": "n"}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]});
    for plural in [
        "validatingwebhookconfigurations",
        "mutatingwebhookconfigurations",
    ] {
        let path = format!("{base}/{plural}");
        let object = json!({"metadata": {"name": "a"}, "webhooks": [webhook]});
        let answer = server.post(&path, &object).await;
        let warning = answer.headers["warning"].to_str().expect("text").to_owned();
        assert!(warning.contains("is kept and checked only"), "{warning}");
        let made = answer.expect(201);
        assert_eq!(made["webhooks"][0]["failurePolicy"], "Fail");
        assert_eq!(made["webhooks"][0]["clientConfig"]["service"]["port"], 443);
        assert_eq!(made["metadata"]["generation"], 1);
        let change = json!([{"op": "replace", "path": "/webhooks/0/timeoutSeconds", "value": 5}]);
        let changed = server
            .patch(&format!("{path}/a"), "json", &change)
            .await
            .expect(200);
        assert_eq!(changed["metadata"]["generation"], 2);
        let bad = json!({"metadata": {"name": "b"}, "webhooks": [{"name": "b"}]});
        server.post(&path, &bad).await.refusal(422);
    }
    // nobody asks them
    server.post(PODS, &pod("free")).await.expect(201);
    let policy = json!({"metadata": {"name": "p"}, "spec": {"validations": [{"expression": "false"}],
        "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]}}});
    let made = server
        .post(&format!("{base}/validatingadmissionpolicies"), &policy)
        .await
        .expect(201);
    assert_eq!(made["spec"]["failurePolicy"], "Fail");
    assert_eq!(
        made["spec"]["matchConstraints"]["matchPolicy"],
        "Equivalent"
    );
    let binding = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}});
    server
        .post(
            &format!("{base}/validatingadmissionpolicybindings"),
            &binding,
        )
        .await
        .expect(201);
    server.post(PODS, &pod("still-free")).await.expect(201);
}

#[tokio::test]
async fn every_group_version_has_an_api_service() {
    let server = Server::new().await;
    let list = server.get(SERVICES).await.expect(200);
    let names: Vec<&str> = list["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| item["metadata"]["name"].as_str().expect("a name"))
        .collect();
    for name in [
        "v1.",
        "v1.apps",
        "v2.autoscaling",
        "v1.networking.k8s.io",
        "v1.admissionregistration.k8s.io",
    ] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    let core = server.get(&format!("{SERVICES}/v1.")).await.expect(200);
    assert_eq!(core["spec"]["groupPriorityMinimum"], 18_000);
    let condition = &core["status"]["conditions"][0];
    assert_eq!(condition["reason"], "Local");
    assert_eq!(
        condition["message"],
        "Local APIServices are always available"
    );
    let remote = json!({"metadata": {"name": "v1.example.com"}, "spec": {"group": "example.com", "version": "v1",
        "groupPriorityMinimum": 100, "versionPriority": 10, "service": {"namespace": "n", "name": "s"}}});
    let made = server.post(SERVICES, &remote).await.expect(201);
    assert_eq!(made["spec"]["service"]["port"], 443);
    let condition = &made["status"]["conditions"][0];
    assert_eq!(
        (&condition["status"], &condition["reason"]),
        (&json!("False"), &json!("FailedDiscoveryCheck"))
    );
    let mut wrong = remote.clone();
    wrong["metadata"]["name"] = "other".into();
    let refused = server.post(SERVICES, &wrong).await.refusal(422);
    assert!(
        refused.contains("must be `spec.version+\".\"+spec.group`: \"v1.example.com\""),
        "{refused}"
    );
}

#[tokio::test]
async fn components_are_healthy() {
    let server = Server::new().await;
    let answer = server.get("/api/v1/componentstatuses").await;
    let warning = answer.headers["warning"].to_str().expect("text").to_owned();
    assert!(warning.contains("v1 ComponentStatus is deprecated in v1.19+"));
    let list = answer.expect(200);
    assert_eq!(list["items"].as_array().map(Vec::len), Some(3));
    assert_eq!(list["items"][0]["conditions"][0]["status"], "True");
    let one = server
        .get("/api/v1/componentstatuses/etcd-0")
        .await
        .expect(200);
    assert_eq!(one["conditions"][0]["message"], "ok");
    server
        .get("/api/v1/componentstatuses/other")
        .await
        .expect(404);
    server
        .post("/api/v1/componentstatuses", &json!({}))
        .await
        .expect(405);
    let resources = server.get("/api/v1").await.expect(200);
    let entry = resources["resources"]
        .as_array()
        .expect("resources")
        .iter()
        .find(|entry| entry["name"] == "componentstatuses")
        .expect("listed");
    assert_eq!(entry["verbs"], json!(["get", "list"]));
}

#[tokio::test]
async fn pods_get_what_their_runtime_class_says() {
    let server = Server::new().await;
    let classes = "/apis/node.k8s.io/v1/runtimeclasses";
    let mut asking = pod("a");
    asking["spec"]["runtimeClassName"] = "sandboxed".into();
    assert_eq!(
        server.post(PODS, &asking).await.refusal(403),
        "pods \"a\" is forbidden: pod rejected: RuntimeClass \"sandboxed\" not found"
    );
    let class = json!({"metadata": {"name": "sandboxed"}, "handler": "runc", "overhead": {"podFixed": {"cpu": "10m"}},
        "scheduling": {"nodeSelector": {"kind": "sandbox"}}});
    server.post(classes, &class).await.expect(201);
    let made = server.post(PODS, &asking).await.expect(201);
    assert_eq!(made["spec"]["overhead"], json!({"cpu": "10m"}));
    assert_eq!(made["spec"]["nodeSelector"], json!({"kind": "sandbox"}));
    let mut own = pod("b");
    own["spec"]["overhead"] = json!({"cpu": "1"});
    let refused = server.post(PODS, &own).await.refusal(403);
    assert!(
        refused.contains("Pod Overhead set without corresponding RuntimeClass defined Overhead")
    );
    let refused = server
        .patch(
            &format!("{classes}/sandboxed"),
            "merge",
            &json!({"handler": "other"}),
        )
        .await;
    assert!(
        refused
            .refusal(422)
            .contains("handler: Invalid value: \"other\": field is immutable")
    );
}

#[tokio::test]
async fn every_other_kind_is_kept() {
    let server = Server::new().await;
    let named = |mut object: Value| {
        object["metadata"] = json!({"name": "a"});
        object
    };
    let constraints = json!({"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "operations": ["CREATE"]}]});
    for (path, object) in [
        ("storage.k8s.io/v1/csidrivers", json!({"spec": {}})),
        (
            "storage.k8s.io/v1/csinodes",
            json!({"spec": {"drivers": []}}),
        ),
        (
            "storage.k8s.io/v1/volumeattachments",
            json!({"spec": {"attacher": "x", "nodeName": "n", "source": {"persistentVolumeName": "v"}}}),
        ),
        (
            "storage.k8s.io/v1/namespaces/default/csistoragecapacities",
            json!({"storageClassName": "c", "capacity": "1Gi"}),
        ),
        (
            "storage.k8s.io/v1/volumeattributesclasses",
            json!({"driverName": "x", "parameters": {"a": "b"}}),
        ),
        (
            "flowcontrol.apiserver.k8s.io/v1/flowschemas",
            json!({"spec": {"priorityLevelConfiguration": {"name": "p"}}}),
        ),
        (
            "flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations",
            json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}}),
        ),
        (
            "admissionregistration.k8s.io/v1/mutatingadmissionpolicies",
            json!({"spec": {"reinvocationPolicy": "Never", "matchConstraints": constraints,
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]}}),
        ),
        (
            "admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings",
            json!({"spec": {"policyName": "p"}}),
        ),
    ] {
        let path = format!("/apis/{path}");
        let made = server.post(&path, &named(object)).await.expect(201);
        let read = server.get(&format!("{path}/a")).await.expect(200);
        assert_eq!(made, read, "{path}");
        let table = server
            .ask(
                "GET",
                &path,
                &[("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")],
                "",
            )
            .await
            .expect(200);
        let columns = table["columnDefinitions"]
            .as_array()
            .expect("columns")
            .len();
        let cells = table["rows"][0]["cells"].as_array().expect("cells").len();
        assert_eq!(columns, cells, "{path}");
        server
            .delete(&format!("{path}/a"), &Value::Null)
            .await
            .expect(200);
        server.get(&format!("{path}/a")).await.expect(404);
    }
}

#[tokio::test]
async fn a_binding_by_itself_binds_its_pod() {
    let server = Server::new().await;
    server.post(PODS, &pod("a")).await.expect(201);
    let path = "/api/v1/namespaces/default/bindings";
    let binding =
        |pod: &str| json!({"metadata": {"name": pod}, "target": {"kind": "Node", "name": "one"}});
    server.post(path, &binding("a")).await.expect(201);
    let bound = server.get(&format!("{PODS}/a")).await.expect(200);
    assert_eq!(bound["spec"]["nodeName"], "one");
    server.post(path, &binding("a")).await.refusal(409);
    server.post(path, &binding("b")).await.refusal(404);
    server.get(path).await.expect(405);
}
