//! Rules, and what is said of objects that break them.

use super::super::tests::schema;
use super::*;
use serde_json::json;

fn messages(of: Value, new: Value, old: Option<Value>) -> Vec<String> {
    let written = json!({"type": "object", "properties": {"spec": of}});
    let schema = schema(written.clone());
    let rules = Rules::read(&written).expect("rules");
    let mut problems = Problems::default();
    let wrap = |spec: Value| json!({"spec": spec});
    let old = old.map(wrap);
    rules.validate(&schema, &wrap(new), old.as_ref(), &mut problems);
    problems
        .0
        .iter()
        .map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect()
}

fn numbers(rule: Value) -> Value {
    json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "x-kubernetes-validations": [rule]})
}

#[test]
fn upstreams_words() {
    let cases = [
        (
            numbers(json!({"rule": "self.a <= self.b", "message": "a may not exceed b"})),
            json!({"a": 1, "b": 1}),
            json!({"a": 2, "b": 1}),
            "spec: Invalid value: a may not exceed b",
        ),
        (
            numbers(json!({"rule": "self.a <= self.b"})),
            json!({"a": 1, "b": 1}),
            json!({"a": 2, "b": 1}),
            "spec: Invalid value: failed rule: self.a <= self.b",
        ),
        (
            numbers(json!({"rule": "self.a < 5", "messageExpression": "'a is ' + string(self.a)"})),
            json!({"a": 4}),
            json!({"a": 5}),
            "spec: Invalid value: a is 5",
        ),
        (
            numbers(
                json!({"rule": "has(self.a)", "message": "say a", "reason": "FieldValueRequired", "fieldPath": ".a"}),
            ),
            json!({"a": 4}),
            json!({"b": 5}),
            "spec.a: Required value: say a",
        ),
        (
            numbers(
                json!({"rule": "!has(self.b)", "message": "no b", "reason": "FieldValueForbidden"}),
            ),
            json!({"a": 4}),
            json!({"b": 5}),
            "spec: Forbidden: no b",
        ),
        (
            json!({"type": "string", "x-kubernetes-validations": [{"rule": "self.startsWith('x')", "message": "begin with x"}]}),
            json!("xy"),
            json!("y"),
            "spec: Invalid value: \"y\": begin with x",
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-validations": [{"rule": "self.all(a, self.exists_one(b, a == b))", "message": "unique"}]}),
            json!(["a", "b"]),
            json!(["a", "a"]),
            "spec: Invalid value: unique",
        ),
    ];
    for (of, good, bad, expected) in cases {
        assert_eq!(
            messages(of.clone(), good, None),
            Vec::<String>::new(),
            "{of}"
        );
        assert_eq!(messages(of.clone(), bad, None), [expected], "{of}");
    }
}

#[test]
fn transitions_are_compared_with_what_was() {
    let fixed = json!({"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "immutable"}]});
    assert_eq!(
        messages(fixed.clone(), json!("b"), None),
        Vec::<String>::new()
    );
    assert_eq!(
        messages(fixed.clone(), json!("a"), Some(json!("a"))),
        Vec::<String>::new()
    );
    assert_eq!(
        messages(fixed.clone(), json!("b"), Some(json!("a"))),
        ["spec: Invalid value: \"b\": immutable"]
    );
    // items of a map are found by their keys, wherever they stand
    let list = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
        "items": {"type": "object", "required": ["n"], "properties": {"n": {"type": "string"}, "v": fixed}}});
    let (a, b) = (json!({"n": "a", "v": "1"}), json!({"n": "b", "v": "2"}));
    assert_eq!(
        messages(list.clone(), json!([b, a]), Some(json!([a, b]))),
        Vec::<String>::new()
    );
    // one that is new, in front, and one that goes
    let new = json!({"n": "c", "v": "9"});
    assert_eq!(
        messages(list.clone(), json!([new, b]), Some(json!([a, b]))),
        Vec::<String>::new()
    );
    let changed = json!({"n": "a", "v": "3"});
    assert_eq!(
        messages(list, json!([b, changed]), Some(json!([a, b]))),
        ["spec[1].v: Invalid value: \"3\": immutable"]
    );
}

