//! API objects to inputs.

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v1::Scale as ApiScale;
use k8s_openapi::api::core::v1::{Container as ApiContainer, Pod as ApiPod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::inputs::{Container, Pod, ReadyCondition, Scale};
use crate::quantity::Quantity;

impl From<&ApiPod> for Pod {
    fn from(pod: &ApiPod) -> Self {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let ready = status
            .and_then(|status| status.conditions.as_ref())
            .and_then(|conditions| {
                conditions
                    .iter()
                    .find(|condition| condition.type_ == "Ready")
            })
            .map(|condition| ReadyCondition {
                status: condition.status.clone(),
                last_transition: condition
                    .last_transition_time
                    .as_ref()
                    .map_or(jiff::Timestamp::MIN, |time| time.0),
            });
        let sidecars = spec
            .and_then(|spec| spec.init_containers.as_ref())
            .into_iter()
            .flatten()
            .filter(|container| container.restart_policy.as_deref() == Some("Always"));
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            phase: status
                .and_then(|status| status.phase.clone())
                .unwrap_or_default(),
            deleted: pod.metadata.deletion_timestamp.is_some(),
            start_time: status
                .and_then(|status| status.start_time.as_ref())
                .map(|time| time.0),
            ready,
            containers: spec
                .map(|spec| spec.containers.iter().map(container).collect())
                .unwrap_or_default(),
            sidecars: sidecars.map(container).collect(),
            pod_requests_milli: spec
                .and_then(|spec| spec.resources.as_ref())
                .and_then(|resources| resources.requests.as_ref())
                .map(milli)
                .filter(|requests| !requests.is_empty()),
        }
    }
}

impl From<&ApiScale> for Scale {
    fn from(scale: &ApiScale) -> Self {
        Self {
            spec_replicas: scale
                .spec
                .as_ref()
                .and_then(|spec| spec.replicas)
                .unwrap_or_default(),
            status_replicas: scale
                .status
                .as_ref()
                .map(|status| status.replicas)
                .unwrap_or_default(),
            selector: scale
                .status
                .as_ref()
                .and_then(|status| status.selector.clone())
                .unwrap_or_default(),
        }
    }
}

fn container(container: &ApiContainer) -> Container {
    Container {
        name: container.name.clone(),
        requests_milli: container
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref())
            .map(milli)
            .unwrap_or_default(),
    }
}

fn milli(quantities: &BTreeMap<String, ApiQuantity>) -> BTreeMap<String, i64> {
    quantities
        .iter()
        .filter_map(|(name, quantity)| {
            Some((
                name.clone(),
                Quantity::parse(&quantity.0).ok()?.milli_value(),
            ))
        })
        .collect()
}
