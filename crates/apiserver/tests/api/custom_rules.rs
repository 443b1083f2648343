//! `x-kubernetes-validations` as clients meet them, and definitions meant to hurt.

use serde_json::{Value, json};

use crate::custom_definitions::{DEFINITIONS, WIDGETS, widget, widgets};
use crate::server::Server;

fn with_rules(rules: Value) -> Value {
    let mut definition = widgets();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"] =
        rules;
    definition
}

#[tokio::test]
async fn rules_are_put_to_objects() {
    let server = Server::new().await;
    let rules = json!([
        {"rule": "self.size < 5 || self.color == 'green'", "message": "large widgets are green"},
        {"rule": "self.color == oldSelf.color", "message": "the color stays", "reason": "FieldValueForbidden", "fieldPath": ".color"},
    ]);
    server
        .post(DEFINITIONS, &with_rules(rules))
        .await
        .expect(201);
    let mut large = widget("a");
    large["spec"]["size"] = 7.into();
    let message = server.post(WIDGETS, &large).await.refusal(422);
    assert_eq!(
        message,
        "Widget.example.com \"a\" is invalid: spec: Invalid value: large widgets are green"
    );
    server.post(WIDGETS, &widget("a")).await.expect(201);
    let path = format!("{WIDGETS}/a");
    let message = server
        .patch(&path, "merge", &json!({"spec": {"color": "green"}}))
        .await
        .refusal(422);
    assert_eq!(
        message,
        "Widget.example.com \"a\" is invalid: spec.color: Forbidden: the color stays"
    );
    server
        .patch(&path, "merge", &json!({"spec": {"size": 4}}))
        .await
        .expect(200);
    // a value of the wrong type would only confuse the rules
    let message = server
        .patch(&path, "merge", &json!({"spec": {"size": "x"}}))
        .await
        .refusal(422);
    assert!(
        message.contains("some validation rules were not checked"),
        "{message}"
    );
    let broken = with_rules(json!([{"rule": "self.size <"}]));
    let message = server.post(DEFINITIONS, &broken).await.refusal(422);
    assert!(
        message.contains("x-kubernetes-validations[0].rule: Invalid value")
            && message.contains("compilation failed"),
        "{message}"
    );
}

#[tokio::test]
async fn definitions_meant_to_hurt_do_not() {
    let server = Server::new().await;
    // a pattern that others need exponential time for
    let mut definition = widgets();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        ["note"] = json!({"type": "string", "pattern": "^(a+)+$"});
    server.post(DEFINITIONS, &definition).await.expect(201);
    let mut object = widget("a");
    object["spec"]["note"] = format!("{}!", "a".repeat(100_000)).into();
    let begun = std::time::Instant::now();
    server.post(WIDGETS, &object).await.refusal(422);
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    // a pattern that takes too much to make ready
    let mut definition = widgets();
    definition["metadata"]["name"] = "gadgets.example.com".into();
    definition["spec"]["names"] = json!({"plural": "gadgets", "kind": "Gadget"});
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        ["note"] = json!({"type": "string", "pattern": "((a{1000}){1000}){1000}"});
    let message = server.post(DEFINITIONS, &definition).await.refusal(422);
    assert!(
        message.contains("must be a valid regular expression"),
        "{message}"
    );
    // a schema that goes deeper than bodies may
    let mut deep = json!({"type": "string"});
    for _ in 0..200 {
        deep = json!({"type": "object", "properties": {"a": deep}});
    }
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = deep;
    assert!(server.post(DEFINITIONS, &definition).await.code >= 400);
    // names that would lead elsewhere in the store
    for plural in ["../pods", "a/b", "", "A", "widgets.example"] {
        definition["metadata"]["name"] = format!("{plural}.example.com").into();
        definition["spec"]["names"]["plural"] = plural.into();
        assert!(
            server.post(DEFINITIONS, &definition).await.code >= 400,
            "{plural}"
        );
    }
    // schemas and objects of the wrong shape are refused, not met by a bug
    for schema in [
        json!(1),
        json!([]),
        json!({"type": 1}),
        json!({"type": "object", "properties": []}),
        json!({"type": "object", "properties": {"a": 1}}),
        json!({"items": [1]}),
        json!({"x-kubernetes-validations": [1]}),
    ] {
        let mut definition = widgets();
        definition["metadata"]["name"] = "gadgets.example.com".into();
        definition["spec"]["names"] = json!({"plural": "gadgets", "kind": "Gadget"});
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema.clone();
        let code = server.post(DEFINITIONS, &definition).await.code;
        assert!((400..500).contains(&code), "{schema}: {code}");
    }
    for object in [
        json!({"metadata": {"name": "b"}, "spec": []}),
        json!({"metadata": 1, "spec": {}}),
        json!([]),
    ] {
        let code = server.post(WIDGETS, &object).await.code;
        assert!((400..500).contains(&code), "{object}: {code}");
    }
}
