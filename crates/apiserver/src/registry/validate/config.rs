//! Validation of ConfigMaps, Secrets, Events and Leases.

use base64::Engine as _;
use serde_json::Value;

use super::{Problems, at_least, names};
use crate::object::text;

/// ConfigMaps and Secrets may hold this much.
const DATA_BYTES_MAX: usize = 1024 * 1024;
const REDACTED: &str = "<secret contents redacted>";

fn keys(object: &Value, part: &str, problems: &mut Problems) -> usize {
    let Some(data) = object[part].as_object() else {
        return 0;
    };
    let mut size = 0;
    for (key, value) in data {
        for why in names::config_key(key) {
            problems.invalid(&format!("{part}[{key}]"), &key.as_str().into(), &why);
        }
        size += value.as_str().map_or(0, str::len);
    }
    size
}

pub fn config_map(object: &Value, problems: &mut Problems) {
    let mut size = keys(object, "data", problems);
    size += keys(object, "binaryData", problems);
    if let Some(data) = object["data"].as_object() {
        for key in data
            .keys()
            .filter(|k| object["binaryData"].get(k.as_str()).is_some())
        {
            problems.invalid(
                &format!("data[{key}]"),
                &key.as_str().into(),
                "duplicate of key present in binaryData",
            );
        }
    }
    if size > DATA_BYTES_MAX {
        problems.too_long("[]", DATA_BYTES_MAX);
    }
}

pub fn config_map_update(new: &Value, old: &Value, problems: &mut Problems) {
    immutable(new, old, &["data", "binaryData"], problems);
}

fn immutable(new: &Value, old: &Value, parts: &[&str], problems: &mut Problems) {
    if old["immutable"] != true {
        return;
    }
    if new["immutable"] != true {
        problems.forbidden("immutable", "field is immutable when `immutable` is set");
    }
    for part in parts {
        if new[part] != old[part] {
            problems.forbidden(part, "field is immutable when `immutable` is set");
        }
    }
}

pub fn secret(object: &Value, problems: &mut Problems) {
    keys(object, "data", problems);
    let mut size = 0;
    if let Some(data) = object["data"].as_object() {
        for (key, value) in data {
            match base64::engine::general_purpose::STANDARD
                .decode(value.as_str().unwrap_or_default())
            {
                Ok(bytes) => size += bytes.len(),
                Err(error) => problems.invalid(
                    &format!("data[{key}]"),
                    value,
                    &format!("must be base64: {error}"),
                ),
            }
        }
    }
    if size > DATA_BYTES_MAX {
        problems.too_long("data", DATA_BYTES_MAX);
    }
    let has = |key: &str| object["data"].get(key).is_some();
    let needed: &[&str] = match text(object, &["type"]) {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            &["username", "password"]
        }
        _ => &[],
    };
    for key in needed.iter().filter(|k| !has(k)) {
        problems.required(&format!("data[{key}]"), "");
    }
    for (kind, key) in [
        ("kubernetes.io/dockerconfigjson", ".dockerconfigjson"),
        ("kubernetes.io/dockercfg", ".dockercfg"),
    ] {
        if text(object, &["type"]) == kind && has(key) {
            credentials(&object["data"][key], &format!("data[{key}]"), problems);
        }
    }
    if text(object, &["type"]) == "kubernetes.io/service-account-token"
        && object["metadata"]["annotations"]["kubernetes.io/service-account.name"]
            .as_str()
            .unwrap_or_default()
            .is_empty()
    {
        problems.required(
            "metadata.annotations[kubernetes.io/service-account.name]",
            "",
        );
    }
}

/// Credentials of registries are a JSON object. What they are is not told.
fn credentials(data: &Value, field: &str, problems: &mut Problems) {
    let text = data.as_str().unwrap_or_default();
    let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(text) else {
        return;
    };
    let kind = match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(Value::Array(_)) => "array",
        Ok(Value::String(_)) => "string",
        Ok(Value::Number(_)) => "number",
        Ok(Value::Bool(_)) => "bool",
        Err(error) => {
            let why = if error.is_eof() {
                "unexpected end of JSON input".to_owned()
            } else {
                error.to_string()
            };
            return problems.invalid(field, &REDACTED.into(), &why);
        }
    };
    let why =
        format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}");
    problems.invalid(field, &REDACTED.into(), &why);
}

