//! How clients learn of custom kinds: discovery in its forms, OpenAPI documents.

use serde_json::{Value, json};

use crate::custom_definitions::{DEFINITIONS, widgets, with_widgets};
use crate::server::Server;

const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

async fn aggregated(server: &Server) -> Option<Value> {
    let list = server
        .ask("GET", "/apis", &[("accept", V2)], "")
        .await
        .expect(200);
    let items = list["items"].as_array().expect("items");
    items
        .iter()
        .find(|group| group["metadata"]["name"] == "example.com")
        .cloned()
}

#[tokio::test]
async fn discovery_shows_them_at_once_and_no_longer_than_they_are() {
    let server = with_widgets().await;
    let group = aggregated(&server).await.expect("the group");
    let resource = &group["versions"][0]["resources"][0];
    assert_eq!(group["versions"][0]["version"], "v1");
    assert_eq!(resource["resource"], "widgets");
    assert_eq!(resource["singularResource"], "widget");
    assert_eq!(resource["shortNames"], json!(["wi"]));
    assert_eq!(resource["categories"], json!(["all"]));
    assert_eq!(resource["scope"], "Namespaced");
    let subresources: Vec<_> = resource["subresources"]
        .as_array()
        .expect("two")
        .iter()
        .map(|s| s["subresource"].clone())
        .collect();
    assert_eq!(json!(subresources), json!(["scale", "status"]));
    let legacy = server.get("/apis/example.com/v1").await.expect(200);
    assert_eq!(legacy["groupVersion"], "example.com/v1");
    assert_eq!(legacy["resources"][0]["shortNames"], json!(["wi"]));
    assert_eq!(
        server.get("/apis/example.com").await.expect(200)["preferredVersion"]["version"],
        "v1"
    );

    // a better version comes first
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let mut version = widgets()["spec"]["versions"][0].clone();
    version["name"] = "v2".into();
    version["storage"] = false.into();
    server
        .patch(
            &path,
            "json",
            &json!([{"op": "add", "path": "/spec/versions/-", "value": version}]),
        )
        .await
        .expect(200);
    let versions: Vec<_> = aggregated(&server).await.expect("the group")["versions"]
        .as_array()
        .expect("two")
        .iter()
        .map(|v| v["version"].clone())
        .collect();
    assert_eq!(json!(versions), json!(["v2", "v1"]));

    server.delete(&path, &Value::Null).await.expect(200);
    for _ in 0..500 {
        if aggregated(&server).await.is_none() {
            server.get("/apis/example.com/v1").await.refusal(404);
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the group is still there");
}

#[tokio::test]
async fn openapi_documents_describe_them() {
    let server = with_widgets().await;
    let index = server.get("/openapi/v3").await.expect(200);
    let address = index["paths"]["apis/example.com/v1"]["serverRelativeURL"]
        .as_str()
        .expect("an address")
        .to_owned();
    let document = server.get(&address).await.expect(200);
    let schema = &document["components"]["schemas"]["com.example.v1.Widget"];
    assert_eq!(schema["description"], "A widget.");
    assert_eq!(
        schema["properties"]["spec"]["properties"]["color"]["description"],
        "How it looks."
    );
    assert_eq!(
        schema["x-kubernetes-group-version-kind"],
        json!([{"group": "example.com", "version": "v1", "kind": "Widget"}])
    );
    let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    assert_eq!(
        schema["properties"]["metadata"]["allOf"][0]["$ref"],
        format!("#/components/schemas/{meta}")
    );
    assert!(document["components"]["schemas"][meta].is_object());
    assert!(document["components"]["schemas"]["com.example.v1.WidgetList"].is_object());
    let patch =
        &document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Widget");
    assert!(
        patch["parameters"]
            .as_array()
            .is_some_and(|p| p.iter().any(|p| p["name"] == "fieldValidation"))
    );
    // kubectl would send what is listed
    let types: Vec<_> = patch["requestBody"]["content"]
        .as_object()
        .expect("types")
        .keys()
        .collect();
    assert_eq!(
        json!(types),
        json!([
            "application/apply-patch+yaml",
            "application/json-patch+json",
            "application/merge-patch+json"
        ])
    );
    // whoever kept the document of before asks for another address
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let change = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema/description", "value": "Another."}]);
    server.patch(&path, "json", &change).await.expect(200);
    let index = server.get("/openapi/v3").await.expect(200);
    assert_ne!(
        index["paths"]["apis/example.com/v1"]["serverRelativeURL"],
        address.as_str()
    );
}
