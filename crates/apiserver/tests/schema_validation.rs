//! Unknown, duplicate and mistyped fields, in upstream's words. Those about types were taken from real kubectl
//! (`kubectl set image --local -f BODY *=x`), which decodes with upstream's decoder.

use apiserver::codec;
use apiserver::schema::{Gvk, Schemas, cannot_be_handled, strict_decoding_error, strict_problems};
use serde_json::{Value, json};

fn gvk(api_version: &str, kind: &str) -> Gvk {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Gvk::gvk(group, version, kind)
}

fn problems(api_version: &str, kind: &str, body: &str) -> String {
    let (value, duplicates) =
        codec::decode("application/json", body.as_bytes(), None).expect("JSON");
    let unknown = Schemas::load().unknown_fields(&gvk(api_version, kind), &value);
    strict_decoding_error(&strict_problems(&duplicates, unknown)).unwrap_or_default()
}

fn type_error(api_version: &str, kind: &str, value: &Value) -> String {
    Schemas::load()
        .type_errors(&gvk(api_version, kind), value)
        .unwrap_or_default()
}

#[test]
fn unknown_and_duplicate_fields_are_named_by_their_path() {
    for (body, expected) in [
        (r#"{"spec":{"replicas":1}}"#, ""),
        (
            r#"{"spec":{"foo":1}}"#,
            r#"strict decoding error: unknown field "spec.foo""#,
        ),
        (
            r#"{"spec":{"replicas":1,"replicas":2}}"#,
            r#"strict decoding error: duplicate field "spec.replicas""#,
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"a"},{"name":"b","imag":"x"}]}}}}"#,
            r#"strict decoding error: unknown field "spec.template.spec.containers[1].imag""#,
        ),
        (
            r#"{"metadata":{"labels":{"a":"1","a":"2"}},"spec":{"Replicas":1}}"#,
            r#"strict decoding error: duplicate field "metadata.labels.a", unknown field "spec.Replicas""#,
        ),
        (
            r#"{"sp\"ec":1}"#,
            r#"strict decoding error: unknown field "sp\"ec""#,
        ),
    ] {
        assert_eq!(problems("apps/v1", "Deployment", body), expected, "{body}");
    }
}

#[test]
fn inlined_fields_are_known_and_free_form_ones_are_not_looked_into() {
    let pod = r#"{"spec":{"volumes":[{"name":"v","configMap":{"name":"c","optional":true}},{"name":"e","emptyDir":{}}],
        "containers":[{"name":"c","livenessProbe":{"httpGet":{"port":80},"periodSeconds":1},
        "resources":{"limits":{"cpu":"1","example.com/gpu":1}},
        "env":[{"name":"A","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}]}],
        "ephemeralContainers":[{"name":"d","targetContainerName":"c","image":"i"}]},
        "metadata":{"managedFields":[{"fieldsV1":{"f:any":{"k:{}":{}}}}]}}"#;
    assert_eq!(problems("v1", "Pod", pod), "");
    assert_eq!(
        problems(
            "apps/v1",
            "ControllerRevision",
            r#"{"revision":1,"data":{"any":{"thing":[1]}}}"#
        ),
        ""
    );
    let crd = r#"{"spec":{"versions":[{"name":"v1","schema":{"openAPIV3Schema":{"type":"object",
        "x-kubernetes-preserve-unknown-fields":true,"additionalProperties":{"type":"string"},
        "properties":{"a":{"items":{"type":"integer","x":1},"default":{"free":null}}}}}}]}}"#;
    assert_eq!(
        problems("apiextensions.k8s.io/v1", "CustomResourceDefinition", crd),
        r#"strict decoding error: unknown field "spec.versions[0].schema.openAPIV3Schema.properties.a.items.x""#
    );
}