pub fn secret_update(new: &Value, old: &Value, problems: &mut Problems) {
    if new["type"] != old["type"] {
        problems.invalid("type", &new["type"], "field is immutable");
    }
    immutable(new, old, &["data"], problems);
}

pub fn event(object: &Value, problems: &mut Problems) {
    let namespace = text(object, &["metadata", "namespace"]);
    let about = text(object, &["involvedObject", "namespace"]);
    // Events about objects without a namespace live in the default one.
    if about.is_empty() && !matches!(namespace, "default" | "kube-system")
        || !about.is_empty() && about != namespace
    {
        problems.invalid(
            "involvedObject.namespace",
            &about.into(),
            "does not match event.namespace",
        );
    }
}

/// An event of events.k8s.io when it is made, as it is stored: says more, and more strictly, than one of core.
pub fn new_event(object: &Value, problems: &mut Problems) {
    if object["eventTime"].is_null() {
        problems.required("eventTime", "");
    }
    let controller = text(object, &["reportingComponent"]);
    if controller.is_empty() {
        problems.required("reportingController", "");
    }
    let whys = match controller {
        "" => Vec::new(),
        name => names::label_key(name),
    };
    for why in whys {
        problems.invalid("reportingController", &controller.into(), &why);
    }
    for (field, chars_max) in [("reportingInstance", 128), ("action", 128), ("reason", 128)] {
        let value = text(object, &[field]);
        if value.is_empty() {
            problems.required(field, "");
        }
        if value.len() > chars_max {
            let why = format!("can have at most {chars_max} characters");
            problems.invalid(field, &"".into(), &why);
        }
    }
    if text(object, &["message"]).len() > 1024 {
        problems.invalid("note", &"".into(), "can have at most 1024 characters");
    }
    let kind = text(object, &["type"]);
    if !matches!(kind, "Normal" | "Warning") {
        let why = format!("has invalid value: {kind}");
        problems.invalid("type", &"".into(), &why);
    }
}

pub fn lease(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    at_least(spec, "leaseDurationSeconds", 1, "spec", problems);
    at_least(spec, "leaseTransitions", 0, "spec", problems);
    // An empty holderIdentity is what client-go leaves when a leader ends.
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn new_events_say_who_what_and_when() {
        let said = |change: Value| {
            let mut event = json!({"eventTime": "2024-01-01T00:00:00.000000Z", "reportingComponent": "example.com/a",
                "reportingInstance": "a-1", "action": "Doing", "reason": "Done", "type": "Normal"});
            for (key, value) in change.as_object().expect("fields") {
                event[key] = value.clone();
            }
            crate::registry::validate::said(|problems| new_event(&event, problems))
        };
        assert_eq!(said(json!({})), Vec::<String>::new());
        for (change, expected) in [
            (json!({"eventTime": null}), "eventTime: Required value"),
            (
                json!({"reportingComponent": ""}),
                "reportingController: Required value",
            ),
            (
                json!({"reportingInstance": ""}),
                "reportingInstance: Required value",
            ),
            (json!({"action": ""}), "action: Required value"),
            (json!({"reason": null}), "reason: Required value"),
            (
                json!({"action": "x".repeat(129)}),
                "action: Invalid value: \"\": can have at most 128 characters",
            ),
            (
                json!({"message": "x".repeat(1025)}),
                "note: Invalid value: \"\": can have at most 1024 characters",
            ),
            (
                json!({"type": "Odd"}),
                "type: Invalid value: \"\": has invalid value: Odd",
            ),
        ] {
            assert_eq!(said(change.clone()), [expected], "{change}");
        }
        assert_eq!(said(json!({"reportingComponent": "a b"})).len(), 1);
    }

    #[test]
    fn credentials_of_registries_are_json() {
        let said = |content: &str| {
            let data = base64::engine::general_purpose::STANDARD.encode(content);
            let object = json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": data}});
            crate::registry::validate::said(|problems| secret(&object, problems))
        };
        assert!(said("{\"auths\": {}}").is_empty());
        let told = "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": ";
        assert_eq!(said(""), [format!("{told}unexpected end of JSON input")]);
        assert_eq!(
            said("[\"hunter2\"]"),
            [format!(
                "{told}json: cannot unmarshal array into Go value of type map[string]interface {{}}"
            )]
        );
        let broken = said("hunter2");
        assert!(
            broken.len() == 1 && broken[0].starts_with(told) && !broken[0].contains("hunter2"),
            "{broken:?}"
        );
    }
}
