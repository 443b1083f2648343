//! nodeSelector and node affinity.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod,
};

/// The node has what the pod requires of it.
pub fn matches(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else {
        return true;
    };
    let label = |key: &str| {
        node.metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(key))
    };
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| label(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    selected && required.is_none_or(|required| selects(required, node))
}

/// The nodes that the pod names, when it may run on no others: every term of its affinity has `metadata.name`. An error
/// when no name fulfils a term. What is not named need not be looked at.
pub fn named(pod: &Pod) -> Result<Option<BTreeSet<&str>>, &'static str> {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let required = affinity.and_then(|affinity| {
        let of_nodes = affinity.node_affinity.as_ref()?;
        of_nodes
            .required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let terms = required.map_or(&[][..], |required| &required.node_selector_terms);
    let mut names = BTreeSet::new();
    for term in terms {
        let mut of_term: Option<BTreeSet<&str>> = None;
        for field in term.match_fields.iter().flatten() {
            if field.key == "metadata.name" && field.operator == "In" {
                let values = field.values.iter().flatten().map(String::as_str);
                let values: BTreeSet<&str> = values.collect();
                of_term = Some(match of_term {
                    Some(known) => known.intersection(&values).copied().collect(),
                    None => values,
                });
            }
        }
        match of_term {
            Some(of_term) => names.extend(of_term),
            None => return Ok(None),
        }
    }
    match (terms.is_empty(), names.is_empty()) {
        (true, _) => Ok(None),
        (false, true) => Err("pod affinity terms conflict"),
        (false, false) => Ok(Some(names)),
    }
}

/// The sum of the weights of the pod's preferences that the node fulfils.
pub fn preferred_weight(pod: &Pod, node: &Node) -> i64 {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let preferred = affinity
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|of_nodes| {
            of_nodes
                .preferred_during_scheduling_ignored_during_execution
                .as_ref()
        });
    preferred
        .into_iter()
        .flatten()
        .filter(|wish| fits(&wish.preference, node))
        .map(|wish| i64::from(wish.weight))
        .sum()
}

/// One of the selector's terms holds of the node.
pub fn selects(required: &NodeSelector, node: &Node) -> bool {
    required
        .node_selector_terms
        .iter()
        .any(|term| fits(term, node))
}

fn fits(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    // A term without requirements selects nothing.
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |key: &str| {
        let labels = node.metadata.labels.as_ref();
        labels
            .and_then(|labels| labels.get(key))
            .map(String::as_str)
    };
    let field = |key: &str| match key {
        "metadata.name" => node.metadata.name.as_deref(),
        _ => None,
    };
    expressions
        .iter()
        .all(|expression| holds(expression, label(&expression.key)))
        && fields
            .iter()
            .all(|expression| holds(expression, field(&expression.key)))
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
