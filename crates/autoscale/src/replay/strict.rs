//! Reading what people write: what is wrong is told with the path of its field, and nothing is overlooked.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Unknown keys that are named in one error.
const NAMED_MAX: usize = 10;

/// The value in its form. `place` is the path of the value itself, for the error.
///
/// # Errors
/// Names the field that has the wrong form, or every key that is not known: each could be a mistyped one, and a
/// decision without it would be another.
pub fn read<T: DeserializeOwned + Serialize>(value: &Value, place: &str) -> Result<T, String> {
    let read: T = serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        format!("{}: {}", join(place, &path), error.inner())
    })?;
    // What was understood is written back; what is not there then was not understood.
    let understood = serde_json::to_value(&read).map_err(|error| format!("{place}: {error}"))?;
    let mut unknown = Vec::new();
    compare(value, &understood, place, &mut unknown);
    match unknown.len() {
        0 => Ok(read),
        1 => Err(format!("unknown field {}", unknown[0])),
        count => {
            unknown.truncate(NAMED_MAX);
            Err(format!("{count} unknown fields: {}", unknown.join(", ")))
        }
    }
}

fn compare(written: &Value, understood: &Value, place: &str, unknown: &mut Vec<String>) {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => {
            for (key, value) in written.iter().filter(|(_, value)| !value.is_null()) {
                let place = join(place, key);
                match understood.get(key) {
                    Some(understood) => compare(value, understood, &place, unknown),
                    None => unknown.push(place),
                }
            }
        }
        (Value::Array(written), Value::Array(understood)) => {
            for (index, (written, understood)) in written.iter().zip(understood).enumerate() {
                compare(written, understood, &format!("{place}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}

fn join(place: &str, key: &str) -> String {
    match (place.is_empty(), key.is_empty()) {
        (true, _) => key.to_owned(),
        (_, true) => place.to_owned(),
        _ if key.starts_with('[') => format!("{place}{key}"),
        _ => format!("{place}.{key}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Inputs;
    use serde_json::json;

    fn inputs() -> Value {
        json!({
            "now": "2026-01-01T00:00:00Z",
            "hpa": {"namespace": "default", "name": "web", "spec": {
                "maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}],
            }},
            "scale": {"values": {"specReplicas": 1, "statusReplicas": 1, "selector": "app=web"}},
            "pods": [{"name": "web-1", "labels": {"app": "web"}, "startTime": null}],
        })
    }

    #[test]
    fn what_is_wrong_is_told_with_its_field() {
        type Change = fn(&mut Value);
        let table: [(Change, &str); 9] = [
            (
                |v| v["pods"][0]["lables"] = json!({}),
                "unknown field inputs.pods[0].lables",
            ),
            (
                |v| v["hpa"]["spec"]["maxReplica"] = json!(1),
                "unknown field inputs.hpa.spec.maxReplica",
            ),
            (
                |v| {
                    v["hpa"]["spec"]["metrics"][0]["resource"]["target"]["averageUtilisation"] =
                        json!(1)
                },
                "unknown field inputs.hpa.spec.metrics[0].resource.target.averageUtilisation",
            ),
            (
                |v| v["settings"] = json!({"tolerence": 0.2}),
                "unknown field inputs.settings.tolerence",
            ),
            (
                |v| {
                    v["a"] = json!(1);
                    v["b"] = json!(1);
                },
                "2 unknown fields: inputs.a, inputs.b",
            ),
            (
                |v| v["hpa"]["spec"]["maxReplicas"] = json!("three"),
                "inputs.hpa.spec.maxReplicas: invalid type: string \"three\", expected i32",
            ),
            (
                |v| v["scale"]["values"]["specReplicas"] = json!(1e30),
                "inputs.scale.values.specReplicas: invalid type: floating point",
            ),
            (
                |v| v["pods"] = json!({}),
                "inputs.pods: invalid type: map, expected a sequence",
            ),
            (|v| v["now"] = json!("yesterday"), "inputs.now: "),
        ];
        assert!(read::<Inputs>(&inputs(), "inputs").is_ok());
        for (change, expected) in table {
            let mut value = inputs();
            change(&mut value);
            let error = read::<Inputs>(&value, "inputs").expect_err(expected);
            assert!(
                error.starts_with(expected),
                "{expected:?} is not the start of {error:?}"
            );
        }
        for (value, expected) in [(json!([1]), "inputs[0]: "), (json!(1), "inputs: ")] {
            let error = read::<Inputs>(&value, "inputs").expect_err(expected);
            assert!(error.starts_with(expected), "{error}");
        }
        let error = read::<Vec<i32>>(&json!([1, "x"]), "sizes").expect_err("a text");
        assert!(error.starts_with("sizes[1]: "), "{error}");
        let many = (0..100).map(|n| (format!("key{n}"), json!(1)));
        let mut value = inputs();
        value.as_object_mut().expect("an object").extend(many);
        let error = read::<Inputs>(&value, "").expect_err("many");
        assert!(
            error.starts_with("100 unknown fields: key0, ") && error.len() < 200,
            "{error}"
        );
    }
}
