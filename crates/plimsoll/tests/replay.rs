//! `plimsoll autoscale replay` as a program: Kubernetes' own tables, hand-written inputs, and input that is nobody's.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

struct Ran {
    code: Option<i32>,
    cases: Vec<Value>,
    last: String,
    text: String,
}

/// Runs it on files; every line but the last must be one JSON object.
fn replay(files: &[&Path]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    command
        .args(["autoscale", "replay", "-o", "json"])
        .args(files);
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let mut lines: Vec<&str> = text.lines().collect();
    let last = lines.pop().expect("a last line").to_owned();
    let cases = lines
        .iter()
        .map(|line| serde_json::from_str(line).expect("one JSON object per case"))
        .collect();
    Ran {
        code: output.status.code(),
        cases,
        last,
        text,
    }
}

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(
            tempfile::Builder::new()
                .prefix("plimsoll-replay-")
                .tempdir()
                .expect("a directory"),
        )
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    }
}

fn tables() -> Option<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/hpa");
    if !folder.exists() {
        eprintln!(
            "SKIPPED: {} is missing; Kubernetes' tables were NOT replayed",
            folder.display()
        );
        return None;
    }
    let names = ["replica_calc", "controller", "behavior", "validation"];
    let files = names.map(|name| folder.join(format!("hpa_{name}.json")));
    Some(files.to_vec())
}

#[test]
fn every_row_of_kubernetes_tables_counts_and_passes() {
    let Some(files) = tables() else { return };
    let rows: usize = files
        .iter()
        .map(|file| {
            let text = std::fs::read_to_string(file).expect("a file");
            let file: Value = serde_json::from_str(&text).expect("JSON");
            file["cases"].as_array().expect("cases").len()
        })
        .sum();
    let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let ran = replay(&paths);
    let failed: Vec<&Value> = ran
        .cases
        .iter()
        .filter(|case| case["passed"] != true)
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!((ran.code, ran.cases.len()), (Some(0), rows));
    assert_eq!(ran.last, format!("{rows} passed, 0 failed"));
    assert!(rows >= 208, "{rows}");
}

/// Each row can fail: with a wrong expectation none passes that has one to be wrong about.
#[test]
fn a_row_with_another_expectation_fails() {
    let Some(files) = tables() else { return };
    let scratch = Scratch::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a file");
        let mut document: Value = serde_json::from_str(&text).expect("JSON");
        let cases = document["cases"].as_array_mut().expect("cases");
        let mut spoiled = 0;
        for case in cases.iter_mut() {
            spoiled += usize::from(spoil(&mut case["expected"]));
        }
        let total = cases.len();
        assert_eq!(spoiled, total, "{}", file.display());
        let path = scratch.file("spoiled.json", document.to_string());
        let ran = replay(&[&path]);
        let passed: Vec<&Value> = ran
            .cases
            .iter()
            .filter(|case| case["passed"] == true)
            .collect();
        assert!(passed.is_empty(), "{passed:?}");
        assert_eq!(ran.code, Some(1));
        assert_eq!(ran.last, format!("0 passed, {total} failed"));
    }
}

/// Changes the first number, truth value or text in it.
fn spoil(value: &mut Value) -> bool {
    match value {
        Value::Bool(truth) => *truth = !*truth,
        Value::Number(number) => {
            *value = match number.as_i64() {
                Some(number) => json!(if number == 1 { 7 } else { 1 }),
                None => json!(number.as_f64().unwrap_or_default() + 0.5),
            }
        }
        Value::String(text) => text.push_str(" and no other"),
        Value::Array(list) => match list.iter_mut().next() {
            Some(first) => return spoil(first),
            None => list.push(json!({"type": "X", "status": "X", "reason": "X", "replicaChange": 1, "outdated": true})),
        },
        Value::Object(map) => {
            let keys = ["replicas", "valid", "desiredReplicas"];
            let first = keys.iter().find(|key| map.contains_key(**key));
            if let Some(key) = first {
                return map.get_mut(*key).is_some_and(spoil);
            }
            return map.values_mut().any(spoil);
        }
        Value::Null => return false,
    }
    true
}

/// Two pods that use 150 % of what they ask for, written by hand.
fn inputs() -> Value {
    json!({
        "now": "2026-01-01T12:00:00Z",
        "hpa": {"namespace": "default", "name": "web", "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 1, "maxReplicas": 10,
        }},
        "scale": {"values": {"specReplicas": 2, "statusReplicas": 2, "selector": "app=web"}},
        "pods": [pod("web-1"), pod("web-2")],
        "podUsage": {"values": [usage("web-1"), usage("web-2")]},
        "state": {"recommendations": []},
    })
}

fn pod(name: &str) -> Value {
    json!({"name": name, "labels": {"app": "web"}, "phase": "Running", "startTime": "2026-01-01T11:00:00Z",
        "ready": {"status": "True", "lastTransition": "2026-01-01T11:00:01Z"},
        "containers": [{"name": "web", "requestsMilli": {"cpu": 100}}]})
}

