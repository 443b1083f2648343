//! Whether a pod may be on a node, as far as its template says: nodeSelector, required node affinity, taints.
//!
//! Pure. The scheduler decides the same for pods that exist; no role uses another's code.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
};

use crate::objects;

/// The node has what the pod requires of it.
pub fn selects(spec: &PodSpec, node: &Node) -> bool {
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let wanted = spec.node_selector.iter().flatten();
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    wanted
        .into_iter()
        .all(|(key, value)| labels.get(key) == Some(value))
        && required.is_none_or(|required| {
            let mut terms = required.node_selector_terms.iter();
            terms.any(|term| fits(term, labels, objects::name(node)))
        })
}

fn fits(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, name: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let field = |key: &str| (key == "metadata.name").then_some(name);
    // a term without requirements selects nothing
    !(expressions.is_empty() && fields.is_empty())
        && expressions
            .iter()
            .all(|one| holds(one, labels.get(&one.key).map(String::as_str)))
        && fields.iter().all(|one| holds(one, field(&one.key)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = || value.is_some_and(|value| values.iter().any(|one| one == value));
    let compared = || {
        let bound: i64 = values.first()?.parse().ok()?;
        let value: i64 = value?.parse().ok()?;
        Some(value.cmp(&bound))
    };
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared().is_some_and(std::cmp::Ordering::is_gt),
        "Lt" => compared().is_some_and(std::cmp::Ordering::is_lt),
        _ => false,
    }
}

/// Every taint of the node with one of these effects is tolerated.
pub fn tolerates(spec: &PodSpec, node: &Node, effects: &[&str]) -> bool {
    let taints = node
        .spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten());
    taints
        .filter(|taint| effects.contains(&taint.effect.as_str()))
        .all(|taint| {
            let mut tolerations = spec.tolerations.iter().flatten();
            tolerations.any(|toleration| covers(toleration, taint))
        })
}

fn covers(toleration: &Toleration, taint: &Taint) -> bool {
    let differs = |given: &Option<String>, actual: &str| {
        given
            .as_deref()
            .is_some_and(|given| !given.is_empty() && given != actual)
    };
    if differs(&toleration.effect, &taint.effect) || differs(&toleration.key, &taint.key) {
        return false;
    }
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let (mine, theirs) = (toleration.value.as_deref(), taint.value.as_deref());
    match toleration.operator.as_deref() {
        None | Some("" | "Equal") => mine.unwrap_or_default() == theirs.unwrap_or_default(),
        Some("Exists") => true,
        Some("Lt") => {
            matches!((number(theirs), number(mine)), (Some(theirs), Some(mine)) if theirs < mine)
        }
        Some("Gt") => {
            matches!((number(theirs), number(mine)), (Some(theirs), Some(mine)) if theirs > mine)
        }
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(more: Value) -> PodSpec {
        let mut spec = json!({"containers": []});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        serde_json::from_value(spec).unwrap()
    }

    fn requires(term: Value) -> PodSpec {
        spec(
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}}),
        )
    }

    #[test]
    fn selectors_and_affinity() {
        let node: Node = serde_json::from_value(
            json!({"metadata": {"name": "one", "labels": {"disk": "ssd", "cores": "8"}}}),
        )
        .unwrap();
        let expression = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        let field = |name: &str| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]});
        let cases = [
            (spec(json!({})), true),
            (spec(json!({"nodeSelector": {"disk": "ssd"}})), true),
            (spec(json!({"nodeSelector": {"disk": "hdd"}})), false),
            (requires(json!({})), false),
            (requires(field("one")), true),
            (requires(field("two")), false),
            (requires(expression("disk", "In", &["ssd", "x"])), true),
            (requires(expression("disk", "NotIn", &["ssd"])), false),
            (requires(expression("gpu", "NotIn", &["a"])), true),
            (requires(expression("gpu", "Exists", &[])), false),
            (requires(expression("gpu", "DoesNotExist", &[])), true),
            (requires(expression("cores", "Gt", &["4"])), true),
            (requires(expression("cores", "Lt", &["4"])), false),
        ];
        for (spec, expected) in cases {
            assert_eq!(selects(&spec, &node), expected, "{}", json!(spec));
        }
    }

    #[test]
    fn taints_and_tolerations() {
        let node = |effect: &str| -> Node {
            serde_json::from_value(json!({"metadata": {"name": "one"}, "spec": {"taints": [{"key": "a", "value": "b", "effect": effect}]}})).unwrap()
        };
        let both = ["NoSchedule", "NoExecute"];
        let cases = [
            (json!([]), "NoSchedule", false),
            (json!([]), "PreferNoSchedule", true),
            (json!([{"operator": "Exists"}]), "NoExecute", true),
            (json!([{"key": "a", "value": "b"}]), "NoExecute", true),
            (json!([{"key": "a", "value": "c"}]), "NoExecute", false),
            (
                json!([{"key": "x", "operator": "Exists"}]),
                "NoExecute",
                false,
            ),
            (
                json!([{"key": "a", "operator": "Exists", "effect": "NoSchedule"}]),
                "NoExecute",
                false,
            ),
        ];
        for (tolerations, effect, expected) in cases {
            let spec = spec(json!({"tolerations": tolerations}));
            let found = tolerates(&spec, &node(effect), &both);
            assert_eq!(found, expected, "{tolerations} {effect}");
        }
    }
}
