//! Services and their endpoints, as the network needs them: what kube-proxy works out on other nodes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::ResourceExt;

/// The network's desired state: a pure function of the objects. `node`: whose endpoints are local.
pub fn desired<'a>(
    services: impl Iterator<Item = &'a Service>,
    slices: impl Iterator<Item = &'a EndpointSlice>,
    node: &str,
) -> Vec<network::Service> {
    let mut by_service: HashMap<(String, String), Vec<&EndpointSlice>> = HashMap::new();
    for slice in slices {
        let Some(name) = slice.labels().get("kubernetes.io/service-name") else {
            continue;
        };
        by_service
            .entry((slice.namespace().unwrap_or_default(), name.clone()))
            .or_default()
            .push(slice);
    }
    let mut all: Vec<network::Service> = services
        .filter_map(|service| {
            let spec = service.spec.as_ref()?;
            let key = (service.namespace().unwrap_or_default(), service.name_any());
            let slices = by_service.get(&key).map(Vec::as_slice).unwrap_or_default();
            if spec.type_.as_deref() == Some("ExternalName") {
                let external_name = spec.external_name.clone();
                return Some(network::Service {
                    namespace: key.0,
                    name: key.1,
                    external_name,
                    ..network::Service::default()
                });
            }
            let cluster_ips = cluster_ips(spec)?;
            let slices: Vec<&EndpointSlice> = slices
                .iter()
                .filter(|slice| is_wanted(spec, &slice.address_type))
                .copied()
                .collect();
            let slices = &slices[..];
            let publish_unready = spec.publish_not_ready_addresses == Some(true);
            let balanced = balanced_ports(service);
            let ports = spec.ports.iter().flatten().filter_map(|port| {
                let protocol = port.protocol.as_deref().unwrap_or("TCP");
                let name = port.name.as_deref().unwrap_or("");
                let of = |only: Option<&str>| {
                    let mut all = Vec::new();
                    for family in FAMILIES {
                        let of_family = slices.iter().filter(|slice| slice.address_type == family);
                        let of_family: Vec<&EndpointSlice> = of_family.copied().collect();
                        let port = (name, protocol);
                        all.append(&mut endpoints(&of_family, port, publish_unready, only));
                    }
                    all
                };
                let key = (known_protocol(protocol)?, u16::try_from(port.port).ok()?);
                Some(network::ServicePort {
                    name: name.to_owned(),
                    protocol: key.0,
                    port: key.1,
                    balanced: balanced.as_ref().is_none_or(|ports| ports.contains(&key)),
                    node_port: port.node_port.and_then(|p| u16::try_from(p).ok()),
                    endpoints: of(None),
                    local_endpoints: of(Some(node)),
                })
            });
            let local = |policy: &Option<String>| policy.as_deref() == Some("Local");
            Some(network::Service {
                namespace: key.0,
                name: key.1,
                cluster_ips,
                ports: ports.collect(),
                hosts: hosts(slices, publish_unready),
                external_name: None,
                affinity_seconds: affinity_seconds(spec),
                internal_local: local(&spec.internal_traffic_policy),
                external_local: local(&spec.external_traffic_policy),
                external_ips: addresses(spec.external_ips.iter().flatten().map(String::as_str)),
                balancer_ips: balancer_ips(service),
                source_ranges: source_ranges(spec),
            })
        })
        .collect();
    all.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    all
}

/// Address types of slices that name endpoints.
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];

/// The service's addresses; none when it is headless. `None`: it has not been given any yet.
fn cluster_ips(spec: &ServiceSpec) -> Option<Vec<IpAddr>> {
    let first = spec.cluster_ip.as_deref()?;
    if first == "None" {
        return Some(Vec::new());
    }
    let listed = spec.cluster_ips.iter().flatten().map(String::as_str);
    let mut found: Vec<IpAddr> = std::iter::once(first)
        .chain(listed.filter(|ip| *ip != first))
        .filter_map(|ip| ip.parse().ok())
        .collect();
    found.truncate(FAMILIES.len());
    (!found.is_empty()).then_some(found)
}

/// Whether endpoints of a family count for the service.
fn is_wanted(spec: &ServiceSpec, family: &str) -> bool {
    let mut families = spec.ip_families.iter().flatten().peekable();
    FAMILIES.contains(&family) && (families.peek().is_none() || families.any(|f| f == family))
}

