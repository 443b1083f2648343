//! Custom objects: written, pruned, defaulted, validated, patched, applied.

use serde_json::{Value, json};

use crate::custom_definitions::{DEFINITIONS, WIDGETS, widget, widgets, with_widgets};
use crate::server::Server;

const STRICT: &str = "?fieldValidation=Strict";

#[tokio::test]
async fn the_life_of_an_object() {
    let server = with_widgets().await;
    let created = server.post(WIDGETS, &widget("a")).await.expect(201);
    assert_eq!(created["apiVersion"], "example.com/v1");
    assert_eq!(created["kind"], "Widget");
    assert_eq!(created["metadata"]["namespace"], "default");
    assert_eq!(created["metadata"]["generation"], 1);
    assert_eq!(
        created["spec"],
        json!({"color": "red", "size": 3}),
        "defaulted"
    );
    let path = format!("{WIDGETS}/a");
    assert_eq!(server.get(&path).await.expect(200), created);
    assert_eq!(
        server.post(WIDGETS, &widget("a")).await.refusal(409),
        "widgets.example.com \"a\" already exists"
    );

    let mut changed = created.clone();
    changed["spec"]["size"] = 4.into();
    changed["status"] = json!({"phase": "mine"});
    let changed = server.put(&path, &changed).await.expect(200);
    assert_eq!(changed["metadata"]["generation"], 2);
    assert!(
        changed.get("status").is_none(),
        "only writers of the status write it"
    );
    let mut labelled = changed.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let labelled = server.put(&path, &labelled).await.expect(200);
    assert_eq!(labelled["metadata"]["generation"], 2);
    let message = server.put(&path, &widget("a")).await.refusal(422);
    assert!(
        message.contains("must be specified for an update"),
        "{message}"
    );

    let list = server.get(WIDGETS).await.expect(200);
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&json!("WidgetList"), &json!("example.com/v1"))
    );
    assert_eq!(list["items"], json!([labelled]));
    assert_eq!(
        server.get("/apis/example.com/v1/widgets").await.expect(200)["items"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    let deleted = server.delete(&path, &Value::Null).await.expect(200);
    assert_eq!(deleted["status"], "Success");
    assert_eq!(
        server.get(&path).await.refusal(404),
        "widgets.example.com \"a\" not found"
    );
    server.post(WIDGETS, &widget("b")).await.expect(201);
    server.post(WIDGETS, &widget("c")).await.expect(201);
    server.delete(WIDGETS, &Value::Null).await.expect(200);
    assert_eq!(server.get(WIDGETS).await.expect(200)["items"], json!([]));
    server
        .post(
            "/apis/example.com/v1/namespaces/nowhere/widgets",
            &widget("a"),
        )
        .await
        .refusal(404);
}

#[tokio::test]
async fn unknown_fields_are_pruned_and_told() {
    let server = with_widgets().await;
    let mut object = widget("a");
    object["spec"]["colour"] = 1.into();
    object["spec"]["free"] = json!({"any": {"thing": 1}});
    object["metadata"]["labelz"] = json!({});
    let answer = server.post(WIDGETS, &object).await;
    let warnings: Vec<_> = answer
        .headers
        .get_all("warning")
        .iter()
        .map(|w| w.to_str().expect("text").to_owned())
        .collect();
    assert!(
        warnings
            .iter()
            .any(|w| w.contains("unknown field \\\"spec.colour\\\"")),
        "{warnings:?}"
    );
    let created = answer.expect(201);
    assert_eq!(
        created["spec"],
        json!({"color": "red", "size": 3, "free": {"any": {"thing": 1}}})
    );
    assert!(created["metadata"].get("labelz").is_none());
    object["metadata"]["name"] = "b".into();
    let message = server
        .post(&format!("{WIDGETS}{STRICT}"), &object)
        .await
        .refusal(400);
    assert_eq!(
        message,
        "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: unknown field \"metadata.labelz\", unknown field \"spec.colour\""
    );
    let answer = server
        .post(&format!("{WIDGETS}?fieldValidation=Ignore"), &object)
        .await;
    assert!(answer.headers.get("warning").is_none());
    answer.expect(201);
}

#[tokio::test]
async fn values_are_validated_in_upstreams_words() {
    let server = with_widgets().await;
    let cases = [
        (
            json!({"color": "blue"}),
            "spec.color: Unsupported value: \"blue\": supported values: \"green\", \"red\"",
        ),
        (json!({}), "spec.color: Required value"),
        (
            json!({"color": "red", "size": 11}),
            "spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10",
        ),
        (
            json!({"color": "red", "size": "x"}),
            "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
        ),
        (
            json!({"color": "red", "ports": [{"name": "a"}, {"name": "a"}]}),
            "spec.ports[1]: Duplicate value: {\"name\":\"a\"}",
        ),
    ];
    for (spec, why) in cases {
        let mut object = widget("a");
        object["spec"] = spec;
        let answer = server.post(WIDGETS, &object).await;
        assert_eq!(
            answer.refusal(422),
            format!("Widget.example.com \"a\" is invalid: {why}")
        );
    }
    // null where it is a value, and where it is none
    let mut object = widget("a");
    object["spec"]["note"] = Value::Null;
    object["spec"]["size"] = Value::Null;
    object["spec"]["replicas"] = Value::Null;
    let created = server.post(WIDGETS, &object).await.expect(201);
    assert_eq!(
        created["spec"],
        json!({"color": "red", "note": null, "size": 3})
    );
    let message = server
        .post(
            WIDGETS,
            &json!({"metadata": {"name": "B"}, "spec": {"color": "red"}}),
        )
        .await
        .refusal(422);
    assert!(message.contains("RFC 1123 subdomain"), "{message}");
    let message = server
        .post(
            WIDGETS,
            &json!({"kind": "Gadget", "apiVersion": "example.com/v1", "metadata": {"name": "b"}}),
        )
        .await
        .refusal(400);
    assert!(message.contains("Gadget"), "{message}");
}

#[tokio::test]
async fn patches_of_two_kinds() {
    let server = with_widgets().await;
    server.post(WIDGETS, &widget("a")).await.expect(201);
    let path = format!("{WIDGETS}/a");
    let merged = server
        .patch(&path, "merge", &json!({"spec": {"size": 5}}))
        .await
        .expect(200);
    assert_eq!(merged["spec"]["size"], 5);
    let patched = server
        .patch(
            &path,
            "json",
            &json!([{"op": "replace", "path": "/spec/color", "value": "green"}]),
        )
        .await
        .expect(200);
    assert_eq!(patched["spec"], json!({"color": "green", "size": 5}));
    let message = server
        .patch(&path, "strategic-merge", &json!({"spec": {"size": 6}}))
        .await
        .refusal(415);
    assert!(
        message.contains("application/merge-patch+json"),
        "{message}"
    );
    server
        .patch(&path, "merge", &json!({"spec": {"color": "blue"}}))
        .await
        .refusal(422);
    let reset = server
        .patch(&path, "merge", &json!({"spec": {"size": null}}))
        .await
        .expect(200);
    assert_eq!(reset["spec"]["size"], 3, "the default comes back");
    let dry = server
        .patch(
            &format!("{path}?dryRun=All"),
            "merge",
            &json!({"spec": {"size": 9}}),
        )
        .await
        .expect(200);
    assert_eq!(dry["spec"]["size"], 9);
    assert_eq!(server.get(&path).await.expect(200)["spec"]["size"], 3);
}

async fn apply(
    server: &Server,
    path: &str,
    manager: &str,
    body: &Value,
    force: bool,
) -> crate::server::Answer {
    let path = format!("{path}?fieldManager={manager}&force={force}");
    server
        .ask(
            "PATCH",
            &path,
            &[("content-type", "application/apply-patch+yaml")],
            body.to_string(),
        )
        .await
}

#[tokio::test]
async fn server_side_apply_goes_by_the_schema() {
    let server = with_widgets().await;
    let path = format!("{WIDGETS}/a");
    let mut one = widget("a");
    one["spec"]["ports"] = json!([{"name": "http", "port": 80}]);
    let created = apply(&server, &path, "one", &one, false).await.expect(201);
    let fields = &created["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    assert_eq!(
        fields["f:ports"]["k:{\"name\":\"http\"}"],
        json!({".": {}, "f:name": {}, "f:port": {}})
    );
    // another's item of the same list is its own
    let two = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": {"ports": [{"name": "tls", "port": "https"}]}});
    let both = apply(&server, &path, "two", &two, false).await.expect(200);
    assert_eq!(
        both["spec"]["ports"],
        json!([{"name": "tls", "port": "https"}, {"name": "http", "port": 80}])
    );
    let mut contested = two.clone();
    contested["spec"]["color"] = "green".into();
    let message = apply(&server, &path, "two", &contested, false)
        .await
        .refusal(409);
    assert!(
        message.contains("conflict with \"one\": .spec.color"),
        "{message}"
    );
    let forced = apply(&server, &path, "two", &contested, true)
        .await
        .expect(200);
    assert_eq!(forced["spec"]["color"], "green");
    // what is no longer in the configuration goes
    let mut fewer = one.clone();
    fewer["spec"] = json!({"color": "green"});
    let fewer = apply(&server, &path, "one", &fewer, true).await.expect(200);
    assert_eq!(
        fewer["spec"]["ports"],
        json!([{"name": "tls", "port": "https"}])
    );
    let mut unknown = one.clone();
    unknown["spec"]["colour"] = 1.into();
    let message = apply(&server, &path, "one", &unknown, false)
        .await
        .refusal(400);
    assert!(
        message.contains(".spec.colour: field not declared in schema"),
        "{message}"
    );
}

#[tokio::test]
async fn fields_are_selected_and_tables_drawn() {
    let server = with_widgets().await;
    server.post(WIDGETS, &widget("a")).await.expect(201);
    let mut green = widget("b");
    green["spec"]["color"] = "green".into();
    server.post(WIDGETS, &green).await.expect(201);
    let found = server
        .get(&format!("{WIDGETS}?fieldSelector=spec.color%3Dgreen"))
        .await
        .expect(200);
    assert_eq!(found["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(found["items"][0]["metadata"]["name"], "b");
    let message = server
        .get(&format!("{WIDGETS}?fieldSelector=spec.size%3D3"))
        .await
        .refusal(400);
    assert!(
        message.contains("field label not supported: spec.size"),
        "{message}"
    );
    let table = server
        .ask(
            "GET",
            WIDGETS,
            &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")],
            "",
        )
        .await
        .expect(200);
    let names: Vec<_> = table["columnDefinitions"]
        .as_array()
        .expect("columns")
        .iter()
        .map(|c| c["name"].clone())
        .collect();
    assert_eq!(json!(names), json!(["Name", "Color", "Size"]));
    assert_eq!(table["columnDefinitions"][2]["priority"], 1);
    assert_eq!(table["rows"][0]["cells"], json!(["a", "red", 3]));
}

#[tokio::test]
async fn cluster_scoped_objects_of_several_versions() {
    let server = Server::new().await;
    let mut definition = widgets();
    definition["spec"]["scope"] = "Cluster".into();
    let mut old = definition["spec"]["versions"][0].clone();
    old["name"] = "v1beta1".into();
    old["storage"] = false.into();
    old["deprecated"] = true.into();
    definition["spec"]["versions"]
        .as_array_mut()
        .expect("versions")
        .push(old);
    server.post(DEFINITIONS, &definition).await.expect(201);
    let new = server
        .post("/apis/example.com/v1/widgets", &widget("a"))
        .await
        .expect(201);
    let answer = server.get("/apis/example.com/v1beta1/widgets/a").await;
    assert_eq!(
        answer.headers["warning"],
        "299 - \"example.com/v1beta1 Widget is deprecated\""
    );
    let old = answer.expect(200);
    assert_eq!(old["apiVersion"], "example.com/v1beta1");
    assert_eq!(old["metadata"], new["metadata"]);
    let mut written = widget("b");
    written["apiVersion"] = "example.com/v1beta1".into();
    let written = server
        .post("/apis/example.com/v1beta1/widgets", &written)
        .await
        .expect(201);
    assert_eq!(written["apiVersion"], "example.com/v1beta1");
    let list = server.get("/apis/example.com/v1/widgets").await.expect(200);
    assert!(list["items"].as_array().is_some_and(|items| {
        items.len() == 2
            && items
                .iter()
                .all(|item| item["apiVersion"] == "example.com/v1")
    }));
    let list = server
        .get("/apis/example.com/v1beta1/widgets")
        .await
        .expect(200);
    assert!(list["items"].as_array().is_some_and(|items| {
        items
            .iter()
            .all(|item| item["apiVersion"] == "example.com/v1beta1")
    }));
    server
        .get("/apis/example.com/v1/namespaces/default/widgets")
        .await
        .refusal(404);
}

/// Versions of a custom kind have the same fields, so owners of one are those of the others.
#[tokio::test]
async fn appliers_of_several_versions_meet() {
    let mut definition = widgets();
    let mut older = definition["spec"]["versions"][0].clone();
    older["name"] = "v1beta1".into();
    older["storage"] = false.into();
    definition["spec"]["versions"]
        .as_array_mut()
        .expect("versions")
        .push(older);
    let server = Server::new().await;
    server.post(DEFINITIONS, &definition).await.expect(201);
    let at = |version: &str| format!("/apis/example.com/{version}/namespaces/default/widgets/a");
    let of = |version: &str, spec: Value| json!({"apiVersion": format!("example.com/{version}"), "kind": "Widget", "metadata": {"name": "a"}, "spec": spec});
    let first = of("v1beta1", json!({"color": "red", "size": 4, "note": "old"}));
    let made = apply(&server, &at("v1beta1"), "one", &first, false).await;
    made.expect(201);
    let second = of("v1", json!({"color": "red", "size": 5}));
    let refused = apply(&server, &at("v1"), "two", &second, false).await;
    let said = refused.refusal(409);
    assert!(said.contains(".spec.size"), "{said}");
    // the same applier goes on in the newer version: what it leaves out goes
    let newer = of("v1", json!({"color": "red", "size": 4}));
    let after = apply(&server, &at("v1"), "one", &newer, false)
        .await
        .expect(200);
    assert_eq!(after["spec"], json!({"color": "red", "size": 4}));
    assert_eq!(
        after["metadata"]["managedFields"].as_array().map(Vec::len),
        Some(1)
    );
    // and what another writes in one version is its own in all
    let change = json!({"spec": {"size": 6}});
    let path = format!("{}?fieldManager=other", at("v1beta1"));
    server.patch(&path, "merge", &change).await.expect(200);
    let refused = apply(&server, &at("v1"), "one", &newer, false).await;
    refused.refusal(409);
}
