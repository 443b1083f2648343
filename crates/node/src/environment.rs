//! The environment, command and arguments of a container, from its pod and the objects that it refers to.
//!
//! Follows the kubelet's `makeEnvironmentVariables` and the expansion rules of `third_party/forked/golang/expansion`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret, Service};
use thiserror::Error;

use crate::resources;

/// What a container's environment may draw on.
#[derive(Default)]
pub struct Sources {
    pub config_maps: BTreeMap<String, ConfigMap>,
    pub secrets: BTreeMap<String, Secret>,
    /// The services of the pod's namespace, and `default/kubernetes`.
    pub services: Vec<Service>,
    pub pod_ip: String,
    pub host_ip: String,
    pub node_name: String,
    pub node_cpu_milli: i64,
    pub node_memory_bytes: i64,
}

/// A reference that cannot be followed. The kubelet reports it as `CreateContainerConfigError`.
#[derive(Debug, Error, PartialEq)]
pub enum ConfigError {
    #[error("{kind} \"{name}\" not found")]
    NoObject { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey { kind: &'static str, namespace: String, name: String, key: String },
    #[error("unsupported fieldPath: {0}")]
    FieldPath(String),
    #[error("unsupported container resource: {0}")]
    Resource(String),
}

/// The names of ConfigMaps and Secrets that the container's environment refers to.
pub fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut config_maps, mut secrets) = (Vec::new(), Vec::new());
    for source in container.env_from.iter().flatten() {
        config_maps.extend(source.config_map_ref.iter().map(|r| r.name.clone()));
        secrets.extend(source.secret_ref.iter().map(|r| r.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|env| env.value_from.as_ref()) {
        config_maps.extend(source.config_map_key_ref.iter().map(|r| r.name.clone()));
        secrets.extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
    }
    (config_maps, secrets)
}

/// `NAME=value` pairs: the container's own over services' variables, later ones over earlier ones.
pub fn environment(pod: &Pod, container: &Container, sources: &Sources) -> Result<Vec<(String, String)>, ConfigError> {
    let mut own: Vec<(String, String)> = Vec::new();
    let set = |own: &mut Vec<(String, String)>, name: String, value: String| {
        if let Some(existing) = own.iter_mut().find(|(n, _)| *n == name) {
            existing.1 = value;
        } else {
            own.push((name, value));
        }
    };
    let links = service_variables(pod, &sources.services);
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or("");
        if let Some(reference) = &source.config_map_ref {
            match sources.config_maps.get(&reference.name) {
                Some(map) => {
                    for (key, value) in map.data.iter().flatten() {
                        set(&mut own, format!("{prefix}{key}"), value.clone());
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(no_object("configmap", &reference.name)),
            }
        }
        if let Some(reference) = &source.secret_ref {
            match sources.secrets.get(&reference.name) {
                Some(secret) => {
                    for (key, value) in secret.data.iter().flatten() {
                        set(&mut own, format!("{prefix}{key}"), String::from_utf8_lossy(&value.0).into_owned());
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(no_object("secret", &reference.name)),
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(text), _) => Some(expand(text, |name| {
                own.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).or_else(|| links.get(name).cloned())
            })),
            (None, Some(source)) => from_source(pod, container, source, sources)?,
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            set(&mut own, variable.name.clone(), value);
        }
    }
    let mut all: Vec<(String, String)> =
        links.into_iter().filter(|(name, _)| !own.iter().any(|(n, _)| n == name)).collect();
    all.append(&mut own);
    Ok(all)
}

/// Command and arguments with `$(NAME)` replaced; what the image says where the container says nothing.
pub fn command(
    container: &Container,
    environment: &[(String, String)],
    image_entrypoint: &[String],
    image_cmd: &[String],
) -> Vec<String> {
    let lookup = |name: &str| environment.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let expanded = |words: &[String]| words.iter().map(|word| expand(word, lookup)).collect::<Vec<_>>();
    let own_command = container.command.as_deref().filter(|words| !words.is_empty());
    let own_args = container.args.as_deref().filter(|words| !words.is_empty());
    match (own_command, own_args) {
        (Some(command), Some(args)) => [expanded(command), expanded(args)].concat(),
        (Some(command), None) => expanded(command),
        (None, Some(args)) => [image_entrypoint.to_vec(), expanded(args)].concat(),
        (None, None) => [image_entrypoint, image_cmd].concat(),
    }
}

fn no_object(kind: &'static str, name: &str) -> ConfigError {
    ConfigError::NoObject { kind, name: name.to_owned() }
}

fn from_source(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    sources: &Sources,
) -> Result<Option<String>, ConfigError> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    if let Some(field) = &source.field_ref {
        return field_value(pod, &field.field_path, sources).map(Some);
    }
    if let Some(field) = &source.resource_field_ref {
        let divisor = field.divisor.as_ref().and_then(resources::milli_value).filter(|d| *d > 0).unwrap_or(1000);
        let (of, name) = field.resource.split_once('.').unwrap_or(("", ""));
        let node = |name: &str| if name == "cpu" { sources.node_cpu_milli } else { sources.node_memory_bytes };
        let amount = match (of, name) {
            ("limits", "cpu" | "memory") => resources::limit(container, name).unwrap_or_else(|| node(name)),
            ("requests", "cpu" | "memory") => resources::request(container, name).unwrap_or(0),
            _ => return Err(ConfigError::Resource(field.resource.clone())),
        };
        let milli = if name == "cpu" { i128::from(amount) } else { i128::from(amount) * 1000 };
        let divisor = i128::from(divisor);
        return Ok(Some(((milli + divisor - 1) / divisor).to_string()));
    }
    if let Some(key) = &source.config_map_key_ref {
        let optional = key.optional == Some(true);
        let Some(map) = sources.config_maps.get(&key.name) else {
            return if optional { Ok(None) } else { Err(no_object("configmap", &key.name)) };
        };
        return match map.data.as_ref().and_then(|data| data.get(&key.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(ConfigError::NoKey { kind: "ConfigMap", namespace, name: key.name.clone(), key: key.key.clone() }),
        };
    }
    if let Some(key) = &source.secret_key_ref {
        let optional = key.optional == Some(true);
        let Some(secret) = sources.secrets.get(&key.name) else {
            return if optional { Ok(None) } else { Err(no_object("secret", &key.name)) };
        };
        return match secret.data.as_ref().and_then(|data| data.get(&key.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None if optional => Ok(None),
            None => Err(ConfigError::NoKey { kind: "Secret", namespace, name: key.name.clone(), key: key.key.clone() }),
        };
    }
    Ok(Some(String::new()))
}

fn field_value(pod: &Pod, path: &str, sources: &Sources) -> Result<String, ConfigError> {
    let spec = pod.spec.as_ref();
    let metadata = &pod.metadata;
    let subscript = |map: &Option<BTreeMap<String, String>>, prefix: &str| {
        let key = path.strip_prefix(prefix)?.strip_suffix("']")?;
        Some(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default())
    };
    Ok(match path {
        "metadata.name" => metadata.name.clone().unwrap_or_default(),
        "metadata.namespace" => metadata.namespace.clone().unwrap_or_default(),
        "metadata.uid" => metadata.uid.clone().unwrap_or_default(),
        "spec.nodeName" => sources.node_name.clone(),
        "spec.serviceAccountName" => spec.and_then(|s| s.service_account_name.clone()).unwrap_or_default(),
        "status.podIP" | "status.podIPs" => sources.pod_ip.clone(),
        "status.hostIP" | "status.hostIPs" => sources.host_ip.clone(),
        _ => subscript(&metadata.labels, "metadata.labels['")
            .or_else(|| subscript(&metadata.annotations, "metadata.annotations['"))
            .ok_or_else(|| ConfigError::FieldPath(path.to_owned()))?,
    })
}

/// `NAME_SERVICE_HOST`, `NAME_SERVICE_PORT`, and Docker's old link variables, as the kubelet gives them.
fn service_variables(pod: &Pod, services: &[Service]) -> BTreeMap<String, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
    let mut variables = BTreeMap::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let home = service.metadata.namespace.as_deref().unwrap_or_default();
        let api = home == "default" && name == "kubernetes";
        if !(api || links && home == namespace) {
            continue;
        }
        let Some(spec) = &service.spec else { continue };
        let Some(address) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { continue };
        let prefix = name.replace('-', "_").to_uppercase();
        let ports = spec.ports.as_deref().unwrap_or_default();
        variables.insert(format!("{prefix}_SERVICE_HOST"), address.to_owned());
        for (index, port) in ports.iter().enumerate() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let number = port.port;
            let url = format!("{}://{address}:{number}", protocol.to_lowercase());
            if index == 0 {
                variables.insert(format!("{prefix}_SERVICE_PORT"), number.to_string());
                variables.insert(format!("{prefix}_PORT"), url.clone());
            }
            if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
                let port_name = port_name.replace('-', "_").to_uppercase();
                variables.insert(format!("{prefix}_SERVICE_PORT_{port_name}"), number.to_string());
            }
            let link = format!("{prefix}_PORT_{number}_{protocol}");
            variables.insert(format!("{link}_PROTO"), protocol.to_lowercase());
            variables.insert(format!("{link}_PORT"), number.to_string());
            variables.insert(format!("{link}_ADDR"), address.to_owned());
            variables.insert(link, url);
        }
    }
    variables
}

/// Replaces `$(NAME)` by what `lookup` finds; unknown names and `$$(NAME)` stay, the latter with one dollar.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(escaped) = after.strip_prefix('$') {
            out.push('$');
            rest = escaped;
        } else if let Some(end) = after.strip_prefix('(').and_then(|name| name.find(')')) {
            let name = &after[1..=end];
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&rest[at..at + 1 + end + 2]),
            }
            rest = &after[end + 2..];
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(container: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "web-1", "namespace": "shop", "uid": "u-1", "labels": { "app": "web" } },
            "spec": { "containers": [container] } }))
        .expect("fixture")
    }

    fn resolved(container: serde_json::Value, sources: &Sources) -> Result<BTreeMap<String, String>, ConfigError> {
        let pod = pod(container);
        let spec = pod.spec.clone().expect("spec");
        Ok(environment(&pod, &spec.containers[0], sources)?.into_iter().collect())
    }

    #[test]
    fn expansion() {
        for (text, want) in [
            ("plain", "plain"),
            ("$(A)", "one"),
            ("x$(A)$(B)y", "xonetwoy"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$one"),
            ("$(MISSING)", "$(MISSING)"),
            ("$(A", "$(A"),
            ("$A $", "$A $"),
            ("$()", "$()"),
            ("ü$(A)ü", "üoneü"),
        ] {
            let got = expand(text, |name| match name {
                "A" => Some("one".into()),
                "B" => Some("two".into()),
                _ => None,
            });
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn sources_fields_and_order() {
        let sources = Sources {
            config_maps: [("c".into(), serde_json::from_value(json!({ "data": { "K": "v", "A": "map" } })).expect("map"))].into(),
            pod_ip: "10.1.0.7".into(),
            node_cpu_milli: 2000,
            ..Sources::default()
        };
        let env = resolved(
            json!({ "name": "c", "resources": { "limits": { "memory": "1Mi" } },
                "envFrom": [{ "prefix": "P_", "configMapRef": { "name": "c" } }, { "configMapRef": { "name": "gone", "optional": true } }],
                "env": [
                    { "name": "A", "value": "first" }, { "name": "B", "value": "$(A)-$(P_K)" }, { "name": "A", "value": "last" },
                    { "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
                    { "name": "APP", "valueFrom": { "fieldRef": { "fieldPath": "metadata.labels['app']" } } },
                    { "name": "MEM", "valueFrom": { "resourceFieldRef": { "resource": "limits.memory", "divisor": "1Ki" } } },
                    { "name": "CPU", "valueFrom": { "resourceFieldRef": { "resource": "limits.cpu" } } } ] }),
            &sources,
        )
        .expect("resolves");
        for (name, value) in
            [("P_K", "v"), ("A", "last"), ("B", "first-v"), ("IP", "10.1.0.7"), ("APP", "web"), ("MEM", "1024"), ("CPU", "2")]
        {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[test]
    fn missing_references() {
        let key = json!({ "name": "c", "env": [{ "name": "X", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } }] });
        let error = resolved(key.clone(), &Sources::default()).expect_err("no secret");
        assert_eq!(error.to_string(), "secret \"s\" not found");
        let sources = Sources { secrets: [("s".into(), Secret::default())].into(), ..Sources::default() };
        let error = resolved(key, &sources).expect_err("no key");
        assert_eq!(error.to_string(), "couldn't find key k in Secret shop/s");
    }

    #[test]
    fn services_of_the_namespace_and_the_api() {
        let service = |ns: &str, name: &str, ip: &str| -> Service {
            serde_json::from_value(json!({ "metadata": { "namespace": ns, "name": name },
                "spec": { "clusterIP": ip, "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }] } }))
            .expect("service")
        };
        let sources = Sources {
            services: vec![
                service("default", "kubernetes", "10.96.0.1"),
                service("shop", "my-db", "10.96.0.9"),
                service("other", "x", "10.96.0.10"),
            ],
            ..Sources::default()
        };
        let env = resolved(json!({ "name": "c" }), &sources).expect("resolves");
        assert_eq!(env.get("KUBERNETES_SERVICE_HOST").map(String::as_str), Some("10.96.0.1"));
        assert_eq!(env.get("MY_DB_PORT_80_TCP").map(String::as_str), Some("tcp://10.96.0.9:80"));
        assert_eq!(env.get("MY_DB_SERVICE_PORT_HTTP").map(String::as_str), Some("80"));
        assert!(!env.contains_key("X_SERVICE_HOST"));
    }

    #[test]
    fn commands() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (command_of_pod, args, want) in [
            (None, None, "entry cmd"),
            (None, Some("a $(X)"), "entry a 1"),
            (Some("c"), None, "c"),
            (Some("c"), Some("a"), "c a"),
        ] {
            let container = Container { command: command_of_pod.map(words), args: args.map(words), ..Container::default() };
            let got = command(&container, &[("X".into(), "1".into())], &words("entry"), &words("cmd"));
            assert_eq!(got.join(" "), want);
        }
    }
}
