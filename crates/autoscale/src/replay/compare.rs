//! Comparing what was recorded with what comes out now, part by part.

use serde_json::Value;

/// Differences that are told of one case.
const TOLD_MAX: usize = 20;
/// Numbers with a fraction may differ by this part of themselves: they went through decimal text.
const PART: f64 = 1e-9;

/// Tells where `got` differs from `expected`. Absent and null are the same.
pub fn differences(expected: &Value, got: &Value, place: &str, told: &mut Vec<String>) {
    if told.len() >= TOLD_MAX {
        return;
    }
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            for (key, value) in expected {
                let other = got.get(key).unwrap_or(&Value::Null);
                differences(value, other, &format!("{place}.{key}"), told);
            }
            for (key, value) in got.iter().filter(|(key, _)| !expected.contains_key(*key)) {
                differences(&Value::Null, value, &format!("{place}.{key}"), told);
            }
        }
        (Value::Array(expected), Value::Array(got)) if expected.len() == got.len() => {
            for (index, (expected, got)) in expected.iter().zip(got).enumerate() {
                differences(expected, got, &format!("{place}[{index}]"), told);
            }
        }
        (Value::Number(expected), Value::Number(got)) if alike(expected, got) => {}
        (expected, got) if expected == got => {}
        (expected, got) => told.push(format!("{place}: expected {expected}, got {got}")),
    }
}

fn alike(expected: &serde_json::Number, got: &serde_json::Number) -> bool {
    if let (Some(expected), Some(got)) = (expected.as_i64(), got.as_i64()) {
        return expected == got;
    }
    match (expected.as_f64(), got.as_f64()) {
        (Some(expected), Some(got)) => {
            (expected - got).abs() <= PART * expected.abs().max(got.abs())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_matters_differs() {
        let table = [
            (json!({"a": 1}), json!({"a": 1, "b": null}), vec![]),
            (json!({"a": null}), json!({}), vec![]),
            (json!(0.1), json!(0.100_000_000_000_000_02), vec![]),
            // by a part of themselves, however large or small they are
            (json!(1_000_000.5), json!(1_000_000.500_1), vec![]),
            (
                json!(0.000_001),
                json!(0.000_001_1),
                vec!["x: expected 1e-6, got 1.1e-6"],
            ),
            (
                json!(1.0),
                json!(1.0001),
                vec!["x: expected 1.0, got 1.0001"],
            ),
            (json!(5), json!(6), vec!["x: expected 5, got 6"]),
            (
                json!(9_007_199_254_740_993_i64),
                json!(9_007_199_254_740_992_i64),
                vec!["x: expected 9007199254740993, got 9007199254740992"],
            ),
            (
                json!({"a": [1, 2]}),
                json!({"a": [1]}),
                vec!["x.a: expected [1,2], got [1]"],
            ),
            (
                json!({"a": [1, 2]}),
                json!({"a": [1, 3]}),
                vec!["x.a[1]: expected 2, got 3"],
            ),
            (
                json!({}),
                json!({"b": 1}),
                vec!["x.b: expected null, got 1"],
            ),
            (json!("a"), json!("b"), vec!["x: expected \"a\", got \"b\""]),
        ];
        for (expected, got, wanted) in table {
            let mut told = Vec::new();
            differences(&expected, &got, "x", &mut told);
            assert_eq!(told, wanted, "{expected} {got}");
        }
        let mut told = Vec::new();
        let (many, other): (Vec<i32>, Vec<i32>) = ((0..50).collect(), (1..51).collect());
        differences(&json!(many), &json!(other), "x", &mut told);
        assert_eq!(told.len(), TOLD_MAX);
    }
}
