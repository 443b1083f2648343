//! Whether this node takes a pod that was given to it: a pure function. The scheduler asks the same before; this is for pods
//! that came by it, and for what has changed since.
//!
//! Follows the kubelet's `pkg/kubelet/eviction` (`Admit`) and `pkg/kubelet/lifecycle/predicate.go`.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration};

use super::reserve::Allocatable;
use super::signal::Pressure;
use crate::resize::as_allocated;
use crate::resources;

/// As `scheduling.SystemCriticalPriority`.
const CRITICAL: i32 = 2_000_000_000;
const MEMORY_TAINT: &str = "node.kubernetes.io/memory-pressure";
/// Resources by name, in the order in which upstream looks at them.
const RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// Why a pod is not run here: reason and message of its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: String,
    pub message: String,
}

/// Whether the pod may run beside `others`, which do already.
pub fn admit(
    pod: &Pod,
    others: &[&Pod],
    conditions: &BTreeSet<Pressure>,
    allocatable: &Allocatable,
) -> Result<(), Refusal> {
    pressure(pod, conditions)?;
    room(pod, others, allocatable)
}

/// Mirrors a file of the machine.
pub fn is_static(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.is_some_and(|all| all.contains_key("kubernetes.io/config.mirror"))
}

/// The pod's priority; none is zero.
pub fn priority(pod: &Pod) -> i32 {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.priority)
        .unwrap_or(0)
}

fn pressure(pod: &Pod, conditions: &BTreeSet<Pressure>) -> Result<(), Refusal> {
    let critical = is_static(pod) || priority(pod) >= CRITICAL;
    if conditions.is_empty() || critical {
        return Ok(());
    }
    if conditions.iter().eq([&Pressure::Memory]) {
        let spec = pod.spec.clone().unwrap_or_default();
        let tolerations = spec.tolerations.iter().flatten();
        // who asks for memory is taken to have thought about it
        if resources::qos_class(&spec) != "BestEffort"
            || tolerations.into_iter().any(tolerates_memory)
        {
            return Ok(());
        }
    }
    let names: Vec<&str> = conditions.iter().map(|one| one.kind()).collect();
    Err(Refusal {
        reason: "Evicted".into(),
        message: format!("The node had condition: [{}]. ", names.join(" ")),
    })
}

fn tolerates_memory(toleration: &Toleration) -> bool {
    let fits = |value: &Option<String>, wanted: &str| {
        value
            .as_deref()
            .is_none_or(|value| value.is_empty() || value == wanted)
    };
    let exists = toleration.operator.as_deref() == Some("Exists");
    let named = toleration.key.as_deref() == Some(MEMORY_TAINT);
    let empty = toleration.value.as_deref().unwrap_or_default().is_empty();
    fits(&toleration.effect, "NoSchedule")
        && fits(&toleration.key, MEMORY_TAINT)
        && (exists || named && empty)
}

