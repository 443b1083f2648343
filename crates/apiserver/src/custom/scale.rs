//! The scale subresource of custom kinds: where its numbers are, and what they may be (upstream
//! `pkg/registry/customresource/validator.go`).

use serde_json::Value;

use crate::object;
use crate::registry::Problems;

/// Where the numbers of the scale subresource are.
#[derive(Clone, Debug)]
pub(crate) struct ScalePaths {
    pub spec: Vec<String>,
    pub status: Vec<String>,
    pub selector: Option<Vec<String>>,
}

impl ScalePaths {
    /// Replicas wanted; `None` when the object does not say.
    pub fn wanted(&self, object: &Value) -> Option<i64> {
        number(object, &self.spec)
    }

    /// Replicas there are.
    pub fn actual(&self, object: &Value) -> i64 {
        number(object, &self.status).unwrap_or(0)
    }

    /// The selector in its text form.
    pub fn selector<'a>(&self, object: &'a Value) -> &'a str {
        let path = self.selector.as_deref().unwrap_or_default();
        let path: Vec<_> = path.iter().map(String::as_str).collect();
        match path.is_empty() {
            true => "",
            false => object::text(object, &path),
        }
    }

    /// Sets the replicas wanted; objects on the way are made.
    pub fn set(&self, object: &mut Value, replicas: i64) {
        let mut place = object;
        for name in &self.spec {
            if !place.is_object() {
                *place = serde_json::json!({});
            }
            place = &mut place[name.as_str()];
        }
        *place = replicas.into();
    }

    /// Numbers of replicas are whole, not negative, and no larger than autoscalers can say; selectors are texts.
    pub fn validate(&self, object: &Value, problems: &mut Problems) {
        for path in [&self.spec, &self.status] {
            let Some(value) = find(object, path) else {
                continue;
            };
            let (number, why) = match value.as_i64() {
                None => (
                    0,
                    format!(
                        "{} accessor error: {value} is of the type {}, expected int64",
                        dotted(path),
                        go_type(value)
                    ),
                ),
                Some(number) if number < 0 => {
                    (number, "should be a non-negative integer".to_owned())
                }
                Some(number) if number > i64::from(i32::MAX) => (
                    number,
                    format!("should be less than or equal to {}", i32::MAX),
                ),
                Some(_) => continue,
            };
            problems.invalid(&dotted(path), &number.into(), &why);
        }
        if let Some(path) = &self.selector
            && let Some(value) = find(object, path)
            && !value.is_string()
        {
            let path = dotted(path);
            let why = format!(
                "{path} accessor error: {value} is of the type {}, expected string",
                go_type(value)
            );
            problems.invalid(&path, &"".into(), &why);
        }
    }
}

fn find<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    let path: Vec<_> = path.iter().map(String::as_str).collect();
    object::at(object, &path)
}

fn number(object: &Value, path: &[String]) -> Option<i64> {
    find(object, path)?.as_i64()
}

fn dotted(path: &[String]) -> String {
    format!(".{}", path.join("."))
}

/// What Go calls the type of a value.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_of_replicas_are_whole_and_in_range() {
        let path = |written: &str| written.split('.').map(str::to_owned).collect::<Vec<_>>();
        let paths = ScalePaths {
            spec: path("spec.size"),
            status: path("status.size"),
            selector: Some(path("status.selector")),
        };
        for (object, expected) in [
            (json!({}), vec![]),
            (
                json!({"spec": {"size": 3}, "status": {"size": 0, "selector": "a=b"}}),
                vec![],
            ),
            (
                json!({"spec": {"size": -1}}),
                vec![".spec.size: Invalid value: -1: should be a non-negative integer"],
            ),
            (
                json!({"spec": {"size": 2_147_483_648_i64}, "status": {"size": "x", "selector": 5}}),
                vec![
                    ".spec.size: Invalid value: 2147483648: should be less than or equal to 2147483647",
                    ".status.size: Invalid value: 0: .status.size accessor error: \"x\" is of the type string, expected int64",
                    ".status.selector: Invalid value: \"\": .status.selector accessor error: 5 is of the type int64, expected string",
                ],
            ),
        ] {
            let mut problems = Problems::default();
            paths.validate(&object, &mut problems);
            let said: Vec<_> = problems
                .0
                .iter()
                .map(|cause| format!("{}: {}", cause.field, cause.message))
                .collect();
            assert_eq!(said, expected, "{object}");
        }
    }
}
