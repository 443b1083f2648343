//! Valid documents, to be damaged.

use std::path::Path;

use serde_json::{Value, json};

fn texts(all: &[&str]) -> Vec<Vec<u8>> {
    all.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn written(all: &[Value]) -> Vec<Vec<u8>> {
    all.iter().map(|one| one.to_string().into_bytes()).collect()
}

/// Bodies that real clients sent, by the end of their names.
pub fn files(extension: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/codec_fixtures");
    let mut paths: Vec<_> = std::fs::read_dir(directory)
        .expect("fixtures")
        .map(|entry| entry.expect("a fixture").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    paths.sort();
    let read = |path| std::fs::read(path).expect("a fixture");
    paths.iter().map(read).collect()
}

pub fn yaml() -> Vec<Vec<u8>> {
    let blocks = files("json").into_iter().map(|json| {
        let value: Value = serde_json::from_slice(&json).expect("JSON");
        block(&value, 0).into_bytes()
    });
    let odd = texts(&[
        "a: &x [1, 2, {b: *x}]\nc: &y {d: e}\nf: [*y, *y]\n<<: *y\n",
        "? |\n  a\n: >-\n  b\n  c\n'k''s': \"\\u00e9\"\n",
    ]);
    blocks.chain(odd).collect()
}

/// YAML in blocks, enough for what the fixtures hold.
fn block(value: &Value, indent: usize) -> String {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(fields) if !fields.is_empty() => fields
            .iter()
            .map(|(key, value)| match value {
                Value::Object(inner) if !inner.is_empty() => {
                    format!("{pad}{key}:\n{}", block(value, indent + 2))
                }
                Value::Array(items) if !items.is_empty() => {
                    let items = items.iter().map(|item| format!("{pad}- {item}\n"));
                    format!("{pad}{key}:\n{}", items.collect::<String>())
                }
                scalar => format!("{pad}{key}: {scalar}\n"),
            })
            .collect(),
        scalar => format!("{pad}{scalar}\n"),
    }
}

pub fn json_patches() -> Vec<Vec<u8>> {
    written(&[
        json!([{"op": "test", "path": "/spec/replicas", "value": 2}, {"op": "replace", "path": "/spec/replicas", "value": 3}]),
        json!([{"op": "add", "path": "/metadata/labels/x~1y", "value": "z"}, {"op": "remove", "path": "/metadata/finalizers/0"}]),
        json!([{"op": "copy", "from": "/spec/template", "path": "/spec/copy"}, {"op": "move", "from": "/spec/copy", "path": "/spec/moved"}]),
        json!([{"op": "copy", "from": "/spec", "path": "/spec/a"}, {"op": "copy", "from": "/spec", "path": "/spec/b"}]),
    ])
}

pub fn merge_patches() -> Vec<Vec<u8>> {
    written(&[
        json!({"spec": {"replicas": null, "template": {"metadata": {"labels": {"a": "c"}}}}}),
        json!({"metadata": {"labels": null, "annotations": {"k": "v"}}}),
    ])
}

pub fn strategic_patches() -> Vec<Vec<u8>> {
    written(&[
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "k"}, {"name": "e", "image": "n"}]}}}}),
        json!({"spec": {"template": {"spec": {"containers": [{"$patch": "delete", "name": "d"}]}}}}),
        json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "d"}, {"name": "c"}]}}}}),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x/y"], "finalizers": ["a/b"]}}),
        json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
        json!({"metadata": {"$patch": "replace", "name": "d"}}),
    ])
}

/// Label selectors and field selectors.
pub fn selectors() -> Vec<Vec<u8>> {
    texts(&[
        "a=b,c!=d,!e,f in (g,h),i notin (j)",
        "app.kubernetes.io/name==web,tier",
        "n>4,n<6",
        "metadata.name=a,spec.nodeName!=b\\,c",
    ])
}

/// Quantities, JSONPaths, query strings and paths of requests.
pub fn scalars() -> Vec<Vec<u8>> {
    texts(&[
        "1500m",
        "1Gi",
        "0.5",
        "12e3",
        "-3.14159k",
        "9223372036854775807",
        "922337203685477580e7",
        ".spec.template.spec.containers[0:2].ports[-1]",
        ".spec.containers[?(@.name==\"c\")].image",
        "..name",
        ".metadata.labels['a.b/c']",
        ".metadata.labels.a\\.b/c[*]",
        "limit=500&continue=abc%20d&labelSelector=a%3Db&resourceVersion=7&watch=1&timeoutSeconds=30",
        "/apis/apps/v1/namespaces/n/deployments/d/scale",
        "/api/v1/namespaces/n/services/https:s:443/proxy/a%2Fb",
    ])
}
