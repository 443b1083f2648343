//! Services and their endpoints, from the API to the network: what kube-proxy does on other nodes.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use network::Network;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::informer::Objects;

/// The services that are known now; shared with the workers, who put them into environments.
pub type Known = Arc<RwLock<Vec<Service>>>;

/// Follows Services and EndpointSlices and keeps the network's rules equal to them.
pub async fn run(
    client: kube::Client,
    network: Network,
    known: Known,
    shutdown: CancellationToken,
) {
    let mut services: Objects<Service> = Objects::default();
    let mut slices: Objects<EndpointSlice> = Objects::default();
    let mut service_events = crate::informer::events(
        Api::<Service>::all(client.clone()),
        watcher::Config::default(),
    )
    .boxed();
    let mut slice_events = crate::informer::events(
        Api::<EndpointSlice>::all(client),
        watcher::Config::default(),
    )
    .boxed();
    let mut retry = Duration::MAX;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(event) = service_events.next() => services.take(event),
            Some(event) = slice_events.next() => slices.take(event),
            () = tokio::time::sleep(retry.min(Duration::from_secs(3600))) => {}
        }
        // what is ready already belongs to the same change
        while let Some(event) = futures::FutureExt::now_or_never(service_events.next()).flatten() {
            services.take(event);
        }
        while let Some(event) = futures::FutureExt::now_or_never(slice_events.next()).flatten() {
            slices.take(event);
        }
        if !(services.complete() && slices.complete()) {
            continue;
        }
        *known.write() = services.iter().cloned().collect();
        let desired = desired(services.iter(), slices.iter());
        retry = match network.set_services(desired).await {
            Ok(()) => Duration::MAX,
            Err(error) => {
                tracing::error!(%error, "service rules could not be applied; trying again in 1 s");
                Duration::from_secs(1)
            }
        };
    }
}

/// The network's desired state: a pure function of the objects.
pub fn desired<'a>(
    services: impl Iterator<Item = &'a Service>,
    slices: impl Iterator<Item = &'a EndpointSlice>,
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
            let cluster_ip = match spec.cluster_ip.as_deref() {
                None | Some("") => return None,
                Some("None") => None,
                Some(ip) => Some(ip.parse().ok()?),
            };
            let publish_unready = spec.publish_not_ready_addresses == Some(true);
            Some(network::Service {
                namespace: key.0,
                name: key.1,
                cluster_ip,
                ports: spec
                    .ports
                    .iter()
                    .flatten()
                    .filter_map(|port| {
                        Some(network::ServicePort {
                            name: port.name.clone().unwrap_or_default(),
                            protocol: protocol(port.protocol.as_deref())?,
                            port: u16::try_from(port.port).ok()?,
                            node_port: port.node_port.and_then(|p| u16::try_from(p).ok()),
                            endpoints: endpoints(
                                slices,
                                port.name.as_deref().unwrap_or(""),
                                publish_unready,
                            ),
                        })
                    })
                    .collect(),
                hosts: hosts(slices, publish_unready),
                ..network::Service::default()
            })
        })
        .collect();
    all.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    all
}

fn protocol(name: Option<&str>) -> Option<network::Protocol> {
    match name.unwrap_or("TCP") {
        "TCP" => Some(network::Protocol::Tcp),
        "UDP" => Some(network::Protocol::Udp),
        _ => None,
    }
}

/// Ready endpoints of one port; when there are none, those that still serve while terminating (KEP-1669).
fn endpoints(
    slices: &[&EndpointSlice],
    port_name: &str,
    publish_unready: bool,
) -> Vec<SocketAddrV4> {
    let (mut ready, mut serving) = (Vec::new(), Vec::new());
    for slice in slices {
        let port = slice
            .ports
            .iter()
            .flatten()
            .find(|p| p.name.as_deref().unwrap_or("") == port_name)
            .and_then(|p| p.port);
        let Some(port) = port.and_then(|p| u16::try_from(p).ok()) else {
            continue;
        };
        for endpoint in slice.endpoints.iter().flatten() {
            let addresses = endpoint
                .addresses
                .iter()
                .filter_map(|a| Some(SocketAddrV4::new(a.parse().ok()?, port)));
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
        );
        assert_eq!(
            got.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(),
            ["alone", "web"]
        );
        assert_eq!(got[0].cluster_ip, None);
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
}
