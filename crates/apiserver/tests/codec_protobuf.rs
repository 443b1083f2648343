//! Protobuf bodies: what real clients sent, each special type, and bytes that nobody should send.

use apiserver::codec::{DecodeError, decode, protobuf};
use apiserver::schema::Gvk;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const TYPE: &str = "application/vnd.kubernetes.protobuf";

fn fixtures() -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/codec_fixtures");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
        .expect("fixtures")
        .map(|entry| entry.expect("fixture").path())
        .collect();
    paths.sort();
    paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "pb"))
        .map(|path| {
            (
                path.display().to_string(),
                std::fs::read(path).expect("fixture"),
            )
        })
        .collect()
}

/// Go writes a nil list without `omitempty` as null; leaving it out says the same.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (k, without_nulls(v)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        scalar => scalar,
    }
}

#[test]
fn bodies_of_real_clients_become_the_json_they_print() {
    let mut compared = 0;
    for (path, body) in fixtures() {
        let expected = Path::new(&path).with_extension("json");
        let Ok(expected) = std::fs::read(expected) else {
            continue;
        };
        let expected: Value = serde_json::from_slice(&expected).expect("fixture is JSON");
        let (decoded, _) =
            decode(TYPE, &body, None).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(decoded, without_nulls(expected), "{path}");
        compared += 1;
    }
    assert!(compared >= 18, "only {compared} fixtures found");
}

#[test]
fn the_release_record_of_helm_keeps_its_bytes() {
    let (_, body) = fixtures()
        .into_iter()
        .find(|(path, _)| path.ends_with("helm-release.pb"))
        .expect("fixture");
    let (secret, _) = decode(TYPE, &body, None).expect("decodes");
    assert_eq!(secret["type"], "helm.sh/release.v1");
    assert_eq!(secret["metadata"]["name"], "sh.helm.release.v1.rel.v1");
    assert_eq!(secret["metadata"]["labels"]["owner"], "helm");
    assert!(
        secret["data"]["release"]
            .as_str()
            .expect("text")
            .starts_with("SDRzS"),
        "{}",
        secret["data"]["release"]
    );
}

/// A field of a message: number, wire type 2.
fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    out.extend(varint(content.len() as u64));
    out.extend_from_slice(content);
    out
}

fn int(number: u8, value: i64) -> Vec<u8> {
    let mut out = vec![number << 3];
    out.extend(varint(value as u64));
    out
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn join(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.concat()
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let type_meta = join(&[bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())]);
    join(&[
        b"k8s\0".to_vec(),
        bytes(1, &type_meta),
        bytes(2, raw),
        bytes(3, b""),
        bytes(4, b""),
    ])
}

fn message(group: &str, version: &str, kind: &str, raw: &[u8]) -> Value {
    protobuf::decode_message(&Gvk::gvk(group, version, kind), raw).expect("decodes")
}

#[test]
fn a_zero_behind_a_pointer_is_said_and_another_is_not() {
    // DeploymentSpec: replicas (*int32) = 1, minReadySeconds (int32) = 5, paused (bool) = 7
    let spec = join(&[int(1, 0), int(5, 0), int(7, 0)]);
    assert_eq!(
        message("apps", "v1", "Deployment", &bytes(2, &spec)),
        json!({ "spec": { "replicas": 0 } })
    );
    let spec = join(&[int(1, 2), int(5, 9), int(7, 1)]);
    assert_eq!(
        message("apps", "v1", "Deployment", &bytes(2, &spec)),
        json!({ "spec": { "replicas": 2, "minReadySeconds": 9, "paused": true } })
    );
}

#[test]
fn delete_options_are_read_in_every_group() {
    let options = join(&[
        int(1, 0),
        bytes(4, b"Foreground"),
        bytes(2, &bytes(1, b"uid-1")),
    ]);
    let expected = |version: &str| {
        json!({ "apiVersion": version, "kind": "DeleteOptions", "gracePeriodSeconds": 0,
                "propagationPolicy": "Foreground", "preconditions": { "uid": "uid-1" } })
    };
    for version in ["v1", "apps/v1", "policy/v1"] {
        let (value, _) =
            decode(TYPE, &envelope(version, "DeleteOptions", &options), None).expect("decodes");
        assert_eq!(value, expected(version));
    }
}