#[test]
fn a_kind_that_is_not_described_has_no_problems() {
    assert!(!Schemas::load().contains(&gvk("example.com/v1", "Boat")));
    assert_eq!(problems("example.com/v1", "Boat", r#"{"anything":1}"#), "");
}

#[test]
fn wrong_types_are_told_as_go_tells_them() {
    let deployment = |spec: Value| json!({ "spec": spec });
    let container = |container: Value| json!({ "spec": { "template": { "spec": { "containers": [container] } } } });
    for (value, expected) in [
        (deployment(json!({ "replicas": 3, "paused": null })), ""),
        (
            deployment(json!({ "replicas": "3" })),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            deployment(json!({ "replicas": 1.5 })),
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            deployment(json!({ "replicas": 3_000_000_000_u64 })),
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            deployment(json!({ "template": { "spec": { "containers": { "name": "a" } } } })),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            deployment(json!({ "template": { "spec": { "containers": ["a"] } } })),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.template.spec.containers of type v1.Container",
        ),
        (
            deployment(
                json!({ "template": { "spec": { "containers": [{ "env": [{ "name": "A", "value": 1 }] }] } } }),
            ),
            "json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string",
        ),
        (
            json!({ "metadata": { "labels": { "a": true } } }),
            "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            json!({ "metadata": [] }),
            "json: cannot unmarshal array into Go struct field Deployment.metadata of type v1.ObjectMeta",
        ),
        (
            deployment(json!({ "strategy": { "type": 1 } })),
            "json: cannot unmarshal number into Go struct field DeploymentStrategy.spec.strategy.type of type v1.DeploymentStrategyType",
        ),
        (
            deployment(json!({ "strategy": { "rollingUpdate": { "maxSurge": true } } })),
            "json: cannot unmarshal bool into Go struct field RollingUpdateDeployment.spec.strategy.rollingUpdate.maxSurge of type int32",
        ),
        (
            json!({ "metadata": { "creationTimestamp": "yesterday" } }),
            r#"parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006""#,
        ),
        (
            json!({ "metadata": { "creationTimestamp": 5 } }),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string",
        ),
        (
            json!({ "metadata": { "creationTimestamp": "2024-13-01T00:00:00Z" } }),
            r#"parsing time "2024-13-01T00:00:00Z": month out of range"#,
        ),
        (
            json!({ "metadata": { "creationTimestamp": "2023-02-29T00:00:00Z" } }),
            r#"parsing time "2023-02-29T00:00:00Z": day out of range"#,
        ),
        (
            json!({ "metadata": { "creationTimestamp": "2024-02-29T23:59:59.25+01:00" } }),
            "",
        ),
        (
            deployment(
                json!({ "template": { "spec": { "containers": [{ "resources": { "limits": { "cpu": "1x" } } }] } } }),
            ),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            container(json!({ "livenessProbe": { "httpGet": { "port": [] } } })),
            "json: cannot unmarshal array into Go struct field HTTPGetAction.spec.template.spec.containers.livenessProbe.ProbeHandler.httpGet.port of type int32",
        ),
        (
            container(json!({ "env": [{ "valueFrom": { "secretKeyRef": { "name": 1 } } }] })),
            "json: cannot unmarshal number into Go struct field SecretKeySelector.spec.template.spec.containers.env.valueFrom.secretKeyRef.LocalObjectReference.name of type string",
        ),
        (
            container(json!({ "command": [1] })),
            "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.command of type string",
        ),
        (
            deployment(json!({ "selector": { "matchLabels": ["a"] } })),
            "json: cannot unmarshal array into Go struct field LabelSelector.spec.selector.matchLabels of type map[string]string",
        ),
        (
            // A type that decodes itself stops Go's decoder, so its error wins over an earlier one.
            deployment(
                json!({ "replicas": "3", "template": { "metadata": { "creationTimestamp": "x" } } }),
            ),
            r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#,
        ),
        (
            json!({ "metadata": { "creationTimestamp": "2024-01-01T00:00:00" } }),
            r#"parsing time "2024-01-01T00:00:00" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00""#,
        ),
        (
            json!({ "metadata": { "creationTimestamp": "2024-01-01T00:00:00+99:00" } }),
            r#"parsing time "2024-01-01T00:00:00+99:00": time zone offset hour out of range"#,
        ),
    ] {
        assert_eq!(
            type_error("apps/v1", "Deployment", &value),
            expected,
            "{value}"
        );
    }
    assert_eq!(
        type_error("v1", "Secret", &json!({ "data": { "a": "no base64!" } })),
        "illegal base64 data at input byte 2"
    );
    assert_eq!(
        type_error("v1", "Secret", &json!({ "data": { "a": 1 } })),
        "json: cannot unmarshal number into Go struct field Secret.data of type []uint8"
    );
    assert_eq!(
        type_error(
            "coordination.k8s.io/v1",
            "Lease",
            &json!({ "spec": { "renewTime": "2024-01-01T00:00:00Z" } })
        ),
        r#"parsing time "2024-01-01T00:00:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000""#
    );
}

#[test]
fn the_whole_sentence_is_upstreams() {
    let value = json!({ "spec": { "replicas": "3" } });
    let reason = type_error("apps/v1", "Deployment", &value);
    assert_eq!(
        cannot_be_handled("Deployment", "v1", "Deployment", &reason),
        "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct \
         field DeploymentSpec.spec.replicas of type int32"
    );
}

#[test]
fn a_hundred_problems_are_enough() {
    let fields: serde_json::Map<String, Value> =
        (0..5000).map(|n| (format!("x{n}"), json!(n))).collect();
    assert_eq!(
        Schemas::load()
            .unknown_fields(&gvk("v1", "Pod"), &Value::Object(fields))
            .len(),
        100
    );
}