/// SCTP is not forwarded; the API server refuses such services.
fn known_protocol(name: &str) -> Option<network::Protocol> {
    match name {
        "TCP" => Some(network::Protocol::Tcp),
        "UDP" => Some(network::Protocol::Udp),
        _ => None,
    }
}

fn affinity_seconds(spec: &ServiceSpec) -> Option<u32> {
    /// Upstream's default: three hours.
    const DEFAULT_SECONDS: u32 = 10_800;
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref();
    let seconds = config.and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    Some(seconds.map_or(DEFAULT_SECONDS, |s| {
        u32::try_from(s.max(1)).unwrap_or(DEFAULT_SECONDS)
    }))
}

fn addresses<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<IpAddr> {
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// The ports that its load balancer was given; `None`: all of them, as whoever gave it says nothing of ports.
pub fn balanced_ports(service: &Service) -> Option<HashSet<(network::Protocol, u16)>> {
    let status = service.status.as_ref();
    let given = status.and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref())?;
    let mut all = HashSet::new();
    for ingress in given {
        for port in ingress.ports.as_ref()? {
            if let (Some(protocol), Ok(number)) =
                (known_protocol(&port.protocol), u16::try_from(port.port))
            {
                all.insert((protocol, number));
            }
        }
    }
    Some(all)
}

/// The addresses that its load balancer was given. In mode `Proxy` something else accepts on them.
fn balancer_ips(service: &Service) -> Vec<IpAddr> {
    let spec = service.spec.as_ref();
    if spec.and_then(|spec| spec.type_.as_deref()) != Some("LoadBalancer") {
        return Vec::new();
    }
    let status = service.status.as_ref();
    let given = status.and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    addresses(
        given
            .into_iter()
            .flatten()
            .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"))
            .filter_map(|ingress| ingress.ip.as_deref()),
    )
}

fn source_ranges(spec: &ServiceSpec) -> Vec<IpNet> {
    let ranges = spec.load_balancer_source_ranges.iter().flatten();
    ranges
        .filter_map(|range| range.trim().parse().ok())
        .collect()
}

/// Ready endpoints of one port; when there are none, those that still serve while terminating (KEP-1669). Who says nothing
/// of either means yes. `only`: those on this node.
fn endpoints(
    slices: &[&EndpointSlice],
    (port_name, protocol): (&str, &str),
    publish_unready: bool,
    only: Option<&str>,
) -> Vec<SocketAddr> {
    let (mut ready, mut serving) = (Vec::new(), Vec::new());
    for slice in slices {
        let port = slice
            .ports
            .iter()
            .flatten()
            .find(|p| {
                p.name.as_deref().unwrap_or("") == port_name
                    && p.protocol.as_deref().unwrap_or("TCP") == protocol
            })
            .and_then(|p| p.port);
        let Some(port) = port.and_then(|p| u16::try_from(p).ok()) else {
            continue;
        };
        let here = |endpoint: &&Endpoint| {
            only.is_none_or(|node| endpoint.node_name.as_deref() == Some(node))
        };
        for endpoint in slice.endpoints.iter().flatten().filter(here) {
            let addresses = endpoint
                .addresses
                .iter()
                .filter_map(|a| Some(SocketAddr::new(a.parse().ok()?, port)));
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            if conditions.ready.unwrap_or(true) || publish_unready {
                ready.extend(addresses);
            } else if conditions.serving.unwrap_or(true) && conditions.terminating.unwrap_or(false)
            {
                serving.extend(addresses);
            }
        }
    }
    let mut chosen = if ready.is_empty() { serving } else { ready };
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

/// Names and addresses that DNS gives for a headless service.
fn hosts(slices: &[&EndpointSlice], publish_unready: bool) -> Vec<network::ServiceHost> {
    let mut hosts = BTreeMap::new();
    for endpoint in slices
        .iter()
        .flat_map(|slice| slice.endpoints.iter().flatten())
    {
        let ready = endpoint
            .conditions
            .as_ref()
            .and_then(|c| c.ready)
            .unwrap_or(true);
        if ready || publish_unready {
            hosts.extend(
                endpoint
                    .addresses
                    .iter()
                    .filter_map(|a| Some((a.parse().ok()?, endpoint.hostname.clone()))),
            );
        }
    }
    hosts
        .into_iter()
        .map(|(address, hostname)| network::ServiceHost { hostname, address })
        .collect()
}

#[cfg(test)]
mod tests;
