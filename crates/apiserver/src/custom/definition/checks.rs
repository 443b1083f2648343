//! What is wrong with a definition.

use serde_json::{Value, json};

use super::version::versions;
use super::{APPROVED, approved, condition};
use crate::object::{at, items, text};
use crate::registry::{Problems, names};

pub fn validate(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    let (group, plural) = (text(spec, &["group"]), text(spec, &["names", "plural"]));
    let name = text(object, &["metadata", "name"]);
    if name != format!("{plural}.{group}") {
        problems.invalid(
            "metadata.name",
            &name.into(),
            "must be spec.names.plural+\".\"+spec.group",
        );
    }
    if group.is_empty() {
        problems.required("spec.group", "");
    } else if let why @ [_, ..] = &names::dns1123_subdomain(group)[..] {
        problems.invalid("spec.group", &group.into(), &why.join(","));
    } else if !group.contains('.') {
        problems.invalid(
            "spec.group",
            &group.into(),
            "should be a domain with at least one dot",
        );
    }
    one_of(
        &spec["scope"],
        "spec.scope",
        &["Cluster", "Namespaced"],
        problems,
    );
    versions(spec, problems);
    for key in ["plural", "singular", "kind", "listKind"] {
        if text(spec, &["names", key]).is_empty() {
            problems.required(&format!("spec.names.{key}"), "");
        }
    }
    naming(&spec["names"], "spec.names", problems);
    conversion(&spec["conversion"], problems);
    stored(object, problems);
    if spec["preserveUnknownFields"] == true {
        problems.invalid(
            "spec.preserveUnknownFields",
            &json!(true),
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        );
    }
    if text(object, &["metadata", "uid"]).is_empty()
        || at(object, &["status", "conditions"])
            .is_none_or(|c| c.as_array().is_some_and(Vec::is_empty))
    {
        approval(object, problems);
    }
}

pub fn validate_update(new: &Value, old: &Value, problems: &mut Problems) {
    let established = condition(old, "Established").is_some_and(|c| c["status"] == "True");
    let mut fixed = vec![
        ("spec.group", ["spec", "group", ""]),
        ("spec.names.plural", ["spec", "names", "plural"]),
    ];
    if established {
        fixed.push(("spec.scope", ["spec", "scope", ""]));
        fixed.push(("spec.names.kind", ["spec", "names", "kind"]));
    }
    for (field, path) in fixed {
        let path: Vec<_> = path.into_iter().filter(|name| !name.is_empty()).collect();
        let (was, is) = (at(old, &path), at(new, &path));
        if was != is {
            problems.invalid(field, is.unwrap_or(&Value::Null), "field is immutable");
        }
    }
}

pub(super) fn approval(object: &Value, problems: &mut Problems) {
    let field = format!("metadata.annotations[{APPROVED}]");
    match approved(object) {
        Some((_, "MissingAnnotation", why)) => problems.required(&field, &why),
        Some((_, "InvalidAnnotation", why)) => {
            problems.invalid(&field, &object["metadata"]["annotations"][APPROVED], &why)
        }
        _ => {}
    }
}

pub(super) fn one_of(value: &Value, field: &str, supported: &[&str], problems: &mut Problems) {
    match value.as_str().unwrap_or_default() {
        "" => problems.required(field, ""),
        text if !supported.contains(&text) => problems.not_supported(field, value, supported),
        _ => {}
    }
}

pub(super) fn naming(given: &Value, field: &str, problems: &mut Problems) {
    for key in ["plural", "singular"] {
        let name = text(given, &[key]);
        if let (false, why @ [_, ..]) = (name.is_empty(), &names::dns1035_label(name)[..]) {
            problems.invalid(&format!("{field}.{key}"), &name.into(), &why.join(","));
        }
    }
    for key in ["kind", "listKind"] {
        let name = text(given, &[key]);
        if let (false, why @ [_, ..]) = (
            name.is_empty(),
            &names::dns1035_label(&name.to_lowercase())[..],
        ) {
            let why = format!(
                "may have mixed case, but should otherwise match: {}",
                why.join(",")
            );
            problems.invalid(&format!("{field}.{key}"), &name.into(), &why);
        }
    }
    for list in ["shortNames", "categories"] {
        for (n, name) in items(given, &[list]).iter().enumerate() {
            if let why @ [_, ..] = &names::dns1035_label(name.as_str().unwrap_or_default())[..] {
                problems.invalid(&format!("{field}.{list}[{n}]"), name, &why.join(","));
            }
        }
    }
    let kind = text(given, &["kind"]);
    if !kind.is_empty() && kind == text(given, &["listKind"]) {
        problems.invalid(
            &format!("{field}.listKind"),
            &kind.into(),
            "kind and listKind may not be the same",
        );
    }
}

pub(super) fn conversion(conversion: &Value, problems: &mut Problems) {
    if !conversion.is_object() {
        return;
    }
    let field = "spec.conversion";
    one_of(
        &conversion["strategy"],
        &format!("{field}.strategy"),
        &["None", "Webhook"],
        problems,
    );
    let config = &conversion["webhook"]["clientConfig"];
    let reviews = items(conversion, &["webhook", "conversionReviewVersions"]);
    if conversion["strategy"] != "Webhook" {
        if !config.is_null() {
            problems.forbidden(
                &format!("{field}.webhookClientConfig"),
                "should not be set when strategy is not set to Webhook",
            );
        }
        if !reviews.is_empty() {
            problems.forbidden(
                &format!("{field}.conversionReviewVersions"),
                "should not be set when strategy is not set to Webhook",
            );
        }
        return;
    }
    if config.is_null() {
        problems.required(
            &format!("{field}.webhookClientConfig"),
            "required when strategy is set to Webhook",
        );
    } else if config["url"].is_string() == config["service"].is_object() {
        problems.required(
            &format!("{field}.webhookClientConfig"),
            "exactly one of url or service is required",
        );
    }
    let here = format!("{field}.conversionReviewVersions");
    if reviews.is_empty() {
        problems.required(&here, "");
    } else if !reviews
        .iter()
        .any(|version| matches!(version.as_str(), Some("v1" | "v1beta1")))
    {
        problems.invalid(
            &here,
            &reviews.to_vec().into(),
            "must include at least one of v1, v1beta1",
        );
    }
}

pub(super) fn stored(object: &Value, problems: &mut Problems) {
    let field = "status.storedVersions";
    let stored = items(object, &["status", "storedVersions"]);
    let versions = items(object, &["spec", "versions"]);
    if stored.is_empty() {
        problems.invalid(field, &json!([]), "must have at least one stored version");
        return;
    }
    for (n, name) in stored.iter().enumerate() {
        if !versions.iter().any(|version| version["name"] == *name) {
            let name = name.as_str().unwrap_or_default();
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            problems.invalid(&format!("{field}[{n}]"), &name.into(), &why);
        }
    }
}