fn usage(pod: &str) -> Value {
    json!({"pod": pod, "timestamp": "2026-01-01T11:59:59Z", "windowSeconds": 5.0,
        "containers": [{"name": "web", "usageMilli": {"cpu": 150}}]})
}

#[test]
fn inputs_written_by_hand_are_decided() {
    let scratch = Scratch::new();
    let expecting =
        |expected: Value| json!({"name": "mine", "inputs": inputs(), "expected": expected});
    let mut bare = inputs();
    bare["expected"] = json!({"desired": 4, "rescale": true, "error": "", "conditions": {"AbleToScale": "True/SucceededRescale"}});
    for good in [
        inputs(),
        bare,
        expecting(json!({"desired": 4})),
        expecting(json!({"conditions": {"ScalingActive": "ValidMetricFound"}})),
    ] {
        let ran = replay(&[&scratch.file("good.json", good.to_string())]);
        assert_eq!(
            (ran.code, ran.last.as_str()),
            (Some(0), "1 passed, 0 failed"),
            "{}",
            ran.text
        );
        assert_eq!(ran.cases[0]["decided"]["to"], 4);
        let sentence = &ran.cases[0]["decided"]["sentences"][0];
        let sentence = sentence.as_str().unwrap_or_default();
        assert!(
            sentence.contains("150 % of requests (300m of 200m) against 80 %"),
            "{sentence}"
        );
    }
    for (expected, difference) in [
        (
            json!({"desired": 5}),
            "desired: expected Some(5), got Some(4)",
        ),
        (
            json!({"rescale": false}),
            "rescale: expected false, got true",
        ),
        (
            json!({"error": "no metrics"}),
            "error: expected Some(\"no metrics\"), got None",
        ),
        (
            json!({"conditions": {"ScalingLimited": "True"}}),
            "conditions.ScalingLimited: expected \"True\", got \"DesiredWithinRange\"",
        ),
        (
            json!({"desierd": 4}),
            "cannot be evaluated: unknown field expected.desierd",
        ),
    ] {
        let path = scratch.file("bad.json", expecting(expected).to_string());
        let ran = replay(&[&path]);
        assert_eq!(
            (ran.code, ran.last.as_str()),
            (Some(1), "0 passed, 1 failed")
        );
        assert_eq!(ran.cases[0]["differences"][0], difference);
        assert_eq!(ran.cases[0]["name"], "mine");
    }
}

