//! Where a proxied request goes.

use std::net::IpAddr;

use rand::seq::SliceRandom as _;
use serde_json::Value;

use super::super::Context;
use super::super::node_proxy::{kubelet_of, stored};
use super::name;
use crate::backend::is_allowed;
use crate::object::{self, at, items, text};
use crate::status::ApiError;

/// An address and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub address: String,
    pub port: u16,
    pub https: bool,
    /// It is a kubelet, which is reached with this server's certificate.
    pub kubelet: bool,
}

impl Target {
    /// `HOST:PORT`.
    pub fn host(&self) -> String {
        if self.address.contains(':') {
            format!("[{}]:{}", self.address, self.port)
        } else {
            format!("{}:{}", self.address, self.port)
        }
    }
}

/// Finds it by the name in the request.
pub async fn find(context: &Context) -> Result<Target, ApiError> {
    let id = context.info.name.as_str();
    let asked = name::parse(id).ok_or_else(|| {
        let what = context.kind.singular;
        ApiError::bad_request(format!("invalid {what} request {id:?}"))
    })?;
    match context.kind.plural {
        "pods" => pod(&stored(context, &context.kind, asked.name).await?, &asked),
        "services" => service(context, &asked).await,
        _ => node(&stored(context, &context.kind, asked.name).await?, &asked),
    }
}

fn pod(pod: &Value, asked: &name::Target) -> Result<Target, ApiError> {
    let containers = items(pod, &["spec", "containers"]).iter();
    let first = containers
        .flat_map(|container| items(container, &["ports"]))
        .find_map(|port| port["containerPort"].as_u64());
    let standard = if asked.https { 443 } else { 80 };
    let port = match asked.port {
        "" => first
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or(standard),
        port => number(port)?,
    };
    Ok(Target {
        address: allowed(addresses(pod).next().unwrap_or_default())?,
        port,
        https: asked.https,
        kubelet: false,
    })
}

async fn service(context: &Context, asked: &name::Target<'_>) -> Result<Target, ApiError> {
    let service = stored(context, &context.kind, asked.name).await?;
    let mut port = asked.port.to_owned();
    if let Ok(number) = asked.port.parse::<i64>() {
        let ports = items(&service, &["spec", "ports"]);
        let known = ports.iter().find(|p| p["port"].as_i64() == Some(number));
        let known = known.ok_or_else(|| {
            let name = asked.name;
            ApiError::unavailable(format!(
                "no service port {number} found for service {name:?}"
            ))
        })?;
        port = text(known, &["name"]).to_owned();
    }
    let none =
        |name: &str| ApiError::unavailable(format!("no endpoints available for service {name:?}"));
    let kind = crate::registry::find("", "v1", "endpoints").ok_or_else(ApiError::no_such_path)?;
    let endpoints = match stored(context, kind, asked.name).await {
        Ok(endpoints) => endpoints,
        Err(error) if error.code == 404 => return Err(none(asked.name)),
        Err(error) => return Err(error),
    };
    let subsets = items(&endpoints, &["subsets"]);
    if subsets.is_empty() {
        return Err(none(asked.name));
    }
    for (address, number) in candidates(subsets, &port) {
        if is_own(context, address).await? {
            return Ok(Target {
                address: allowed(text(address, &["ip"]))?,
                port: number,
                https: asked.https,
                kubelet: false,
            });
        }
    }
    Err(none(&context.info.name))
}

/// The ready addresses that have the port, by chance.
fn candidates<'a>(subsets: &'a [Value], port: &str) -> Vec<(&'a Value, u16)> {
    let mut all = Vec::new();
    for subset in subsets {
        let ports = items(subset, &["ports"]).iter();
        let mut named = ports.filter(|known| text(known, &["name"]) == port);
        let number = named.find_map(|known| u16::try_from(known["port"].as_u64()?).ok());
        let ready = items(subset, &["addresses"]);
        all.extend(
            number
                .iter()
                .flat_map(|n| ready.iter().map(|one| (one, *n))),
        );
    }
    all.shuffle(&mut rand::rng());
    all
}

/// Whether an address is one of the pod that it names, in the same namespace: Endpoints by hand lead anywhere, and who may
/// write them may not use this server's way there.
async fn is_own(context: &Context, address: &Value) -> Result<bool, ApiError> {
    let namespace = text(address, &["targetRef", "namespace"]);
    let name = text(address, &["targetRef", "name"]);
    if namespace != context.info.namespace || name.is_empty() {
        return Ok(false);
    }
    let kind = crate::registry::find("", "v1", "pods").ok_or_else(ApiError::no_such_path)?;
    match stored(context, kind, name).await {
        Ok(pod) => Ok(addresses(&pod).any(|ip| ip == text(address, &["ip"]))),
        Err(error) if error.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

fn node(node: &Value, asked: &name::Target) -> Result<Target, ApiError> {
    let (address, kubelet) = kubelet_of(node)?;
    let port = match asked.port {
        "" => kubelet,
        port => number(port)?,
    };
    if port == kubelet {
        return Ok(Target {
            address,
            port,
            https: true,
            kubelet: true,
        });
    }
    Ok(Target {
        address: allowed(&address)?,
        port,
        https: asked.https,
        kubelet: false,
    })
}

/// A pod's addresses, the first of which is its own.
fn addresses(pod: &Value) -> impl Iterator<Item = &str> {
    let all = items(pod, &["status", "podIPs"]).iter();
    let first = at(pod, &["status", "podIP"]).and_then(Value::as_str);
    all.map(|one| object::text(one, &["ip"])).chain(first)
}

fn allowed(address: &str) -> Result<String, ApiError> {
    let ip: Option<IpAddr> = address.parse().ok();
    match ip.filter(|ip| is_allowed(*ip)) {
        Some(_) => Ok(address.to_owned()),
        None => Err(ApiError::bad_request("address not allowed")),
    }
}

fn number(port: &str) -> Result<u16, ApiError> {
    let parsed = port.parse().ok().filter(|port| *port > 0);
    parsed.ok_or_else(|| {
        ApiError::unavailable(format!(
            "error trying to reach service: dial tcp: lookup tcp/{port}: unknown port"
        ))
    })
}
