//! Definitions that are refused, and why.

use super::*;
use crate::custom::schema::NODES_MAX;
use crate::registry::Problems;

/// A definition that is accepted, changed.
fn definition(change: impl FnOnce(&mut Value)) -> Value {
    let mut object = json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
                "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer"}, "o": {"type": "object"}}}}}}}],
        },
    });
    change(&mut object);
    defaults(&mut object);
    prepare_create(&mut object);
    object
}

fn found(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut problems = Problems::default();
    validate(&definition(change), &mut problems);
    problems
        .0
        .iter()
        .map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect()
}

#[test]
fn names_and_conversion_are_defaulted() {
    let object = definition(|_| {});
    assert_eq!(object["spec"]["names"]["singular"], "widget");
    assert_eq!(object["spec"]["names"]["listKind"], "WidgetList");
    assert_eq!(object["spec"]["conversion"], json!({"strategy": "None"}));
    assert_eq!(object["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(found(|_| {}), Vec::<String>::new());
}

#[test]
fn upstreams_words() {
    type Change = fn(&mut Value);
    let cases: Vec<(Change, &[&str])> = vec![
        (
            |o| o["metadata"]["name"] = "x".into(),
            &["metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group"],
        ),
        (
            |o| {
                o["spec"]["group"] = "example".into();
                o["metadata"]["name"] = "widgets.example".into();
            },
            &["spec.group: Invalid value: \"example\": should be a domain with at least one dot"],
        ),
        (
            |o| o["spec"]["scope"] = "World".into(),
            &[
                "spec.scope: Unsupported value: \"World\": supported values: \"Cluster\", \"Namespaced\"",
            ],
        ),
        (
            |o| o["spec"]["scope"] = Value::Null,
            &["spec.scope: Required value"],
        ),
        (
            |o| o["spec"]["versions"][0]["schema"] = Value::Null,
            &["spec.versions[0].schema.openAPIV3Schema: Required value"],
        ),
        (
            |o| o["spec"]["versions"][0]["storage"] = false.into(),
            &[
                "spec.versions: Invalid value: [\"v1\"]: must have exactly one version marked as storage version",
                "status.storedVersions: Invalid value: []: must have at least one stored version",
            ],
        ),
        (
            |o| o["spec"]["names"]["listKind"] = "Widget".into(),
            &[
                "spec.names.listKind: Invalid value: \"Widget\": kind and listKind may not be the same",
            ],
        ),
        (
            |o| o["spec"]["preserveUnknownFields"] = true.into(),
            &[
                "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
            ],
        ),
        (
            |o| {
                o["spec"]["versions"][0]["subresources"] =
                    json!({"scale": {"specReplicasPath": ".status.n", "statusReplicasPath": "x"}})
            },
            &[
                "spec.versions[0].subresources.scale.specReplicasPath: Invalid value: \".status.n\": should be a json path under .spec",
                "spec.versions[0].subresources.scale.statusReplicasPath: Invalid value: \"x\": must be a simple json path starting with .",
            ],
        ),
        (
            |o| {
                o["spec"]["versions"][0]["additionalPrinterColumns"] =
                    json!([{"name": "C", "type": "text", "jsonPath": ".spec.n"}])
            },
            &[
                "spec.versions[0].additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of boolean,date,integer,number,string",
            ],
        ),
        (
            |o| {
                o["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": ".spec.o"}, {"jsonPath": ".spec.n"}, {"jsonPath": ".spec.n"}])
            },
            &[
                "spec.versions[0].selectableFields[0].jsonPath: Invalid value: \".spec.o\": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
                "spec.versions[0].selectableFields[2].jsonPath: Duplicate value: \".spec.n\"",
            ],
        ),
        (
            |o| o["spec"]["conversion"] = json!({"strategy": "Webhook"}),
            &[
                "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
                "spec.conversion.conversionReviewVersions: Required value",
            ],
        ),
        (
            |o| o["spec"]["versions"][0]["deprecationWarning"] = "old".into(),
            &[
                "spec.versions[0].deprecationWarning: Invalid value: \"old\": can only be set for deprecated versions",
            ],
        ),
        (
            |o| {
                o["spec"]["group"] = "x.k8s.io".into();
                o["metadata"]["name"] = "widgets.x.k8s.io".into();
            },
            &[
                "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
            ],
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(found(change), expected);
    }
}

#[test]
fn what_is_established_is_fixed() {
    let mut old = definition(|_| {});
    set_condition(
        &mut old,
        "Established",
        "True",
        "R",
        "m",
        "2026-01-01T00:00:00Z",
    );
    let mut new = old.clone();
    new["spec"]["scope"] = "Cluster".into();
    new["spec"]["group"] = "other.example.com".into();
    let mut problems = Problems::default();
    validate_update(&new, &old, &mut problems);
    let fields: Vec<_> = problems
        .0
        .iter()
        .map(|cause| cause.field.as_str())
        .collect();
    assert_eq!(fields, ["spec.group", "spec.scope"]);
}

#[test]
fn enormous_schemas_are_refused() {
    let message = found(|o| {
        let many: serde_json::Map<_, _> = (0..NODES_MAX)
            .map(|n| (format!("p{n}"), json!({"type": "string"})))
            .collect();
        o["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"] = many.into();
    });
    assert_eq!(message.len(), 1, "{message:?}");
    assert!(message[0].contains("at most 50000 places"), "{message:?}");
}
