//! What a Service's Endpoints object should be, and whether it has to be written.
//!
//! Pure. Follows `pkg/controller/endpoint` without its annotation of the time that triggered a change.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use kube::api::ObjectMeta;

use super::subsets::{self, Member};
use crate::objects;

/// More addresses than this are not listed.
pub const ADDRESSES_MAX: usize = 1000;
/// Says that addresses were left out.
pub const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Marks what this controller makes.
pub const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
/// The label's value.
pub const MANAGER: &str = "endpoint-controller";
const TRUNCATED: &str = "truncated";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// The one write that makes the object right.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// It is right.
    Nothing,
    /// There is none yet.
    Create(Box<Endpoints>),
    /// The whole object, with the resourceVersion that was read.
    Update(Box<Endpoints>),
}

/// Compares what should be with what is.
pub fn plan(service: &Service, pods: &[Arc<Pod>], existing: Option<&Endpoints>) -> Write {
    let members: Vec<Member> = pods
        .iter()
        .filter_map(|pod| Member::of(service, pod))
        .collect();
    let mut wanted = subsets::pack(service, members);
    let truncated = subsets::truncate(&mut wanted, ADDRESSES_MAX);
    let mut changed = existing.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..Default::default()
        },
        ..Default::default()
    });
    if !subsets::same(changed.subsets.as_deref().unwrap_or_default(), &wanted) {
        changed.subsets = (!wanted.is_empty()).then_some(wanted);
    }
    changed.metadata.labels = Some(labels(service));
    let mut annotations = changed.metadata.annotations.take().unwrap_or_default();
    if truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), TRUNCATED.to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    changed.metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    match existing {
        None => Write::Create(Box::new(changed)),
        Some(existing) if *existing == changed => Write::Nothing,
        Some(_) => Write::Update(Box::new(changed)),
    }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels.remove(HEADLESS);
    if objects::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

#[cfg(test)]
mod tests;