fn room(pod: &Pod, others: &[&Pod], allocatable: &Allocatable) -> Result<(), Refusal> {
    let short = |name: &str, requested: i64, used: i64, capacity: i64| Refusal {
        reason: format!("OutOf{name}"),
        message: format!(
            "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
        ),
    };
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    let most = i64::from(allocatable.pods);
    if count >= most {
        return Err(short("pods", 1, count, most));
    }
    let own = as_allocated(pod);
    let others: Vec<PodSpec> = others.iter().map(|pod| as_allocated(pod)).collect();
    for name in RESOURCES {
        let wanted = resources::pod_request(&own, name);
        let used = others.iter().fold(0i64, |sum, spec| {
            sum.saturating_add(resources::pod_request(spec, name))
        });
        let most = allocatable.amount(name);
        if wanted > 0 && wanted > most.saturating_sub(used) {
            return Err(short(name, wanted, used, most));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const ALLOCATABLE: Allocatable = Allocatable {
        cpu_milli: 2000,
        memory_bytes: 1 << 30,
        disk_bytes: 1 << 30,
        pods: 3,
    };

    fn pod(change: Value, requests: Value) -> Pod {
        let mut pod = json!({ "metadata": { "name": "p" }, "spec": {
            "containers": [{ "name": "c", "resources": { "requests": requests } }] } });
        for (key, value) in change.as_object().expect("an object") {
            pod["spec"][key] = value.clone();
        }
        serde_json::from_value(pod).expect("a pod")
    }

    fn reason(pod: &Pod, conditions: &[Pressure]) -> Option<String> {
        let conditions = conditions.iter().copied().collect();
        admit(pod, &[], &conditions, &ALLOCATABLE)
            .err()
            .map(|refusal| format!("{}: {}", refusal.reason, refusal.message))
    }

    #[test]
    fn a_node_that_is_short_takes_nobody_but_who_may() {
        use Pressure::{Disk, Memory, Pids};
        let plain = pod(json!({}), json!({}));
        let burstable = pod(json!({}), json!({ "memory": "1Mi" }));
        let tolerant = |toleration| pod(json!({ "tolerations": [toleration] }), json!({}));
        let critical = pod(json!({ "priority": CRITICAL }), json!({}));
        let mut mirror = plain.clone();
        mirror.metadata.annotations =
            Some([("kubernetes.io/config.mirror".to_owned(), "x".to_owned())].into());
        assert_eq!(reason(&plain, &[]), None);
        assert_eq!(
            reason(&plain, &[Memory]).as_deref(),
            Some("Evicted: The node had condition: [MemoryPressure]. ")
        );
        assert_eq!(
            reason(&burstable, &[Memory, Disk]).as_deref(),
            Some("Evicted: The node had condition: [DiskPressure MemoryPressure]. ")
        );
        assert_eq!(
            reason(&burstable, &[Pids]).as_deref(),
            Some("Evicted: The node had condition: [PIDPressure]. ")
        );
        assert_eq!(reason(&burstable, &[Memory]), None);
        assert_eq!(reason(&critical, &[Disk]), None);
        assert_eq!(reason(&mirror, &[Disk]), None);
        for (toleration, taken) in [
            (json!({ "operator": "Exists" }), true),
            (json!({ "key": MEMORY_TAINT, "operator": "Exists" }), true),
            (json!({ "key": MEMORY_TAINT, "effect": "NoSchedule" }), true),
            (json!({ "key": MEMORY_TAINT, "value": "x" }), false),
            (
                json!({ "key": MEMORY_TAINT, "operator": "Exists", "effect": "NoExecute" }),
                false,
            ),
            (
                json!({ "key": "node.kubernetes.io/disk-pressure", "operator": "Exists" }),
                false,
            ),
        ] {
            let text = toleration.to_string();
            assert_eq!(
                reason(&tolerant(toleration.clone()), &[Memory]).is_none(),
                taken,
                "{text}"
            );
            assert!(
                reason(&tolerant(toleration), &[Disk]).is_some(),
                "{text}, but not of the disk"
            );
        }
    }

    #[test]
    fn a_full_node_says_what_it_is_out_of() {
        let plain = pod(json!({}), json!({}));
        let big = pod(json!({}), json!({ "cpu": "1500m", "memory": "600Mi" }));
        let small = pod(json!({}), json!({ "cpu": "500m" }));
        let heavy = pod(json!({}), json!({ "memory": "500Mi" }));
        let wide = pod(json!({}), json!({ "ephemeral-storage": "2Gi" }));
        let told = |pod: &Pod, others: &[&Pod]| {
            admit(pod, others, &BTreeSet::new(), &ALLOCATABLE)
                .err()
                .map(|refusal| format!("{}: {}", refusal.reason, refusal.message))
        };
        assert_eq!(told(&small, &[&big, &plain]), None, "exactly full");
        assert_eq!(
            told(&plain, &[&plain, &plain, &plain]).as_deref(),
            Some(
                "OutOfpods: Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3"
            )
        );
        assert_eq!(
            told(&small, &[&big, &small]).as_deref(),
            Some(
                "OutOfcpu: Node didn't have enough resource: cpu, requested: 500, used: 2000, capacity: 2000"
            )
        );
        assert_eq!(
            told(&heavy, &[&big]).as_deref(),
            Some(
                "OutOfmemory: Node didn't have enough resource: memory, requested: 524288000, used: 629145600, capacity: 1073741824"
            )
        );
        assert!(told(&wide, &[]).is_some_and(|text| text.starts_with("OutOfephemeral-storage: ")));
    }
}
