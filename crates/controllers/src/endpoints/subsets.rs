//! The addresses behind a Service by the ports that they offer: the form of an Endpoints object.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, ObjectReference, Pod, Service,
};

use crate::endpointslice::target;
use crate::objects;

/// What one pod contributes.
#[derive(Clone, Debug)]
pub struct Member {
    address: EndpointAddress,
    ready: bool,
    ports: Vec<EndpointPort>,
}

impl Member {
    /// Nothing for a pod that has ended or is ending (unless the Service publishes those that are not ready), or has no
    /// address of the Service's first family.
    pub fn of(service: &Service, pod: &Pod) -> Option<Self> {
        let publish = service.spec.as_ref()?.publish_not_ready_addresses == Some(true);
        if objects::is_finished(pod) || (objects::is_terminating(pod) && !publish) {
            return None;
        }
        let spec = pod.spec.as_ref();
        let in_subdomain =
            spec.and_then(|spec| spec.subdomain.as_deref()) == Some(objects::name(service));
        let address = EndpointAddress {
            ip: address(service, pod)?,
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
        };
        let ports = service
            .spec
            .iter()
            .flat_map(|spec| spec.ports.iter().flatten());
        let ports = ports
            .filter_map(|port| {
                Some(EndpointPort {
                    name: port.name.clone().filter(|name| !name.is_empty()),
                    port: target(port, pod)?,
                    protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                    app_protocol: port.app_protocol.clone(),
                })
            })
            .collect();
        Some(Self {
            address,
            ready: publish || objects::is_ready(pod),
            ports,
        })
    }
}

/// The pod's address of the Service's first family; of one from before there were families, of its own address or the pod's.
fn address(service: &Service, pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let spec = service.spec.as_ref()?;
    let first = status.pod_ip.as_deref().unwrap_or_default();
    let ipv6 = match (spec.ip_families.iter().flatten().next(), &spec.cluster_ip) {
        (Some(family), _) => family == "IPv6",
        (None, Some(own)) if !own.is_empty() && own != "None" => own.contains(':'),
        _ => first.contains(':'),
    };
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    all.chain([first])
        .find(|ip| !ip.is_empty() && ip.contains(':') == ipv6)
        .map(str::to_owned)
}

/// Addresses are told apart by the pod, too: several pods may have their node's.
type Key = (String, String);

/// Ports with the same addresses in the same state share a subset; everything is in order. Without ports only a headless
/// Service lists addresses.
pub fn pack(service: &Service, members: Vec<Member>) -> Vec<EndpointSubset> {
    let no_ports = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_ref())
        .is_none_or(Vec::is_empty);
    let mut addresses: BTreeMap<Key, EndpointAddress> = BTreeMap::new();
    let mut by_port: BTreeMap<String, (Option<EndpointPort>, BTreeMap<Key, bool>)> =
        BTreeMap::new();
    for member in members {
        let uid = member.address.target_ref.as_ref();
        let uid = uid
            .and_then(|target| target.uid.clone())
            .unwrap_or_default();
        let key = (member.address.ip.clone(), uid);
        addresses.entry(key.clone()).or_insert(member.address);
        if no_ports && objects::is_headless(service) {
            let (_, of_none) = by_port.entry(String::new()).or_default();
            of_none.insert(key, member.ready);
            continue;
        }
        for port in member.ports {
            let (_, of_port) = by_port
                .entry(port_key(&port))
                .or_insert_with(|| (Some(port), BTreeMap::new()));
            of_port.insert(key.clone(), member.ready);
        }
    }
    let mut groups: Vec<(Vec<EndpointPort>, BTreeMap<Key, bool>)> = Vec::new();
    for (port, of_port) in by_port.into_values() {
        match groups.iter_mut().find(|(_, known)| *known == of_port) {
            Some((ports, _)) => ports.extend(port),
            None => groups.push((port.into_iter().collect(), of_port)),
        }
    }
    let subset = |(ports, members): (Vec<EndpointPort>, BTreeMap<Key, bool>)| {
        let of = |wanted: bool| {
            let these = members.iter().filter(|(_, ready)| **ready == wanted);
            let these: Vec<EndpointAddress> =
                these.map(|(key, _)| addresses[key].clone()).collect();
            (!these.is_empty()).then_some(these)
        };
        EndpointSubset {
            addresses: of(true),
            not_ready_addresses: of(false),
            ports: (!ports.is_empty()).then_some(ports),
        }
    };
    groups.into_iter().map(subset).collect()
}

fn port_key(port: &EndpointPort) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    format!(
        "{}/{:05}/{}/{}",
        text(&port.name),
        port.port,
        text(&port.protocol),
        text(&port.app_protocol)
    )
}

/// Leaves out what is more than `max` addresses: first those that are not ready, from each subset its share, rounded up.
/// Says whether any were left out.
pub fn truncate(subsets: &mut [EndpointSubset], max: usize) -> bool {
    let ready: usize = subsets.iter().map(|subset| count(&subset.addresses)).sum();
    let not_ready: usize = subsets
        .iter()
        .map(|subset| count(&subset.not_ready_addresses))
        .sum();
    if ready + not_ready <= max {
        return false;
    }
    let cut_ready = ready > max;
    let (total, room) = if cut_ready {
        (ready, max)
    } else {
        (not_ready, max - ready)
    };
    let mut left = room;
    for subset in subsets {
        let these = if cut_ready {
            subset.not_ready_addresses = None;
            &mut subset.addresses
        } else {
            &mut subset.not_ready_addresses
        };
        let share = (count(these) * room).div_ceil(total).min(left);
        if let Some(addresses) = these {
            addresses.truncate(share);
        }
        left -= count(these);
        if count(these) == 0 {
            *these = None;
        }
    }
    true
}

/// Whether two lists say the same; the version of a pod that somebody else wrote into a reference says nothing.
pub fn same(known: &[EndpointSubset], wanted: &[EndpointSubset]) -> bool {
    let plain = |addresses: &Option<Vec<EndpointAddress>>| {
        let mut addresses = addresses.clone().unwrap_or_default();
        for target in addresses
            .iter_mut()
            .filter_map(|one| one.target_ref.as_mut())
        {
            target.resource_version = None;
        }
        addresses
    };
    known.len() == wanted.len()
        && known.iter().zip(wanted).all(|(known, wanted)| {
            known.ports.as_deref().unwrap_or_default()
                == wanted.ports.as_deref().unwrap_or_default()
                && plain(&known.addresses) == plain(&wanted.addresses)
                && plain(&known.not_ready_addresses) == plain(&wanted.not_ready_addresses)
        })
}

/// How many addresses there are.
pub fn len(subsets: &[EndpointSubset]) -> usize {
    let both =
        |subset: &EndpointSubset| count(&subset.addresses) + count(&subset.not_ready_addresses);
    subsets.iter().map(both).sum()
}

fn count(addresses: &Option<Vec<EndpointAddress>>) -> usize {
    addresses.as_ref().map_or(0, Vec::len)
}