#[test]
fn inlined_structs_show_their_fields_as_the_outer_ones() {
    // Volume { name = 1, volumeSource = 2 { configMap = 19 { localObjectReference = 1 { name = 1 } } } }
    let config_map = bytes(1, &bytes(1, b"cm"));
    let source = join(&[
        vec![0x9a, 0x01],
        varint(config_map.len() as u64),
        config_map,
    ]);
    let volume = join(&[bytes(1, b"v"), bytes(2, &source)]);
    let pod = message("", "v1", "Pod", &bytes(2, &bytes(1, &volume)));
    assert_eq!(
        pod["spec"]["volumes"],
        json!([{ "name": "v", "configMap": { "name": "cm" } }])
    );

    // Container { livenessProbe = 10 { handler = 1 { httpGet = 2 { path = 1, port = 2 } } } }
    let port = join(&[int(1, 1), int(2, 0), bytes(3, b"http")]);
    let get = join(&[bytes(1, b"/healthz"), bytes(2, &port)]);
    let probe = bytes(1, &bytes(2, &get));
    let container = join(&[bytes(1, b"c"), bytes(10, &probe)]);
    let pod = message("", "v1", "Pod", &bytes(2, &bytes(2, &container)));
    let probe = &pod["spec"]["containers"][0]["livenessProbe"];
    assert_eq!(
        *probe,
        json!({ "httpGet": { "path": "/healthz", "port": "http" } })
    );
}

