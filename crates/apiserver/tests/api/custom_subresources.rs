//! Status and scale of custom objects, and who may ask for them.

use apiserver::Identity;
use serde_json::json;

use crate::custom_definitions::{DEFINITIONS, WIDGETS, widget, widgets, with_widgets};
use crate::server::Server;

#[tokio::test]
async fn the_status_is_written_alone() {
    let server = with_widgets().await;
    let created = server.post(WIDGETS, &widget("a")).await.expect(201);
    let path = format!("{WIDGETS}/a/status");
    let mut object = created.clone();
    object["status"] = json!({"phase": "Ready", "unknown": 1});
    object["spec"]["color"] = "green".into();
    object["metadata"]["labels"] = json!({"a": "b"});
    let written = server.put(&path, &object).await.expect(200);
    assert_eq!(written["status"], json!({"phase": "Ready"}));
    assert_eq!(written["spec"], created["spec"]);
    assert!(written["metadata"].get("labels").is_none());
    assert_eq!(written["metadata"]["generation"], 1);
    let patched = server
        .patch(&path, "merge", &json!({"status": {"replicas": 2}}))
        .await
        .expect(200);
    assert_eq!(patched["status"], json!({"phase": "Ready", "replicas": 2}));
    let message = server
        .patch(&path, "merge", &json!({"status": {"replicas": "x"}}))
        .await
        .refusal(422);
    assert!(
        message.contains("status.replicas in body must be of type integer"),
        "{message}"
    );
    assert_eq!(server.get(&path).await.expect(200), patched);
}

#[tokio::test]
async fn scale_reads_and_writes_by_path() {
    let server = with_widgets().await;
    let mut object = widget("a");
    object["spec"]["replicas"] = 2.into();
    server.post(WIDGETS, &object).await.expect(201);
    server
        .patch(
            &format!("{WIDGETS}/a/status"),
            "merge",
            &json!({"status": {"replicas": 1, "selector": "app=a"}}),
        )
        .await
        .expect(200);
    let path = format!("{WIDGETS}/a/scale");
    let mut scale = server.get(&path).await.expect(200);
    assert_eq!(
        (&scale["kind"], &scale["apiVersion"]),
        (&json!("Scale"), &json!("autoscaling/v1"))
    );
    assert_eq!(scale["spec"], json!({"replicas": 2}));
    assert_eq!(scale["status"], json!({"replicas": 1, "selector": "app=a"}));
    scale["spec"]["replicas"] = 4.into();
    assert_eq!(
        server.put(&path, &scale).await.expect(200)["spec"]["replicas"],
        4
    );
    let patched = server
        .patch(&path, "merge", &json!({"spec": {"replicas": 5}}))
        .await
        .expect(200);
    assert_eq!(patched["spec"]["replicas"], 5);
    let object = server.get(&format!("{WIDGETS}/a")).await.expect(200);
    assert_eq!(object["spec"]["replicas"], 5);
    assert_eq!(object["metadata"]["generation"], 3);
    server.put(&path, &scale).await.refusal(409);
    server.post(WIDGETS, &widget("b")).await.expect(201);
    let message = server.get(&format!("{WIDGETS}/b/scale")).await.refusal(500);
    assert!(
        message.contains("the spec replicas field \".spec.replicas\" does not exist"),
        "{message}"
    );
    let path = format!("{WIDGETS}/b/scale");
    let nothing = server.patch(&path, "merge", &json!({})).await.refusal(400);
    assert!(
        nothing.contains("the spec replicas field \".spec.replicas\" cannot be empty"),
        "{nothing}"
    );
    let three = json!({"spec": {"replicas": 3}});
    let scaled = server.patch(&path, "merge", &three).await.expect(200);
    assert_eq!(scaled["spec"], three["spec"]);
}

#[tokio::test]
async fn subresources_that_are_not_asked_for_are_not_there() {
    let server = Server::new().await;
    let mut definition = widgets();
    definition["spec"]["versions"][0]
        .as_object_mut()
        .expect("a version")
        .remove("subresources");
    server.post(DEFINITIONS, &definition).await.expect(201);
    let mut object = widget("a");
    object["status"] = json!({"phase": "Mine"});
    let created = server.post(WIDGETS, &object).await.expect(201);
    assert_eq!(
        created["status"]["phase"], "Mine",
        "the status is a field like others"
    );
    server
        .get(&format!("{WIDGETS}/a/status"))
        .await
        .refusal(404);
    server.get(&format!("{WIDGETS}/a/scale")).await.refusal(404);
    let patched = server
        .patch(
            &format!("{WIDGETS}/a"),
            "merge",
            &json!({"status": {"phase": "Other"}}),
        )
        .await
        .expect(200);
    assert_eq!(patched["metadata"]["generation"], 2, "any change counts");
}

#[tokio::test]
async fn roles_say_who_may() {
    let mut server = with_widgets().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({"metadata": {"name": "widget-viewer"},
        "rules": [{"apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["get", "list", "watch"]}]});
    let binding = |name: &str, role: &str| {
        json!({"metadata": {"name": name}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}]})
    };
    server
        .post(
            &format!("{rbac}/clusterrolebindings"),
            &binding("vera", "widget-viewer"),
        )
        .await
        .expect(201);
    server
        .post(
            &format!("{rbac}/clusterrolebindings"),
            &binding("eddie", "edit"),
        )
        .await
        .expect(201);
    let admin = std::mem::replace(&mut server.identity, Identity::new("eddie", &[]));
    let message = server.get(WIDGETS).await.refusal(403);
    assert!(
        message.contains("cannot list resource \"widgets\" in API group \"example.com\""),
        "{message}"
    );
    server.identity = admin;
    server
        .post(&format!("{rbac}/clusterroles"), &role)
        .await
        .expect(201);
    server.identity = Identity::new("vera", &[]);
    for _ in 0..500 {
        if server.get(WIDGETS).await.code == 200 {
            server.post(WIDGETS, &widget("a")).await.refusal(403);
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the role does not count");
}
