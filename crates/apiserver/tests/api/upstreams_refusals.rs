//! What is refused, or furnished, because upstream does, and belongs to no kind's own tests.

use serde_json::{Value, json};

use crate::server::{PODS, Server, pod};

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