#[test]
fn rules_that_would_take_too_long_are_not_run() {
    let rule = "self.all(a, self.all(b, self.all(c, a + b + c >= 0)))";
    let of = json!({"type": "array", "items": {"type": "integer"}, "x-kubernetes-validations": [{"rule": rule}]});
    assert_eq!(
        messages(of.clone(), json!([1, 2, 3]), None),
        Vec::<String>::new()
    );
    let many = vec![json!(1); 2000];
    let begun = std::time::Instant::now();
    assert_eq!(
        messages(of, many.into(), None),
        [format!("<nil>: Invalid value: {OUT_OF_BUDGET}")]
    );
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn rules_that_cannot_be_read_are_refused() {
    let check = |of: Value| {
        let written = json!({"type": "object", "properties": {"spec": of}});
        let mut problems = Problems::default();
        super::check(&schema(written.clone()), &written, "s", &mut problems);
        problems
            .0
            .iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        check(numbers(json!({"rule": "self.a > 1"}))),
        Vec::<String>::new()
    );
    let found = check(numbers(json!({"rule": "self.a >"})));
    assert!(found.len() == 1 && found[0].starts_with("s.properties[spec].x-kubernetes-validations[0].rule: Invalid value: {\"rule\":\"self.a >\"}: compilation failed: "), "{found:?}");
    let found = check(
        json!({"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}),
    );
    assert_eq!(
        found,
        [
            "s.properties[spec].items.x-kubernetes-validations[0].rule: Invalid value: \"self == oldSelf\": oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[spec]"
        ]
    );
}

#[test]
fn what_was_not_changed_may_stay() {
    let ordered = json!({"rule": "self.a <= self.b", "message": "a may not exceed b"});
    let named = |item: &str| {
        let mut numbers = numbers(ordered.clone());
        numbers["properties"]["name"] = json!({"type": "string"});
        json!({"type": "object", "properties": {"note": {"type": "string"}, "items": {"type": "array", "items": numbers, "x-kubernetes-list-type": item, "x-kubernetes-list-map-keys": ["name"]}}})
    };
    let entries = json!({"type": "object", "properties": {"note": {"type": "string"}}, "additionalProperties": numbers(json!({"rule": "self.a <= self.b", "fieldPath": ".a"}))});
    let grows = json!({"rule": "self.a > oldSelf.a", "message": "a has to grow"});
    let (wrong, fine) = (
        json!({"a": 2, "b": 1, "name": "x"}),
        json!({"a": 1, "b": 1, "name": "y"}),
    );
    // schema of spec, before, after, what is said
    let cases = [
        (
            numbers(ordered.clone()),
            json!({"a": 2, "b": 1}),
            json!({"a": 2, "b": 1}),
            vec![],
        ),
        (
            numbers(ordered.clone()),
            json!({"a": 2, "b": 1}),
            json!({"a": 3, "b": 1}),
            vec!["spec: Invalid value: a may not exceed b"],
        ),
        // one that compares is put again each time
        (
            numbers(grows),
            json!({"a": 2, "b": 1}),
            json!({"a": 2, "b": 1}),
            vec!["spec: Invalid value: a has to grow"],
        ),
        // items by their keys
        (
            named("map"),
            json!({"items": [fine, wrong]}),
            json!({"items": [wrong], "note": "x"}),
            vec![],
        ),
        (
            named("map"),
            json!({"items": [fine]}),
            json!({"items": [fine, wrong]}),
            vec!["spec.items[1]: Invalid value: a may not exceed b"],
        ),
        // keyed items within items that nothing tells apart
        (
            json!({"type": "object", "properties": {"note": {"type": "string"}, "groups": {"type": "array", "items": named("map")}}}),
            json!({"groups": [{"items": [wrong]}]}),
            json!({"groups": [{"items": [wrong]}], "note": "x"}),
            vec![],
        ),
        // entries of a map, and errors that are told of a place further below
        (
            entries.clone(),
            json!({"x.y": {"a": 2, "b": 1}}),
            json!({"x.y": {"a": 2, "b": 1}, "note": "x"}),
            vec![],
        ),
        (
            entries,
            json!({"x.y": {"a": 2, "b": 1}}),
            json!({"x.y": {"a": 3, "b": 1}}),
            vec!["spec[x.y].a: Invalid value: 3: failed rule: self.a <= self.b"],
        ),
    ];
    for (of, old, new, expected) in cases {
        let said = messages(of, new.clone(), Some(old.clone()));
        assert_eq!(said, expected, "{old} -> {new}");
    }
}

/// What the evaluator does not have is no reason to refuse a definition, or its objects.
#[test]
fn what_cannot_be_evaluated_is_passed_over() {
    let of = numbers(json!({"rule": "[self.a].sortBy(x, x)[0] < 5"}));
    let none: [&str; 0] = [];
    assert_eq!(messages(of, json!({"a": 9}), None), none);
}

/// A schema of spec, a rule, what keeps it, and what breaks it.
#[test]
fn values_are_what_upstreams_rules_see() {
    let with = |mut of: Value, rule: &str| {
        of["x-kubernetes-validations"] = json!([{"rule": rule, "message": "broken"}]);
        of
    };
    let object = |properties: Value| json!({"type": "object", "properties": properties});
    let integer = json!({"type": "integer"});
    let text = json!({"type": "string"});
    let named = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
        "items": {"type": "object", "properties": {"name": text, "labels": {"type": "object", "additionalProperties": text}, "timeout": {"type": "string", "format": "duration"}},
            "x-kubernetes-validations": [{"rule": "self.name != ''"}]}});
    for (of, rule, good, bad) in [
        (
            object(json!({"min_size": integer, "max_size": integer})),
            "self.min_size <= self.max_size",
            json!({"min_size": 1, "max_size": 2}),
            json!({"min_size": 3, "max_size": 2}),
        ),
        (
            object(json!({"a__b": integer, "c-d": integer, "namespace": text})),
            "self.a__underscores__b + self.c__dash__d < 5 && self.__namespace__ == 'x'",
            json!({"a__b": 1, "c-d": 2, "namespace": "x"}),
            json!({"a__b": 3, "c-d": 2, "namespace": "x"}),
        ),
        (
            object(json!({"a": integer})),
            "self.?a.orValue(1) < 5",
            json!({}),
            json!({"a": 5}),
        ),
        (
            object(json!({"a": object(json!({"b": object(json!({"c": integer}))}))})),
            "self.?a.b.c.orValue(1) < 5 && has(self.?a.b) == has(self.a)",
            json!({}),
            json!({"a": {"b": {"c": 5}}}),
        ),
        (
            json!({"type": "array", "items": integer}),
            "self[?1].orValue(0) < 5",
            json!([7]),
            json!([7, 5]),
        ),
        (
            object(json!({"ratio": {"type": "number"}})),
            "self.ratio * 0.5 < 2.0",
            json!({"ratio": 2}),
            json!({"ratio": 4}),
        ),
        (
            text.clone(),
            "self.size() <= 3",
            json!("äöü"),
            json!("äöüß"),
        ),
        (
            text.clone(),
            r"self.matches('^\\d+$')",
            json!("12"),
            json!("1٣"),
        ),
        (
            json!({"type": "string", "format": "date"}),
            "self < timestamp('2026-01-01T00:00:00Z')",
            json!("2025-12-31"),
            json!("2026-01-01"),
        ),
        (
            object(json!({"listeners": named})),
            "self.listeners.all(l, !has(l.labels) || 'app.kubernetes.io/name' in l.labels) && self.listeners.all(l, !has(l.timeout) || l.timeout < duration('1m'))",
            json!({"listeners": [{"name": "a", "timeout": "30s", "labels": {"app.kubernetes.io/name": "x"}}]}),
            json!({"listeners": [{"name": "a", "timeout": "90s"}]}),
        ),
    ] {
        let of = with(of, rule);
        let none: [&str; 0] = [];
        assert_eq!(
            messages(of.clone(), good.clone(), None),
            none,
            "{rule} {good}"
        );
        let said = messages(of, bad.clone(), None);
        assert!(
            said.len() == 1 && said[0].ends_with("broken"),
            "{rule} {bad}: {said:?}"
        );
    }
    // of nothing nothing is asked
    let nullable = with(
        json!({"type": "string", "nullable": true}),
        "self.size() > 0",
    );
    let none: [&str; 0] = [];
    assert_eq!(messages(nullable, json!(null), None), none);
}

/// Settable once.
#[test]
fn what_was_before_may_be_missing() {
    let once = numbers(
        json!({"rule": "!oldSelf.hasValue() || self.a == oldSelf.value().a", "optionalOldSelf": true, "message": "settable once"}),
    );
    let none: [&str; 0] = [];
    assert_eq!(messages(once.clone(), json!({"a": 1}), None), none);
    let same = messages(once.clone(), json!({"a": 1, "b": 2}), Some(json!({"a": 1})));
    assert_eq!(same, none);
    assert_eq!(
        messages(once, json!({"a": 2}), Some(json!({"a": 1}))),
        ["spec: Invalid value: settable once"]
    );
}
