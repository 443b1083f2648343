//! CustomResourceDefinitions: what they are told, names and their conflicts, what is refused.

use serde_json::{Value, json};

use crate::server::Server;

pub const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

/// A definition of widgets with one version, status, scale, columns and a field to select by.
pub fn widgets() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wi"], "categories": ["all"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object", "description": "A widget.",
                    "properties": {
                        "spec": {"type": "object", "description": "What is wanted.", "required": ["color"], "properties": {
                            "color": {"type": "string", "enum": ["red", "green"], "description": "How it looks."},
                            "size": {"type": "integer", "minimum": 1, "maximum": 10, "default": 3},
                            "replicas": {"type": "integer"},
                            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                                "items": {"type": "object", "required": ["name"], "properties": {
                                    "name": {"type": "string"}, "port": {"x-kubernetes-int-or-string": true}}}},
                            "note": {"type": "string", "nullable": true},
                            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                        }},
                        "status": {"type": "object", "properties": {
                            "replicas": {"type": "integer"}, "selector": {"type": "string"}, "phase": {"type": "string"}}},
                    },
                }},
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
                "additionalPrinterColumns": [
                    {"name": "Color", "type": "string", "jsonPath": ".spec.color"},
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "priority": 1},
                ],
                "selectableFields": [{"jsonPath": ".spec.color"}],
            }],
        },
    })
}

pub fn widget(name: &str) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"color": "red"}})
}

/// A server that knows widgets.
pub async fn with_widgets() -> Server {
    let server = Server::new().await;
    server.post(DEFINITIONS, &widgets()).await.expect(201);
    server
}

fn condition<'a>(definition: &'a Value, kind: &str) -> &'a Value {
    let conditions = definition["status"]["conditions"]
        .as_array()
        .expect("conditions");
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
        .unwrap_or(&Value::Null)
}

#[tokio::test]
async fn a_definition_is_established() {
    let server = with_widgets().await;
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let definition = server.get(&path).await.expect(200);
    assert_eq!(condition(&definition, "NamesAccepted")["status"], "True");
    assert_eq!(
        condition(&definition, "NamesAccepted")["reason"],
        "NoConflicts"
    );
    assert_eq!(condition(&definition, "Established")["status"], "True");
    assert_eq!(
        condition(&definition, "Established")["reason"],
        "InitialNamesAccepted"
    );
    assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(
        definition["status"]["acceptedNames"],
        json!({"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList", "shortNames": ["wi"], "categories": ["all"]})
    );
    assert_eq!(definition["metadata"]["generation"], 1);
    // a status of one's own is not taken
    let mut other = widgets();
    other["metadata"]["name"] = "gadgets.example.com".into();
    other["spec"]["names"] = json!({"plural": "gadgets", "kind": "Gadget"});
    other["status"] = json!({"storedVersions": ["v7"], "conditions": [], "acceptedNames": {"plural": "x", "kind": "X"}});
    let created = server.post(DEFINITIONS, &other).await.expect(201);
    assert_eq!(created["status"]["storedVersions"], json!(["v1"]));
    let table = server
        .ask(
            "GET",
            DEFINITIONS,
            &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")],
            "",
        )
        .await
        .expect(200);
    assert_eq!(table["columnDefinitions"][1]["name"], "Created At");
}

