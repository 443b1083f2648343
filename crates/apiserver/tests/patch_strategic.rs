//! Strategic merge patch: every directive, list order, and what must not get lost. Case ideas are upstream's
//! (`apimachinery/pkg/util/strategicpatch/patch_test.go`), on real kinds.

use apiserver::patch::{PatchError, PatchKind, apply};
use apiserver::schema::Gvk;
use proptest::prelude::*;
use serde_json::{Value, json};

fn patch(kind: &str, original: &Value, patch: &Value) -> Result<Value, PatchError> {
    let group = if kind == "Deployment" { "apps" } else { "" };
    apply(
        PatchKind::Strategic,
        original,
        patch.to_string().as_bytes(),
        &Gvk::gvk(group, "v1", kind),
    )
}

fn yaml(text: &str) -> Value {
    apiserver::codec::yaml::decode(text.as_bytes())
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .0
}

struct Case {
    name: &'static str,
    kind: &'static str,
    original: &'static str,
    patch: &'static str,
    result: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "scalars and maps merge, null deletes, null of nothing is nothing",
        kind: "ConfigMap",
        original: "{metadata: {name: c, labels: {a: '1', b: '2'}}, data: {x: y}}",
        patch: "{metadata: {labels: {a: null, c: '3', d: null}}, data: {x: z}}",
        result: "{metadata: {name: c, labels: {b: '2', c: '3'}}, data: {x: z}}",
    },
    Case {
        name: "containers merge by name, a new one keeps the patch's order",
        kind: "Pod",
        original: "{spec: {containers: [{name: a, image: i1, env: [{name: E, value: '1'}]}, {name: b, image: i2}]}}",
        patch: "{spec: {containers: [{name: new, image: i3}, {name: a, image: i9, env: [{name: F, value: '2'}]}]}}",
        result: "{spec: {containers: [{name: new, image: i3}, {name: a, image: i9, env: [{name: F, value: '2'}, {name: E, value: '1'}]}, {name: b, image: i2}]}}",
    },
    Case {
        name: "$setElementOrder puts the server's own items where they were",
        kind: "Pod",
        original: "{spec: {containers: [{name: a}, {name: server}, {name: b}]}}",
        patch: "{spec: {$setElementOrder/containers: [{name: b}, {name: c}, {name: a}], containers: [{name: b, image: x}, {name: c, image: y}]}}",
        result: "{spec: {containers: [{name: server}, {name: b, image: x}, {name: c, image: y}, {name: a}]}}",
    },
    Case {
        name: "$setElementOrder alone reorders",
        kind: "Pod",
        original: "{spec: {containers: [{name: a}, {name: b}, {name: c}]}}",
        patch: "{spec: {$setElementOrder/containers: [{name: c}, {name: a}, {name: b}]}}",
        result: "{spec: {containers: [{name: c}, {name: a}, {name: b}]}}",
    },
    Case {
        name: "$patch: delete takes an item out, and none that is not there",
        kind: "Pod",
        original: "{spec: {containers: [{name: a}, {name: b}]}}",
        patch: "{spec: {containers: [{name: a, $patch: delete}, {name: zz, $patch: delete}]}}",
        result: "{spec: {containers: [{name: b}]}}",
    },
    Case {
        name: "a list item $patch: replace makes the patch's other items the list",
        kind: "Pod",
        original: "{spec: {containers: [{name: a}, {name: b}]}}",
        patch: "{spec: {containers: [{name: c}, {$patch: replace}]}}",
        result: "{spec: {containers: [{name: c}]}}",
    },
    Case {
        name: "a map's $patch: replace drops what the patch does not say",
        kind: "ConfigMap",
        original: "{metadata: {name: c}, data: {a: '1', b: '2'}}",
        patch: "{data: {$patch: replace, c: '3'}}",
        result: "{metadata: {name: c}, data: {c: '3'}}",
    },
    Case {
        name: "a map's $patch: delete empties it",
        kind: "ConfigMap",
        original: "{data: {a: '1'}, metadata: {name: c}}",
        patch: "{data: {$patch: delete}}",
        result: "{data: {}, metadata: {name: c}}",
    },
    Case {
        name: "a map that is not there is not made by $patch: delete",
        kind: "ConfigMap",
        original: "{metadata: {name: c}}",
        patch: "{data: {$patch: delete}}",
        result: "{metadata: {name: c}}",
    },
    Case {
        name: "$retainKeys clears the other members of a union",
        kind: "Deployment",
        original: "{spec: {strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1}}}}",
        patch: "{spec: {strategy: {$retainKeys: [type], type: Recreate}}}",
        result: "{spec: {strategy: {type: Recreate}}}",
    },
    Case {
        name: "$retainKeys in a merged list's item: a volume changes its source",
        kind: "Pod",
        original: "{spec: {volumes: [{name: v, emptyDir: {medium: Memory}}, {name: w, emptyDir: {}}]}}",
        patch: "{spec: {volumes: [{name: v, $retainKeys: [name, configMap], configMap: {name: c}}]}}",
        result: "{spec: {volumes: [{name: v, configMap: {name: c}}, {name: w, emptyDir: {}}]}}",
    },
    Case {
        name: "scalars of a merge list are a set: added, and taken out by $deleteFromPrimitiveList",
        kind: "Pod",
        original: "{metadata: {finalizers: [a, b, c]}}",
        patch: "{metadata: {$deleteFromPrimitiveList/finalizers: [b, x], finalizers: [d, a]}}",
        result: "{metadata: {finalizers: [d, a, c]}}",
    },
    Case {
        name: "$deleteFromPrimitiveList with an order",
        kind: "Pod",
        original: "{metadata: {finalizers: [a, b, c]}}",
        patch: "{metadata: {$setElementOrder/finalizers: [c, a], $deleteFromPrimitiveList/finalizers: [b]}}",
        result: "{metadata: {finalizers: [c, a]}}",
    },
    Case {
        name: "$deleteFromPrimitiveList of a list that is not there",
        kind: "Pod",
        original: "{metadata: {name: p}}",
        patch: "{metadata: {$deleteFromPrimitiveList/finalizers: [b]}}",
        result: "{metadata: {name: p}}",
    },
    Case {
        name: "a list without strategy is replaced",
        kind: "Pod",
        original: "{spec: {containers: [{name: a, command: [x, y]}], tolerations: [{key: a}, {key: b}]}}",
        patch: "{spec: {containers: [{name: a, command: [z]}], tolerations: [{key: c}]}}",
        result: "{spec: {containers: [{name: a, command: [z]}], tolerations: [{key: c}]}}",
    },
    Case {
        name: "ports of one number and two protocols: the first is merged, as upstream knows the number only",
        kind: "Service",
        original: "{spec: {ports: [{port: 53, protocol: UDP, name: u}, {port: 53, protocol: TCP, name: t}]}}",
        patch: "{spec: {ports: [{port: 53, protocol: TCP, nodePort: 30053}]}}",
        result: "{spec: {ports: [{port: 53, protocol: TCP, name: u, nodePort: 30053}, {port: 53, protocol: TCP, name: t}]}}",
    },
    Case {
        name: "container ports merge by containerPort",
        kind: "Pod",
        original: "{spec: {containers: [{name: a, ports: [{containerPort: 80, name: w}, {containerPort: 90}]}]}}",
        patch: "{spec: {containers: [{name: a, ports: [{containerPort: 90, protocol: UDP}, {containerPort: 80, $patch: delete}]}]}}",
        result: "{spec: {containers: [{name: a, ports: [{containerPort: 90, protocol: UDP}]}]}}",
    },
    Case {
        name: "unknown fields stay, unknown lists are replaced, unknown maps merged",
        kind: "Pod",
        original: "{spec: {future: {a: 1, l: [1, 2]}, containers: [{name: a, later: true}]}}",
        patch: "{spec: {future: {b: 2, l: [3]}, containers: [{name: a, image: i}]}}",
        result: "{spec: {future: {a: 1, b: 2, l: [3]}, containers: [{name: a, later: true, image: i}]}}",
    },
    Case {
        name: "another type than before takes its place",
        kind: "Service",
        original: "{spec: {ports: [{port: 80, targetPort: 8080}]}}",
        patch: "{spec: {ports: [{port: 80, targetPort: http}]}}",
        result: "{spec: {ports: [{port: 80, targetPort: http}]}}",
    },
    Case {
        name: "directives and nulls in something new do not arrive in the object",
        kind: "Deployment",
        original: "{metadata: {name: d}}",
        patch: "{spec: {replicas: null, strategy: {$retainKeys: [type], type: Recreate}, template: {spec: {$setElementOrder/containers: [{name: a}], containers: [{name: a, image: null}, {name: b, $patch: delete}]}}}}",
        result: "{metadata: {name: d}, spec: {strategy: {type: Recreate}, template: {spec: {containers: [{name: a}]}}}}",
    },
    Case {
        name: "a whole object replaced",
        kind: "ConfigMap",
        original: "{metadata: {name: c}, data: {a: '1'}}",
        patch: "{$patch: replace, metadata: {name: c}}",
        result: "{metadata: {name: c}}",
    },
    Case {
        name: "conditions merge by type",
        kind: "Pod",
        original: "{status: {conditions: [{type: Ready, status: 'False'}, {type: Initialized, status: 'True'}]}}",
        patch: "{status: {conditions: [{type: Ready, status: 'True'}], $setElementOrder/conditions: [{type: Ready}]}}",
        result: "{status: {conditions: [{type: Ready, status: 'True'}, {type: Initialized, status: 'True'}]}}",
    },
];

