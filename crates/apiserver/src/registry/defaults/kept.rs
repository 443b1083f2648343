//! Defaults of IngressClasses, LimitRanges, webhooks, admission policies, APIServices, flow control and CSIDrivers.

use serde_json::{Value, json};

use super::{child, each, set};
use crate::object::at;

pub fn ingress_class(object: &mut Value) {
    if let Some(parameters) = object["spec"]
        .get_mut("parameters")
        .filter(|p| p.is_object())
    {
        set(parameters, "scope", "Cluster");
    }
}

/// Of containers: a limit is the most that is allowed, a request what the limit is, or else the least that is allowed.
pub fn limit_range(object: &mut Value) {
    each(child(object, "spec"), "limits", |item| {
        if item["type"] != "Container" {
            return;
        }
        for (from, to) in [
            ("max", "default"),
            ("default", "defaultRequest"),
            ("min", "defaultRequest"),
        ] {
            let Some(given) = item[from].as_object().filter(|m| !m.is_empty()).cloned() else {
                continue;
            };
            let to = child(item, to);
            for (name, amount) in given {
                set(to, &name, amount);
            }
        }
    });
}

fn selectors(object: &mut Value) {
    set(object, "matchPolicy", "Equivalent");
    set(object, "namespaceSelector", json!({}));
    set(object, "objectSelector", json!({}));
}

pub fn validating_webhooks(object: &mut Value) {
    each(object, "webhooks", |webhook| {
        set(webhook, "failurePolicy", "Fail");
        selectors(webhook);
        set(webhook, "timeoutSeconds", 10);
        each(webhook, "rules", |rule| set(rule, "scope", "*"));
        let client = &mut webhook["clientConfig"];
        if let Some(service) = client.get_mut("service").filter(|s| s.is_object()) {
            set(service, "port", 443);
        }
    });
}

pub fn mutating_webhooks(object: &mut Value) {
    validating_webhooks(object);
    each(object, "webhooks", |webhook| {
        set(webhook, "reinvocationPolicy", "Never");
    });
}

fn match_resources(resources: &mut Value) {
    selectors(resources);
    for rules in ["resourceRules", "excludeResourceRules"] {
        each(resources, rules, |rule| set(rule, "scope", "*"));
    }
}

pub fn admission_policy(object: &mut Value) {
    let spec = child(object, "spec");
    set(spec, "failurePolicy", "Fail");
    if let Some(resources) = spec.get_mut("matchConstraints").filter(|m| m.is_object()) {
        match_resources(resources);
    }
}

pub fn policy_binding(object: &mut Value) {
    let resources = object["spec"].get_mut("matchResources");
    if let Some(resources) = resources.filter(|m| m.is_object()) {
        match_resources(resources);
    }
}

pub fn api_service(object: &mut Value) {
    if let Some(service) = object["spec"].get_mut("service").filter(|s| s.is_object()) {
        set(service, "port", 443);
    }
}

pub fn flow_schema(object: &mut Value) {
    let spec = child(object, "spec");
    if spec["matchingPrecedence"].as_i64().unwrap_or(0) == 0 {
        spec["matchingPrecedence"] = 1000.into();
    }
}

pub fn priority_level(object: &mut Value) {
    let spec = child(object, "spec");
    if let Some(limited) = spec.get_mut("limited").filter(|l| l.is_object()) {
        set(limited, "nominalConcurrencyShares", 30);
        set(limited, "lendablePercent", 0);
        let queuing = limited["limitResponse"].get_mut("queuing");
        if let Some(queuing) = queuing.filter(|q| q.is_object()) {
            set(queuing, "queues", 64);
            set(queuing, "handSize", 8);
            set(queuing, "queueLengthLimit", 50);
        }
    }
    if let Some(exempt) = spec.get_mut("exempt").filter(|e| e.is_object()) {
        set(exempt, "nominalConcurrencyShares", 0);
        set(exempt, "lendablePercent", 0);
    }
}

pub fn csi_driver(object: &mut Value) {
    let spec = child(object, "spec");
    set(spec, "attachRequired", true);
    for off in [
        "podInfoOnMount",
        "storageCapacity",
        "requiresRepublish",
        "seLinuxMount",
    ] {
        set(spec, off, false);
    }
    set(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    if at(spec, &["volumeLifecycleModes"])
        .and_then(Value::as_array)
        .is_none_or(Vec::is_empty)
    {
        spec["volumeLifecycleModes"] = json!(["Persistent"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_get_what_follows_from_the_range() {
        let mut range = json!({"spec": {"limits": [
            {"type": "Container", "max": {"cpu": "2", "memory": "1Gi"}, "min": {"cpu": "100m", "storage": "1"}, "default": {"cpu": "1"}},
            {"type": "Pod", "max": {"cpu": "4"}}]}});
        limit_range(&mut range);
        let of_containers = &range["spec"]["limits"][0];
        assert_eq!(
            of_containers["default"],
            json!({"cpu": "1", "memory": "1Gi"})
        );
        assert_eq!(
            of_containers["defaultRequest"],
            json!({"cpu": "1", "memory": "1Gi", "storage": "1"})
        );
        assert_eq!(
            range["spec"]["limits"][1],
            json!({"type": "Pod", "max": {"cpu": "4"}})
        );
    }

    #[test]
    fn webhooks_and_policies() {
        let mut hooks = json!({"webhooks": [{"name": "a", "rules": [{}], "clientConfig": {"service": {"name": "s"}}}]});
        mutating_webhooks(&mut hooks);
        assert_eq!(
            hooks["webhooks"][0],
            json!({"name": "a", "rules": [{"scope": "*"}], "clientConfig": {"service": {"name": "s", "port": 443}},
                "failurePolicy": "Fail", "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
                "timeoutSeconds": 10, "reinvocationPolicy": "Never"})
        );
        let mut policy = json!({"spec": {"matchConstraints": {"resourceRules": [{}]}}});
        admission_policy(&mut policy);
        assert_eq!(
            policy["spec"]["matchConstraints"]["resourceRules"][0]["scope"],
            "*"
        );
    }
}
