//! Taints and tolerations.

use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

const MEMORY: &str = "node.kubernetes.io/memory-pressure";

/// The pod tolerates every taint that keeps pods away.
pub fn tolerates(pod: &Pod, node: &Node) -> bool {
    taints(node)
        .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
        .filter(|taint| !(taint.key == MEMORY && copes_with_little_memory(pod)))
        .all(|taint| tolerations(pod).any(|toleration| covers(toleration, taint)))
}

/// Pods that ask for anything, or have any limit, are taken to cope: only those of the class BestEffort are kept from a node that
/// is short of memory. Upstream's documentation has it so; there an admission plugin writes the toleration into the pod.
fn copes_with_little_memory(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let containers = spec.into_iter().flat_map(|spec| {
        spec.containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
    });
    let mut resources = containers.filter_map(|container| container.resources.as_ref());
    let positive = |quantity: &Quantity| !quantity.0.trim_start_matches(['0', '.']).is_empty();
    resources.any(|resources| {
        let all = [&resources.requests, &resources.limits];
        all.into_iter().flatten().any(|amounts| {
            let mut named = ["cpu", "memory"].iter();
            named.any(|name| amounts.get(*name).is_some_and(positive))
        })
    })
}

/// How many taints would rather not have the pod.
pub fn counts_against(pod: &Pod, node: &Node) -> usize {
    taints(node)
        .filter(|taint| taint.effect == "PreferNoSchedule")
        .filter(|taint| !tolerations(pod).any(|toleration| covers(toleration, taint)))
        .count()
}

/// The pod may go to a cordoned node.
pub fn tolerates_unschedulable(pod: &Pod) -> bool {
    let taint = Taint {
        key: UNSCHEDULABLE.to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Default::default()
    };
    tolerations(pod).any(|toleration| covers(toleration, &taint))
}

fn taints(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten())
}

fn tolerations(pod: &Pod) -> impl Iterator<Item = &Toleration> {
    pod.spec
        .iter()
        .flat_map(|spec| spec.tolerations.iter().flatten())
}

fn covers(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    if given(&toleration.effect).is_some_and(|effect| effect != taint.effect) {
        return false;
    }
    if given(&toleration.key).is_some_and(|key| key != taint.key) {
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