#[test]
fn cases() {
    for case in CASES {
        let result = patch(case.kind, &yaml(case.original), &yaml(case.patch));
        assert_eq!(
            result.as_ref().ok(),
            Some(&yaml(case.result)),
            "{}: {result:?}",
            case.name
        );
    }
}

#[test]
fn what_kubectl_apply_sends_becomes_what_upstream_makes_of_it() {
    let read = |name: &str| -> Value {
        let path = format!("{}/tests/patch_fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_slice(&std::fs::read(path).expect("fixture")).expect("JSON")
    };
    let result = patch(
        "Deployment",
        &read("apply.live.json"),
        &read("apply.patch.json"),
    );
    assert_eq!(result, Ok(read("apply.result.json")));
}

#[test]
fn patches_that_make_no_sense_are_refused_with_upstreams_words() {
    let pod = yaml(
        "{spec: {containers: [{name: a}], volumes: [{name: v}]}, metadata: {finalizers: [a]}}",
    );
    for (body, reason) in [
        (
            "{spec: {containers: [{image: i}]}}",
            "map: map[image:i] does not contain declared merge key: name",
        ),
        (
            "{spec: {containers: [{$patch: delete}]}}",
            "does not contain declared merge key: name",
        ),
        (
            "{spec: {containers: [{name: a, $patch: explode}]}}",
            "unknown patch type: explode in map: map[",
        ),
        (
            "{spec: {$patch: explode}}",
            "unknown patch type: explode in map: map[]",
        ),
        (
            "{spec: {containers: [{name: a, $patch: merge}]}}",
            "merging lists cannot yet be specified in the patch",
        ),
        (
            "{spec: {containers: ['x']}}",
            "list element types are not identical",
        ),
        (
            "{spec: {containers: [[1]]}}",
            "lists of lists are not supported",
        ),
        (
            "{metadata: {finalizers: [1]}}",
            "list element types are not identical",
        ),
        (
            "{spec: {$setElementOrder/containers: x}}",
            "invalid patch format of setElementOrder list",
        ),
        (
            "{spec: {$setElementOrder/containers: [{name: b}], containers: [{name: a}]}}",
            "doesn't match $setElementOrder list",
        ),
        (
            "{metadata: {$deleteFromPrimitiveList/finalizers: x}}",
            "invalid patch format of primitive list",
        ),
        (
            "{spec: {volumes: [{name: v, $retainKeys: x}]}}",
            "invalid patch format of retainKeys",
        ),
        (
            "{spec: {volumes: [{name: v, $retainKeys: [name], emptyDir: {}}]}}",
            "invalid patch format of retainKeys",
        ),
    ] {
        let error = patch("Pod", &pod, &yaml(body)).expect_err(body).to_string();
        assert!(error.contains(reason), "{body}: {error}");
    }
}

#[test]
fn only_built_in_kinds_have_it_and_only_objects_are_patches() {
    let gvk = Gvk::gvk("example.com", "v1", "Boat");
    let error = apply(PatchKind::Strategic, &json!({}), b"{}", &gvk).expect_err("refused");
    assert!(matches!(error, PatchError::Unsupported(_)));
    for body in [&b"[]"[..], b"1", b"\"x\"", b"null", b"{", b""] {
        let error = apply(
            PatchKind::Strategic,
            &json!({}),
            body,
            &Gvk::gvk("", "v1", "Pod"),
        )
        .expect_err("refused");
        assert!(matches!(error, PatchError::Malformed(_)), "{error:?}");
    }
}

#[test]
fn long_lists_merge_in_little_time() {
    let names: Vec<String> = (0..50_000).map(|n| format!("example.com/f{n}")).collect();
    let back: Vec<&String> = names.iter().rev().collect();
    let result = patch(
        "Pod",
        &json!({ "metadata": { "finalizers": names } }),
        &json!({ "metadata": { "finalizers": back } }),
    );
    assert_eq!(
        result.expect("merged")["metadata"]["finalizers"][0],
        "example.com/f49999"
    );
}

/// Small objects whose keys are those that merging treats specially.
fn objects() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3).prop_map(Value::from),
        "[a-c]".prop_map(Value::from),
        Just(Value::from("delete")),
        Just(Value::from("replace"))
    ];
    let key = prop_oneof![
        "spec",
        "metadata",
        "containers",
        "name",
        "finalizers",
        "ports",
        "containerPort",
        "volumes",
        "env",
        "labels",
        "\\$patch",
        "\\$retainKeys",
        "\\$setElementOrder/containers",
        "\\$deleteFromPrimitiveList/finalizers",
        "other"
    ];
    scalar.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key.clone(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_patch_of_any_object_is_an_object_or_an_error(original in objects(), change in objects()) {
        if let Ok(result) = patch("Pod", &original, &change) {
            prop_assert!(result.is_object());
        }
    }

    #[test]
    fn an_empty_patch_changes_nothing(original in objects()) {
        prop_assume!(original.is_object());
        prop_assert_eq!(patch("Pod", &original, &json!({})), Ok(original));
    }

    #[test]
    fn merging_a_list_of_scalars_twice_is_merging_it_once(
        before in proptest::collection::vec("[a-e]", 0..6), change in proptest::collection::vec("[a-e]", 1..6)
    ) {
        let change = json!({ "metadata": { "finalizers": change } });
        let once = patch("Pod", &json!({ "metadata": { "finalizers": before } }), &change).expect("merged");
        prop_assert_eq!(patch("Pod", &once, &change).expect("merged"), once);
    }
}
