//! What a pod's requests and limits mean to the kernel: cgroup values, the QoS class and the OOM score.
//!
//! Follows the kubelet's `pkg/kubelet/cm/helpers_linux.go` and `pkg/kubelet/qos/policy.go`.

use std::collections::BTreeMap;

use engine::Resources;
use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const CPU_PERIOD_US: u64 = 100_000;
const SHARES_PER_CPU: u64 = 1024;
const SHARES_MIN: u64 = 2;
const QUOTA_US_MIN: i64 = 1000;

/// A quantity in thousandths of its unit, rounded up; `None` if the text is no quantity.
pub fn milli_value(quantity: &Quantity) -> Option<i64> {
    let text = quantity.0.trim();
    let number_end = text
        .char_indices()
        .find(|(i, c)| !(c.is_ascii_digit() || *c == '.' || (*i == 0 && (*c == '+' || *c == '-'))))
        .map_or(text.len(), |(i, _)| i);
    let (number, suffix) = text.split_at(number_end);
    let (negative, digits) = match number.as_bytes().first()? {
        b'-' => (true, &number[1..]),
        b'+' => (false, &number[1..]),
        _ => (false, number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() || digits.len() > 24 || fraction.contains('.') {
        return None;
    }
    // nano-units keep every precision that the format allows
    let (multiplier, divisor): (i128, i128) = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent if exponent.starts_with(['e', 'E']) => {
            let power: i32 = exponent[1..].parse().ok()?;
            match power {
                0..=18 => (10i128.pow(power.unsigned_abs()), 1),
                -18..=-1 => (1, 10i128.pow(power.unsigned_abs())),
                _ => return None,
            }
        }
        _ => return None,
    };
    let scale = 10i128.pow(u32::try_from(fraction.len()).ok()?);
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let numerator = mantissa.checked_mul(multiplier)?.checked_mul(1000)?;
    let denominator = scale.checked_mul(divisor)?;
    let rounded_up = numerator.checked_add(denominator - 1)? / denominator;
    i64::try_from(if negative { -rounded_up } else { rounded_up }).ok()
}

/// A quantity in whole units (bytes, say), rounded up.
pub fn value(quantity: &Quantity) -> Option<i64> {
    milli_value(quantity).map(|milli| milli.saturating_add(999).div_euclid(1000))
}

fn amount(of: Option<&BTreeMap<String, Quantity>>, name: &str) -> Option<i64> {
    let quantity = of?.get(name)?;
    if name == "cpu" {
        milli_value(quantity)
    } else {
        value(quantity)
    }
}

/// CPU in thousandths of a core or another resource in whole units, as the container requests it (the limit stands in for a missing request).
pub fn request(container: &Container, name: &str) -> Option<i64> {
    let resources = container.resources.as_ref()?;
    amount(resources.requests.as_ref(), name).or_else(|| amount(resources.limits.as_ref(), name))
}

/// What a pod requests as a whole, in the units of [`request`]: what it needs at the worst moment, be it while it starts or while
/// it runs. As the scheduler counts it.
pub fn pod_request(spec: &PodSpec, name: &str) -> i64 {
    let of = |container: &Container| request(container, name).unwrap_or(0).max(0);
    let containers = spec.containers.iter().map(of);
    let (mut sidecars, mut starting) = (0i64, 0i64);
    for container in spec.init_containers.iter().flatten() {
        let wanted = sidecars.saturating_add(of(container));
        starting = starting.max(wanted);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = wanted;
        }
    }
    let whole = spec
        .resources
        .as_ref()
        .and_then(|resources| amount(resources.requests.as_ref(), name));
    let running = containers.fold(sidecars, i64::saturating_add);
    let overhead = amount(spec.overhead.as_ref(), name).unwrap_or(0);
    whole
        .unwrap_or_else(|| running.max(starting))
        .saturating_add(overhead)
}

