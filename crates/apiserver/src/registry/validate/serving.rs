//! Validation of APIServices, FlowSchemas and PriorityLevelConfigurations.

use serde_json::{Value, json};

use super::{Problems, names, one_of};
use crate::object::{at, items, text};

pub fn api_service(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    let (group, version) = (text(spec, &["group"]), text(spec, &["version"]));
    let wanted = format!("{version}.{group}");
    let name = text(object, &["metadata", "name"]);
    if name != wanted {
        let why = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        problems.invalid("metadata.name", &name.into(), &why);
    }
    if group.is_empty() {
        if version != "v1" {
            let why = "only v1 may have an empty group and it better be legacy kube";
            problems.required("spec.group", why);
        }
    } else {
        for why in names::dns1123_subdomain(group) {
            problems.invalid("spec.group", &group.into(), &why);
        }
    }
    for why in names::dns1035_label(version) {
        problems.invalid("spec.version", &version.into(), &why);
    }
    for (key, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let given = spec[key].as_i64().unwrap_or(0);
        if given <= 0 || given > most {
            let why = format!("must be positive and less than {most}");
            problems.invalid(&format!("spec.{key}"), &given.into(), &why);
        }
    }
    let insecure = spec["insecureSkipTLSVerify"] == true;
    let bundle = !text(spec, &["caBundle"]).is_empty();
    let Some(service) = at(spec, &["service"]) else {
        if bundle {
            let why = "local APIServices may not have a caBundle";
            problems.invalid("spec.caBundle", &spec["caBundle"], why);
        }
        if insecure {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            problems.invalid("spec.insecureSkipTLSVerify", &json!(true), why);
        }
        return;
    };
    for key in ["namespace", "name"] {
        if text(service, &[key]).is_empty() {
            problems.required(&format!("spec.service.{key}"), "");
        }
    }
    let port = service["port"].as_i64().unwrap_or(443);
    if !(1..=65535).contains(&port) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        problems.invalid("spec.service.port", &port.into(), why);
    }
    if insecure && bundle {
        let why = "may not be true if caBundle is present";
        problems.invalid("spec.insecureSkipTLSVerify", &json!(true), why);
    }
}

pub fn flow_schema(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    let precedence = spec["matchingPrecedence"].as_i64().unwrap_or(0);
    let field = "spec.matchingPrecedence";
    if precedence <= 0 {
        problems.invalid(field, &precedence.into(), "must be a positive value");
    } else if precedence > 10_000 {
        problems.invalid(field, &precedence.into(), "must not be greater than 10000");
    }
    if text(spec, &["priorityLevelConfiguration", "name"]).is_empty() {
        let field = "spec.priorityLevelConfiguration.name";
        problems.required(field, "must reference a priority level");
    }
    if let Some(method) = at(spec, &["distinguisherMethod"]) {
        let known = ["ByNamespace", "ByUser"];
        one_of(method, "type", &known, "spec.distinguisherMethod", problems);
    }
    for (n, rule) in items(spec, &["rules"]).iter().enumerate() {
        let field = format!("spec.rules[{n}]");
        if items(rule, &["subjects"]).is_empty() {
            let why = "subjects must contain at least one value";
            problems.required(&format!("{field}.subjects"), why);
        }
        if items(rule, &["resourceRules"]).is_empty()
            && items(rule, &["nonResourceRules"]).is_empty()
        {
            let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
            problems.required(&field, why);
        }
    }
}

pub fn priority_level(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    let (limited, exempt) = (at(spec, &["limited"]), at(spec, &["exempt"]));
    match text(spec, &["type"]) {
        "Limited" => {
            if exempt.is_some() {
                let why = "must be nil if the type is Limited";
                problems.forbidden("spec.exempt", why);
            }
            if limited.is_none() {
                problems.required("spec.limited", "must not be empty when type is Limited");
            }
        }
        "Exempt" if limited.is_some() => {
            let why = "must be nil if the type is not Limited";
            problems.forbidden("spec.limited", why);
        }
        "Exempt" => {}
        _ => problems.not_supported("spec.type", &spec["type"], &["Exempt", "Limited"]),
    }
    let Some(limited) = limited else {
        return;
    };
    if limited["nominalConcurrencyShares"].as_i64().unwrap_or(0) < 0 {
        let given = &limited["nominalConcurrencyShares"];
        let field = "spec.limited.nominalConcurrencyShares";
        problems.invalid(field, given, "must be a non-negative integer");
    }
    let response = &limited["limitResponse"];
    let field = "spec.limited.limitResponse";
    match text(response, &["type"]) {
        "Reject" if at(response, &["queuing"]).is_some() => {
            let why = "must be nil if limited.limitResponse.type is not Limited";
            problems.forbidden(&format!("{field}.queuing"), why);
        }
        "Queue" if at(response, &["queuing"]).is_none() => {
            let why = "must not be empty if limited.limitResponse.type is Limited";
            problems.required(&format!("{field}.queuing"), why);
        }
        "Reject" | "Queue" => {}
        _ => {
            let known = ["Queue", "Reject"];
            problems.not_supported(&format!("{field}.type"), &response["type"], &known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(check: fn(&Value, &mut Problems), object: &Value) -> Vec<String> {
        crate::registry::validate::said(|problems| check(object, problems))
    }

    #[test]
    fn api_services() {
        let object = |name: &str, group: &str, more: Value| {
            let mut object = json!({"metadata": {"name": name}, "spec": {"group": group, "version": "v1",
                "groupPriorityMinimum": 100, "versionPriority": 15}});
            for (key, value) in more.as_object().into_iter().flatten() {
                object["spec"][key] = value.clone();
            }
            object
        };
        for good in [
            object("v1.", "", json!({})),
            object(
                "v1.a.b",
                "a.b",
                json!({"service": {"namespace": "n", "name": "s"}, "insecureSkipTLSVerify": true}),
            ),
        ] {
            assert_eq!(said(api_service, &good), [""; 0]);
        }
        let bad = object(
            "other",
            "a.b",
            json!({"versionPriority": 0, "insecureSkipTLSVerify": true}),
        );
        assert_eq!(
            said(api_service, &bad),
            [
                "metadata.name: Invalid value: \"other\": must be `spec.version+\".\"+spec.group`: \"v1.a.b\"",
                "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
                "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify"
            ]
        );
    }

    #[test]
    fn flow_control() {
        let schema = json!({"spec": {"matchingPrecedence": 1000, "priorityLevelConfiguration": {"name": "p"}}});
        assert_eq!(said(flow_schema, &schema), [""; 0]);
        assert_eq!(
            said(
                flow_schema,
                &json!({"spec": {"matchingPrecedence": 10_001}})
            )
            .len(),
            2
        );
        let level =
            json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}});
        assert_eq!(said(priority_level, &level), [""; 0]);
        assert_eq!(
            said(priority_level, &json!({"spec": {"type": "Limited"}})),
            ["spec.limited: Required value: must not be empty when type is Limited"]
        );
    }
}
