//! What a change of its pod means to a container that runs: another image starts it again, and so do other resources where its
//! `resizePolicy` says so; otherwise it is given them as it runs. Pure functions.
//!
//! Follows the kubelet's `computePodActions` and `computePodResizeAction` (KEP-1287).

use std::collections::BTreeMap;

use engine::{ContainerSpec, Resources};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::container::label;
use crate::ending::note;
use crate::pressure::Allocatable;
use crate::resources;

/// The resources that can change while a container runs.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// What is due with a container that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    None,
    /// Its image is another one.
    Image,
    /// Its resources are others; `restart` when it has to start again for them.
    Resources {
        restart: bool,
    },
}

/// How it stands with the resources that a running pod was asked to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resizing {
    /// Not now (`Deferred`), or never on this node (`Infeasible`).
    Pending {
        reason: &'static str,
        message: String,
    },
    /// Being given to it; with what the kernel said against it.
    InProgress { error: Option<String> },
}

/// Requests and limits of a container as its record keeps them.
pub fn text_of(container: &Container) -> String {
    serde_json::to_string(&asked(container)).unwrap_or_default()
}

fn asked(container: &Container) -> ResourceRequirements {
    let all = container.resources.clone().unwrap_or_default();
    ResourceRequirements {
        claims: None,
        ..all
    }
}

/// What the container was given; `None` for a record that does not say.
pub fn given(running: &ContainerSpec) -> Option<ResourceRequirements> {
    let text = running.annotations.get(note::RESOURCES)?;
    serde_json::from_str(text).ok()
}

/// What is due with `container`, which runs as `running`.
pub fn change(container: &Container, running: &ContainerSpec) -> Change {
    let image = running.labels.get(label::IMAGE);
    if image.is_some_and(|image| container.image.as_ref() != Some(image)) {
        return Change::Image;
    }
    let Some(given) = given(running) else {
        return Change::None;
    };
    let asked = asked(container);
    let differs = |name: &&&str| {
        let amounts = |of: &ResourceRequirements| {
            let amount = |list: &Option<BTreeMap<String, Quantity>>| {
                let quantity = list.as_ref().and_then(|list| list.get(**name));
                quantity.and_then(resources::milli_value)
            };
            (amount(&of.requests), amount(&of.limits))
        };
        amounts(&given) != amounts(&asked)
    };
    let changed: Vec<&&str> = RESIZABLE.iter().filter(|name| differs(name)).collect();
    if changed.is_empty() {
        return Change::None;
    }
    let policies = container.resize_policy.iter().flatten();
    let restart = policies
        .filter(|policy| policy.restart_policy == "RestartContainer")
        .any(|policy| changed.iter().any(|name| **name == policy.resource_name));
    Change::Resources { restart }
}

/// The specification with what each running container was given instead of what it asks for.
pub fn as_given<'a>(
    spec: &PodSpec,
    running: impl Fn(&str) -> Option<&'a ContainerSpec>,
) -> PodSpec {
    let mut spec = spec.clone();
    let init = spec.init_containers.iter_mut().flatten();
    for container in spec.containers.iter_mut().chain(init) {
        if let Some(given) = running(&container.name).and_then(given) {
            container.resources = Some(given);
        }
    }
    spec
}

/// The specification with what its containers were last said to have been given instead of what they ask for: a resize that waits, or
/// that will never be, takes nothing of the node.
pub fn as_allocated(pod: &Pod) -> PodSpec {
    let mut spec = pod.spec.clone().unwrap_or_default();
    let status = pod.status.as_ref();
    let main = status.and_then(|status| status.container_statuses.as_ref());
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    let allocated = |name: &str| {
        let mut all = main.into_iter().chain(init).flatten();
        all.find(|one| one.name == name)?
            .allocated_resources
            .clone()
    };
    let containers = spec.init_containers.iter_mut().flatten();
    for container in containers.chain(&mut spec.containers) {
        if let Some(allocated) = allocated(&container.name) {
            container.resources.get_or_insert_default().requests = Some(allocated);
        }
    }
    spec
}

/// Whether the pod may have more than it was `given`, beside `others`.
///
/// # Errors
/// Reason and message of the pod's condition.
pub fn room(
    pod: &Pod,
    given: &PodSpec,
    others: &[&Pod],
    allocatable: &Allocatable,
) -> Result<(), (&'static str, String)> {
    let others: Vec<PodSpec> = others.iter().map(|other| as_allocated(other)).collect();
    for name in RESIZABLE {
        let asked = pod.spec.as_ref();
        let wanted = asked.map_or(0, |spec| resources::pod_request(spec, name));
        if wanted <= resources::pod_request(given, name) {
            continue;
        }
        let most = allocatable.amount(name);
        if wanted > most {
            let message = format!(
                "Node didn't have enough capacity: {name}, requested: {wanted}, capacity: {most}"
            );
            return Err(("Infeasible", message));
        }
        let used = others.iter().fold(0i64, |sum, other| {
            sum.saturating_add(resources::pod_request(other, name))
        });
        if wanted > most.saturating_sub(used) {
            let message = format!(
                "Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {most}"
            );
            return Err(("Deferred", message));
        }
    }
    Ok(())
}

