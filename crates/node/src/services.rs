//! Services and their endpoints, as the network needs them: what kube-proxy works out on other nodes.

use std::collections::{BTreeMap, HashMap};
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
                Some(network::ServicePort {
                    name: name.to_owned(),
                    protocol: known_protocol(protocol)?,
                    port: u16::try_from(port.port).ok()?,
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

/// Ready endpoints of one port; when there are none, those that still serve while terminating (KEP-1669). `only`: those
/// on this node.
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
            } else if conditions.serving.unwrap_or(false) && conditions.terminating.unwrap_or(false)
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
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn services_meet_their_endpoints() {
        let service = |name: &str, ip: &str| -> Service {
            serde_json::from_value(json!({ "metadata": { "namespace": "shop", "name": name },
                "spec": { "clusterIP": ip, "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }] } }))
            .expect("service")
        };
        let slice: EndpointSlice = serde_json::from_value(json!({ "addressType": "IPv4",
            "metadata": { "namespace": "shop", "name": "web-x", "labels": { "kubernetes.io/service-name": "web" } },
            "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
            "endpoints": [
                { "addresses": ["10.1.0.3"], "conditions": { "ready": true } },
                { "addresses": ["10.1.0.2"], "conditions": { "ready": true }, "hostname": "web-0" },
                { "addresses": ["10.1.0.4"], "conditions": { "ready": false } },
                { "addresses": ["10.1.0.5"], "conditions": { "ready": false, "serving": true, "terminating": true } } ] }))
        .expect("slice");
        let got = desired(
            [
                service("web", "10.9.0.1"),
                service("alone", "None"),
                service("pending", ""),
            ]
            .iter(),
            [slice].iter(),
            "here",
        );
        assert_eq!(
            got.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(),
            ["alone", "web"]
        );
        assert!(got[0].cluster_ips.is_empty());
        let endpoints: Vec<String> = got[1].ports[0]
            .endpoints
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            endpoints,
            ["10.1.0.2:8080", "10.1.0.3:8080"],
            "unready and terminating ones are not used"
        );
        assert_eq!(got[1].hosts[0].hostname.as_deref(), Some("web-0"));
    }

    fn one(spec: serde_json::Value, slices: serde_json::Value) -> network::Service {
        let service: Service = serde_json::from_value(json!({
            "metadata": { "namespace": "n", "name": "s" }, "spec": spec,
            "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.9" }, { "ip": "192.0.2.8", "ipMode": "Proxy" }] } } }))
        .expect("service");
        let slices: Vec<EndpointSlice> = slices
            .as_array()
            .expect("slices")
            .iter()
            .map(|slice| {
                let mut slice = slice.clone();
                if slice["addressType"].is_null() {
                    slice["addressType"] = "IPv4".into();
                }
                slice["metadata"] = json!({ "namespace": "n", "name": "x", "labels": { "kubernetes.io/service-name": "s" } });
                serde_json::from_value(slice).expect("slice")
            })
            .collect();
        desired([service].iter(), slices.iter(), "here").remove(0)
    }

    fn shown(endpoints: &[SocketAddr]) -> String {
        let all: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
        all.join(" ")
    }

    #[test]
    fn endpoints_of_this_node_are_told_apart() {
        let service = one(
            json!({ "clusterIP": "10.9.0.1", "ports": [{ "port": 80 }], "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local" }),
            json!([{ "ports": [{ "name": "", "port": 8080 }], "endpoints": [
                { "addresses": ["10.1.0.2"], "nodeName": "here" },
                { "addresses": ["10.1.0.3"], "nodeName": "there" },
                { "addresses": ["192.0.2.7"] } ] }]),
        );
        assert!(service.internal_local && service.external_local);
        let port = &service.ports[0];
        assert_eq!(
            shown(&port.endpoints),
            "10.1.0.2:8080 10.1.0.3:8080 192.0.2.7:8080"
        );
        assert_eq!(shown(&port.local_endpoints), "10.1.0.2:8080");
    }

    #[test]
    fn ports_are_found_by_name_and_protocol() {
        let service = one(
            json!({ "clusterIP": "10.9.0.1", "ports": [
                { "name": "dns", "port": 53, "protocol": "UDP" }, { "name": "dns-tcp", "port": 53, "protocol": "TCP" },
                { "name": "other", "port": 54, "protocol": "SCTP" } ] }),
            json!([
                { "ports": [{ "name": "dns", "port": 1053, "protocol": "UDP" }, { "name": "dns-tcp", "port": 2053, "protocol": "TCP" }],
                  "endpoints": [{ "addresses": ["10.1.0.2"] }] },
                { "ports": [{ "name": "dns", "port": 3053, "protocol": "UDP" }], "endpoints": [{ "addresses": ["10.1.0.3"] }] }]),
        );
        let ports: Vec<String> = service
            .ports
            .iter()
            .map(|p| format!("{}/{} {}", p.port, p.protocol, shown(&p.endpoints)))
            .collect();
        assert_eq!(
            ports,
            ["53/udp 10.1.0.2:1053 10.1.0.3:3053", "53/tcp 10.1.0.2:2053"]
        );
    }

    #[test]
    fn each_family_has_its_slices() {
        let slices = json!([
            { "addressType": "IPv4", "ports": [{ "name": "", "port": 80 }], "endpoints": [
                { "addresses": ["10.1.0.2"], "conditions": { "ready": false, "serving": true, "terminating": true } } ] },
            { "addressType": "IPv6", "ports": [{ "name": "", "port": 80 }], "endpoints": [{ "addresses": ["fd00::2"] }] },
            { "addressType": "FQDN", "ports": [{ "name": "", "port": 80 }], "endpoints": [{ "addresses": ["192.0.2.1"] }] } ]);
        for (ips, families, addresses, expected) in [
            // Of each family those that are there, also when only one of them has none that is ready.
            (
                json!(["10.9.0.1", "fd01::1"]),
                json!(["IPv4", "IPv6"]),
                2,
                "10.1.0.2:80 [fd00::2]:80",
            ),
            (json!(["fd01::1"]), json!(["IPv6"]), 1, "[fd00::2]:80"),
            (json!(["10.9.0.1"]), json!(["IPv4"]), 1, "10.1.0.2:80"),
            (json!(["None"]), json!(["IPv6"]), 0, "[fd00::2]:80"),
        ] {
            let service = one(
                json!({ "clusterIP": ips[0], "clusterIPs": ips, "ipFamilies": families, "ports": [{ "port": 80 }] }),
                slices.clone(),
            );
            assert_eq!(service.cluster_ips.len(), addresses, "{ips}");
            assert_eq!(shown(&service.ports[0].endpoints), expected, "{ips}");
        }
    }

    #[test]
    fn settings_of_a_service() {
        let service = one(
            json!({ "clusterIP": "10.9.0.1", "type": "LoadBalancer", "sessionAffinity": "ClientIP",
                "externalIPs": ["203.0.113.1", "2001:db8::1"], "loadBalancerSourceRanges": ["198.51.100.0/24"] }),
            json!([]),
        );
        assert_eq!(service.affinity_seconds, Some(10_800));
        assert_eq!(service.external_ips.len(), 2);
        assert_eq!(service.balancer_ips, [IpAddr::from([192, 0, 2, 9])]);
        assert_eq!(service.source_ranges.len(), 1);
        let service = one(
            json!({ "clusterIP": "10.9.0.1", "type": "NodePort", "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 7 } } }),
            json!([]),
        );
        assert_eq!(service.affinity_seconds, Some(7));
        assert!(
            service.balancer_ips.is_empty(),
            "what is left of another type"
        );
    }

    #[test]
    fn unready_addresses_are_published_on_request() {
        for (publish, expected) in [(false, ""), (true, "10.1.0.2")] {
            let service = one(
                json!({ "clusterIP": "None", "publishNotReadyAddresses": publish, "ports": [{ "port": 80 }] }),
                json!([{ "ports": [{ "name": "", "port": 80 }], "endpoints": [
                    { "addresses": ["10.1.0.2"], "conditions": { "ready": false }, "hostname": "db-0" } ] }]),
            );
            let hosts: Vec<String> = service
                .hosts
                .iter()
                .map(|h| h.address.to_string())
                .collect();
            assert_eq!(hosts.join(" "), expected);
        }
    }
}
