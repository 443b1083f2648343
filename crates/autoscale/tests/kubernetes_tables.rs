//! Kubernetes' own test tables, read from the shared data folder beside the repository.

use std::path::PathBuf;

use autoscale::replay::{CaseFile, CaseResult, evaluate};
use serde_json::Value;

/// A file of rows; a missing folder is said loudly and is no failure.
fn read(file: &str) -> Option<CaseFile> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/hpa")
        .join(file);
    if !path.exists() {
        eprintln!(
            "SKIPPED: {file}: {} is missing; Kubernetes' tables were NOT checked",
            path.display()
        );
        return None;
    }
    let text = std::fs::read_to_string(&path).expect("the case file can be read");
    Some(serde_json::from_str(&text).expect("the case file has its form"))
}

/// Evaluates every row of a file.
fn table(file: &str, rows: usize) {
    let Some(file) = read(file) else { return };
    let now = jiff::Timestamp::from_second(file.meta.now).expect("a time");
    let results: Vec<CaseResult> = file.cases.iter().map(|case| evaluate(case, now)).collect();
    let failed: Vec<&CaseResult> = results.iter().filter(|result| !result.passed).collect();
    let (passed, total) = (results.len() - failed.len(), results.len());
    println!("{passed}/{total} rows passed");
    let mut report = String::new();
    for result in failed {
        report.push_str(&format!("\n{} [{}]", result.name, result.table));
        for difference in &result.differences {
            report.push_str(&format!("\n    {difference}"));
        }
    }
    assert!(
        report.is_empty(),
        "{passed}/{total} rows passed; failed:{report}"
    );
    assert!(
        total >= rows,
        "only {total} rows in the file, {rows} were there"
    );
    for case in &file.cases {
        every_expectation_counts(case, now);
    }
}

/// With any one value of what is expected changed, the row fails.
fn every_expectation_counts(case: &Value, now: jiff::Timestamp) {
    let mut places = Vec::new();
    leaves(&case["expected"], "/expected".to_owned(), &mut places);
    assert!(!places.is_empty(), "{}: nothing is expected", case["name"]);
    for place in places {
        let mut spoiled = case.clone();
        let value = spoiled.pointer_mut(&place).expect("a place");
        spoil(value);
        let result = evaluate(&spoiled, now);
        assert!(
            !result.passed,
            "{} [{}]: {place} does not count: {} would do",
            result.name,
            result.table,
            spoiled.pointer(&place).unwrap_or(&Value::Null)
        );
    }
}

/// The places of all values that hold no others.
fn leaves(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Array(list) if !list.is_empty() => {
            for (index, one) in list.iter().enumerate() {
                leaves(one, format!("{at}/{index}"), places);
            }
        }
        Value::Object(map) if !map.is_empty() => {
            for (key, one) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                leaves(one, format!("{at}/{key}"), places);
            }
        }
        _ => places.push(at),
    }
}

/// Makes another value of the same type of it.
fn spoil(value: &mut Value) {
    match value {
        Value::Null => *value = 7.into(),
        Value::Bool(truth) => *truth = !*truth,
        Value::Number(number) => {
            *value = match number.as_i64() {
                Some(number) => number.wrapping_add(7).into(),
                None => (number.as_f64().unwrap_or_default() + 0.5).into(),
            }
        }
        Value::String(text) => text.push_str(" and no other"),
        Value::Array(list) => list.push("more".into()),
        Value::Object(map) => {
            map.insert("more".into(), 7.into());
        }
    }
}

#[test]
fn replica_calculator() {
    table("hpa_replica_calc.json", 53);
}

#[test]
fn behavior() {
    table("hpa_behavior.json", 47);
}

#[test]
fn controller() {
    table("hpa_controller.json", 53);
}

#[test]
fn validation() {
    table("hpa_validation.json", 55);
}

#[test]
fn an_unknown_table_does_not_pass() {
    let result = evaluate(
        &serde_json::json!({"name": "x", "table": "tarot"}),
        jiff::Timestamp::UNIX_EPOCH,
    );
    assert!(!result.passed);
}
