//! What one object uses of everything that quotas may limit (upstream's evaluators).

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::pod::{Part, with_overhead};
use crate::quantity::Format;
use crate::{Amounts, Quantity, add, amounts, at, items, text};

/// Marks the amounts of a storage class: `gold.storageclass.storage.k8s.io/requests.storage`.
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// Kinds of the core group whose number has a name of its own from before there was `count/`.
const COUNTED: [&str; 4] = [
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
];

/// The name that counts objects of a kind: `count/deployments.apps`.
pub fn count_name(group: &str, plural: &str) -> String {
    match group {
        "" => format!("count/{plural}"),
        group => format!("count/{plural}.{group}"),
    }
}

/// What the object uses. `now` tells whether a pod that is being deleted should be gone.
pub fn of(group: &str, plural: &str, object: &Value, now: Timestamp) -> Amounts {
    let mut usage = Amounts::from([(count_name(group, plural), one())]);
    if !group.is_empty() {
        return usage;
    }
    match plural {
        "pods" if counts(object, now) => add(&mut usage, &of_pod(&object["spec"])),
        "persistentvolumeclaims" => add(&mut usage, &of_claim(object)),
        "services" => add(&mut usage, &of_service(&object["spec"])),
        plural if COUNTED.contains(&plural) => drop(usage.insert(plural.to_owned(), one())),
        _ => {}
    }
    usage
}

/// Whether objects of a kind may use what is named so.
pub fn concerns(group: &str, plural: &str, name: &str) -> bool {
    if name == count_name(group, plural) {
        return true;
    }
    if !group.is_empty() {
        return false;
    }
    match plural {
        "pods" => {
            matches!(
                name,
                "pods"
                    | "cpu"
                    | "memory"
                    | "ephemeral-storage"
                    | "requests.cpu"
                    | "requests.memory"
                    | "requests.ephemeral-storage"
                    | "limits.cpu"
                    | "limits.memory"
                    | "limits.ephemeral-storage"
            ) || name.starts_with("hugepages-")
                || name.starts_with("requests.hugepages-")
                || name.starts_with("requests.") && !is_native(name)
        }
        "persistentvolumeclaims" => {
            matches!(name, "persistentvolumeclaims" | "requests.storage") || name.contains(OF_CLASS)
        }
        "services" => matches!(
            name,
            "services" | "services.nodeports" | "services.loadbalancers"
        ),
        plural => name == plural && COUNTED.contains(&plural),
    }
}

/// What a list of requests and limits uses: of a pod, or of one container.
pub fn of_resources(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage = Amounts::from([("pods".to_owned(), one())]);
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(amount) = requests.get(name) {
            usage.insert(name.to_owned(), *amount);
            usage.insert(format!("requests.{name}"), *amount);
        }
        if let Some(amount) = limits.get(name) {
            usage.insert(format!("limits.{name}"), *amount);
        }
    }
    for (name, amount) in requests {
        if name.starts_with("hugepages-") {
            usage.insert(name.clone(), *amount);
            usage.insert(format!("requests.{name}"), *amount);
        } else if !is_native(name) && !name.starts_with("requests.") {
            usage.insert(format!("requests.{name}"), *amount);
        }
    }
    usage
}

fn of_pod(spec: &Value) -> Amounts {
    of_resources(
        &with_overhead(spec, Part::Requests),
        &with_overhead(spec, Part::Limits),
    )
}

/// Pods that have ended use nothing, nor do those that should be gone: their node may be.
fn counts(pod: &Value, now: Timestamp) -> bool {
    if matches!(text(pod, &["status", "phase"]), "Failed" | "Succeeded") {
        return false;
    }
    let metadata = &pod["metadata"];
    let deleted: Option<Timestamp> = text(metadata, &["deletionTimestamp"]).parse().ok();
    let grace = at(metadata, &["deletionGracePeriodSeconds"]).and_then(Value::as_i64);
    match (deleted, grace) {
        (Some(deleted), Some(grace)) => {
            let end = deleted.checked_add(SignedDuration::from_secs(grace));
            end.is_ok_and(|end| now <= end)
        }
        _ => true,
    }
}

fn of_claim(claim: &Value) -> Amounts {
    let annotated = claim["metadata"]["annotations"][OLD_CLASS].as_str();
    let class = annotated.unwrap_or_else(|| text(claim, &["spec", "storageClassName"]));
    let mut usage = Amounts::from([("persistentvolumeclaims".to_owned(), one())]);
    if !class.is_empty() {
        usage.insert(format!("{class}{OF_CLASS}persistentvolumeclaims"), one());
    }
    let asked = amounts(&claim["spec"]["resources"]["requests"]).remove("storage");
    // a volume that is shrunk again after a failure is charged for what was allocated
    let given = amounts(&claim["status"]["allocatedResources"]).remove("storage");
    if let Some(asked) = asked {
        let charged = given.map_or(asked, |given| given.max(asked));
        usage.insert("requests.storage".to_owned(), charged);
        if !class.is_empty() {
            usage.insert(format!("{class}{OF_CLASS}requests.storage"), charged);
        }
    }
    usage
}

