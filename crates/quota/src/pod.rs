//! What a pod asks for and may use, over all its containers (component-helpers `resource.PodRequests`, `PodLimits`).

use serde_json::Value;

use crate::{Amounts, add, amounts, at, items, raise};

/// `requests` or `limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What is set aside for it.
    Requests,
    /// The most that it may use.
    Limits,
}

impl Part {
    fn key(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Limits => "limits",
        }
    }
}

/// The sum of the containers and sidecars, or the most that one other init container needs beside the sidecars started
/// before it, whichever is more. Amounts of the pod as a whole replace those of its containers. Overhead is left out.
pub fn total(spec: &Value, part: Part) -> Amounts {
    let of = |container: &Value| amounts(&container["resources"][part.key()]);
    let mut total = Amounts::new();
    for container in items(spec, &["containers"]) {
        add(&mut total, &of(container));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in items(spec, &["initContainers"]) {
        let own = of(container);
        if container["restartPolicy"] == "Always" {
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
    for (name, amount) in amounts(&spec["resources"][part.key()]) {
        if matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-") {
            total.insert(name, amount);
        }
    }
    total
}

/// [`total`] with the overhead of the pod's runtime class, as quotas count it. Overhead adds to limits that are there.
pub fn with_overhead(spec: &Value, part: Part) -> Amounts {
    let mut total = total(spec, part);
    for (name, amount) in amounts(&spec["overhead"]) {
        if part == Part::Requests || total.get(&name).is_some_and(|limit| !limit.is_zero()) {
            let one = Amounts::from([(name, amount)]);
            add(&mut total, &one);
        }
    }
    total
}

/// Whether no container asks for processor time or memory or has a limit on them.
pub fn is_best_effort(spec: &Value) -> bool {
    let of_resources = |resources: &Value| {
        [Part::Requests, Part::Limits].iter().any(|part| {
            let amounts = amounts(&resources[part.key()]);
            ["cpu", "memory"]
                .iter()
                .any(|name| amounts.get(*name).is_some_and(|amount| amount.sign() > 0))
        })
    };
    if at(spec, &["resources"]).is_some_and(&of_resources) {
        return false;
    }
    let containers = items(spec, &["containers"]);
    let all = containers.iter().chain(items(spec, &["initContainers"]));
    !all.into_iter()
        .any(|container| of_resources(&container["resources"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(cpu: &str) -> Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}})
    }

    fn cpu(spec: &Value) -> String {
        with_overhead(spec, Part::Requests)["cpu"].to_string()
    }

    #[test]
    fn the_sum_or_the_peak() {
        let mut sidecar = container("100m");
        sidecar["restartPolicy"] = "Always".into();
        for (spec, expected) in [
            (
                json!({"containers": [container("100m"), container("200m")]}),
                "300m",
            ),
            (
                json!({"containers": [container("100m")], "initContainers": [container("1")]}),
                "1",
            ),
            (
                json!({"containers": [container("500m")], "initContainers": [sidecar, container("500m")]}),
                "600m",
            ),
            (
                json!({"containers": [container("500m")], "resources": {"requests": {"cpu": "2"}}, "overhead": {"cpu": "5m"}}),
                "2005m",
            ),
        ] {
            assert_eq!(cpu(&spec), expected, "{spec}");
        }
    }

    #[test]
    fn best_effort() {
        assert!(is_best_effort(&json!({"containers": [{"name": "c"}]})));
        assert!(is_best_effort(
            &json!({"containers": [{"resources": {"requests": {"cpu": "0", "ephemeral-storage": "1"}}}]})
        ));
        assert!(!is_best_effort(&json!({"containers": [container("1m")]})));
        assert!(!is_best_effort(
            &json!({"containers": [{"name": "c"}], "initContainers": [container("1m")]})
        ));
    }
}
