//! Validation of what a Service says of its traffic, as far as its type has any of it.

use serde_json::Value;

use super::super::endpoints::app_protocol;
use super::{Problems, names, port_number};
use crate::object::{at, items, text};

const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameNode", "PreferSameZone"];
const BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";

/// The fields of a Service that only some types have.
pub fn fields(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    for (n, port) in items(spec, &["ports"]).iter().enumerate() {
        app_protocol(port, &format!("spec.ports[{n}]"), problems);
    }
    if let Some(wanted) = at(spec, &["trafficDistribution"]).and_then(Value::as_str)
        && !DISTRIBUTIONS.contains(&wanted)
    {
        let field = "spec.trafficDistribution";
        problems.not_supported(field, &wanted.into(), &DISTRIBUTIONS);
    }
    let balanced = spec["type"] == "LoadBalancer";
    if at(spec, &["allocateLoadBalancerNodePorts"]).is_some() && !balanced {
        problems.forbidden("spec.allocateLoadBalancerNodePorts", BALANCED);
    }
    if let Some(class) = at(spec, &["loadBalancerClass"]).and_then(Value::as_str) {
        let field = "spec.loadBalancerClass";
        if balanced {
            for why in names::label_key(class) {
                problems.invalid(field, &class.into(), &why);
            }
        } else {
            problems.forbidden(field, BALANCED);
        }
    }
    let policy = text(spec, &["externalTrafficPolicy"]);
    if !policy.is_empty() && !is_reached_from_outside(spec) {
        let why = "may only be set for externally-accessible services";
        problems.invalid("spec.externalTrafficPolicy", &policy.into(), why);
    }
    let health = spec["healthCheckNodePort"].as_i64().unwrap_or(0);
    if health != 0 {
        let field = "spec.healthCheckNodePort";
        if is_asked_for_its_health(spec) {
            port_number(health, field, problems);
        } else {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            problems.invalid(field, &health.into(), why);
        }
    }
}

/// A class and a health port stay what they were.
pub fn update(new: &Value, old: &Value, problems: &mut Problems) {
    let (new, old) = (&new["spec"], &old["spec"]);
    let both = |rule: fn(&Value) -> bool| rule(new) && rule(old);
    if both(|spec| spec["type"] == "LoadBalancer")
        && at(new, &["loadBalancerClass"]) != at(old, &["loadBalancerClass"])
    {
        problems.invalid(
            "spec.loadBalancerClass",
            &new["loadBalancerClass"],
            "may not change once set",
        );
    }
    let health = |spec: &Value| spec["healthCheckNodePort"].as_i64().unwrap_or(0);
    if both(is_asked_for_its_health) && health(new) != health(old) {
        problems.forbidden("spec.healthCheckNodePort", "field is immutable");
    }
}

/// Whether an address or port of the outside leads to it.
pub fn is_reached_from_outside(spec: &Value) -> bool {
    match text(spec, &["type"]) {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !items(spec, &["externalIPs"]).is_empty(),
        _ => false,
    }
}

/// Whether a load balancer would ask each node whether it has endpoints.
pub fn is_asked_for_its_health(spec: &Value) -> bool {
    spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::validate::said;
    use serde_json::json;

    #[test]
    fn each_type_has_what_it_has() {
        for spec in [
            json!({"type": "ClusterIP", "trafficDistribution": "PreferSameNode", "ports": [{"appProtocol": "http"}, {"appProtocol": "kubernetes.io/ws"}]}),
            json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/a", "allocateLoadBalancerNodePorts": false, "externalTrafficPolicy": "Local", "healthCheckNodePort": 30000}),
            json!({"type": "NodePort", "externalTrafficPolicy": "Cluster"}),
            json!({"type": "ClusterIP", "externalIPs": ["192.0.2.1"], "externalTrafficPolicy": "Local"}),
        ] {
            let object = json!({"spec": spec});
            assert_eq!(said(|p| fields(&object, p)), Vec::<String>::new(), "{spec}");
        }
        for (spec, expected) in [
            (
                json!({"trafficDistribution": "PreferFar"}),
                "spec.trafficDistribution: Unsupported value: \"PreferFar\": supported values: \"PreferClose\", \"PreferSameNode\", \"PreferSameZone\"",
            ),
            (
                json!({"type": "NodePort", "allocateLoadBalancerNodePorts": true}),
                "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
            ),
            (
                json!({"type": "ClusterIP", "loadBalancerClass": "a.example/b"}),
                "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
            ),
            (
                json!({"type": "ClusterIP", "externalTrafficPolicy": "Cluster"}),
                "spec.externalTrafficPolicy: Invalid value: \"Cluster\": may only be set for externally-accessible services",
            ),
            (
                json!({"type": "LoadBalancer", "externalTrafficPolicy": "Cluster", "healthCheckNodePort": 30000}),
                "spec.healthCheckNodePort: Invalid value: 30000: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            ),
        ] {
            let object = json!({"spec": spec});
            assert_eq!(said(|p| fields(&object, p)), [expected]);
        }
        let bad = json!({"spec": {"ports": [{"appProtocol": "a b"}]}});
        assert!(
            said(|p| fields(&bad, p))[0].starts_with("spec.ports[0].appProtocol: Invalid value")
        );
    }

    #[test]
    fn a_class_and_a_health_port_stay() {
        let object = |class: &str, health: i64| json!({"spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "loadBalancerClass": class, "healthCheckNodePort": health}});
        let old = object("a/b", 30000);
        assert!(said(|p| update(&old, &old, p)).is_empty());
        assert_eq!(
            said(|p| update(&object("a/c", 30001), &old, p)),
            [
                "spec.loadBalancerClass: Invalid value: \"a/c\": may not change once set",
                "spec.healthCheckNodePort: Forbidden: field is immutable",
            ]
        );
        let other = json!({"spec": {"type": "ClusterIP"}});
        assert!(said(|p| update(&other, &old, p)).is_empty());
    }
}
