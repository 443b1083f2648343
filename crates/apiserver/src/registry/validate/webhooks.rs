//! Validation of webhook configurations (upstream `pkg/apis/admissionregistration/validation`).

use std::collections::HashSet;

use serde_json::{Value, json};

use super::workload::label_selector;
use super::{Problems, names, one_of};
use crate::object::{at, items, text};

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
pub(super) const FAILURES: [&str; 2] = ["Fail", "Ignore"];
const MATCHES: [&str; 2] = ["Equivalent", "Exact"];
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const CONDITIONS_MAX: usize = 64;

pub fn webhooks(object: &Value, problems: &mut Problems) {
    let mut seen = HashSet::new();
    for (n, webhook) in items(object, &["webhooks"]).iter().enumerate() {
        let field = format!("webhooks[{n}]");
        let name = text(webhook, &["name"]);
        three_segments(name, &format!("{field}.name"), problems);
        one_webhook(webhook, &field, problems);
        if !name.is_empty() && !seen.insert(name) {
            problems.duplicate(&format!("{field}.name"), &name.into());
        }
    }
}

/// Fully qualified: a domain of at least three parts.
fn three_segments(name: &str, field: &str, problems: &mut Problems) {
    if name.is_empty() {
        return problems.required(field, "");
    }
    let whys = names::dns1123_subdomain(name);
    for why in &whys {
        problems.invalid(field, &name.into(), why);
    }
    if whys.is_empty() && name.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        problems.invalid(field, &name.into(), why);
    }
}

fn one_webhook(webhook: &Value, field: &str, problems: &mut Problems) {
    for (n, given) in items(webhook, &["rules"]).iter().enumerate() {
        rule(given, &format!("{field}.rules[{n}]"), problems);
    }
    one_of(webhook, "failurePolicy", &FAILURES, field, problems);
    one_of(webhook, "matchPolicy", &MATCHES, field, problems);
    one_of(
        webhook,
        "reinvocationPolicy",
        &["IfNeeded", "Never"],
        field,
        problems,
    );
    let of_effects = format!("{field}.sideEffects");
    let effects = ["None", "NoneOnDryRun"];
    match at(webhook, &["sideEffects"]) {
        None => problems.required(&of_effects, "must specify one of None, NoneOnDryRun"),
        Some(_) => one_of(webhook, "sideEffects", &effects, field, problems),
    }
    if let Some(seconds) = webhook["timeoutSeconds"].as_i64()
        && !(1..=30).contains(&seconds)
    {
        let why = "the timeout value must be between 1 and 30 seconds";
        problems.invalid(&format!("{field}.timeoutSeconds"), &seconds.into(), why);
    }
    for key in ["namespaceSelector", "objectSelector"] {
        label_selector(&webhook[key], &format!("{field}.{key}"), problems);
    }
    client(
        &webhook["clientConfig"],
        &format!("{field}.clientConfig"),
        problems,
    );
    versions(
        webhook,
        &format!("{field}.admissionReviewVersions"),
        problems,
    );
    conditions(webhook, field, problems);
}

fn versions(webhook: &Value, field: &str, problems: &mut Problems) {
    let versions = items(webhook, &["admissionReviewVersions"]);
    let known = VERSIONS.join(", ");
    if versions.is_empty() {
        let why = format!("must specify one of {known}");
        problems.required(field, &why);
    } else if !versions
        .iter()
        .any(|version| VERSIONS.iter().any(|known| version == known))
    {
        let why = format!("must include at least one of {known}");
        problems.invalid(field, &json!(versions), &why);
    }
}

/// The conditions of a webhook or policy under which it is asked.
pub(super) fn conditions(of: &Value, field: &str, problems: &mut Problems) {
    let conditions = items(of, &["matchConditions"]);
    let field = format!("{field}.matchConditions");
    if conditions.len() > CONDITIONS_MAX {
        let message = format!(
            "Too many: {}: must have at most {CONDITIONS_MAX} items",
            conditions.len()
        );
        problems.add("FieldValueTooMany", &field, message);
    }
    let mut seen = HashSet::new();
    for (n, condition) in conditions.iter().enumerate() {
        let field = format!("{field}[{n}]");
        let name = text(condition, &["name"]);
        if name.is_empty() {
            problems.required(&format!("{field}.name"), "");
        } else {
            for why in names::label_key(name) {
                problems.invalid(&format!("{field}.name"), &name.into(), &why);
            }
            if !seen.insert(name) {
                problems.duplicate(&format!("{field}.name"), &name.into());
            }
        }
        if text(condition, &["expression"]).trim().is_empty() {
            problems.required(&format!("{field}.expression"), "");
        }
    }
}

