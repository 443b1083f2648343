//! Kubernetes' own test tables, read from the shared data folder beside the repository.

use std::path::PathBuf;

use autoscale::replay::{CaseFile, CaseResult, evaluate};

/// Evaluates every row of a file; a missing folder is said loudly and is no failure.
fn table(file: &str, rows: usize) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/hpa")
        .join(file);
    if !path.exists() {
        eprintln!(
            "SKIPPED: {file}: {} is missing; Kubernetes' tables were NOT checked",
            path.display()
        );
        return;
    }
    let text = std::fs::read_to_string(&path).expect("the case file can be read");
    let file: CaseFile = serde_json::from_str(&text).expect("the case file has its form");
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
