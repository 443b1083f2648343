//! Which slices say what Endpoints made by hand say.
//!
//! Pure. One slice for each address type and port set of the subsets, as `pkg/controller/endpointslicemirroring` makes them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use kube::api::ObjectMeta;

use super::MANAGER;
use crate::endpointslice::{MANAGED_BY, SERVICE_NAME};
use crate::objects;

/// More addresses of a subset than this are not mirrored.
pub const ADDRESSES_MAX: usize = 1000;
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const TRIGGERED: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Writes that make the slices right, and what could not be mirrored.
#[derive(Debug, Default)]
pub struct Plan {
    /// New slices, named by the server.
    pub create: Vec<EndpointSlice>,
    /// Whole objects, with the resourceVersion that was read.
    pub update: Vec<EndpointSlice>,
    /// Names.
    pub delete: Vec<String>,
    /// Addresses that are none.
    pub invalid: usize,
    /// Addresses beyond [`ADDRESSES_MAX`].
    pub beyond: usize,
}

/// Slices differ by address type and ports.
type Group = (&'static str, Vec<EndpointPort>);

/// Compares what should be with what is.
pub fn plan(endpoints: &Endpoints, existing: &[Arc<EndpointSlice>]) -> Plan {
    let mut plan = Plan::default();
    let mut wanted: Vec<(Group, Vec<Endpoint>)> = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<EndpointPort> = subset
            .ports
            .iter()
            .flatten()
            .map(|port| EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(port.port),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
            .collect();
        let ready = subset.addresses.iter().flatten().map(|one| (one, true));
        let not_ready = subset.not_ready_addresses.iter().flatten();
        let mut added = 0;
        for (address, ready) in ready.chain(not_ready.map(|one| (one, false))) {
            if added >= ADDRESSES_MAX {
                plan.beyond += 1;
                continue;
            }
            let Some((family, endpoint)) = endpoint(address, ready) else {
                plan.invalid += 1;
                continue;
            };
            added += 1;
            let group = (family, ports.clone());
            match wanted.iter_mut().find(|(known, _)| *known == group) {
                Some((_, endpoints)) => {
                    if !endpoints.iter().any(|one| same_place(one, &endpoint)) {
                        endpoints.push(endpoint);
                    }
                }
                None => wanted.push((group, vec![endpoint])),
            }
        }
    }
    let mut spare: Vec<&Arc<EndpointSlice>> = existing
        .iter()
        .filter(|slice| !objects::is_terminating(&***slice))
        .collect();
    spare.sort_by_key(|slice| objects::name(&***slice).to_owned());
    let mut new = Vec::new();
    for ((family, ports), endpoints) in wanted {
        let known = spare.iter().position(|slice| {
            slice.address_type == family && slice.ports.as_deref().unwrap_or_default() == ports
        });
        let at = known.map(|at| spare.remove(at));
        new.push((family, ports, endpoints, at));
    }
    for (family, ports, addresses, known) in new {
        // What would be deleted is used again instead, where the address type, which cannot change, is the same.
        let known = known.or_else(|| {
            let again = spare
                .iter()
                .position(|slice| slice.address_type == family)?;
            Some(spare.remove(again))
        });
        let mut slice =
            known.map_or_else(EndpointSlice::default, |known| EndpointSlice::clone(known));
        slice.address_type = family.to_owned();
        slice.ports = (!ports.is_empty()).then_some(ports);
        slice.endpoints = Some(addresses);
        slice.metadata = metadata(endpoints, slice.metadata);
        match known {
            None => plan.create.push(slice),
            Some(known) if **known != slice => plan.update.push(slice),
            Some(_) => {}
        }
    }
    let names = spare
        .iter()
        .map(|slice| objects::name(&***slice).to_owned());
    plan.delete = names.collect();
    plan
}

fn metadata(endpoints: &Endpoints, known: ObjectMeta) -> ObjectMeta {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), objects::name(endpoints).to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations: BTreeMap<String, String> =
        endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| key != LAST_APPLIED && key != TRIGGERED);
    ObjectMeta {
        generate_name: match known.name {
            None => Some(format!("{}-", objects::name(endpoints))),
            Some(_) => known.generate_name,
        },
        namespace: endpoints.metadata.namespace.clone(),
        labels: Some(labels),
        annotations: (!annotations.is_empty()).then_some(annotations),
        owner_references: Some(vec![objects::controller_reference(endpoints)]),
        ..known
    }
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Option<(&'static str, Endpoint)> {
    let ip: IpAddr = address.ip.parse().ok()?;
    let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    let endpoint = Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..Default::default()
        }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Default::default()
    };
    Some((family, endpoint))
}

/// One address of one object is listed once.
fn same_place(one: &Endpoint, other: &Endpoint) -> bool {
    one.addresses == other.addresses && one.target_ref == other.target_ref
}

#[cfg(test)]
mod tests;
