//! What a pod, or a template of pods, is warned of.

use std::collections::{HashMap, HashSet};

use autoscale::quantity::Quantity;
use serde_json::Value;

use crate::object::{items, text};

/// Labels of nodes that have other names now.
const NODE_LABELS: [(&str, &str, &str); 5] = [
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "v1.17",
        "topology.kubernetes.io/region",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "v1.17",
        "topology.kubernetes.io/zone",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "v1.17",
        "node.kubernetes.io/instance-type",
    ),
];
/// Annotations that do nothing any more.
const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
/// Volumes of drivers that are old or gone.
const VOLUMES: [(&str, &str); 9] = [
    (
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    ("gitRepo", "deprecated in v1.11"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];
const SECCOMP_OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";

/// Of a pod (`path` is empty), or a template at `path`.
pub(super) fn warnings(pod: &Value, path: &str, warnings: &mut Vec<String>) {
    let at = |field: &str| match path {
        "" => field.to_owned(),
        path => format!("{path}.{field}"),
    };
    let spec = &pod["spec"];
    placement(spec, &at("spec"), warnings);
    annotations(pod, &at("metadata.annotations"), path, warnings);
    volumes(spec, &at("spec.volumes"), warnings);
    repetitions(spec, &at("spec"), warnings);
    for resource in ["memory", "ephemeral-storage"] {
        let path = at(&format!("spec.overhead[{resource}]"));
        fraction(&spec["overhead"][resource], &path, warnings);
    }
    for (container, path) in containers(spec, &at("spec")) {
        for list in ["limits", "requests"] {
            for resource in ["memory", "ephemeral-storage"] {
                let amount = &container["resources"][list][resource];
                let path = format!("{path}.resources.{list}[{resource}]");
                fraction(amount, &path, warnings);
            }
        }
        variables(container, &path, warnings);
    }
    ports(spec, &at("spec"), warnings);
    if spec["terminationGracePeriodSeconds"]
        .as_i64()
        .is_some_and(|s| s < 0)
    {
        let path = at("spec.terminationGracePeriodSeconds");
        warnings.push(format!(
            "{path}: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
}

fn containers<'a>(spec: &'a Value, path: &str) -> Vec<(&'a Value, String)> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let of_list = |list: &&'static str| {
        let list = *list;
        let all = items(spec, &[list]).iter().enumerate();
        let path = path.to_owned();
        all.map(move |(i, container)| (container, format!("{path}.{list}[{i}]")))
    };
    lists.iter().flat_map(of_list).collect()
}

fn other_label(label: &str) -> Option<String> {
    let (_, since, now) = NODE_LABELS.iter().find(|(old, ..)| *old == label)?;
    Some(format!("deprecated since {since}; use {now:?} instead"))
}

/// Of a term that selects nodes.
pub(super) fn node_term(term: &Value, path: &str, warnings: &mut Vec<String>) {
    for (i, expression) in items(term, &["matchExpressions"]).iter().enumerate() {
        let key = text(expression, &["key"]);
        let told = other_label(key)
            .map(|other| format!("{path}.matchExpressions[{i}].key: {key} is {other}"));
        warnings.extend(told);
    }
}

/// Where the pod goes: labels of nodes by their old names, neighbours that nothing selects.
fn placement(spec: &Value, path: &str, warnings: &mut Vec<String>) {
    for key in spec["nodeSelector"]
        .as_object()
        .into_iter()
        .flat_map(|map| map.keys())
    {
        let told = other_label(key).map(|other| format!("{path}.nodeSelector[{key}]: {other}"));
        warnings.extend(told);
    }
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let affinity = &spec["affinity"];
    let nodes = &affinity["nodeAffinity"];
    for (i, term) in items(nodes, &[REQUIRED, "nodeSelectorTerms"])
        .iter()
        .enumerate()
    {
        let path = format!("{path}.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms[{i}]");
        node_term(term, &path, warnings);
    }
    for (i, term) in items(nodes, &[PREFERRED]).iter().enumerate() {
        let path = format!("{path}.affinity.nodeAffinity.{PREFERRED}[{i}].preference");
        node_term(&term["preference"], &path, warnings);
    }
    for (i, spread) in items(spec, &["topologySpreadConstraints"])
        .iter()
        .enumerate()
    {
        let path = format!("{path}.topologySpreadConstraints[{i}]");
        let key = text(spread, &["topologyKey"]);
        let told = other_label(key).map(|other| format!("{path}.topologyKey: {key} is {other}"));
        warnings.extend(told);
        if spread["labelSelector"].is_null() {
            warnings.push(format!("{path}.labelSelector: {NO_SELECTOR}"));
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let path = format!("{path}.affinity.{kind}");
        for (i, term) in items(affinity, &[kind, REQUIRED]).iter().enumerate() {
            if term["labelSelector"].is_null() {
                warnings.push(format!(
                    "{path}.{REQUIRED}[{i}].labelSelector: {NO_SELECTOR}"
                ));
            }
        }
        for (i, term) in items(affinity, &[kind, PREFERRED]).iter().enumerate() {
            if term["podAffinityTerm"]["labelSelector"].is_null() {
                warnings.push(format!(
                    "{path}.{PREFERRED}[{i}].podAffinityTerm.labelSelector: {NO_SELECTOR}"
                ));
            }
        }
    }
}

fn annotations(pod: &Value, path: &str, template: &str, warnings: &mut Vec<String>) {
    let set = &pod["metadata"]["annotations"];
    if set.is_null() {
        return;
    }
    let mut tell = |key: &str, message: &str| {
        if set[key].is_string() {
            warnings.push(format!("{path}[{key}]: {message}"));
        }
    };
    for (key, message) in ANNOTATIONS {
        tell(key, message);
    }
    let spec = &pod["spec"];
    let seccomp = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
    if spec["securityContext"]["seccompProfile"].is_null() {
        tell(SECCOMP_OF_POD, seccomp);
    }
    for (container, _) in containers(spec, "") {
        let name = text(container, &["name"]);
        let own = &container["securityContext"];
        if own["seccompProfile"].is_null() {
            tell(&format!("{SECCOMP_OF_CONTAINER}{name}"), seccomp);
        }
        let confined = |context: &Value| !context["appArmorProfile"].is_null();
        if !template.is_empty() && !confined(own) && !confined(&spec["securityContext"]) {
            let apparmor = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
            tell(&format!("{APPARMOR}{name}"), apparmor);
        }
    }
}

fn volumes(spec: &Value, path: &str, warnings: &mut Vec<String>) {
    let volumes = items(spec, &["volumes"]);
    for (i, volume) in volumes.iter().enumerate() {
        for (driver, message) in VOLUMES {
            if !volume[driver].is_null() {
                let shown = match driver {
                    "storageos" => "storageOS",
                    other => other,
                };
                warnings.push(format!("{path}[{i}].{shown}: {message}"));
            }
        }
        let claim = &volume["ephemeral"]["volumeClaimTemplate"]["spec"];
        let path = format!("{path}[{i}].ephemeral.volumeClaimTemplate.spec");
        super::claim_spec(claim, &path, warnings);
    }
}

/// What is said twice.
fn repetitions(spec: &Value, path: &str, warnings: &mut Vec<String>) {
    for (list, field, what) in [
        ("hostAliases", "ip", "ip"),
        ("imagePullSecrets", "name", "name"),
    ] {
        let mut seen = HashSet::new();
        for (i, one) in items(spec, &[list]).iter().enumerate() {
            let value = text(one, &[field]);
            if !seen.insert(value) {
                warnings.push(format!(
                    "{path}.{list}[{i}].{field}: duplicate {what} {value:?}"
                ));
            }
        }
    }
    for (i, one) in items(spec, &["imagePullSecrets"]).iter().enumerate() {
        if text(one, &["name"]).is_empty() {
            warnings.push(format!(
                "{path}.imagePullSecrets[{i}].name: invalid empty name \"\""
            ));
        }
    }
}

/// Of bytes that are not whole.
pub(super) fn fraction(amount: &Value, path: &str, warnings: &mut Vec<String>) {
    let Some(text) = amount.as_str() else { return };
    let broken = Quantity::parse(text).is_ok_and(|amount| amount.milli_value() % 1000 != 0);
    if broken {
        warnings.push(format!(
            "{path}: fractional byte value {text:?} is invalid, must be an integer"
        ));
    }
}

/// Variables that take the place of earlier ones without building upon them.
fn variables(container: &Value, path: &str, warnings: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for (i, variable) in items(container, &["env"]).iter().enumerate() {
        let name = text(variable, &["name"]);
        if seen.insert(name) {
            continue;
        }
        let reference = format!("$({name})");
        let value = text(variable, &["value"]);
        if !variable["valueFrom"].is_null() || value == reference || !value.contains(&reference) {
            warnings.push(format!("{path}.env[{i}]: hides previous definition of {name:?}, which may be dropped when using apply"));
        }
    }
}

/// Ports that are there twice, among all containers.
fn ports(spec: &Value, path: &str, warnings: &mut Vec<String>) {
    type Seen<'a> = HashMap<(i64, &'a str), Vec<(String, &'a str, i64)>>;
    let mut seen: Seen<'_> = HashMap::new();
    for (container, path) in containers(spec, path) {
        for (i, port) in items(container, &["ports"]).iter().enumerate() {
            let path = format!("{path}.ports[{i}]");
            let number = |field: &str| port[field].as_i64().unwrap_or(0);
            let (ip, host) = (text(port, &["hostIP"]), number("hostPort"));
            let (inner, protocol) = (number("containerPort"), text(port, &["protocol"]));
            if !ip.is_empty() && host == 0 {
                let name = text(port, &["name"]);
                warnings.push(format!("{path}: hostIP set without hostPort: {{Name:{name} HostPort:0 ContainerPort:{inner} Protocol:{protocol} HostIP:{ip}}}"));
            }
            let others = seen.entry((inner, protocol)).or_default();
            for (other, other_ip, other_host) in others.iter() {
                let what = if ip == *other_ip && host == *other_host {
                    "duplicate"
                } else if host == 0 || *other_host == 0 {
                    "overlapping"
                } else if host == *other_host && ip.is_empty() != other_ip.is_empty() {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                warnings.push(format!("{path}: {what} port definition with {other}"));
            }
            others.push((path, ip, host));
        }
    }
}