#[tokio::test]
async fn names_conflict_and_are_set_free() {
    let server = with_widgets().await;
    let mut other = widgets();
    other["metadata"]["name"] = "gadgets.example.com".into();
    other["spec"]["names"] = json!({"plural": "gadgets", "kind": "Widget", "shortNames": ["wi"]});
    server.post(DEFINITIONS, &other).await.expect(201);
    let path = format!("{DEFINITIONS}/gadgets.example.com");
    let refused = server.get(&path).await.expect(200);
    let accepted = condition(&refused, "NamesAccepted");
    assert_eq!(accepted["status"], "False");
    assert_eq!(accepted["reason"], "ListKindConflict");
    assert_eq!(accepted["message"], "\"WidgetList\" is already in use");
    assert_eq!(condition(&refused, "Established")["status"], "False");
    server
        .get("/apis/example.com/v1/namespaces/default/gadgets")
        .await
        .refusal(404);

    server
        .delete(&format!("{DEFINITIONS}/widgets.example.com"), &Value::Null)
        .await
        .expect(200);
    for _ in 0..500 {
        let now = server.get(&path).await.expect(200);
        if condition(&now, "Established")["status"] == "True" {
            server
                .get("/apis/example.com/v1/namespaces/default/gadgets")
                .await
                .expect(200);
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the names were not set free");
}

#[tokio::test]
async fn a_definition_hides_no_built_in_kind() {
    let server = Server::new().await;
    let mut definition = widgets();
    definition["metadata"] = json!({"name": "storageclasses.storage.k8s.io", "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}});
    definition["spec"]["group"] = "storage.k8s.io".into();
    definition["spec"]["names"] = json!({"plural": "storageclasses", "kind": "StorageClass"});
    server.post(DEFINITIONS, &definition).await.expect(201);
    let read = server
        .get(&format!("{DEFINITIONS}/storageclasses.storage.k8s.io"))
        .await
        .expect(200);
    assert_eq!(condition(&read, "NamesAccepted")["status"], "False");
    let message = server
        .post(
            "/apis/storage.k8s.io/v1/storageclasses",
            &json!({"metadata": {"name": "a"}}),
        )
        .await
        .refusal(422);
    assert!(
        message.contains("provisioner"),
        "the built-in kind answers: {message}"
    );
}

#[tokio::test]
async fn bad_definitions_are_refused() {
    let server = Server::new().await;
    let mut definition = widgets();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        ["color"] = json!({"enum": ["red"]});
    let message = server.post(DEFINITIONS, &definition).await.refusal(422);
    assert_eq!(
        message,
        "CustomResourceDefinition.apiextensions.k8s.io \"widgets.example.com\" is invalid: [spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[color].type: Required value: must not be empty for specified object fields, spec.versions[0].selectableFields[0].jsonPath: Invalid value: \".spec.color\": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.]"
    );
    let mut unapproved = widgets();
    unapproved["metadata"]["name"] = "widgets.x.k8s.io".into();
    unapproved["spec"]["group"] = "x.k8s.io".into();
    let message = server.post(DEFINITIONS, &unapproved).await.refusal(422);
    assert!(
        message.contains("protected groups must have approval annotation"),
        "{message}"
    );
    let mut unknown = widgets();
    unknown["spec"]["colour"] = 1.into();
    let message = server
        .post(&format!("{DEFINITIONS}?fieldValidation=Strict"), &unknown)
        .await
        .refusal(400);
    assert!(
        message.contains("unknown field \"spec.colour\""),
        "{message}"
    );
}

#[tokio::test]
async fn what_is_established_is_fixed_and_versions_stay_stored() {
    let server = with_widgets().await;
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let definition = server.get(&path).await.expect(200);
    let mut changed = definition.clone();
    changed["spec"]["scope"] = "Cluster".into();
    let message = server.put(&path, &changed).await.refusal(422);
    assert!(
        message.ends_with("spec.scope: Invalid value: \"Cluster\": field is immutable"),
        "{message}"
    );
    let mut second = definition.clone();
    let mut version = second["spec"]["versions"][0].clone();
    version["name"] = "v2".into();
    second["spec"]["versions"][0]["storage"] = false.into();
    second["spec"]["versions"]
        .as_array_mut()
        .expect("versions")
        .push(version);
    let second = server.put(&path, &second).await.expect(200);
    assert_eq!(second["status"]["storedVersions"], json!(["v1", "v2"]));
    assert_eq!(second["metadata"]["generation"], 2);
    let mut without = second.clone();
    without["spec"]["versions"]
        .as_array_mut()
        .expect("versions")
        .remove(0);
    let message = server.put(&path, &without).await.refusal(422);
    assert!(
        message.contains("missing from spec.versions; v1 was previously a storage version"),
        "{message}"
    );
    let mut unversioned = second;
    unversioned["metadata"]
        .as_object_mut()
        .expect("metadata")
        .remove("resourceVersion");
    let message = server.put(&path, &unversioned).await.refusal(422);
    assert!(
        message.contains(
            "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"
        ),
        "{message}"
    );
}
