//! What becomes of a text: which cases are in it, when they play, what they are called, which form they have.

use autoscale::replay::{Case, cases, evaluate, evaluate_case, read};
use jiff::Timestamp;
use serde_json::{Value, json};

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

fn case(value: Value, now: Option<i64>, number: usize) -> Case {
    Case {
        value,
        now: now.map(time),
        number,
    }
}

#[test]
fn cases_lie_in_lists_of_several_kinds_or_one_after_another() {
    let (a, b) = (json!({"name": "a"}), json!({"name": "b"}));
    for key in ["cases", "items"] {
        let text = json!({key: [a, b]}).to_string();
        let expected = vec![case(a.clone(), None, 1), case(b.clone(), None, 2)];
        assert_eq!(read(&text), Ok(expected.clone()), "{text}");
        assert_eq!(cases(json!({key: [a, b]})), Ok(expected), "{text}");
    }
    let dated = json!({"meta": {"now": 60}, "cases": [a, b]});
    let expected = vec![case(a.clone(), Some(60), 1), case(b.clone(), Some(60), 2)];
    assert_eq!(cases(dated.clone()), Ok(expected.clone()));
    let text = format!("{dated}\n{b} [{a}]");
    let mut more = expected;
    more.push(case(b, None, 3));
    more.push(case(a, None, 4));
    assert_eq!(read(&text), Ok(more), "numbers count on");
}

#[test]
fn what_holds_no_cases_is_told() {
    for (text, said) in [
        ("", "no cases in it"),
        ("[]", "no cases in it"),
        ("{\"items\": 3}", "items: must be a list"),
        ("{\"cases\": {}}", "cases: must be a list"),
        (
            "[{}]\n[{},,]",
            "not JSON: expected value at line 2 column 5",
        ),
        (
            "{\"meta\": {\"now\": \"noon\"}, \"cases\": []}",
            "meta.now: \"noon\" is no time in Unix seconds",
        ),
        (
            "{\"meta\": {\"now\": 9223372036854775807}, \"cases\": []}",
            "meta.now: 9223372036854775807 is no time in Unix seconds",
        ),
    ] {
        assert_eq!(read(text), Err(said.to_owned()), "{text}");
    }
    let wrong = cases(json!({"cases": 3}));
    assert_eq!(wrong, Err("cases: must be a list".to_owned()));
}

#[test]
fn a_case_is_called_by_its_name_its_autoscalers_or_its_number() {
    for (value, name) in [
        (
            json!({"metadata": {"namespace": "n", "name": "m"}, "name": "x"}),
            "n/m",
        ),
        (json!({"metadata": {"name": "m"}, "name": "x"}), "m"),
        (json!({"metadata": {"namespace": "n"}, "name": "x"}), "x"),
        (
            json!({"name": "x", "inputs": {"hpa": {"name": "y"}}, "hpa": {"name": "z"}}),
            "x",
        ),
        (
            json!({"inputs": {"hpa": {"name": "y"}}, "hpa": {"name": "z"}}),
            "y",
        ),
        (json!({"hpa": {"name": "z"}}), "z"),
        (json!({"table": "tarot"}), "case 7"),
    ] {
        let result = evaluate_case(&case(value.clone(), None, 7));
        assert_eq!(result.name, name, "{value}");
        assert!(!result.passed, "{value}");
    }
}

#[test]
fn the_form_of_a_case_says_what_is_evaluated() {
    for (value, table) in [
        (
            json!({"table": "decision", "kind": "ScalingDecision"}),
            "decision",
        ),
        (json!({"table": 3}), "3"),
        (json!({"kind": "ScalingDecision", "inputs": {}}), "recorded"),
        (json!({"kind": "Decision", "inputs": {}}), "decision"),
        (json!({"inputs": {}}), "decision"),
        (json!({"hpa": {}, "scale": {}}), "decision"),
        (json!({"hpa": {}}), ""),
        (json!({"scale": {}}), ""),
        (json!({}), ""),
        (json!(3), ""),
    ] {
        assert_eq!(evaluate(&value, time(0)).table, table, "{value}");
    }
    let nothing = evaluate(&json!({}), time(0));
    assert_eq!(
        nothing.differences,
        [
            "cannot be evaluated: it is no case: neither a `table`, nor a ScalingDecision, nor inputs (`hpa`, `scale`)"
        ]
    );
    let unknown = evaluate(&json!({"table": "tarot"}), time(0));
    assert_eq!(
        unknown.differences,
        ["cannot be evaluated: unknown table \"tarot\": it is none that this version can evaluate"]
    );
}

#[test]
fn a_case_plays_at_a_time_of_its_own_or_at_its_documents() {
    let row = |expected: i32| {
        json!({
            "table": "stabilize_no_behavior", "name": "x", "downscaleStabilizationSeconds": 300,
            "recommendations": [{"replicas": 5, "timestamp": 1000}], "prenormalizedDesiredReplicas": 3,
            "expected": {"replicas": expected, "logLength": 2},
        })
    };
    let result = evaluate_case(&case(row(5), Some(1100), 1));
    assert!(result.passed, "{:?}", result.differences);
    let mut later = row(3);
    later["expected"]["logLength"] = 1.into();
    later["now"] = 1400.into();
    let result = evaluate_case(&case(later, Some(1100), 1));
    assert!(result.passed, "{:?}", result.differences);
    let untimed = evaluate_case(&case(row(5), None, 1));
    assert_eq!(
        untimed.differences,
        ["cannot be evaluated: it is not said when it plays (`meta.now` of the file)"]
    );
}
