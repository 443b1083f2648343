//! OpenAPI documents: complete in themselves, with what kubectl looks for.

use apiserver::schema::{Gvk, PathSpec, Schemas};
use serde_json::{Value, json};

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn deployment_paths() -> Vec<PathSpec> {
    let spec = |path: &str, kind: &str, verbs: &[&str]| PathSpec {
        path: path.to_owned(),
        kind: kind.to_owned(),
        verbs: strings(verbs),
        namespaced: true,
        ..PathSpec::default()
    };
    let collection = "/apis/apps/v1/namespaces/{namespace}/deployments";
    let item = format!("{collection}/{{name}}");
    vec![
        spec(
            "/apis/apps/v1/deployments",
            "Deployment",
            &["list", "watch"],
        ),
        spec(
            collection,
            "Deployment",
            &["list", "create", "deletecollection"],
        ),
        spec(&item, "Deployment", &["get", "update", "patch", "delete"]),
        PathSpec {
            kind_group: Some("autoscaling".to_owned()),
            kind_version: Some("v1".to_owned()),
            ..spec(
                &format!("{item}/scale"),
                "Scale",
                &["get", "update", "patch"],
            )
        },
    ]
}

fn document() -> Value {
    serde_json::from_slice(&Schemas::load().openapi_v3_document("apps", "v1", &deployment_paths()))
        .expect("JSON")
}

#[test]
fn the_patch_operation_says_its_kind_and_takes_field_validation() {
    let document = document();
    let patch =
        &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({ "group": "apps", "version": "v1", "kind": "Deployment" })
    );
    let names: Vec<&str> = patch["parameters"]
        .as_array()
        .expect("list")
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert_eq!(
        names,
        ["dryRun", "fieldManager", "fieldValidation", "force"]
    );
    let scale = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]
        ["patch"];
    assert_eq!(
        scale["x-kubernetes-group-version-kind"]["group"],
        "autoscaling"
    );
    assert!(document["components"]["schemas"]["io.k8s.api.autoscaling.v1.Scale"].is_object());
}

#[test]
fn operation_ids_are_unique_and_like_upstreams() {
    let document = document();
    let mut ids: Vec<String> = Vec::new();
    for item in document["paths"].as_object().expect("paths").values() {
        for (_, operation) in item
            .as_object()
            .expect("item")
            .iter()
            .filter(|(method, _)| *method != "parameters")
        {
            ids.push(operation["operationId"].as_str().expect("id").to_owned());
        }
    }
    assert!(
        ids.contains(&"readAppsV1NamespacedDeployment".to_owned()),
        "{ids:?}"
    );
    assert!(
        ids.contains(&"listAppsV1DeploymentForAllNamespaces".to_owned()),
        "{ids:?}"
    );
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

/// Every reference of every document leads to a schema of the same document.
#[test]
fn documents_refer_to_nothing_outside() {
    let mut groups: Vec<(String, String)> = Schemas::load()
        .kinds()
        .into_iter()
        .map(|gvk| (gvk.group, gvk.version))
        .collect();
    groups.sort();
    groups.dedup();
    assert!(groups.len() > 15, "{groups:?}");
    for (group, version) in groups {
        let bytes = Schemas::load().openapi_v3_document(&group, &version, &[]);
        let text = std::str::from_utf8(&bytes).expect("text");
        let document: Value = serde_json::from_str(text).expect("JSON");
        let schemas = document["components"]["schemas"]
            .as_object()
            .expect("schemas");
        for reference in text
            .split("\"$ref\":\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
        {
            let name = reference
                .strip_prefix("#/components/schemas/")
                .expect("local reference");
            assert!(schemas.contains_key(name), "{group}/{version}: {name}");
        }
    }
}

/// The two data files are made from two sources; here they meet.
#[test]
fn every_described_property_is_known_to_validation() {
    let schemas = Schemas::load();
    let mut compared = 0;
    for gvk in schemas.kinds() {
        let Some(definition) = schemas.definition(&gvk) else {
            continue;
        };
        let Some(properties) = definition["properties"].as_object() else {
            continue;
        };
        let nulls: serde_json::Map<String, Value> = properties
            .keys()
            .map(|name| (name.clone(), Value::Null))
            .collect();
        assert_eq!(
            schemas.unknown_fields(&gvk, &Value::Object(nulls)),
            Vec::<String>::new(),
            "{gvk:?}"
        );
        compared += properties.len();
    }
    assert!(compared > 500, "{compared}");
}

#[test]
fn definitions_carry_descriptions_and_merge_keys() {
    let spec = Schemas::load()
        .definition(&Gvk::gvk("", "v1", "Service"))
        .expect("Service");
    assert!(
        spec["description"]
            .as_str()
            .is_some_and(|text| text.contains("named abstraction")),
        "{spec}"
    );
    let bytes = Schemas::load().openapi_v3_document("", "v1", &[]);
    let document: Value = serde_json::from_slice(&bytes).expect("JSON");
    let containers = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]
        ["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(
        containers["type"], "array",
        "nullable types are written the way upstream writes them"
    );
}

#[test]
fn the_index_names_each_group_and_version() {
    let index = Schemas::load().openapi_v3_index(&[
        (String::new(), "v1".to_owned()),
        ("apps".to_owned(), "v1".to_owned()),
    ]);
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    let address = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .expect("address");
    assert!(
        address.starts_with("/openapi/v3/apis/apps/v1?hash="),
        "{address}"
    );
    assert!(index["paths"]["api/v1"].is_object());
}
