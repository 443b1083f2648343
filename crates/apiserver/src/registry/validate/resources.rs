//! Validation of what a container or a whole pod requests and is limited to (upstream `validateResourceRequirements`).

use std::collections::BTreeMap;

use serde_json::Value;

use super::Problems;
use super::quotas::{OF_QUOTAS, qualified};
use crate::object::{at, items};
use crate::quantity::Quantity;

const OF_CONTAINERS: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const OF_PODS: [&str; 3] = ["cpu", "hugepages-", "memory"];
const QUANTITY: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// The `resources` of a container.
pub(super) fn container(resources: &Value, field: &str, problems: &mut Problems) {
    requirements(resources, of_container, field, problems);
}

/// The `resources` of a pod: enough for what its containers request, and no less than each is limited to.
pub(super) fn pod(spec: &Value, field: &str, problems: &mut Problems) {
    let Some(resources) = at(spec, &["resources"]) else {
        return;
    };
    let at_pod = format!("{field}.resources");
    if at(resources, &["claims"]).is_some() {
        let why = "claims cannot be set for Resources at pod-level";
        problems.forbidden(&format!("{at_pod}.claims"), why);
    }
    requirements(resources, of_pod, &at_pod, problems);
    for (name, value) in resources["requests"].as_object().into_iter().flatten() {
        let Some(given) = quota::parse(value) else {
            continue;
        };
        let sum = items(spec, &["containers"])
            .iter()
            .filter_map(|one| quota::parse(&one["resources"]["requests"][name]))
            .fold(Quantity::ZERO, |sum, one| sum + one);
        if sum.nano_value() > given.nano_value() {
            let why =
                format!("must be greater than or equal to aggregate container requests of {sum}");
            problems.invalid(&format!("{at_pod}.requests[{name}]"), value, &why);
        }
    }
    for (n, one) in items(spec, &["containers"]).iter().enumerate() {
        for (name, value) in one["resources"]["limits"].as_object().into_iter().flatten() {
            let (Some(limit), Some(of_pod)) = (
                quota::parse(value),
                quota::parse(&resources["limits"][name]),
            ) else {
                continue;
            };
            if limit.nano_value() > of_pod.nano_value() {
                let why = format!("must be less than or equal to pod limits of {of_pod}");
                let field = format!("{at_pod}.containers[{n}][{name}].limits");
                problems.invalid(&field, value, &why);
            }
        }
    }
}

type NameRule = fn(&str, &str, &mut Problems);
type Amounts<'a> = BTreeMap<&'a str, Quantity>;

fn requirements(resources: &Value, names: NameRule, field: &str, problems: &mut Problems) {
    let at_limits = format!("{field}.limits");
    let at_requests = format!("{field}.requests");
    let limits = amounts(resources, "limits", names, &at_limits, problems);
    let requests = amounts(resources, "requests", names, &at_requests, problems);
    for (name, asked) in &requests {
        let shown = &resources["requests"][*name];
        match limits.get(name) {
            // A limit that is no quantity was told already.
            None if !overcommits(name) && resources["limits"].get(*name).is_none() => {
                let why = "Limit must be set for non overcommitable resources";
                problems.required(&at_limits, why);
            }
            None => {}
            Some(most) if asked.nano_value() != most.nano_value() && !overcommits(name) => {
                let why = format!("must be equal to {name} limit of {most}");
                problems.invalid(&at_requests, shown, &why);
            }
            Some(most) if asked.nano_value() > most.nano_value() => {
                let why = format!("must be less than or equal to {name} limit of {most}");
                problems.invalid(&at_requests, shown, &why);
            }
            Some(_) => {}
        }
    }
    let all = || limits.keys().chain(requests.keys());
    if all().any(|name| is_huge_pages(name)) && !all().any(|name| matches!(*name, "cpu" | "memory"))
    {
        problems.forbidden(field, "HugePages require cpu or memory");
    }
}

/// The amounts of `limits` or `requests` that are quantities.
fn amounts<'a>(
    resources: &'a Value,
    part: &str,
    names: NameRule,
    field: &str,
    problems: &mut Problems,
) -> Amounts<'a> {
    let mut amounts = Amounts::new();
    for (name, value) in resources[part].as_object().into_iter().flatten() {
        let field = format!("{field}[{name}]");
        names(name, &field, problems);
        let Some(amount) = quota::parse(value) else {
            problems.invalid(&field, value, QUANTITY);
            continue;
        };
        if amount.sign() < 0 {
            problems.invalid(&field, value, "must be greater than or equal to 0");
        }
        if is_extended(name) && amount.milli_value() % 1000 != 0 {
            problems.invalid(&field, value, "must be an integer");
        }
        if let Some(size) = page_size(name)
            && (size.value() <= 0 || amount.value() % size.value() != 0)
        {
            let why = format!("{amount} is not positive integer multiple of {name}");
            problems.invalid(&field, value, &why);
        }
        amounts.insert(name, amount);
    }
    amounts
}

