//! Objects as protobuf: what real clients sent comes out again byte by byte, and what is written reads back the same.

use apiserver::codec::{decode, protobuf};
use apiserver::schema::Gvk;
use serde_json::{Value, json};
use std::path::Path;

const TYPE: &str = "application/vnd.kubernetes.protobuf";

#[test]
fn bodies_of_real_clients_are_written_as_they_were() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/codec_fixtures");
    let mut compared = 0;
    for entry in std::fs::read_dir(directory).expect("fixtures") {
        let path = entry.expect("a fixture").path();
        if path.extension().is_none_or(|extension| extension != "pb") {
            continue;
        }
        let body = std::fs::read(&path).expect("a fixture");
        let (object, _) = decode(TYPE, &body, None).expect("decodes");
        let again = protobuf::encode(&object).expect("encodes");
        let place = again.iter().zip(&body).position(|(a, b)| a != b);
        assert_eq!(
            again,
            body,
            "{}: differs at {place:?}: {object}",
            path.display()
        );
        compared += 1;
    }
    assert!(compared >= 19, "only {compared} fixtures found");
}

#[test]
fn zero_values_and_absent_pointers() {
    let pod = |spec: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec});
    let gvk = Gvk::gvk("apps", "v1", "Deployment");
    let message = |object: Value| protobuf::encode_message(&gvk, &object).expect("encodes");
    let none = message(json!({"spec": {"selector": {}}}));
    let zero = message(json!({"spec": {"replicas": 0, "selector": {}}}));
    assert_ne!(none, zero, "no replicas is not zero replicas");
    let read = protobuf::decode_message(&gvk, &zero).expect("decodes");
    assert_eq!(read["spec"]["replicas"], 0);
    let read = protobuf::decode_message(&gvk, &none).expect("decodes");
    assert!(read["spec"].get("replicas").is_none());
    // Fields without a pointer are there although they are empty: generated decoders need not have defaults.
    let bytes = protobuf::encode(&pod(json!({"containers": [{"name": "c"}]}))).expect("encodes");
    let envelope = protobuf::envelope(&bytes).expect("an envelope");
    assert_eq!((envelope.api_version, envelope.kind), ("v1", "Pod"));
    let image_is_empty = [0x0a, 1, b'c', 0x12, 0];
    assert!(
        envelope.raw.windows(5).any(|w| w == image_is_empty),
        "{:?}",
        envelope.raw
    );
}

#[test]
fn special_types_have_their_forms() {
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e",
        "creationTimestamp": "2026-01-02T03:04:05Z"}, "eventTime": "2026-01-02T03:04:05.000006Z"});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s",
        "managedFields": [{"manager": "m", "operation": "Update", "fieldsV1": {"f:spec": {"f:ports": {}}}}]},
        "spec": {"ports": [{"port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 8080}]}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "AP8=", "b": ""}});
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"},
        "spec": {"hard": {"cpu": "1500m", "memory": "1Gi"}}});
    for object in [event, service, secret, quota] {
        let bytes = protobuf::encode(&object).expect("encodes");
        let (read, _) = decode(TYPE, &bytes, None).expect("decodes");
        assert!(contains(&read, &object), "{object} became {read}");
    }
}

#[test]
fn events_of_a_watch_are_framed() {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "resourceVersion": "7"}});
    let frame = protobuf::encode_event("ADDED", &object).expect("encodes");
    let (length, event) = frame.split_at(4);
    assert_eq!(
        u32::from_be_bytes(length.try_into().expect("four bytes")) as usize,
        event.len()
    );
    let gvk = Gvk::gvk("", "v1", "WatchEvent");
    let read = protobuf::decode_message(&gvk, event).expect("decodes");
    assert_eq!(read["type"], "ADDED");
    assert_eq!(read["object"]["kind"], "ConfigMap");
    assert_eq!(read["object"]["metadata"]["resourceVersion"], "7");
}

#[test]
fn lists_grow_item_by_item() {
    let gvk = Gvk::gvk("", "v1", "ConfigMapList");
    let mut list = protobuf::List::new(
        gvk,
        &json!({"resourceVersion": "9", "continue": "c", "remainingItemCount": 3}),
    )
    .expect("encodes")
    .expect("has a form");
    let items: Vec<Value> = ["a", "b"]
        .iter()
        .map(|name| json!({"metadata": {"name": name}, "data": {"k": "v".repeat(300)}}))
        .collect();
    for item in &items {
        list.push(item).expect("encodes");
    }
    let (read, _) = decode(TYPE, &list.finish(), None).expect("decodes");
    let whole = json!({"apiVersion": "v1", "kind": "ConfigMapList", "items": items,
        "metadata": {"resourceVersion": "9", "continue": "c", "remainingItemCount": 3}});
    assert!(contains(&read, &whole), "{read}");
    let custom = protobuf::List::new(Gvk::gvk("x.example", "v1", "ThingList"), &json!({}));
    assert!(matches!(custom, Ok(None)), "custom kinds have no form");
}

#[test]
fn values_of_wrong_types_are_refused_by_name() {
    let cases = [
        (json!({"spec": {"replicas": "x"}}), "spec.replicas"),
        (json!({"spec": []}), "spec"),
        (json!({"metadata": {"labels": []}}), "metadata.labels"),
        (
            json!({"metadata": {"creationTimestamp": "yesterday"}}),
            "metadata.creationTimestamp",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": {}}}}}),
            "spec.template.spec.containers",
        ),
    ];
    let gvk = Gvk::gvk("apps", "v1", "Deployment");
    for (object, field) in cases {
        let error = protobuf::encode_message(&gvk, &object).expect_err(field);
        assert_eq!(error.field, field);
    }
    let unknown = json!({"apiVersion": "x/v1", "kind": "Y"});
    assert!(protobuf::encode(&unknown).is_err());
}

/// Whether everything that `part` says is in `whole`; zero values may be more.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(key, value)| whole.get(key).is_some_and(|found| contains(found, value))),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(a, b)| contains(a, b))
        }
        (whole, part) => whole == part,
    }
}
