//! Definitions that change or go: objects, watchers, restarts.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use crate::custom_definitions::{DEFINITIONS, WIDGETS, widget, widgets, with_widgets};
use crate::server::Server;

const DEFINITION: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com";

/// The lines of a watch that ends.
async fn whole(body: apiserver::ResponseBody) -> Vec<Value> {
    let all = tokio::time::timeout(Duration::from_secs(20), body.collect())
        .await
        .expect("the watch ends");
    let bytes = all.expect("a body").to_bytes();
    bytes
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("JSON"))
        .collect()
}

async fn watch(server: &Server) -> apiserver::ResponseBody {
    let request = http::Request::get(format!("{WIDGETS}?watch=true"))
        .body(Full::new(Bytes::new()))
        .expect("a request");
    let response = server.send(request).await;
    assert_eq!(response.status(), 200);
    response.into_body()
}

async fn gone(server: &Server) {
    for _ in 0..1000 {
        if server.get(DEFINITION).await.code == 404 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the definition is still there");
}

#[tokio::test]
async fn objects_go_before_their_definition_and_watchers_are_told() {
    let server = with_widgets().await;
    server.post(WIDGETS, &widget("a")).await.expect(201);
    let events = watch(&server).await;
    let deleting = server.delete(DEFINITION, &Value::Null).await.expect(200);
    assert_eq!(
        deleting["metadata"]["finalizers"],
        json!(["customresourcecleanup.apiextensions.k8s.io"])
    );
    gone(&server).await;
    let events = whole(events).await;
    let kinds: Vec<_> = events.iter().map(|event| event["type"].clone()).collect();
    assert_eq!(json!(kinds), json!(["ADDED", "DELETED"]));
    server.get(WIDGETS).await.refusal(404);
    server
        .get(&format!("{WIDGETS}?watch=true"))
        .await
        .refusal(404);
    // a new definition of the same name has none of the old objects
    server.post(DEFINITIONS, &widgets()).await.expect(201);
    assert_eq!(server.get(WIDGETS).await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn a_definition_waits_for_finalizers_of_its_objects() {
    let server = with_widgets().await;
    let mut object = widget("a");
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.post(WIDGETS, &object).await.expect(201);
    server.delete(DEFINITION, &Value::Null).await.expect(200);
    for n in 0.. {
        let definition = server.get(DEFINITION).await.expect(200);
        let conditions = definition["status"]["conditions"]
            .as_array()
            .expect("conditions");
        if conditions
            .iter()
            .any(|c| c["type"] == "Terminating" && c["reason"] == "InstanceDeletionInProgress")
        {
            break;
        }
        assert!(n < 1000, "{conditions:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let message = server.post(WIDGETS, &widget("b")).await.refusal(403);
    assert_eq!(
        message,
        "widgets.example.com \"b\" is forbidden: create not allowed while custom resource definition is terminating"
    );
    let held = server.get(&format!("{WIDGETS}/a")).await.expect(200);
    assert!(held["metadata"]["deletionTimestamp"].is_string());
    server
        .patch(
            &format!("{WIDGETS}/a"),
            "merge",
            &json!({"metadata": {"finalizers": null}}),
        )
        .await
        .expect(200);
    gone(&server).await;
}

#[tokio::test]
async fn a_changed_schema_counts_at_once_and_ends_watches() {
    let server = with_widgets().await;
    let created = server.post(WIDGETS, &widget("a")).await.expect(201);
    let events = watch(&server).await;
    let change = json!([
        {"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/shape", "value": {"type": "string", "default": "round"}},
        {"op": "remove", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/size"},
        {"op": "remove", "path": "/spec/versions/0/additionalPrinterColumns/1"},
    ]);
    server.patch(DEFINITION, "json", &change).await.expect(200);
    assert_eq!(
        whole(events).await.len(),
        1,
        "the watch has ended without an error"
    );
    let read = server.get(&format!("{WIDGETS}/a")).await.expect(200);
    assert_eq!(
        read["spec"],
        json!({"color": "red", "shape": "round"}),
        "read as the schema is now"
    );
    assert_eq!(read["metadata"], created["metadata"]);
    let labelled = server
        .patch(
            &format!("{WIDGETS}/a"),
            "merge",
            &json!({"metadata": {"labels": {"a": "b"}}}),
        )
        .await
        .expect(200);
    assert_eq!(
        labelled["metadata"]["generation"], 1,
        "defaults are no change of the writer's"
    );
    let version = created["metadata"]["resourceVersion"]
        .as_str()
        .expect("a version");
    let request = http::Request::get(format!(
        "{WIDGETS}?watch=true&resourceVersion={version}&timeoutSeconds=1"
    ))
    .body(Full::new(Bytes::new()))
    .expect("a request");
    let events = whole(server.send(request).await.into_body()).await;
    assert_eq!(events.len(), 1, "a watch resumes across the change");
    assert_eq!(events[0]["object"]["spec"]["shape"], "round");
}

/// Controllers can go on labelling, and finalizing, what a stricter schema would no longer take.
#[tokio::test]
async fn what_a_stricter_schema_finds_may_stay_as_it_is() {
    let server = with_widgets().await;
    server.post(WIDGETS, &widget("a")).await.expect(201);
    let change = json!([
        {"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/color/maxLength", "value": 2},
        {"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations", "value": [{"rule": "self.color != 'red'", "message": "no red"}]},
    ]);
    server.patch(DEFINITION, "json", &change).await.expect(200);
    let path = format!("{WIDGETS}/a");
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    server.patch(&path, "merge", &label).await.expect(200);
    let grow = json!({"spec": {"size": 2}});
    let refused = server.patch(&path, "merge", &grow).await.expect(422);
    let said = refused["message"].as_str().unwrap_or_default();
    assert!(
        said.ends_with("is invalid: spec: Invalid value: no red"),
        "{said}"
    );
    let paint = json!({"spec": {"color": "blue"}});
    let refused = server.patch(&path, "merge", &paint).await.expect(422);
    let said = refused["message"].as_str().unwrap_or_default();
    assert!(
        said.contains("spec.color: Too long: may not be more than 2 bytes"),
        "{said}"
    );
}

#[tokio::test]
async fn a_version_that_is_no_longer_served_is_not_found() {
    let server = with_widgets().await;
    server.post(WIDGETS, &widget("a")).await.expect(201);
    server
        .patch(
            DEFINITION,
            "json",
            &json!([{"op": "replace", "path": "/spec/versions/0/served", "value": false}]),
        )
        .await
        .expect(200);
    server.get(WIDGETS).await.refusal(404);
    server
        .patch(
            DEFINITION,
            "json",
            &json!([{"op": "replace", "path": "/spec/versions/0/served", "value": true}]),
        )
        .await
        .expect(200);
    assert_eq!(
        server.get(WIDGETS).await.expect(200)["items"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
}

#[tokio::test]
async fn conversion_by_webhook_is_accepted_and_the_stored_version_served() {
    let server = Server::new().await;
    let mut definition = widgets();
    let mut other = definition["spec"]["versions"][0].clone();
    other["name"] = "v2".into();
    other["storage"] = false.into();
    definition["spec"]["versions"]
        .as_array_mut()
        .expect("versions")
        .push(other);
    definition["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
        "clientConfig": {"service": {"namespace": "default", "name": "converter"}}}});
    let created = server.post(DEFINITIONS, &definition).await.expect(201);
    assert_eq!(
        created["spec"]["conversion"]["webhook"]["clientConfig"]["service"]["port"],
        443
    );
    let others = "/apis/example.com/v2/namespaces/default/widgets";
    let none = server.get(others).await.expect(200);
    assert_eq!(none["items"], json!([]), "there is nothing to convert");
    server.post(WIDGETS, &widget("a")).await.expect(201);
    let message = server.get(others).await.refusal(500);
    assert!(
        message.contains("conversion webhook for example.com/v2, Kind=Widget failed"),
        "{message}"
    );
    // who follows all kinds, and takes them away, is not held up
    let request = http::Request::get(others)
        .header(
            "accept",
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        )
        .body(Full::new(Bytes::new()))
        .expect("a request");
    assert_eq!(server.send(request).await.status(), 200);
    server.delete(others, &Value::Null).await.expect(200);
    let left = server.get(WIDGETS).await.expect(200);
    assert_eq!(left["items"], json!([]));
}

#[tokio::test]
async fn a_restart_serves_them_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.redb");
    let server = Server::over(crate::restarts::open(&path, 100).await, |_| {}).await;
    server.post(DEFINITIONS, &widgets()).await.expect(201);
    let created = server.post(WIDGETS, &widget("a")).await.expect(201);
    server.api.stop();
    drop(server);
    let server = Server::over(crate::restarts::open(&path, 100).await, |_| {}).await;
    let read = server.get(&format!("{WIDGETS}/a")).await;
    assert_eq!(
        read.expect(200),
        created,
        "it is found by the first request"
    );
}
