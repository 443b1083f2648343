//! JSON patch and merge patch: results, refusals, and bounds.

use apiserver::patch::{PatchError, PatchKind, apply};
use apiserver::schema::Gvk;
use proptest::prelude::*;
use serde_json::{Value, json};

fn patch(kind: PatchKind, original: &Value, body: &Value) -> Result<Value, PatchError> {
    apply(
        kind,
        original,
        body.to_string().as_bytes(),
        &Gvk::gvk("example.com", "v1", "Boat"),
    )
}

#[test]
fn merge_patch_is_rfc_7396() {
    for (original, body, result) in [
        (
            json!({ "a": "b" }),
            json!({ "a": "c" }),
            json!({ "a": "c" }),
        ),
        (
            json!({ "a": "b" }),
            json!({ "b": "c" }),
            json!({ "a": "b", "b": "c" }),
        ),
        (
            json!({ "a": "b", "b": "c" }),
            json!({ "a": null }),
            json!({ "b": "c" }),
        ),
        (
            json!({ "a": ["b"] }),
            json!({ "a": "c" }),
            json!({ "a": "c" }),
        ),
        (
            json!({ "a": { "b": "c" } }),
            json!({ "a": { "b": "d", "c": null } }),
            json!({ "a": { "b": "d" } }),
        ),
        (
            json!({ "a": [{ "b": "c" }] }),
            json!({ "a": [1] }),
            json!({ "a": [1] }),
        ),
        (
            json!({}),
            json!({ "a": { "bb": { "ccc": null } } }),
            json!({ "a": { "bb": {} } }),
        ),
        (
            json!({ "unknown": 1 }),
            json!({ "$patch": "delete" }),
            json!({ "unknown": 1, "$patch": "delete" }),
        ),
    ] {
        assert_eq!(patch(PatchKind::Merge, &original, &body), Ok(result));
    }
    assert!(matches!(
        patch(PatchKind::Merge, &json!({}), &json!([1])),
        Err(PatchError::Malformed(_))
    ));
}

#[test]
fn json_patch_is_rfc_6902() {
    let original = json!({ "a": { "b": [1, 2] }, "x~y": { "p/q": 1 } });
    for (body, result) in [
        (
            json!([{ "op": "add", "path": "/a/b/-", "value": 3 }]),
            json!({ "a": { "b": [1, 2, 3] }, "x~y": { "p/q": 1 } }),
        ),
        (
            json!([{ "op": "add", "path": "/a/b/0", "value": 0 }]),
            json!({ "a": { "b": [0, 1, 2] }, "x~y": { "p/q": 1 } }),
        ),
        (
            json!([{ "op": "remove", "path": "/x~0y/p~1q" }]),
            json!({ "a": { "b": [1, 2] }, "x~y": {} }),
        ),
        (
            json!([{ "op": "test", "path": "/a/b/1", "value": 2 }, { "op": "replace", "path": "/a", "value": null }]),
            json!({ "a": null, "x~y": { "p/q": 1 } }),
        ),
        (
            json!([{ "op": "move", "from": "/a/b", "path": "/c" }]),
            json!({ "a": {}, "c": [1, 2], "x~y": { "p/q": 1 } }),
        ),
        (
            json!([{ "op": "copy", "from": "/a/b/0", "path": "/d" }]),
            json!({ "a": { "b": [1, 2] }, "d": 1, "x~y": { "p/q": 1 } }),
        ),
    ] {
        assert_eq!(
            patch(PatchKind::Json, &original, &body),
            Ok(result),
            "{body}"
        );
    }
}

#[test]
fn a_field_that_is_not_there_is_null_for_a_test() {
    let original = json!({ "a": { "b": 1, "n": null }, "l": [] });
    let test = |path: &str| json!([{ "op": "test", "path": path, "value": null }]);
    for path in ["/c", "/a/c", "/a/n"] {
        assert_eq!(
            patch(PatchKind::Json, &original, &test(path)),
            Ok(original.clone()),
            "{path}"
        );
    }
    // what has a value, what is in nothing, and what no list has
    for path in ["/a", "/a/b", "/c/d", "/a/b/c", "/l/0", ""] {
        assert!(
            patch(PatchKind::Json, &original, &test(path)).is_err(),
            "{path}"
        );
    }
}

