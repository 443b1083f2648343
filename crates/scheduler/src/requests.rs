//! Quantities as the scheduler counts them, and what a pod asks for in total.
//!
//! Pure. Follows `k8s.io/component-helpers/resource` (`PodRequests`) and `apimachinery/pkg/api/resource`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, Pod, PodStatus, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Amounts by resource name: thousandths for `cpu`, whole units (bytes, pieces) for everything else.
pub type Amounts = BTreeMap<String, i64>;

/// The amount of `quantity` in the unit of `resource`, rounded up; nothing for text that is no quantity.
pub fn amount(resource: &str, quantity: &Quantity) -> Option<i64> {
    let milli = milli(&quantity.0)?;
    let units = if resource == "cpu" {
        milli
    } else {
        div_ceil(milli, 1000)
    };
    Some(i64::try_from(units).unwrap_or(if units < 0 { i64::MIN } else { i64::MAX }))
}

/// The amounts of a list of quantities; those that are no quantities are left out.
pub fn amounts<'a>(quantities: impl IntoIterator<Item = (&'a String, &'a Quantity)>) -> Amounts {
    quantities
        .into_iter()
        .filter_map(|(name, quantity)| Some((name.clone(), amount(name, quantity)?)))
        .collect()
}

/// What the pod asks for: the sum of its containers and restartable init containers, or the most that one other init
/// container needs beside those started before it, whichever is more; plus overhead. Requests of the pod as a whole
/// replace the sum of its containers. While a container is resized it counts with the most of what it asks for and what it has; what
/// its node can never give it does not count.
pub fn of_pod(pod: &Pod) -> Amounts {
    total(pod, &[])
}

/// Processor and memory of the pod, where a container without a request counts as upstream's scores count it: 100m and
/// 200 Mi. Otherwise such pods would not spread.
pub fn nonzero(pod: &Pod) -> [i64; 2] {
    const MISSING: [(&str, i64); 2] = [("cpu", 100), ("memory", 200 * 1024 * 1024)];
    let total = total(pod, &MISSING);
    MISSING.map(|(name, _)| total.get(name).copied().unwrap_or(0))
}

fn total(pod: &Pod, missing: &[(&str, i64)]) -> Amounts {
    let Some(spec) = pod.spec.as_ref() else {
        return Amounts::new();
    };
    let status = pod.status.as_ref();
    let of_container = |container: &Container| {
        let mut own = of_container(container, status);
        for (name, value) in missing {
            own.entry((*name).to_owned()).or_insert(*value);
        }
        own
    };
    let mut total = Amounts::new();
    for container in &spec.containers {
        add(&mut total, &of_container(container));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let own = of_container(container);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, &own);
            raise(&mut peak, &sidecars);
        } else {
            let mut at_once = sidecars.clone();
            add(&mut at_once, &own);
            raise(&mut peak, &at_once);
        }
    }
    add(&mut total, &sidecars);
    raise(&mut total, &peak);
    let whole = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    for (name, value) in amounts(whole.into_iter().flatten()) {
        if matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-") {
            total.insert(name, value);
        }
    }
    add(&mut total, &amounts(spec.overhead.iter().flatten()));
    total
}

fn of_container(container: &Container, status: Option<&PodStatus>) -> Amounts {
    let asked = requested(container.resources.as_ref());
    let Some(held) = status.and_then(|status| status_of(container, status)) else {
        return asked;
    };
    let mut most = if status.is_some_and(is_infeasible) {
        Amounts::new()
    } else {
        asked
    };
    raise(&mut most, &requested(held.resources.as_ref()));
    raise(
        &mut most,
        &amounts(held.allocated_resources.iter().flatten()),
    );
    most
}

fn requested(resources: Option<&ResourceRequirements>) -> Amounts {
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    amounts(requests.into_iter().flatten())
}

/// What the node says of a container that can be resized, if it says what the container has.
fn status_of<'a>(container: &Container, status: &'a PodStatus) -> Option<&'a ContainerStatus> {
    let main = status.container_statuses.iter().flatten();
    let sidecars = status
        .init_container_statuses
        .iter()
        .flatten()
        .filter(|_| container.restart_policy.as_deref() == Some("Always"));
    let mut all = main.chain(sidecars);
    all.find(|one| one.name == container.name && one.resources.is_some())
}

fn is_infeasible(status: &PodStatus) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|condition| {
        condition.type_ == "PodResizePending" && condition.reason.as_deref() == Some("Infeasible")
    })
}

/// Adds `more` to `total`, saturating.
pub fn add(total: &mut Amounts, more: &Amounts) {
    for (name, value) in more {
        let slot = total.entry(name.clone()).or_insert(0);
        *slot = slot.saturating_add(*value);
    }
}

fn raise(total: &mut Amounts, other: &Amounts) {
    for (name, value) in other {
        let slot = total.entry(name.clone()).or_insert(0);
        *slot = (*slot).max(*value);
    }
}

/// Thousandths, rounded away from zero.
fn milli(text: &str) -> Option<i128> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let (factor, decimals) = scale(suffix)?;
    // More than 18 digits on either side exceed every quantity that means something; upstream caps there too.
    let digits: String = whole.chars().chain(fraction.chars().take(18)).collect();
    let kept = i32::try_from(fraction.len().min(18)).ok()?;
    let digits = digits.trim_start_matches('0');
    if digits.len() > 30 {
        return Some(if negative {
            i128::from(i64::MIN)
        } else {
            i128::from(i64::MAX)
        });
    }
    let value: i128 = if digits.is_empty() {
        0
    } else {
        digits.parse().ok()?
    };
    let value = value.checked_mul(factor)?;
    let exponent = decimals + 3 - kept;
    let result = if exponent >= 0 {
        let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
        value.saturating_mul(power)
    } else {
        match 10_i128.checked_pow(exponent.unsigned_abs()) {
            Some(power) => div_ceil(value, power),
            None => i128::from(value != 0),
        }
    };
    Some(if negative { -result } else { result })
}