#[test]
fn special_types_have_their_json_form() {
    // ObjectMeta: creationTimestamp = 8 (Timestamp { seconds = 1, nanos = 2 })
    let at = |seconds: i64, nanos: i64| join(&[int(1, seconds), int(2, nanos)]);
    let meta = |time: Vec<u8>| {
        message("", "v1", "ConfigMap", &bytes(1, &bytes(8, &time)))["metadata"].clone()
    };
    assert_eq!(
        meta(at(1_700_000_000, 5)),
        json!({ "creationTimestamp": "2023-11-14T22:13:20Z" })
    );
    assert_eq!(meta(Vec::new()), json!({}), "the zero time is left out");
    // Lease { spec = 2 { renewTime = 4 (MicroTime) } }
    let lease = message(
        "coordination.k8s.io",
        "v1",
        "Lease",
        &bytes(2, &bytes(4, &at(1_700_000_000, 123_456_789))),
    );
    assert_eq!(
        lease["spec"],
        json!({ "renewTime": "2023-11-14T22:13:20.123456Z" })
    );
    // Secret { data = 2 (map<string, bytes>) }
    let entry = join(&[bytes(1, b"k"), bytes(2, &[0, 255])]);
    assert_eq!(
        message("", "v1", "Secret", &bytes(2, &entry))["data"],
        json!({ "k": "AP8=" })
    );
    // ResourceQuota { spec = 2 { hard = 1 (map<string, Quantity>) } }, not canonical on the wire
    let entry = join(&[bytes(1, b"cpu"), bytes(2, &bytes(1, b"1000m"))]);
    let quota = message("", "v1", "ResourceQuota", &bytes(2, &bytes(1, &entry)));
    assert_eq!(quota["spec"]["hard"], json!({ "cpu": "1" }));
    // ControllerRevision { data = 2 (RawExtension { raw = 1 }), revision = 3 }
    let raw = bytes(2, &bytes(1, br#"{"spec":{"a":[1,null]}}"#));
    let revision = message("apps", "v1", "ControllerRevision", &join(&[raw, int(3, 0)]));
    assert_eq!(
        revision,
        json!({ "data": { "spec": { "a": [1, null] } }, "revision": 0 })
    );
    // ObjectMeta { managedFields = 17 [ { manager = 1, fieldsV1 = 7 { raw = 1 } } ] }
    let entry = join(&[bytes(1, b"m"), bytes(7, &bytes(1, br#"{"f:data":{}}"#))]);
    let managed = join(&[vec![0x8a, 0x01], varint(entry.len() as u64), entry]);
    let map = message("", "v1", "ConfigMap", &bytes(1, &managed));
    assert_eq!(
        map["metadata"]["managedFields"],
        json!([{ "manager": "m", "fieldsV1": { "f:data": {} } }])
    );
}

#[test]
fn an_envelope_may_carry_json_and_leave_its_type_to_the_address() {
    let hint = Gvk::gvk("", "v1", "Namespace");
    let body = join(&[b"k8s\0".to_vec(), bytes(2, &bytes(1, &bytes(1, b"n")))]);
    let (value, _) = decode(TYPE, &body, Some(&hint)).expect("decodes");
    assert_eq!(
        value,
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "n" } })
    );
    let type_meta = join(&[bytes(1, b"example.com/v1"), bytes(2, b"Boat")]);
    let body = join(&[
        b"k8s\0".to_vec(),
        bytes(1, &type_meta),
        bytes(2, br#"{"a":1}"#),
        bytes(4, b"application/json"),
    ]);
    let (value, _) = decode(TYPE, &body, None).expect("decodes");
    assert_eq!(
        value,
        json!({ "apiVersion": "example.com/v1", "kind": "Boat", "a": 1 })
    );
}

#[test]
fn unknown_fields_and_groups_are_passed_over() {
    // number 15: varint, fixed64, fixed32, bytes, a group with a varint inside
    let unknown = [
        vec![15 << 3, 1],
        vec![15 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0],
        vec![15 << 3 | 5, 0, 0, 0, 0],
        bytes(15, b"x"),
        vec![15 << 3 | 3, 8, 1, 15 << 3 | 4],
    ];
    let body = join(&[join(&unknown), bytes(1, &bytes(1, b"n"))]);
    assert_eq!(
        message("", "v1", "Namespace", &body),
        json!({ "metadata": { "name": "n" } })
    );
}

#[test]
fn broken_bodies_are_refused_with_the_reason() {
    let pod = |raw: &[u8]| envelope("v1", "Pod", raw);
    let cases: &[(&str, Vec<u8>, &str)] = &[
        ("empty", vec![], "does not appear to be a protobuf message"),
        (
            "json",
            b"{}".to_vec(),
            "does not appear to be a protobuf message",
        ),
        (
            "truncated envelope",
            b"k8s\0\x0a\xff\x01".to_vec(),
            "unexpected EOF",
        ),
        ("no kind", b"k8s\0".to_vec(), "Object 'Kind' is missing"),
        (
            "unknown kind",
            envelope("v1", "Boat", b""),
            "no kind \"Boat\" is registered for version \"v1\"",
        ),
        (
            "length beyond the end",
            pod(&[0x0a, 0x7f]),
            "unexpected EOF",
        ),
        (
            "length of 2^63",
            pod(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
            "unexpected EOF",
        ),
        (
            "varint of 11 bytes",
            pod(&[0x78, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
            "integer overflow",
        ),
        ("field number 0", pod(&[0x02, 0]), "illegal tag 0"),
        (
            "end of no group",
            pod(&[0x0c]),
            "illegal tag 1 (wire type 4)",
        ),
        (
            "wrong wire type",
            pod(&bytes(2, &[0x18, 1])),
            "wrong wireType = 0 for field restartPolicy",
        ),
        (
            "not UTF-8",
            pod(&bytes(1, &bytes(1, &[0xff]))),
            "field name is not valid UTF-8",
        ),
        (
            "bad quantity",
            envelope(
                "v1",
                "ResourceQuota",
                &bytes(
                    2,
                    &bytes(1, &join(&[bytes(1, b"cpu"), bytes(2, &bytes(1, b"1x"))])),
                ),
            ),
            "field hard: quantities must match",
        ),
    ];
    for (name, body, reason) in cases {
        let error = decode(TYPE, body, None).expect_err(name);
        assert!(error.to_string().contains(reason), "{name}: {error}");
    }
}

#[test]
fn nesting_beyond_the_limit_is_refused() {
    // JSONSchemaProps { not = 25 { not = 25 { ... } } } below a CustomResourceDefinition's version
    let mut schema = Vec::new();
    for _ in 0..300 {
        schema = join(&[vec![0xca, 0x01], varint(schema.len() as u64), schema]);
    }
    // spec = 2 { versions = 7 [ { schema = 4 { openAPIV3Schema = 1 } } ] }
    let body = bytes(2, &bytes(7, &bytes(4, &bytes(1, &schema))));
    let error = decode(
        TYPE,
        &envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", &body),
        None,
    );
    assert!(matches!(error, Err(DecodeError::Limit(_))), "{error:?}");
}

#[test]
fn small_bytes_do_not_unfold_to_large_memory() {
    let containers = [0x12u8, 0x00].repeat(1_100_000);
    let error = decode(TYPE, &envelope("v1", "Pod", &bytes(2, &containers)), None);
    assert!(matches!(error, Err(DecodeError::Limit(_))), "{error:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_value_or_an_error(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
        for (version, kind) in [("v1", "Pod"), ("apps/v1", "Deployment"), ("autoscaling/v2", "HorizontalPodAutoscaler")] {
            let _ = decode(TYPE, &envelope(version, kind, &raw), None);
        }
        let _ = protobuf::envelope(&[b"k8s\0", &raw[..]].concat());
    }

    #[test]
    fn mutated_bodies_of_real_clients_are_a_value_or_an_error(
        which in any::<proptest::sample::Index>(),
        cut in any::<proptest::sample::Index>(),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let all = fixtures();
        let mut body = which.get(&all).1.clone();
        for (at, byte) in flips {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let _ = decode(TYPE, &body, None);
        body.truncate(cut.index(body.len()));
        let _ = decode(TYPE, &body, None);
    }
}
