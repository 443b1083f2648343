//! The rows agree with each other.

use super::*;

#[test]
fn rows_are_consistent() {
    let mut seen = std::collections::HashSet::new();
    for kind in all() {
        assert!(
            seen.insert((kind.group, kind.version, kind.plural)),
            "{} twice",
            kind.plural
        );
        assert!(
            !kind.kind.is_empty() && !kind.singular.is_empty(),
            "{}",
            kind.plural
        );
        if kind.storage.is_empty() {
            continue;
        }
        assert!(
            kind.storage.starts_with("/registry/") && !kind.storage.ends_with('/'),
            "{}",
            kind.plural
        );
        // Kinds under one prefix share a watch cache, so one reads the fields of the other.
        let first = all()
            .iter()
            .find(|k| k.storage == kind.storage)
            .expect("itself at least");
        assert_eq!(first.fields.len(), kind.fields.len(), "{}", kind.plural);
        for (a, b) in first.fields.iter().zip(kind.fields) {
            assert_eq!(a.path, b.path, "{}", kind.plural);
        }
    }
}

/// Resources that upstream keeps elsewhere than beneath their own name: `SpecialDefaultResourcePrefixes` in
/// `pkg/kubeapiserver/default_storage_factory_builder.go`. Everything else lies beneath `/registry/RESOURCE`, whatever its group.
/// The API servers for definitions and for APIServices keep theirs beneath their groups.
const ELSEWHERE: [(&str, &str); 7] = [
    ("replicationcontrollers", "controllers"),
    ("endpoints", "services/endpoints"),
    ("nodes", "minions"),
    ("services", "services/specs"),
    ("ingresses", "ingress"),
    (
        "customresourcedefinitions",
        "apiextensions.k8s.io/customresourcedefinitions",
    ),
    ("apiservices", "apiregistration.k8s.io/apiservices"),
];

/// So that a stock API server on the same etcd reads what this one has stored.
#[test]
fn objects_lie_where_a_stock_server_looks_for_them() {
    let mut checked = 0;
    for kind in all() {
        // A stock server knows nothing of our own kinds.
        if kind.storage.is_empty() || kind.group.ends_with("plimsoll.dev") {
            continue;
        }
        let elsewhere = ELSEWHERE.iter().find(|(plural, _)| *plural == kind.plural);
        let place = elsewhere.map_or(kind.plural, |(_, place)| place);
        assert_eq!(
            kind.storage,
            format!("/registry/{place}"),
            "{}",
            kind.plural
        );
        let key = if kind.namespaced {
            assert_eq!(kind.key("ns", "a"), kind.prefix("ns") + "a");
            format!("/registry/{place}/ns/a")
        } else {
            format!("/registry/{place}/a")
        };
        assert_eq!(kind.key("ns", "a"), key);
        let mut value = serde_json::json!({
            "apiVersion": kind.api_version(), "kind": kind.kind,
            "metadata": {"name": "a", "namespace": "ns"},
        });
        kind.to_stored(&mut value);
        assert_eq!(value["kind"], kind.kind, "{}", kind.plural);
        assert_eq!(value["apiVersion"], kind.storage_version, "{}", kind.plural);
        checked += 1;
    }
    assert!(checked > 30, "{checked}");
    for (plural, place) in ELSEWHERE {
        let there = all().iter().find(|kind| kind.plural == plural);
        let storage = there.expect("the kind is served").storage;
        assert_eq!(storage, format!("/registry/{place}"));
    }
}
