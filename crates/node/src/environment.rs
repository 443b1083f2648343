//! The environment, command and arguments of a container, from its pod and the objects that it refers to.
//!
//! Follows the kubelet's `makeEnvironmentVariables` and the expansion rules of `third_party/forked/golang/expansion`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret, Service};
use thiserror::Error;

use crate::downward::{self, Facts};

/// What a container's environment may draw on.
#[derive(Default)]
pub struct Sources {
    pub config_maps: BTreeMap<String, ConfigMap>,
    pub secrets: BTreeMap<String, Secret>,
    /// The services of the pod's namespace, and `default/kubernetes`.
    pub services: Vec<Service>,
    pub facts: Facts,
}

/// A reference that cannot be followed. The kubelet reports it as `CreateContainerConfigError`.
#[derive(Debug, Error, PartialEq)]
pub enum ConfigError {
    #[error("{kind} \"{name}\" not found")]
    NoObject { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey {
        kind: &'static str,
        namespace: String,
        name: String,
        key: String,
    },
    #[error("unsupported fieldPath: {0}")]
    FieldPath(String),
    #[error("unsupported container resource: {0}")]
    Resource(String),
    #[error("container {0} not found")]
    NoContainer(String),
    #[error(
        "a variable's source is of a kind that is not supported here: it can be configMapKeyRef, secretKeyRef, fieldRef or resourceFieldRef"
    )]
    Source,
}

/// The names of ConfigMaps and Secrets that the container's environment refers to.
pub fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut config_maps, mut secrets) = (Vec::new(), Vec::new());
    for source in container.env_from.iter().flatten() {
        config_maps.extend(source.config_map_ref.iter().map(|r| r.name.clone()));
        secrets.extend(source.secret_ref.iter().map(|r| r.name.clone()));
    }
    for source in container
        .env
        .iter()
        .flatten()
        .filter_map(|env| env.value_from.as_ref())
    {
        config_maps.extend(source.config_map_key_ref.iter().map(|r| r.name.clone()));
        secrets.extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
    }
    (config_maps, secrets)
}

/// `NAME=value` pairs: the container's own over services' variables, later ones over earlier ones.
pub fn environment(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
) -> Result<Vec<(String, String)>, ConfigError> {
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
                        set(
                            &mut own,
                            format!("{prefix}{key}"),
                            String::from_utf8_lossy(&value.0).into_owned(),
                        );
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(no_object("secret", &reference.name)),
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(text), source) if !text.is_empty() || source.is_none() => {
                Some(expand(text, |name| {
                    own.iter()
                        .find(|(n, _)| n == name)
                        .map(|(_, v)| v.clone())
                        .or_else(|| links.get(name).cloned())
                }))
            }
            (_, Some(source)) => from_source(pod, container, source, sources)?,
            (_, None) => Some(String::new()),
        };
        if let Some(value) = value {
            set(&mut own, variable.name.clone(), value);
        }
    }
    let mut all: Vec<(String, String)> = links
        .into_iter()
        .filter(|(name, _)| !own.iter().any(|(n, _)| n == name))
        .collect();
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
    let lookup = |name: &str| {
        environment
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.clone())
    };
    let expanded = |words: &[String]| {
        words
            .iter()
            .map(|word| expand(word, lookup))
            .collect::<Vec<_>>()
    };
    let own_command = container
        .command
        .as_deref()
        .filter(|words| !words.is_empty());
    let own_args = container.args.as_deref().filter(|words| !words.is_empty());
    match (own_command, own_args) {
        (Some(command), Some(args)) => [expanded(command), expanded(args)].concat(),
        (Some(command), None) => expanded(command),
        (None, Some(args)) => [image_entrypoint.to_vec(), expanded(args)].concat(),
        (None, None) => [image_entrypoint, image_cmd].concat(),
    }
}

fn no_object(kind: &'static str, name: &str) -> ConfigError {
    ConfigError::NoObject {
        kind,
        name: name.to_owned(),
    }
}

fn from_source(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    sources: &Sources,
) -> Result<Option<String>, ConfigError> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    if let Some(field) = &source.field_ref {
        return downward::field(pod, &field.field_path, &sources.facts).map(Some);
    }
    if let Some(field) = &source.resource_field_ref {
        // another container of the pod may be named
        let of = match field
            .container_name
            .as_deref()
            .filter(|name| !name.is_empty())
        {
            None => container,
            Some(name) => {
                let spec = pod.spec.iter();
                let mut all = spec.flat_map(|spec| {
                    let init = spec.init_containers.iter().flatten();
                    spec.containers.iter().chain(init)
                });
                all.find(|one| one.name == name)
                    .ok_or_else(|| ConfigError::NoContainer(name.to_owned()))?
            }
        };
        return downward::resource(of, field, &sources.facts).map(Some);
    }
    if let Some(key) = &source.config_map_key_ref {
        let optional = key.optional == Some(true);
        let Some(map) = sources.config_maps.get(&key.name) else {
            return if optional {
                Ok(None)
            } else {
                Err(no_object("configmap", &key.name))
            };
        };
        return match map.data.as_ref().and_then(|data| data.get(&key.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(ConfigError::NoKey {
                kind: "ConfigMap",
                namespace,
                name: key.name.clone(),
                key: key.key.clone(),
            }),
        };
    }
    if let Some(key) = &source.secret_key_ref {
        let optional = key.optional == Some(true);
        let Some(secret) = sources.secrets.get(&key.name) else {
            return if optional {
                Ok(None)
            } else {
                Err(no_object("secret", &key.name))
            };
        };
        return match secret.data.as_ref().and_then(|data| data.get(&key.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None if optional => Ok(None),
            None => Err(ConfigError::NoKey {
                kind: "Secret",
                namespace,
                name: key.name.clone(),
                key: key.key.clone(),
            }),
        };
    }
    Err(ConfigError::Source)
}

/// `NAME_SERVICE_HOST`, `NAME_SERVICE_PORT`, and Docker's old link variables, as the kubelet gives them.
fn service_variables(pod: &Pod, services: &[Service]) -> BTreeMap<String, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.enable_service_links)
        .unwrap_or(true);
    let mut variables = BTreeMap::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let home = service.metadata.namespace.as_deref().unwrap_or_default();
        let api = home == "default" && name == "kubernetes";
        if !(api || links && home == namespace) {
            continue;
        }
        let Some(spec) = &service.spec else { continue };
        let Some(address) = spec
            .cluster_ip
            .as_deref()
            .filter(|ip| !ip.is_empty() && *ip != "None")
        else {
            continue;
        };
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
                variables.insert(
                    format!("{prefix}_SERVICE_PORT_{port_name}"),
                    number.to_string(),
                );
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
mod tests;