/// Which requests are meant.
pub(super) fn rule(rule: &Value, field: &str, problems: &mut Problems) {
    for (key, alone) in [
        ("apiGroups", true),
        ("apiVersions", true),
        ("resources", false),
    ] {
        let field = format!("{field}.{key}");
        let given = items(rule, &[key]);
        if given.is_empty() {
            problems.required(&field, "");
        }
        if alone && given.len() > 1 && given.iter().any(|one| one == "*") {
            let why = "if '*' is present, must not specify other ";
            let why = match key {
                "apiGroups" => format!("{why}API groups"),
                _ => format!("{why}API versions"),
            };
            problems.invalid(&field, &json!(given), &why);
        }
        // the core group is the empty one
        for (n, _) in given.iter().enumerate().filter(|(_, one)| **one == "") {
            if key != "apiGroups" {
                problems.required(&format!("{field}[{n}]"), "");
            }
        }
    }
    let operations = items(rule, &["operations"]);
    let of_operations = format!("{field}.operations");
    if operations.is_empty() {
        problems.required(&of_operations, "");
    }
    if operations.len() > 1 && operations.iter().any(|one| one == "*") {
        let why = "if '*' is present, must not specify other operations";
        problems.invalid(&of_operations, &json!(operations), why);
    }
    for (n, one) in operations.iter().enumerate() {
        if !OPERATIONS.contains(&one.as_str().unwrap_or_default()) {
            problems.not_supported(&format!("{of_operations}[{n}]"), one, &OPERATIONS);
        }
    }
    one_of(rule, "scope", &SCOPES, field, problems);
}

fn client(client: &Value, field: &str, problems: &mut Problems) {
    match (at(client, &["url"]), at(client, &["service"])) {
        (Some(url), None) => web_address(url, &format!("{field}.url"), problems),
        (None, Some(given)) => service(given, &format!("{field}.service"), problems),
        _ => problems.required(field, "exactly one of url or service is required"),
    }
}

fn web_address(url: &Value, field: &str, problems: &mut Problems) {
    let form = "; desired format: https://host[/path]";
    let text = url.as_str().unwrap_or_default();
    let Ok(parsed) = text.parse::<http::Uri>() else {
        let why = format!("url must be a valid URL{form}");
        return problems.required(field, &why);
    };
    if parsed.scheme_str() != Some("https") {
        let why = format!("'https' is the only allowed URL scheme{form}");
        problems.invalid(field, &parsed.scheme_str().unwrap_or_default().into(), &why);
    }
    let authority = parsed.authority().map(http::uri::Authority::as_str);
    if parsed.host().unwrap_or_default().is_empty() {
        let why = format!("host must be specified{form}");
        problems.invalid(field, &json!(""), &why);
    }
    if let Some((user, _)) = authority.and_then(|authority| authority.split_once('@')) {
        let why = "user information is not permitted in the URL";
        problems.invalid(field, &user.into(), why);
    }
    if parsed.query().is_some() {
        let why = "query parameters are not permitted in the URL";
        problems.invalid(field, &parsed.query().into(), why);
    }
    if let Some((_, fragment)) = text.split_once('#') {
        let why = "fragments are not permitted in the URL";
        problems.invalid(field, &fragment.into(), why);
    }
}

fn service(service: &Value, field: &str, problems: &mut Problems) {
    for (key, why) in [
        ("name", "service name is required"),
        ("namespace", "service namespace is required"),
    ] {
        if text(service, &[key]).is_empty() {
            problems.required(&format!("{field}.{key}"), why);
        }
    }
    let port = service["port"].as_i64().unwrap_or(443);
    if !(1..=65535).contains(&port) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        problems.invalid(&format!("{field}.port"), &port.into(), why);
    }
    let Some(path) = at(service, &["path"]).and_then(Value::as_str) else {
        return;
    };
    let of_path = format!("{field}.path");
    if !path.starts_with('/') {
        problems.invalid(&of_path, &path.into(), "must start with a '/'");
    } else if path != "/" {
        let inner = path[1..].strip_suffix('/').unwrap_or(&path[1..]);
        for (n, step) in inner.split('/').enumerate() {
            if step.is_empty() {
                let why = format!("segment[{n}] may not be empty");
                problems.invalid(&of_path, &path.into(), &why);
                continue;
            }
            for why in names::dns1123_subdomain(step) {
                problems.invalid(&of_path, &path.into(), &format!("segment[{n}]: {why}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(object: &Value) -> Vec<String> {
        crate::registry::validate::said(|problems| webhooks(object, problems))
    }

    fn good() -> Value {
        json!({"webhooks": [{
            "name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
            "clientConfig": {"service": {"name": "s", "namespace": "n", "path": "/a/b"}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"], "scope": "*"}]}]})
    }

    #[test]
    fn what_is_asked_of_webhooks() {
        assert_eq!(said(&good()), [""; 0]);
        let with = |change: &dyn Fn(&mut Value)| {
            let mut object = good();
            change(&mut object["webhooks"][0]);
            said(&object)
        };
        for (given, expected) in [
            (
                with(&|hook| hook["name"] = "a.b".into()),
                "webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
            ),
            (
                with(&|hook| hook["sideEffects"] = "Some".into()),
                "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
            ),
            (
                with(&|hook| hook["admissionReviewVersions"] = json!([])),
                "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
            ),
            (
                with(&|hook| hook["timeoutSeconds"] = 31.into()),
                "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
            ),
            (
                with(&|hook| hook["clientConfig"] = json!({})),
                "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
            ),
            (
                with(&|hook| hook["clientConfig"] = json!({"url": "http://x/y"})),
                "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
            ),
            (
                with(&|hook| hook["rules"][0]["operations"] = json!(["*", "CREATE"])),
                "webhooks[0].rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations",
            ),
        ] {
            assert_eq!(given, [expected]);
        }
    }
}