#[test]
fn yaml_and_standard_input_work_too() {
    let scratch = Scratch::new();
    let yaml = "
now: 2026-01-01T12:00:00Z
hpa:
  namespace: default
  name: web
  spec:
    scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
    maxReplicas: 3
scale:
  values: {specReplicas: 5, statusReplicas: 5, selector: app=web}
expected: {desired: 3}
";
    let ran = replay(&[&scratch.file("above.yaml", yaml)]);
    assert_eq!(ran.last, "1 passed, 0 failed", "{}", ran.text);
    let mut child = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
        .args(["autoscale", "replay", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin
        .write_all(inputs().to_string().as_bytes())
        .expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(
        text.ends_with("\n1 passed, 0 failed\n") && text.starts_with('{'),
        "{text}"
    );
    let output = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
        .args(["autoscale", "replay", "-o", "text"])
        .arg(scratch.file("inputs.json", inputs().to_string()))
        .output()
        .expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.starts_with("ok     web [decision]: 2 → 4\n"), "{text}");
    assert!(
        text.contains("growth from 2 is limited to 4") || text.contains("⌈1.88 × 2⌉ = 4"),
        "{text}"
    );
}

#[test]
fn what_is_no_case_is_told_by_line_and_field() {
    let scratch = Scratch::new();
    let with = |change: fn(&mut Value)| {
        let mut value = inputs();
        change(&mut value);
        value.to_string()
    };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let table: Vec<(String, &str)> = vec![
        (String::new(), "no cases in it"),
        ("{\n  \"now\": 1,,\n}".to_owned(), "not JSON: key must be a string at line 2 column 12"),
        ("{\"a\": 1".to_owned(), "not JSON: EOF while parsing an object at line 1 column 7"),
        (deep, "not JSON: recursion limit exceeded at line 1"),
        ("7".to_owned(), "it is no case"),
        ("null".to_owned(), "it is no case"),
        ("[{}]".to_owned(), "it is no case"),
        ("[]".to_owned(), "no cases in it"),
        (r#"{"table": "tarot"}"#.to_owned(), "unknown table \"tarot\""),
        (r#"{"table": 7}"#.to_owned(), "unknown table \"7\""),
        (r#"{"table": "replica_calc"}"#.to_owned(), "it is not said when it plays"),
        (r#"{"meta": {"now": 0}, "cases": [{"table": "replica_calc"}]}"#.to_owned(), "missing field `currentReplicas`"),
        (
            r#"{"meta": {"now": 0}, "cases": [{"table": "scale_up_limit", "currentReplicas": "x"}]}"#.to_owned(),
            "currentReplicas: invalid type: string \"x\", expected i32",
        ),
        (r#"{"meta": {"now": "noon"}, "cases": []}"#.to_owned(), "meta.now: \"noon\" is no time"),
        (r#"{"cases": {}}"#.to_owned(), "cases: must be a list"),
        (r#"{"kind": "ScalingDecision"}"#.to_owned(), "it has no spec"),
        (r#"{"kind": "ScalingDecision", "spec": {"autoscaler": 5}}"#.to_owned(), "spec.autoscaler: invalid type: integer `5`"),
        (with(|v| v["pods"][1]["lables"] = json!({})), "unknown field pods[1].lables"),
        (with(|v| v["hpa"]["spec"]["maxReplicas"] = json!(1e300)), "hpa.spec.maxReplicas: invalid type: floating point"),
        (with(|v| v["hpa"]["spec"]["maxReplicas"] = json!(0)), "the API server would refuse it: hpa.spec.maxReplicas: Invalid value: 0"),
        (with(|v| v["scale"] = json!(null)), "scale: "),
        (with(|v| v["podUsage"] = json!({"values": [{"pod": "x"}]})), "podUsage.values[0]: missing field `timestamp`"),
    ];
    for (content, expected) in table {
        let ran = replay(&[&scratch.file("case.json", &content)]);
        let start: String = content.chars().take(80).collect();
        assert_eq!(ran.code, Some(1), "{start}");
        assert_eq!(ran.last, "0 passed, 1 failed", "{start}");
        let difference = ran.cases[0]["differences"][0].as_str().unwrap_or_default();
        assert!(
            difference.starts_with("cannot be evaluated: ") && difference.contains(expected),
            "{start}: {expected:?} is not in {difference:?}"
        );
    }
    let ran = replay(&[&scratch.file("binary.json", [0xff, 0xfe, 0x00])]);
    assert!(ran.text.contains("not text"), "{}", ran.text);
    let ran = replay(&[Path::new("/no/such/file"), scratch.0.path()]);
    assert_eq!(ran.last, "0 passed, 2 failed");
    assert!(
        ran.text.contains("No such file") && ran.text.contains("directory"),
        "{}",
        ran.text
    );
    // Larger than anybody's memory, and without an end.
    let ran = replay(&[Path::new("/dev/zero")]);
    assert_eq!(ran.last, "0 passed, 1 failed");
    assert!(ran.text.contains("larger than 64 MiB"), "{}", ran.text);
    // One bad file does not hide the others.
    let good = scratch.file("good.json", inputs().to_string());
    let ran = replay(&[Path::new("/no/such/file"), &good]);
    assert_eq!(
        (ran.code, ran.last.as_str()),
        (Some(1), "1 passed, 1 failed")
    );
}

/// Numbers at the ends of what can be written, in every place of the inputs.
#[test]
fn extreme_numbers_are_decided_or_refused() {
    let scratch = Scratch::new();
    let mut cases = Vec::new();
    for extreme in [
        json!(i64::MAX),
        json!(i64::MIN),
        json!(i32::MAX),
        json!(i32::MIN),
        json!(0),
        json!(-1),
        json!(1e308),
        json!(-1e308),
    ] {
        for place in [
            "/hpa/spec/maxReplicas",
            "/hpa/spec/minReplicas",
            "/scale/values/specReplicas",
            "/scale/values/statusReplicas",
            "/pods/0/containers/0/requestsMilli/cpu",
            "/podUsage/values/0/containers/0/usageMilli/cpu",
            "/podUsage/values/0/windowSeconds",
        ] {
            let mut value = inputs();
            *value.pointer_mut(place).expect(place) = extreme.clone();
            cases.push(json!({"name": format!("{place} = {extreme}"), "inputs": value}));
        }
        let mut value = inputs();
        value["settings"] = json!({"tolerance": extreme, "scaleUpLimitFactor": extreme});
        cases.push(json!({"name": format!("settings = {extreme}"), "inputs": value}));
    }
    let ran = replay(&[&scratch.file("extreme.json", json!(cases).to_string())]);
    assert_eq!(ran.cases.len(), cases.len());
    for case in &ran.cases {
        let decided = case["decided"].is_object();
        let refused = case["differences"]
            .to_string()
            .contains("cannot be evaluated: ");
        assert!(decided != refused, "{case}");
        if decided && case["decided"]["to"].is_i64() {
            let to = case["decided"]["to"].as_i64().expect("a number");
            assert!((0..=i64::from(i32::MAX)).contains(&to), "{case}");
        }
    }
}
