//! Validation of admission policies and their bindings (upstream `pkg/apis/admissionregistration/validation`). Expressions
//! are checked for being there; nobody compiles them.

use serde_json::{Value, json};

use super::webhooks::{FAILURES, conditions, rule};
use super::workload::label_selector;
use super::{Problems, names, one_of};
use crate::object::{at, items, text};

const MATCHES: [&str; 2] = ["Equivalent", "Exact"];
const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
const NOT_FOUND: [&str; 2] = ["Allow", "Deny"];

pub fn validating_policy(object: &Value, problems: &mut Problems) {
    policy(object, problems);
    let spec = &object["spec"];
    let (validations, annotations) = (
        items(spec, &["validations"]),
        items(spec, &["auditAnnotations"]),
    );
    if validations.is_empty() && annotations.is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        problems.required("spec.validations", why);
        problems.required("spec.auditAnnotations", why);
    }
    for (n, validation) in validations.iter().enumerate() {
        let field = format!("spec.validations[{n}]");
        if text(validation, &["expression"]).trim().is_empty() {
            problems.required(
                &format!("{field}.expression"),
                "expression is not specified",
            );
        }
        let reasons = [
            "Forbidden",
            "Invalid",
            "RequestEntityTooLarge",
            "Unauthorized",
        ];
        one_of(validation, "reason", &reasons, &field, problems);
    }
    for (n, annotation) in annotations.iter().enumerate() {
        let field = format!("spec.auditAnnotations[{n}]");
        for key in ["key", "valueExpression"] {
            if text(annotation, &[key]).trim().is_empty() {
                problems.required(&format!("{field}.{key}"), "");
            }
        }
    }
}

pub fn mutating_policy(object: &Value, problems: &mut Problems) {
    policy(object, problems);
    let mutations = items(object, &["spec", "mutations"]);
    if mutations.is_empty() {
        problems.required("spec.mutations", "mutations must contain at least one item");
    }
    for (n, mutation) in mutations.iter().enumerate() {
        let field = format!("spec.mutations[{n}]");
        let (kind, of_kind) = match text(mutation, &["patchType"]) {
            "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
            "JSONPatch" => ("jsonPatch", "applyConfiguration"),
            "" => {
                problems.required(&format!("{field}.patchType"), "");
                continue;
            }
            _ => {
                let known = ["ApplyConfiguration", "JSONPatch"];
                problems.not_supported(
                    &format!("{field}.patchType"),
                    &mutation["patchType"],
                    &known,
                );
                continue;
            }
        };
        if text(mutation, &[kind, "expression"]).trim().is_empty() {
            problems.required(&format!("{field}.{kind}.expression"), "");
        }
        if at(mutation, &[of_kind]).is_some() {
            let why = "must be unset for this patchType";
            problems.forbidden(&format!("{field}.{of_kind}"), why);
        }
    }
}

fn policy(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    one_of(spec, "failurePolicy", &FAILURES, "spec", problems);
    if let Some(kind) = at(spec, &["paramKind"]) {
        for key in ["apiVersion", "kind"] {
            if text(kind, &[key]).is_empty() {
                problems.required(&format!("spec.paramKind.{key}"), "");
            }
        }
    }
    match at(spec, &["matchConstraints"]) {
        None => problems.required("spec.matchConstraints", ""),
        Some(resources) => {
            matches(resources, "spec.matchConstraints", problems);
            if items(resources, &["resourceRules"]).is_empty() {
                problems.required("spec.matchConstraints.resourceRules", "");
            }
        }
    }
    conditions(spec, "spec", problems);
    for (n, variable) in items(spec, &["variables"]).iter().enumerate() {
        for key in ["name", "expression"] {
            if text(variable, &[key]).trim().is_empty() {
                problems.required(&format!("spec.variables[{n}].{key}"), "");
            }
        }
    }
}

fn matches(resources: &Value, field: &str, problems: &mut Problems) {
    one_of(resources, "matchPolicy", &MATCHES, field, problems);
    for key in ["namespaceSelector", "objectSelector"] {
        label_selector(&resources[key], &format!("{field}.{key}"), problems);
    }
    for key in ["resourceRules", "excludeResourceRules"] {
        for (n, given) in items(resources, &[key]).iter().enumerate() {
            rule(given, &format!("{field}.{key}[{n}]"), problems);
        }
    }
}

pub fn validating_policy_binding(object: &Value, problems: &mut Problems) {
    binding(object, problems);
    let field = "spec.validationActions";
    let actions = items(object, &["spec", "validationActions"]);
    if actions.is_empty() {
        problems.required(field, "");
    }
    for (n, action) in actions.iter().enumerate() {
        if !ACTIONS.contains(&action.as_str().unwrap_or_default()) {
            problems.not_supported(&format!("{field}[{n}]"), action, &ACTIONS);
        }
        if actions[..n].contains(action) {
            problems.duplicate(&format!("{field}[{n}]"), action);
        }
    }
    if ["Deny", "Warn"]
        .iter()
        .all(|action| actions.iter().any(|given| given == action))
    {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        problems.invalid(field, &json!(actions), why);
    }
}

pub fn mutating_policy_binding(object: &Value, problems: &mut Problems) {
    binding(object, problems);
}

fn binding(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    let policy = text(spec, &["policyName"]);
    if policy.is_empty() {
        problems.required("spec.policyName", "");
    } else {
        for why in names::dns1123_subdomain(policy) {
            problems.invalid("spec.policyName", &policy.into(), &why);
        }
    }
    if let Some(resources) = at(spec, &["matchResources"]) {
        matches(resources, "spec.matchResources", problems);
    }
    let field = "spec.paramRef";
    let Some(reference) = at(spec, &["paramRef"]) else {
        return;
    };
    let named = !text(reference, &["name"]).is_empty();
    match (named, at(reference, &["selector"])) {
        (true, Some(_)) => {
            let why = "name and selector are mutually exclusive";
            problems.forbidden(&format!("{field}.name"), why);
        }
        (false, None) => problems.required(field, "one of name or selector must be specified"),
        _ => {}
    }
    match at(reference, &["parameterNotFoundAction"]) {
        None => problems.required(&format!("{field}.parameterNotFoundAction"), ""),
        Some(_) => one_of(
            reference,
            "parameterNotFoundAction",
            &NOT_FOUND,
            field,
            problems,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(check: fn(&Value, &mut Problems), object: &Value) -> Vec<String> {
        crate::registry::validate::said(|problems| check(object, problems))
    }

    #[test]
    fn policies() {
        let constraints = json!({"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "operations": ["CREATE"]}]});
        let good = json!({"spec": {"matchConstraints": constraints, "validations": [{"expression": "true"}]}});
        assert_eq!(said(validating_policy, &good), [""; 0]);
        assert_eq!(
            said(
                validating_policy,
                &json!({"spec": {"matchConstraints": {}}})
            ),
            [
                "spec.matchConstraints.resourceRules: Required value",
                "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
                "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item"
            ]
        );
        let mutation = json!({"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}});
        let mutating = json!({"spec": {"matchConstraints": constraints, "mutations": [mutation]}});
        assert_eq!(said(mutating_policy, &mutating), [""; 0]);
    }

    #[test]
    fn bindings() {
        let good = json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}});
        assert_eq!(said(validating_policy_binding, &good), [""; 0]);
        let bad = json!({"spec": {"policyName": "p", "validationActions": ["Deny", "Warn"], "paramRef": {}}});
        let told = said(validating_policy_binding, &bad);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[2].contains("must not contain both Deny and Warn"));
    }
}
