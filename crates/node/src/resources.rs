//! What a pod's requests and limits mean to the kernel: cgroup values, the QoS class and the OOM score.
//!
//! Follows the kubelet's `pkg/kubelet/cm/helpers_linux.go` and `pkg/kubelet/qos/policy.go`.

use std::collections::BTreeMap;

use engine::Resources;
use k8s_openapi::api::core::v1::{Container, PodSpec};
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

/// The cgroup values of a whole pod: bounded only where every container is.
pub fn pod_resources(spec: &PodSpec) -> Resources {
    let sum = |get: &dyn Fn(&Container) -> Option<i64>| {
        spec.containers.iter().try_fold(0i64, |total, container| {
            Some(total.saturating_add(get(container)?))
        })
    };
    let initial = |get: &dyn Fn(&Container) -> Option<i64>| {
        spec.init_containers
            .iter()
            .flatten()
            .try_fold(0i64, |most, container| Some(most.max(get(container)?)))
    };
    let bound = |name: &'static str| {
        let running = sum(&|c| limit(c, name))?;
        Some(running.max(initial(&|c| limit(c, name))?))
    };
    let requested: i64 = spec
        .containers
        .iter()
        .filter_map(|container| request(container, "cpu"))
        .fold(0, i64::saturating_add);
    cgroup_values(requested, bound("cpu"), bound("memory"))
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

/// The kernel's preference for killing this container when memory runs out: −997 (last) to 1000 (first).
pub fn oom_score_adj(spec: &PodSpec, container: &Container, memory_capacity_bytes: u64) -> i32 {
    match qos_class(spec) {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let requested = request(container, "memory").unwrap_or(0).max(0);
            let share = i128::from(requested) * 1000 / i128::from(memory_capacity_bytes.max(1));
            i32::try_from((1000 - share).clamp(3, 999)).unwrap_or(999)
        }
    }
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
        assert_eq!(oom_score_adj(&spec, &spec.containers[0], 4 << 30), 969);
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