fn of_container(name: &str, field: &str, problems: &mut Problems) {
    if !qualified(name, field, problems) {
        return;
    }
    if name.contains('/') {
        if !is_native(name) && !is_extended(name) {
            let why = "doesn't follow extended resource name standard";
            problems.invalid(field, &name.into(), why);
        }
        return;
    }
    let standard = OF_QUOTAS.contains(&name) || name == "storage" || is_huge_pages(name);
    if !standard {
        let why = "must be a standard resource type or fully qualified";
        problems.invalid(field, &name.into(), why);
    }
    if !OF_CONTAINERS.contains(&name) && !is_huge_pages(name) {
        let why = "must be a standard resource for containers";
        problems.invalid(field, &name.into(), why);
    }
}

fn of_pod(name: &str, field: &str, problems: &mut Problems) {
    let supported = matches!(name, "cpu" | "memory") || is_huge_pages(name);
    if qualified(name, field, problems) && !supported {
        problems.not_supported(field, &name.into(), &OF_PODS);
    }
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.")
}

/// Whether more may be promised than there is.
fn overcommits(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}

fn is_huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn page_size(name: &str) -> Option<Quantity> {
    name.strip_prefix("hugepages-")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(resources: Value) -> Vec<String> {
        crate::registry::validate::said(|problems| container(&resources, "r", problems))
    }

    #[test]
    fn ordinary_amounts_are_taken() {
        for resources in [
            json!({}),
            json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": 1, "memory": "64Mi", "ephemeral-storage": "1Gi"}}),
            json!({"limits": {"nvidia.com/gpu": 1}}),
            json!({"limits": {"nvidia.com/gpu": "2"}, "requests": {"nvidia.com/gpu": 2}}),
            json!({"limits": {"hugepages-2Mi": "4Mi", "memory": "1Gi"}, "requests": {"hugepages-2Mi": "4Mi"}}),
            json!({"requests": {"cpu": "0"}, "limits": {"cpu": "0"}}),
            json!({"requests": {"memory": "1.5Gi"}}),
        ] {
            assert_eq!(said(resources.clone()), Vec::<String>::new(), "{resources}");
        }
    }

    #[test]
    fn amounts_that_cannot_be_had_are_refused() {
        for (resources, expected) in [
            (
                json!({"limits": {"cpu": "one"}}),
                format!("r.limits[cpu]: Invalid value: \"one\": {QUANTITY}"),
            ),
            (
                json!({"requests": {"memory": "-1Gi"}}),
                "r.requests[memory]: Invalid value: \"-1Gi\": must be greater than or equal to 0".to_owned(),
            ),
            (
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
                "r.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1".to_owned(),
            ),
            (
                json!({"limits": {"nvidia.com/gpu": "500m"}}),
                "r.limits[nvidia.com/gpu]: Invalid value: \"500m\": must be an integer".to_owned(),
            ),
            (
                json!({"limits": {"nvidia.com/gpu": "2"}, "requests": {"nvidia.com/gpu": "1"}}),
                "r.requests: Invalid value: \"1\": must be equal to nvidia.com/gpu limit of 2".to_owned(),
            ),
            (
                json!({"requests": {"nvidia.com/gpu": "1"}}),
                "r.limits: Required value: Limit must be set for non overcommitable resources".to_owned(),
            ),
            (
                json!({"limits": {"hugepages-2Mi": "2Mi"}}),
                "r: Forbidden: HugePages require cpu or memory".to_owned(),
            ),
            (
                json!({"limits": {"hugepages-2Mi": "3Mi", "cpu": "1"}}),
                "r.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi".to_owned(),
            ),
            (
                json!({"limits": {"requests.example.com/a": "1"}}),
                "r.limits[requests.example.com/a]: Invalid value: \"requests.example.com/a\": doesn't follow extended resource name standard".to_owned(),
            ),
            (
                json!({"limits": {"storage": "1Gi"}}),
                "r.limits[storage]: Invalid value: \"storage\": must be a standard resource for containers".to_owned(),
            ),
        ] {
            assert_eq!(said(resources), [expected]);
        }
        assert_eq!(said(json!({"limits": {"gpu": "1"}})).len(), 2);
    }

    #[test]
    fn a_pod_has_enough_for_its_containers() {
        let spec = |resources: Value| {
            let one = json!({"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}});
            json!({"containers": [one, one], "resources": resources})
        };
        let said =
            |spec: &Value| crate::registry::validate::said(|problems| pod(spec, "spec", problems));
        for resources in [
            json!({}),
            json!({"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}),
            json!({"limits": {"memory": "1Gi"}}),
        ] {
            assert_eq!(said(&spec(resources)), Vec::<String>::new());
        }
        for (resources, expected) in [
            (
                json!({"requests": {"cpu": "1500m"}}),
                "spec.resources.requests[cpu]: Invalid value: \"1500m\": must be greater than or equal to aggregate container requests of 2",
            ),
            (
                json!({"claims": []}),
                "spec.resources.claims: Forbidden: claims cannot be set for Resources at pod-level",
            ),
            (
                json!({"limits": {"nvidia.com/gpu": "1"}}),
                "spec.resources.limits[nvidia.com/gpu]: Unsupported value: \"nvidia.com/gpu\": supported values: \"cpu\", \"hugepages-\", \"memory\"",
            ),
        ] {
            assert_eq!(said(&spec(resources)), [expected]);
        }
        assert_eq!(said(&spec(json!({"limits": {"cpu": "1"}}))).len(), 2);
    }
}
