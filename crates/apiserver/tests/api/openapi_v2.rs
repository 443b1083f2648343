//! OpenAPI v2, as JSON and as gnostic's protobuf: what kubectl before 1.34 and Helm 3 read.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use serde_json::Value;

use crate::server::{Answer, Server};

const PATH: &str = "/openapi/v2";
/// What kubectl asks for.
const GNOSTIC: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// The messages of `OpenAPIv2.proto` that are looked at here, by another protobuf implementation than the server's.
mod gnostic {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Document {
        #[prost(string, tag = "1")]
        pub swagger: String,
        #[prost(message, optional, tag = "8")]
        pub paths: Option<Paths>,
        #[prost(message, optional, tag = "9")]
        pub definitions: Option<Schemas>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Paths {
        #[prost(message, repeated, tag = "2")]
        pub path: Vec<NamedPath>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct NamedPath {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, optional, tag = "2")]
        pub value: Option<PathItem>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct PathItem {
        #[prost(message, optional, tag = "8")]
        pub patch: Option<Operation>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Operation {
        #[prost(string, tag = "5")]
        pub operation_id: String,
        #[prost(string, repeated, tag = "7")]
        pub consumes: Vec<String>,
        #[prost(message, repeated, tag = "8")]
        pub parameters: Vec<ParametersItem>,
        #[prost(message, repeated, tag = "13")]
        pub vendor_extension: Vec<NamedAny>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ParametersItem {
        #[prost(message, optional, tag = "1")]
        pub parameter: Option<Parameter>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Parameter {
        #[prost(message, optional, tag = "1")]
        pub body: Option<Body>,
        #[prost(message, optional, tag = "2")]
        pub other: Option<NonBody>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Body {
        #[prost(string, tag = "2")]
        pub name: String,
        #[prost(message, optional, tag = "5")]
        pub schema: Option<Schema>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct NonBody {
        #[prost(message, optional, tag = "3")]
        pub query: Option<Query>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Query {
        #[prost(string, tag = "4")]
        pub name: String,
        #[prost(string, tag = "6")]
        pub kind: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Schemas {
        #[prost(message, repeated, tag = "1")]
        pub named: Vec<Named>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Named {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, optional, tag = "2")]
        pub value: Option<Schema>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Schema {
        #[prost(string, tag = "1")]
        pub reference: String,
        #[prost(string, tag = "2")]
        pub format: String,
        #[prost(string, tag = "4")]
        pub description: String,
        #[prost(string, repeated, tag = "19")]
        pub required: Vec<String>,
        #[prost(message, optional, tag = "22")]
        pub kind: Option<Texts>,
        #[prost(message, optional, tag = "25")]
        pub properties: Option<Schemas>,
        #[prost(message, repeated, tag = "31")]
        pub vendor_extension: Vec<NamedAny>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Texts {
        #[prost(string, repeated, tag = "1")]
        pub value: Vec<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct NamedAny {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, optional, tag = "2")]
        pub value: Option<Any>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Any {
        #[prost(string, tag = "2")]
        pub yaml: String,
    }
}

async fn get(server: &Server, headers: &[(&str, &str)]) -> Answer {
    server.ask("GET", PATH, headers, "").await
}

fn references<'a>(value: &'a Value, out: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
                out.insert(target);
            }
            fields.values().for_each(|value| references(value, out));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, out)),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_is_whole() {
    let server = Server::new().await;
    let answer = get(&server, &[]).await;
    assert_eq!(answer.headers["content-type"], "application/json");
    let document = answer.expect(200);
    assert_eq!(document["swagger"], "2.0");
    let definitions = document["definitions"].as_object().expect("definitions");
    let mut targets = BTreeSet::new();
    references(&document, &mut targets);
    assert!(targets.len() > 200, "{}", targets.len());
    for target in targets {
        let name = target
            .strip_prefix("#/definitions/")
            .unwrap_or_else(|| panic!("{target}"));
        assert!(definitions.contains_key(name), "{target} leads nowhere");
    }
    let container = &definitions["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(container["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(container["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(container["x-kubernetes-list-type"], "map");
    assert_eq!(
        container["items"]["$ref"],
        "#/definitions/io.k8s.api.core.v1.Container"
    );
    let deployment = &definitions["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(
        deployment["x-kubernetes-group-version-kind"][0]["kind"],
        "Deployment"
    );
    // A reference with a description of its own has both, side by side.
    let spec = &deployment["properties"]["spec"];
    assert_eq!(
        spec["$ref"],
        "#/definitions/io.k8s.api.apps.v1.DeploymentSpec"
    );
    assert!(
        spec["description"].is_string() && spec.get("allOf").is_none(),
        "{spec}"
    );
    // Unions have no place in v2.
    for (name, format) in [
        ("io.k8s.apimachinery.pkg.api.resource.Quantity", Value::Null),
        (
            "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
            "int-or-string".into(),
        ),
    ] {
        let union = &definitions[name];
        assert_eq!(
            (&union["type"], &union["format"]),
            (&"string".into(), &format)
        );
        assert!(union.get("oneOf").is_none());
    }
    let mut ids = BTreeMap::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            if method == "parameters" {
                continue;
            }
            let id = operation["operationId"].as_str().expect("an id").to_owned();
            let place = format!("{method} {path}");
            if let Some(other) = ids.insert(id.clone(), place.clone()) {
                panic!("{id}: {place} and {other}");
            }
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let described = parameter["type"].is_string() || parameter["in"] == "body";
                assert!(
                    described && parameter.get("content").is_none(),
                    "{place}: {parameter}"
                );
            }
        }
    }
    let patch =
        &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    assert_eq!(patch["x-kubernetes-action"], "patch");
    assert_eq!(patch["parameters"][0]["in"], "body");
    assert!(patch["parameters"].as_array().is_some_and(|all| {
        all.iter()
            .any(|p| p["name"] == "fieldValidation" && p["in"] == "query")
    }));
}

#[tokio::test]
async fn protobuf_says_the_same() {
    let server = Server::new().await;
    let json = get(&server, &[]).await.expect(200);
    let answer = get(&server, &[("accept", GNOSTIC)]).await;
    assert_eq!(
        answer.headers["content-type"],
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    );
    let document = gnostic::Document::decode(&answer.raw[..]).expect("gnostic's protobuf");
    assert_eq!(document.swagger, "2.0");
    let definitions = document.definitions.expect("definitions").named;
    let expected = json["definitions"].as_object().expect("definitions");
    assert_eq!(definitions.len(), expected.len());
    for named in &definitions {
        let (schema, expected) = (
            named.value.as_ref().expect("a schema"),
            &expected[&named.name],
        );
        let text = |key: &str| expected[key].as_str().unwrap_or_default();
        assert_eq!(schema.description, text("description"), "{}", named.name);
        let kinds = schema.kind.iter().flat_map(|kind| kind.value.clone());
        assert_eq!(kinds.collect::<String>(), text("type"), "{}", named.name);
        let properties = schema.properties.as_ref().map_or(0, |all| all.named.len());
        assert_eq!(
            properties,
            expected["properties"]
                .as_object()
                .map_or(0, |all| all.len())
        );
        assert_eq!(
            schema.required.len(),
            expected["required"].as_array().map_or(0, Vec::len)
        );
        for extension in &schema.vendor_extension {
            let yaml = &extension.value.as_ref().expect("a value").yaml;
            let value: Value = serde_json::from_str(yaml).expect("JSON");
            assert_eq!(value, expected[&extension.name]);
        }
    }
    let paths = document.paths.expect("paths").path;
    assert_eq!(
        paths.len(),
        json["paths"].as_object().map_or(0, |all| all.len())
    );
    let name = "/api/v1/namespaces/{namespace}/pods/{name}";
    let pods = paths
        .into_iter()
        .find(|path| path.name == name)
        .expect("pods");
    let patch = pods.value.and_then(|item| item.patch).expect("PATCH");
    assert_eq!(patch.operation_id, "patchCoreV1NamespacedPod");
    assert!(
        patch
            .consumes
            .contains(&"application/strategic-merge-patch+json".to_owned())
    );
    let parameters: Vec<_> = patch
        .parameters
        .into_iter()
        .filter_map(|p| p.parameter)
        .collect();
    assert!(
        parameters[0]
            .body
            .as_ref()
            .is_some_and(|body| body.name == "body")
    );
    assert!(parameters.iter().any(|p| {
        p.other
            .as_ref()
            .and_then(|other| other.query.as_ref())
            .is_some_and(|query| query.name == "fieldValidation" && query.kind == "string")
    }));
    assert!(
        patch
            .vendor_extension
            .iter()
            .any(|e| e.name == "x-kubernetes-group-version-kind")
    );
}

#[tokio::test]
async fn who_has_it_does_not_get_it_again() {
    let server = Server::new().await;
    let plain = get(&server, &[]).await;
    let etag = plain.headers["etag"].to_str().expect("text").to_owned();
    assert_eq!(etag.len(), 130, "SHA-512 in quotes: {etag}");
    let packed = get(&server, &[("accept-encoding", "gzip")]).await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    assert_eq!(packed.headers["etag"], etag.as_str());
    assert!(packed.raw.len() < plain.raw.len() / 4);
    for known in [etag.clone(), format!("\"x\", W/{etag}"), "*".to_owned()] {
        let answer = get(&server, &[("if-none-match", &known)]).await;
        assert_eq!((answer.code, answer.raw.len()), (304, 0));
        assert_eq!(answer.headers["etag"], etag.as_str());
    }
    let other = get(&server, &[("if-none-match", "\"x\"")]).await;
    assert_eq!(other.code, 200);
    assert_eq!(get(&server, &[("accept", "text/html")]).await.code, 406);
}