/// The suffix as a factor and a power of ten.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    let binary = |power: u32| Some((1_i128 << (10 * power), 0));
    match suffix {
        "" => Some((1, 0)),
        "n" => Some((1, -9)),
        "u" => Some((1, -6)),
        "m" => Some((1, -3)),
        "k" => Some((1, 3)),
        "M" => Some((1, 6)),
        "G" => Some((1, 9)),
        "T" => Some((1, 12)),
        "P" => Some((1, 15)),
        "E" => Some((1, 18)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            let exponent: i32 = exponent.parse().ok()?;
            (-30..=30).contains(&exponent).then_some((1, exponent))
        }
    }
}

fn div_ceil(value: i128, by: i128) -> i128 {
    value / by + i128::from(value % by > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn quantities_become_amounts() {
        // resource, text → amount
        let table = [
            ("cpu", "1", Some(1000)),
            ("cpu", "250m", Some(250)),
            ("cpu", "0.1", Some(100)),
            ("cpu", "1.0005", Some(1001)),
            ("cpu", "100u", Some(1)),
            ("cpu", ".5", Some(500)),
            ("cpu", "2e3", Some(2_000_000)),
            ("memory", "128Mi", Some(134_217_728)),
            ("memory", "1G", Some(1_000_000_000)),
            ("memory", "1.5Gi", Some(1_610_612_736)),
            ("memory", "128974848000m", Some(128_974_848)),
            ("memory", "1E", Some(1_000_000_000_000_000_000)),
            ("memory", "99999999999999999999Ei", Some(i64::MAX)),
            ("memory", "1e3", Some(1000)),
            ("memory", "0", Some(0)),
            ("pods", "110", Some(110)),
            ("memory", "-1Ki", Some(-1024)),
            ("memory", "", None),
            ("memory", "Mi", None),
            ("memory", "1.2.3", None),
            ("memory", "1 Mi", None),
            ("memory", "1e", None),
            ("memory", "1e999999999", None),
            ("memory", "\u{663}Mi", None),
        ];
        for (resource, text, expected) in table {
            assert_eq!(
                amount(resource, &Quantity(text.into())),
                expected,
                "{resource} {text}"
            );
        }
    }

    fn requests(spec: Value) -> Vec<(String, i64)> {
        let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
        of_pod(&pod).into_iter().collect()
    }

    fn container(cpu: &str) -> Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu}}})
    }

    #[test]
    fn a_pod_asks_for_its_containers_or_its_largest_init_step() {
        let cpu = |value| vec![("cpu".to_owned(), value)];
        assert_eq!(
            requests(json!({"containers": [container("100m"), container("1")]})),
            cpu(1100)
        );
        assert_eq!(
            requests(
                json!({"containers": [container("1")], "initContainers": [container("2"), container("500m")]})
            ),
            cpu(2000)
        );
        let mut sidecar = container("300m");
        sidecar["restartPolicy"] = json!("Always");
        assert_eq!(
            requests(
                json!({"containers": [container("1")], "initContainers": [sidecar.clone(), container("900m")]})
            ),
            cpu(1300)
        );
        assert_eq!(
            requests(
                json!({"containers": [container("1")], "initContainers": [sidecar, container("2")]})
            ),
            cpu(2300)
        );
        assert_eq!(
            requests(json!({"containers": [container("1")], "overhead": {"cpu": "10m"}})),
            cpu(1010)
        );
        assert_eq!(
            requests(
                json!({"containers": [container("1")], "resources": {"requests": {"cpu": "3"}}})
            ),
            cpu(3000)
        );
        assert_eq!(requests(json!({"containers": [{"name": "c"}]})), vec![]);
    }

    #[test]
    fn a_resize_counts_with_the_most_of_what_is_asked_and_had() {
        let cpu = |asked: &str, had: &str, given: &str, reason: &str| {
            let pod = json!({
                "spec": {"containers": [container(asked)]},
                "status": {
                    "containerStatuses": [{
                        "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                        "resources": {"requests": {"cpu": had}}, "allocatedResources": {"cpu": given},
                    }],
                    "conditions": [{"type": "PodResizePending", "status": "True", "reason": reason}],
                },
            });
            of_pod(&serde_json::from_value(pod).unwrap())["cpu"]
        };
        assert_eq!(cpu("1", "500m", "500m", "Deferred"), 1000);
        assert_eq!(
            cpu("100m", "500m", "100m", ""),
            500,
            "not taken from it yet"
        );
        assert_eq!(cpu("100m", "200m", "300m", ""), 300);
        assert_eq!(cpu("9k", "500m", "500m", "Infeasible"), 500);
        assert_eq!(cpu("9k", "500m", "600m", "Infeasible"), 600);
    }

    #[test]
    fn scores_count_containers_that_ask_for_nothing() {
        let mi = 1024 * 1024;
        let table = [
            (json!({"containers": [{"name": "c"}]}), [100, 200 * mi]),
            (
                json!({"containers": [{"name": "c"}, container("1")]}),
                [1100, 400 * mi],
            ),
            (json!({"containers": [container("0")]}), [0, 200 * mi]),
            (
                json!({"containers": [{"name": "c"}], "resources": {"requests": {"cpu": "2", "memory": "1Mi"}}}),
                [2000, mi],
            ),
        ];
        for (spec, expected) in table {
            let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
            assert_eq!(nonzero(&pod), expected, "{pod:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC{0,40}") {
            let _ = amount("cpu", &Quantity(text.clone()));
            let _ = amount("memory", &Quantity(text));
        }

    }
}
