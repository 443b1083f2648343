//! What a Service loses with the type that had it (upstream `dropTypeDependentFields`).

use serde_json::Value;

use crate::object::at;
use crate::registry::validate::{is_asked_for_its_health, is_reached_from_outside};

type Has = fn(&Value) -> bool;

const FIELDS: [(&str, Has); 4] = [
    ("healthCheckNodePort", is_asked_for_its_health),
    ("allocateLoadBalancerNodePorts", is_balanced),
    ("loadBalancerClass", is_balanced),
    ("externalTrafficPolicy", is_reached_from_outside),
];

fn is_balanced(spec: &Value) -> bool {
    spec["type"] == "LoadBalancer"
}

/// Takes away what the new type does not have and the old one had, unless it was changed with the type, which is a mistake
/// to be told.
pub(super) fn drop_with_type(new: &mut Value, old: &Value) {
    let lost: Vec<&str> = FIELDS
        .iter()
        .filter(|(key, has)| {
            let same = at(new, &["spec", key]) == at(old, &["spec", key]);
            has(&old["spec"]) && !has(&new["spec"]) && same
        })
        .map(|(key, _)| *key)
        .collect();
    if let Some(spec) = new["spec"].as_object_mut() {
        for key in lost {
            spec.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_not_changed_goes_with_the_type() {
        let old = json!({"spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30000,
            "loadBalancerClass": "a/b", "allocateLoadBalancerNodePorts": true}});
        let as_type = |kind: &str| {
            let mut new = old.clone();
            new["spec"]["type"] = kind.into();
            drop_with_type(&mut new, &old);
            new["spec"].clone()
        };
        assert_eq!(as_type("ClusterIP"), json!({"type": "ClusterIP"}));
        assert_eq!(
            as_type("NodePort"),
            json!({"type": "NodePort", "externalTrafficPolicy": "Local"})
        );
        let mut changed = old.clone();
        changed["spec"]["type"] = "ClusterIP".into();
        changed["spec"]["externalTrafficPolicy"] = "Cluster".into();
        drop_with_type(&mut changed, &old);
        assert_eq!(
            changed["spec"],
            json!({"type": "ClusterIP", "externalTrafficPolicy": "Cluster"})
        );
        let mut same = old.clone();
        drop_with_type(&mut same, &old);
        assert_eq!(same, old);
    }
}
