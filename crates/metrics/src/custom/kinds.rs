//! Resources that metrics can describe: their singular names, which are the labels, and kinds.

/// What is known of a resource named in a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The label of series that are about an object of this resource.
    pub label: String,
    /// The kind.
    pub kind: String,
    /// Group and version as adapters write it: `/v1`, `apps/v1`.
    pub api_version: String,
}

/// Plural, group, version, singular, kind.
const KNOWN: &[(&str, &str, &str, &str, &str)] = &[
    ("pods", "", "v1", "pod", "Pod"),
    ("services", "", "v1", "service", "Service"),
    ("namespaces", "", "v1", "namespace", "Namespace"),
    ("nodes", "", "v1", "node", "Node"),
    ("configmaps", "", "v1", "configmap", "ConfigMap"),
    ("endpoints", "", "v1", "endpoints", "Endpoints"),
    (
        "persistentvolumeclaims",
        "",
        "v1",
        "persistentvolumeclaim",
        "PersistentVolumeClaim",
    ),
    (
        "replicationcontrollers",
        "",
        "v1",
        "replicationcontroller",
        "ReplicationController",
    ),
    ("deployments", "apps", "v1", "deployment", "Deployment"),
    ("replicasets", "apps", "v1", "replicaset", "ReplicaSet"),
    ("statefulsets", "apps", "v1", "statefulset", "StatefulSet"),
    ("daemonsets", "apps", "v1", "daemonset", "DaemonSet"),
    ("jobs", "batch", "v1", "job", "Job"),
    ("cronjobs", "batch", "v1", "cronjob", "CronJob"),
    ("ingresses", "networking.k8s.io", "v1", "ingress", "Ingress"),
    (
        "gateways",
        "gateway.networking.k8s.io",
        "v1",
        "gateway",
        "Gateway",
    ),
    (
        "httproutes",
        "gateway.networking.k8s.io",
        "v1",
        "httproute",
        "HTTPRoute",
    ),
];

/// Reads `deployments.apps`. Of a resource that is not known, the singular is made by the rules of English, and the kind from
/// that.
pub fn described(resource: &str) -> Described {
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    if let Some((_, group, version, singular, kind)) = KNOWN
        .iter()
        .find(|known| (known.0, known.1) == (plural, group))
    {
        return Described {
            label: (*singular).to_owned(),
            kind: (*kind).to_owned(),
            api_version: format!("{group}/{version}"),
        };
    }
    let label = singular(plural);
    let mut letters = label.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    let kind = first.into_iter().chain(letters).collect();
    Described {
        label,
        kind,
        api_version: format!("{group}/v1"),
    }
}

fn singular(plural: &str) -> String {
    if let Some(stem) = plural.strip_suffix("ies") {
        return format!("{stem}y");
    }
    for ending in ["sses", "xes", "ches", "shes"] {
        if plural.ends_with(ending) {
            return plural[..plural.len() - 2].to_owned();
        }
    }
    plural.strip_suffix('s').unwrap_or(plural).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_have_labels_and_kinds() {
        for (resource, label, kind, api_version) in [
            ("pods", "pod", "Pod", "/v1"),
            ("deployments.apps", "deployment", "Deployment", "apps/v1"),
            (
                "ingresses.networking.k8s.io",
                "ingress",
                "Ingress",
                "networking.k8s.io/v1",
            ),
            ("queues.example.com", "queue", "Queue", "example.com/v1"),
            ("policies.example.com", "policy", "Policy", "example.com/v1"),
            ("boxes.example.com", "box", "Box", "example.com/v1"),
        ] {
            let found = described(resource);
            assert_eq!(
                (&*found.label, &*found.kind, &*found.api_version),
                (label, kind, api_version)
            );
        }
    }
}