/// The limit of a container, in the units of [`request`].
pub fn limit(container: &Container, name: &str) -> Option<i64> {
    amount(container.resources.as_ref()?.limits.as_ref(), name).filter(|amount| *amount > 0)
}

/// The cgroup values of one container.
pub fn container_resources(container: &Container) -> Resources {
    Resources {
        // as the kubelet has it from 1.28 on (`singleProcessOOMKill` is off on cgroup v2)
        memory_oom_group: true,
        ..cgroup_values(
            request(container, "cpu").unwrap_or(0),
            limit(container, "cpu"),
            limit(container, "memory"),
        )
    }
}

/// The cgroup values of a whole pod: bounded where it is as a whole, or every container.
pub fn pod_resources(spec: &PodSpec) -> Resources {
    // its worst moment, as with requests: sidecars run beside the others and beside init containers that come after them
    let each = |name: &'static str| {
        let (mut sidecars, mut starting) = (0i64, 0i64);
        for container in spec.init_containers.iter().flatten() {
            let wanted = sidecars.saturating_add(limit(container, name)?);
            starting = starting.max(wanted);
            if container.restart_policy.as_deref() == Some("Always") {
                sidecars = wanted;
            }
        }
        let mut containers = spec.containers.iter();
        let running = containers.try_fold(sidecars, |total, container| {
            Some(total.saturating_add(limit(container, name)?))
        });
        Some(running?.max(starting))
    };
    let whole = spec.resources.as_ref();
    let whole_limit = |name| amount(whole?.limits.as_ref(), name).filter(|amount| *amount > 0);
    let bound = |name| {
        let overhead = amount(spec.overhead.as_ref(), name).unwrap_or(0);
        Some(
            whole_limit(name)
                .or_else(|| each(name))?
                .saturating_add(overhead),
        )
    };
    cgroup_values(pod_request(spec, "cpu"), bound("cpu"), bound("memory"))
}