fn of_service(spec: &Value) -> Amounts {
    let ports = items(spec, &["ports"]);
    let number = |n: usize| Quantity::from_value(i64::try_from(n).unwrap_or(0), Format::Decimal);
    let (nodes, balancers) = match text(spec, &["type"]) {
        "NodePort" => (ports.len(), 0),
        "LoadBalancer" if spec["allocateLoadBalancerNodePorts"] == false => {
            let with = ports
                .iter()
                .filter(|port| port["nodePort"].as_i64().unwrap_or(0) != 0);
            (with.count(), 1)
        }
        "LoadBalancer" => (ports.len(), 1),
        _ => (0, 0),
    };
    Amounts::from([
        ("services".to_owned(), one()),
        ("services.nodeports".to_owned(), number(nodes)),
        ("services.loadbalancers".to_owned(), number(balancers)),
    ])
}

/// Whether a resource is Kubernetes' own: without a domain, or of `*kubernetes.io/`.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn one() -> Quantity {
    Quantity::from_value(1, Format::Decimal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(group: &str, plural: &str, object: &Value) -> Vec<String> {
        let now = "2026-01-01T00:01:00Z".parse().expect("a time");
        let usage = of(group, plural, object, now);
        usage
            .iter()
            .map(|(name, n)| format!("{name}={n}"))
            .collect()
    }

    #[test]
    fn pods() {
        let spec = json!({"containers": [{"name": "c", "resources": {
            "requests": {"cpu": "100m", "memory": "1Gi", "example.com/gpu": "2", "hugepages-2Mi": "2Mi"}, "limits": {"cpu": "1", "example.com/gpu": "2"}}}]});
        assert_eq!(
            shown("", "pods", &json!({"spec": spec})),
            [
                "count/pods=1",
                "cpu=100m",
                "hugepages-2Mi=2Mi",
                "limits.cpu=1",
                "memory=1Gi",
                "pods=1",
                "requests.cpu=100m",
                "requests.example.com/gpu=2",
                "requests.hugepages-2Mi=2Mi",
                "requests.memory=1Gi"
            ]
        );
        let ended = json!({"spec": spec, "status": {"phase": "Failed"}});
        assert_eq!(shown("", "pods", &ended), ["count/pods=1"]);
        let going = |at: &str| json!({"spec": {}, "metadata": {"deletionTimestamp": at, "deletionGracePeriodSeconds": 30}});
        assert_eq!(shown("", "pods", &going("2026-01-01T00:00:00Z")).len(), 1);
        assert_eq!(shown("", "pods", &going("2026-01-01T00:00:45Z")).len(), 2);
    }

    #[test]
    fn claims_services_and_others() {
        let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "2Gi"}}}, "status": {"allocatedResources": {"storage": "3Gi"}}});
        assert_eq!(
            shown("", "persistentvolumeclaims", &claim),
            [
                "count/persistentvolumeclaims=1",
                "gold.storageclass.storage.k8s.io/persistentvolumeclaims=1",
                "gold.storageclass.storage.k8s.io/requests.storage=3Gi",
                "persistentvolumeclaims=1",
                "requests.storage=3Gi"
            ]
        );
        for (spec, nodes, balancers) in [
            (json!({"type": "ClusterIP", "ports": [{"port": 1}]}), 0, 0),
            (
                json!({"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]}),
                2,
                0,
            ),
            (
                json!({"type": "LoadBalancer", "ports": [{"port": 1}]}),
                1,
                1,
            ),
            (
                json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 1}]}),
                0,
                1,
            ),
        ] {
            let usage = shown("", "services", &json!({"spec": spec}));
            assert!(
                usage.contains(&format!("services.nodeports={nodes}"))
                    && usage.contains(&format!("services.loadbalancers={balancers}")),
                "{usage:?}"
            );
        }
        assert_eq!(
            shown("apps", "deployments", &json!({})),
            ["count/deployments.apps=1"]
        );
        assert_eq!(
            shown("", "secrets", &json!({})),
            ["count/secrets=1", "secrets=1"]
        );
    }

    #[test]
    fn who_concerns_what() {
        for (group, plural, name, expected) in [
            ("", "pods", "requests.example.com/gpu", true),
            ("", "pods", "requests.storage", false),
            ("", "pods", "count/pods", true),
            ("", "persistentvolumeclaims", "requests.storage", true),
            (
                "",
                "persistentvolumeclaims",
                "a.storageclass.storage.k8s.io/requests.storage",
                true,
            ),
            ("", "secrets", "secrets", true),
            ("", "secrets", "configmaps", false),
            ("apps", "deployments", "count/deployments.apps", true),
            ("apps", "deployments", "pods", false),
        ] {
            assert_eq!(concerns(group, plural, name), expected, "{plural} {name}");
        }
    }
}