#[test]
fn a_failing_operation_is_named_and_nothing_is_changed() {
    let original = json!({ "a": 1 });
    for (body, reason) in [
        (
            json!([{ "op": "test", "path": "/a", "value": 2 }]),
            "testing value /a failed: test failed",
        ),
        (
            json!([{ "op": "replace", "path": "/b", "value": 2 }]),
            "replace operation does not apply: doc is missing key: /b: missing value",
        ),
        (
            json!([{ "op": "remove", "path": "/b" }]),
            "remove operation does not apply: doc is missing path: \"/b\": missing value",
        ),
        (
            json!([{ "op": "add", "path": "/b/c", "value": 2 }]),
            "add operation does not apply: doc is missing path: \"/b/c\": missing value",
        ),
    ] {
        assert_eq!(
            patch(PatchKind::Json, &original, &body),
            Err(PatchError::Unprocessable(reason.to_owned()))
        );
    }
    for body in [
        json!({ "op": "add" }),
        json!([{ "op": "explode", "path": "/a" }]),
        json!([{ "op": "add", "path": "/a" }]),
        json!([{ "op": "remove", "path": "a" }]),
    ] {
        let error = patch(PatchKind::Json, &original, &body).expect_err("refused");
        assert!(
            matches!(error, PatchError::Malformed(_)),
            "{body}: {error:?}"
        );
    }
}

#[test]
fn a_patch_cannot_make_an_object_grow_without_bound() {
    let doubling: Vec<Value> = (0..60)
        .map(|n| json!({ "op": "copy", "from": "", "path": format!("/a{n}") }))
        .collect();
    let error = patch(
        PatchKind::Json,
        &json!({ "x": "0123456789" }),
        &Value::from(doubling),
    )
    .expect_err("refused");
    assert!(matches!(error, PatchError::TooLarge(_)), "{error:?}");

    let deeper: Vec<Value> = (0..9000)
        .map(|_| json!({ "op": "copy", "from": "/a", "path": "/a/a" }))
        .collect();
    let error =
        patch(PatchKind::Json, &json!({ "a": {} }), &Value::from(deeper)).expect_err("refused");
    assert!(matches!(error, PatchError::TooLarge(_)), "{error:?}");

    let path: String = "/a".repeat(127);
    let mut nest = vec![json!({ "op": "add", "path": "/a", "value": {} })];
    nest.extend(
        (2..=127).map(|depth| json!({ "op": "add", "path": "/a".repeat(depth), "value": {} })),
    );
    nest.push(json!({ "op": "add", "path": format!("{path}/a/a"), "value": {} }));
    assert!(matches!(
        patch(PatchKind::Json, &json!({}), &Value::from(nest)),
        Err(PatchError::TooLarge(_))
    ));

    // Back and forth is not deeper.
    let swing: Vec<Value> = (0..1000)
        .flat_map(|_| {
            [
                json!({ "op": "move", "from": "/a", "path": "/b/c" }),
                json!({ "op": "move", "from": "/b/c", "path": "/a" }),
            ]
        })
        .collect();
    let original = json!({ "a": { "x": [1] }, "b": {} });
    assert_eq!(
        patch(PatchKind::Json, &original, &Value::from(swing)),
        Ok(original)
    );

    let many = vec![json!({ "op": "test", "path": "/a", "value": 1 }); 10_001];
    let error = patch(PatchKind::Json, &json!({ "a": 1 }), &Value::from(many))
        .expect_err("refused")
        .to_string();
    assert_eq!(
        error,
        "The allowed maximum operations in a JSON patch is 10000, got 10001"
    );
}

fn values() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from)
    ];
    scalar.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-c]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_operations_on_anything_end_in_a_value_or_an_error(
        original in values(), value in values(),
        steps in proptest::collection::vec(("(add|remove|replace|move|copy|test)", "(/[a-c0-2-]){0,4}", "(/[a-c0-2]){0,4}"), 0..8)
    ) {
        let operations: Vec<Value> = steps.iter().map(|(op, path, from)| json!({ "op": op, "path": path, "from": from, "value": value })).collect();
        let _ = patch(PatchKind::Json, &original, &Value::from(operations));
    }

    #[test]
    fn a_merge_patch_applied_twice_is_applied_once(original in values(), change in values()) {
        prop_assume!(change.is_object());
        let once = patch(PatchKind::Merge, &original, &change).expect("merged");
        prop_assert_eq!(patch(PatchKind::Merge, &once, &change).expect("merged"), once);
    }
}
