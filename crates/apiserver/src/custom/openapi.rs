//! Schemas of custom kinds for OpenAPI v3 documents (upstream `pkg/controller/openapi/builder`).

use serde_json::{Value, json};

use super::Custom;
use crate::registry::Kind;
use crate::schema::Described;

const META: &str = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1";
const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

/// The schemas of a custom kind and of its list.
pub(crate) fn describe(kind: &Kind, custom: &Custom) -> [Described; 2] {
    let name = model(kind, kind.kind);
    let gvk = |kind_name: &str| json!([{"group": kind.group, "version": kind.version, "kind": kind_name}]);
    let mut schema = custom.written.clone();
    embed(&mut schema, true);
    schema["x-kubernetes-group-version-kind"] = gvk(kind.kind);
    let list = json!({
        "description": format!("{} is a list of {}", custom.list_kind, kind.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"description": API_VERSION, "type": "string"},
            "items": {
                "description": format!("List of {}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md", kind.plural),
                "type": "array", "items": {"$ref": format!("#/components/schemas/{name}")},
            },
            "kind": {"description": KIND, "type": "string"},
            "metadata": {"allOf": [{"$ref": format!("{META}.ListMeta")}], "description": "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"},
        },
        "x-kubernetes-group-version-kind": gvk(&custom.list_kind),
    });
    [
        Described {
            kind: kind.kind.to_owned(),
            name,
            schema,
        },
        Described {
            kind: format!("{}List", kind.kind),
            name: model(kind, &custom.list_kind),
            schema: list,
        },
    ]
}

/// `com.example.v1.Widget`
fn model(kind: &Kind, name: &str) -> String {
    let reversed: Vec<_> = kind.group.split('.').rev().collect();
    format!("{}.{}.{name}", reversed.join("."), kind.version)
}

/// Identity and metadata, of the object and of objects within.
fn embed(schema: &mut Value, root: bool) {
    if !schema.is_object() {
        return;
    }
    if root || schema["x-kubernetes-embedded-resource"] == true {
        if !schema["properties"].is_object() {
            schema["properties"] = json!({});
        }
        let properties = &mut schema["properties"];
        properties["apiVersion"] = json!({"description": API_VERSION, "type": "string"});
        properties["kind"] = json!({"description": KIND, "type": "string"});
        properties["metadata"] = json!({"allOf": [{"$ref": format!("{META}.ObjectMeta")}],
            "description": "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"});
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, property) in properties {
            if !(root && matches!(name.as_str(), "apiVersion" | "kind" | "metadata")) {
                embed(property, false);
            }
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(below) = schema.get_mut(key) {
            embed(below, false);
        }
    }
}
