//! JSON and YAML bodies: duplicates, limits, and what upstream's converter makes of YAML.

use apiserver::codec::{DecodeError, Duplicate, decode, json_duplicates};
use proptest::prelude::*;
use serde_json::{Value, json};

fn yaml(body: &str) -> Value {
    decode("application/yaml", body.as_bytes(), None)
        .unwrap_or_else(|error| panic!("{body}: {error}"))
        .0
}

#[test]
fn content_types_choose_the_format() {
    assert_eq!(
        decode("application/json; charset=utf-8", b"{\"a\":1}", None)
            .expect("JSON")
            .0,
        json!({ "a": 1 })
    );
    assert_eq!(decode("", b"{}", None).expect("JSON").0, json!({}));
    let error = decode("text/plain", b"{}", None).expect_err("refused");
    assert_eq!(
        error,
        DecodeError::UnsupportedMediaType("text/plain".to_owned())
    );
    assert!(
        error
            .to_string()
            .starts_with("the body of the request was in an unknown format - accepted media types")
    );
}

#[test]
fn the_last_of_two_equal_keys_counts_and_both_are_reported() {
    let body = br#"{"a":{"b":[{"c":1,"c":2,"c":3}]},"d":0,"d":{"e":1}}"#;
    let (value, duplicates) = decode("application/json", body, None).expect("JSON");
    assert_eq!(
        value,
        json!({ "a": { "b": [{ "c": 3 }] }, "d": { "e": 1 } })
    );
    assert_eq!(
        duplicates,
        [Duplicate("a.b[0].c".to_owned()), Duplicate("d".to_owned())]
    );
    assert_eq!(json_duplicates(body), duplicates);
    let (value, duplicates) =
        decode("application/yaml", b"a: 1\nb: {c: 1, c: 2}\na: 3\n", None).expect("YAML");
    assert_eq!(value, json!({ "a": 3, "b": { "c": 2 } }));
    assert_eq!(
        duplicates,
        [Duplicate("b.c".to_owned()), Duplicate("a".to_owned())]
    );
}

#[test]
fn broken_json_is_told_with_its_place() {
    for (body, reason) in [
        (&b"{"[..], "unexpected end of JSON input at line 1"),
        (b"", "unexpected end of JSON input"),
        (b"{\"a\":1}x", "trailing characters at line 1 column 8"),
        (b"{'a':1}", "key must be a string"),
        (b"{\"a\":\"\xff\"}", "invalid unicode"),
        (b"{\"a\":1e999}", "number out of range"),
    ] {
        let error = decode("application/json", body, None)
            .expect_err("refused")
            .to_string();
        assert!(error.contains(reason), "{error}");
        assert!(
            error.starts_with("couldn't get version/kind; json parse error: "),
            "{error}"
        );
    }
}

#[test]
fn nesting_is_limited_in_json_and_yaml() {
    for content_type in ["application/json", "application/yaml"] {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(
            decode(content_type, nested(100).as_bytes(), None).is_ok(),
            "{content_type}"
        );
        for depth in [200, 100_000] {
            let error = decode(content_type, nested(depth).as_bytes(), None).expect_err("refused");
            assert!(
                matches!(error, DecodeError::Limit(_)),
                "{content_type}: {error}"
            );
        }
    }
    let blocks: String = (0..2000)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect();
    assert!(decode("application/yaml", blocks.as_bytes(), None).is_err());
}

#[test]
fn yaml_becomes_the_json_that_upstream_makes() {
    assert_eq!(yaml("---\na: 1\n"), json!({ "a": 1 }));
    // files are cut at such marks
    assert_eq!(yaml("a: 1\n---\n"), json!({ "a": 1 }));
    assert_eq!(yaml("a: |\n  b\n...\n\n"), json!({ "a": "b\n" }));
    assert_eq!(
        yaml("replicas: 3.0\nratio: 0.5\n"),
        json!({ "replicas": 3, "ratio": 0.5 })
    );
    assert_eq!(
        yaml("a: ~\nb: null\nc: \"null\"\nd:\n"),
        json!({ "a": null, "b": null, "c": "null", "d": null })
    );
    assert_eq!(
        yaml("80: http\ntrue: x\n"),
        json!({ "80": "http", "true": "x" })
    );
    assert_eq!(
        yaml("when: 2024-01-01\nversion: \"1.0\"\n"),
        json!({ "when": "2024-01-01", "version": "1.0" })
    );
    assert_eq!(
        yaml("a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}\n"),
        json!({ "a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1, "e": 2} })
    );
    assert_eq!(
        yaml("script: |\n  set -e\n  echo\nfolded: >-\n  a\n  b\n"),
        json!({ "script": "set -e\necho\n", "folded": "a b" })
    );
    assert_eq!(yaml("{\"a\": [1, true]}"), json!({ "a": [1, true] }));
    assert_eq!(
        yaml("mode: 0755\nzero: 0\nsmall: 0.5\n"),
        json!({ "mode": 0o755, "zero": 0, "small": 0.5 })
    );
}

#[test]
fn yaml_that_is_broken_or_more_than_one_document_is_refused() {
    for body in [
        "a: [1",
        "a: b: c",
        "a: *nowhere",
        "a: 1\n---\nb: 2\n",
        "? {a: 1}\n: 2\n",
        "a: .inf",
        "\u{0}",
    ] {
        assert!(
            decode("application/yaml", body.as_bytes(), None).is_err(),
            "{body:?}"
        );
    }
    assert!(decode("application/yaml", b"a: \xff", None).is_err());
}

#[test]
fn yaml_bombs_stop_at_the_limit() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    let error = decode("application/yaml", bomb.as_bytes(), None).expect_err("refused");
    assert!(matches!(error, DecodeError::Limit(_)), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_value_or_an_error(text in "[ -~\\n\\t\u{80}-\u{100}]{0,120}") {
        let _ = decode("application/json", text.as_bytes(), None);
        let _ = decode("application/yaml", text.as_bytes(), None);
    }

    #[test]
    fn structured_nonsense_is_a_value_or_an_error(text in "[-\\[\\]{}:,&*a!|>'\"# \\n?<]{0,60}") {
        let _ = decode("application/yaml", text.as_bytes(), None);
        let _ = decode("application/json", text.as_bytes(), None);
    }

    #[test]
    fn json_comes_back_as_it_went(keys in proptest::collection::btree_map("[a-z]{1,4}", any::<i64>(), 0..8)) {
        let value = serde_json::to_value(&keys).expect("JSON");
        let (read, duplicates) = decode("application/json", value.to_string().as_bytes(), None).expect("JSON");
        prop_assert_eq!(&read, &value);
        prop_assert!(duplicates.is_empty());
        prop_assert_eq!(decode("application/yaml", value.to_string().as_bytes(), None).expect("YAML").0, value);
    }
}
