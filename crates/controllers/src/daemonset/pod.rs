//! The pods of a DaemonSet: made for one node each, which the scheduler then finds by their affinity.
//!
//! Pure. Follows `pkg/controller/daemon/util/daemonset_util.go`.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};

use crate::objects;
use crate::placement;
use crate::pod_control::from_template;

/// Labels of pods, by upstream's names; the first is a revision's too.
pub const HASH: &str = "controller-revision-hash";
const TEMPLATE_GENERATION_LABEL: &str = "pod-template-generation";
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
/// The field by which a pod names its node.
const NODE_NAME: &str = "metadata.name";

/// What every such pod tolerates: it is meant to be on nodes that are not well.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
const WITHOUT_NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// The set's pod for a node, of the revision with this hash.
pub fn pod(set: &DaemonSet, hash: &str, node: &str) -> Pod {
    let mut pod = from_template(set.spec.template.clone(), set);
    let labels = pod.metadata.labels.get_or_insert_default();
    if let Some(generation) = objects::annotation(set, TEMPLATE_GENERATION) {
        labels.insert(TEMPLATE_GENERATION_LABEL.to_owned(), generation.to_owned());
    }
    labels.insert(HASH.to_owned(), hash.to_owned());
    let spec = pod.spec.get_or_insert_default();
    tolerate(spec);
    pin(spec, node);
    pod
}

fn tolerate(spec: &mut PodSpec) {
    let without_network = (spec.host_network == Some(true)).then_some(WITHOUT_NETWORK);
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in TOLERATED.into_iter().chain(without_network) {
        let wanted = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Default::default()
        };
        let same = |known: &&mut Toleration| {
            (&known.key, &known.operator, &known.effect)
                == (&wanted.key, &wanted.operator, &wanted.effect)
                && known.value.as_deref().unwrap_or_default().is_empty()
        };
        match tolerations.iter_mut().find(same) {
            // without an end
            Some(known) => *known = wanted,
            None => tolerations.push(wanted),
        }
    }
}

/// Requires the node; what the template requires of nodes has been looked at by then.
fn pin(spec: &mut PodSpec, node: &str) {
    let affinity = spec.affinity.get_or_insert_default();
    let affinity = affinity.node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm {
            match_fields: Some(vec![NodeSelectorRequirement {
                key: NODE_NAME.to_owned(),
                operator: "In".to_owned(),
                values: Some(vec![node.to_owned()]),
            }]),
            match_expressions: None,
        }],
    });
}

/// The node that a pod is on, or was made for.
pub fn target(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = spec.node_name.as_deref().filter(|node| !node.is_empty()) {
        return Some(node);
    }
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let terms = required.node_selector_terms.iter();
    let named = terms
        .flat_map(|term| term.match_fields.iter().flatten())
        .find(|field| field.key == NODE_NAME && field.operator == "In")?;
    match named.values.as_deref()? {
        [node] => Some(node),
        _ => None,
    }
}

/// Whether the set's pods belong on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// One is made there.
    pub should_run: bool,
    /// One that is there stays.
    pub may_stay: bool,
}

/// Looks at the template's nodeName, nodeSelector, node affinity and tolerations.
pub fn place(set: &DaemonSet, node: &Node) -> Place {
    let mut spec = set.spec.template.spec.clone().unwrap_or_default();
    let elsewhere = spec
        .node_name
        .as_deref()
        .is_some_and(|name| !name.is_empty() && name != objects::name(node));
    if elsewhere || !placement::selects(&spec, node) {
        return Place {
            should_run: false,
            may_stay: false,
        };
    }
    tolerate(&mut spec);
    let should_run = placement::tolerates(&spec, node, &["NoSchedule", "NoExecute"]);
    Place {
        should_run,
        may_stay: should_run || placement::tolerates(&spec, node, &["NoExecute"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn set(spec: Value) -> DaemonSet {
        serde_json::from_value(json!({
            "metadata": {"name": "agent", "namespace": "ops", "uid": "u", "annotations": {TEMPLATE_GENERATION: "4"}},
            "spec": {"selector": {}, "template": {"metadata": {"labels": {"app": "agent"}}, "spec": spec}},
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_names_its_node_and_tolerates_its_troubles() {
        let template = json!({"containers": [], "hostNetwork": true,
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9}, {"key": "own"}],
            "affinity": {"podAffinity": {}, "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [],
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}}});
        let pod = pod(&set(template), "5f", "one");
        assert_eq!(target(&pod), Some("one"));
        assert_eq!(
            json!(pod.metadata),
            json!({
                "generateName": "agent-", "namespace": "ops",
                "labels": {"app": "agent", HASH: "5f", TEMPLATE_GENERATION_LABEL: "4"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agent", "uid": "u", "controller": true, "blockOwnerDeletion": true}],
            })
        );
        let spec = pod.spec.unwrap();
        assert_eq!(
            json!(spec.affinity),
            json!({"podAffinity": {}, "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [],
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["one"]}]}]}}})
        );
        let tolerations = spec.tolerations.unwrap();
        assert_eq!(tolerations.len(), 8, "one was there, and one is its own");
        assert_eq!(tolerations[0].toleration_seconds, None);
        assert_eq!(
            tolerations[7].key.as_deref(),
            Some("node.kubernetes.io/network-unavailable")
        );
    }

    #[test]
    fn a_pods_node_is_the_one_it_is_on_or_was_made_for() {
        let field = |values: Value| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": values}]}]}}}, "containers": []})
        };
        let cases = [
            (json!({"nodeName": "one", "containers": []}), Some("one")),
            (field(json!(["two"])), Some("two")),
            (field(json!(["two", "three"])), None),
            (json!({"containers": []}), None),
        ];
        for (spec, expected) in cases {
            let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
            assert_eq!(target(&pod), expected, "{spec}");
        }
    }

    #[test]
    fn nodes_are_chosen_by_selector_and_taints() {
        let cases = [
            (json!({}), json!([]), (true, true)),
            (json!({"nodeName": "one"}), json!([]), (true, true)),
            (json!({"nodeName": "two"}), json!([]), (false, false)),
            (
                json!({"nodeSelector": {"disk": "ssd"}}),
                json!([]),
                (true, true),
            ),
            (
                json!({"nodeSelector": {"disk": "hdd"}}),
                json!([]),
                (false, false),
            ),
            (
                json!({}),
                json!([{"key": "a", "effect": "NoSchedule"}]),
                (false, true),
            ),
            (
                json!({}),
                json!([{"key": "a", "effect": "NoExecute"}]),
                (false, false),
            ),
            (
                json!({"tolerations": [{"operator": "Exists"}]}),
                json!([{"key": "a", "effect": "NoExecute"}]),
                (true, true),
            ),
            // cordoned, not ready
            (
                json!({}),
                json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]),
                (true, true),
            ),
            (
                json!({}),
                json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]),
                (true, true),
            ),
        ];
        for (mut spec, taints, (should_run, may_stay)) in cases {
            spec["containers"] = json!([]);
            let node: Node = serde_json::from_value(json!({"metadata": {"name": "one", "labels": {"disk": "ssd"}}, "spec": {"taints": taints}})).unwrap();
            let found = place(&set(spec.clone()), &node);
            assert_eq!(
                found,
                Place {
                    should_run,
                    may_stay
                },
                "{spec} {taints}"
            );
        }
    }
}