fn cgroup_values(
    request_milli: i64,
    limit_milli: Option<i64>,
    memory_bytes: Option<i64>,
) -> Resources {
    let request_milli = u64::try_from(request_milli).unwrap_or(0);
    Resources {
        cpu_shares: Some(
            (request_milli.saturating_mul(SHARES_PER_CPU) / 1000).clamp(SHARES_MIN, 262_144),
        ),
        cpu_quota_us: limit_milli
            .map(|milli| (milli.saturating_mul(CPU_PERIOD_US as i64) / 1000).max(QUOTA_US_MIN)),
        cpu_period_us: limit_milli.map(|_| CPU_PERIOD_US),
        memory_limit_bytes: memory_bytes,
        ..Resources::default()
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(spec: &PodSpec) -> &'static str {
    if let Some(class) = spec.resources.as_ref().and_then(class_of_whole) {
        return class;
    }
    let containers = || {
        spec.containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
    };
    let named = |container: &Container, of: fn(&Container, &str) -> Option<i64>, name: &str| {
        of(container, name).filter(|amount| *amount > 0)
    };
    let any = containers().any(|c| {
        ["cpu", "memory"]
            .iter()
            .any(|name| named(c, request, name).is_some() || named(c, limit, name).is_some())
    });
    if !any {
        return "BestEffort";
    }
    let guaranteed = containers().all(|c| {
        ["cpu", "memory"].iter().all(|name| {
            let most = named(c, limit, name);
            most.is_some() && most == named(c, request, name)
        })
    });
    if guaranteed {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// The class by what the pod asks for as a whole, if it does.
fn class_of_whole(whole: &ResourceRequirements) -> Option<&'static str> {
    let of = |list: &Option<BTreeMap<String, Quantity>>, name| {
        amount(list.as_ref(), name).filter(|amount| *amount > 0)
    };
    let both = ["cpu", "memory"].map(|name| (of(&whole.requests, name), of(&whole.limits, name)));
    if both
        .iter()
        .all(|(request, limit)| request.or(*limit).is_none())
    {
        return None;
    }
    let guaranteed = both
        .iter()
        .all(|(request, limit)| limit.is_some() && request.or(*limit) == *limit);
    Some(if guaranteed {
        "Guaranteed"
    } else {
        "Burstable"
    })
}

/// The kernel's preference for killing this container when memory runs out: −997 (last) to 1000 (first). Always above `own`, the
/// daemon's: where that could not be lowered, what is to be killed last comes right before it.
pub fn oom_score_adj(
    spec: &PodSpec,
    container: &Container,
    memory_capacity_bytes: u64,
    own: i32,
) -> i32 {
    // as `scheduling.IsNodeCriticalPod`: the priority of system-node-critical
    let critical = spec
        .priority
        .is_some_and(|priority| priority >= 2_000_001_000);
    let score = match qos_class(spec) {
        _ if critical => -997,
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let requested = request(container, "memory").unwrap_or(0).max(0);
            let share = i128::from(requested) * 1000 / i128::from(memory_capacity_bytes.max(1));
            i32::try_from((1000 - share).clamp(3, 999)).unwrap_or(999)
        }
    };
    score.max(own.saturating_add(2).min(1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(containers: serde_json::Value) -> PodSpec {
        serde_json::from_value(json!({ "containers": containers })).expect("fixture")
    }

    #[test]
    fn quantities_in_thousandths() {
        for (text, milli) in [
            ("500m", Some(500)),
            ("1", Some(1000)),
            ("0.1", Some(100)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("100n", Some(1)),
            ("1e3", Some(1_000_000)),
            ("2E-3", Some(2)),
            ("+.5", Some(500)),
            ("12E", None),
            ("", None),
            ("m", None),
            ("1.2.3", None),
            ("1Zi", None),
            ("9999999999999999999999999", None),
        ] {
            assert_eq!(milli_value(&Quantity(text.into())), milli, "{text}");
        }
        assert_eq!(value(&Quantity("128Mi".into())), Some(134_217_728));
        assert_eq!(value(&Quantity("1500m".into())), Some(2));
    }

    #[test]
    fn the_walkthroughs_container() {
        let spec = spec(json!([{ "name": "web", "resources": {
            "requests": { "cpu": "500m", "memory": "128Mi" }, "limits": { "cpu": "1000m", "memory": "512Mi" } } }]));
        let resources = container_resources(&spec.containers[0]);
        assert_eq!(resources.cpu_shares, Some(512));
        assert_eq!(resources.cpu_quota_us, Some(100_000));
        assert_eq!(resources.memory_limit_bytes, Some(512 << 20));
        assert_eq!(qos_class(&spec), "Burstable");
        assert_eq!(
            oom_score_adj(&spec, &spec.containers[0], 4 << 30, -999),
            969
        );
    }

    #[test]
    fn the_daemon_outlives_every_pod() {
        let of = |spec: &PodSpec, own| oom_score_adj(spec, &spec.containers[0], 4 << 30, own);
        let guaranteed = spec(
            json!([{ "name": "a", "resources": { "limits": { "cpu": "1", "memory": "1Gi" } } }]),
        );
        let huge = spec(json!([{ "name": "a", "resources": { "requests": { "memory": "8Gi" } } }]));
        let small =
            spec(json!([{ "name": "a", "resources": { "requests": { "memory": "1Mi" } } }]));
        let nothing = spec(json!([{ "name": "a" }]));
        let critical = PodSpec {
            priority: Some(2_000_001_000),
            ..nothing.clone()
        };
        for (spec, lowered, not_lowered) in [
            (&guaranteed, -997, 2),
            (&critical, -997, 2),
            (&huge, 3, 3),
            (&small, 999, 999),
            (&nothing, 1000, 1000),
        ] {
            assert_eq!((of(spec, -999), of(spec, 0)), (lowered, not_lowered));
            assert_eq!(of(spec, 1000), 1000, "a daemon that somebody raised");
        }
    }

    #[test]
    fn a_pod_asks_for_its_worst_moment() {
        let container = |name: &str, cpu: &str, sidecar: bool| {
            let mut container =
                json!({ "name": name, "resources": { "requests": { "cpu": cpu } } });
            if sidecar {
                container["restartPolicy"] = json!("Always");
            }
            container
        };
        let of = |change: serde_json::Value| {
            let mut spec = json!({ "containers": [container("a", "100m", false), container("b", "200m", false)] });
            for (key, value) in change.as_object().expect("an object") {
                spec[key] = value.clone();
            }
            pod_request(&serde_json::from_value(spec).expect("fixture"), "cpu")
        };
        let (init, sidecar) = (container("i", "1", false), container("s", "50m", true));
        assert_eq!(of(json!({})), 300);
        assert_eq!(of(json!({ "initContainers": [init] })), 1000);
        assert_eq!(of(json!({ "initContainers": [sidecar] })), 350);
        assert_eq!(of(json!({ "initContainers": [sidecar, init] })), 1050);
        assert_eq!(of(json!({ "initContainers": [init, sidecar] })), 1000);
        assert_eq!(of(json!({ "overhead": { "cpu": "10m" } })), 310);
        assert_eq!(
            of(json!({ "resources": { "requests": { "cpu": "2" } } })),
            2000
        );
    }

    #[test]
    fn a_pods_bound_has_room_for_its_sidecars() {
        let container = |name: &str, memory: &str, sidecar: bool| {
            let mut container = json!({ "name": name,
                "resources": { "limits": { "cpu": "100m", "memory": memory }, "requests": { "cpu": "50m" } } });
            if sidecar {
                container["restartPolicy"] = json!("Always");
            }
            container
        };
        let of = |change: serde_json::Value| {
            let mut spec = json!({ "containers": [container("a", "100", false)] });
            for (key, value) in change.as_object().expect("an object") {
                spec[key] = value.clone();
            }
            pod_resources(&serde_json::from_value(spec).expect("fixture"))
        };
        let memory = |change| of(change).memory_limit_bytes;
        let (init, sidecar) = (container("i", "500", false), container("s", "40", true));
        assert_eq!(memory(json!({})), Some(100));
        assert_eq!(memory(json!({ "initContainers": [sidecar] })), Some(140));
        assert_eq!(memory(json!({ "initContainers": [init] })), Some(500));
        assert_eq!(
            memory(json!({ "initContainers": [init, sidecar] })),
            Some(500)
        );
        assert_eq!(
            memory(json!({ "initContainers": [sidecar, init] })),
            Some(540)
        );
        assert_eq!(
            memory(json!({ "initContainers": [{ "name": "free" }] })),
            None
        );
        assert_eq!(memory(json!({ "overhead": { "memory": "7" } })), Some(107));
        let both = of(json!({ "initContainers": [sidecar], "overhead": { "cpu": "100m" } }));
        assert_eq!(both.cpu_quota_us, Some(30_000));
        assert_eq!(both.cpu_shares, Some(200 * 1024 / 1000));
    }

    #[test]
    fn classes() {
        let guaranteed = spec(
            json!([{ "name": "a", "resources": { "limits": { "cpu": "1", "memory": "1Gi" } } }]),
        );
        assert_eq!(qos_class(&guaranteed), "Guaranteed");
        assert_eq!(pod_resources(&guaranteed).memory_limit_bytes, Some(1 << 30));
        let half = spec(json!([
            { "name": "a", "resources": { "limits": { "cpu": "1", "memory": "1Gi" } } }, { "name": "b" }]));
        assert_eq!(qos_class(&half), "Burstable");
        assert_eq!(
            pod_resources(&half).memory_limit_bytes,
            None,
            "one unbounded container unbounds the pod"
        );
        assert_eq!(qos_class(&spec(json!([{ "name": "a" }]))), "BestEffort");
    }
}
