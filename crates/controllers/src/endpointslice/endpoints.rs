//! What one pod contributes to a Service's slices.

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::objects;

/// The address types of a service's slices: its families, or what its address says; a headless one of before there were
/// families has both.
pub fn families(service: &Service) -> Vec<&'static str> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let listed = spec.ip_families.iter().flatten();
    let known: Vec<&str> = [IPV4, IPV6]
        .into_iter()
        .filter(|family| listed.clone().any(|listed| listed == family))
        .collect();
    match spec.cluster_ip.as_deref() {
        _ if !known.is_empty() => known,
        Some("None") => vec![IPV4, IPV6],
        Some(address) if address.contains(':') => vec![IPV6],
        _ => vec![IPV4],
    }
}

/// Address types.
pub const IPV4: &str = "IPv4";
pub const IPV6: &str = "IPv6";

/// The pod's endpoint of an address type; nothing while it has no such address, or when it has ended.
pub fn endpoint(service: &Service, pod: &Pod, family: &str) -> Option<Endpoint> {
    if objects::is_finished(pod) {
        return None;
    }
    let status = pod.status.as_ref()?;
    let all = status.pod_ips.iter().flatten().map(|ip| &ip.ip);
    let mut addresses: Vec<String> = all
        .chain(&status.pod_ip)
        .filter(|ip| !ip.is_empty() && ip.contains(':') == (family == IPV6))
        .cloned()
        .collect();
    addresses.dedup();
    if addresses.is_empty() {
        return None;
    }
    let not_ready_too = service.spec.as_ref()?.publish_not_ready_addresses == Some(true);
    let serving = objects::is_ready(pod);
    let terminating = objects::is_terminating(pod);
    let spec = pod.spec.as_ref();
    let in_subdomain =
        spec.and_then(|spec| spec.subdomain.as_deref()) == Some(objects::name(service));
    Some(Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(not_ready_too || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: spec
            .and_then(|spec| spec.hostname.clone())
            .filter(|hostname| in_subdomain && !hostname.is_empty()),
        node_name: spec.and_then(|spec| spec.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..Default::default()
        }),
        ..Default::default()
    })
}

/// The Service's ports as they are in this pod; one that the pod does not have is left out.
pub fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let wanted = service
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten());
    wanted
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                port: Some(target(port, pod)?),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

/// The number of a Service's port in this pod; nothing for a name that the pod does not have.
pub fn target(port: &ServicePort, pod: &Pod) -> Option<i32> {
    let name = match &port.target_port {
        None | Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let spec = pod.spec.as_ref()?;
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .find(|known| {
            known.name.as_deref() == Some(name)
                && known.protocol.as_deref().unwrap_or("TCP") == protocol
        })
        .map(|known| known.container_port)
}
