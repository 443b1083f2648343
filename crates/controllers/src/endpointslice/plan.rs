//! Which slices to create, change and delete so that they list a Service's endpoints with few writes.
//!
//! Pure. Slices are kept by port set; an endpoint stays in its slice; new ones fill slices that change or have room
//! before another is made. A Service without endpoints keeps one empty slice of each of its address families.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use kube::api::ObjectMeta;

use super::{MANAGED_BY, MANAGER, SERVICE_NAME, endpoints};
use crate::objects;

const ENDPOINTS_PER_SLICE_MAX: usize = 100;
const HEADLESS: &str = "service.kubernetes.io/headless";

/// Writes that make the slices right.
#[derive(Debug, Default)]
pub struct Plan {
    /// New slices, named by the server.
    pub create: Vec<EndpointSlice>,
    /// Whole objects, with the resourceVersion that was read.
    pub update: Vec<EndpointSlice>,
    /// Names.
    pub delete: Vec<String>,
}

/// Slices differ by address type and by the ports' numbers.
type Group = (&'static str, String);

/// Compares what should be with what is.
pub fn plan(service: &Service, pods: &[Arc<Pod>], existing: &[Arc<EndpointSlice>]) -> Plan {
    let families = endpoints::families(service);
    let mut wanted: BTreeMap<Group, (Vec<EndpointPort>, BTreeMap<String, Endpoint>)> =
        BTreeMap::new();
    for (family, pod) in families
        .iter()
        .flat_map(|family| pods.iter().map(move |pod| (*family, pod)))
    {
        if let Some(endpoint) = endpoints::endpoint(service, pod, family) {
            let ports = endpoints::ports(service, pod);
            let group = wanted
                .entry((family, signature(&ports)))
                .or_insert_with(|| (ports, BTreeMap::new()));
            group.1.insert(endpoint_key(&endpoint), endpoint);
        }
    }
    // those of a Service of this name that is gone are collected with it: whoever took them over would lose them
    let of_another = |slice: &EndpointSlice| {
        let owner = objects::controller_of(slice);
        owner.is_some_and(|owner| owner.uid != objects::uid(service))
    };
    let mut slices: Vec<&Arc<EndpointSlice>> = existing
        .iter()
        .filter(|slice| !objects::is_terminating(&***slice) && !of_another(slice))
        .collect();
    slices.sort_by_key(|slice| {
        (
            objects::created(&***slice),
            objects::name(&***slice).to_owned(),
        )
    });
    let mut by_group: HashMap<(String, String), Vec<&Arc<EndpointSlice>>> = HashMap::new();
    for slice in slices {
        let ports = signature(slice.ports.as_deref().unwrap_or_default());
        by_group
            .entry((slice.address_type.clone(), ports))
            .or_default()
            .push(slice);
    }
    let mut plan = Plan::default();
    let others = existing.iter().filter(|slice| of_another(slice));
    plan.delete
        .extend(others.map(|slice| objects::name(&**slice).to_owned()));
    let labels = labels(service);
    let nothing: Vec<&str> = families
        .into_iter()
        .filter(|family| !wanted.keys().any(|(of, _)| of == family))
        .collect();
    for ((family, signature), (ports, endpoints)) in wanted {
        let known = by_group
            .remove(&(family.to_owned(), signature))
            .unwrap_or_default();
        fill(
            service, &labels, family, &ports, endpoints, &known, &mut plan,
        );
    }
    let mut rest: Vec<&Arc<EndpointSlice>> = by_group.into_values().flatten().collect();
    rest.sort_by_key(|slice| objects::name(&***slice).to_owned());
    for family in nothing {
        let (mut of_family, others): (Vec<_>, Vec<_>) = rest
            .into_iter()
            .partition(|slice| slice.address_type == family);
        placeholder(service, &labels, family, &mut of_family, &mut plan);
        rest = others;
        rest.append(&mut of_family);
    }
    plan.delete
        .extend(rest.iter().map(|slice| objects::name(&***slice).to_owned()));
    plan
}

fn fill(
    service: &Service,
    labels: &BTreeMap<String, String>,
    family: &str,
    ports: &[EndpointPort],
    mut wanted: BTreeMap<String, Endpoint>,
    known: &[&Arc<EndpointSlice>],
    plan: &mut Plan,
) {
    let mut kept: Vec<(&Arc<EndpointSlice>, Vec<Endpoint>)> = known
        .iter()
        .map(|slice| {
            let endpoints = slice
                .endpoints
                .iter()
                .flatten()
                .filter_map(|endpoint| wanted.remove(&endpoint_key(endpoint)))
                .collect();
            (*slice, endpoints)
        })
        .collect();
    let mut left = wanted.into_values();
    // Slices that are written anyway take new endpoints first.
    kept.sort_by_key(|(slice, endpoints)| slice.endpoints.as_ref() == Some(endpoints));
    for (_, endpoints) in &mut kept {
        let room = ENDPOINTS_PER_SLICE_MAX.saturating_sub(endpoints.len());
        endpoints.extend(left.by_ref().take(room));
    }
    for (slice, endpoints) in kept {
        if endpoints.is_empty() {
            plan.delete.push(objects::name(&**slice).to_owned());
            continue;
        }
        let mut changed = EndpointSlice::clone(slice);
        changed.endpoints = Some(endpoints);
        changed.metadata.labels = Some(labels.clone());
        if changed != **slice {
            plan.update.push(changed);
        }
    }
    loop {
        let endpoints: Vec<Endpoint> = left.by_ref().take(ENDPOINTS_PER_SLICE_MAX).collect();
        if endpoints.is_empty() {
            return;
        }
        plan.create
            .push(slice(service, labels, family, ports, endpoints));
    }
}

/// Leaves one slice without endpoints, so that its readers can tell "none" from "not yet".
fn placeholder(
    service: &Service,
    labels: &BTreeMap<String, String>,
    family: &str,
    rest: &mut Vec<&Arc<EndpointSlice>>,
    plan: &mut Plan,
) {
    let empty = |slice: &Arc<EndpointSlice>| slice.endpoints.as_ref().is_none_or(Vec::is_empty);
    if let Some(at) = rest.iter().position(|slice| empty(slice)) {
        let kept = rest.remove(at);
        if kept.metadata.labels.as_ref() != Some(labels) {
            let mut changed = EndpointSlice::clone(kept);
            changed.metadata.labels = Some(labels.clone());
            plan.update.push(changed);
        }
    } else if rest.is_empty() {
        plan.create
            .push(slice(service, labels, family, &[], Vec::new()));
    } else {
        let mut changed = EndpointSlice::clone(rest.remove(0));
        changed.endpoints = Some(Vec::new());
        changed.ports = None;
        changed.metadata.labels = Some(labels.clone());
        plan.update.push(changed);
    }
}

fn slice(
    service: &Service,
    labels: &BTreeMap<String, String>,
    family: &str,
    ports: &[EndpointPort],
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", objects::name(service))),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels.clone()),
            owner_references: Some(vec![objects::controller_reference(service)]),
            ..Default::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(endpoints),
        ports: (!ports.is_empty()).then(|| ports.to_vec()),
    }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if objects::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), objects::name(service).to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

fn signature(ports: &[EndpointPort]) -> String {
    let mut parts: Vec<String> = ports
        .iter()
        .map(|port| {
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            format!(
                "{}/{}/{}/{}",
                text(&port.name),
                text(&port.protocol),
                port.port.unwrap_or(0),
                text(&port.app_protocol)
            )
        })
        .collect();
    parts.sort();
    parts.join(",")
}

fn endpoint_key(endpoint: &Endpoint) -> String {
    let target = endpoint
        .target_ref
        .as_ref()
        .and_then(|target| target.uid.as_deref());
    format!(
        "{}/{}",
        target.unwrap_or_default(),
        endpoint.addresses.join(",")
    )
}

#[cfg(test)]
mod tests;
