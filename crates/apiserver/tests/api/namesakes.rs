//! Custom kinds that are called like built-in ones, as those of many operators are: `bindings`, `services`, `jobs`.

use serde_json::{Value, json};

use crate::custom_definitions::{DEFINITIONS, widget, widgets};
use crate::server::Server;

/// A server with widgets that have this plural; the path of those in `default`.
async fn called(plural: &str) -> (Server, String) {
    let server = Server::new().await;
    let mut definition = widgets();
    definition["metadata"]["name"] = format!("{plural}.example.com").into();
    definition["spec"]["names"] = json!({"plural": plural, "kind": "Widget"});
    server.post(DEFINITIONS, &definition).await.expect(201);
    (
        server,
        format!("/apis/example.com/v1/namespaces/default/{plural}"),
    )
}

#[tokio::test]
async fn they_live_as_others_do() {
    for plural in [
        "bindings",
        "services",
        "jobs",
        "namespaces",
        "pods",
        "nodes",
        "replicationcontrollers",
        "componentstatuses",
        "persistentvolumeclaims",
        "apiservices",
        "certificatesigningrequests",
        "priorityclasses",
    ] {
        let (server, path) = called(plural).await;
        let made = server.post(&path, &widget("default")).await.expect(201);
        let own = format!("{path}/default");
        assert_eq!(server.get(&own).await.expect(200), made, "{plural}");
        let change = json!({"spec": {"size": 5}});
        let changed = server.patch(&own, "merge", &change).await.expect(200);
        let mut expected = made["spec"].clone();
        expected["size"] = 5.into();
        assert_eq!(changed["spec"], expected, "{plural}");
        assert_eq!(changed["metadata"]["generation"], 2, "{plural}");
        let labels =
            json!({"metadata": {"labels": {"a": "b"}}, "status": {"phase": "good", "replicas": 1}});
        let status = format!("{own}/status");
        let said = server.patch(&status, "merge", &labels).await.expect(200);
        assert_eq!(said["metadata"]["labels"], Value::Null, "{plural}");
        assert_eq!(said["status"]["phase"], "good", "{plural}");
        let gone = server.delete(&own, &Value::Null).await;
        assert_eq!(gone.headers.get("warning"), None, "{plural}");
        assert_eq!(gone.expect(200)["kind"], "Status", "{plural}");
        server.get(&own).await.refusal(404);
    }
}