/// Limits that neither of the two exceeds: a pod has them while its containers go from the one to the other.
pub fn wider(one: &Resources, other: &Resources) -> Resources {
    let most = |one: Option<i64>, other: Option<i64>| match (one, other) {
        (Some(one), Some(other)) if one > 0 && other > 0 => Some(one.max(other)),
        // to have no limit is to have the widest
        (Some(limit), None) | (None, Some(limit)) if limit <= 0 => Some(limit),
        (Some(_), Some(_)) => Some(-1),
        _ => None,
    };
    Resources {
        cpu_shares: one.cpu_shares.max(other.cpu_shares),
        cpu_quota_us: most(one.cpu_quota_us, other.cpu_quota_us),
        memory_limit_bytes: most(one.memory_limit_bytes, other.memory_limit_bytes),
        ..other.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn container(resources: Value, policy: Value) -> Container {
        let container =
            json!({"name": "a", "image": "i:1", "resources": resources, "resizePolicy": policy});
        serde_json::from_value(container).expect("a container")
    }

    fn running(container: &Container) -> ContainerSpec {
        ContainerSpec {
            name: container.name.clone(),
            labels: [(label::IMAGE.to_owned(), "i:1".to_owned())].into(),
            annotations: [(note::RESOURCES.to_owned(), text_of(container))].into(),
            ..ContainerSpec::default()
        }
    }

    #[test]
    fn what_is_due() {
        let before = container(
            json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1"}}),
            json!([]),
        );
        let runs = running(&before);
        let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"},
            {"resourceName": "cpu", "restartPolicy": "NotRequired"}]);
        for (resources, expected) in [
            (
                json!({"requests": {"cpu": "0.1", "memory": "65536Ki"}, "limits": {"cpu": "1000m"}}),
                Change::None,
            ),
            (
                json!({"requests": {"cpu": "200m", "memory": "64Mi"}, "limits": {"cpu": "1"}}),
                Change::Resources { restart: false },
            ),
            (
                json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}),
                Change::Resources { restart: true },
            ),
            (
                json!({"requests": {"cpu": "100m", "memory": "65Mi"}, "limits": {"cpu": "2"}}),
                Change::Resources { restart: true },
            ),
            (json!({}), Change::Resources { restart: true }),
        ] {
            let after = container(resources.clone(), policy.clone());
            assert_eq!(change(&after, &runs), expected, "{resources}");
        }
        let mut other = before.clone();
        other.image = Some("i:2".into());
        assert_eq!(change(&other, &runs), Change::Image);
        // what was started before there were such notes
        let unknown = ContainerSpec::default();
        assert_eq!(change(&other, &unknown), Change::None);
    }

    #[test]
    fn room_is_needed_only_for_more() {
        let allocatable = Allocatable {
            cpu_milli: 2000,
            memory_bytes: 1 << 30,
            disk_bytes: 0,
            pods: 10,
        };
        let pod = |cpu: &str| -> Pod {
            let spec =
                json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}]});
            serde_json::from_value(json!({"spec": spec})).expect("a pod")
        };
        let given = pod("500m").spec.expect("a spec");
        let (idle, busy) = (pod("100m"), pod("1900m"));
        let ask = |cpu: &str, other: &Pod| room(&pod(cpu), &given, &[other], &allocatable);
        assert_eq!(ask("1900m", &idle), Ok(()));
        assert_eq!(ask("400m", &busy), Ok(()), "less is always there");
        let capacity = "Node didn't have enough capacity: cpu, requested: 2001, capacity: 2000";
        assert_eq!(
            ask("2001m", &idle),
            Err(("Infeasible", capacity.to_owned()))
        );
        let used =
            "Node didn't have enough resource: cpu, requested: 600, used: 1900, capacity: 2000";
        assert_eq!(ask("600m", &busy), Err(("Deferred", used.to_owned())));
        let mut waiting = pod("9k");
        let status = json!({"containerStatuses": [{"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "allocatedResources": {"cpu": "100m"}}]});
        waiting.status = Some(serde_json::from_value(status).expect("a status"));
        assert_eq!(ask("1900m", &waiting), Ok(()), "it has no more than it had");
    }

    #[test]
    fn what_was_given_stands_for_what_is_asked() {
        let small = container(json!({"requests": {"cpu": "1m"}}), json!([]));
        let big = container(json!({"requests": {"cpu": "2m"}}), json!([]));
        let spec = PodSpec {
            containers: vec![big.clone()],
            ..PodSpec::default()
        };
        let runs = running(&small);
        let given = as_given(&spec, |name| (name == "a").then_some(&runs));
        assert_eq!(given.containers[0].resources, small.resources);
        assert_eq!(as_given(&spec, |_| None), spec);
    }

    #[test]
    fn the_wider_limit_holds_in_between() {
        let limits = |cpu, memory| Resources {
            cpu_shares: Some(2),
            cpu_quota_us: cpu,
            memory_limit_bytes: memory,
            ..Resources::default()
        };
        let both = wider(&limits(Some(5), Some(10)), &limits(Some(6), Some(9)));
        assert_eq!(both, limits(Some(6), Some(10)));
        // a group without a limit gets none before its containers have theirs
        assert_eq!(
            wider(&limits(None, None), &limits(Some(6), None)),
            limits(None, None)
        );
        assert_eq!(
            wider(&limits(Some(-1), None), &limits(Some(6), None)),
            limits(Some(-1), None)
        );
    }
}
